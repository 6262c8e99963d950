//! A fleet: one control-plane cluster and its data planes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use medusa_fleet::{
    api::{
        crds,
        fleet::{DataPlane, FleetBackupJob, FleetCluster, Phase},
        medusa::{self, MedusaConfiguration},
    },
    runtime::clock,
};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{CASS, Cluster, FLEET, condition, eventually, rights, secret, testbed_lease::TestbedLease};

/// Fleets that run at a time: an API server takes 300 MB.
static PLACES: Semaphore = Semaphore::const_new(4);
/// Data planes of a fleet at least, so that more tests can use it one after the other.
const AT_LEAST: usize = 2;
/// Namespaces of every cluster.
pub const NAMESPACES: [&str; 2] = [FLEET, CASS];
/// Numbers the directories of a process.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// Times from which and until which something was being started.
pub type Starts = Arc<Mutex<Vec<(Timestamp, Timestamp)>>>;

/// A running fleet. Its clusters are `control-plane` and `dp-1`, `dp-2`, …; in each, the definitions it needs, the
/// namespaces [`FLEET`] and [`super::CASS`] and what the control plane is granted there, and nothing else.
pub struct Fleet {
    dir: PathBuf,
    home: Cluster,
    data_planes: Vec<Cluster>,
    testbed_lease: Mutex<Option<TestbedLease>>,
    /// Whether its clusters may serve another test when this one went well.
    is_lasting: bool,
    /// From when until when API servers were being started again.
    starts: Starts,
    /// What undoes what the test did to an API server, by cluster.
    to_undo: Mutex<BTreeMap<String, &'static str>>,
    is_full: AtomicBool,
    _place: SemaphorePermit<'static>,
}

impl Fleet {
    /// Starts one with `data_planes` data planes. Nothing is registered yet.
    pub async fn start(data_planes: usize) -> Self {
        let place = PLACES.acquire().await.unwrap();
        let mut testbed_lease = match TestbedLease::take(data_planes).await {
            Some(testbed_lease) => testbed_lease,
            None => Self::prepare(&vec![medusa_definitions(); data_planes.max(AT_LEAST)]).await,
        };
        while testbed_lease.clusters.len() <= data_planes {
            let added = connect(&testbed_lease.add()).await;
            added.prepare(&medusa_definitions(), &NAMESPACES).await.unwrap();
            rights::prepare(&added).await;
            testbed_lease.remember().await;
        }
        Self::new(testbed_lease, data_planes, true, place).await
    }

    /// Starts one whose data planes serve these definitions each, and cass-operator's.
    pub async fn start_with(served: &[Vec<CustomResourceDefinition>]) -> Self {
        let place = PLACES.acquire().await.unwrap();
        Self::new(Self::prepare(served).await, served.len(), false, place).await
    }

    /// A new testbed whose data planes serve these definitions each, and cass-operator's.
    async fn prepare(served: &[Vec<CustomResourceDefinition>]) -> TestbedLease {
        let mut testbed_lease = TestbedLease::start(served.len());
        let clusters = join_all(testbed_lease.clusters.iter().map(connect)).await;
        let all = crds::all().unwrap();
        let each = std::iter::once(&all).chain(served);
        let prepare = async |(cluster, definitions): (&Cluster, &Vec<_>)| {
            cluster.prepare(definitions, &NAMESPACES).await.unwrap();
            rights::prepare(cluster).await;
        };
        join_all(clusters.iter().zip(each).map(prepare)).await;
        testbed_lease.remember().await;
        testbed_lease
    }

    async fn new(
        testbed_lease: TestbedLease,
        data_planes: usize,
        is_lasting: bool,
        place: SemaphorePermit<'static>,
    ) -> Self {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let dir = testbed_lease.dir.join(format!("test-{number}"));
        std::fs::create_dir_all(&dir).unwrap();
        let mut clusters = join_all(testbed_lease.clusters.iter().take(1 + data_planes).map(connect)).await;
        join_all(clusters.iter_mut().map(Cluster::count_from_now)).await;
        let home = clusters.remove(0);
        assert_eq!(home.name, "control-plane");
        Self {
            dir,
            home,
            data_planes: clusters,
            testbed_lease: Mutex::new(Some(testbed_lease)),
            is_lasting,
            starts: Starts::default(),
            to_undo: Mutex::default(),
            is_full: AtomicBool::new(false),
            _place: place,
        }
    }

