//! K8ssandraClusters and CassandraDatacenters as large as an API server takes them: Medusa comes to those with room for it,
//! the others say what is too large, and nobody else waits.

use medusa_fleet::api::{
    cassandra::CassandraDatacenter, fleet::DeploymentState, k8ssandra::K8ssandraCluster,
};
use serde_json::{Value, json};

use crate::{
    deployment_steps::{
        bare, bucket, container, expect_condition, expect_state, k8ssandra, medusa_in, raw, settle,
    },
    support::{CASS, ControlPlane, FLEET, Fleet},
};

/// What annotations may take together, in bytes.
const ANNOTATIONS: usize = 256 * 1024;
/// What etcd takes of a request; a part of it is for what stands around the object.
const OBJECT: usize = 1536 * 1024;

/// Fills an object's annotations but for `room` bytes.
fn annotate(object: &mut Value, room: usize) {
    let annotations = object["metadata"]["annotations"].take();
    let mut annotations = annotations.as_object().cloned().unwrap_or_default();
    let taken: usize = annotations.iter().map(|(key, value)| key.len() + value.as_str().unwrap().len()).sum();
    let long = "example.com/long";
    annotations.insert(long.to_owned(), json!("x".repeat(ANNOTATIONS - room - taken - long.len())));
    object["metadata"]["annotations"] = Value::Object(annotations);
}

#[tokio::test(flavor = "multi_thread")]
async fn medusa_comes_where_there_is_room_and_what_is_too_large_is_said_once_and_harms_nobody() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    home.create(bucket()).await;

    // Full annotations of a K8ssandraCluster cost nothing: none of them goes anywhere.
    let mut roomy = k8ssandra("roomy", &[("dc1", "dp-1")], json!({}));
    annotate(&mut roomy, 0);
    // Full annotations of a datacenter leave no room for ours, and a full pod template none for the containers.
    let mut annotated = bare("dc2", "annotated");
    annotate(&mut annotated, 20);
    let mut stuffed = bare("dc3", "stuffed");
    let used = stuffed.to_string().len();
    stuffed["spec"]["podTemplateSpec"]["spec"]["containers"][0]["env"][0]["value"] =
        json!("x".repeat(OBJECT - used - 4 * 1024));
    for (name, datacenter) in [("dc1", bare("dc1", "roomy")), ("dc2", annotated), ("dc3", stuffed)] {
        there.create(datacenter).await;
        settle(there, name).await;
    }
    home.create(roomy).await;
    for (cluster, dc) in [("annotated", "dc2"), ("stuffed", "dc3")] {
        home.create(k8ssandra(cluster, &[(dc, "dp-1")], json!({}))).await;
    }

    medusa_in(there, "dc1").await;
    settle(there, "dc1").await;
    expect_state(&fleet, "roomy", "dc1", DeploymentState::Deployed, None).await;
    let mut said = Vec::new();
    for (cluster, dc, words) in
        [("annotated", "dc2", "metadata.annotations"), ("stuffed", "dc3", "pod template")]
    {
        let refused = expect_state(&fleet, cluster, dc, DeploymentState::Refused, Some("TooLarge")).await;
        let message = refused.medusa.message.unwrap_or_default();
        assert!(message.contains(words) && message.len() < 1000, "{message}");
        let (reason, _) = expect_condition(&fleet, cluster, "MedusaDeployed", "False").await;
        assert_eq!(reason, "TooLarge");
        home.event("K8ssandraCluster", cluster, "TooLarge").await;
        let events = home.events("K8ssandraCluster", cluster).await;
        said.push(events.iter().filter(|(reason, _)| reason == "TooLarge").count());
        assert!(container(&raw(there, dc).await, "containers", "medusa").is_none());
    }
    assert_eq!(said, [1, 1]);
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;

    // A change of the others is made meanwhile, and the two are deployed once there is room.
    let image = json!({"spec": {"medusa": {"containerImage": {"tag": "9.9.9"}}}});
    home.patch::<K8ssandraCluster>(FLEET, "roomy", image).await;
    crate::support::eventually("dc1 has the new image", async || {
        let datacenter = raw(there, "dc1").await;
        let image = container(&datacenter, "containers", "medusa").map(|medusa| medusa["image"].to_string());
        image.filter(|image| image.contains(":9.9.9")).map(drop).ok_or("it has the old one")
    })
    .await;
    let shorter = json!({"metadata": {"annotations": {"example.com/long": "x"}}});
    there.patch::<CassandraDatacenter>(CASS, "dc2", shorter).await;
    let template = bare("dc3", "stuffed")["spec"]["podTemplateSpec"].clone();
    there.patch::<CassandraDatacenter>(CASS, "dc3", json!({"spec": {"podTemplateSpec": template}})).await;
    for dc in ["dc2", "dc3"] {
        settle(there, dc).await;
        medusa_in(there, dc).await;
    }
    controller.assert_running();
}
