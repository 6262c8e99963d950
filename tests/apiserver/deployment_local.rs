//! Backups that stay in the cluster: the `local` provider and its volumes.

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim};
use kube::ResourceExt as _;
use medusa_fleet::api::{fleet::DeploymentState, k8ssandra::K8ssandraCluster};
use serde_json::{Value, json};

use crate::{
    deployment_steps::{bare, container, expect_state, k8ssandra, medusa_in, raw, settle},
    support::{CASS, ControlPlane, FLEET, Fleet, eventually},
};

/// A claim that is there already.
fn theirs(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": CASS},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn local_backups_have_a_volume_that_outlives_everything() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    for dc in ["dc1", "dc2"] {
        there.create(bare(dc, "shop")).await;
        settle(there, dc).await;
    }
    let before = raw(there, "dc1").await;
    there.create(theirs("shop-dc2-medusa")).await;
    let volume = json!({"size": "100Mi", "storageClassName": "standard", "accessModes": ["ReadWriteMany"]});
    let storage =
        json!({"storageProperties": {"storageProvider": "local", "prefix": "shop", "podStorage": volume}});
    home.create(k8ssandra("shop", &[("dc1", "dp-1"), ("dc2", "dp-1")], storage)).await;

    // A claim as asked, mounted by both containers, and Medusa told of it; no Secret is needed.
    let dc1 = medusa_in(there, "dc1").await;
    let claim: PersistentVolumeClaim = there.get(CASS, "shop-dc1-medusa").await;
    let spec = serde_json::to_value(claim.spec.as_ref().unwrap()).unwrap();
    assert_eq!(
        (&spec["storageClassName"], &spec["accessModes"]),
        (&json!("standard"), &json!(["ReadWriteMany"]))
    );
    assert_eq!(spec["resources"]["requests"]["storage"], "100Mi");
    assert!(claim.owner_references().is_empty(), "it would be collected as garbage with its owner");
    let volumes = dc1["spec"]["podTemplateSpec"]["spec"]["volumes"].as_array().unwrap();
    let backups =
        json!({"name": "medusa-backups", "persistentVolumeClaim": {"claimName": "shop-dc1-medusa"}});
    assert!(volumes.contains(&backups), "{volumes:#?}");
    for (list, name) in [("containers", "medusa"), ("initContainers", "medusa-restore")] {
        let mounts = container(&dc1, list, name).unwrap()["volumeMounts"].as_array().unwrap();
        let mount = json!({"name": "medusa-backups", "mountPath": "/mnt/backups"});
        assert!(mounts.contains(&mount), "{name}: {mounts:#?}");
    }
    let ini = there.get::<ConfigMap>(CASS, "shop-medusa").await.data.unwrap()["medusa.ini"].clone();
    for line in ["storage_provider = local", "base_path = /mnt/backups", "prefix = shop"] {
        assert!(ini.lines().any(|l| l == line), "`{line}` is not in {ini}");
    }
    assert!(!ini.contains("key_file"), "{ini}");
    settle(there, "dc1").await;
    expect_state(&fleet, "shop", "dc1", DeploymentState::Deployed, None).await;

    // Somebody else's claim is neither used nor touched.
    let refused = expect_state(&fleet, "shop", "dc2", DeploymentState::Refused, Some("NameConflict")).await;
    let said = refused.medusa.message.unwrap();
    assert!(said.contains("PersistentVolumeClaim cass/shop-dc2-medusa"), "{said}");
    assert!(container(&raw(there, "dc2").await, "containers", "medusa").is_none(), "half deployed");

    // Another size is asked for: what is there stays as it is, and so does what holds it.
    let size = json!({"spec": {"medusa": {"storageProperties": {"podStorage": {"size": "200Mi"},
        "maxBackupCount": 3}}}});
    home.patch::<K8ssandraCluster>(FLEET, "shop", size).await;
    eventually("medusa.ini has changed", async || {
        let data = there.get::<ConfigMap>(CASS, "shop-medusa").await.data.unwrap();
        let ini = data["medusa.ini"].clone();
        if ini.contains("max_backup_count = 3") { Ok(()) } else { Err(ini) }
    })
    .await;
    let now: PersistentVolumeClaim = there.get(CASS, "shop-dc1-medusa").await;
    assert_eq!(now.spec, claim.spec);

    // Medusa goes, then the cluster; the backups stay, and where they are is said.
    home.patch::<K8ssandraCluster>(FLEET, "shop", json!({"spec": {"medusa": null}})).await;
    eventually("dc1 is as it was", async || {
        settle(there, "dc1").await;
        let now = raw(there, "dc1").await;
        if now["spec"] == before["spec"] { Ok(()) } else { Err(format!("{:#}", now["spec"])) }
    })
    .await;
    let note = home.event("K8ssandraCluster", "shop", "VolumeKept").await;
    assert!(note.contains("PersistentVolumeClaims"), "{note}");
    settle(there, "dc1").await;
    there.disappears::<ConfigMap>(CASS, "shop-medusa").await;
    home.delete::<K8ssandraCluster>(FLEET, "shop").await;
    home.disappears::<K8ssandraCluster>(FLEET, "shop").await;
    for name in ["shop-dc1-medusa", "shop-dc2-medusa"] {
        let left: PersistentVolumeClaim = there.get(CASS, name).await;
        assert_eq!(left.metadata.deletion_timestamp, None, "{name}");
    }
    let writes = there.writes("persistentvolumeclaims").await;
    assert_eq!(writes.keys().collect::<Vec<_>>(), ["POST"], "a claim was changed or deleted: {writes:?}");
    controller.assert_running();
}
