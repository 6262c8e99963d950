//! A MedusaBackupSchedule that fires by itself.

use std::time::Duration;

use medusa_fleet::api::medusa::{MedusaBackup, MedusaBackupJob, MedusaBackupSchedule};
use serde_json::json;

use super::{datacenter::Datacenter, support::eventually_within};

const NAME: &str = "every-minute";

/// Creates a schedule of one backup a minute.
pub async fn create(at: Datacenter<'_>) {
    at.cluster
        .create(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackupSchedule",
            "metadata": {"name": NAME, "namespace": at.namespace},
            "spec": {
                "cronSchedule": "* * * * *",
                "backupSpec": {"cassandraDatacenter": at.name, "backupType": "differential"},
            },
        }))
        .await;
}

/// Waits for the first backup, which has the time of its slot in its name, and stops the schedule.
pub async fn fires(at: Datacenter<'_>) {
    let prefix = format!("{NAME}-");
    // A slot is at most a minute away; the rest is a backup's.
    let job = eventually_within(Duration::from_mins(3), "the schedule has made a backup", async || {
        let mut jobs = at.cluster.list::<MedusaBackupJob>(at.namespace).await;
        jobs.retain(|job| job.metadata.name.as_deref().is_some_and(|name| name.starts_with(&prefix)));
        jobs.sort_by_key(|job| job.metadata.name.clone());
        let seen = format!("{jobs:#?}");
        jobs.into_iter().find(|job| job.status.as_ref().is_some_and(|s| s.finish_time.is_some())).ok_or(seen)
    })
    .await;
    let disable = json!({"spec": {"disabled": true}});
    let schedule: MedusaBackupSchedule = at.cluster.patch(at.namespace, NAME, disable).await;
    let name = job.metadata.name.unwrap();
    let slot: i64 = name.strip_prefix(&prefix).unwrap().parse().expect("the slot's time in seconds");
    assert_eq!(slot % 60, 0, "at a full minute: {name}");
    assert!(schedule.status.unwrap_or_default().last_execution.is_some_and(|t| t.0.as_second() >= slot));
    let status = job.status.unwrap();
    assert!(status.failed.is_empty(), "{status:#?}");
    assert_eq!(status.finished, at.pod_names().await);
    let backup: MedusaBackup = at.cluster.get(at.namespace, &name).await;
    assert_eq!(backup.status.unwrap_or_default().status.as_deref(), Some("SUCCESS"));
}
