//! Clusters that one test after the other uses: starting an API server takes seconds of processor time, and most tests
//! want the same.
//!
//! A test that ended well and left the definitions alone gives its clusters back. Before the next one gets them, every API
//! server runs and etcd holds again what it held when they were new; the API servers learn of it by their watches, as of
//! any other change. A failed test's clusters end with it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex, Once, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use kube::{Client, Config};
use serde_json::{Value, json};

use super::harness::testbed::{self, Testbed};

/// What is idle. Whoever takes a place takes one of these first, so places bound all there is.
static IDLE: Mutex<Vec<TestbedLease>> = Mutex::new(Vec::new());
/// Numbers the directories of this process.
static STARTED: AtomicUsize = AtomicUsize::new(0);
/// What API servers write by themselves.
const THEIRS: [&str; 4] = ["masterleases/", "leases/kube-system/", "services/", "apiregistration.k8s.io/"];
/// A cluster whose definitions have changed is not as it was even when etcd is.
const DEFINITIONS: &str = "apiextensions.k8s.io/";

/// A testbed and what its etcd held when it was new.
pub struct TestbedLease {
    /// Its directory.
    pub dir: PathBuf,
    /// Its process.
    pub testbed: Testbed,
    /// What it said about its clusters, the control plane's first.
    pub clusters: Vec<Value>,
    new: BTreeMap<String, Held>,
}

/// A key's value, and which change of etcd's it was.
struct Held {
    version: String,
    value: String,
}

impl TestbedLease {
    /// A new one, with nothing in it.
    pub fn start(data_planes: usize) -> Self {
        static SWEPT: Once = Once::new();
        let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
        SWEPT.call_once(|| testbed::sweep(tmp, "fleet-"));
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let dir = tmp.join(format!("fleet-{number}-{}", std::process::id()));
        let testbed = Testbed::up(testbed::command(), &dir, data_planes, &[]).unwrap();
        let clusters = testbed.clusters();
        Self { dir, testbed, clusters, new: BTreeMap::new() }
    }

    /// An idle one, as it was when it was new: the smallest with so many data planes, else the largest.
    pub async fn take(data_planes: usize) -> Option<Self> {
        loop {
            let mut testbed_lease = {
                let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
                idle.sort_by_key(|testbed_lease| testbed_lease.clusters.len());
                let fits = idle.iter().position(|testbed_lease| testbed_lease.clusters.len() > data_planes);
                let last = idle.len().checked_sub(1)?;
                idle.remove(fits.unwrap_or(last))
            };
            if testbed_lease.reset().await {
                return Some(testbed_lease);
            }
            testbed_lease.end();
        }
    }

    /// Starts one more data plane; says about it what the testbed says.
    pub fn add(&mut self) -> Value {
        let name = format!("dp-{}", self.clusters.len());
        let described = self.testbed.command("add", &name).unwrap()["cluster"].clone();
        self.clusters.push(described.clone());
        described
    }

    /// Remembers what it holds as what it held when it was new.
    pub async fn remember(&mut self) {
        let etcd = self.etcd();
        self.new = held(&etcd, false).await;
    }

    /// Gives it back to [`Self::take`].
    pub fn give_back(self) {
        IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(self);
    }

    /// Ends it, and its directory goes.
    pub fn end(self) {
        let Self { dir, testbed, .. } = self;
        drop(testbed);
        let _ = fs::remove_dir_all(dir);
    }

    /// Makes etcd hold what it held when it was new, until nothing more comes in. Says whether that is all it takes.
    async fn reset(&mut self) -> bool {
        let etcd = self.etcd();
        loop {
            let now = held(&etcd, true).await;
            let is_changed = |(key, new): &(&String, &Held)| {
                now.get(*key).is_none_or(|held| held.version != new.version) && !is_theirs(key)
            };
            let surplus: Vec<&String> =
                now.keys().filter(|key| !self.new.contains_key(*key) && !is_theirs(key)).collect();
            let changed: Vec<(&String, &Held)> = self.new.iter().filter(is_changed).collect();
            let mut all = surplus.iter().chain(changed.iter().map(|(key, _)| key)).peekable();
            if all.peek().is_none() {
                return true;
            }
            if all.any(|key| kind(key).starts_with(DEFINITIONS)) {
                return false;
            }
            // One by one: API servers take it for granted that no two changes have the same version.
            for key in surplus {
                ask(&etcd, "deleterange", &json!({"key": BASE64_STANDARD.encode(key)})).await;
            }
            for (key, held) in changed {
                ask(&etcd, "put", &json!({"key": BASE64_STANDARD.encode(key), "value": held.value})).await;
            }
            for (key, held) in held(&etcd, true).await {
                if let Some(new) = self.new.get_mut(&key) {
                    new.version = held.version;
                }
            }
        }
    }

    /// What its etcd holds under a key of a cluster, such as `namespaces/kube-system`.
    pub async fn stored(etcd: &Client, cluster: &str, key: &str) -> Vec<u8> {
        let key = BASE64_STANDARD.encode(format!("/{cluster}/{key}"));
        let answer = ask(etcd, "range", &json!({"key": key})).await;
        let value = answer["kvs"][0]["value"].as_str().expect("it holds something");
        BASE64_STANDARD.decode(value).unwrap()
    }

    /// Writes there what no API server would let through, or would write itself.
    pub async fn store(etcd: &Client, cluster: &str, key: &str, value: &[u8]) {
        let key = BASE64_STANDARD.encode(format!("/{cluster}/{key}"));
        ask(etcd, "put", &json!({"key": key, "value": BASE64_STANDARD.encode(value)})).await;
    }

    /// A client of its etcd, for this test's runtime.
    pub fn etcd(&self) -> Client {
        let url = self.testbed.ready["etcd"]["url"].as_str().unwrap();
        Client::try_from(Config::new(url.parse().unwrap())).unwrap()
    }
}

/// Everything there is, by key; only which change it was, if `briefly`.
async fn held(etcd: &Client, briefly: bool) -> BTreeMap<String, Held> {
    // From the first key to the last.
    let range = json!({"key": "AA==", "rangeEnd": "AA==", "keysOnly": briefly});
    let answer = ask(etcd, "range", &range).await;
    let text = |pair: &Value, key: &str| pair[key].as_str().unwrap_or_default().to_owned();
    let pairs = answer["kvs"].as_array().into_iter().flatten().map(|pair| {
        let key = BASE64_STANDARD.decode(text(pair, "key")).unwrap();
        let held = Held { version: text(pair, "mod_revision"), value: text(pair, "value") };
        (String::from_utf8(key).unwrap(), held)
    });
    pairs.collect()
}

async fn ask(etcd: &Client, what: &str, body: &Value) -> Value {
    let request = http::Request::post(format!("/v3/kv/{what}")).body(body.to_string().into_bytes());
    etcd.request(request.unwrap()).await.expect("ask etcd")
}

/// A key without its cluster: `secrets/<namespace>/<name>`.
fn kind(key: &str) -> &str {
    key.trim_start_matches('/').split_once('/').map_or("", |(_, rest)| rest)
}

fn is_theirs(key: &str) -> bool {
    THEIRS.iter().any(|theirs| kind(key).starts_with(theirs))
}
