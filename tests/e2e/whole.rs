//! The whole cluster at once: a scheduled backup of both datacenters, lost tables, and one restore of everything.

use std::time::Duration;

use medusa_fleet::api::fleet::{FleetBackup, FleetBackupJob, Phase};

use super::{
    cassandra_fleet::{CassandraFleet, SHOP},
    datacenter::{Datacenter, PATIENCE},
    support::{FLEET, eventually, eventually_within},
};

const SCHEDULE: &str = "fleetwide";

/// A FleetBackupSchedule fires by itself; returns the name of the restore point it made, over all datacenters.
pub async fn scheduled_backup(fleet: &CassandraFleet) -> String {
    let (ok, said) = fleet.medusa(&["schedule", SCHEDULE, "--cron", "* * * * *", "--cluster", SHOP]);
    assert!(ok, "{said}");
    let prefix = format!("{SCHEDULE}-");
    // A slot is at most a minute away; the rest is a backup's.
    let job = eventually_within(Duration::from_mins(4), "the schedule has backed the fleet up", async || {
        let mut jobs = fleet.home().list::<FleetBackupJob>(FLEET).await;
        jobs.retain(|job| job.metadata.name.as_deref().is_some_and(|name| name.starts_with(&prefix)));
        let seen = format!("{jobs:#?}");
        let phase = |job: &FleetBackupJob| job.status.as_ref().and_then(|s| s.run.phase);
        jobs.into_iter().find(|job| phase(job).is_some_and(Phase::is_final)).ok_or(seen)
    })
    .await;
    let (ok, said) = fleet.medusa(&["schedule", "suspend", SCHEDULE]);
    assert!(ok, "{said}");
    let status = job.status.unwrap();
    assert_eq!(status.run.phase, Some(Phase::Succeeded), "{status:#?}");
    let [point] = status.restore_points.as_slice() else { panic!("{:?}", status.restore_points) };
    eventually("the restore point is complete", async || {
        let seen = fleet.home().find::<FleetBackup>(FLEET, point).await.and_then(|b| b.status);
        match seen {
            Some(status) if status.complete && status.restorable => Ok(()),
            other => Err(format!("{other:#?}")),
        }
    })
    .await;
    point.clone()
}

/// Tables are dropped in every datacenter; one restore of the cluster brings every row back. `rows` are those each
/// datacenter had.
pub async fn restore(fleet: &CassandraFleet, point: &str, datacenters: [(Datacenter<'_>, usize); 2]) {
    for (datacenter, rows) in datacenters {
        datacenter.expect_rows(0, rows).await;
        datacenter
            .cql(0, &["execute", "DROP TABLE shop.orders", "DROP KEYSPACE single"])
            .await
            .expect("drop");
    }
    let (ok, said) = fleet.medusa(&["restore", SHOP, "--from", point, "--yes", "--wait", "--timeout", "8m"]);
    assert!(ok, "{said}");
    for (datacenter, rows) in datacenters {
        eventually_within(PATIENCE, "Cassandra answers", async || datacenter.cql(0, &["count"]).await).await;
        datacenter.expect_rows(0, rows).await;
        datacenter.expect_clean().await;
    }
}
