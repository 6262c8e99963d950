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

use crate::{fake_medusa::Script, shared_cluster::Definitions, world::World};

#[rstest]
#[case::sync("sync", "GetBackups")]
#[case::purge("purge", "PurgeBackups")]
#[tokio::test(flavor = "multi_thread")]
async fn a_datacenter_that_is_missing_or_stopped_is_waited_for(#[case] operation: &str, #[case] rpc: &str) {
    let world = World::new(1, Script::default()).await;
    let _data_plane = world.data_plane().await;
    world.delete::<CassandraDatacenter>("dc1").await;
    world.task("t", operation, json!({})).await;
    let message = world.task_waits("t", "DatacenterNotFound").await;
    assert!(message.contains("spec.cassandraDatacenter"), "{message}");
    let mut stopped = world.datacenter("dc1", 1);
    stopped["spec"]["stopped"] = json!(true);
    world.create::<CassandraDatacenter>(stopped).await;
    world.task_waits("t", "DatacenterStopped").await;
    assert_eq!(world.called(rpc), 0);
    world.patch_datacenter(json!({"spec": {"stopped": false}})).await;
    world.assert_task_succeeded("t").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datacenter_that_never_appears_fails_the_task() {
    let world = World::new(0, Script::default()).await;
    let _data_plane = world.data_plane_in_a_hurry().await;
    world.task_of("nowhere", "t", "purge", json!({})).await;
    let status = world.assert_task_failed("t", "DatacenterNotFound").await;
    assert!(status.start_time.is_none() && status.finished.is_empty());
    assert!(world.find::<MedusaTask>("t-sync").await.is_none(), "nothing was purged");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_pods_and_pods_without_medusa_fail_the_task() {
    let world = World::new(0, Script::default()).await;
    let _data_plane = world.data_plane_in_a_hurry().await;
    world.task("none", "sync", json!({})).await;
    world.assert_task_failed("none", "NoPods").await;
    world.create_pod("bare", &json!([{"name": "cassandra", "image": "none"}])).await;
    world.task("bare-sync", "sync", json!({})).await;
    world.task("bare-purge", "purge", json!({})).await;
    for task in ["bare-sync", "bare-purge"] {
        let status = world.assert_task_failed(task, "MedusaContainerMissing").await;
        assert_eq!(status.failed, ["bare"]);
    }
}

#[rstest]
#[case(json!({}), "spec.backupName")]
#[case(json!({"backupName": "b1"}), "spec.restoreKey")]
#[case(json!({"backupName": "b1", "restoreKey": "../../etc/x"}), "spec.restoreKey")]
#[tokio::test(flavor = "multi_thread")]
async fn preparing_a_restore_without_its_fields_fails_at_once(#[case] spec: Value, #[case] field: &str) {
    let world = World::new(1, Script::default()).await;
    world.stored("b1");
    let _data_plane = world.data_plane().await;
    world.task("r", "prepare_restore", spec).await;
    let status = world.assert_task_failed("r", "InvalidSpec").await;
    assert!(status.message.unwrap().starts_with(field));
    assert_eq!(world.called("PrepareRestore"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_waits_until_a_restore_and_a_backup_are_over() {
    let world = World::new(1, Script::default()).await;
    let restore = json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaRestoreJob",
        "metadata": {"name": "r"}, "spec": {"backup": "b1", "cassandraDatacenter": "dc1"}
    });
    world.create::<MedusaRestoreJob>(restore).await;
    // One that was begun long ago would give up at once.
    let running = json!({"restoreKey": "k", "startTime": clock::now()});
    world.patch_status::<MedusaRestoreJob>("r", running).await;
    world.peers[0].script(|s| s.done_after = std::time::Duration::from_secs(600));
    world.job("b1", "dc1").await;
    world.task("p", "purge", json!({})).await;
    // The restore waits for its backup, and so until this test ends it.
    let _data_plane = world.data_plane().await;
    let message = world.task_waits("p", "RestoreRunning").await;
    assert!(message.contains("MedusaRestoreJob `r`"), "{message}");
    world.patch_status::<MedusaRestoreJob>("r", json!({"finishTime": clock::now()})).await;
    let message = world.task_waits("p", "BackupRunning").await;
    assert!(message.contains("MedusaBackupJob `b1`"), "{message}");
    assert_eq!(world.called("PurgeBackups"), 0);
    world.delete::<MedusaBackupJob>("b1").await;
    world.assert_task_succeeded("p").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_keeps_the_follow_up_from_being_made_and_is_told() {
    let world = World::new(1, Script::default()).await;
    let _data_plane = world.data_plane().await;
    world.task_of("dc9", "p-sync", "sync", json!({})).await;
    world.task("p", "purge", json!({})).await;
    let status = world.assert_task_failed("p", "NameConflict").await;
    assert_eq!(status.finished.len(), 1, "the purge itself was done");
    assert!(status.message.unwrap().contains("create a sync"));
    let taken = world.get::<MedusaTask>("p-sync").await;
    assert_eq!(taken.spec.cassandra_datacenter, "dc9");
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_definitions_are_enough() {
    let world = World::under(Definitions::Upstream, 2, Script::default()).await;
    ["b1", "b2"].iter().for_each(|b| world.stored(b));
    world.storage.keep(1);
    let data_plane = world.data_plane_in_a_hurry().await;
    let sync = world.sync("s").await;
    assert!(sync.conditions.is_empty() && sync.message.is_none(), "{sync:?}");
    assert_eq!(world.backups().await.len(), 2);
    let purge = world.purge("p").await;
    assert_eq!(purge.finished.iter().map(|f| f.nb_backups_purged).collect::<Vec<_>>(), [Some(1), Some(1)]);
    world.task_finished("p-sync").await;
    assert_eq!(world.backups().await.len(), 1);
    world.peers[0].script(|s| s.purge.fails = usize::MAX);
    let failed = world.purge("q").await;
    assert_eq!(failed.failed, [world.peers[0].node.clone()]);
    assert!(!failed.conditions.is_true("Failed"));
    let before = data_plane.gate.writes().len();
    world.task_of("nowhere", "n", "sync", json!({})).await;
    world.task_finished("n").await;
    let writes: Vec<_> =
        data_plane.gate.writes().split_off(before).into_iter().filter(|w| w.ends_with("/n/status")).collect();
    assert!(writes.len() <= 2, "what the server drops is not written again and again: {writes:#?}");
}
