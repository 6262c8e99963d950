//! How Medusas are reached: whom we trust, with what we authenticate, and where.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use medusa_fleet::api::Conditions as _;
use serde_json::json;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::{
    fake_medusa::{Peer, Script},
    scripted_datacenter::ScriptedDatacenter,
    shared_cluster::pem,
};

/// An address that the server's certificate does not bear.
const UNNAMED: &str = "127.0.0.2";

/// A datacenter of one pod whose Medusa asks for a client certificate. The certificates are those of the
/// test's API server; `ca` is the file our side takes for the authority.
async fn datacenter(ca: &str) -> ScriptedDatacenter {
    let mut dc = ScriptedDatacenter::new(0, Script::default()).await;
    let file = |name: &str| pem(&dc.cluster, name);
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(file("serving.crt"), file("serving.key")))
        .client_ca_root(Certificate::from_pem(file("ca.crt")));
    dc.create::<Secret>(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "client"},
        "stringData": {"ca.crt": file(ca), "tls.crt": file("admin.crt"), "tls.key": file("admin.key")}
    }))
    .await;
    let annotations = json!({"medusa.k8ssandra.io/grpc-client-secret-name": "client"});
    dc.patch_datacenter(json!({"metadata": {"annotations": annotations}})).await;
    let node = "shop-dc1-default-sts-0";
    dc.storage.add_node(node);
    let open = Arc::clone(&dc.open);
    let peer = Peer::start_at(UNNAMED, Some(tls), node, dc.storage.clone(), Script::default(), open).await;
    dc.create_pod(node, &dc.medusa_pod(&peer)).await;
    dc.pod_ip(node, UNNAMED).await;
    dc.peers.push(peer);
    dc
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_the_right_authority_is_trusted_whatever_its_name() {
    let dc = datacenter("ca.crt").await;
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    let status = dc.finished("b1").await;
    assert!(status.conditions.is_true("Complete"), "{status:?}");
    dc.disconnected().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_authority_is_told_nothing() {
    let dc = datacenter("admin.crt").await;
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    let status = dc.finished("b1").await;
    let failed = status.conditions.of_type("Failed").unwrap();
    assert_eq!(failed.reason, "NodeUnreachable");
    assert!(failed.message.contains("invalid peer certificate"), "{}", failed.message);
    assert_eq!((dc.peers[0].statuses(), dc.peers[0].starts()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_with_an_ipv6_address_is_reached_at_it() {
    let mut dc = ScriptedDatacenter::new(0, Script::default()).await;
    let node = "shop-dc1-default-sts-0";
    dc.storage.add_node(node);
    let open = Arc::clone(&dc.open);
    let peer = Peer::start_at("::1", None, node, dc.storage.clone(), Script::default(), open).await;
    dc.create_pod(node, &dc.medusa_pod(&peer)).await;
    dc.pod_ip(node, "::1").await;
    dc.peers.push(peer);
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    let status = dc.finished("b1").await;
    assert!(status.conditions.is_true("Complete"), "{status:?}");
}
