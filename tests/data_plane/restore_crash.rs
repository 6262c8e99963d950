//! Ending the data plane between any two writes of a restore leads to the same end as not ending it.

use medusa_fleet::api::Conditions as _;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{
    cass_operator::{Behaviour, SET},
    restorable_datacenter::{RestorableDatacenter, restore_timings},
    shared_cluster::Definitions,
    support::{
        eventually,
        gate::{Gate, Stop},
    },
};

/// Writes of a restore of two pods that are certain: owner, claim, finalizer, plan; stop, stopped, prepare,
/// start; pods; put back, back; two users; end, annotation, finalizer. Those that only say what is waited
/// for come on top.
const CERTAIN: usize = 16;

static UNDISTURBED: OnceCell<Value> = OnceCell::const_new();

/// What remains of a restore, without what differs from run to run.
async fn end_state(dc: &RestorableDatacenter) -> Value {
    let status = dc.finished("r1").await;
    dc.assert_clean().await;
    dc.assert_restored("b1");
    let mut status = serde_json::to_value(status).unwrap();
    for field in ["startTime", "finishTime", "datacenterStopped", "restoreKey"] {
        assert!(status[field].is_string(), "{status}");
        status[field] = json!("set");
    }
    for condition in status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
        condition["lastTransitionTime"] = json!("set");
    }
    status
}

async fn undisturbed() -> Value {
    let dc = RestorableDatacenter::new(2).await;
    let data_plane = dc.data_plane().await;
    dc.restore("r1", "b1").await;
    let end = end_state(&dc).await;
    let writes = data_plane.gate.writes();
    assert!(writes.len() >= CERTAIN, "{writes:#?}");
    assert!(writes.len() <= CERTAIN + 12, "{writes:#?}");
    end
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_write_it_ends_as_if_undisturbed(
    #[values(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)] write: usize,
    #[values(false, true)] answered: bool,
) {
    let expected = UNDISTURBED.get_or_init(undisturbed).await;
    let dc = RestorableDatacenter::new(2).await;
    let stop = if answered { Stop::After(write) } else { Stop::Before(write) };
    let first = dc.scripted.data_plane_with(Gate::stopping(stop), restore_timings()).await;
    dc.restore("r1", "b1").await;
    first.gate.reached().await;
    first.kill();
    let _second = dc.data_plane().await;
    assert_eq!(end_state(&dc).await, *expected);
    dc.scripted.disconnected().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn upstreams_definitions_are_enough_to_carry_a_restore_over_a_restart(
    #[values(5, 9, 12)] write: usize,
) {
    let dc = RestorableDatacenter::under(Definitions::Upstream, 2).await;
    let first = dc.scripted.data_plane_with(Gate::stopping(Stop::After(write)), restore_timings()).await;
    dc.restore("r1", "b1").await;
    first.gate.reached().await;
    first.kill();
    let _second = dc.data_plane().await;
    let end = end_state(&dc).await;
    assert!(end.get("conditions").is_none() && end.get("message").is_none(), "{end}");
    assert_eq!(end["finished"].as_array().unwrap().len(), 2);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_survives_a_restart_with_its_reason(#[values(6, 9, 11, 12, 13, 14)] write: usize) {
    let dc = RestorableDatacenter::new(1).await;
    dc.operator.script(|s| s.pods = [(format!("{SET}-0"), Behaviour::Skips)].into());
    let first = dc.scripted.data_plane_with(Gate::stopping(Stop::After(write)), restore_timings()).await;
    dc.restore("r1", "b1").await;
    first.gate.reached().await;
    first.kill();
    let _second = dc.data_plane().await;
    let status = dc.finished("r1").await;
    assert_eq!(status.conditions.of_type("Failed").unwrap().reason, "RestoreSkipped");
    assert_eq!(status.failed, [format!("{SET}-0")]);
    dc.assert_clean().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_restore_is_put_back_over_a_restart(
    #[values(1, 2, 3, 4, 5)] write: usize,
    #[values(false, true)] answered: bool,
) {
    let dc = RestorableDatacenter::new(1).await;
    dc.operator.script(|s| s.pods = [(format!("{SET}-0"), Behaviour::Hangs)].into());
    let first = dc.data_plane().await;
    dc.restore("r1", "b1").await;
    dc.at_step("Starting").await;
    first.kill();
    dc.delete("r1").await;
    let stop = if answered { Stop::After(write) } else { Stop::Before(write) };
    let second = dc.scripted.data_plane_with(Gate::stopping(stop), restore_timings()).await;
    second.gate.reached().await;
    second.kill();
    let _third = dc.data_plane().await;
    dc.gone("r1").await;
    dc.assert_clean().await;
    eventually("it is ready again", async || dc.ready().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_data_planes_at_once_restore_once() {
    let dc = RestorableDatacenter::new(2).await;
    let _first = dc.data_plane().await;
    let _second = dc.data_plane().await;
    dc.restore("r1", "b1").await;
    let status = dc.finished("r1").await;
    assert!(status.conditions.is_true("Complete"), "{status:#?}");
    dc.assert_restored("b1");
    dc.assert_clean().await;
}
