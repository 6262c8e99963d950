//! A control plane with rights in some namespaces only, in its own cluster and in a data plane: what the charts'
//! `rbac.namespaces` and `kubeconfigs/data-plane-rbac-namespaced.yaml` grant is enough there, and nothing else is asked for
//! or written.

use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use medusa_fleet::api::{
    fleet::{DataPlane, Phase},
    medusa::{MedusaBackupJob, MedusaBackupSchedule, MedusaConfiguration},
};
use serde_json::{Value, json};

use crate::support::{
    BackupFinisher, CASS, Cluster, ControlPlane, FLEET, Fleet, backup_job, configuration,
    credentials::objects_of,
    datacenter, eventually,
    harness::testbed,
    rights::{self, AT_HOME, GRANTS, IN_DATA_PLANES},
    secret,
};

/// Hosts a datacenter, and nobody granted anything there.
const OTHER: &str = "other";

/// What is granted, but for the account itself, which has a token.
fn rights_of(file: &str) -> Vec<Value> {
    objects_of(file, GRANTS.split_first().unwrap().1)
}

/// The rights of the control plane's chart in the namespace of the datacenters and its own.
fn chart() -> Vec<Value> {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/charts/medusa-fleet");
    let output = tokio::task::block_in_place(|| {
        testbed::command()
            .args(["helm", "template", "medusa-fleet", chart, "--namespace", FLEET, "--set"])
            .arg(format!("rbac.namespaces={{{CASS}}},definitions.fleet=false,definitions.medusa=false"))
            .output()
            .unwrap()
    });
    assert!(output.status.success(), "{output:?}");
    let all: Vec<Value> = serde_saphyr::from_multiple(&String::from_utf8(output.stdout).unwrap()).unwrap();
    let granted = |object: &Value| GRANTS.iter().skip(1).any(|kind| object["kind"] == *kind);
    all.into_iter().filter(granted).collect()
}

/// Grants `new` in place of `old`.
async fn regrant(cluster: &Cluster, old: Vec<Value>, new: Vec<Value>) {
    for object in old {
        let name = object["metadata"]["name"].as_str().unwrap();
        cluster.untyped(&object).delete(name, &DeleteParams::default()).await.unwrap();
    }
    for object in new {
        cluster.create(object).await;
    }
    // What was granted before counts no longer.
    let secrets = rights::secrets(cluster, OTHER).await;
    eventually(format!("nothing is granted in {OTHER} of {}", cluster.name), async || {
        match secrets.get_opt("any").await {
            Err(kube::Error::Api(status)) if status.code == 403 => Ok(()),
            answer => Err(format!("{:?}", answer.map(|found| found.is_some()))),
        }
    })
    .await;
    let secrets = rights::secrets(cluster, CASS).await;
    eventually(format!("{CASS} of {} may be worked in", cluster.name), async || {
        secrets.get_opt("any").await.map(drop)
    })
    .await;
}

