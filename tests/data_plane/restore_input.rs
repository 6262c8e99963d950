//! Restores that cannot begin: each says why, and nothing stops.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use medusa_fleet::{
    api::{
        Conditions as _,
        medusa::{MedusaBackupJob, MedusaRestoreJobStatus},
    },
    data_plane::Timings,
};
use rstest::rstest;
use serde_json::{Value, json};

use crate::{
    restorable_datacenter::{RestorableDatacenter, restore_timings},
    support::{eventually, gate::Gate, like},
};

/// The job fails for that reason, its message mentions that, and nothing was touched.
async fn assert_refused(
    dc: &RestorableDatacenter,
    job: &str,
    reason: &str,
    mentions: &str,
) -> MedusaRestoreJobStatus {
    let status = dc.finished(job).await;
    let failed = status.conditions.of_type("Failed").unwrap();
    assert_eq!((failed.status.as_str(), failed.reason.as_str()), ("True", reason), "{}", failed.message);
    assert!(failed.message.contains(mentions), "{}", failed.message);
    assert!(failed.message.contains("Nothing was changed"), "{}", failed.message);
    assert_eq!(status.message.as_ref(), Some(&failed.message));
    assert!(status.start_time.is_some() && status.datacenter_stopped.is_none());
    dc.assert_untouched().await;
    dc.scripted.disconnected().await;
    status
}