    /// A directory for what the test writes and its controllers log.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The control plane's own cluster.
    pub fn home(&self) -> &Cluster {
        &self.home
    }

    /// The cluster of data plane `dp-<number>`, counted from 1.
    pub fn dp(&self, number: usize) -> &Cluster {
        &self.data_planes[number - 1]
    }

    /// Every cluster.
    pub fn clusters(&self) -> impl Iterator<Item = &Cluster> {
        std::iter::once(&self.home).chain(&self.data_planes)
    }

    /// Kills a data plane's API server with SIGKILL.
    pub fn stop(&self, cluster: &str) {
        self.command("stop", cluster);
        self.to_undo.lock().unwrap().insert(cluster.to_owned(), "start");
    }

    /// Starts it again after [`Self::stop`], at the same address.
    pub fn start_again(&self, cluster: &str) {
        let from = clock::now();
        self.command("start", cluster);
        self.starts.lock().unwrap().push((from, clock::now()));
        self.to_undo.lock().unwrap().remove(cluster);
    }

    /// From when until when API servers were being started again: until they have read the roles, they refuse everything.
    pub fn starts(&self) -> Starts {
        self.starts.clone()
    }

    /// Makes it accept connections and never answer, by SIGSTOP.
    pub fn pause(&self, cluster: &str) {
        self.command("pause", cluster);
        self.to_undo.lock().unwrap().insert(cluster.to_owned(), "resume");
    }

    /// Undoes [`Self::pause`].
    pub fn resume(&self, cluster: &str) {
        self.command("resume", cluster);
        self.to_undo.lock().unwrap().remove(cluster);
    }

    /// Makes the store of every cluster refuse writes as it does on a full disk, or accept them again: etcd's own alarm,
    /// which reads survive.
    pub fn set_full(&self, full: bool) {
        self.is_full.store(full, Ordering::Relaxed);
        let url = self
            .with(|testbed_lease| testbed_lease.testbed.ready["etcd"]["url"].as_str().unwrap().to_owned());
        let address = url.strip_prefix("http://").unwrap();
        let action = if full { "ACTIVATE" } else { "DEACTIVATE" };
        let body = json!({"action": action, "memberID": 0, "alarm": "NOSPACE"}).to_string();
        let answer = super::answer_of(address, "POST", "/v3/maintenance/alarm", &body).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// What a cluster's API server keeps in etcd under a key, such as `namespaces/kube-system`.
    pub async fn stored(&self, cluster: &str, key: &str) -> Vec<u8> {
        TestbedLease::stored(&self.with(|testbed_lease| testbed_lease.etcd()), cluster, key).await
    }

    /// Puts there what its API server would not let through, and then shows like anything else.
    pub async fn store(&self, cluster: &str, key: &str, value: &[u8]) {
        TestbedLease::store(&self.with(|testbed_lease| testbed_lease.etcd()), cluster, key, value).await;
    }

    fn command(&self, verb: &str, cluster: &str) {
        self.with(|testbed_lease| testbed_lease.testbed.command(verb, cluster)).unwrap();
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut TestbedLease) -> T) -> T {
        use_it(self.testbed_lease.lock().unwrap().as_mut().unwrap())
    }

    /// Waits until a FleetCluster has that many datacenters.
    pub async fn expect_size(&self, cluster: &str, size: i64) {
        eventually(format!("{cluster} has {size} datacenters"), async || {
            let found = self.home.find::<FleetCluster>(FLEET, cluster).await.and_then(|c| c.status);
            let seen = found.map_or(0, |s| s.size);
            if seen == size { Ok(()) } else { Err(seen) }
        })
        .await;
    }

    /// Registers data plane `dp-<number>` in a labelled Secret, with a token of the account that the data plane has for the
    /// control plane.
    pub async fn register(&self, number: usize) {
        let cluster = self.dp(number);
        self.register_as(&cluster.name, "kubeconfig", &rights::kubeconfig(cluster).to_string()).await;
    }

