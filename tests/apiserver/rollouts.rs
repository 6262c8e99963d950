//! How a run goes over its datacenters: limits, further attempts, budget, deadlines, cancelling, plans, expiry.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use medusa_fleet::{
    api::{
        fleet::{DataPlane, DatacenterRun, FleetBackup, FleetBackupJob, FleetBackupJobStatus, Phase},
        medusa::{MedusaBackup, MedusaBackupJob, MedusaRestoreJob},
    },
    control_plane::runs::compact,
};
use serde_json::{Value, json};

use crate::support::{
    BackupFinisher, CASS, Cluster, ControlPlane, FLEET, Fleet, backup_job, condition, datacenter, eventually,
    finish, node_names, write_backup,
};

/// A FleetBackupJob over the named datacenters, with this added to its spec.
fn job(name: &str, datacenters: &[&str], spec: &Value) -> Value {
    let mut job = backup_job(name, json!({"datacenters": datacenters}));
    for (key, value) in spec.as_object().unwrap() {
        job["spec"][key] = value.clone();
    }
    job
}

fn is_finished(child: &MedusaBackupJob) -> bool {
    child.status.as_ref().is_some_and(|s| s.finish_time.is_some())
}

/// The children of one run in a cluster.
async fn children(cluster: &Cluster, run: &str) -> Vec<MedusaBackupJob> {
    let mut all = cluster.list::<MedusaBackupJob>(CASS).await;
    all.retain(|child| child.labels().get("fleet.k8ssandra.io/job").is_some_and(|job| job == run));
    all
}

/// The child of a run at a datacenter whose name has `mark` in it, once it is there.
async fn child(cluster: &Cluster, run: &str, datacenter: &str, mark: &str) -> MedusaBackupJob {
    eventually(format!("{run} has a child `{mark}` at {datacenter}"), async || {
        let all = children(cluster, run).await;
        let names: Vec<String> = all.iter().map(kube::ResourceExt::name_any).collect();
        let found = all.into_iter().find(|c| {
            c.spec.cassandra_datacenter == datacenter && c.name_any().contains(mark) && !is_finished(c)
        });
        found.ok_or(format!("{names:?}"))
    })
    .await
}

/// Ends a child as a data plane does when its only node failed.
async fn fail(cluster: &Cluster, child: &MedusaBackupJob) {
    let at = &child.metadata.creation_timestamp;
    let nodes = node_names(&child.spec.cassandra_datacenter, 1);
    let status = json!({"startTime": at, "finishTime": at, "failed": nodes});
    cluster.patch_status::<MedusaBackupJob>(CASS, &child.name_any(), status).await;
}

/// Begins with a child as a data plane does.
async fn begin(cluster: &Cluster, child: &MedusaBackupJob) {
    let nodes = node_names(&child.spec.cassandra_datacenter, 1);
    let status = json!({"startTime": child.metadata.creation_timestamp, "inProgress": nodes});
    cluster.patch_status::<MedusaBackupJob>(CASS, &child.name_any(), status).await;
}

