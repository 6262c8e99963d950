//! Ending the data plane between any two of a task's writes leads to the same end as not ending it.

use std::time::Duration;

use kube::ResourceExt as _;
use medusa_fleet::api::medusa::{MedusaBackup, MedusaTask};
use rstest::rstest;
use serde_json::{Value, json};

use crate::{
    fake_medusa::{Call, Script},
    scripted_datacenter::{ScriptedDatacenter, timings},
    support::{
        eventually,
        gate::{Gate, Stop},
        like,
    },
};

/// Backups of three kinds: one to import, one to refresh, one that is gone with a job of its own.
async fn mixed_storage() -> ScriptedDatacenter {
    let dc = ScriptedDatacenter::new(3, Script::default()).await;
    ["new", "stale"].iter().for_each(|b| dc.stored(b));
    for name in ["stale", "gone"] {
        dc.create::<MedusaBackup>(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackup",
            "metadata": {"name": name}, "spec": {"cassandraDatacenter": "dc1"}
        }))
        .await;
    }
    dc.job("gone", "dc1").await;
    let over = json!({"finishTime": "2026-01-01T00:00:00Z"});
    dc.patch_status::<medusa_fleet::api::medusa::MedusaBackupJob>("gone", over).await;
    dc
}

async fn purgeable_storage() -> ScriptedDatacenter {
    let dc = ScriptedDatacenter::new(3, Script::default()).await;
    ["b1", "b2"].iter().for_each(|b| dc.stored(b));
    dc.storage.keep(1);
    let data_plane = dc.data_plane().await;
    dc.sync("before").await;
    data_plane.kill();
    dc
}

/// What remains, without what differs from run to run.
async fn end_state(dc: &ScriptedDatacenter) -> Value {
    let mut tasks = Vec::new();
    for task in dc.list::<MedusaTask>().await {
        let name = task.name_any();
        let mut status = serde_json::to_value(dc.task_finished(&name).await).unwrap();
        for field in ["startTime", "finishTime"] {
            assert!(status[field].is_string(), "{status}");
            status[field] = json!("set");
        }
        for condition in status["conditions"].as_array_mut().unwrap() {
            condition["lastTransitionTime"] = json!("set");
            // A sync taken over finds a part of its work done; what it says of itself differs.
            condition["message"] = json!("set");
        }
        for pod in status["finished"].as_array_mut().into_iter().flatten() {
            // A pod that purged before the crash has nothing left to purge after it.
            for figure in
                ["nbBackupsPurged", "nbObjectsPurged", "totalPurgedSize", "totalObjectsWithinGcGrace"]
            {
                if !pod[figure].is_null() {
                    pod[figure] = json!("set");
                }
            }
        }
        let meta = json!({"labels": task.labels(), "owners": task.owner_references().len()});
        tasks.push(json!({"name": name, "meta": meta, "spec": task.spec, "status": status}));
    }
    let mut backups = Vec::new();
    for backup in dc.list::<MedusaBackup>().await {
        let mut status = serde_json::to_value(&backup.status).unwrap();
        for field in ["startTime", "finishTime"] {
            assert!(status[field].is_string(), "{status}");
            status[field] = json!("set");
        }
        backups.push(json!({
            "name": backup.name_any(), "labels": backup.labels(), "spec": backup.spec, "status": status
        }));
    }
    let prepared: Vec<bool> = dc.peers.iter().map(|p| !p.prepared().is_empty()).collect();
    json!({"tasks": tasks, "backups": backups, "jobs": dc.jobs().await, "prepared": prepared})
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Sync,
    Purge,
    Prepare,
}

impl Operation {
    async fn dc(self) -> ScriptedDatacenter {
        match self {
            Self::Sync => mixed_storage().await,
            Self::Purge | Self::Prepare => purgeable_storage().await,
        }
    }

    async fn begin(self, dc: &ScriptedDatacenter) {
        let (operation, more) = match self {
            Self::Sync => ("sync", json!({})),
            Self::Purge => ("purge", json!({})),
            Self::Prepare => ("prepare_restore", json!({"backupName": "b1", "restoreKey": "k"})),
        };
        dc.task("t", operation, more).await;
    }

    async fn finished(self, dc: &ScriptedDatacenter) {
        dc.task_finished("t").await;
        if matches!(self, Self::Purge) {
            dc.task_finished("t-sync").await;
        }
    }
}

async fn undisturbed(operation: Operation) -> (Value, Vec<String>) {
    let dc = operation.dc().await;
    let data_plane = dc.data_plane().await;
    operation.begin(&dc).await;
    operation.finished(&dc).await;
    (end_state(&dc).await, data_plane.gate.writes())
}

/// The writes: owner, claim, (creation, status, refreshment, job, MedusaBackup), end of a sync; owner, claim,
/// follow-up, end of a purge and claim, MedusaBackup, end of its follow-up; owner, claim, end of a preparation.
#[rstest]
#[case::sync(Operation::Sync, 8)]
#[case::purge(Operation::Purge, 7)]
#[case::prepare(Operation::Prepare, 3)]
#[tokio::test(flavor = "multi_thread")]
async fn a_task_killed_at_any_write_ends_as_if_undisturbed(
    #[case] operation: Operation,
    #[case] writes: usize,
    #[values(false, true)] answered: bool,
) {
    let (expected, seen) = undisturbed(operation).await;
    assert_eq!(seen.len(), writes, "every write has its turn: {seen:#?}");
    for write in 1..=writes {
        let dc = operation.dc().await;
        let stop = if answered { Stop::After(write) } else { Stop::Before(write) };
        let first = dc.data_plane_with(Gate::stopping(stop), timings()).await;
        operation.begin(&dc).await;
        first.gate.reached().await;
        first.kill();
        let _second = dc.data_plane().await;
        operation.finished(&dc).await;
        assert_eq!(end_state(&dc).await, expected, "{stop:?}: {}", seen[write - 1]);
        dc.disconnected().await;
    }
}