#[rstest]
#[case::a_node_is_missing(json!({"finishedNodes": 1}), "BackupIncomplete", "1 of 2")]
#[case::never_finished(json!({"finishTime": null}), "BackupIncomplete", "without a finish time")]
#[case::in_progress(json!({"status": "IN_PROGRESS"}), "BackupIncomplete", "not SUCCESS")]
#[case::without_counts(json!({"totalNodes": null, "finishedNodes": null}), "BackupIncomplete", "0 of 0")]
#[case::another_datacenter(
    json!({"nodes": [{"host": "a", "datacenter": "dc9", "rack": "default"}, {"host": "b", "datacenter": "dc9", "rack": "default"}]}),
    "WrongDatacenter", "`dc9`"
)]
#[case::another_size(json!({"totalNodes": 3, "finishedNodes": 3}), "TopologyMismatch", "3 nodes")]
#[case::another_rack(
    json!({"nodes": [{"host": "a", "datacenter": "dc1", "rack": "r1"}, {"host": "b", "datacenter": "dc1", "rack": "r1"}]}),
    "TopologyMismatch", "`r1`"
)]
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_does_not_fit_is_refused_at_once(
    #[case] status: Value,
    #[case] reason: &str,
    #[case] mentions: &str,
) {
    let dc = RestorableDatacenter::new(2).await;
    dc.backup("b2", status).await;
    // Nothing to wait for: the budget must not matter.
    let timings = Timings { input: Duration::from_secs(3600), ..restore_timings() };
    let _data_plane = dc.scripted.data_plane_with(Gate::default(), timings).await;
    dc.restore("r1", "b2").await;
    assert_refused(&dc, "r1", reason, mentions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_purged_from_the_storage_is_refused_though_its_object_is_there() {
    let dc = RestorableDatacenter::new(2).await;
    dc.backup("purged", json!({})).await;
    let _data_plane = dc.data_plane().await;
    dc.restore("r1", "purged").await;
    assert_refused(&dc, "r1", "BackupNotFound", "sync").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_partly_purged_from_the_storage_is_refused() {
    let dc = RestorableDatacenter::new(2).await;
    dc.backup("half", json!({})).await;
    let node = dc.scripted.peers[0].node.clone();
    dc.scripted.storage.begin(&node, "half");
    dc.scripted.storage.finish(&node, "half");
    let _data_plane = dc.data_plane().await;
    dc.restore("r1", "half").await;
    assert_refused(&dc, "r1", "BackupIncomplete", "as Medusa reads it now").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_backup_is_waited_for_and_then_given_up() {
    let dc = RestorableDatacenter::new(1).await;
    let _data_plane = dc.data_plane_in_a_hurry(|t| t.input = Duration::from_secs(4)).await;
    dc.restore("r1", "nowhere").await;
    let message = dc.reason("r1", "BackupNotFound").await;
    assert!(message.contains("spec.backup") && message.contains("`nowhere`"), "{message}");
    assert!(dc.status("r1").await.finish_time.is_none());
    assert_refused(&dc, "r1", "BackupNotFound", "spec.backup").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_appears_in_time_is_restored() {
    let dc = RestorableDatacenter::new(1).await;
    let _data_plane = dc.data_plane().await;
    dc.restore("r1", "b2").await;
    dc.reason("r1", "BackupNotFound").await;
    let node = dc.scripted.peers[0].node.clone();
    dc.scripted.storage.begin(&node, "b2");
    dc.scripted.storage.finish(&node, "b2");
    dc.backup("b2", json!({})).await;
    let status = dc.finished("r1").await;
    assert!(status.conditions.is_true("Complete") && status.message.is_none(), "{status:#?}");
    dc.assert_restored("b2");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_datacenter_is_named() {
    let dc = RestorableDatacenter::new(1).await;
    let _data_plane = dc.data_plane_in_a_hurry(|t| t.input = Duration::from_secs(4)).await;
    dc.scripted
        .create::<medusa_fleet::api::medusa::MedusaRestoreJob>(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaRestoreJob",
            "metadata": {"name": "r1"}, "spec": {"cassandraDatacenter": "nowhere", "backup": "b1"}
        }))
        .await;
    assert_refused(&dc, "r1", "DatacenterNotFound", "spec.cassandraDatacenter").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_template_without_the_restore_container_is_refused() {
    let dc = RestorableDatacenter::new(1).await;
    dc.scripted
        .patch_datacenter(json!({"spec": {"podTemplateSpec": {"spec": {"initContainers": [
            {"name": "other", "image": "none"}
        ]}}}}))
        .await;
    let _data_plane = dc.data_plane_in_a_hurry(|t| t.input = Duration::from_secs(4)).await;
    dc.restore("r1", "b1").await;
    let status = dc.finished("r1").await;
    assert_eq!(status.conditions.of_type("Failed").unwrap().reason, "RestoreContainerMissing");
    assert!(dc.operator.volumes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_credentials_are_waited_for() {
    let dc = RestorableDatacenter::new(1).await;
    dc.scripted.delete::<Secret>("bucket").await;
    let _data_plane = dc.data_plane().await;
    dc.restore("r1", "b1").await;
    let message = dc.reason("r1", "SecretNotFound").await;
    assert!(message.contains("`bucket`"), "{message}");
    let secret = |key: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bucket"}, "stringData": {key: "hush"}
        })
    };
    dc.scripted.create::<Secret>(secret("wrong")).await;
    let message = dc.reason("r1", "SecretKeyMissing").await;
    assert!(message.contains("`credentials`") && !message.contains("hush"), "{message}");
    dc.scripted.patch::<Secret>("bucket", json!({"stringData": {"credentials": "hush"}})).await;
    assert!(dc.finished("r1").await.conditions.is_true("Complete"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_backup_is_waited_for() {
    let dc = RestorableDatacenter::new(1).await;
    dc.scripted.peers[0].script(|s| s.done_after = Duration::from_secs(3));
    let _data_plane = dc.data_plane().await;
    dc.scripted.job("night", "dc1").await;
    eventually("the backup runs", async || {
        like(dc.scripted.status("night").await, |status| status.start_time.is_some())
    })
    .await;
    dc.restore("r1", "b1").await;
    let message = dc.reason("r1", "BackupRunning").await;
    assert!(message.contains("`night`"), "{message}");
    let status = dc.finished("r1").await;
    assert!(status.conditions.is_true("Complete"), "{status:#?}");
    let backup = dc.scripted.get::<MedusaBackupJob>("night").await.status.unwrap();
    // Kubernetes stores whole seconds.
    assert!(backup.finish_time <= status.datacenter_stopped, "{backup:?} {status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datacenter_whose_medusas_do_not_answer_is_not_stopped() {
    let dc = RestorableDatacenter::new(2).await;
    dc.scripted.peers.iter().for_each(|p| p.script(|s| s.summary_hangs = 100));
    let _data_plane = dc.data_plane_in_a_hurry(|t| t.input = Duration::from_secs(4)).await;
    dc.restore("r1", "b1").await;
    assert_refused(&dc, "r1", "NodeUnreachable", "GetBackup").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_medusa_that_answers_is_enough() {
    let dc = RestorableDatacenter::new(2).await;
    dc.scripted.peers[0].script(|s| s.summary_hangs = 100);
    let _data_plane = dc.data_plane().await;
    dc.restore("r1", "b1").await;
    assert!(dc.finished("r1").await.conditions.is_true("Complete"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_left_alone_for_long_before_anything_stopped_is_not_begun_any_more() {
    let dc = RestorableDatacenter::new(1).await;
    dc.restore("r1", "b1").await;
    let status = json!({"restoreKey": "k", "restorePrepared": false, "startTime": "2026-01-01T00:00:00Z"});
    dc.scripted.patch_status::<medusa_fleet::api::medusa::MedusaRestoreJob>("r1", status).await;
    let _data_plane = dc.data_plane().await;
    let status = dc.finished("r1").await;
    assert_eq!(status.conditions.of_type("Failed").unwrap().reason, "DeadlineExceeded");
    dc.assert_untouched().await;
}
