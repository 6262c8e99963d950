//! The control plane's own namespace is deleted with everything in it, as `kubectl delete namespace` does: nothing of ours
//! keeps it from ending.

use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Namespace, Secret},
};
use kube::{Api, ResourceExt as _, api::DeleteParams};
use medusa_fleet::api::fleet::{DataPlane, FleetBackupJob, FleetBackupSchedule, FleetTask};
use serde_json::{Value, json};

use crate::support::{Cluster, ControlPlane, Fleet, eventually, secret};

const NAMESPACE: &str = "leaving";
/// One to an unroutable address: nobody answers there, so nothing is taken back.
const NOWHERE: &str = r#"{"apiVersion":"v1","kind":"Config","current-context":"c","contexts":[{"name":"c","context":
{"cluster":"c","user":"u"}}],"clusters":[{"name":"c","cluster":{"server":"https://192.0.2.1:6443"}}],"users":[{"name":"u",
"user":{"token":"t"}}]}"#;

fn held(kind: &str, name: &str, finalizer: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE, "finalizers": [finalizer]}, "spec": spec,
    })
}

/// Deletes everything of a kind there, as the namespace controller does.
async fn empty<K: crate::support::Kind>(home: &Cluster) {
    for object in home.list::<K>(NAMESPACE).await {
        home.delete::<K>(NAMESPACE, &object.name_any()).await;
    }
}

async fn names<K: crate::support::Kind>(home: &Cluster) -> Vec<String> {
    home.list::<K>(NAMESPACE).await.iter().map(kube::ResourceExt::name_any).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_deleted_with_everything_in_it_ends() {
    let fleet = Fleet::start(1).await;
    let home = fleet.home();
    home.namespace(NAMESPACE).await;
    let mut controller = ControlPlane::spawn_with(&fleet, &["--namespace", NAMESPACE, "--leader-elect"]);
    controller.ready(0).await;
    let mut registered = secret(NAMESPACE, "dead", &[("kubeconfig", NOWHERE)]);
    registered["metadata"]["labels"] = json!({"fleet.k8ssandra.io/register": "true"});
    home.create(registered).await;
    eventually("both DataPlanes wait for us", async || {
        let planes = home.list::<DataPlane>(NAMESPACE).await;
        let held = planes.iter().filter(|plane| !plane.finalizers().is_empty()).count();
        if held == 2 { Ok(()) } else { Err(format!("{held}")) }
    })
    .await;
    let daily = json!({"schedule": "@yearly", "execution": "Delegated"});
    home.create(held("FleetBackupSchedule", "nightly", "fleet.k8ssandra.io/delegated", &daily)).await;
    home.create(held("FleetBackupJob", "slot", "fleet.k8ssandra.io/slot", &json!({}))).await;
    home.create(held("FleetTask", "slot", "fleet.k8ssandra.io/slot", &json!({"operation": "sync"}))).await;

    let namespaces: Api<Namespace> = Api::all(home.client.clone());
    namespaces.delete(NAMESPACE, &DeleteParams::default()).await.unwrap();
    home.delete::<Lease>(NAMESPACE, "medusa-fleet-control-plane").await;
    empty::<Secret>(home).await;
    // The leader has nothing to lead by any more, and ends; whoever starts in its place cannot be elected.
    eventually("the leader has ended", async || {
        if controller.log().contains("leadership was lost") { Ok(()) } else { Err("it leads") }
    })
    .await;
    controller.restart();
    empty::<FleetBackupJob>(home).await;
    empty::<FleetTask>(home).await;
    empty::<FleetBackupSchedule>(home).await;
    empty::<DataPlane>(home).await;
    eventually("everything is gone", async || {
        let mut left = names::<DataPlane>(home).await;
        left.extend(names::<FleetBackupSchedule>(home).await);
        left.extend(names::<FleetBackupJob>(home).await);
        left.extend(names::<FleetTask>(home).await);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    controller.assert_running();
    let log = controller.log();
    assert!(log.contains("nobody leads in a namespace that is being deleted"), "{log}");
    assert!(log.contains("left behind"), "{log}");
}
