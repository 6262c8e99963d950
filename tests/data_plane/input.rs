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
    support::{eventually, gate::Gate, like},
    world::{World, timings},
};

impl World {
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
    let world = World::new(1, Script::default()).await;
    let _data_plane = world.data_plane().await;
    world.delete::<CassandraDatacenter>("dc1").await;
    world.job("b1", "dc1").await;
    world.assert_waits("DatacenterNotFound", "spec.cassandraDatacenter").await;
    world.create::<CassandraDatacenter>(world.datacenter("dc1", 1)).await;
    world.assert_ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datacenter_that_never_appears_fails_the_job() {
    let world = World::new(0, Script::default()).await;
    let _data_plane = world.data_plane_in_a_hurry().await;
    world.job("b1", "nowhere").await;
    let status = world.finished("b1").await;
    let failed = status.conditions.of_type("Failed").unwrap();
    assert_eq!((failed.status.as_str(), failed.reason.as_str()), ("True", "DatacenterNotFound"));
    assert!(status.start_time.is_none());
    assert!(world.backup("b1").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_datacenter_is_not_backed_up() {
    let world = World::new(1, Script::default()).await;
    world.patch_datacenter(json!({"spec": {"stopped": true}})).await;
    let _data_plane = world.data_plane().await;
    world.job("b1", "dc1").await;
    world.assert_waits("DatacenterStopped", "spec.stopped").await;
    world.patch_datacenter(json!({"spec": {"stopped": false}})).await;
    world.assert_ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_pods_are_waited_for() {
    let world = World::new(1, Script::default()).await;
    world.patch_datacenter(json!({"spec": {"size": 2}})).await;
    let _data_plane = world.data_plane().await;
    world.job("b1", "dc1").await;
    world.assert_waits("NoPods", "1 of 2 pods").await;
    world.patch_datacenter(json!({"spec": {"size": 1}})).await;
    world.assert_ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_without_medusa_is_named() {
    let world = World::new(1, Script::default()).await;
    world.create_pod("bare", &json!([{"name": "cassandra", "image": "none"}])).await;
    let _data_plane = world.data_plane_in_a_hurry().await;
    world.job("b1", "dc1").await;
    let status = world.finished("b1").await;
    assert_eq!(status.failed, ["bare"]);
    assert_eq!(status.conditions.of_type("Failed").unwrap().reason, "MedusaContainerMissing");
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_tls_material_is_told_by_key_and_never_shown() {
    let world = World::new(1, Script::default()).await;
    let annotation = json!({"medusa.k8ssandra.io/grpc-client-secret-name": "client"});
    world.patch_datacenter(json!({"metadata": {"annotations": annotation}})).await;
    let _data_plane = world.data_plane().await;
    world.job("b1", "dc1").await;
    world.assert_waits("InvalidTlsSecret", "no such Secret").await;
    world
        .create::<Secret>(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "client"},
            "stringData": {"ca.crt": "hush", "tls.crt": "hush", "tls.key": "hush"}
        }))
        .await;
    let message = eventually("the key is named", async || {
        like(world.reason("b1", "InvalidTlsSecret").await, |message| message.contains("`ca.crt`"))
    })
    .await;
    assert!(!message.contains("hush"), "{message}");
    assert!(world.starts().values().all(|n| *n == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_medusabackup_of_that_name_means_the_name_is_taken() {
    let world = World::new(1, Script::default()).await;
    let _data_plane = world.data_plane().await;
    world
        .create::<MedusaBackup>(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackup",
            "metadata": {"name": "b1"}, "spec": {"cassandraDatacenter": "other"}
        }))
        .await;
    world.job("b1", "dc1").await;
    let status = world.finished("b1").await;
    assert_eq!(status.conditions.of_type("Failed").unwrap().reason, "NameConflict");
    assert!(world.starts().values().all(|n| *n == 0));
    assert_eq!(world.backup("b1").await.unwrap().spec.cassandra_datacenter, "other");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_the_storage_knows_is_not_sent_again() {
    let world = World::new(2, Script::default()).await;
    for peer in &world.peers {
        world.storage.begin(&peer.node, "b1");
        world.storage.finish(&peer.node, "b1");
    }
    let timings = Timings { settle_ready: Duration::from_secs(20), ..timings() };
    let _data_plane = world.data_plane_with(Gate::default(), timings).await;
    world.job("b1", "dc1").await;
    let status = world.finished("b1").await;
    assert_eq!(status.conditions.of_type("Failed").unwrap().reason, "NameConflict");
    assert!(world.starts().values().all(|n| *n == 0));
    assert!(world.backup("b1").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_another_datacenter_in_the_same_place_is_refused() {
    let world = World::new(1, Script::default()).await;
    world.patch_datacenter(json!({"spec": {"datacenterName": "real"}})).await;
    let _data_plane = world.data_plane().await;
    world.job("b1", "dc1").await;
    let status = world.finished("b1").await;
    assert_eq!(status.conditions.of_type("Failed").unwrap().reason, "WrongDatacenter");
    assert!(world.backup("b1").await.is_none());
}
