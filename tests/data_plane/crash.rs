//! Ending the data plane between any two of its steps leads to the same end as not ending it.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{
    fake_medusa::Script,
    scripted_datacenter::{ScriptedDatacenter, timings},
    shared_cluster::Definitions,
    support::{
        eventually,
        gate::{Gate, Stop},
        like,
    },
};

static UNDISTURBED: OnceCell<Value> = OnceCell::const_new();

/// What remains of a backup, without what differs from run to run.
async fn end_state(dc: &ScriptedDatacenter) -> Value {
    let mut job = serde_json::to_value(dc.finished("b1").await).unwrap();
    for field in ["startTime", "finishTime"] {
        assert!(job[field].is_string(), "{job}");
        job[field] = json!("set");
    }
    for condition in job["conditions"].as_array_mut().unwrap() {
        condition["lastTransitionTime"] = json!("set");
    }
    let mut backup = serde_json::to_value(dc.backup("b1").await.unwrap()).unwrap();
    backup["metadata"] = json!({"labels": backup["metadata"]["labels"]});
    for field in ["startTime", "finishTime"] {
        assert!(backup["status"][field].is_string(), "{backup}");
        backup["status"][field] = json!("set");
    }
    json!({"job": job, "backup": backup, "starts": dc.starts()})
}

async fn undisturbed() -> Value {
    let dc = ScriptedDatacenter::new(3, Script::default()).await;
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    end_state(&dc).await
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_write_it_ends_as_if_undisturbed(
    #[values(1, 2, 3, 4, 5)] write: usize,
    #[values(false, true)] answered: bool,
) {
    let expected = UNDISTURBED.get_or_init(undisturbed).await;
    let dc = ScriptedDatacenter::new(3, Script::default()).await;
    let stop = if answered { Stop::After(write) } else { Stop::Before(write) };
    let first = dc.data_plane_with(Gate::stopping(stop), timings()).await;
    dc.job("b1", "dc1").await;
    first.gate.reached().await;
    first.kill();
    let _second = dc.data_plane().await;
    assert_eq!(end_state(&dc).await, *expected);
    dc.disconnected().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_definitions_are_enough_to_carry_a_run_over_a_restart() {
    let dc = ScriptedDatacenter::under(Definitions::Upstream, 3, Script::default()).await;
    dc.peers[1].script(|s| s.fails = true);
    let first = dc.data_plane_with(Gate::stopping(Stop::After(2)), timings()).await;
    dc.job("b1", "dc1").await;
    first.gate.reached().await;
    first.kill();
    let second = dc.data_plane_in_a_hurry().await;
    let status = dc.finished("b1").await;
    assert!(status.conditions.is_empty() && status.message.is_none(), "{status:?}");
    assert_eq!(status.failed, [dc.peers[1].node.clone()]);
    assert_eq!(status.finished.len(), 2);
    assert!(dc.backup("b1").await.is_none());
    assert!(dc.starts().values().all(|n| *n == 1));

    let before = second.gate.writes().len();
    dc.job("b2", "nowhere").await;
    dc.finished("b2").await;
    let writes = second.gate.writes().split_off(before);
    assert!(writes.len() <= 2, "what the server drops is not written again and again: {writes:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_starting_nodes_each_is_started_exactly_once() {
    let script = Script { visible_after: Duration::from_millis(500), ..Script::default() };
    let dc = ScriptedDatacenter::new(30, script).await;
    // Half of the nodes have been told, of five the answer is outstanding, the rest have not been told.
    dc.peers[10..15].iter().for_each(|p| p.script(|s| s.start_hangs = 1));
    dc.peers[15..].iter().for_each(|p| p.script(|s| s.status_hangs = 1));
    let first = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    eventually("the first half is started", async || {
        let starts: Vec<usize> = dc.peers[..15].iter().map(|peer| peer.starts()).collect();
        like(starts, |starts| starts.iter().all(|n| *n == 1))
    })
    .await;
    assert!(dc.peers[15..].iter().all(|p| p.starts() == 0));
    first.kill();
    let _second = dc.data_plane().await;
    assert_eq!(dc.finished("b1").await.finished.len(), 30);
    assert!(dc.starts().values().all(|n| *n == 1), "{:?}", dc.starts());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_data_planes_at_once_start_each_node_once() {
    let script = Script { visible_after: Duration::from_millis(300), ..Script::default() };
    let dc = ScriptedDatacenter::new(10, script).await;
    let _first = dc.data_plane().await;
    let _second = dc.data_plane().await;
    for job in ["b1", "b2", "b3"] {
        dc.job(job, "dc1").await;
    }
    for job in ["b1", "b2", "b3"] {
        let status = dc.finished(job).await;
        assert_eq!(status.finished.len(), 10, "{status:?}");
        assert!(dc.backup(job).await.is_some());
    }
    assert!(dc.starts().values().all(|n| *n == 3), "{:?}", dc.starts());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_another_controller_left_without_lists_is_taken_over_whole() {
    let dc = ScriptedDatacenter::new(3, Script::default()).await;
    dc.job("b1", "dc1").await;
    let status = json!({"startTime": "2026-01-01T00:00:00Z"});
    dc.patch_status::<medusa_fleet::api::medusa::MedusaBackupJob>("b1", status).await;
    let timings = medusa_fleet::data_plane::Timings { run: Duration::from_secs(100_000_000), ..timings() };
    let _data_plane = dc.data_plane_with(Gate::default(), timings).await;
    assert_eq!(dc.finished("b1").await.finished.len(), 3);
    assert!(dc.starts().values().all(|n| *n == 1));
}

/// The same with the program itself, its own deadlines and SIGKILL. Takes as long as a taken-over node
/// settles.
#[tokio::test(flavor = "multi_thread")]
async fn the_program_killed_while_starting_nodes_starts_each_exactly_once() {
    let script = Script { visible_after: Duration::from_secs(5), ..Script::default() };
    let dc = ScriptedDatacenter::new(30, script).await;
    dc.peers[15..].iter().for_each(|p| p.script(|s| s.status_hangs = 1));
    let first = dc.program();
    dc.job("b1", "dc1").await;
    eventually("the first half is started", async || {
        let starts: Vec<usize> = dc.peers[..15].iter().map(|peer| peer.starts()).collect();
        like(starts, |starts| starts.iter().all(|n| *n == 1))
    })
    .await;
    drop(first);
    assert!(dc.peers[15..].iter().all(|p| p.starts() == 0));
    let _second = dc.program();
    eventually("the rest is started", async || {
        let starts: Vec<usize> = dc.peers[15..].iter().map(|peer| peer.starts()).collect();
        like(starts, |starts| starts.iter().all(|n| *n == 1))
    })
    .await;
    let status = dc.finished("b1").await;
    assert_eq!(status.finished.len(), 30, "{status:?}");
    assert!(dc.starts().values().all(|n| *n == 1), "{:?}", dc.starts());
}
