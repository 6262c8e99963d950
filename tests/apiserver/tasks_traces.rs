//! What a purge has to count stays, whatever becomes of the runs that made it, and goes when no purge has to.

use kube::ResourceExt;
use medusa_fleet::{
    api::{
        fleet::{FleetBackupJob, Phase},
        medusa::{MedusaBackupJob, MedusaTask},
    },
    runtime::clock::now,
};
use serde_json::json;

use crate::{
    support::{
        CASS, Cluster, ControlPlane, FLEET, Fleet, backup_job, eventually, finish, finish_task, write_backup,
    },
    tasks::{child_name, deploy, expect_complete, expect_entry, task},
};

const REFUSED: &str = "WouldRemoveLastRestorePoint";

/// Has a run back `dc1` up, and its only pod fail; the run is deleted at once when its time is over.
async fn failed_night(fleet: &Fleet, name: &str) -> String {
    let mut run = backup_job(name, json!({"clusters": ["shop"]}));
    run["spec"]["ttlSecondsAfterFinished"] = json!(0);
    let run = fleet.home().create(run).await;
    let child = fleet.dp(1).appears::<MedusaBackupJob>(CASS, &child_name(&run, "dc1")).await;
    let at = child.metadata.creation_timestamp.clone();
    let status = json!({"startTime": at, "finishTime": at, "failed": ["a"]});
    fleet.dp(1).patch_status::<MedusaBackupJob>(CASS, &child.name_any(), status).await;
    fleet.home().disappears::<FleetBackupJob>(FLEET, name).await;
    child.name_any()
}

async fn jobs(cluster: &Cluster) -> Vec<String> {
    cluster.list::<MedusaBackupJob>(CASS).await.iter().map(ResourceExt::name_any).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_runs_are_counted_after_they_are_gone_until_a_newer_restore_point_is_there() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    deploy(there, "dc1", "max_backup_age = 7\nmax_backup_count = 3").await;
    write_backup(there, "p", "dc1", 2, "SUCCESS").await;
    expect_complete(&fleet, "p.shop").await;
    let mut left = Vec::new();
    for night in ["night-1", "night-2", "night-3"] {
        left.push(failed_night(&fleet, night).await);
    }
    left.sort();
    assert_eq!(jobs(there).await, left, "they alone tell of what the nodes hold");
    home.create(task("late", json!({"operation": "purge"}))).await;
    expect_entry(&fleet, "late", "dc1", Phase::Failed, REFUSED).await;
    assert!(there.list::<MedusaTask>(CASS).await.is_empty());

    // A run that is there tells of what somebody deleted.
    for name in &left {
        there.delete::<MedusaBackupJob>(CASS, name).await;
    }
    for night in ["night-4", "night-5", "night-6"] {
        let run = home.create(backup_job(night, json!({"clusters": ["shop"]}))).await;
        let child = there.appears::<MedusaBackupJob>(CASS, &child_name(&run, "dc1")).await;
        let at = child.metadata.creation_timestamp.clone();
        let status = json!({"startTime": at, "finishTime": at, "failed": ["a"]});
        there.patch_status::<MedusaBackupJob>(CASS, &child.name_any(), status).await;
        fleet.expect_phase(night, Phase::Failed).await;
        there.delete::<MedusaBackupJob>(CASS, &child.name_any()).await;
    }
    home.create(task("deleted", json!({"operation": "purge"}))).await;
    expect_entry(&fleet, "deleted", "dc1", Phase::Failed, REFUSED).await;

    // A newer complete restore point: nothing has to be counted any more, and what was kept for that goes.
    let trace = failed_night(&fleet, "night-7").await;
    assert_eq!(jobs(there).await, std::slice::from_ref(&trace));
    // Of those that begin in one second nobody knows which was first, and more than two are too many for the limit.
    let mut last = None;
    let run = eventually("a backup begins in a later second", async || {
        let second = now().as_second();
        if last.replace(second) == Some(second) {
            return Err("the last one began in this second");
        }
        let name = format!("good-{}", home.list::<FleetBackupJob>(FLEET).await.len());
        let run = home.create(backup_job(&name, json!({"clusters": ["shop"]}))).await;
        let child = there.appears::<MedusaBackupJob>(CASS, &child_name(&run, "dc1")).await;
        finish(there, &child).await;
        fleet.expect_phase(&name, Phase::Succeeded).await;
        let gone = there.find::<MedusaBackupJob>(CASS, &trace).await.is_none();
        if gone { Ok(run) } else { Err("the trace is still there") }
    })
    .await;
    home.create(task("good", json!({"operation": "purge"}))).await;
    expect_entry(&fleet, "good", "dc1", Phase::Running, "JobCreated").await;
    let purge = there.list::<MedusaTask>(CASS).await.remove(0);
    assert!(purge.annotations().contains_key("fleet.k8ssandra.io/keep"), "{:?}", purge.metadata);
    finish_task(there, &purge).await;
    assert!(run.uid().is_some());
    controller.assert_running();
}
