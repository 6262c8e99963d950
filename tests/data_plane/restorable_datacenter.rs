//! A datacenter that can be restored: running pods, a backup of them in the storage, and its MedusaBackup.

use std::{fmt::Display, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Pod, Secret};
use medusa_fleet::{
    api::{
        cassandra::CassandraDatacenter,
        medusa::{MedusaBackup, MedusaRestoreJob, MedusaRestoreJobStatus},
    },
    data_plane::Timings,
    runtime::clock::Clock,
};
use serde_json::{Value, json};

use crate::{
    cass_operator::{CassOperator, SET},
    fake_medusa::{Peer, Script},
    kubelet::Kubelet,
    rights,
    scripted_datacenter::{DataPlane, ScriptedDatacenter, timings},
    shared_cluster::Definitions,
    support::{eventually, eventually_within, gate::Gate, harness::within, like},
};

/// How long a whole restore may take, also one that is cut off and repeated: seconds on an idle machine, of which a busy
/// one makes minutes.
pub const RESTORE: Duration = Duration::from_mins(3);

/// However busy the machine is, no step is given up before the test is; who tests that shortens the step's deadline.
pub fn restore_timings() -> Timings {
    Timings {
        input: RESTORE,
        restore_poll: Duration::from_millis(100),
        stop: RESTORE,
        template: RESTORE,
        restore: RESTORE,
        record: RESTORE,
        stall: RESTORE,
        ..timings()
    }
}

pub struct RestorableDatacenter {
    pub scripted: ScriptedDatacenter,
    pub operator: CassOperator,
    before: Value,
}

impl RestorableDatacenter {
    /// `dc1` with `n` running pods, backed up as `b1`.
    pub async fn new(n: usize) -> Self {
        Self::under(Definitions::Ours, n).await
    }

    pub async fn under(definitions: Definitions, n: usize) -> Self {
        let mut scripted = ScriptedDatacenter::under(definitions, 0, Script::default()).await;
        for secret in [("bucket", "credentials"), ("shop-superuser", "username"), ("app-user", "username")] {
            scripted
                .create::<Secret>(json!({
                    "apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret.0},
                    "stringData": {secret.1: "hush"}
                }))
                .await;
        }
        let pod = json!({
            "containers": [{"name": "cassandra", "image": "none"}, {"name": "medusa", "image": "none"}],
            "initContainers": [
                {"name": "mine", "image": "none", "env": [{"name": "BACKUP_NAME", "value": "mine"}]},
                {"name": "medusa-restore", "image": "none", "env": [{"name": "MEDUSA_MODE", "value": "RESTORE"}],
                 "volumeMounts": [{"name": "bucket", "mountPath": "/etc/medusa-secrets"}]}
            ],
            "volumes": [{"name": "bucket", "secret": {"secretName": "bucket"}}]
        });
        let spec = json!({"size": n, "users": [{"secretName": "app-user", "superuser": false}],
                          "podTemplateSpec": {"spec": pod}});
        scripted.patch_datacenter(json!({"spec": spec})).await;
        for ordinal in 0..n {
            let node = format!("{SET}-{ordinal}");
            scripted.storage.add_node(&node);
            let open = Arc::clone(&scripted.open);
            scripted.peers.push(Peer::start(&node, scripted.storage.clone(), Script::default(), open).await);
        }
        for peer in &scripted.peers {
            scripted.storage.begin(&peer.node, "b1");
            scripted.storage.finish(&peer.node, "b1");
        }
        let kubelet = Kubelet::start(&scripted.cluster, &scripted.ns).await;
        let ports = scripted.peers.iter().map(|p| p.address.port()).collect();
        let operator = CassOperator::start(&scripted.cluster, &scripted.ns, kubelet, ports);
        let mut restorable = Self { scripted, operator, before: Value::Null };
        restorable.backup("b1", json!({})).await;
        eventually("the datacenter is ready", async || restorable.ready().await).await;
        restorable.before = restorable.datacenter().await["spec"].clone();
        restorable
    }

    /// A MedusaBackup of all pods, its status changed by `more`.
    pub async fn backup(&self, name: &str, more: Value) {
        self.scripted
            .create::<MedusaBackup>(json!({
                "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackup",
                "metadata": {"name": name}, "spec": {"cassandraDatacenter": "dc1"}
            }))
            .await;
        let n = self.scripted.peers.len();
        let nodes: Vec<Value> = self
            .scripted
            .peers
            .iter()
            .map(|p| json!({"host": p.node, "datacenter": "dc1", "rack": "default"}))
            .collect();
        let mut status = json!({
            "status": "SUCCESS", "startTime": "2026-01-01T00:00:00Z", "finishTime": "2026-01-01T00:00:09Z",
            "totalNodes": n, "finishedNodes": n, "nodes": nodes
        });
        for (field, value) in more.as_object().into_iter().flatten() {
            status[field] = value.clone();
        }
        self.scripted.patch_status::<MedusaBackup>(name, status).await;
    }

    pub async fn data_plane(&self) -> DataPlane {
        self.scripted.data_plane_with(Gate::default(), restore_timings()).await
    }

    /// A data plane that runs out of patience where `change` says so.
    pub async fn data_plane_in_a_hurry(&self, change: impl FnOnce(&mut Timings)) -> DataPlane {
        let mut timings = restore_timings();
        change(&mut timings);
        self.scripted.data_plane_with(Gate::default(), timings).await
    }

    /// Creates a MedusaRestoreJob of `backup` for `dc1`.
    pub async fn restore(&self, name: &str, backup: &str) -> MedusaRestoreJob {
        self.scripted
            .create(json!({
                "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaRestoreJob",
                "metadata": {"name": name}, "spec": {"cassandraDatacenter": "dc1", "backup": backup}
            }))
            .await
    }

