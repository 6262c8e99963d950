//! Jobs that cannot begin: each says why, and begins once it can.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use medusa_fleet::{
    api::{Conditions as _, cassandra::CassandraDatacenter, medusa::MedusaBackup},
    data_plane::Timings,
};
use serde_json::json;

use crate::{
    fake_medusa::Script,
    scripted_datacenter::{ScriptedDatacenter, timings},
    support::{eventually, gate::Gate, like},
};

impl ScriptedDatacenter {
    /// The job waits for that reason, and begins nothing.
    async fn assert_waits(&self, reason: &str, mentions: &str) {
        let message = self.reason("b1", reason).await;
        assert!(message.contains(mentions), "{message}");
        let status = self.status("b1").await;
        assert!(status.start_time.is_none() && status.finish_time.is_none(), "{status:?}");
        assert!(self.starts().values().all(|n| *n == 0));
    }

    async fn assert_ends_well(&self) {
        let status = self.finished("b1").await;
        assert!(status.conditions.is_true("Complete"), "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datacenter_that_appears_later_is_backed_up_then() {
    let dc = ScriptedDatacenter::new(1, Script::default()).await;
    let _data_plane = dc.data_plane().await;
    dc.delete::<CassandraDatacenter>("dc1").await;
    dc.job("b1", "dc1").await;
    dc.assert_waits("DatacenterNotFound", "spec.cassandraDatacenter").await;
    dc.create::<CassandraDatacenter>(dc.datacenter("dc1", 1)).await;
    dc.assert_ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datacenter_that_never_appears_fails_the_job() {
    let dc = ScriptedDatacenter::new(0, Script::default()).await;
    let _data_plane = dc.data_plane_in_a_hurry().await;
    dc.job("b1", "nowhere").await;
    let status = dc.finished("b1").await;
    let failed = status.conditions.of_type("Failed").unwrap();
    assert_eq!((failed.status.as_str(), failed.reason.as_str()), ("True", "DatacenterNotFound"));
    assert!(status.start_time.is_none());
    assert!(dc.backup("b1").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_datacenter_is_not_backed_up() {
    let dc = ScriptedDatacenter::new(1, Script::default()).await;
    dc.patch_datacenter(json!({"spec": {"stopped": true}})).await;
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    dc.assert_waits("DatacenterStopped", "spec.stopped").await;
    dc.patch_datacenter(json!({"spec": {"stopped": false}})).await;
    dc.assert_ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_pods_are_waited_for() {
    let dc = ScriptedDatacenter::new(1, Script::default()).await;
    dc.patch_datacenter(json!({"spec": {"size": 2}})).await;
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    dc.assert_waits("NoPods", "1 of 2 pods").await;
    dc.patch_datacenter(json!({"spec": {"size": 1}})).await;
    dc.assert_ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_without_medusa_is_named() {
    let dc = ScriptedDatacenter::new(1, Script::default()).await;
    dc.create_pod("bare", &json!([{"name": "cassandra", "image": "none"}])).await;
    let _data_plane = dc.data_plane_in_a_hurry().await;
    dc.job("b1", "dc1").await;
    let status = dc.finished("b1").await;
    assert_eq!(status.failed, ["bare"]);
    assert_eq!(status.conditions.of_type("Failed").unwrap().reason, "MedusaContainerMissing");
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_tls_material_is_told_by_key_and_never_shown() {
    let dc = ScriptedDatacenter::new(1, Script::default()).await;
    let annotation = json!({"medusa.k8ssandra.io/grpc-client-secret-name": "client"});
    dc.patch_datacenter(json!({"metadata": {"annotations": annotation}})).await;
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    dc.assert_waits("InvalidTlsSecret", "no such Secret").await;
    dc.create::<Secret>(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "client"},
        "stringData": {"ca.crt": "hush", "tls.crt": "hush", "tls.key": "hush"}
    }))
    .await;
    let message = eventually("the key is named", async || {
        like(dc.reason("b1", "InvalidTlsSecret").await, |message| message.contains("`ca.crt`"))
    })
    .await;
    assert!(!message.contains("hush"), "{message}");
    assert!(dc.starts().values().all(|n| *n == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_medusabackup_of_that_name_means_the_name_is_taken() {
    let dc = ScriptedDatacenter::new(1, Script::default()).await;
    let _data_plane = dc.data_plane().await;
    dc.create::<MedusaBackup>(json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackup",
        "metadata": {"name": "b1"}, "spec": {"cassandraDatacenter": "other"}
    }))
    .await;
    dc.job("b1", "dc1").await;
    let status = dc.finished("b1").await;
    assert_eq!(status.conditions.of_type("Failed").unwrap().reason, "NameConflict");
    assert!(dc.starts().values().all(|n| *n == 0));
    assert_eq!(dc.backup("b1").await.unwrap().spec.cassandra_datacenter, "other");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_the_storage_knows_is_not_sent_again() {
    let dc = ScriptedDatacenter::new(2, Script::default()).await;
    for peer in &dc.peers {
        dc.storage.begin(&peer.node, "b1");
        dc.storage.finish(&peer.node, "b1");
    }
    let timings = Timings { settle_ready: Duration::from_secs(20), ..timings() };
    let _data_plane = dc.data_plane_with(Gate::default(), timings).await;
    dc.job("b1", "dc1").await;
    let status = dc.finished("b1").await;
    assert_eq!(status.conditions.of_type("Failed").unwrap().reason, "NameConflict");
    assert!(dc.starts().values().all(|n| *n == 0));
    assert!(dc.backup("b1").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_another_datacenter_in_the_same_place_is_refused() {
    let dc = ScriptedDatacenter::new(1, Script::default()).await;
    dc.patch_datacenter(json!({"spec": {"datacenterName": "real"}})).await;
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    let status = dc.finished("b1").await;
    assert_eq!(status.conditions.of_type("Failed").unwrap().reason, "WrongDatacenter");
    assert!(dc.backup("b1").await.is_none());
}
