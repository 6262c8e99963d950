//! What a sync makes of the storage, and above all what it leaves alone.

use std::{collections::BTreeSet, time::Duration};

use medusa_fleet::api::medusa::{MedusaBackup, MedusaBackupJob};
use serde_json::json;

use crate::{
    fake_medusa::{
        Call, Script, Storage,
        proto::{BackupNode, BackupSummary, StatusType},
    },
    medusa_tasks::told,
    scripted_datacenter::ScriptedDatacenter,
    support::{eventually, like},
};

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A complete backup of one node of each of those datacenters.
fn planted(name: &str, datacenters: &[&str]) -> BackupSummary {
    let node = |dc: &&str| BackupNode {
        host: format!("far-{dc}-0"),
        tokens: vec![5],
        datacenter: (*dc).to_owned(),
        rack: "default".to_owned(),
    };
    let count = i32::try_from(datacenters.len()).unwrap();
    BackupSummary {
        backup_name: name.to_owned(),
        start_time: 1_700_000_000,
        finish_time: 1_700_000_060,
        total_nodes: count,
        finished_nodes: count,
        nodes: datacenters.iter().map(node).collect(),
        status: StatusType::Success.into(),
        backup_type: "full".to_owned(),
        total_size: 130_557,
        total_objects: 13,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_cluster_learns_of_every_backup_it_can_restore() {
    let dc = ScriptedDatacenter::new(3, Script::default()).await;
    dc.stored("b1");
    dc.storage.plant(planted("far", &["dc1"]));
    dc.storage.plant(planted("other", &["dc2"]));
    dc.storage.plant(planted("both", &["dc1", "dc2"]));
    dc.storage.plant(planted("Not_A_Name", &["dc1"]));
    dc.storage.plant(BackupSummary { status: StatusType::InProgress.into(), ..planted("half", &["dc1"]) });
    let data_plane = dc.data_plane().await;
    dc.sync("s").await;
    let status = dc.assert_task_succeeded("s").await;
    assert_eq!(status.finished.len(), 1);
    assert_eq!(status.finished[0].pod_name.as_deref(), Some("shop-dc1-default-sts-0"));
    assert_eq!(status.finished[0].nb_backups_purged, None);
    let told = told(&status);
    assert!(told.contains("3 created") && told.contains("Not_A_Name: not a name"), "{told}");

    assert_eq!(dc.backups().await, set(&["b1", "both", "far"]));
    let far = dc.backup("far").await.unwrap();
    let labels = far.metadata.labels.unwrap();
    assert_eq!(labels["cassandra.datastax.com/cluster"], "Shop");
    assert_eq!(labels["cassandra.datastax.com/datacenter"], "dc1");
    let spec = serde_json::to_value(&far.spec).unwrap();
    assert_eq!(spec, json!({"cassandraDatacenter": "dc1", "backupType": "full"}));
    let expected = json!({
        "startTime": "2023-11-14T22:13:20Z", "finishTime": "2023-11-14T22:14:20Z", "status": "SUCCESS",
        "totalNodes": 1, "finishedNodes": 1, "totalFiles": 13, "totalSize": "127.50 KB",
        "nodes": [{"host": "far-dc1-0", "tokens": [5], "datacenter": "dc1", "rack": "default"}]
    });
    assert_eq!(serde_json::to_value(&far.status).unwrap(), expected);
    assert_eq!(dc.backup("both").await.unwrap().status.unwrap().total_nodes, Some(1));

    let before = data_plane.gate.writes().len();
    dc.sync("again").await;
    let writes = data_plane.gate.writes().split_off(before);
    assert!(writes.iter().all(|w| w.contains("/medusatasks/")), "nothing was to do: {writes:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_lost_its_status_or_its_data_is_refreshed() {
    let dc = ScriptedDatacenter::new(2, Script::default()).await;
    dc.stored("b1");
    dc.stored("b2");
    dc.create::<MedusaBackup>(json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackup",
        "metadata": {"name": "b1"}, "spec": {"cassandraDatacenter": "dc1"}
    }))
    .await;
    let _data_plane = dc.data_plane().await;
    dc.sync("s").await;
    let status = dc.backup("b1").await.unwrap().status.unwrap();
    assert_eq!((status.status.as_deref(), status.total_files), (Some("SUCCESS"), Some(14)));
    assert_eq!(status.total_size.as_deref(), Some("8.50 KB"));
    // One node's part is purged: the backup is no longer whole.
    dc.storage.keep(1);
    dc.storage.purge(&dc.peers[0].node);
    dc.sync("t").await;
    let status = dc.backup("b1").await.unwrap().status.unwrap();
    assert_eq!((status.status.as_deref(), status.finished_nodes), (Some("IN_PROGRESS"), Some(1)));
    assert!(status.finish_time.is_some(), "its time stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_storage_deletes_nothing() {
    let dc = ScriptedDatacenter::new(2, Script::default()).await;
    let _data_plane = dc.data_plane().await;
    for job in ["b1", "b2"] {
        dc.job(job, "dc1").await;
        dc.finished(job).await;
    }
    dc.storage.clear();
    dc.sync("s").await;
    let status = dc.assert_task_failed("s", "BackupsNotListed").await;
    let message = status.message.unwrap();
    for part in ["no backup at all", "b1, b2", "check bucket and prefix", "kubectl delete medusabackup"] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(status.failed.len(), 1, "who reads only lists sees it too");
    assert_eq!(dc.backups().await, set(&["b1", "b2"]));
    assert_eq!(dc.jobs().await, set(&["b1", "b2"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_prefix_adds_and_deletes_nothing() {
    let dc = ScriptedDatacenter::new(2, Script::default()).await;
    dc.stored("b1");
    let _data_plane = dc.data_plane().await;
    dc.sync("s").await;
    dc.storage.clear();
    dc.storage.plant(planted("far", &["dc1"]));
    dc.sync("t").await;
    dc.assert_task_failed("t", "BackupsNotListed").await;
    assert_eq!(dc.backups().await, set(&["b1", "far"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_looks_elsewhere_deletes_nothing() {
    let mut dc = ScriptedDatacenter::new(1, Script::default()).await;
    // Asked first, as its name comes first.
    let elsewhere = Storage::new("dc1", vec!["shop-dc1-a".to_owned()]);
    dc.add_pod("shop-dc1-a", elsewhere.clone()).await;
    let here = &dc.peers[0].node;
    for backup in ["b1", "b2"] {
        dc.storage.begin(here, backup);
        dc.storage.finish(here, backup);
    }
    dc.peers[1].kill();
    let _data_plane = dc.data_plane().await;
    dc.sync("s").await;
    assert_eq!(dc.backups().await, set(&["b1", "b2"]));
    dc.peers[1].revive().await;
    elsewhere.begin("shop-dc1-a", "b1");
    elsewhere.finish("shop-dc1-a", "b1");
    let status = dc.sync("t").await;
    assert_eq!(status.finished[0].pod_name.as_deref(), Some("shop-dc1-a"));
    assert!(told(&status).contains("1 MedusaBackups not listed by shop-dc1-a"), "{}", told(&status));
    assert_eq!(dc.backups().await, set(&["b1", "b2"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_nobody_confirms_is_not_made() {
    let dc = ScriptedDatacenter::new(2, Script::default()).await;
    ["b1", "b2"].iter().for_each(|b| dc.stored(b));
    let _data_plane = dc.data_plane().await;
    dc.sync("s").await;
    dc.storage.keep(1);
    for peer in &dc.peers {
        dc.storage.purge(&peer.node);
    }
    // The first listing is answered late, the second by nobody.
    dc.peers[1].script(|s| s.list.fails = usize::MAX);
    dc.peers[0].script(|s| s.list.takes = Duration::from_millis(800));
    dc.task("t", "sync", json!({})).await;
    eventually("the first listing", async || like(dc.peers[0].called("GetBackups"), |n| *n == 2)).await;
    dc.peers[0].script(|s| s.list.fails = usize::MAX);
    let status = dc.assert_task_failed("t", "BackupsNotListed").await;
    assert!(status.message.unwrap().contains("no second listing"));
    assert_eq!(dc.backups().await, set(&["b1", "b2"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_appears_while_the_storage_is_listed_stays() {
    let dc = ScriptedDatacenter::new(1, Script::default()).await;
    dc.stored("b1");
    let _data_plane = dc.data_plane().await;
    dc.sync("s").await;
    dc.peers[0].script(|s| s.list = Call { takes: Duration::from_millis(1500), ..Call::default() });
    dc.task("t", "sync", json!({})).await;
    eventually("it is listed", async || like(dc.peers[0].called("GetBackups"), |n| *n == 2)).await;
    dc.create::<MedusaBackup>(json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackup",
        "metadata": {"name": "young"}, "spec": {"cassandraDatacenter": "dc1"}
    }))
    .await;
    dc.assert_task_succeeded("t").await;
    assert_eq!(dc.backups().await, set(&["b1", "young"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_way_another_datacenters_and_one_of_other_nodes_stay() {
    let dc = ScriptedDatacenter::new(1, Script::default()).await;
    dc.stored("b1");
    for (name, of) in [("gone", "dc1"), ("running", "dc1"), ("dc2s", "dc2"), ("foreign", "dc1")] {
        dc.create::<MedusaBackup>(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackup",
            "metadata": {"name": name}, "spec": {"cassandraDatacenter": of}
        }))
        .await;
    }
    let nodes = json!({"nodes": [{"host": "x", "datacenter": "dc2"}]});
    dc.patch_status::<MedusaBackup>("foreign", nodes).await;
    for job in ["running", "gone", "failed"] {
        dc.job(job, "dc1").await;
    }
    for job in ["gone", "failed"] {
        let finish = json!({"startTime": "2026-01-01T00:00:00Z", "finishTime": "2026-01-01T00:01:00Z"});
        dc.patch_status::<MedusaBackupJob>(job, finish).await;
    }
    // The running one's pod never says how far it is.
    let start = json!({"startTime": "2026-01-01T00:00:00Z", "inProgress": ["shop-dc1-default-sts-0"]});
    dc.patch_status::<MedusaBackupJob>("running", start).await;
    dc.peers[0].script(|s| s.status_hangs = usize::MAX);
    let timings = medusa_fleet::data_plane::Timings {
        run: Duration::from_secs(100_000_000),
        silence: Duration::from_secs(600),
        ..crate::scripted_datacenter::timings()
    };
    let _data_plane = dc.data_plane_with(crate::support::gate::Gate::default(), timings).await;
    dc.sync("s").await;
    assert_eq!(dc.backups().await, set(&["b1", "gone", "running", "dc2s", "foreign"]), "none is known yet");
    dc.sync("t").await;
    assert_eq!(dc.backups().await, set(&["b1", "running", "dc2s", "foreign"]));
    assert_eq!(dc.jobs().await, set(&["running", "failed"]), "the purged backup's finished job goes");
}
