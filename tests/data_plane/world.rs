//! A namespace of its own for each test, and in it a datacenter whose pods are scripted Medusas.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use medusa_fleet::{
    api::{
        cassandra::CassandraDatacenter,
        medusa::{MedusaBackup, MedusaBackupJob, MedusaBackupJobStatus},
    },
    data_plane::{self, Timings},
    runtime::clock::Clock,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::{Definitions, configuration, kubeconfig},
    fake_medusa::{Peer, Script, Storage},
    gate::Gate,
    rights,
    wait::{eventually, like},
};

static NAMES: AtomicUsize = AtomicUsize::new(0);

/// Deadlines short enough for tests and long enough for a busy machine.
pub fn timings() -> Timings {
    Timings {
        connect: Duration::from_secs(2),
        call: Duration::from_secs(2),
        summary_call: Duration::from_secs(2),
        list_call: Duration::from_secs(2),
        purge_call: Duration::from_secs(2),
        list_hedge: Duration::from_millis(500),
        poll_first: Duration::from_millis(20),
        poll_max: Duration::from_millis(200),
        hung_first: Duration::from_millis(300),
        hung_max: Duration::from_millis(600),
        pass: Duration::from_millis(300),
        pods: Duration::from_millis(300),
        settle_ready: Duration::from_millis(700),
        steady: Duration::from_secs(10),
        settle: Duration::from_secs(20),
        confirm: Duration::from_millis(600),
        start: Duration::from_secs(4),
        silence: Duration::from_secs(5),
        absence: Duration::from_millis(1500),
        summary: Duration::from_secs(3),
        // What may heal is waited for until the test heals it, however busy the machine is.
        input: Duration::from_secs(600),
        input_retry_max: Duration::from_millis(300),
        run: Duration::from_secs(60),
        schedule_check: Duration::from_millis(50),
        secret: Duration::from_millis(200),
        lease: Duration::from_secs(1),
        definition: Duration::from_millis(100),
        ..Timings::default()
    }
}

/// A namespace with a datacenter in it.
pub struct World {
    pub definitions: Definitions,
    pub client: Client,
    pub ns: String,
    pub storage: Storage,
    pub peers: Vec<Peer>,
    pub open: Arc<AtomicI64>,
}

impl World {
    /// Datacenter `dc1` with `n` pods, each with a peer that follows `script`.
    pub async fn new(n: usize, script: Script) -> Self {
        Self::under(Definitions::Ours, n, script).await
    }

    /// The same in a cluster with those definitions.
    pub async fn under(definitions: Definitions, n: usize, script: Script) -> Self {
        let client = Client::try_from(configuration(kubeconfig(definitions)).await).unwrap();
        let ns = format!("t{}", NAMES.fetch_add(1, Ordering::SeqCst));
        let namespace = serde_json::from_value::<Namespace>(json!({"metadata": {"name": ns}})).unwrap();
        Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        rights::grant_in(client.clone(), &ns).await;
        let nodes: Vec<String> = (0..n).map(|i| format!("shop-dc1-default-sts-{i}")).collect();
        let mut world = Self {
            definitions,
            client,
            ns,
            storage: Storage::new("dc1", nodes.clone()),
            peers: Vec::new(),
            open: Arc::default(),
        };
        world.create::<CassandraDatacenter>(world.datacenter("dc1", n.max(1))).await;
        for node in &nodes {
            let peer =
                Peer::start(node, world.storage.clone(), script.clone(), Arc::clone(&world.open)).await;
            world.create_pod(node, &world.medusa_pod(&peer)).await;
            world.peers.push(peer);
        }
        world
    }

    pub fn datacenter(&self, name: &str, size: usize) -> Value {
        json!({
            "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenter",
            "metadata": {"name": name},
            "spec": {"clusterName": "Shop", "serverType": "cassandra", "serverVersion": "4.1.2", "size": size}
        })
    }

    /// The containers of a pod whose Medusa is `peer`.
    pub fn medusa_pod(&self, peer: &Peer) -> Value {
        json!([
            {"name": "cassandra", "image": "none"},
            {"name": "medusa", "image": "none", "ports": [{"name": "grpc", "containerPort": peer.address.port()}]}
        ])
    }

    pub async fn create_pod(&self, name: &str, containers: &Value) {
        self.create_pod_of("dc1", name, containers).await;
    }

