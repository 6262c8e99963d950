//! Restores by MedusaRestoreJob.

use medusa_fleet::api::{
    Conditions as _,
    medusa::{MedusaRestoreJob, MedusaRestoreJobStatus},
};
use serde_json::json;

use super::{
    datacenter::{Datacenter, PATIENCE},
    support::eventually_within,
};

/// Restores `backup` into a datacenter and waits until the job says that it went well and the datacenter is as it was.
/// `sources` are the hosts that its pods restore from, pod by pod.
pub async fn restore(into: Datacenter<'_>, job: &str, backup: &str, sources: &[String]) {
    into.cluster
        .create(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaRestoreJob",
            "metadata": {"name": job, "namespace": into.namespace},
            "spec": {"backup": backup, "cassandraDatacenter": into.name},
        }))
        .await;
    let pods = into.pod_names().await;
    let status = eventually_within(PATIENCE, format!("MedusaRestoreJob {job} has finished"), async || {
        let status = status(into, job).await;
        if status.finish_time.is_some() { Ok(status) } else { Err(format!("{status:#?}")) }
    })
    .await;
    assert!(status.failed.is_empty(), "{status:#?}");
    let mut finished = status.finished.clone();
    finished.sort();
    assert_eq!(finished, pods, "{status:#?}");
    assert!(status.in_progress.is_empty(), "{status:#?}");
    assert!(status.conditions.is_true("Complete") && !status.conditions.is_true("Failed"), "{status:#?}");
    assert!(!status.restore_key.is_empty() && status.start_time <= status.datacenter_stopped, "{status:#?}");
    assert!(status.datacenter_stopped <= status.finish_time, "{status:#?}");
    let mapping = status.restore_mapping.clone().unwrap();
    assert_eq!(mapping.in_place, Some(pods == sources), "{mapping:#?}");
    let mapped: Vec<_> =
        mapping.host_map.iter().map(|(pod, host)| (pod.clone(), host.source.clone())).collect();
    let expected: Vec<_> =
        pods.iter().cloned().zip(sources.iter().map(|source| vec![source.clone()])).collect();
    assert_eq!(mapped, expected);
    into.expect_clean().await;
}

async fn status(into: Datacenter<'_>, job: &str) -> MedusaRestoreJobStatus {
    into.cluster.get::<MedusaRestoreJob>(into.namespace, job).await.status.unwrap_or_default()
}

/// A dropped table comes back from the differential backup, with all rows it had then.
pub async fn a_dropped_table(datacenter: Datacenter<'_>, rows: usize) {
    datacenter.drop_tables().await;
    let backup = datacenter.backup("second-").await.metadata.name.unwrap();
    let pods = datacenter.pod_names().await;
    restore(datacenter, "dropped-table", &backup, &pods).await;
    datacenter.expect_rows(1, rows).await;
}

/// A node whose disk is gone comes back from the full backup as the node it was, with the rows that only it had.
pub async fn a_lost_volume(datacenter: Datacenter<'_>, rows: usize) {
    let lost = 2;
    let before = datacenter.host_id(lost).await;
    datacenter.lose_volume(lost).await;
    let said = datacenter.cql(0, &["count"]).await.expect_err("a node is missing");
    assert!(said.contains("Cannot achieve consistency level ALL"), "{said}");
    let backup = datacenter.backup("first-").await.metadata.name.unwrap();
    let pods = datacenter.pod_names().await;
    restore(datacenter, "lost-volume", &backup, &pods).await;
    datacenter.expect_rows(lost, rows).await;
    assert_eq!(datacenter.host_id(lost).await, before, "it is the node that it was");
}
