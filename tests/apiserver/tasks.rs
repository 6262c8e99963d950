//! FleetTasks against real API servers: one MedusaTask per datacenter, the sync after a purge, kill -9 between steps.

use std::{collections::BTreeSet, time::Duration};

use kube::ResourceExt;
use medusa_fleet::api::{
    cassandra::CassandraDatacenter,
    fleet::{DatacenterTask, FleetBackup, FleetTask, Phase, Purged},
    labels,
    medusa::{MedusaTask, TaskOperation},
};
use serde_json::{Value, json};

use crate::support::{
    CASS, Cluster, ControlPlane, FLEET, Fleet, condition, datacenter, eventually, finish_task, follow_up,
    node_names, write_backup,
};

/// A FleetTask with this spec.
pub fn task(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetTask",
        "metadata": {"name": name, "namespace": FLEET}, "spec": spec,
    })
}

/// A datacenter of `shop` whose pods mount a `medusa.ini` with these limits.
pub async fn deploy(cluster: &Cluster, name: &str, limits: &str) {
    let mut dc = datacenter(name, "shop", 2);
    dc["spec"]["podTemplateSpec"]["spec"] = json!({
        "containers": [
            {"name": "cassandra"},
            {"name": "medusa", "image": "k8ssandra/medusa:0.25.1",
             "volumeMounts": [{"name": "shop-medusa", "mountPath": "/etc/medusa"}]},
        ],
        "volumes": [{"name": "shop-medusa", "configMap": {"name": "shop-medusa"}}],
    });
    cluster
        .create(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shop-medusa", "namespace": CASS},
            "data": {"medusa.ini": format!("[storage]\nbucket_name = b\n{limits}\n")},
        }))
        .await;
    cluster.create(dc).await;
}

/// Waits until the entry of a datacenter is in a phase for a reason; returns it.
pub async fn expect_entry(fleet: &Fleet, task: &str, dc: &str, phase: Phase, reason: &str) -> DatacenterTask {
    eventually(format!("{task}: {dc} is {} because of {reason}", phase.as_str()), async || {
        let task = fleet.home().get::<FleetTask>(FLEET, task).await;
        let entries = task.status.unwrap_or_default().datacenters;
        let entry = entries.into_iter().find(|e| e.run.datacenter == dc);
        match entry {
            Some(entry) if entry.run.phase == phase && entry.run.reason.as_deref() == Some(reason) => {
                Ok(entry)
            }
            entry => Err(format!("{entry:#?}")),
        }
    })
    .await
}

/// Waits until the task is over; returns it.
pub async fn over(fleet: &Fleet, name: &str) -> FleetTask {
    eventually(format!("FleetTask {name} is over"), async || {
        let task = fleet.home().get::<FleetTask>(FLEET, name).await;
        let status = task.status.clone().unwrap_or_default();
        if status.run.phase.is_some_and(Phase::is_final) { Ok(task) } else { Err(format!("{status:#?}")) }
    })
    .await
}

/// Waits until a FleetBackup is complete.
pub async fn expect_complete(fleet: &Fleet, point: &str) {
    eventually(format!("{point} is complete"), async || {
        let backup = fleet.home().find::<FleetBackup>(FLEET, point).await.ok_or("it is not there")?;
        if backup.status.unwrap_or_default().complete { Ok(()) } else { Err("it is not complete") }
    })
    .await;
}

/// A control plane over two data planes with a datacenter of `shop` each, and the complete restore point `p.shop`.
pub async fn start_protected() -> (Fleet, ControlPlane) {
    let fleet = Fleet::start(2).await;
    let controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    for number in [1, 2] {
        deploy(fleet.dp(number), &format!("dc{number}"), "").await;
        write_backup(fleet.dp(number), "p", &format!("dc{number}"), 2, "SUCCESS").await;
    }
    expect_complete(&fleet, "p.shop").await;
    (fleet, controller)
}