/// Waits until the entry of a datacenter is in a phase for a reason.
async fn expect(fleet: &Fleet, run: &str, datacenter: &str, phase: Phase, reason: &str) -> DatacenterRun {
    eventually(format!("{run}: {datacenter} is {} because of {reason}", phase.as_str()), async || {
        let status = fleet.job(run).await.status.unwrap_or_default();
        let entry = status.datacenters.into_iter().find(|e| e.datacenter == datacenter).unwrap_or_default();
        let reached = entry.phase == phase && entry.reason.as_deref() == Some(reason);
        if reached { Ok(entry) } else { Err(format!("{entry:#?}")) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_over_all_runs_together() {
    let fleet = Fleet::start(2).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    let limits = json!({"spec": {"limits": {"maxConcurrentBackups": 2}}});
    home.patch::<DataPlane>(FLEET, "dp-1", limits).await;
    for number in 1..=4 {
        fleet.dp(1).create(datacenter(&format!("dc{number}"), "shop", 1)).await;
    }
    for number in 5..=7 {
        fleet.dp(2).create(datacenter(&format!("dc{number}"), "blog", 1)).await;
    }
    // Three runs at once; the last one takes one datacenter after the other.
    for name in ["first", "second"] {
        home.create(job(name, &["dc1", "dc2", "dc3", "dc4"], &json!({}))).await;
    }
    let serial = json!({"rollout": {"maxConcurrentDatacenters": 1, "maxConcurrentPerBucket": 1}});
    home.create(job("serial", &["dc5", "dc6", "dc7"], &serial)).await;

    // One child is finished at a time, and only when as many as may be are at work.
    let mut most: BTreeMap<&str, usize> = BTreeMap::new();
    eventually("all runs are over", async || {
        for (number, limit) in [(1, 2), (2, 1)] {
            let cluster = fleet.dp(number);
            let at_work: Vec<MedusaBackupJob> =
                cluster.list::<MedusaBackupJob>(CASS).await.into_iter().filter(|c| !is_finished(c)).collect();
            assert!(at_work.len() <= limit, "{} at work in {}", at_work.len(), cluster.name);
            let seen = most.entry(&cluster.name).or_default();
            *seen = at_work.len().max(*seen);
            if let Some(one) = at_work.first() {
                finish(cluster, one).await;
            }
        }
        let mut left = Vec::new();
        for name in ["first", "second", "serial"] {
            let phase = fleet.job(name).await.status.and_then(|s| s.run.phase);
            if phase != Some(Phase::Succeeded) {
                left.push((name, phase));
            }
        }
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    assert_eq!(most, BTreeMap::from([("dp-1", 2), ("dp-2", 1)]), "the limits were used to the full");
    assert_eq!(fleet.dp(1).list::<MedusaBackupJob>(CASS).await.len(), 8);
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_tried_again_counted_and_given_up() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    for name in ["flaky", "b1", "b2", "b3", "slow", "stuck"] {
        there.create(datacenter(name, name, 1)).await;
    }

    let made = home.create(job("again", &["flaky"], &json!({"rollout": {"retriesPerDatacenter": 1}}))).await;
    let budget = json!({"rollout": {"maxConcurrentDatacenters": 1, "maxFailures": 1}});
    home.create(job("budget", &["b1", "b2", "b3"], &budget)).await;
    let slow = json!({"rollout": {"datacenterTimeoutSeconds": 2, "retriesPerDatacenter": 3}});
    home.create(job("slow", &["slow"], &slow)).await;
    home.create(job("stuck", &["stuck"], &json!({"rollout": {"progressDeadlineSeconds": 3}}))).await;

    // A further attempt has a name of its own; the failed child stays to be looked at.
    let first = child(there, "again", "flaky", "again-flaky-").await;
    fail(there, &first).await;
    let waits = expect(&fleet, "again", "flaky", Phase::Pending, "AwaitingRetry").await;
    assert_eq!(waits.attempts, 1);
    assert!(waits.message.unwrap().contains("attempt 1 failed (NodesFailed)"));

    // The budget: one failure, and nothing more starts.
    fail(there, &child(there, "budget", "b1", "budget-b1-").await).await;
    let status = fleet.expect_phase("budget", Phase::Failed).await.status.unwrap();
    let reasons: Vec<_> = status.datacenters.iter().filter_map(|e| e.reason.clone()).collect();
    assert_eq!(reasons, ["NodesFailed", "FailureBudgetSpent", "FailureBudgetSpent"]);
    assert_eq!(status.run.counts.map(|c| (c.failed, c.skipped)), Some((1, 2)));
    assert_eq!(children(there, "budget").await.len(), 1);

    // A datacenter that takes too long is given up and not tried again; its child is left alone.
    let timed_out = child(there, "slow", "slow", "slow-slow-").await;
    expect(&fleet, "slow", "slow", Phase::Failed, "DeadlineExceeded").await;
    fleet.expect_phase("slow", Phase::Failed).await;
    let now: MedusaBackupJob = there.get(CASS, &timed_out.name_any()).await;
    assert_eq!(now.resource_version(), timed_out.resource_version());
    expect(&fleet, "stuck", "stuck", Phase::Failed, "ProgressDeadlineExceeded").await;

    let second = child(there, "again", "flaky", "-r2x").await;
    let digits: String = made.uid().unwrap().replace('-', "").chars().take(8).collect();
    assert_eq!(second.name_any(), format!("again-flaky-r2x{digits}"));
    assert!(
        there.find::<MedusaBackupJob>(CASS, &first.name_any()).await.is_some(),
        "it is left for inspection"
    );
    // What the first attempt left in the storage is the same restore point's, and does not count.
    write_backup(there, &first.name_any(), "flaky", 1, "FAILED").await;
    finish(there, &second).await;
    let status = fleet.expect_phase("again", Phase::Succeeded).await.status.unwrap();
    assert_eq!(status.datacenters[0].attempts, 2);
    let point = format!("again-{digits}.flaky");
    assert_eq!(status.restore_points, std::slice::from_ref(&point));
    eventually("its restore point is complete", async || {
        let backup = home.find::<FleetBackup>(FLEET, &point).await.and_then(|b| b.status).unwrap_or_default();
        let named = backup.datacenters.iter().filter_map(|d| d.medusa_backup.clone()).collect::<Vec<_>>();
        if backup.complete && named == [second.name_any()] { Ok(()) } else { Err(format!("{backup:?}")) }
    })
    .await;
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_can_be_cancelled_tried_held_and_expires() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    for name in ["runs", "untouched", "waits", "restored", "old"] {
        there.create(datacenter(name, name, 1)).await;
    }

    // Only the plan: nothing is written.
    let plan = job("plan", &["runs", "waits", "typo"], &json!({"dryRun": true}));
    home.create(plan).await;
    let status = fleet.expect_phase("plan", Phase::PartiallyFailed).await.status.unwrap();
    let (complete, reason, message) = condition(&status.run.conditions, "Complete");
    assert_eq!((complete.as_str(), reason.as_str()), ("False", "DryRun"), "{message}");
    let planned = status.datacenters.iter().find(|e| e.datacenter == "runs").unwrap();
    assert_eq!((planned.phase, planned.reason.as_deref()), (Phase::Pending, Some("DryRun")));
    assert!(planned.message.as_ref().unwrap().contains("cass/plan-runs-"), "{planned:?}");
    assert_eq!(there.writes("medusabackupjobs").await.get("POST"), None);

    // A cluster that is being restored is backed up afterwards.
    there
        .create(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaRestoreJob",
            "metadata": {"name": "restore", "namespace": CASS},
            "spec": {"backup": "some", "cassandraDatacenter": "restored"},
        }))
        .await;
    eventually("the restore is known", async || {
        let name = format!("held-{}", there.list::<MedusaBackupJob>(CASS).await.len());
        let seen = home.find::<FleetBackupJob>(FLEET, &name).await;
        if seen.is_none() {
            home.create(job(&name, &["restored"], &json!({}))).await;
        }
        let status = seen.and_then(|job| job.status).unwrap_or_default();
        let reason = status.datacenters.first().and_then(|e| e.reason.clone()).unwrap_or_default();
        if reason == "RestoreInProgress" { Ok(()) } else { Err(reason) }
    })
    .await;
    let at =
        json!({"restoreKey": "k", "startTime": "2026-01-01T00:00:00Z", "finishTime": "2026-01-01T00:00:09Z"});
    there.patch_status::<MedusaRestoreJob>(CASS, "restore", at).await;

    // Cancelled: what runs ends by itself, what nobody has begun with is taken back, the rest is never made.
    let two = json!({"rollout": {"maxConcurrentDatacenters": 2}});
    home.create(job("cancelled", &["runs", "untouched", "waits"], &two)).await;
    let running = child(there, "cancelled", "runs", "cancelled-runs-").await;
    let untouched = child(there, "cancelled", "untouched", "cancelled-untouched-").await;
    begin(there, &running).await;
    expect(&fleet, "cancelled", "runs", Phase::Running, "Running").await;
    home.patch::<FleetBackupJob>(FLEET, "cancelled", json!({"spec": {"cancel": true}})).await;
    expect(&fleet, "cancelled", "waits", Phase::Cancelled, "Cancelled").await;
    expect(&fleet, "cancelled", "untouched", Phase::Cancelled, "Cancelled").await;
    there.disappears::<MedusaBackupJob>(CASS, &untouched.name_any()).await;
    assert_eq!(
        fleet.job("cancelled").await.status.unwrap().run.phase,
        Some(Phase::Running),
        "one still runs"
    );
    finish(there, &running).await;
    let status = fleet.expect_phase("cancelled", Phase::Cancelled).await.status.unwrap();
    assert_eq!(status.run.counts.map(|c| (c.succeeded, c.skipped)), Some((1, 2)));
    assert_eq!(status.restore_points.len(), 1, "what was backed up can be restored");
    assert_eq!(children(there, "cancelled").await.len(), 1);
    home.event("FleetBackupJob", "cancelled", "Cancelled").await;
    let api = home.api::<FleetBackupJob>(FLEET);
    for change in [
        json!({"cancel": false}),
        json!({"cancel": null}),
        json!({"backupType": "full"}),
        json!({"rollout": null}),
    ] {
        let merge = kube::api::Patch::Merge(json!({"spec": change}));
        let refused = api.patch("cancelled", &kube::api::PatchParams::default(), &merge).await;
        assert!(refused.unwrap_err().to_string().contains("create a new one"), "{change}");
    }

    // When its time is over, the job and its children go, and the backups stay.
    let _finisher = BackupFinisher::start(there);
    home.create(job("old", &["old"], &json!({"ttlSecondsAfterFinished": 2}))).await;
    let child = eventually("it has a child", async || {
        children(there, "old").await.into_iter().next().ok_or("it has none")
    })
    .await;
    home.disappears::<FleetBackupJob>(FLEET, "old").await;
    assert!(there.find::<MedusaBackupJob>(CASS, &child.name_any()).await.is_none(), "its child went first");
    assert!(there.find::<MedusaBackup>(CASS, &child.name_any()).await.is_some(), "its backup stays");
    assert!(home.find::<FleetBackupJob>(FLEET, "cancelled").await.is_some(), "without a time it stays");
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_survives_kill_9_between_any_two_steps() {
    let fleet = Fleet::start(2).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    for (number, name) in [(1, "dc1"), (1, "dc2"), (2, "dc3"), (2, "dc4")] {
        fleet.dp(number).create(datacenter(name, "shop", 1)).await;
    }
    let spec = json!({"rollout": {"maxConcurrentDatacenters": 1, "retriesPerDatacenter": 1}});
    let names = ["dc1", "dc2", "dc3", "dc4"];
    home.create(job("steps", &names, &spec)).await;

    // Each first attempt fails, each second one succeeds; between any two of these steps the controller is killed.
    let mut attempts: Vec<String> = Vec::new();
    eventually("four datacenters took two attempts each", async || {
        let mut at_work = Vec::new();
        let mut seen = 0;
        for number in [1, 2] {
            for child in children(fleet.dp(number), "steps").await {
                seen += 1;
                if !is_finished(&child) {
                    at_work.push((number, child));
                }
            }
        }
        assert!(at_work.len() <= 1, "{at_work:?}");
        if let Some((number, child)) = at_work.pop() {
            attempts.push(child.name_any());
            controller.kill9();
            if child.name_any().contains("-r2x") {
                finish(fleet.dp(number), &child).await;
            } else {
                fail(fleet.dp(number), &child).await;
            }
            controller.start();
        }
        if seen == 8 && attempts.len() == 8 { Ok(()) } else { Err(format!("{attempts:?}")) }
    })
    .await;
    let status = fleet.expect_phase("steps", Phase::Succeeded).await.status.unwrap();
    assert!(status.datacenters.iter().all(|e| e.attempts == 2), "{status:#?}");
    let mut unique = attempts.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), 8, "an attempt was made twice: {attempts:?}");
    assert_eq!(status.restore_points.len(), 1);
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_of_five_thousand_datacenters_is_stored() {
    let fleet = Fleet::start(1).await;
    let home = fleet.home();
    home.create(backup_job("huge", json!({}))).await;
    let entry = |number: usize| {
        json!({
            "dataPlane": format!("eu-central-1-prod-{}", number % 50), "namespace": "cassandra",
            "datacenter": format!("dc-eu-central-{number}"), "cluster": format!("shop-{}.cassandra", number / 3),
            "job": format!("nightly-dc-eu-central-{number}-0b1c2d3e"), "attempts": 1, "phase": "Failed",
            "reason": "NodesFailed", "message": "the disk is full. ".repeat(40),
            "startTime": "2026-11-02T03:00:01Z", "finishTime": "2026-11-02T03:10:01Z",
            "nodes": {"total": 99, "finished": 98, "failed": 1},
        })
    };
    let entries: Vec<Value> = (0..5_000).map(entry).collect();
    let status: FleetBackupJobStatus =
        serde_json::from_value(json!({"phase": "Failed", "datacenters": entries})).unwrap();
    let apply = async |status: &FleetBackupJobStatus| {
        let body = json!({
            "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetBackupJob", "metadata": {"name": "huge"},
            "status": status,
        });
        let params = kube::api::PatchParams::apply("test").force();
        home.api::<FleetBackupJob>(FLEET).patch_status("huge", &params, &kube::api::Patch::Apply(&body)).await
    };
    assert!(apply(&status).await.is_err(), "as it is it is too large, or this proves nothing");
    let (fitted, bytes) = compact::fit::<FleetBackupJob>(&status, compact::BUDGET);
    apply(&fitted).await.unwrap();
    let stored = fleet.job("huge").await.status.unwrap();
    assert_eq!(stored.datacenters.len(), 5_000);
    assert!(bytes > 500_000, "{bytes}");
    assert!(stored.datacenters.iter().all(|e| e.reason.as_deref() == Some("NodesFailed")));
}
