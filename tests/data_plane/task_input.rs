//! Tasks that cannot begin: each says why, and begins once it can.

use medusa_fleet::{
    api::{
        Conditions as _,
        cassandra::CassandraDatacenter,
        medusa::{MedusaBackupJob, MedusaRestoreJob, MedusaTask},
    },
    runtime::clock,
};
use rstest::rstest;
use serde_json::{Value, json};

use crate::{fake_medusa::Script, scripted_datacenter::ScriptedDatacenter, shared_cluster::Definitions};

#[rstest]
#[case::sync("sync", "GetBackups")]
#[case::purge("purge", "PurgeBackups")]
#[tokio::test(flavor = "multi_thread")]
async fn a_datacenter_that_is_missing_or_stopped_is_waited_for(#[case] operation: &str, #[case] rpc: &str) {
    let dc = ScriptedDatacenter::new(1, Script::default()).await;
    let _data_plane = dc.data_plane().await;
    dc.delete::<CassandraDatacenter>("dc1").await;
    dc.task("t", operation, json!({})).await;
    let message = dc.task_waits("t", "DatacenterNotFound").await;
    assert!(message.contains("spec.cassandraDatacenter"), "{message}");
    let mut stopped = dc.datacenter("dc1", 1);
    stopped["spec"]["stopped"] = json!(true);
    dc.create::<CassandraDatacenter>(stopped).await;
    dc.task_waits("t", "DatacenterStopped").await;
    assert_eq!(dc.called(rpc), 0);
    dc.patch_datacenter(json!({"spec": {"stopped": false}})).await;
    dc.assert_task_succeeded("t").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datacenter_that_never_appears_fails_the_task() {
    let dc = ScriptedDatacenter::new(0, Script::default()).await;
    let _data_plane = dc.data_plane_in_a_hurry().await;
    dc.task_of("nowhere", "t", "purge", json!({})).await;
    let status = dc.assert_task_failed("t", "DatacenterNotFound").await;
    assert!(status.start_time.is_none() && status.finished.is_empty());
    assert!(dc.find::<MedusaTask>("t-sync").await.is_none(), "nothing was purged");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_pods_and_pods_without_medusa_fail_the_task() {
    let dc = ScriptedDatacenter::new(0, Script::default()).await;
    let _data_plane = dc.data_plane_in_a_hurry().await;
    dc.task("none", "sync", json!({})).await;
    dc.assert_task_failed("none", "NoPods").await;
    dc.create_pod("bare", &json!([{"name": "cassandra", "image": "none"}])).await;
    dc.task("bare-sync", "sync", json!({})).await;
    dc.task("bare-purge", "purge", json!({})).await;
    for task in ["bare-sync", "bare-purge"] {
        let status = dc.assert_task_failed(task, "MedusaContainerMissing").await;
        assert_eq!(status.failed, ["bare"]);
    }
}

#[rstest]
#[case(json!({}), "spec.backupName")]
#[case(json!({"backupName": "b1"}), "spec.restoreKey")]
#[case(json!({"backupName": "b1", "restoreKey": "../../etc/x"}), "spec.restoreKey")]
#[tokio::test(flavor = "multi_thread")]
async fn preparing_a_restore_without_its_fields_fails_at_once(#[case] spec: Value, #[case] field: &str) {
    let dc = ScriptedDatacenter::new(1, Script::default()).await;
    dc.stored("b1");
    let _data_plane = dc.data_plane().await;
    dc.task("r", "prepare_restore", spec).await;
    let status = dc.assert_task_failed("r", "InvalidSpec").await;
    assert!(status.message.unwrap().starts_with(field));
    assert_eq!(dc.called("PrepareRestore"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_waits_until_a_restore_and_a_backup_are_over() {
    let dc = ScriptedDatacenter::new(1, Script::default()).await;
    let restore = json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaRestoreJob",
        "metadata": {"name": "r"}, "spec": {"backup": "b1", "cassandraDatacenter": "dc1"}
    });
    dc.create::<MedusaRestoreJob>(restore).await;
    // One that was begun long ago would give up at once.
    let running = json!({"restoreKey": "k", "startTime": clock::now()});
    dc.patch_status::<MedusaRestoreJob>("r", running).await;
    dc.peers[0].script(|s| s.done_after = std::time::Duration::from_secs(600));
    dc.job("b1", "dc1").await;
    dc.task("p", "purge", json!({})).await;
    // The restore waits for its backup, and so until this test ends it.
    let _data_plane = dc.data_plane().await;
    let message = dc.task_waits("p", "RestoreRunning").await;
    assert!(message.contains("MedusaRestoreJob `r`"), "{message}");
    dc.patch_status::<MedusaRestoreJob>("r", json!({"finishTime": clock::now()})).await;
    let message = dc.task_waits("p", "BackupRunning").await;
    assert!(message.contains("MedusaBackupJob `b1`"), "{message}");
    assert_eq!(dc.called("PurgeBackups"), 0);
    dc.delete::<MedusaBackupJob>("b1").await;
    dc.assert_task_succeeded("p").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_keeps_the_follow_up_from_being_made_and_is_told() {
    let dc = ScriptedDatacenter::new(1, Script::default()).await;
    let _data_plane = dc.data_plane().await;
    dc.task_of("dc9", "p-sync", "sync", json!({})).await;
    dc.task("p", "purge", json!({})).await;
    let status = dc.assert_task_failed("p", "NameConflict").await;
    assert_eq!(status.finished.len(), 1, "the purge itself was done");
    assert!(status.message.unwrap().contains("create a sync"));
    let taken = dc.get::<MedusaTask>("p-sync").await;
    assert_eq!(taken.spec.cassandra_datacenter, "dc9");
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_definitions_are_enough() {
    let dc = ScriptedDatacenter::under(Definitions::Upstream, 2, Script::default()).await;
    ["b1", "b2"].iter().for_each(|b| dc.stored(b));
    dc.storage.keep(1);
    let data_plane = dc.data_plane_in_a_hurry().await;
    let sync = dc.sync("s").await;
    assert!(sync.conditions.is_empty() && sync.message.is_none(), "{sync:?}");
    assert_eq!(dc.backups().await.len(), 2);
    let purge = dc.purge("p").await;
    assert_eq!(purge.finished.iter().map(|f| f.nb_backups_purged).collect::<Vec<_>>(), [Some(1), Some(1)]);
    dc.task_finished("p-sync").await;
    assert_eq!(dc.backups().await.len(), 1);
    dc.peers[0].script(|s| s.purge.fails = usize::MAX);
    let failed = dc.purge("q").await;
    assert_eq!(failed.failed, [dc.peers[0].node.clone()]);
    assert!(!failed.conditions.is_true("Failed"));
    let before = data_plane.gate.writes().len();
    dc.task_of("nowhere", "n", "sync", json!({})).await;
    dc.task_finished("n").await;
    let writes: Vec<_> =
        data_plane.gate.writes().split_off(before).into_iter().filter(|w| w.ends_with("/n/status")).collect();
    assert!(writes.len() <= 2, "what the server drops is not written again and again: {writes:#?}");
}