fn in_other(mut object: Value) -> Value {
    object["metadata"]["namespace"] = json!(OTHER);
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn with_rights_in_some_namespaces_a_control_plane_works_in_these_and_asks_for_no_more() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    for cluster in [home, there] {
        cluster.namespace(OTHER).await.unwrap();
    }
    regrant(home, rights_of(AT_HOME), chart()).await;
    let namespaced = rights_of("kubeconfigs/data-plane-rbac-namespaced.yaml");
    regrant(there, rights_of(IN_DATA_PLANES), namespaced).await;
    let within = format!("{CASS},{FLEET}");
    let args = ["--source-namespaces", &within, "--client-config-namespaces", &within];
    let args = [&args[..], &["--local-namespaces", CASS][..]].concat();
    let mut controller = ControlPlane::spawn_with(&fleet, &args);
    fleet.expect_data_plane("local", "Ready", "True", "Ready").await;

    // The Secret has no label: it would be a DataPlane of all namespaces.
    let kubeconfig = rights::kubeconfig(there).to_string();
    home.create(secret(FLEET, "eu-1", &[("kubeconfig", &kubeconfig)])).await;
    home.create(json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "DataPlane",
        "metadata": {"name": "dp-1", "namespace": FLEET},
        "spec": {"kubeconfigSecretRef": {"name": "eu-1"}, "namespaces": [CASS]},
    }))
    .await;
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
    let said = fleet.expect_data_plane("dp-1", "Authorized", "True", "PermissionsGranted").await;
    assert_eq!(said, "every permission needed is granted");

    there.create(datacenter("dc1", "shop", 1)).await;
    there.create(in_other(datacenter("dc9", "shop", 1))).await;
    fleet.expect_size("shop", 1).await;
    let _finisher = BackupFinisher::start(there);
    home.create(secret(FLEET, "bucket", &[("credentials", "one")])).await;
    home.create(configuration("shared", "bucket", Some("dp-1/*"))).await;
    there.appears::<Secret>(CASS, "bucket").await;
    fleet.expect_replicated("shared", "True", "Replicated").await;
    home.create(backup_job("all", json!({"clusters": ["shop"]}))).await;
    fleet.expect_phase("all", Phase::Succeeded).await;
    assert_eq!(there.list::<MedusaBackupJob>(CASS).await.len(), 1);
    home.create(json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetBackupSchedule",
        "metadata": {"name": "yearly", "namespace": FLEET},
        "spec": {"schedule": "@yearly", "execution": "Delegated"},
    }))
    .await;
    eventually("the schedule is delegated", async || {
        let all = there.list::<MedusaBackupSchedule>(CASS).await;
        if all.len() == 1 { Ok(()) } else { Err(format!("{}", all.len())) }
    })
    .await;

    // Nothing is tried where nothing is granted: it is said.
    let targets = json!({"metadata": {"annotations": {"fleet.k8ssandra.io/targets": format!("dp-1/{CASS} dp-1/{OTHER}")}}});
    home.patch::<MedusaConfiguration>(FLEET, "shared", targets).await;
    let said = fleet.expect_replicated("shared", "False", "TargetRefused").await;
    assert!(said.contains("spec.namespaces") && said.contains(OTHER), "{said}");
    assert_eq!(there.list::<MedusaBackupJob>(OTHER).await.len(), 0);
    assert!(there.find::<Secret>(OTHER, "bucket").await.is_none());
    fleet.expect_size("shop", 1).await;

    // It is unregistered as any other.
    home.delete::<DataPlane>(FLEET, "dp-1").await;
    home.disappears::<DataPlane>(FLEET, "dp-1").await;
    assert!(there.find::<Secret>(CASS, "bucket").await.is_none(), "the Secret was left behind");
    assert_eq!(there.list::<MedusaBackupSchedule>(CASS).await.len(), 0);
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_without_rights_is_named_and_nothing_is_believed_of_the_data_plane_until_it_has_them() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    there.namespace(OTHER).await.unwrap();
    let namespaced = rights_of("kubeconfigs/data-plane-rbac-namespaced.yaml");
    regrant(there, rights_of(IN_DATA_PLANES), namespaced.clone()).await;
    let mut controller = ControlPlane::spawn(&fleet);
    controller.lacks_rights();
    fleet.register(1).await;
    let said = fleet.expect_data_plane("dp-1", "Authorized", "False", "PermissionsMissing").await;
    assert!(!said.contains("in namespace"), "{said}");
    home.patch::<DataPlane>(FLEET, "dp-1", json!({"spec": {"namespaces": [CASS, OTHER]}})).await;
    there.create(datacenter("dc1", "shop", 1)).await;
    there.create(in_other(datacenter("dc2", "shop", 1))).await;
    let said = eventually("it says where the rights are missing", async || {
        let said = fleet.expect_data_plane("dp-1", "Authorized", "False", "PermissionsMissing").await;
        if said.contains("list medusabackups.medusa.k8ssandra.io in namespace other") {
            Ok(said)
        } else {
            Err(said)
        }
    })
    .await;
    assert!(!said.contains("in namespace cass"), "{said}");

    for object in namespaced.into_iter().filter(|object| object["metadata"]["namespace"] == CASS) {
        there.create(in_other(object)).await;
    }
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
    fleet.expect_size("shop", 2).await;

    // A name that is none is no path to anywhere.
    home.patch::<DataPlane>(FLEET, "dp-1", json!({"spec": {"namespaces": ["cass/secrets"]}})).await;
    let said = fleet.expect_data_plane("dp-1", "Accepted", "False", "InvalidSpec").await;
    assert!(said.contains("`spec.namespaces`") && said.contains("cass/secrets"), "{said}");
    controller.assert_running();
}
