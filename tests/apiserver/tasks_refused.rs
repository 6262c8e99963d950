//! Purges that must not start, or not any more: the cluster's last complete restore point, what is unknown, what is at
//! work, what nobody goes on with.

use medusa_fleet::api::{
    fleet::{FleetTask, Phase},
    medusa::{MedusaBackupJob, MedusaRestoreJob, MedusaTask, TaskOperation},
};
use serde_json::json;

use crate::{
    support::{
        CASS, Cluster, ControlPlane, FLEET, Fleet, backup_job, eventually, finish, finish_task, follow_up,
        medusa_fleet, write_backup,
    },
    tasks::{child_name, deploy, expect_complete, expect_entry, over, start_protected, task},
};

/// A MedusaBackupJob somebody made by hand, ended without a backup unless it goes on.
async fn job(cluster: &Cluster, name: &str, dc: &str, is_over: bool) {
    let made = cluster
        .create(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackupJob",
            "metadata": {"name": name, "namespace": CASS}, "spec": {"cassandraDatacenter": dc},
        }))
        .await;
    let at = made.metadata.creation_timestamp;
    let end = if is_over { json!({"finishTime": at, "failed": ["a"]}) } else { json!({}) };
    let mut status = json!({"startTime": at});
    status.as_object_mut().unwrap().extend(end.as_object().unwrap().clone());
    cluster.patch_status::<MedusaBackupJob>(CASS, name, status).await;
}