    /// Registers a kubeconfig in a labelled Secret, under `key`.
    pub async fn register_as(&self, name: &str, key: &str, kubeconfig: &str) {
        let mut object = secret(FLEET, name, &[(key, kubeconfig)]);
        object["metadata"]["labels"] = json!({"fleet.k8ssandra.io/register": "true"});
        self.home.create(object).await;
    }

    /// Registers every data plane and waits until all are ready.
    pub async fn register_all(&self) {
        for number in 1..=self.data_planes.len() {
            self.register(number).await;
        }
        for cluster in &self.data_planes {
            self.expect_data_plane(&cluster.name, "Ready", "True", "Ready").await;
        }
    }

    /// Waits until a DataPlane's condition has this status and reason; returns its message.
    pub async fn expect_data_plane(&self, name: &str, type_: &str, status: &str, reason: &str) -> String {
        eventually(format!("DataPlane {name}: {type_} is {status} because of {reason}"), async || {
            let plane = self.home.find::<DataPlane>(FLEET, name).await.ok_or("there is no such DataPlane")?;
            let conditions = plane.status.unwrap_or_default().conditions;
            let (seen_status, seen_reason, message) = condition(&conditions, type_);
            if (seen_status.as_str(), seen_reason.as_str()) == (status, reason) {
                Ok(message)
            } else {
                let all: Vec<String> = conditions
                    .iter()
                    .map(|c| format!("{}={} {} ({})", c.type_, c.status, c.reason, c.message))
                    .collect();
                Err(all.join("; "))
            }
        })
        .await
    }

    /// Waits until a MedusaConfiguration says this of its copies; returns its message.
    pub async fn expect_replicated(&self, name: &str, status: &str, reason: &str) -> String {
        eventually(
            format!("MedusaConfiguration {name}: Replicated is {status} because of {reason}"),
            async || {
                let source: MedusaConfiguration = self.home.get(FLEET, name).await;
                let seen = condition(&source.status.unwrap_or_default().conditions, "Replicated");
                if (seen.0.as_str(), seen.1.as_str()) == (status, reason) {
                    Ok(seen.2)
                } else {
                    Err(format!("{seen:?}"))
                }
            },
        )
        .await
    }

    /// A FleetBackupJob.
    pub async fn job(&self, name: &str) -> FleetBackupJob {
        self.home.get(FLEET, name).await
    }

    /// Waits until a FleetBackupJob is in `phase`, or in another it does not come back from; returns it.
    pub async fn expect_phase(&self, name: &str, phase: Phase) -> FleetBackupJob {
        let job = eventually(format!("FleetBackupJob {name} is {}", phase.as_str()), async || {
            let job = self.job(name).await;
            let status = job.status.clone().unwrap_or_default();
            let reached = status.run.phase.is_some_and(|seen| seen == phase || seen.is_final());
            if reached { Ok(job) } else { Err(format!("{status:#?}")) }
        })
        .await;
        let status = job.status.clone().unwrap_or_default();
        assert_eq!(status.run.phase, Some(phase), "{status:#?}");
        job
    }
}

async fn connect(described: &Value) -> Cluster {
    Cluster::connect(described).await.unwrap()
}

/// Our definitions of the Medusa kinds.
pub fn medusa_definitions() -> Vec<CustomResourceDefinition> {
    crds::all().unwrap().into_iter().filter(|d| d.spec.group == medusa::GROUP).collect()
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let Some(mut testbed_lease) =
            self.testbed_lease.lock().unwrap_or_else(PoisonError::into_inner).take()
        else {
            return;
        };
        if std::thread::panicking() {
            eprintln!("--- the fleet's files are in {}", testbed_lease.dir.display());
            let said = std::fs::read_to_string(testbed_lease.dir.join("testbed.log")).unwrap_or_default();
            eprintln!("--- its testbed said: {}", if said.is_empty() { "nothing" } else { &said });
        } else if self.is_lasting && !self.is_full.load(Ordering::Relaxed) {
            let _ = std::fs::remove_dir_all(&self.dir);
            for (cluster, verb) in self.to_undo.get_mut().unwrap_or_else(PoisonError::into_inner) {
                testbed_lease.testbed.command(verb, cluster).unwrap();
            }
            testbed_lease.give_back();
        } else {
            testbed_lease.end();
        }
    }
}
