//! How Medusas are reached: whom we trust, with what we authenticate, and where.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use medusa_fleet::api::Conditions as _;
use serde_json::json;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::{
    fake_medusa::{Peer, Script},
    shared_cluster::pem,
    world::World,
};

/// An address that the server's certificate does not bear.
const UNNAMED: &str = "127.0.0.2";

/// A datacenter of one pod whose Medusa asks for a client certificate. The certificates are those of the
/// test's API server; `ca` is the file our side takes for the authority.
async fn world(ca: &str) -> World {
    let mut world = World::new(0, Script::default()).await;
    let file = |name: &str| pem(&world.cluster, name);
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(file("serving.crt"), file("serving.key")))
        .client_ca_root(Certificate::from_pem(file("ca.crt")));
    world
        .create::<Secret>(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "client"},
            "stringData": {"ca.crt": file(ca), "tls.crt": file("admin.crt"), "tls.key": file("admin.key")}
        }))
        .await;
    let annotations = json!({"medusa.k8ssandra.io/grpc-client-secret-name": "client"});
    world.patch_datacenter(json!({"metadata": {"annotations": annotations}})).await;
    let node = "shop-dc1-default-sts-0";
    world.storage.add_node(node);
    let open = Arc::clone(&world.open);
    let peer = Peer::start_at(UNNAMED, Some(tls), node, world.storage.clone(), Script::default(), open).await;
    world.create_pod(node, &world.medusa_pod(&peer)).await;
    world.pod_ip(node, UNNAMED).await;
    world.peers.push(peer);
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_the_right_authority_is_trusted_whatever_its_name() {
    let world = world("ca.crt").await;
    let _data_plane = world.data_plane().await;
    world.job("b1", "dc1").await;
    let status = world.finished("b1").await;
    assert!(status.conditions.is_true("Complete"), "{status:?}");
    world.disconnected().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_authority_is_told_nothing() {
    let world = world("admin.crt").await;
    let _data_plane = world.data_plane().await;
    world.job("b1", "dc1").await;
    let status = world.finished("b1").await;
    let failed = status.conditions.of_type("Failed").unwrap();
    assert_eq!(failed.reason, "NodeUnreachable");
    assert!(failed.message.contains("invalid peer certificate"), "{}", failed.message);
    assert_eq!((world.peers[0].statuses(), world.peers[0].starts()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_with_an_ipv6_address_is_reached_at_it() {
    let mut world = World::new(0, Script::default()).await;
    let node = "shop-dc1-default-sts-0";
    world.storage.add_node(node);
    let open = Arc::clone(&world.open);
    let peer = Peer::start_at("::1", None, node, world.storage.clone(), Script::default(), open).await;
    world.create_pod(node, &world.medusa_pod(&peer)).await;
    world.pod_ip(node, "::1").await;
    world.peers.push(peer);
    let _data_plane = world.data_plane().await;
    world.job("b1", "dc1").await;
    let status = world.finished("b1").await;
    assert!(status.conditions.is_true("Complete"), "{status:?}");
}
