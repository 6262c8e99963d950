//! What the end-to-end test runs: clusters, pods, store and controllers, all of them ended with it.

use std::{
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use medusa_fleet::api::{crds, medusa};
use serde_json::Value;

use super::{
    datacenter::Datacenter,
    roles,
    support::{
        Cluster, FLEET,
        testbed::{Testbed, binary as testbed_binary},
    },
};

/// Namespace of the fleet's datacenters in their data planes, and their cluster's name and prefix.
pub const SHOP: &str = "shop";
/// How long a datacenter may take until it is ready.
const START: &str = "8m";
/// Name of the bucket secret, in the control plane and of its copies.
const BUCKET_SECRET: &str = "backup-bucket";

/// Everything that runs.
pub struct Stage {
    dir: PathBuf,
    clusters: Vec<Cluster>,
    controllers: Vec<Child>,
    starting: Mutex<Vec<Child>>,
    testbed: Testbed,
    last: Mutex<Instant>,
}

impl Stage {
    /// Starts the clusters and what runs in them; no datacenter yet.
    pub async fn open() -> Self {
        let last = Mutex::new(Instant::now());
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("e2e-{}", std::process::id()));
        let (testbed, described) = tokio::task::block_in_place(|| Testbed::up(&dir, 2, &["--pods", "--s3"]));
        let mut clusters = Vec::new();
        for cluster in &described {
            clusters.push(Cluster::connect(cluster).await);
        }
        let all = crds::all().unwrap();
        let medusa_only: Vec<_> = all.iter().filter(|d| d.spec.group == medusa::GROUP).cloned().collect();
        for cluster in &clusters {
            cluster.prepare(if cluster.name == "control-plane" { &all } else { &medusa_only }).await;
        }
        Self { dir, clusters, controllers: Vec::new(), starting: Mutex::default(), testbed, last }
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

    /// A datacenter of data plane `number`, counted from 1 as its name is.
    pub fn datacenter(&self, number: usize, namespace: &'static str, name: &'static str) -> Datacenter<'_> {
        Datacenter { cluster: &self.clusters[number], namespace, name }
    }

    /// Creates a datacenter. Its namespace is also its Cassandra cluster's name; its backups are in the prefix of the
    /// shop. Its pods wait for the bucket secret.
    pub fn create_datacenter(&self, datacenter: Datacenter<'_>, size: usize) {
        let Datacenter { cluster, namespace, name } = datacenter;
        let child = Command::new(testbed_binary())
            .args(["datacenter", "--namespace", namespace, "--cluster", namespace, "--datacenter", name])
            .args(["--size", &size.to_string(), "--prefix", SHOP, "--wait", START])
            .args(["--labels", &format!("fleet.k8ssandra.io/cluster={namespace}")])
            .args(["--bucket-secret", BUCKET_SECRET, "--s3-endpoint", &self.store("endpoint")])
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

    /// Starts the control plane's controller and one per data plane.
    pub async fn start_controllers(&mut self) {
        for cluster in &self.clusters {
            let role = if cluster.name == "control-plane" { "control-plane" } else { "data-plane" };
            self.controllers.push(roles::start(role, cluster, &self.dir).await);
        }
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
        let output = Command::new(env!("CARGO_BIN_EXE_medusa-fleet"))
            .arg("--kubeconfig")
            .arg(&self.home().kubeconfig)
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("run medusa-fleet");
        (output.status.success(), said(&output))
    }

    /// Creates the MedusaConfiguration and its bucket secret, to be copied wherever a datacenter is.
    pub async fn write_configuration(&self) {
        let credentials = format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            self.store("accessKey"),
            self.store("secretKey")
        );
        self.home()
            .create(super::support::secret(FLEET, BUCKET_SECRET, &[("credentials", &credentials)]))
            .await;
        self.home().create(super::support::configuration("backups", BUCKET_SECRET, Some("*"))).await;
    }

    /// Waits until every datacenter that was created is ready, which needs the copied secret.
    pub fn await_datacenters(&self) {
        for mut child in self.starting.lock().unwrap().drain(..) {
            let status = tokio::task::block_in_place(|| child.wait()).unwrap();
            assert!(status.success(), "a datacenter did not become ready; see {}", self.dir.display());
        }
    }

    /// Every key in the bucket.
    pub fn objects(&self) -> Vec<String> {
        let output = Command::new(testbed_binary())
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

impl Drop for Stage {
    fn drop(&mut self) {
        let starting = self.starting.get_mut().unwrap_or_else(PoisonError::into_inner);
        for child in self.controllers.iter_mut().chain(starting) {
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
