//! What a good backup looks like from outside, and what it costs.

use std::time::{Duration, Instant};

use medusa_fleet::api::{Conditions as _, medusa::MedusaBackupJob};
use serde_json::json;

use crate::{
    fake_medusa::Script,
    scripted_datacenter::ScriptedDatacenter,
    support::{eventually, like},
};

#[tokio::test(flavor = "multi_thread")]
async fn thirty_pods_are_backed_up_at_once_in_few_writes_and_no_connection_stays() {
    let dc = ScriptedDatacenter::new(30, Script::default()).await;
    let data_plane = dc.data_plane().await;
    dc.job("warm", "dc1").await;
    dc.finished("warm").await;
    let before = data_plane.gate.writes().len();

    let begun = Instant::now();
    dc.job("b1", "dc1").await;
    let status = dc.finished("b1").await;
    let took = begun.elapsed();
    let writes = data_plane.gate.writes().split_off(before);
    println!("30 pods: {took:?} from creation to finishTime, {} writes: {writes:#?}", writes.len());

    assert_eq!(status.finished.len(), 30);
    assert!(status.in_progress.is_empty() && status.failed.is_empty());
    assert!(status.conditions.is_true("Complete") && !status.conditions.is_true("Failed"));
    assert!(writes.len() <= 8, "{writes:#?}");
    assert!(writes.last().unwrap().ends_with("/medusabackupjobs/b1/status"), "finishTime is the last write");
    assert!(dc.starts().values().all(|n| *n == 2), "one for each of the two jobs");
    dc.disconnected().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_backups_of_thirty_pods_at_once_leave_no_connection_behind() {
    let dc = ScriptedDatacenter::new(30, Script::default()).await;
    let program = dc.program();
    dc.job("warm", "dc1").await;
    dc.finished("warm").await;
    println!("after one backup: {:.0} MiB", program.memory("VmRSS").unwrap());
    for round in 0..2 {
        let begun = Instant::now();
        let names: Vec<String> = (0..50).map(|i| format!("b{round}-{i}")).collect();
        for name in &names {
            dc.job(name, "dc1").await;
        }
        for name in &names {
            let status = dc.finished(name).await;
            assert_eq!(status.finished.len(), 30, "{status:?}");
        }
        let took = begun.elapsed();
        dc.disconnected().await;
        println!("50 backups of 30 pods: {took:?}, {:.0} MiB", program.memory("VmRSS").unwrap());
    }
    assert!(dc.starts().values().all(|n| *n == 101));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_medusabackup_says_what_medusa_says_and_whose_it_is() {
    let dc = ScriptedDatacenter::new(3, Script::default()).await;
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    let job = dc.finished("b1").await;

    let backup = dc.backup("b1").await.unwrap();
    let labels = backup.metadata.labels.clone().unwrap();
    assert_eq!(labels["cassandra.datastax.com/cluster"], "Shop");
    assert_eq!(labels["cassandra.datastax.com/datacenter"], "dc1");
    assert_eq!(labels["fleet.k8ssandra.io/job"], "nightly");
    assert_eq!(backup.spec.cassandra_datacenter, "dc1");
    let status = backup.status.unwrap();
    assert_eq!((status.total_nodes, status.finished_nodes), (Some(3), Some(3)));
    assert_eq!(status.status.as_deref(), Some("SUCCESS"));
    assert_eq!(status.total_files, Some(21));
    assert_eq!(status.total_size.as_deref(), Some("12.75 KB"));
    assert_eq!(status.start_time, job.start_time);
    assert!(status.finish_time.unwrap().0 >= job.start_time.unwrap().0);
    assert_eq!(status.nodes.len(), 3);
    assert_eq!(status.nodes[1].host.as_deref(), Some("shop-dc1-default-sts-1"));
    assert_eq!(status.nodes[1].datacenter.as_deref(), Some("dc1"));
    assert_eq!(status.nodes[1].rack.as_deref(), Some("default"));

    let owners = dc.get::<MedusaBackupJob>("b1").await.metadata.owner_references.unwrap();
    assert_eq!((owners[0].kind.as_str(), owners[0].name.as_str()), ("CassandraDatacenter", "dc1"));
    assert_eq!(owners[0].controller, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_start_and_the_end_are_told_as_events() {
    let dc = ScriptedDatacenter::new(1, Script::default()).await;
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    dc.finished("b1").await;
    for reason in ["Running", "Succeeded"] {
        dc.event("b1", reason).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_not_found_is_waited_out() {
    let script = Script {
        visible_after: Duration::from_millis(1500),
        done_after: Duration::from_millis(2500),
        ..Script::default()
    };
    let dc = ScriptedDatacenter::new(3, script).await;
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    let status = dc.finished("b1").await;
    assert_eq!(status.finished.len(), 3, "{status:?}");
    assert!(dc.starts().values().all(|n| *n == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_another_namespace_or_datacenter_is_not_touched() {
    let dc = ScriptedDatacenter::new(2, Script::default()).await;
    let other = ScriptedDatacenter::new(2, Script::default()).await;
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    dc.finished("b1").await;
    assert!(other.starts().values().all(|n| *n == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_summary_that_lags_behind_is_asked_for_again_of_another_node() {
    let dc = ScriptedDatacenter::new(3, Script::default()).await;
    dc.peers[0].script(|s| s.summary_hangs = 1);
    dc.peers[1].script(|s| s.summary_fails = 1);
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    dc.finished("b1").await;
    assert_eq!(dc.backup("b1").await.unwrap().status.unwrap().status.as_deref(), Some("SUCCESS"));
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_job_closes_its_connections() {
    let script = Script { done_after: Duration::from_secs(600), ..Script::default() };
    let dc = ScriptedDatacenter::new(3, script).await;
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    eventually("all are started", async || like(dc.starts(), |starts| starts.values().all(|n| *n == 1)))
        .await;
    dc.delete::<MedusaBackupJob>("b1").await;
    dc.disconnected().await;
    assert!(dc.backup("b1").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_job_goes_when_its_time_is_over_and_its_backup_stays() {
    let dc = ScriptedDatacenter::new(1, Script::default()).await;
    let data_plane = dc.data_plane().await;
    for (name, ttl) in [("short", 0), ("long", 3600)] {
        dc.create::<MedusaBackupJob>(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackupJob",
            "metadata": {"name": name},
            "spec": {"cassandraDatacenter": "dc1", "ttlSecondsAfterFinished": ttl}
        }))
        .await;
    }
    dc.finished("long").await;
    dc.cluster.disappears::<MedusaBackupJob>(&dc.ns, "short").await;
    let status = dc.backup("short").await.unwrap().status.unwrap();
    assert_eq!(status.status.as_deref(), Some("SUCCESS"));

    // A job that ended under another process is taken up by its finish time alone.
    data_plane.kill();
    let _data_plane = dc.data_plane().await;
    dc.patch::<MedusaBackupJob>("long", json!({"spec": {"ttlSecondsAfterFinished": 0}})).await;
    dc.cluster.disappears::<MedusaBackupJob>(&dc.ns, "long").await;
    assert!(dc.backup("long").await.is_some());
}
