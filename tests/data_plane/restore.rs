//! Restores that end well, and what they leave behind.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use medusa_fleet::api::{Conditions as _, medusa::MedusaRestoreJob};
use serde_json::{Value, json};

use crate::{
    cass_operator::{Behaviour, SET},
    fake_medusa::proto::{BackupNode, BackupSummary, StatusType},
    restorable_datacenter::RestorableDatacenter,
    shared_cluster::Definitions,
    support::{eventually, like},
};

fn pods(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("{SET}-{i}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_restored_and_the_datacenter_left_as_it_was() {
    let dc = RestorableDatacenter::new(3).await;
    let _data_plane = dc.data_plane().await;
    let job = dc.restore("r1", "b1").await;
    let status = dc.finished("r1").await;
    assert!(status.conditions.is_true("Complete"), "{status:#?}");
    assert!(!status.conditions.is_true("Failed") && status.message.is_none());
    assert_eq!(status.finished, pods(3));
    assert!(status.in_progress.is_empty() && status.failed.is_empty());
    assert_eq!(status.restore_key, job.metadata.uid.unwrap());
    let (start, stop, finish) = (status.start_time, status.datacenter_stopped, status.finish_time);
    // Kubernetes writes times to the second.
    assert!(start.is_some() && start <= stop && stop <= finish);
    let mapping = status.restore_mapping.unwrap();
    assert_eq!((mapping.in_place, status.restore_prepared), (Some(true), Some(true)));
    assert_eq!(mapping.host_map.keys().cloned().collect::<Vec<_>>(), pods(3));
    dc.assert_restored("b1");
    dc.assert_clean().await;
    dc.ready().await.unwrap();
    let left = serde_json::to_string(&dc.pods().await).unwrap();
    assert!(!left.contains("RESTORE_KEY"), "{left}");
    dc.scripted.disconnected().await;
    let owner = &dc.job("r1").await.unwrap().metadata.owner_references.unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("CassandraDatacenter", "dc1"));
    for reason in ["Running", "Stopping", "Succeeded"] {
        dc.scripted.event("r1", reason).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_users_are_created_anew_before_the_job_is_finished() {
    let dc = RestorableDatacenter::new(1).await;
    dc.scripted.delete::<Secret>("app-user").await;
    let _data_plane = dc.data_plane().await;
    dc.restore("r1", "b1").await;
    let status = dc.finished("r1").await;
    let superuser = dc.scripted.get::<Secret>("shop-superuser").await;
    let refresh = &superuser.metadata.annotations.unwrap()["k8ssandra.io/refresh"];
    assert_eq!(*refresh, status.start_time.unwrap().0.to_string());
    assert_eq!(superuser.data.unwrap()["username"].0, b"hush");
    let complete = status.conditions.of_type("Complete").unwrap();
    assert_eq!(complete.status, "True");
    assert!(complete.message.contains("app-user"), "{}", complete.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superuser_of_the_datacenters_own_is_created_anew() {
    let dc = RestorableDatacenter::new(1).await;
    dc.scripted
        .create::<Secret>(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "root"}}))
        .await;
    dc.scripted.patch_datacenter(json!({"spec": {"superuserSecretName": "root"}})).await;
    let _data_plane = dc.data_plane().await;
    dc.restore("r1", "b1").await;
    dc.finished("r1").await;
    for (secret, marked) in [("root", true), ("app-user", true), ("shop-superuser", false)] {
        let annotations = dc.scripted.get::<Secret>(secret).await.metadata.annotations;
        assert_eq!(annotations.is_some_and(|a| a.contains_key("k8ssandra.io/refresh")), marked, "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datacenter_the_user_stopped_is_restored_and_stopped_again() {
    let mut dc = RestorableDatacenter::new(2).await;
    dc.stop().await;
    let _data_plane = dc.data_plane().await;
    dc.restore("r1", "b1").await;
    let status = dc.finished("r1").await;
    assert!(status.conditions.is_true("Complete"), "{status:#?}");
    dc.assert_restored("b1");
    dc.assert_clean().await;
    assert_eq!(dc.datacenter().await["spec"]["stopped"], true);
    eventually("its pods are gone", async || like(dc.pods().await, Vec::is_empty)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_clusters_backup_is_mapped_pod_by_pod() {
    let dc = RestorableDatacenter::new(2).await;
    let node = |i: usize| json!({"host": format!("old-{i}"), "datacenter": "dc1", "rack": "default"});
    dc.backup("b2", json!({"nodes": [node(10), node(2)]})).await;
    dc.scripted.storage.plant(BackupSummary {
        backup_name: "b2".to_owned(),
        start_time: 1,
        finish_time: 9,
        total_nodes: 2,
        finished_nodes: 2,
        nodes: ["old-10", "old-2"]
            .map(|host| BackupNode {
                host: host.to_owned(),
                datacenter: "dc1".to_owned(),
                rack: "default".to_owned(),
                ..BackupNode::default()
            })
            .to_vec(),
        status: StatusType::Success.into(),
        ..BackupSummary::default()
    });
    let _data_plane = dc.data_plane().await;
    dc.restore("r1", "b2").await;
    let status = dc.finished("r1").await;
    assert!(status.conditions.is_true("Complete"), "{status:#?}");
    assert_eq!(status.restore_mapping.unwrap().in_place, Some(false));
    let volumes = dc.operator.volumes();
    assert_eq!(volumes[&format!("{SET}-0")].holds, Some(("b2".to_owned(), "old-2".to_owned())));
    assert_eq!(volumes[&format!("{SET}-1")].holds, Some(("b2".to_owned(), "old-10".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_was_run_again_is_judged_by_its_first_run() {
    let dc = RestorableDatacenter::new(2).await;
    dc.operator.script(|s| {
        s.pods.insert(format!("{SET}-1"), Behaviour::RunsTwice);
    });
    let _data_plane = dc.data_plane().await;
    dc.restore("r1", "b1").await;
    let status = dc.finished("r1").await;
    assert!(status.conditions.is_true("Complete"), "{status:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_job_is_never_run_again() {
    let dc = RestorableDatacenter::new(2).await;
    let first = dc.data_plane_in_a_hurry(|t| t.input = Duration::from_secs(8)).await;
    dc.restore("r1", "b1").await;
    let good = dc.finished("r1").await;
    dc.restore("bad", "nowhere").await;
    let bad = dc.finished("bad").await;
    assert_eq!(bad.conditions.of_type("Failed").unwrap().reason, "BackupNotFound");
    drop(first);
    // What was missing is there now, and the datacenter has been changed.
    dc.backup("nowhere", json!({})).await;
    dc.scripted.patch_datacenter(json!({"metadata": {"labels": {"touched": "yes"}}})).await;
    let generation = dc.datacenter().await["metadata"]["generation"].clone();
    let second = dc.data_plane_in_a_hurry(|t| t.input = Duration::from_secs(8)).await;
    // Another job runs to its end in the meantime, so that the second data plane has seen them all.
    dc.restore("late", "missing").await;
    dc.reason("late", "BackupNotFound").await;
    dc.scripted.patch_datacenter(json!({"metadata": {"labels": {"touched": "again"}}})).await;
    dc.finished("late").await;
    assert_eq!(dc.status("r1").await, good);
    assert_eq!(dc.status("bad").await, bad);
    assert_eq!(dc.datacenter().await["metadata"]["generation"], generation);
    assert!(
        second.gate.writes().iter().all(|w| w.contains("medusarestorejobs/late")),
        "{:?}",
        second.gate.writes()
    );
    dc.assert_restored("b1");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_restores_of_one_datacenter_run_one_after_the_other() {
    let dc = RestorableDatacenter::new(2).await;
    dc.backup("b2", json!({})).await;
    for peer in &dc.scripted.peers {
        dc.scripted.storage.begin(&peer.node, "b2");
        dc.scripted.storage.finish(&peer.node, "b2");
    }
    dc.restore("first", "b1").await;
    dc.restore("second", "b2").await;
    let _data_plane = dc.data_plane().await;
    let message = dc.reason("second", "RestoreRunning").await;
    assert!(message.contains("`first`"), "{message}");
    let (first, second) = (dc.finished("first").await, dc.finished("second").await);
    assert!(first.conditions.is_true("Complete") && second.conditions.is_true("Complete"), "{second:#?}");
    assert!(first.finish_time <= second.datacenter_stopped);
    for volume in dc.operator.volumes().values() {
        assert_eq!((volume.holds.clone().unwrap().0, volume.restores), ("b2".to_owned(), 2));
    }
    dc.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_k8ssandra_operator_left_unfinished_is_carried_on() {
    let dc = RestorableDatacenter::under(Definitions::Upstream, 2).await;
    dc.restore("r1", "b1").await;
    let map: Value = pods(2)
        .iter()
        .map(|p| (p.clone(), json!({"source": [p], "seed": false})))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let status = json!({
        "restoreKey": "ec5b35c1-f2fe-4465-a74f-e29aa1d467ff", "restorePrepared": true,
        "restoreMapping": {"in_place": true, "host_map": map}, "startTime": "2026-01-01T00:00:00Z"
    });
    dc.scripted.patch_status::<MedusaRestoreJob>("r1", status).await;
    dc.scripted.patch_datacenter(json!({"spec": {"stopped": true}})).await;
    let _data_plane = dc.data_plane().await;
    let status = dc.finished("r1").await;
    assert_eq!((status.message.as_ref(), status.finished), (None, pods(2)));
    assert_eq!(status.restore_key, "ec5b35c1-f2fe-4465-a74f-e29aa1d467ff");
    dc.assert_restored("b1");
    dc.assert_clean().await;
}