    pub async fn job(&self, name: &str) -> Option<MedusaRestoreJob> {
        self.scripted.find(name).await
    }

    pub async fn status(&self, name: &str) -> MedusaRestoreJobStatus {
        self.job(name).await.unwrap().status.unwrap_or_default()
    }

    /// Waits until the job has a finish time and has let go of its datacenter.
    pub async fn finished(&self, name: &str) -> MedusaRestoreJobStatus {
        self.within_a_restore(format!("{name} finishes"), async || {
            let job = self.job(name).await.unwrap();
            let status = job.status.unwrap_or_default();
            let held = job.metadata.finalizers.unwrap_or_default();
            let is_over = status.finish_time.is_some() && held.is_empty();
            if is_over { Ok(status) } else { Err(format!("{status:#?}")) }
        })
        .await
    }

    /// Waits for what a restore comes to. Should it not come, the datacenter is shown too.
    async fn within_a_restore<T>(
        &self,
        what: impl Display,
        look: impl AsyncFnMut() -> Result<T, String>,
    ) -> T {
        match within(RESTORE, what, look).await {
            Ok(seen) => seen,
            Err(failure) => {
                let datacenter = self.datacenter().await;
                panic!("{failure}\n{datacenter:#}")
            }
        }
    }

    pub async fn delete(&self, name: &str) {
        self.scripted.delete::<MedusaRestoreJob>(name).await;
    }

    /// Waits until the job is gone.
    pub async fn gone(&self, name: &str) {
        self.within_a_restore(format!("{name} is gone"), async || {
            let job = self.job(name).await;
            if job.is_none() { Ok(()) } else { Err(format!("{job:#?}")) }
        })
        .await;
    }

    /// Waits for a condition `Complete` of that reason and returns its message.
    pub async fn reason(&self, name: &str, reason: &str) -> String {
        eventually(reason, async || {
            let status = self.job(name).await.and_then(|job| job.status).unwrap_or_default();
            let found = status.conditions.iter().find(|c| c.type_ == "Complete" && c.reason == reason);
            found.map(|c| c.message.clone()).ok_or(format!("{status:?}"))
        })
        .await
    }

    pub async fn datacenter(&self) -> Value {
        self.scripted.cluster.raw::<CassandraDatacenter>(&self.scripted.ns, "dc1").await
    }

    /// Waits until the datacenter's annotation says that step.
    pub async fn at_step(&self, step: &str) {
        eventually_within(RESTORE, step, async || {
            let dc = self.datacenter().await;
            let text = dc["metadata"]["annotations"]["fleet.k8ssandra.io/restore"].as_str().unwrap_or("{}");
            like(serde_json::from_str::<Value>(text).unwrap(), |lock| lock["step"] == step)
        })
        .await;
    }

    /// The user stops the datacenter, and it has stopped.
    pub async fn stop(&mut self) {
        self.scripted.patch_datacenter(json!({"spec": {"stopped": true}})).await;
        eventually("it has stopped", async || like(self.pods().await, Vec::is_empty)).await;
        self.before = self.datacenter().await["spec"].clone();
    }

    /// Whether the datacenter is ready, and as it was last asked to be; what it is instead.
    pub async fn ready(&self) -> Result<(), String> {
        let dc = self.datacenter().await;
        let conditions = dc["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is_ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
            && dc["status"]["observedGeneration"] == dc["metadata"]["generation"];
        if is_ready { Ok(()) } else { Err(format!("{dc:#}")) }
    }

    pub async fn pods(&self) -> Vec<Pod> {
        self.scripted.list().await
    }

    /// The datacenter's spec is what it was, and nobody is at work on it.
    pub async fn assert_clean(&self) {
        let dc = self.datacenter().await;
        let mut spec = dc["spec"].clone();
        if self.before.get("stopped").is_none() && spec["stopped"] == false {
            spec.as_object_mut().unwrap().remove("stopped");
        }
        assert_eq!(spec, self.before);
        assert!(dc["metadata"]["annotations"].get("fleet.k8ssandra.io/restore").is_none(), "{dc:#}");
    }

    /// Each pod's volume holds the data of `backup`, restored once.
    pub fn assert_restored(&self, backup: &str) {
        let volumes = self.operator.volumes();
        assert_eq!(volumes.len(), self.scripted.peers.len());
        for (pod, volume) in volumes {
            assert_eq!((volume.holds, volume.restores), (Some((backup.to_owned(), pod)), 1));
        }
    }

    /// Nothing was ever stopped or restored.
    pub async fn assert_untouched(&self) {
        self.assert_clean().await;
        assert!(self.operator.volumes().is_empty());
        // Creation, and the patch that prepared it.
        assert_eq!(self.datacenter().await["metadata"]["generation"], 2);
    }
}

impl RestorableDatacenter {
    /// A data plane without the right to read the logs of pods.
    pub async fn data_plane_without_logs(&self) -> DataPlane {
        let name = format!("no-logs-{}", self.scripted.ns);
        let mut role = rights::granted(&["ClusterRole"]).remove(0);
        role["metadata"]["name"] = name.as_str().into();
        let is_logs =
            |rule: &Value| rule["resources"].as_array().into_iter().flatten().any(|r| r == "pods/log");
        role["rules"].as_array_mut().unwrap().retain(|rule| !is_logs(rule));
        self.scripted.cluster.create(role).await;
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}]
        });
        self.scripted.cluster.create(binding).await;
        let mut config = self.scripted.cluster.config.clone();
        config.headers.push(("impersonate-user".parse().unwrap(), name.parse().unwrap()));
        let timings = Timings { record: Duration::from_secs(3), ..restore_timings() };
        DataPlane::start(config, &self.scripted.ns, Gate::default(), timings, Clock::system())
    }
}