/// Name of the MedusaTask of a task for a datacenter.
pub fn child_name(task: &impl kube::ResourceExt, dc: &str) -> String {
    let digits: String = task.uid().unwrap().chars().take(8).collect();
    format!("{}-{dc}-{digits}", task.name_any())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_over_the_fleet_is_followed_by_syncs_summed_up_and_swept_away() {
    let fleet = Fleet::start(2).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    for number in [1, 2] {
        let dc = format!("dc{number}");
        deploy(fleet.dp(number), &dc, "max_backup_age = 7\nmax_backup_count = 3").await;
        write_backup(fleet.dp(number), "p", &dc, 2, "SUCCESS").await;
    }
    expect_complete(&fleet, "p.shop").await;
    let made = home.create(task("weekly", json!({"operation": "purge", "ttlSecondsAfterFinished": 3}))).await;

    let mut children = Vec::new();
    for number in [1, 2] {
        let dc = format!("dc{number}");
        let child: MedusaTask = fleet.dp(number).appears(CASS, &child_name(&made, &dc)).await;
        let own: CassandraDatacenter = fleet.dp(number).get(CASS, &dc).await;
        let labels = child.labels();
        assert_eq!(labels["fleet.k8ssandra.io/job"], "weekly");
        assert_eq!(labels["fleet.k8ssandra.io/job-uid"], made.uid().unwrap());
        assert_eq!(labels["cassandra.datastax.com/datacenter"], dc);
        assert_eq!(child.owner_references()[0].uid, own.uid().unwrap());
        assert_eq!(child.spec.operation, TaskOperation::Purge);
        children.push(child);
    }
    expect_entry(&fleet, "weekly", "dc1", Phase::Running, "JobCreated").await;
    // The child may be seen before its making is known to be over.
    eventually("the task says what the purge keeps", async || {
        let task: FleetTask = home.get(FLEET, "weekly").await;
        let entries = task.status.unwrap_or_default().datacenters;
        let keeps: Vec<_> = entries.iter().map(|entry| entry.keeps.as_deref()).collect();
        if keeps == [Some("p.shop"); 2] { Ok(()) } else { Err(format!("{keeps:?}")) }
    })
    .await;

    // In one data plane the controller makes the sync after the purge, in the other nobody does.
    finish_task(fleet.dp(2), &children[1]).await;
    finish_task(fleet.dp(1), &children[0]).await;
    expect_entry(&fleet, "weekly", "dc1", Phase::Running, "AwaitingSync").await;
    let sync = follow_up(fleet.dp(1), &children[0]).await;
    finish_task(fleet.dp(1), &sync).await;
    let entry = expect_entry(&fleet, "weekly", "dc1", Phase::Succeeded, "Succeeded").await;
    assert_eq!(entry.sync, Some(sync.name_any()));
    let ours: MedusaTask = fleet.dp(2).appears(CASS, &format!("{}-sync", children[1].name_any())).await;
    assert_eq!(ours.spec.operation, TaskOperation::Sync);
    assert_eq!(ours.labels()["fleet.k8ssandra.io/job-uid"], made.uid().unwrap());
    finish_task(fleet.dp(2), &ours).await;

    let status = over(&fleet, "weekly").await.status.unwrap();
    assert_eq!(status.run.phase, Some(Phase::Succeeded), "{status:#?}");
    let sum = Purged { backups: 4, objects: 40, bytes: 4096, objects_within_grace: 8 };
    assert_eq!((status.purged, status.freed.as_deref()), (Some(sum), Some("4.00 KB")));
    assert_eq!(status.run.done.as_deref(), Some("2/2"));
    home.event("FleetTask", "weekly", "Succeeded").await;
    eventually("the task and its MedusaTasks are gone", async || {
        let mut left = Vec::new();
        for number in [1, 2] {
            left.extend(fleet.dp(number).list::<MedusaTask>(CASS).await.iter().map(ResourceExt::name_any));
        }
        let gone = home.find::<FleetTask>(FLEET, "weekly").await.is_none();
        if left.is_empty() && gone { Ok(()) } else { Err(format!("{left:?}, FleetTask gone: {gone}")) }
    })
    .await;
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_survives_kill_9_between_any_two_steps_and_nothing_is_doubled() {
    let (fleet, mut controller) = start_protected().await;
    let home = fleet.home();
    let child = async |number: usize, name: &str| fleet.dp(number).appears::<MedusaTask>(CASS, name).await;

    // At points that can be seen from outside.
    controller.kill9();
    let made = home.create(task("steps", json!({"operation": "purge"}))).await;
    let (first, second) = (child_name(&made, "dc1"), child_name(&made, "dc2"));
    controller.start();
    let one = child(1, &first).await;
    controller.restart();
    let two = child(2, &second).await;
    controller.restart();
    expect_entry(&fleet, "steps", "dc2", Phase::Running, "JobCreated").await;
    controller.kill9();
    finish_task(fleet.dp(1), &one).await;
    let sync = follow_up(fleet.dp(1), &one).await;
    controller.start();
    expect_entry(&fleet, "steps", "dc1", Phase::Running, "AwaitingSync").await;
    controller.kill9();
    finish_task(fleet.dp(1), &sync).await;
    finish_task(fleet.dp(2), &two).await;
    let sync = follow_up(fleet.dp(2), &two).await;
    finish_task(fleet.dp(2), &sync).await;
    controller.start();
    let status = over(&fleet, "steps").await.status.unwrap();
    assert_eq!(status.run.phase, Some(Phase::Succeeded), "{status:#?}");
    assert_eq!(status.purged.map(|p| p.backups), Some(4));

    // And wherever it happens to be: each task is cut at another moment.
    let runs: u64 = 6;
    for run in 0..runs {
        home.create(task(&format!("run-{run}"), json!({"operation": "sync"}))).await;
        // Not to wait for anything, but to be killed at another point each time.
        tokio::time::sleep(Duration::from_millis(150 * (run + 1))).await;
        controller.restart();
    }
    for run in 0..runs {
        let name = format!("run-{run}");
        let made = home.get::<FleetTask>(FLEET, &name).await;
        for number in [1, 2] {
            let child = child(number, &child_name(&made, &format!("dc{number}"))).await;
            finish_task(fleet.dp(number), &child).await;
        }
        assert_eq!(over(&fleet, &name).await.status.unwrap().run.done.as_deref(), Some("2/2"));
    }
    for number in [1, 2] {
        let all = fleet.dp(number).list::<MedusaTask>(CASS).await;
        let uids: BTreeSet<String> =
            all.iter().map(|t| t.labels()["fleet.k8ssandra.io/job-uid"].clone()).collect();
        let count = usize::try_from(runs).unwrap();
        assert_eq!((all.len(), uids.len()), (count + 2, count + 1), "a child was lost or doubled");
    }
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn success_is_never_read_from_the_finish_time_and_garbage_and_strangers_are_survived() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    let names = ["all", "some", "short", "odd", "taken", "gone", "good", "late"];
    for name in names {
        there.create(datacenter(name, "shop", 2)).await;
    }
    controller.kill9();
    let made = home.create(task("verdicts", json!({"operation": "sync"}))).await;
    let name = |dc: &str| child_name(&made, dc);
    let foreign = there
        .create(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaTask",
            "metadata": {"name": name("taken"), "namespace": CASS},
            "spec": {"cassandraDatacenter": "taken", "operation": "sync"},
        }))
        .await;
    controller.start();
    expect_entry(&fleet, "verdicts", "taken", Phase::Failed, "NameConflict").await;
    for dc in names.iter().filter(|dc| **dc != "taken") {
        there.appears::<MedusaTask>(CASS, &name(dc)).await;
    }
    let at = &made.metadata.creation_timestamp;
    let end = async |dc: &str, finished: Value, failed: &[String]| {
        let status = json!({"startTime": at, "finishTime": at, "finished": finished, "failed": failed});
        there.patch_status::<MedusaTask>(CASS, &name(dc), status).await;
    };
    // As k8ssandra-operator ends a task when no pod answered: with a finishTime and nothing else.
    end("all", json!([]), &[]).await;
    end("some", json!([{"podName": "a"}]), &node_names("some", 1)).await;
    end("short", json!([{}, {}]), &[]).await;
    let odd = json!([{"podName": "", "nbBackupsPurged": -1, "totalPurgedSize": i64::MIN}, {"podName": "é"}]);
    end("odd", odd, &[]).await;
    end("good", json!([{"podName": "a"}]), &[]).await;
    expect_entry(&fleet, "verdicts", "gone", Phase::Running, "JobCreated").await;
    there.delete::<MedusaTask>(CASS, &name("gone")).await;
    let failed = [("all", "TaskIncomplete"), ("some", "NodesFailed"), ("short", "TaskIncomplete")];
    for (dc, reason) in failed {
        expect_entry(&fleet, "verdicts", dc, Phase::Failed, reason).await;
    }
    expect_entry(&fleet, "verdicts", "good", Phase::Succeeded, "Succeeded").await;
    expect_entry(&fleet, "verdicts", "odd", Phase::Succeeded, "Succeeded").await;

    // The spec stays as it is but for `cancel`, which takes back what nobody began with.
    let refused = home
        .api::<FleetTask>(FLEET)
        .patch(
            "verdicts",
            &kube::api::PatchParams::default(),
            &kube::api::Patch::Merge(json!({"spec": {"operation": "purge"}})),
        )
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("only cancelled"), "{refused}");
    home.patch::<FleetTask>(FLEET, "verdicts", json!({"spec": {"cancel": true}})).await;
    expect_entry(&fleet, "verdicts", "late", Phase::Cancelled, "Cancelled").await;
    assert!(there.find::<MedusaTask>(CASS, &name("late")).await.is_none(), "nobody began with it");
    let status = over(&fleet, "verdicts").await.status.unwrap();
    let (state, reason, message) = condition(&status.run.conditions, "Complete");
    assert_eq!((state.as_str(), reason.as_str()), ("False", "Cancelled"), "{message}");
    let gone = status.datacenters.iter().find(|e| e.run.datacenter == "gone").unwrap();
    assert_eq!(gone.run.reason.as_deref(), Some("JobDeleted"));
    let now: MedusaTask = there.get(CASS, &name("taken")).await;
    assert_eq!(foreign.resource_version(), now.resource_version(), "a foreign task was written to");
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_task_is_not_started_until_it_is_let_go() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    there.create(datacenter("dc1", "shop", 1)).await;
    let mut held = task("held", json!({"operation": "sync"}));
    held["metadata"]["finalizers"] = json!([labels::HELD]);
    let held = home.create(held).await;
    // One that was made after it is at work, and nobody has touched it.
    home.create(task("free", json!({"operation": "sync"}))).await;
    expect_entry(&fleet, "free", "dc1", Phase::Running, "JobCreated").await;
    assert_eq!(home.get::<FleetTask>(FLEET, "held").await.status, None);
    assert!(there.find::<MedusaTask>(CASS, &child_name(&held, "dc1")).await.is_none());

    home.patch::<FleetTask>(FLEET, "held", json!({"metadata": {"finalizers": null}})).await;
    expect_entry(&fleet, "held", "dc1", Phase::Running, "JobCreated").await;
    there.appears::<MedusaTask>(CASS, &child_name(&held, "dc1")).await;
    controller.assert_running();
}
