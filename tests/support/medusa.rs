//! What a data plane's controller and Medusa would do: tests patch the statuses they would write.

use std::collections::BTreeSet;

use kube::{ResourceExt as _, core::DeserializeGuard};
use medusa_fleet::api::{
    cassandra::CassandraDatacenter,
    medusa::{MedusaBackup, MedusaBackupJob, MedusaTask, TaskOperation},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{CASS, Cluster};

/// Names of a datacenter's pods, as cass-operator makes them.
pub fn node_names(datacenter: &str, size: i32) -> Vec<String> {
    (0..size).map(|n| format!("shop-{datacenter}-default-sts-{n}")).collect()
}

/// Writes a MedusaBackup of `datacenter` with Medusa's word `status` and all `size` nodes, 1.00 KB each, taken when
/// it is written.
pub async fn write_backup(cluster: &Cluster, name: &str, datacenter: &str, size: i32, status: &str) {
    let made = cluster
        .create(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackup",
            "metadata": {"name": name, "namespace": CASS},
            "spec": {"cassandraDatacenter": datacenter, "backupType": "differential"},
        }))
        .await;
    let at = made.metadata.creation_timestamp;
    let nodes: Vec<Value> = node_names(datacenter, size)
        .into_iter()
        .map(|host| json!({"host": host, "datacenter": datacenter, "rack": "default", "tokens": [1]}))
        .collect();
    let status = json!({
        "startTime": at, "finishTime": at, "totalNodes": size, "finishedNodes": size, "nodes": nodes,
        "totalFiles": 10 * size, "totalSize": format!("{size}.00 KB"), "status": status,
    });
    cluster.patch_status::<MedusaBackup>(CASS, name, status).await;
}

/// Ends a MedusaBackupJob as a data plane does when all went well: the MedusaBackup first, `finishTime` last.
pub async fn finish(cluster: &Cluster, job: &MedusaBackupJob) {
    let name = job.name_any();
    let datacenter = &job.spec.cassandra_datacenter;
    let size = cluster.get::<CassandraDatacenter>(CASS, datacenter).await.spec.size;
    if cluster.find::<MedusaBackup>(CASS, &name).await.is_none() {
        write_backup(cluster, &name, datacenter, size, "SUCCESS").await;
    }
    let at = job.metadata.creation_timestamp.clone();
    let status = json!({"startTime": at, "finishTime": at, "finished": node_names(datacenter, size)});
    cluster.patch_status::<MedusaBackupJob>(CASS, &name, status).await;
}

/// Finishes every MedusaBackupJob of a cluster until it is dropped.
pub struct BackupFinisher(JoinHandle<()>);

impl BackupFinisher {
    /// Starts in one cluster.
    pub fn start(cluster: &Cluster) -> Self {
        let cluster = cluster.clone();
        Self(tokio::spawn(async move {
            let mut done = BTreeSet::new();
            loop {
                // A cluster that is down has no jobs to finish, nor are those that cannot be read any; errors are none
                // of the test's.
                let jobs = cluster.api::<DeserializeGuard<MedusaBackupJob>>(CASS);
                let jobs = jobs.list(&kube::api::ListParams::default()).await;
                for job in jobs.into_iter().flat_map(|list| list.items).filter_map(|job| job.0.ok()) {
                    if job.status.as_ref().is_none_or(|s| s.finish_time.is_none()) && done.insert(job.uid()) {
                        finish(&cluster, &job).await;
                    }
                }
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }))
    }
}

impl Drop for BackupFinisher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Ends a MedusaTask as a data plane does when all went well; each pod of a purge has removed one backup.
pub async fn finish_task(cluster: &Cluster, task: &MedusaTask) {
    let datacenter = &task.spec.cassandra_datacenter;
    let size = cluster.get::<CassandraDatacenter>(CASS, datacenter).await.spec.size;
    let pods = match task.spec.operation {
        TaskOperation::Sync => 1,
        TaskOperation::Purge | TaskOperation::PrepareRestore => size,
    };
    let finished: Vec<Value> = node_names(datacenter, pods)
        .into_iter()
        .map(|pod| {
            json!({"podName": pod, "nbBackupsPurged": 1, "nbObjectsPurged": 10, "totalPurgedSize": 1024,
                "totalObjectsWithinGcGrace": 2})
        })
        .collect();
    let at = task.metadata.creation_timestamp.clone();
    let status = json!({"startTime": at, "finishTime": at, "finished": finished});
    cluster.patch_status::<MedusaTask>(CASS, &task.name_any(), status).await;
}

/// The sync that follows a purge, as the data plane's controller makes it.
pub async fn follow_up(cluster: &Cluster, purge: &MedusaTask) -> MedusaTask {
    let sync = json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaTask",
        "metadata": {"name": format!("{}-sync", purge.name_any()), "namespace": CASS, "labels": purge.labels()},
        "spec": {"cassandraDatacenter": purge.spec.cassandra_datacenter, "operation": "sync"},
    });
    let made = cluster.create(sync).await;
    serde_json::from_value(serde_json::to_value(made).unwrap()).unwrap()
}
