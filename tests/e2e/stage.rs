//! The fleet of the end-to-end test: clusters, pods, store and controllers, all of them ended with it.

use std::{
    fs::File,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

use k8s_openapi::api::core::v1::Pod;
use medusa_fleet::api::{crds, medusa};
use serde_json::Value;

use super::support::{
    Cluster, FLEET, eventually,
    testbed::{Testbed, binary as testbed_binary},
};

/// Namespace of the datacenters in their data planes.
pub const NAMESPACE: &str = "shop";
/// Name of the bucket secret, in the control plane and of its copies.
const BUCKET_SECRET: &str = "backup-bucket";

/// Everything that runs.
pub struct Stage {
    dir: PathBuf,
    clusters: Vec<Cluster>,
    controllers: Vec<Child>,
    waiting: Vec<Child>,
    testbed: Testbed,
}

impl Stage {
    /// Starts the clusters and creates a datacenter in each data plane; its pods wait for the bucket secret.
    pub async fn open() -> Self {
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
        let mut stage = Self { dir, clusters, controllers: Vec::new(), waiting: Vec::new(), testbed };
        for number in 0..2 {
            let kubeconfig = stage.data_plane(number).kubeconfig.clone();
            let endpoint = stage.store("endpoint");
            let child = Command::new(testbed_binary())
                .args(["datacenter", "--namespace", NAMESPACE, "--cluster", "shop", "--size", "1"])
                .args(["--datacenter", &format!("dc{}", number + 1), "--wait", "8m"])
                .args(["--labels", "fleet.k8ssandra.io/cluster=shop", "--bucket-secret", BUCKET_SECRET])
                .args(["--s3-endpoint", &endpoint])
                .arg("--kubeconfig")
                .arg(kubeconfig)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .expect("create a datacenter");
            stage.waiting.push(child);
        }
        stage
    }

    /// The control plane's cluster.
    pub fn home(&self) -> &Cluster {
        &self.clusters[0]
    }

    /// A data plane's cluster, counted from 0.
    pub fn data_plane(&self, number: usize) -> &Cluster {
        &self.clusters[number + 1]
    }

    fn store(&self, key: &str) -> String {
        self.testbed.ready["s3"][key].as_str().expect("the testbed says where its store is").to_owned()
    }

    /// Starts the control plane's controller and one per data plane.
    pub fn start_controllers(&mut self) {
        for cluster in &self.clusters {
            let role = if cluster.name == "control-plane" { "control-plane" } else { "data-plane" };
            let log = File::create(self.dir.join(format!("{}.controller.log", cluster.name))).unwrap();
            let child = Command::new(env!("CARGO_BIN_EXE_medusa-fleet"))
                .args([role, "--metrics-addr", "127.0.0.1:0", "--kubeconfig"])
                .arg(&cluster.kubeconfig)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .expect("start medusa-fleet");
            self.controllers.push(child);
        }
    }

    /// Registers both data planes as a person would.
    pub fn register_with_the_command_line(&self) {
        for number in 0..2 {
            let cluster = self.data_plane(number);
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

    /// Waits until both datacenters are ready, which needs the copied secret.
    pub fn await_datacenters(&mut self) {
        for mut child in self.waiting.drain(..) {
            let status = tokio::task::block_in_place(|| child.wait()).unwrap();
            assert!(status.success(), "a datacenter did not become ready; see {}", self.dir.display());
        }
    }

    /// The Cassandra pod of each data plane, with its address.
    pub async fn pods(&self) -> Vec<(String, String)> {
        let mut pods = Vec::new();
        for number in 0..2 {
            let listed = self.data_plane(number).list::<Pod>(NAMESPACE).await;
            let pod = listed.into_iter().next().expect("a pod");
            let address = pod.status.and_then(|s| s.pod_ip).expect("an address");
            pods.push((pod.metadata.name.unwrap(), address));
        }
        pods
    }

    /// Runs a statement or helper of the testbed's CQL client.
    pub fn cql(address: &str, args: &[&str]) -> String {
        let output =
            Command::new(testbed_binary()).args(["cql", "--address", address]).args(args).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
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

    /// Deletes every pod and waits until its successor of the same name is ready: new Medusas, same data.
    pub async fn kill_medusas(&self) {
        for number in 0..2 {
            let cluster = self.data_plane(number);
            let before = cluster.list::<Pod>(NAMESPACE).await.remove(0);
            let name = before.metadata.name.clone().unwrap();
            cluster.delete::<Pod>(NAMESPACE, &name).await;
            eventually(format!("pod {name} is replaced and ready"), async || {
                let pod = cluster.find::<Pod>(NAMESPACE, &name).await.ok_or("it is gone")?;
                let conditions = pod.status.clone().unwrap_or_default().conditions.unwrap_or_default();
                let ready = conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
                if pod.metadata.uid != before.metadata.uid && ready { Ok(()) } else { Err("it is not ready") }
            })
            .await;
        }
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

impl Drop for Stage {
    fn drop(&mut self) {
        for child in self.controllers.iter_mut().chain(&mut self.waiting) {
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
