//! Purges and preparations that go well, and the page's scenario from six backup jobs to what a purge leaves.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use medusa_fleet::api::medusa::{MedusaTask, TaskOperation};
use serde_json::json;

use crate::{
    fake_medusa::{Call, Script},
    task_world::told,
    world::World,
};

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// U§9.1, Task: two datacenters in one data plane, `maxBackupCount` 1.
#[tokio::test(flavor = "multi_thread")]
async fn six_jobs_make_four_backups_of_which_a_purge_and_its_sync_leave_two() {
    let mut world = World::new(3, Script::default()).await;
    world.add_datacenter("dc2", 3).await;
    let _data_plane = world.data_plane().await;
    for job in ["dc1-1", "dc1-2", "dc1-3"] {
        world.job(job, "dc1").await;
        world.finished(job).await;
    }
    world.job("dc2-1", "dc2").await;
    world.finished("dc2-1").await;
    world.peers[4].script(|s| s.fails = true);
    world.job("dc2-bad", "dc2").await;
    world.finished("dc2-bad").await;
    world.peers[4].script(|s| *s = Script { refuses: true, ..Script::default() });
    world.job("dc2-missing", "dc2").await;
    world.finished("dc2-missing").await;
    assert_eq!(world.jobs().await.len(), 6);
    assert_eq!(world.backups().await, set(&["dc1-1", "dc1-2", "dc1-3", "dc2-1"]));

    world.task_of("dc2", "sync-dc2", "sync", json!({})).await;
    world.assert_task_succeeded("sync-dc2").await;
    assert_eq!(world.backups().await.len(), 4, "nothing is made of jobs that failed");
    let labels = world.backup("dc1-1").await.unwrap().metadata.labels.unwrap();
    assert_eq!(labels["fleet.k8ssandra.io/job"], "nightly");

    world.storage.keep(1);
    let purged = world.purge("purge-backups").await;
    assert_eq!(purged.finished.len(), 3);
    assert_eq!(purged.finished[0].nb_backups_purged, Some(2));
    let sync = world.assert_task_succeeded("purge-backups-sync").await;
    assert_eq!(sync.finished.len(), 1);
    let task = world.get::<MedusaTask>("purge-backups-sync").await;
    assert_eq!(task.spec.operation, TaskOperation::Sync);
    let labels: Vec<String> = task.metadata.labels.unwrap().into_keys().collect();
    let own = ["cassandra.datastax.com/cluster", "cassandra.datastax.com/datacenter"];
    assert_eq!(labels, own, "whoever tracks objects by a label would take the sync for its own");
    assert_eq!(task.metadata.owner_references.unwrap()[0].name, "dc1");
    assert_eq!(world.backups().await, set(&["dc1-3", "dc2-1"]));
    assert_eq!(world.jobs().await, set(&["dc1-3", "dc2-1", "dc2-bad", "dc2-missing"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_tells_what_each_pod_has_purged() {
    let world = World::new(3, Script::default()).await;
    ["b1", "b2", "b3", "b4"].iter().for_each(|b| world.stored(b));
    world.storage.keep(1);
    let _data_plane = world.data_plane().await;
    world.purge("p").await;
    let status = world.assert_task_succeeded("p").await;
    let pods: Vec<_> = status.finished.iter().map(|f| f.pod_name.as_deref().unwrap()).collect();
    assert_eq!(pods, ["shop-dc1-default-sts-0", "shop-dc1-default-sts-1", "shop-dc1-default-sts-2"]);
    for pod in &status.finished {
        assert_eq!(pod.nb_backups_purged, Some(3));
        assert_eq!(pod.nb_objects_purged, Some(21));
        assert_eq!(pod.total_purged_size, Some(13_056));
        assert_eq!(pod.total_objects_within_gc_grace, Some(6));
    }
    assert!(told(&status).contains("`p-sync`"), "{}", told(&status));
    world.event("p", "Running").await;
    world.event("p", "Succeeded").await;
    let task = world.get::<MedusaTask>("p").await;
    let owner = &task.metadata.owner_references.unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.controller), ("CassandraDatacenter", None));
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_pods_purge_at_once_in_few_writes() {
    let purge = Call { takes: Duration::from_millis(1500), ..Call::default() };
    let world = World::new(30, Script { purge, ..Script::default() }).await;
    world.stored("b1");
    let data_plane = world.data_plane().await;
    let begun = Instant::now();
    world.purge("p").await;
    println!("30 pods: {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(15), "one after the other they take 45 s");
    let writes = data_plane.gate.writes();
    let own = writes.iter().filter(|w| w.ends_with("/p") || w.ends_with("/p/status")).count();
    assert!(own <= 6, "{writes:#?}");
    assert_eq!(world.called("PurgeBackups"), 30);
    world.assert_task_succeeded("p").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pod_is_prepared_for_a_restore() {
    let world = World::new(3, Script::default()).await;
    world.stored("b1");
    world.patch_datacenter(json!({"spec": {"datacenterName": "Real"}})).await;
    let _data_plane = world.data_plane().await;
    world.task("r", "prepare_restore", json!({"backupName": "b1", "restoreKey": "k-1"})).await;
    let status = world.assert_task_succeeded("r").await;
    assert_eq!(status.finished.len(), 3);
    assert!(status.finished.iter().all(|f| f.nb_backups_purged.is_none()));
    let expected = ("b1".to_owned(), "Real".to_owned(), "k-1".to_owned());
    assert!(world.peers.iter().all(|p| p.prepared() == [expected.clone()]));
    assert!(world.find::<MedusaTask>("r-sync").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_task_is_never_run_again() {
    let world = World::new(2, Script::default()).await;
    world.stored("b1");
    let first = world.data_plane().await;
    world.purge("p").await;
    world.task_finished("p-sync").await;
    let before = (world.task_status("p").await, world.called("PurgeBackups"), world.called("GetBackups"));
    first.kill();
    world.storage.clear();
    let second = world.data_plane().await;
    // A task made later is done, so the earlier ones have been seen.
    world.task("later", "purge", json!({})).await;
    world.task_finished("later").await;
    assert_eq!(world.task_status("p").await, before.0);
    assert_eq!(world.called("PurgeBackups"), before.1 + 2);
    let writes = second.gate.writes();
    assert!(!writes.iter().any(|w| w.contains("/medusatasks/p")), "{writes:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_of_a_name_that_was_used_before_has_a_sync_of_its_own() {
    let world = World::new(1, Script::default()).await;
    world.stored("b1");
    world.stored("b2");
    let _data_plane = world.data_plane().await;
    world.purge("p").await;
    world.task_finished("p-sync").await;
    let uid = async || world.get::<MedusaTask>("p-sync").await.metadata.uid;
    let first = uid().await;
    assert_eq!(world.backups().await, set(&["b1", "b2"]));
    world.delete::<MedusaTask>("p").await;
    world.storage.keep(1);
    world.purge("p").await;
    world.assert_task_succeeded("p-sync").await;
    assert_ne!(first, uid().await);
    assert_eq!(world.backups().await, set(&["b2"]));
}
