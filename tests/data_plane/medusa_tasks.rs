//! What tests of MedusaTasks need of a [`ScriptedDatacenter`].

use std::{collections::BTreeSet, sync::Arc};

use medusa_fleet::api::{
    Conditions as _,
    cassandra::CassandraDatacenter,
    medusa::{MedusaBackup, MedusaBackupJob, MedusaTask, MedusaTaskStatus},
};
use serde_json::{Value, json};

use crate::{
    fake_medusa::{Peer, Script, Storage},
    scripted_datacenter::ScriptedDatacenter,
    support::{eventually, like},
};

impl ScriptedDatacenter {
    /// Creates a MedusaTask for `dc1`; `more` is added to its spec.
    pub async fn task(&self, name: &str, operation: &str, more: Value) -> MedusaTask {
        self.task_of("dc1", name, operation, more).await
    }

    pub async fn task_of(&self, dc: &str, name: &str, operation: &str, more: Value) -> MedusaTask {
        let mut spec = json!({"cassandraDatacenter": dc, "operation": operation});
        spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        self.create(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaTask",
            "metadata": {"name": name, "labels": {"app": "shop"}}, "spec": spec
        }))
        .await
    }

    pub async fn sync(&self, name: &str) -> MedusaTaskStatus {
        self.task(name, "sync", json!({})).await;
        self.task_finished(name).await
    }

    pub async fn purge(&self, name: &str) -> MedusaTaskStatus {
        self.task(name, "purge", json!({})).await;
        self.task_finished(name).await
    }

    pub async fn task_status(&self, name: &str) -> MedusaTaskStatus {
        self.find::<MedusaTask>(name).await.and_then(|task| task.status).unwrap_or_default()
    }

    /// Waits until the task has a finish time.
    pub async fn task_finished(&self, name: &str) -> MedusaTaskStatus {
        eventually(format!("{name} finishes"), async || {
            like(self.task_status(name).await, |status| status.finish_time.is_some())
        })
        .await
    }

    /// Waits until the task says that it waits, and why.
    pub async fn task_waits(&self, name: &str, reason: &str) -> String {
        eventually(reason, async || {
            let status = self.task_status(name).await;
            assert!(status.finish_time.is_none(), "{status:?}");
            let found = status.conditions.iter().find(|c| c.type_ == "Complete" && c.reason == reason);
            found.map(|c| c.message.clone()).ok_or(format!("{status:?}"))
        })
        .await
    }

    /// A complete backup of every peer in the storage.
    pub fn stored(&self, backup: &str) {
        for peer in &self.peers {
            self.storage.begin(&peer.node, backup);
            self.storage.finish(&peer.node, backup);
        }
    }

    /// Names of the MedusaBackups.
    pub async fn backups(&self) -> BTreeSet<String> {
        self.names::<MedusaBackup>().await
    }

    /// Names of the MedusaBackupJobs.
    pub async fn jobs(&self) -> BTreeSet<String> {
        self.names::<MedusaBackupJob>().await
    }

    /// Another datacenter that writes under the same prefix, with `n` pods.
    pub async fn add_datacenter(&mut self, dc: &str, n: usize) {
        let nodes: Vec<String> = (0..n).map(|i| format!("shop-{dc}-default-sts-{i}")).collect();
        self.storage.share(dc, nodes.clone());
        self.create::<CassandraDatacenter>(self.datacenter(dc, n)).await;
        for node in &nodes {
            let peer =
                Peer::start(node, self.storage.clone(), Script::default(), Arc::clone(&self.open)).await;
            self.create_pod_of(dc, node, &self.medusa_pod(&peer)).await;
            self.peers.push(peer);
        }
    }

    /// A pod of `dc1` whose Medusa looks into another storage.
    pub async fn add_pod(&mut self, node: &str, storage: Storage) {
        let peer = Peer::start(node, storage, Script::default(), Arc::clone(&self.open)).await;
        self.create_pod(node, &self.medusa_pod(&peer)).await;
        self.peers.push(peer);
    }

    /// How often that call arrived, over all pods.
    pub fn called(&self, rpc: &str) -> usize {
        self.peers.iter().map(|peer| peer.called(rpc)).sum()
    }

    /// The task failed for that reason, in condition, message and Event, and nobody stays connected.
    pub async fn assert_task_failed(&self, name: &str, reason: &str) -> MedusaTaskStatus {
        let status = self.task_finished(name).await;
        let failed = status.conditions.of_type("Failed").unwrap();
        assert_eq!((failed.status.as_str(), failed.reason.as_str()), ("True", reason), "{}", failed.message);
        assert!(!status.conditions.is_true("Complete"));
        assert!(status.in_progress.is_empty(), "{status:?}");
        let message = status.message.clone().unwrap();
        assert!(message.starts_with(&failed.message), "{message}");
        self.event(name, reason).await;
        self.disconnected().await;
        status
    }

    /// The task went well, and nobody stays connected.
    pub async fn assert_task_succeeded(&self, name: &str) -> MedusaTaskStatus {
        let status = self.task_finished(name).await;
        assert!(status.conditions.is_true("Complete"), "{status:?}");
        assert!(!status.conditions.is_true("Failed") && status.failed.is_empty(), "{status:?}");
        assert!(status.in_progress.is_empty() && status.start_time.is_some(), "{status:?}");
        self.disconnected().await;
        status
    }
}

/// Message of condition `Complete`.
pub fn told(status: &MedusaTaskStatus) -> String {
    status.conditions.of_type("Complete").unwrap().message.clone()
}
