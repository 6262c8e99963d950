//! Restores that go wrong half-way, or are called off: each ends with a reason and puts the datacenter back.

use std::time::Duration;

use medusa_fleet::{
    api::{Conditions as _, medusa::MedusaRestoreJobStatus},
    data_plane::Timings,
};
use rstest::rstest;
use serde_json::json;

use crate::{
    cass_operator::{Behaviour, SET},
    restorable_datacenter::{RestorableDatacenter, restore_timings},
    support::{eventually, gate::Gate, like},
};

async fn assert_failed(dc: &RestorableDatacenter, reason: &str) -> MedusaRestoreJobStatus {
    let status = dc.finished("r1").await;
    let failed = status.conditions.of_type("Failed").unwrap();
    assert_eq!((failed.status.as_str(), failed.reason.as_str()), ("True", reason), "{}", failed.message);
    assert!(!status.conditions.is_true("Complete"));
    assert_eq!(status.message.as_ref(), Some(&failed.message));
    dc.assert_clean().await;
    eventually("it is ready again", async || dc.ready().await).await;
    status
}

fn behave(dc: &RestorableDatacenter, pod: usize, behaviour: Behaviour) {
    dc.operator.script(|s| {
        s.pods.insert(format!("{SET}-{pod}"), behaviour);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datacenter_that_does_not_stop_is_let_go() {
    let dc = RestorableDatacenter::new(2).await;
    dc.operator.script(|s| s.never_stops = true);
    let _data_plane = dc.data_plane_in_a_hurry(|t| t.stop = Duration::from_secs(3)).await;
    dc.restore("r1", "b1").await;
    let status = assert_failed(&dc, "StopTimedOut").await;
    assert!(status.message.unwrap().contains(&format!("{SET}-0")));
    assert!(status.datacenter_stopped.is_none());
    assert!(dc.operator.volumes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_does_not_reach_the_statefulsets_starts_nothing() {
    let dc = RestorableDatacenter::new(2).await;
    dc.operator.script(|s| s.ignores_template = true);
    let _data_plane = dc.data_plane_in_a_hurry(|t| t.template = Duration::from_secs(3)).await;
    dc.restore("r1", "b1").await;
    let status = assert_failed(&dc, "UpdateTimedOut").await;
    assert!(status.message.unwrap().contains(SET));
    assert!(dc.operator.volumes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_found_nothing_to_restore_fails_the_restore() {
    let dc = RestorableDatacenter::new(2).await;
    behave(&dc, 1, Behaviour::Skips);
    let _data_plane = dc.data_plane().await;
    dc.restore("r1", "b1").await;
    let status = assert_failed(&dc, "RestoreSkipped").await;
    assert_eq!((status.finished, status.failed), (vec![format!("{SET}-0")], vec![format!("{SET}-1")]));
    let message = status.message.unwrap();
    assert!(message.contains("found no backup `b1`") && message.contains("restore again"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_keeps_failing_is_told_at_once_and_given_up_later() {
    let dc = RestorableDatacenter::new(2).await;
    behave(&dc, 1, Behaviour::Crashes(1));
    let _data_plane = dc.data_plane_in_a_hurry(|t| t.stall = Duration::from_secs(5)).await;
    dc.restore("r1", "b1").await;
    let message = eventually("it is told", async || {
        like(dc.status("r1").await.message.unwrap_or_default(), |m| m.contains("failed 2 times"))
    })
    .await;
    assert!(message.contains(&format!("{SET}-1")) && message.contains("no part of this backup"), "{message}");
    behave(&dc, 1, Behaviour::Crashes(6));
    let status = assert_failed(&dc, "NodesFailed").await;
    assert_eq!(status.failed, [format!("{SET}-1")]);
    assert!(status.message.unwrap().contains("kubectl logs"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_recovers_is_restored() {
    let dc = RestorableDatacenter::new(2).await;
    behave(&dc, 1, Behaviour::Crashes(1));
    let _data_plane = dc.data_plane().await;
    dc.restore("r1", "b1").await;
    eventually("it is told", async || like(dc.status("r1").await.message, Option::is_some)).await;
    behave(&dc, 1, Behaviour::Restores);
    let status = dc.finished("r1").await;
    assert!(status.conditions.is_true("Complete") && status.message.is_none(), "{status:#?}");
    dc.assert_restored("b1");
    dc.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_whose_record_cannot_be_read_is_not_called_a_success() {
    let dc = RestorableDatacenter::new(2).await;
    behave(&dc, 0, Behaviour::Mute);
    let _data_plane = dc.data_plane_in_a_hurry(|t| t.record = Duration::from_secs(3)).await;
    dc.restore("r1", "b1").await;
    let status = assert_failed(&dc, "RestoreUnconfirmed").await;
    assert_eq!((status.finished, status.failed), (vec![format!("{SET}-1")], vec![format!("{SET}-0")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_can_be_read_later_confirms() {
    let dc = RestorableDatacenter::new(1).await;
    behave(&dc, 0, Behaviour::Mute);
    let timings = Timings { record: Duration::from_secs(30), ..restore_timings() };
    let _data_plane = dc.scripted.data_plane_with(Gate::default(), timings).await;
    dc.restore("r1", "b1").await;
    eventually("it is told", async || like(dc.status("r1").await.message, Option::is_some)).await;
    let text = "[t] INFO: Finished restore of backup b1\n".to_owned();
    dc.operator.kubelet.write(&format!("{SET}-0"), |logs| logs.latest = Some(text));
    assert!(dc.finished("r1").await.conditions.is_true("Complete"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_permission_for_logs_the_missing_rule_is_named() {
    let dc = RestorableDatacenter::new(1).await;
    let _data_plane = dc.data_plane_without_logs().await;
    dc.restore("r1", "b1").await;
    let status = assert_failed(&dc, "RestoreUnconfirmed").await;
    assert!(status.message.unwrap().contains("`get` on `pods/log`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datacenter_that_does_not_become_ready_ends_the_restore() {
    let dc = RestorableDatacenter::new(1).await;
    dc.operator.script(|s| s.never_ready = true);
    let timings = Timings { stall: Duration::from_secs(2), ..restore_timings() };
    let _data_plane = dc.scripted.data_plane_with(Gate::default(), timings).await;
    dc.restore("r1", "b1").await;
    let status = dc.finished("r1").await;
    let failed = status.conditions.of_type("Failed").unwrap();
    assert_eq!(failed.reason, "DatacenterNotReady");
    assert!(failed.message.contains("Every pod restored"), "{}", failed.message);
    dc.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_never_ends_is_given_up() {
    let dc = RestorableDatacenter::new(1).await;
    behave(&dc, 0, Behaviour::Hangs);
    let timings = Timings { restore: Duration::from_secs(3), ..restore_timings() };
    let _data_plane = dc.scripted.data_plane_with(Gate::default(), timings).await;
    dc.restore("r1", "b1").await;
    dc.at_step("Starting").await;
    assert_failed(&dc, "DeadlineExceeded").await;
}

#[rstest]
#[case("Stopping")]
#[case("Preparing")]
#[case("Starting")]
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_job_puts_the_datacenter_back_at_every_step(#[case] step: &str) {
    let dc = RestorableDatacenter::new(2).await;
    dc.operator.script(|s| match step {
        "Stopping" => s.never_stops = true,
        "Preparing" => s.ignores_template = true,
        _ => s.pods = [(format!("{SET}-0"), Behaviour::Hangs)].into(),
    });
    let data_plane = dc.data_plane().await;
    dc.restore("r1", "b1").await;
    dc.at_step(step).await;
    dc.delete("r1").await;
    dc.gone("r1").await;
    dc.assert_clean().await;
    eventually("it is ready again", async || dc.ready().await).await;
    drop(data_plane);
    if step != "Starting" {
        assert!(dc.operator.volumes().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_deleted_while_nobody_looks_is_put_back_when_somebody_does() {
    let dc = RestorableDatacenter::new(1).await;
    dc.operator.script(|s| s.never_stops = true);
    let first = dc.data_plane().await;
    dc.restore("r1", "b1").await;
    dc.at_step("Stopping").await;
    first.kill();
    dc.delete("r1").await;
    let _second = dc.data_plane().await;
    dc.gone("r1").await;
    dc.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_deleted_before_anything_stopped_is_gone_at_once() {
    let dc = RestorableDatacenter::new(1).await;
    let _data_plane = dc.data_plane().await;
    dc.restore("r1", "nowhere").await;
    dc.reason("r1", "BackupNotFound").await;
    dc.delete("r1").await;
    dc.gone("r1").await;
    dc.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_somebody_undoes_is_done_again() {
    let dc = RestorableDatacenter::new(1).await;
    dc.operator.script(|s| s.ignores_template = true);
    let _data_plane = dc.data_plane().await;
    dc.restore("r1", "b1").await;
    dc.at_step("Preparing").await;
    dc.scripted.patch_datacenter(json!({"spec": {"stopped": false}})).await;
    eventually("it is stopped again", async || {
        like(dc.datacenter().await["spec"]["stopped"].clone(), |stopped| *stopped == true)
    })
    .await;
    dc.operator.script(|s| s.ignores_template = false);
    assert!(dc.finished("r1").await.conditions.is_true("Complete"));
    dc.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datacenter_written_anew_while_pods_restore_ends_the_restore() {
    let dc = RestorableDatacenter::new(1).await;
    let spec = dc.datacenter().await["spec"].clone();
    behave(&dc, 0, Behaviour::Hangs);
    let _data_plane = dc.data_plane().await;
    dc.restore("r1", "b1").await;
    dc.at_step("Starting").await;
    // As k8ssandra-operator does when the K8ssandraCluster changes.
    dc.scripted
        .patch_datacenter(json!({
            "metadata": {"annotations": {"fleet.k8ssandra.io/restore": null}},
            "spec": {"stopped": false, "podTemplateSpec": {"spec": {
                "initContainers": spec["podTemplateSpec"]["spec"]["initContainers"]
            }}}
        }))
        .await;
    assert_failed(&dc, "DatacenterChanged").await;
}
