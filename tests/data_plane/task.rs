//! Purges and preparations that go well, and the page's scenario from six backup jobs to what a purge leaves.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use medusa_fleet::api::medusa::{MedusaTask, TaskOperation};
use serde_json::json;

use crate::{
    fake_medusa::{Call, Script},
    medusa_tasks::told,
    scripted_datacenter::ScriptedDatacenter,
};

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// U§9.1, Task: two datacenters in one data plane, `maxBackupCount` 1.
#[tokio::test(flavor = "multi_thread")]
async fn six_jobs_make_four_backups_of_which_a_purge_and_its_sync_leave_two() {
    let mut dc = ScriptedDatacenter::new(3, Script::default()).await;
    dc.add_datacenter("dc2", 3).await;
    let _data_plane = dc.data_plane().await;
    for job in ["dc1-1", "dc1-2", "dc1-3"] {
        dc.job(job, "dc1").await;
        dc.finished(job).await;
    }
    dc.job("dc2-1", "dc2").await;
    dc.finished("dc2-1").await;
    dc.peers[4].script(|s| s.fails = true);
    dc.job("dc2-bad", "dc2").await;
    dc.finished("dc2-bad").await;
    dc.peers[4].script(|s| *s = Script { refuses: true, ..Script::default() });
    dc.job("dc2-missing", "dc2").await;
    dc.finished("dc2-missing").await;
    assert_eq!(dc.jobs().await.len(), 6);
    assert_eq!(dc.backups().await, set(&["dc1-1", "dc1-2", "dc1-3", "dc2-1"]));

    dc.task_of("dc2", "sync-dc2", "sync", json!({})).await;
    dc.assert_task_succeeded("sync-dc2").await;
    assert_eq!(dc.backups().await.len(), 4, "nothing is made of jobs that failed");
    let labels = dc.backup("dc1-1").await.unwrap().metadata.labels.unwrap();
    assert_eq!(labels["fleet.k8ssandra.io/job"], "nightly");

    dc.storage.keep(1);
    let purged = dc.purge("purge-backups").await;
    assert_eq!(purged.finished.len(), 3);
    assert_eq!(purged.finished[0].nb_backups_purged, Some(2));
    let sync = dc.assert_task_succeeded("purge-backups-sync").await;
    assert_eq!(sync.finished.len(), 1);
    let task = dc.get::<MedusaTask>("purge-backups-sync").await;
    assert_eq!(task.spec.operation, TaskOperation::Sync);
    let labels: Vec<String> = task.metadata.labels.unwrap().into_keys().collect();
    let own = ["cassandra.datastax.com/cluster", "cassandra.datastax.com/datacenter"];
    assert_eq!(labels, own, "whoever tracks objects by a label would take the sync for its own");
    assert_eq!(task.metadata.owner_references.unwrap()[0].name, "dc1");
    assert_eq!(dc.backups().await, set(&["dc1-3", "dc2-1"]));
    assert_eq!(dc.jobs().await, set(&["dc1-3", "dc2-1", "dc2-bad", "dc2-missing"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_tells_what_each_pod_has_purged() {
    let dc = ScriptedDatacenter::new(3, Script::default()).await;
    ["b1", "b2", "b3", "b4"].iter().for_each(|b| dc.stored(b));
    dc.storage.keep(1);
    let _data_plane = dc.data_plane().await;
    dc.purge("p").await;
    let status = dc.assert_task_succeeded("p").await;
    let pods: Vec<_> = status.finished.iter().map(|f| f.pod_name.as_deref().unwrap()).collect();
    assert_eq!(pods, ["shop-dc1-default-sts-0", "shop-dc1-default-sts-1", "shop-dc1-default-sts-2"]);
    for pod in &status.finished {
        assert_eq!(pod.nb_backups_purged, Some(3));
        assert_eq!(pod.nb_objects_purged, Some(21));
        assert_eq!(pod.total_purged_size, Some(13_056));
        assert_eq!(pod.total_objects_within_gc_grace, Some(6));
    }
    assert!(told(&status).contains("`p-sync`"), "{}", told(&status));
    dc.event("p", "Running").await;
    dc.event("p", "Succeeded").await;
    let task = dc.get::<MedusaTask>("p").await;
    let owner = &task.metadata.owner_references.unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.controller), ("CassandraDatacenter", None));
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_pods_purge_at_once_in_few_writes() {
    let purge = Call { takes: Duration::from_millis(1500), ..Call::default() };
    let dc = ScriptedDatacenter::new(30, Script { purge, ..Script::default() }).await;
    dc.stored("b1");
    let data_plane = dc.data_plane().await;
    let begun = Instant::now();
    dc.purge("p").await;
    println!("30 pods: {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(15), "one after the other they take 45 s");
    let writes = data_plane.gate.writes();
    let own = writes.iter().filter(|w| w.ends_with("/p") || w.ends_with("/p/status")).count();
    assert!(own <= 6, "{writes:#?}");
    assert_eq!(dc.called("PurgeBackups"), 30);
    dc.assert_task_succeeded("p").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pod_is_prepared_for_a_restore() {
    let dc = ScriptedDatacenter::new(3, Script::default()).await;
    dc.stored("b1");
    dc.patch_datacenter(json!({"spec": {"datacenterName": "Real"}})).await;
    let _data_plane = dc.data_plane().await;
    dc.task("r", "prepare_restore", json!({"backupName": "b1", "restoreKey": "k-1"})).await;
    let status = dc.assert_task_succeeded("r").await;
    assert_eq!(status.finished.len(), 3);
    assert!(status.finished.iter().all(|f| f.nb_backups_purged.is_none()));
    let expected = ("b1".to_owned(), "Real".to_owned(), "k-1".to_owned());
    assert!(dc.peers.iter().all(|p| p.prepared() == [expected.clone()]));
    assert!(dc.find::<MedusaTask>("r-sync").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_task_is_never_run_again() {
    let dc = ScriptedDatacenter::new(2, Script::default()).await;
    dc.stored("b1");
    let first = dc.data_plane().await;
    dc.purge("p").await;
    dc.task_finished("p-sync").await;
    let before = (dc.task_status("p").await, dc.called("PurgeBackups"), dc.called("GetBackups"));
    first.kill();
    dc.storage.clear();
    let second = dc.data_plane().await;
    // A task made later is done, so the earlier ones have been seen.
    dc.task("later", "purge", json!({})).await;
    dc.task_finished("later").await;
    assert_eq!(dc.task_status("p").await, before.0);
    assert_eq!(dc.called("PurgeBackups"), before.1 + 2);
    let writes = second.gate.writes();
    assert!(!writes.iter().any(|w| w.contains("/medusatasks/p")), "{writes:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_of_a_name_that_was_used_before_has_a_sync_of_its_own() {
    let dc = ScriptedDatacenter::new(1, Script::default()).await;
    dc.stored("b1");
    dc.stored("b2");
    let _data_plane = dc.data_plane().await;
    dc.purge("p").await;
    dc.task_finished("p-sync").await;
    let uid = async || dc.get::<MedusaTask>("p-sync").await.metadata.uid;
    let first = uid().await;
    assert_eq!(dc.backups().await, set(&["b1", "b2"]));
    dc.delete::<MedusaTask>("p").await;
    dc.storage.keep(1);
    dc.purge("p").await;
    dc.assert_task_succeeded("p-sync").await;
    assert_ne!(first, uid().await);
    assert_eq!(dc.backups().await, set(&["b2"]));
}
