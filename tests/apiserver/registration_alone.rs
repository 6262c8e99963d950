//! A data plane that cannot be asked about costs nobody else anything, also after a restart, and can be deleted.

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
};
use medusa_fleet::api::fleet::{DataPlane, FleetBackupJob, Phase};
use serde_json::{Value, json};

use crate::support::{
    BackupFinisher, ControlPlane, FLEET, Fleet, backup_job, condition, datacenter, eventually, refusals,
    rights, secret,
};

fn data_plane(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "DataPlane",
        "metadata": {"name": name, "namespace": FLEET}, "spec": spec,
    })
}

/// DataPlanes as they are, also those that cannot be read.
fn raw(fleet: &Fleet) -> Api<DynamicObject> {
    fleet.home().dynamic::<DataPlane>(FLEET)
}

/// Waits until a condition is False for this reason; returns its message.
async fn expect_said(fleet: &Fleet, name: &str, type_: &str, reason: &str) -> String {
    eventually(format!("DataPlane {name}: {type_} is False because of {reason}"), async || {
        let object = raw(fleet).get(name).await.unwrap();
        let conditions = object.data["status"]["conditions"].clone();
        let all: Vec<Condition> = serde_json::from_value(conditions).unwrap_or_default();
        let (status, seen, message) = condition(&all, type_);
        if (status.as_str(), seen.as_str()) == ("False", reason) {
            Ok(message)
        } else {
            Err(format!("{all:?}"))
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_be_read_or_claimed_or_whose_secret_cannot_be_called_holds_up_itself_alone() {
    let fleet = Fleet::start(1).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    fleet.dp(1).create(datacenter("dc1", "shop", 1)).await;
    let _finisher = BackupFinisher::start(fleet.dp(1));

    // A name no object has; one that an admission policy keeps our finalizer from; one of another definition.
    home.create(data_plane("no-name", json!({"kubeconfigSecretRef": {"name": "my secret"}}))).await;
    refusals::refuse(
        home,
        "no-finalizers",
        "dataplanes",
        "object.metadata.name != 'denied' || !has(object.metadata.finalizers)",
        "no finalizers here",
    )
    .await;
    home.create(data_plane("denied", json!({"kubeconfigSecretRef": {"name": "denied"}}))).await;
    eventually("the policy holds", async || {
        let params = PatchParams { dry_run: true, ..PatchParams::default() };
        let patch = Patch::Merge(json!({"metadata": {"finalizers": ["example.org/tried"]}}));
        match raw(&fleet).patch("denied", &params, &patch).await {
            Ok(_) => Err("it does not"),
            Err(_) => Ok(()),
        }
    })
    .await;
    let again = rights::kubeconfig(fleet.dp(1)).to_string();
    home.create(secret(FLEET, "denied", &[("kubeconfig", &again)])).await;
    home.create(data_plane("odd", json!({"kubeconfigSecretRef": {"name": "denied"}, "paused": true}))).await;
    fleet.expect_data_plane("odd", "Ready", "False", "Paused").await;
    let key = format!("fleet.k8ssandra.io/dataplanes/{FLEET}/odd");
    let mut odd: Value = serde_json::from_slice(&fleet.stored("control-plane", &key).await).unwrap();
    odd["spec"]["limits"] = json!({"qps": "as many as you like"});
    fleet.store("control-plane", &key, &serde_json::to_vec(&odd).unwrap()).await;

    let message = expect_said(&fleet, "odd", "Accepted", "InvalidSpec").await;
    assert!(message.contains("`spec.limits.qps`"), "{message}");
    let message = expect_said(&fleet, "no-name", "Accepted", "InvalidSpec").await;
    assert!(message.contains("`spec.kubeconfigSecretRef.name`"), "{message}");
    let message = expect_said(&fleet, "denied", "Accepted", "WriteRefused").await;
    assert!(message.contains("no finalizers here"), "{message}");
    for (name, reason) in [("odd", "InvalidSpec"), ("no-name", "InvalidSpec"), ("denied", "WriteRefused")] {
        home.event("DataPlane", name, reason).await;
    }

    for round in ["before", "after"] {
        home.create(backup_job(round, json!({"dataPlanes": ["dp-1"]}))).await;
        let run = fleet.expect_phase(round, Phase::Succeeded).await;
        assert_eq!(run.status.unwrap().datacenters.len(), 1);
        if round == "before" {
            let since = controller.log().len();
            controller.restart();
            controller.ready(since).await;
        }
    }
    // Who means them waits for them, or does what it was told to.
    home.create(json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetBackupJob",
        "metadata": {"name": "all", "namespace": FLEET}, "spec": {"unreachablePolicy": "Fail"},
    }))
    .await;
    let run: FleetBackupJob = fleet.expect_phase("all", Phase::PartiallyFailed).await;
    let failed = run.status.unwrap().datacenters.into_iter().filter(|entry| entry.phase == Phase::Failed);
    let mut failed: Vec<String> = failed.map(|entry| entry.data_plane).collect();
    failed.sort();
    assert_eq!(failed, ["denied", "no-name", "odd"]);

    // Each can be deleted.
    for name in ["no-name", "denied"] {
        home.delete::<DataPlane>(FLEET, name).await;
        home.disappears::<DataPlane>(FLEET, name).await;
    }
    let odd = raw(&fleet);
    odd.delete("odd", &DeleteParams::default()).await.unwrap();
    eventually("odd is gone", async || match odd.get_opt("odd").await.unwrap() {
        None => Ok(()),
        Some(object) => Err(format!("{:?}", object.metadata)),
    })
    .await;
    home.event("DataPlane", "odd", "LeftBehind").await;
    refusals::permit(home, "no-finalizers").await;
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
    home.delete::<Secret>(FLEET, "dp-1").await;
    home.disappears::<DataPlane>(FLEET, "dp-1").await;
    controller.assert_running();
}
