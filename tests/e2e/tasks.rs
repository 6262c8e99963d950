//! MedusaTasks: what a purge deletes and counts, and what a sync finds in another cluster's prefix.

use medusa_fleet::api::{
    Conditions as _,
    medusa::{MedusaBackup, MedusaBackupJob, MedusaTask, MedusaTaskStatus},
};
use serde_json::json;

use super::{
    datacenter::{Datacenter, PATIENCE},
    restore,
    support::{eventually, eventually_within},
};

async fn create(at: Datacenter<'_>, name: &str, operation: &str) {
    at.cluster
        .create(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaTask",
            "metadata": {"name": name, "namespace": at.namespace},
            "spec": {"operation": operation, "cassandraDatacenter": at.name},
        }))
        .await;
}

async fn finished(at: Datacenter<'_>, name: &str) -> MedusaTaskStatus {
    let status = eventually_within(PATIENCE, format!("MedusaTask {name} has finished"), async || {
        let task = at.cluster.find::<MedusaTask>(at.namespace, name).await;
        let status = task.ok_or("it is not there")?.status.unwrap_or_default();
        if status.finish_time.is_some() { Ok(status) } else { Err(format!("{status:#?}")) }
    })
    .await;
    assert!(status.failed.is_empty() && status.in_progress.is_empty(), "{status:#?}");
    assert!(status.conditions.is_true("Complete") && !status.conditions.is_true("Failed"), "{status:#?}");
    status
}

/// A purge that leaves one backup takes the older one from every node and, by its follow-up sync, from the cluster.
pub async fn purge(at: Datacenter<'_>) {
    let old = at.backup("first-").await.metadata.name.unwrap();
    let new = at.backup("second-").await.metadata.name.unwrap();
    assert!(at.cluster.find::<MedusaBackupJob>(at.namespace, &old).await.is_some());
    create(at, "clean-up", "purge").await;
    let status = finished(at, "clean-up").await;
    let mut pods: Vec<String> = status.finished.iter().filter_map(|pod| pod.pod_name.clone()).collect();
    pods.sort();
    assert_eq!(pods, at.pod_names().await);
    for pod in &status.finished {
        assert_eq!(pod.nb_backups_purged, Some(1), "{pod:#?}");
        assert!(pod.nb_objects_purged > Some(0) && pod.total_purged_size > Some(0), "{pod:#?}");
        assert!(pod.total_objects_within_gc_grace.is_some(), "{pod:#?}");
    }

    finished(at, "clean-up-sync").await;
    at.cluster.disappears::<MedusaBackup>(at.namespace, &old).await;
    at.cluster.disappears::<MedusaBackupJob>(at.namespace, &old).await;
    at.cluster.get::<MedusaBackup>(at.namespace, &new).await;
}

/// A cluster that has no data and no MedusaBackups finds those of the other by a sync, and restores from one.
pub async fn sync_elsewhere(empty: Datacenter<'_>, from: Datacenter<'_>, rows: usize) {
    assert!(empty.cluster.list::<MedusaBackup>(empty.namespace).await.is_empty());
    let original = from.backup("second-").await;
    let name = original.metadata.name.clone().unwrap();
    create(empty, "find", "sync").await;
    let status = finished(empty, "find").await;
    assert_eq!(status.finished.len(), 1, "one pod has answered: {status:#?}");
    let found = eventually(format!("MedusaBackup {name} is in {}", empty.cluster.name), async || {
        let backup =
            empty.cluster.find::<MedusaBackup>(empty.namespace, &name).await.ok_or("it is not there")?;
        if backup.status.is_some() { Ok(backup) } else { Err("it has no status") }
    })
    .await;
    assert_eq!(found.spec.cassandra_datacenter, empty.name);
    let mut expected = original.status.clone().unwrap();
    let seen = found.status.unwrap();
    // A job counts from its own start, the storage from the first node's.
    expected.start_time.clone_from(&seen.start_time);
    assert_eq!(seen, expected, "as the backup's own cluster has it");
    for backup in empty.cluster.list::<MedusaBackup>(empty.namespace).await {
        let nodes = backup.status.unwrap_or_default().nodes;
        let elsewhere: Vec<_> = nodes.iter().filter(|n| n.datacenter.as_deref() != Some(from.name)).collect();
        assert!(elsewhere.is_empty(), "of another datacenter: {elsewhere:#?}");
    }
    let nodes = original.status.unwrap_or_default().nodes;
    let mut sources: Vec<String> = nodes.into_iter().filter_map(|node| node.host).collect();
    sources.sort();
    restore::restore(empty, "elsewhere", &name, &sources).await;
    empty.expect_rows(1, rows).await;
}
