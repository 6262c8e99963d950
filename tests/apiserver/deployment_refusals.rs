//! Where Medusa is not deployed: something is missing, wrong, somebody else's, or would cost somebody something.

use k8s_openapi::{
    api::core::v1::{ConfigMap, Secret},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use medusa_fleet::api::{
    cassandra::CassandraDatacenter, fleet::DeploymentState, k8ssandra::K8ssandraCluster,
    medusa::MedusaConfiguration,
};
use serde_json::{Value, json};

use crate::{
    deployment_steps::{
        BUCKET, bare, bucket, container, expect_condition, expect_state, k8ssandra, medusa_in, raw, settle,
    },
    support::{CASS, Cluster, ControlPlane, FLEET, Fleet, condition, eventually, secret},
};

/// The datacenter's spec and annotations.
fn content(datacenter: &Value) -> (Value, Value) {
    (datacenter["spec"].clone(), datacenter["metadata"]["annotations"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_wrong_is_named_and_nothing_is_half_deployed() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    there.create(bare("dc1", "shop")).await;
    settle(there, "dc1").await;
    let before = content(&raw(there, "dc1").await);
    home.create(k8ssandra("shop", &[("dc1", "dp-1"), ("dc9", "dp-1"), ("dc8", "nowhere")], json!({}))).await;

    // No Secret, one without its key, a wrong setting, a missing configuration.
    let refused = async |reason: &'static str, word: &str| {
        let found = expect_state(&fleet, "shop", "dc1", DeploymentState::Refused, Some(reason)).await;
        let message = found.medusa.message.unwrap();
        assert!(message.contains(word), "{message}");
        assert_eq!(content(&raw(there, "dc1").await), before, "half deployed");
        assert!(there.find::<ConfigMap>(CASS, "shop-medusa").await.is_none(), "half deployed");
    };
    refused("SecretNotFound", &format!("Secret `{BUCKET}`")).await;
    let (reason, message) = expect_condition(&fleet, "shop", "CredentialsInSync", "False").await;
    assert!(reason == "SecretNotFound" && message.contains(BUCKET), "{reason}: {message}");
    home.event("K8ssandraCluster", "shop", "SecretNotFound").await;
    expect_state(&fleet, "shop", "dc9", DeploymentState::NotFound, Some("DatacenterNotFound")).await;
    expect_state(&fleet, "shop", "dc8", DeploymentState::Refused, Some("UnknownDataPlane")).await;
    home.create(secret(FLEET, BUCKET, &[("wrong", "x")])).await;
    refused("SecretKeyMissing", "`credentials`").await;
    let port = |port: Value| json!({"spec": {"medusa": {"serviceProperties": {"grpcPort": port}}}});
    home.patch::<K8ssandraCluster>(FLEET, "shop", port(json!(9042))).await;
    refused("InvalidSpec", "grpcPort").await;
    home.patch::<K8ssandraCluster>(FLEET, "shop", port(json!(null))).await;
    let named = json!({"spec": {"medusa": {"medusaConfigurationRef": {"name": "shared"}}}});
    home.patch::<K8ssandraCluster>(FLEET, "shop", named).await;
    refused("ConfigurationNotFound", "`shared`").await;

    // A fault of the configuration is told on it too.
    home.create(json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaConfiguration",
        "metadata": {"name": "shared", "namespace": FLEET}, "spec": {"storageProperties": {"region": "a\nb"}},
    }))
    .await;
    refused("InvalidSpec", "region").await;
    eventually("the configuration is not ready", async || {
        let shared: MedusaConfiguration = home.get(FLEET, "shared").await;
        let seen = condition(&shared.status.unwrap_or_default().conditions, "Ready");
        if seen.0 == "False" && seen.2.contains("region") { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    home.delete::<MedusaConfiguration>(FLEET, "shared").await;
    let named = json!({"spec": {"medusa": {"medusaConfigurationRef": null}}});
    home.patch::<K8ssandraCluster>(FLEET, "shop", named).await;

    // Paused, everything right: the plan is shown and nothing written.
    let pause = |value: Value| json!({"metadata": {"annotations": {"fleet.k8ssandra.io/paused": value}}});
    home.patch::<K8ssandraCluster>(FLEET, "shop", pause(json!("true"))).await;
    home.patch::<Secret>(FLEET, BUCKET, json!({"stringData": {"credentials": "x"}})).await;
    let paused = expect_state(&fleet, "shop", "dc1", DeploymentState::Paused, Some("Paused")).await;
    assert!(paused.medusa.restarts_pods == Some(true) && paused.medusa.changes.len() > 5);
    assert_eq!(content(&raw(there, "dc1").await), before);
    // A datacenter nobody knows holds up the others until it is out of the list.
    home.patch::<K8ssandraCluster>(FLEET, "shop", pause(json!(null))).await;
    expect_state(&fleet, "shop", "dc1", DeploymentState::Waiting, Some("DataPlaneUnreachable")).await;
    let listed = json!({"spec": {"cassandra": {"datacenters": [
        {"metadata": {"name": "dc1", "namespace": CASS}, "k8sContext": "dp-1", "size": 3}]}}});
    home.patch::<K8ssandraCluster>(FLEET, "shop", listed).await;
    medusa_in(there, "dc1").await;
    controller.assert_running();
}

/// Waits until a datacenter's Medusa has an image of this tag.
async fn has_image(there: &Cluster, name: &str, tag: &str) {
    eventually(format!("{name} has Medusa {tag}"), async || {
        let datacenter = raw(there, name).await;
        let image = container(&datacenter, "containers", "medusa").map(|medusa| medusa["image"].to_string());
        let image = image.unwrap_or_default();
        if image.contains(&format!(":{tag}")) { Ok(()) } else { Err(image) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_somebody_elses_is_left_to_them() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    home.create(bucket()).await;

    // k8ssandra-operator's datacenter.
    let mut theirs = bare("managed", "managed");
    theirs["metadata"]["labels"] = json!({"k8ssandra.io/cleaned-up-by": "k8ssandracluster-controller"});
    there.create(theirs).await;
    let before = content(&raw(there, "managed").await);
    home.create(k8ssandra("managed", &[("managed", "dp-1")], json!({}))).await;
    let hands_off =
        expect_state(&fleet, "managed", "managed", DeploymentState::HandsOff, Some("ManagedElsewhere")).await;
    assert!(hands_off.medusa.message.unwrap().contains("k8ssandra-operator"));

    // Another cluster's prefix: the one that is there goes on, the new one does not begin.
    there.create(bare("old", "old")).await;
    settle(there, "old").await;
    home.create(k8ssandra("old", &[("old", "dp-1")], json!({}))).await;
    medusa_in(there, "old").await;
    settle(there, "old").await;
    expect_state(&fleet, "old", "old", DeploymentState::Deployed, None).await;
    there.create(bare("new", "new")).await;
    settle(there, "new").await;
    let mut new = k8ssandra("new", &[("new", "dp-1")], json!({}));
    new["spec"]["medusa"]["storageProperties"]["prefix"] = json!("old");
    home.create(new).await;
    expect_state(&fleet, "new", "new", DeploymentState::Refused, Some("PrefixInUse")).await;
    for (cluster, other) in [("new", "medusa-fleet/old"), ("old", "medusa-fleet/new")] {
        let (reason, message) = expect_condition(&fleet, cluster, "PrefixUnique", "False").await;
        assert!(reason == "PrefixInUse" && message.contains(other), "{reason}: {message}");
    }
    expect_state(&fleet, "old", "old", DeploymentState::Deployed, None).await;
    assert!(container(&raw(there, "new").await, "containers", "medusa").is_none());
    let prefix = json!({"spec": {"medusa": {"storageProperties": {"prefix": "new"}}}});
    home.patch::<K8ssandraCluster>(FLEET, "new", prefix).await;
    medusa_in(there, "new").await;
    expect_condition(&fleet, "old", "PrefixUnique", "True").await;
    assert_eq!(content(&raw(there, "managed").await), before);

    // One that Medusa was put into is left alone from when it says that k8ssandra-operator has it, and is ours again
    // afterwards.
    settle(there, "new").await;
    expect_state(&fleet, "new", "new", DeploymentState::Deployed, None).await;
    let finalizers = |signs: Value| json!({"metadata": {"finalizers": signs}});
    let sign = json!(["k8ssandracluster.k8ssandra.io/finalizer"]);
    there.patch::<CassandraDatacenter>(CASS, "old", finalizers(sign)).await;
    expect_state(&fleet, "old", "old", DeploymentState::HandsOff, Some("ManagedElsewhere")).await;
    let before = content(&raw(there, "old").await);
    let image = json!({"spec": {"medusa": {"containerImage": {"tag": "9.9.9"}}}});
    for cluster in ["old", "new"] {
        home.patch::<K8ssandraCluster>(FLEET, cluster, image.clone()).await;
    }
    has_image(there, "new", "9.9.9").await;
    settle(there, "new").await;
    expect_state(&fleet, "new", "new", DeploymentState::Deployed, None).await;
    assert_eq!(content(&raw(there, "old").await), before, "it is k8ssandra-operator's");
    there.patch::<CassandraDatacenter>(CASS, "old", finalizers(Value::Null)).await;
    has_image(there, "old", "9.9.9").await;
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_whose_lists_are_of_one_piece_costs_nobody_anything() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    // As if the definition said nothing of the pod template.
    let definitions: Api<CustomResourceDefinition> = Api::all(there.client.clone());
    let atomic = json!([{
        "op": "replace",
        "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/podTemplateSpec",
        "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }]);
    let patch: Patch<Value> = Patch::Json(serde_json::from_value(atomic).unwrap());
    definitions
        .patch("cassandradatacenters.cassandra.datastax.com", &PatchParams::default(), &patch)
        .await
        .expect("change the definition");
    there.create(bare("dc1", "shop")).await;
    settle(there, "dc1").await;
    let before = content(&raw(there, "dc1").await);
    home.create(bucket()).await;
    home.create(k8ssandra("shop", &[("dc1", "dp-1")], json!({}))).await;
    let refused = expect_state(&fleet, "shop", "dc1", DeploymentState::Refused, Some("UnsafeApply")).await;
    assert!(refused.medusa.message.unwrap().contains("definition of CassandraDatacenter"));
    let now = content(&raw(there, "dc1").await);
    assert_eq!(now, before, "something was lost");
    controller.assert_running();
}
