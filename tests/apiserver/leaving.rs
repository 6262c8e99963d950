//! The control plane's own namespace is deleted with everything in it, as `kubectl delete namespace` does: nothing of ours
//! keeps it from ending.

use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Namespace, Secret},
};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams},
};
use medusa_fleet::api::fleet::{DataPlane, FleetBackupJob, FleetBackupSchedule, FleetTask};
use serde_json::{Value, json};

use crate::support::{Cluster, ControlPlane, Fleet, eventually, rights, secret};

const NAMESPACE: &str = "leaving";

/// An object that waits for us when it is deleted.
fn held(kind: &str, name: &str, finalizer: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE, "finalizers": [finalizer]}, "spec": spec,
    })
}

/// Every kind of which something waits for us, and the Secrets.
fn kinds() -> [ApiResource; 5] {
    [
        ApiResource::erase::<Secret>(&()),
        ApiResource::erase::<FleetBackupJob>(&()),
        ApiResource::erase::<FleetTask>(&()),
        ApiResource::erase::<FleetBackupSchedule>(&()),
        ApiResource::erase::<DataPlane>(&()),
    ]
}

fn all(home: &Cluster, kind: &ApiResource) -> Api<DynamicObject> {
    Api::namespaced_with(home.client.clone(), NAMESPACE, kind)
}

async fn names(home: &Cluster, kind: &ApiResource) -> Vec<String> {
    let listed = all(home, kind).list(&ListParams::default()).await.unwrap();
    listed.iter().map(ResourceExt::name_any).collect()
}

/// Deletes everything of a kind there, as the namespace controller does. Some of it may be gone by then.
async fn empty(home: &Cluster, kind: &ApiResource) {
    for name in names(home, kind).await {
        match all(home, kind).delete(&name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(answer)) if answer.code == 404 => {}
            Err(error) => panic!("delete {name}: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_deleted_with_everything_in_it_ends() {
    let fleet = Fleet::start(1).await;
    let home = fleet.home();
    home.namespace(NAMESPACE).await.unwrap();
    rights::grant_in(home, NAMESPACE).await;
    let mut controller = ControlPlane::spawn_with(&fleet, &["--namespace", NAMESPACE, "--leader-elect"]);
    controller.ready(0).await;
    let kubeconfig = rights::kubeconfig(fleet.dp(1)).to_string();
    let mut registered = secret(NAMESPACE, "dp-1", &[("kubeconfig", &kubeconfig)]);
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
    let [secrets, others @ ..] = &kinds();
    empty(home, secrets).await;
    // The leader has nothing to lead by any more, and ends; whoever starts in its place cannot be elected.
    eventually("the leader has ended", async || if controller.has_ended() { Ok(()) } else { Err("it runs") })
        .await;
    assert!(controller.log().contains("leadership was lost"));
    controller.start();
    for kind in others {
        empty(home, kind).await;
    }
    eventually("everything is gone", async || {
        let mut left = Vec::new();
        for kind in others {
            left.extend(names(home, kind).await);
        }
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    controller.assert_running();
    let log = controller.log();
    assert!(log.contains("nobody leads in a namespace that is being deleted"), "{log}");
    assert!(log.contains("left behind"), "{log}");
}