    pub async fn create_pod_of(&self, dc: &str, name: &str, containers: &Value) {
        self.create::<Pod>(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": {
                "cassandra.datastax.com/cluster": "Shop", "cassandra.datastax.com/datacenter": dc
            }},
            "spec": {"containers": containers}
        }))
        .await;
        let ready =
            json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        self.pod_status(name, json!({"conditions": ready})).await;
        self.pod_ip(name, "127.0.0.1").await;
        self.medusa_container(name, "fake://1").await;
    }

    /// What the kubelet reports of the pod's Medusa container; another id is another process.
    pub async fn medusa_container(&self, pod: &str, id: &str) {
        let statuses = json!([{
            "name": "medusa", "containerID": id, "restartCount": 0, "image": "none", "imageID": "none",
            "ready": true, "started": true, "lastState": {}, "state": {}
        }]);
        self.pod_status(pod, json!({"containerStatuses": statuses})).await;
    }

    pub async fn pod_ip(&self, pod: &str, ip: &str) {
        self.pod_status(pod, json!({"podIP": ip, "podIPs": [{"ip": ip}]})).await;
    }

    pub async fn pod_status(&self, name: &str, status: Value) {
        let patch = Patch::Merge(json!({"status": status}));
        self.api::<Pod>().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }

    pub async fn delete_pod(&self, name: &str) {
        self.api::<Pod>().delete(name, &DeleteParams::default().grace_period(0)).await.unwrap();
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.ns)
    }

    pub async fn create<K>(&self, object: Value) -> K
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        let resource = kube::api::ApiResource::erase::<K>(&());
        let object: kube::api::DynamicObject = serde_json::from_value(object).unwrap();
        let dynamic = Api::namespaced_with(self.client.clone(), &self.ns, &resource);
        let made = dynamic.create(&PostParams::default(), &object).await.unwrap();
        made.try_parse().unwrap()
    }

    /// Creates a differential MedusaBackupJob for `dc`.
    pub async fn job(&self, name: &str, dc: &str) -> MedusaBackupJob {
        self.create(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackupJob",
            "metadata": {"name": name, "labels": {"fleet.k8ssandra.io/job": "nightly"}},
            "spec": {"cassandraDatacenter": dc}
        }))
        .await
    }

    pub async fn status(&self, job: &str) -> MedusaBackupJobStatus {
        self.api::<MedusaBackupJob>().get(job).await.unwrap().status.unwrap_or_default()
    }

    /// Waits until the job has a finish time.
    pub async fn finished(&self, job: &str) -> MedusaBackupJobStatus {
        eventually("the job finishes", async || {
            like(self.status(job).await, |status| status.finish_time.is_some())
        })
        .await
    }

    /// Waits until condition `Complete` has that reason.
    pub async fn reason(&self, job: &str, reason: &str) -> String {
        eventually(reason, async || {
            let conditions = self.status(job).await.conditions;
            let found = conditions.iter().find(|c| c.type_ == "Complete" && c.reason == reason);
            found.map(|c| c.message.clone()).ok_or(format!("{conditions:?}"))
        })
        .await
    }

    pub async fn backup(&self, name: &str) -> Option<MedusaBackup> {
        self.api::<MedusaBackup>().get_opt(name).await.unwrap()
    }

    /// How often each node was asked to start.
    pub fn starts(&self) -> BTreeMap<String, usize> {
        self.peers.iter().map(|p| (p.node.clone(), p.starts())).collect()
    }

    /// Waits until nobody is connected to any peer.
    pub async fn disconnected(&self) {
        eventually("all connections are closed", async || {
            like(self.open.load(Ordering::SeqCst), |open| *open == 0)
        })
        .await;
    }

    /// A data plane that works in this namespace.
    pub async fn data_plane(&self) -> DataPlane {
        self.data_plane_with(Gate::default(), timings()).await
    }

    /// One that soon gives up waiting for what may heal.
    pub async fn data_plane_in_a_hurry(&self) -> DataPlane {
        let timings = Timings { input: Duration::from_secs(3), ..timings() };
        self.data_plane_with(Gate::default(), timings).await
    }

    pub async fn data_plane_with(&self, gate: Gate, timings: Timings) -> DataPlane {
        self.data_plane_at(gate, timings, Clock::system()).await
    }

    /// One that goes by `clock`.
    pub async fn data_plane_at(&self, gate: Gate, timings: Timings, clock: Clock) -> DataPlane {
        let config = rights::act(configuration(kubeconfig(self.definitions)).await);
        DataPlane::start(config, &self.ns, gate, timings, clock)
    }
}

/// The role, in a runtime of its own, so that it can be ended like a process.
pub struct DataPlane {
    runtime: Option<tokio::runtime::Runtime>,
    shutdown: CancellationToken,
    pub gate: Gate,
}

impl DataPlane {
    /// Starts it with the rights that `config` has.
    pub fn start(config: Config, ns: &str, gate: Gate, timings: Timings, clock: Clock) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shutdown = CancellationToken::new();
        let (token, ns, seen) = (shutdown.clone(), ns.to_owned(), gate.clone());
        runtime.spawn(async move {
            let config = data_plane::Config {
                client: seen.client(config),
                namespace: ns.clone(),
                watch_namespaces: vec![ns],
                take_over: true,
                clock,
                metrics_addr: None,
                timings,
            };
            data_plane::run(config, token).await.unwrap();
        });
        Self { runtime: Some(runtime), shutdown, gate }
    }

    /// Ends it where it stands: memory, timers and connections are gone.
    pub fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The program itself, with its own deadlines, ended with SIGKILL.
pub struct Program(Child);

impl Program {
    pub fn start(world: &World) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_medusa-fleet"))
            .args(["data-plane", "--take-over", "--metrics-addr", "127.0.0.1:0"])
            .args(["--namespace", &world.ns, "--watch-namespace", &world.ns, "--kubeconfig"])
            .arg(kubeconfig(world.definitions))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Its resident memory, as the kernel prints it.
    pub fn memory(&self) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        status.lines().find(|l| l.starts_with("VmRSS")).unwrap().to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