const REFUSED: &str = "WouldRemoveLastRestorePoint";

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_could_remove_the_last_complete_restore_point_is_not_started() {
    let fleet = Fleet::start(2).await;
    let (home, eu, us) = (fleet.home(), fleet.dp(1), fleet.dp(2));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    deploy(eu, "dc1", "max_backup_age = 7\nmax_backup_count = 2").await;
    deploy(us, "dc2", "max_backup_age = 7\nmax_backup_count = 1").await;
    fleet.expect_size("shop", 2).await;

    // There never was one, and half of one is none.
    home.create(task("never", json!({"operation": "purge"}))).await;
    let status = over(&fleet, "never").await.status.unwrap();
    assert_eq!(status.run.phase, Some(Phase::Failed), "{status:#?}");
    home.event("FleetTask", "never", REFUSED).await;
    write_backup(eu, "p", "dc1", 2, "SUCCESS").await;
    home.create(task("half", json!({"operation": "purge"}))).await;
    assert_eq!(over(&fleet, "half").await.status.unwrap().run.phase, Some(Phase::Failed));

    // A failed run since pushes it out where only one backup is kept, and not where two are.
    write_backup(us, "p", "dc2", 2, "SUCCESS").await;
    expect_complete(&fleet, "p.shop").await;
    job(eu, "failed", "dc1", true).await;
    job(us, "failed", "dc2", true).await;
    let output = medusa_fleet(&fleet.home().kubeconfig, &["purge", "--dry-run", "--cluster", "shop"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let line = |dc: &str| said.lines().find(|line| line.contains(dc)).unwrap_or_default().to_owned();
    assert!(line("dc1").contains("purge") && line("dc1").contains("p.shop"), "{said}");
    assert!(line("dc2").contains("refuse") && line("dc2").contains(REFUSED), "{said}");
    let left: Vec<FleetTask> = home.list(FLEET).await;
    assert_eq!(left.len(), 2, "the dry run's object stayed");
    for cluster in [eu, us] {
        assert!(
            cluster.writes("medusatasks").await.is_empty(),
            "a refused purge or a dry run wrote something"
        );
    }
    home.create(task("real", json!({"operation": "purge"}))).await;
    expect_entry(&fleet, "real", "dc2", Phase::Failed, REFUSED).await;
    expect_entry(&fleet, "real", "dc1", Phase::Running, "JobCreated").await;
    assert!(us.list::<MedusaTask>(CASS).await.is_empty());
    home.event("FleetTask", "real", REFUSED).await;

    // Limits nobody can read are the strictest.
    let unread = eu.api::<k8s_openapi::api::core::v1::ConfigMap>(CASS);
    unread.delete("shop-medusa", &kube::api::DeleteParams::default()).await.unwrap();
    let spec = json!({"operation": "purge", "selector": {"datacenters": ["dc1"]}});
    home.create(task("unread", spec)).await;
    let entry = expect_entry(&fleet, "unread", "dc1", Phase::Failed, REFUSED).await;
    let message = entry.run.message.unwrap_or_default();
    assert!(message.contains("could not be read"), "{message}");
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_waits_for_silence_backups_and_restores_of_the_whole_cluster() {
    let fleet = Fleet::start(2).await;
    let (home, eu, us) = (fleet.home(), fleet.dp(1), fleet.dp(2));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    for (cluster, dc) in [(eu, "dc1"), (us, "dc2")] {
        deploy(cluster, dc, "").await;
        write_backup(cluster, "p", dc, 2, "SUCCESS").await;
    }
    expect_complete(&fleet, "p.shop").await;
    let only_dc1 = json!({"operation": "purge", "selector": {"datacenters": ["dc1"]}});

    // What another datacenter of the cluster may have lost nobody can say while it is silent.
    fleet.pause("dp-2");
    fleet.expect_data_plane("dp-2", "Ready", "False", "TimedOut").await;
    home.create(task("silent", only_dc1.clone())).await;
    expect_entry(&fleet, "silent", "dc1", Phase::Pending, "RestorePointsUnknown").await;
    let mut skip = only_dc1.clone();
    skip["unreachablePolicy"] = json!("Skip");
    home.create(task("skip", skip)).await;
    expect_entry(&fleet, "skip", "dc1", Phase::Skipped, "RestorePointsUnknown").await;
    assert!(eu.list::<MedusaTask>(CASS).await.is_empty(), "a purge started while a datacenter was silent");
    fleet.resume("dp-2");
    expect_entry(&fleet, "silent", "dc1", Phase::Running, "JobCreated").await;

    // A sync minds nobody.
    job(us, "by-hand", "dc2", false).await;
    let sync = json!({"operation": "sync", "selector": {"datacenters": ["dc1"]}});
    home.create(task("sync", sync)).await;
    expect_entry(&fleet, "sync", "dc1", Phase::Running, "JobCreated").await;
    home.create(task("busy", only_dc1)).await;
    expect_entry(&fleet, "busy", "dc1", Phase::Pending, "BackupRunning").await;
    let restore = json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaRestoreJob",
        "metadata": {"name": "back", "namespace": CASS},
        "spec": {"backup": "p", "cassandraDatacenter": "dc2"},
    });
    us.create(restore).await;
    us.delete::<MedusaBackupJob>(CASS, "by-hand").await;
    expect_entry(&fleet, "busy", "dc1", Phase::Pending, "RestoreInProgress").await;
    us.delete::<MedusaRestoreJob>(CASS, "back").await;
    expect_entry(&fleet, "busy", "dc1", Phase::Running, "JobCreated").await;
    controller.assert_running();
}

/// MedusaBackupJobs and purges of the fleet that have no end yet, in all data planes.
async fn at_work(fleet: &Fleet) -> (Vec<(usize, MedusaBackupJob)>, Vec<(usize, MedusaTask)>) {
    let (mut backups, mut purges) = (Vec::new(), Vec::new());
    for number in [1, 2] {
        let jobs = fleet.dp(number).list::<MedusaBackupJob>(CASS).await;
        let tasks = fleet.dp(number).list::<MedusaTask>(CASS).await;
        let open = jobs.into_iter().filter(|j| j.status.as_ref().is_none_or(|s| s.finish_time.is_none()));
        backups.extend(open.map(|job| (number, job)));
        let open = tasks.into_iter().filter(|t| t.status.as_ref().is_none_or(|s| s.finish_time.is_none()));
        purges.extend(open.filter(|t| t.spec.operation == TaskOperation::Purge).map(|task| (number, task)));
    }
    (backups, purges)
}

/// Ends a purge as a data plane does, and makes and ends the sync after it.
async fn finish_purge(cluster: &Cluster, purge: &MedusaTask) {
    finish_task(cluster, purge).await;
    let sync = follow_up(cluster, purge).await;
    finish_task(cluster, &sync).await;
}

/// Waits until the entry of a datacenter in a backup run waits for a reason.
async fn expect_backup_waits(fleet: &Fleet, job: &str, dc: &str, reason: &str) {
    eventually(format!("{job}: {dc} waits because of {reason}"), async || {
        let status = fleet.job(job).await.status.unwrap_or_default();
        let entry = status.datacenters.into_iter().find(|e| e.datacenter == dc).unwrap_or_default();
        let waits = entry.phase == Phase::Pending && entry.reason.as_deref() == Some(reason);
        if waits { Ok(()) } else { Err(format!("{entry:#?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_backup_and_a_purge_of_one_cluster_whoever_was_made_first_goes_first() {
    let (fleet, mut controller) = start_protected().await;
    let home = fleet.home();

    // The purge of one datacenter holds up the backup of the whole cluster, which holds up the next purge.
    home.create(task("first", json!({"operation": "purge", "selector": {"datacenters": ["dc1"]}}))).await;
    expect_entry(&fleet, "first", "dc1", Phase::Running, "JobCreated").await;
    home.create(backup_job("second", json!({"clusters": ["shop"]}))).await;
    for dc in ["dc1", "dc2"] {
        expect_backup_waits(&fleet, "second", dc, "PurgeRunning").await;
    }
    home.create(task("third", json!({"operation": "purge", "selector": {"datacenters": ["dc2"]}}))).await;
    expect_entry(&fleet, "third", "dc2", Phase::Pending, "BackupRunning").await;
    let (backups, purges) = at_work(&fleet).await;
    assert_eq!((backups.len(), purges.len()), (0, 1));
    finish_purge(fleet.dp(1), &purges[0].1).await;
    let backups = eventually("the backup has begun in both", async || {
        let (backups, purges) = at_work(&fleet).await;
        assert!(backups.is_empty() || purges.is_empty(), "{backups:?} {purges:?}");
        if backups.len() == 2 { Ok(backups) } else { Err(format!("{backups:?}")) }
    })
    .await;
    expect_entry(&fleet, "third", "dc2", Phase::Pending, "BackupRunning").await;
    for (number, job) in &backups {
        finish(fleet.dp(*number), job).await;
    }
    fleet.expect_phase("second", Phase::Succeeded).await;
    expect_entry(&fleet, "third", "dc2", Phase::Running, "JobCreated").await;
    let (_, purges) = at_work(&fleet).await;
    finish_purge(fleet.dp(2), &purges[0].1).await;
    over(&fleet, "third").await;

    // Made in one moment, neither begins beside the other, and both come to their end.
    for round in 0..4 {
        let (backup, purge) = (format!("backup-{round}"), format!("purge-{round}"));
        tokio::join!(
            home.create(backup_job(&backup, json!({"clusters": ["shop"]}))),
            home.create(task(&purge, json!({"operation": "purge"}))),
        );
        eventually(format!("round {round} is over"), async || {
            let (backups, purges) = at_work(&fleet).await;
            assert!(backups.is_empty() || purges.is_empty(), "at once: {backups:#?} {purges:#?}");
            for (number, job) in &backups {
                finish(fleet.dp(*number), job).await;
            }
            for (number, task) in &purges {
                finish_purge(fleet.dp(*number), task).await;
            }
            let job = fleet.job(&backup).await.status.unwrap_or_default().run.phase;
            let task = home.get::<FleetTask>(FLEET, &purge).await.status.unwrap_or_default().run.phase;
            let are_over = job == Some(Phase::Succeeded) && task == Some(Phase::Succeeded);
            if are_over { Ok(()) } else { Err(format!("{job:?} {task:?}")) }
        })
        .await;
    }
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_nobody_began_with_is_taken_back_once_its_task_is_over_or_gone() {
    let (fleet, mut controller) = start_protected().await;
    let (home, eu, us) = (fleet.home(), fleet.dp(1), fleet.dp(2));
    let purge_dc1 = json!({"operation": "purge", "selector": {"datacenters": ["dc1"]}});

    // Its time is over, and then a backup begins beside nothing.
    let mut spec = purge_dc1.clone();
    spec["rollout"] = json!({"datacenterTimeoutSeconds": 2});
    let late = home.create(task("late", spec)).await;
    eu.appears::<MedusaTask>(CASS, &child_name(&late, "dc1")).await;
    home.create(backup_job("after", json!({"clusters": ["shop"]}))).await;
    expect_entry(&fleet, "late", "dc1", Phase::Failed, "DeadlineExceeded").await;
    eu.disappears::<MedusaTask>(CASS, &child_name(&late, "dc1")).await;
    let backups = eventually("the backup has begun in both", async || {
        let (backups, purges) = at_work(&fleet).await;
        assert!(backups.is_empty() || purges.is_empty(), "{backups:?} {purges:?}");
        if backups.len() == 2 { Ok(backups) } else { Err(format!("{backups:?}")) }
    })
    .await;
    for (number, job) in &backups {
        finish(fleet.dp(*number), job).await;
    }
    fleet.expect_phase("after", Phase::Succeeded).await;

    // Its task is deleted while no control plane runs. What a data plane has begun with stays.
    let gone = home.create(task("gone", json!({"operation": "purge"}))).await;
    for dc in ["dc1", "dc2"] {
        expect_entry(&fleet, "gone", dc, Phase::Running, "JobCreated").await;
    }
    let (untouched, begun) = (child_name(&gone, "dc1"), child_name(&gone, "dc2"));
    let status = json!({"startTime": gone.metadata.creation_timestamp});
    us.patch_status::<MedusaTask>(CASS, &begun, status).await;
    controller.kill9();
    home.delete::<FleetTask>(FLEET, "gone").await;
    controller.start();
    eu.disappears::<MedusaTask>(CASS, &untouched).await;
    // It is at work.
    let begun: MedusaTask = us.get(CASS, &begun).await;
    finish_task(us, &begun).await;

    // It is cancelled while nobody can be asked: as soon as somebody can.
    let silent = home.create(task("silent", purge_dc1)).await;
    expect_entry(&fleet, "silent", "dc1", Phase::Running, "JobCreated").await;
    fleet.pause("dp-1");
    fleet.expect_data_plane("dp-1", "Ready", "False", "TimedOut").await;
    home.patch::<FleetTask>(FLEET, "silent", json!({"spec": {"cancel": true}})).await;
    assert_eq!(over(&fleet, "silent").await.status.unwrap().run.phase, Some(Phase::Cancelled));
    fleet.resume("dp-1");
    eu.disappears::<MedusaTask>(CASS, &child_name(&silent, "dc1")).await;
    controller.assert_running();
}
