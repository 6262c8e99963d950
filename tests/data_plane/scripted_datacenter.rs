//! A namespace of its own for each test, and in it a datacenter whose pods are scripted Medusas.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::{core::v1::Pod, events::v1::Event};
use kube::{Api, Config, ResourceExt, api::DeleteParams};
use medusa_fleet::{
    api::{
        cassandra::CassandraDatacenter,
        medusa::{MedusaBackup, MedusaBackupJob, MedusaBackupJobStatus},
    },
    data_plane::{self, Timings},
    runtime::clock::Clock,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    fake_medusa::{Peer, Script, Storage},
    rights,
    shared_cluster::{Definitions, shared_cluster},
    support::{
        Cluster, eventually,
        gate::Gate,
        harness::{BINARY, Kind, Program},
        like,
    },
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
pub struct ScriptedDatacenter {
    pub cluster: Cluster,
    pub ns: String,
    pub storage: Storage,
    pub peers: Vec<Peer>,
    pub open: Arc<AtomicI64>,
}

impl ScriptedDatacenter {
    /// Datacenter `dc1` with `n` pods, each with a peer that follows `script`.
    pub async fn new(n: usize, script: Script) -> Self {
        Self::under(Definitions::Ours, n, script).await
    }

    /// The same in a cluster with those definitions.
    pub async fn under(definitions: Definitions, n: usize, script: Script) -> Self {
        let cluster = shared_cluster(definitions).await;
        let ns = format!("t{}", NAMES.fetch_add(1, Ordering::SeqCst));
        cluster.namespace(&ns).await.unwrap();
        rights::grant_in(&cluster, &ns).await;
        let nodes: Vec<String> = (0..n).map(|i| format!("shop-dc1-default-sts-{i}")).collect();
        let mut dc = Self {
            cluster,
            ns,
            storage: Storage::new("dc1", nodes.clone()),
            peers: Vec::new(),
            open: Arc::default(),
        };
        dc.create::<CassandraDatacenter>(dc.datacenter("dc1", n.max(1))).await;
        for node in &nodes {
            let peer = Peer::start(node, dc.storage.clone(), script.clone(), Arc::clone(&dc.open)).await;
            dc.create_pod(node, &dc.medusa_pod(&peer)).await;
            dc.peers.push(peer);
        }
        dc
    }

    pub fn datacenter(&self, name: &str, size: usize) -> Value {
        json!({
            "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenter",
            "metadata": {"name": name},
            "spec": {"clusterName": "Shop", "serverType": "cassandra", "serverVersion": "4.1.2", "size": size}
        })
    }

    pub async fn patch_datacenter(&self, patch: Value) {
        self.patch::<CassandraDatacenter>("dc1", patch).await;
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
        self.patch_status::<Pod>(name, status).await;
    }

    pub async fn delete_pod(&self, name: &str) {
        self.api::<Pod>().delete(name, &DeleteParams::default().grace_period(0)).await.unwrap();
    }

    pub fn api<K: Kind>(&self) -> Api<K> {
        self.cluster.api(&self.ns)
    }

    pub async fn create<K: Kind>(&self, mut object: Value) -> K {
        object["metadata"]["namespace"] = self.ns.as_str().into();
        self.cluster.create(object).await.try_parse().unwrap()
    }

    pub async fn find<K: Kind>(&self, name: &str) -> Option<K> {
        self.cluster.find(&self.ns, name).await
    }

    pub async fn get<K: Kind>(&self, name: &str) -> K {
        self.cluster.get(&self.ns, name).await
    }

    pub async fn list<K: Kind>(&self) -> Vec<K> {
        self.cluster.list(&self.ns).await
    }

    pub async fn names<K: Kind>(&self) -> BTreeSet<String> {
        self.list::<K>().await.iter().map(ResourceExt::name_any).collect()
    }

    pub async fn patch<K: Kind>(&self, name: &str, patch: Value) -> K {
        self.cluster.patch(&self.ns, name, patch).await
    }

    pub async fn patch_status<K: Kind>(&self, name: &str, status: Value) -> K {
        self.cluster.patch_status(&self.ns, name, status).await
    }

    pub async fn delete<K: Kind>(&self, name: &str) {
        self.cluster.delete::<K>(&self.ns, name).await;
    }

    /// Waits for an Event about `name` with that reason.
    pub async fn event(&self, name: &str, reason: &str) -> String {
        eventually(format!("event {reason}"), async || {
            let all = self.list::<Event>().await;
            let is_it = |e: &&Event| {
                e.reason.as_deref() == Some(reason)
                    && e.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some(name)
            };
            all.iter().find(is_it).and_then(|e| e.note.clone()).ok_or(format!("{all:?}"))
        })
        .await
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
        self.get::<MedusaBackupJob>(job).await.status.unwrap_or_default()
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
        self.find(name).await
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
        let config = rights::act(self.cluster.config.clone());
        DataPlane::start(config, &self.ns, gate, timings, clock)
    }

    /// The program itself, with its own deadlines.
    pub fn program(&self) -> Program {
        self.replica("data-plane", &[])
    }

    /// The program with more arguments; `name` tells logs apart.
    pub fn replica(&self, name: &str, more: &[&str]) -> Program {
        let log = self.cluster.kubeconfig.with_file_name(format!("{}-{name}.log", self.ns));
        let program = Program::start(BINARY, &log, |command| {
            command
                .args(["data-plane", "--take-over", "--metrics-addr", "127.0.0.1:0"])
                .args(more)
                .args(["--namespace", &self.ns, "--watch-namespace", &self.ns, "--kubeconfig"])
                .arg(rights::kubeconfig_file_of(&self.cluster, rights::DATA_PLANE))
        });
        program.unwrap()
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
                leader_elect: false,
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
