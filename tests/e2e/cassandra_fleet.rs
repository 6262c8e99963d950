//! What the end-to-end test runs: clusters, pods and store, all of them ended with it.

use std::{
    path::{Path, PathBuf},
    process::{Child, Output, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::task::{JoinHandle, spawn_blocking};

use super::{
    datacenter::Datacenter,
    releases,
    support::{
        Cluster, FLEET, configuration, eventually_within,
        harness::{Testbed, testbed},
        medusa_fleet, secret,
    },
};

/// Namespace of the fleet's datacenters in their data planes, and their cluster's name and prefix.
pub const SHOP: &str = "shop";
/// How long a datacenter may take until it is ready.
const START: Duration = Duration::from_mins(8);
/// Name of the bucket secret, in the control plane and of its copies.
const BUCKET_SECRET: &str = "backup-bucket";

/// A fleet whose datacenters run Cassandra.
pub struct CassandraFleet {
    dir: PathBuf,
    clusters: Vec<Cluster>,
    starting: Mutex<Vec<Child>>,
    testbed: Testbed,
    last: Mutex<Instant>,
}

impl CassandraFleet {
    /// Starts the clusters; no datacenter yet, and nothing of ours. `name` tells the fleets of this program apart.
    pub async fn start(name: &str) -> Self {
        let last = Mutex::new(Instant::now());
        let dir =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("e2e-{name}-{}", std::process::id()));
        let [this, before] = releases::images();
        let more = ["--pods", "--s3", "--image", &this, "--image", &before];
        let testbed = Testbed::up(testbed::command(), &dir, 2, &more).unwrap();
        let mut clusters = Vec::new();
        for described in testbed.clusters() {
            let cluster = Cluster::connect(&described).await.unwrap();
            // Definitions and namespaces come with the charts.
            cluster.prepare(&[], &[]).await.unwrap();
            clusters.push(cluster);
        }
        Self { dir, clusters, starting: Mutex::default(), testbed, last }
    }

    /// Says how long the part took that ends here.
    pub fn note(&self, part: &str) {
        let took = std::mem::replace(&mut *self.last.lock().unwrap(), Instant::now()).elapsed();
        eprintln!("{:>5} s  {part}", took.as_secs());
    }

    /// The control plane's cluster.
    pub fn home(&self) -> &Cluster {
        &self.clusters[0]
    }

    /// All clusters, the control plane's first.
    pub fn clusters(&self) -> &[Cluster] {
        &self.clusters
    }

    /// A datacenter of data plane `number`, counted from 1 as its name is.
    pub fn datacenter(&self, number: usize, namespace: &'static str, name: &'static str) -> Datacenter<'_> {
        Datacenter { cluster: &self.clusters[number], namespace, name }
    }

    /// Creates a datacenter that runs `image` of Medusa. Its namespace is also its Cassandra cluster's name; its backups are
    /// in the prefix of the shop. Its pods wait for the bucket secret.
    pub fn create_datacenter(&self, datacenter: Datacenter<'_>, size: usize, image: &str) {
        let label = format!("fleet.k8ssandra.io/cluster={}", datacenter.namespace);
        let endpoint = self.store("endpoint");
        let medusa = ["--medusa-image", image, "--bucket-secret", BUCKET_SECRET, "--s3-endpoint", &endpoint];
        let more = ["--prefix", SHOP, "--labels", &label];
        self.start_datacenter(datacenter, size, &[&medusa[..], &more].concat());
    }

    /// Creates a datacenter of one node without Medusa.
    pub fn create_plain_datacenter(&self, datacenter: Datacenter<'_>) {
        self.start_datacenter(datacenter, 1, &[]);
    }

    fn start_datacenter(&self, datacenter: Datacenter<'_>, size: usize, more: &[&str]) {
        let Datacenter { cluster, namespace, name } = datacenter;
        let child = testbed::command()
            .args(["datacenter", "--namespace", namespace, "--cluster", namespace, "--datacenter", name])
            .args(["--size", &size.to_string(), "--wait", &format!("{}s", START.as_secs())])
            .args(more)
            .arg("--kubeconfig")
            .arg(&cluster.kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("create a datacenter");
        self.starting.lock().unwrap().push(child);
    }

    fn store(&self, key: &str) -> String {
        self.testbed.ready["s3"][key].as_str().expect("the testbed says where its store is").to_owned()
    }

    /// The keys that the store takes now: the key and its secret.
    pub fn keys(&self) -> [String; 2] {
        [self.store("accessKey"), self.store("secretKey")]
    }

    /// The credentials file that Medusa needs for the store now.
    pub fn credentials(&self) -> String {
        let [key, secret] = self.keys();
        format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
    }

    /// Gives the store other credentials; the old ones work no more.
    pub fn rotate_store(&mut self) {
        let answer = self.testbed.command("rotate", "").unwrap();
        self.testbed.ready["s3"] = answer["s3"].clone();
    }

    /// Storage properties of the store, without prefix and credentials.
    pub fn storage_properties(&self) -> Value {
        let endpoint = self.store("endpoint");
        let (host, port) = endpoint.trim_start_matches("http://").split_once(':').unwrap();
        json!({
            "storageProvider": "s3_compatible", "bucketName": self.store("bucket"), "region": "us-east-1",
            "host": host, "port": port.parse::<u16>().unwrap(), "secure": false,
        })
    }

    /// What the pods of this fleet have mounted as the file `key` of their volume `volume`.
    pub fn mounted(&self, volume: &str, key: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut open = vec![self.dir.clone()];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.ends_with(Path::new("volumes").join(volume)) {
                    found.extend(std::fs::read_to_string(path.join(key)));
                } else if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    open.push(path);
                }
            }
        }
        found
    }

    /// Registers both data planes as a person would.
    pub fn register_with_the_command_line(&self) {
        for cluster in &self.clusters[1..] {
            let file = cluster.kubeconfig.to_str().unwrap();
            let (ok, said) = self.medusa(&["register", &cluster.name, "--from-kubeconfig", file]);
            assert!(ok, "{said}");
        }
    }

    /// Runs the command line against the control plane; says whether it exited with 0, and what it said.
    pub fn medusa(&self, args: &[&str]) -> (bool, String) {
        let output = medusa_fleet(&self.home().kubeconfig, args);
        (output.status.success(), said(&output))
    }

    /// [`Self::medusa`], which goes on while the test does.
    pub fn medusa_meanwhile(&self, args: &'static [&'static str]) -> JoinHandle<(bool, String)> {
        let kubeconfig = self.home().kubeconfig.clone();
        spawn_blocking(move || {
            let output = medusa_fleet(&kubeconfig, args);
            (output.status.success(), said(&output))
        })
    }

    /// Creates the MedusaConfiguration and its bucket secret, to be copied wherever a datacenter is.
    pub async fn write_configuration(&self) {
        self.home().create(secret(FLEET, BUCKET_SECRET, &[("credentials", &self.credentials())])).await;
        self.home().create(configuration("backups", BUCKET_SECRET, Some("*"))).await;
    }

    /// Waits until every datacenter that was created is ready, which needs the copied secret.
    pub async fn await_datacenters(&self) {
        let starting = std::mem::take(&mut *self.starting.lock().unwrap());
        for mut child in starting {
            let status = eventually_within(START, "a datacenter is ready", async || {
                child.try_wait().unwrap().ok_or("it is not")
            })
            .await;
            assert!(status.success(), "a datacenter did not become ready; see {}", self.dir.display());
        }
    }

    /// Every key in the bucket.
    pub fn objects(&self) -> Vec<String> {
        let output = testbed::command()
            .args(["objects", "--endpoint", &self.store("endpoint")])
            .args(["--access-key", &self.store("accessKey"), "--secret-key", &self.store("secretKey")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter_map(|object| object["key"].as_str().map(str::to_owned))
            .collect()
    }
}

/// What a program printed, on both streams.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

impl Drop for CassandraFleet {
    fn drop(&mut self) {
        for child in self.starting.get_mut().unwrap_or_else(PoisonError::into_inner) {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the logs are in {}", self.dir.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}
