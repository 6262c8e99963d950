//! How clusters come into the fleet and leave it.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use medusa_fleet::api::{
    fleet::{DataPlane, Phase},
    medusa::MedusaBackupJob,
};
use serde_json::json;

use crate::support::{
    BackupFinisher, CASS, ControlPlane, FLEET, Fleet, backup_job, configuration, datacenter, rights, secret,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_registered_by_a_labelled_secret_or_by_a_data_plane_object_and_once_only() {
    let fleet = Fleet::start(2).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);

    // The control plane's own cluster is there by default.
    fleet.expect_data_plane("local", "Ready", "True", "Ready").await;

    // Cluster API's key, and a certificate as its kubeconfigs have one: an administrator's, as it makes no other.
    let first = std::fs::read_to_string(&fleet.dp(1).kubeconfig).unwrap();
    fleet.register_as("dp-1", "value", &first).await;
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;

    // A key and a context of one's own; the file's current context is no use.
    let mut lost = rights::kubeconfig(fleet.dp(2));
    assert_eq!(lost["contexts"][0]["name"], "dp-2", "the testbed's kubeconfig changed its shape");
    lost["current-context"] = json!("elsewhere");
    home.create(secret(FLEET, "files", &[("frankfurt", &lost.to_string())])).await;
    home.create(json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "DataPlane",
        "metadata": {"name": "fra", "namespace": FLEET},
        "spec": {"kubeconfigSecretRef": {"name": "files", "key": "frankfurt"}, "context": "dp-2"},
    }))
    .await;
    fleet.expect_data_plane("fra", "Ready", "True", "Ready").await;

    for (name, cluster) in [("local", home), ("dp-1", fleet.dp(1)), ("fra", fleet.dp(2))] {
        let plane: DataPlane = home.get(FLEET, name).await;
        let status = plane.status.unwrap();
        let namespaces = kube::Api::<k8s_openapi::api::core::v1::Namespace>::all(cluster.client.clone());
        assert_eq!(status.cluster_id, namespaces.get("kube-system").await.unwrap().uid(), "{name}");
        assert!(status.kubernetes_version.unwrap().starts_with("v1."), "{name}");
        for condition in &status.conditions {
            assert_eq!(condition.status, "True", "{name}: {condition:?}");
        }
        if name != "local" {
            assert!(
                status.credential.unwrap().expires_at.is_some(),
                "{name}: its certificate or token says when it ends"
            );
        }
    }

    // The same cluster under a second name is not used. Of two made in one second the first by name is the first.
    fleet.dp(1).create(datacenter("dc1", "shop", 1)).await;
    let _finisher = BackupFinisher::start(fleet.dp(1));
    fleet.register_as("dp-1-again", "kubeconfig", &first).await;
    let message = fleet.expect_data_plane("dp-1-again", "Unique", "False", "DuplicateCluster").await;
    assert!(message.contains("`dp-1`"), "{message}");
    home.event("DataPlane", "dp-1-again", "DuplicateCluster").await;
    home.create(backup_job("once", json!({}))).await;
    fleet.expect_phase("once", Phase::Succeeded).await;
    let children = fleet.dp(1).list::<MedusaBackupJob>(CASS).await;
    assert_eq!(children.len(), 1, "one child for one datacenter");

    // Without its label the Secret registers nothing any more, and what belongs to the first stays.
    home.create(secret(FLEET, "bucket", &[])).await;
    home.create(configuration("shared", "bucket", Some("dp-1/cass"))).await;
    let copy: Secret = fleet.dp(1).appears(CASS, "bucket").await;
    let label = json!({"metadata": {"labels": {"fleet.k8ssandra.io/register": null}}});
    home.patch::<Secret>(FLEET, "dp-1-again", label).await;
    home.disappears::<DataPlane>(FLEET, "dp-1-again").await;
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
    let after: Secret = fleet.dp(1).get(CASS, "bucket").await;
    assert_eq!(copy.resource_version(), after.resource_version(), "the first one's copy was taken back");
    controller.assert_running();
}