/// Upstream works in a goroutine that nobody takes over: the task stays in progress for ever (U§8.D.2).
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_killed_half_way_asks_only_those_that_had_not_answered() {
    let dc = ScriptedDatacenter::new(4, Script::default()).await;
    ["b1", "b2"].iter().for_each(|b| dc.stored(b));
    dc.storage.keep(1);
    dc.peers[2..].iter().for_each(|p| p.script(|s| s.purge.hangs = 1));
    let first = dc.data_plane().await;
    dc.task("p", "purge", json!({})).await;
    eventually("two are done", async || like(dc.task_status("p").await, |status| status.finished.len() == 2))
        .await;
    first.kill();
    let _second = dc.data_plane().await;
    let status = dc.assert_task_succeeded("p").await;
    assert!(status.finished.iter().all(|f| f.nb_backups_purged == Some(1)), "{status:?}");
    let called: Vec<usize> = dc.peers.iter().map(|p| p.called("PurgeBackups")).collect();
    assert_eq!(called, [1, 1, 2, 2]);
    dc.assert_task_succeeded("p-sync").await;
}

/// The claim holds every pod, so that none is forgotten that goes before the task is taken over.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_goes_after_the_claim_is_reported_by_whoever_takes_over() {
    let dc = ScriptedDatacenter::new(3, Script::default()).await;
    let first = dc.data_plane_with(Gate::stopping(Stop::After(2)), timings()).await;
    dc.task("p", "purge", json!({})).await;
    first.gate.reached().await;
    first.kill();
    let claimed = dc.task_status("p").await;
    assert!(claimed.start_time.is_some() && claimed.in_progress.len() == 3, "{claimed:?}");
    assert_eq!(dc.called("PurgeBackups"), 0, "nobody is asked before the claim");
    dc.delete_pod(&dc.peers[2].node).await;
    let _second = dc.data_plane().await;
    let status = dc.assert_task_failed("p", "PodGone").await;
    assert_eq!(status.failed, [dc.peers[2].node.clone()]);
    assert_eq!(status.finished.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_another_controller_left_in_the_middle_is_ended() {
    let dc = ScriptedDatacenter::new(3, Script::default()).await;
    ["b1", "b2"].iter().for_each(|b| dc.stored(b));
    dc.storage.keep(1);
    dc.task("p", "purge", json!({})).await;
    dc.task("s", "sync", json!({})).await;
    let left = json!({
        "startTime": "2026-01-01T00:00:00Z", "inProgress": [dc.peers[1].node, dc.peers[2].node],
        "finished": [{"podName": dc.peers[0].node, "nbBackupsPurged": 9}]
    });
    dc.patch_status::<MedusaTask>("p", left).await;
    let begun = json!({"startTime": "2026-01-01T00:00:00Z"});
    dc.patch_status::<MedusaTask>("s", begun).await;
    let timings = medusa_fleet::data_plane::Timings { run: Duration::from_secs(100_000_000), ..timings() };
    let _data_plane = dc.data_plane_with(Gate::default(), timings).await;
    let purge = dc.assert_task_succeeded("p").await;
    let figures: Vec<_> = purge.finished.iter().map(|f| f.nb_backups_purged).collect();
    assert_eq!(figures, [Some(9), Some(1), Some(1)]);
    assert_eq!(dc.peers[0].called("PurgeBackups"), 0);
    dc.assert_task_succeeded("s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_data_planes_at_once_end_a_purge_together() {
    let slow = Call { takes: Duration::from_millis(300), ..Call::default() };
    let dc = ScriptedDatacenter::new(5, Script { purge: slow, ..Script::default() }).await;
    ["b1", "b2"].iter().for_each(|b| dc.stored(b));
    dc.storage.keep(1);
    let _first = dc.data_plane().await;
    let _second = dc.data_plane().await;
    dc.task("p", "purge", json!({})).await;
    let status = dc.assert_task_succeeded("p").await;
    assert_eq!(status.finished.len(), 5);
    assert_eq!(dc.task_finished("p-sync").await.failed, Vec::<String>::new());
    assert_eq!(dc.backups().await.len(), 1);
}

/// The same with the program itself, its own deadlines and SIGKILL. Takes as long as a pod that was taken over
/// is left alone.
#[tokio::test(flavor = "multi_thread")]
async fn the_program_killed_while_pods_purge_asks_the_rest_again() {
    let dc = ScriptedDatacenter::new(6, Script::default()).await;
    ["b1", "b2"].iter().for_each(|b| dc.stored(b));
    dc.storage.keep(1);
    dc.peers[3..].iter().for_each(|p| p.script(|s| s.purge.hangs = 1));
    let first = dc.program();
    dc.task("p", "purge", json!({})).await;
    eventually("three are done", async || {
        like(dc.task_status("p").await, |status| status.finished.len() == 3)
    })
    .await;
    drop(first);
    let _second = dc.program();
    let called = || dc.peers.iter().map(|p| p.called("PurgeBackups")).collect::<Vec<_>>();
    eventually("the rest is asked again", async || like(called(), |called| called[3..] == [2, 2, 2])).await;
    let status = dc.assert_task_succeeded("p").await;
    assert_eq!(status.finished.len(), 6, "{status:?}");
    assert_eq!(called(), [1, 1, 1, 2, 2, 2]);
}
