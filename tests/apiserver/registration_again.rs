//! Data planes that are made again under their name, and clusters that say they are one.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt as _,
    api::{DeleteParams, Preconditions},
};
use medusa_fleet::api::{
    fleet::{DataPlane, FleetBackupJob, Phase},
    medusa::MedusaBackupJob,
};
use serde_json::{Value, json};

use crate::support::{
    BackupFinisher, CASS, ControlPlane, FLEET, Fleet, backup_job, condition, configuration, datacenter,
    eventually, rights, secret,
};

fn data_plane(name: &str) -> Value {
    json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "DataPlane",
        "metadata": {"name": name, "namespace": FLEET},
        "spec": {"kubeconfigSecretRef": {"name": format!("{name}-kubeconfig")}},
    })
}

/// The uids of the data planes that a finished job's children are in.
async fn expect_backed_up(fleet: &Fleet, job: &str) {
    fleet.home().create(backup_job(job, json!({}))).await;
    let run: FleetBackupJob = fleet.expect_phase(job, Phase::Succeeded).await;
    let entries = run.status.unwrap().datacenters;
    let planes: BTreeSet<&str> = entries.iter().map(|entry| entry.data_plane.as_str()).collect();
    assert_eq!(planes, BTreeSet::from(["dp-1", "dp-2"]), "{job}: {entries:#?}");
    let uid = fleet.job(job).await.uid().unwrap();
    for number in [1, 2] {
        let children = fleet.dp(number).list::<MedusaBackupJob>(CASS).await;
        let is_its =
            |child: &&MedusaBackupJob| child.labels().get("fleet.k8ssandra.io/job-uid") == Some(&uid);
        assert_eq!(children.iter().filter(is_its).count(), 1, "{job} in dp-{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_plane_that_is_made_again_under_its_name_is_used_whenever_that_happened() {
    let fleet = Fleet::start(2).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register(1).await;
    let second = rights::kubeconfig(fleet.dp(2)).to_string();
    home.create(secret(FLEET, "dp-2-kubeconfig", &[("kubeconfig", &second)])).await;
    home.create(data_plane("dp-2")).await;
    let mut finishers = Vec::new();
    for number in [1, 2] {
        fleet.dp(number).create(datacenter(&format!("dc{number}"), "shop", 1)).await;
        finishers.push(BackupFinisher::start(fleet.dp(number)));
        fleet.expect_data_plane(&format!("dp-{number}"), "Ready", "True", "Ready").await;
    }
    home.create(secret(FLEET, "bucket", &[])).await;
    home.create(configuration("shared", "bucket", Some("dp-2/cass"))).await;
    fleet.dp(2).appears::<Secret>(CASS, "bucket").await;

    for round in 0..5 {
        let old = home.get::<DataPlane>(FLEET, "dp-2").await.uid();
        let is_down = round % 2 == 1;
        if is_down {
            controller.kill9();
        }
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: old.clone(), resource_version: None }),
            ..DeleteParams::default()
        };
        home.api::<DataPlane>(FLEET).delete("dp-2", &params).await.unwrap();
        if is_down && round == 1 {
            // Gone before anybody looks: somebody took the finalizer off.
            home.patch::<DataPlane>(FLEET, "dp-2", json!({"metadata": {"finalizers": null}})).await;
        }
        if is_down && round != 1 {
            controller.start();
        }
        eventually("it can be made again", async || home.try_create(data_plane("dp-2")).await.map(drop))
            .await;
        if round == 1 {
            controller.start();
        }
        eventually(format!("round {round}: the new one is ready"), async || {
            let plane: DataPlane = home.get(FLEET, "dp-2").await;
            let is_new = plane.uid() != old;
            let conditions = plane.status.clone().unwrap_or_default().conditions;
            if is_new && condition(&conditions, "Ready").0 == "True" {
                Ok(())
            } else {
                Err(format!("{conditions:?}"))
            }
        })
        .await;
        fleet.expect_size("shop", 2).await;
        fleet.dp(2).appears::<Secret>(CASS, "bucket").await;
        expect_backed_up(&fleet, &format!("round-{round}")).await;
    }
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_of_the_same_identity_silences_nobody_and_a_person_can_say_that_it_is_another_cluster() {
    let fleet = Fleet::start(2).await;
    let home = fleet.home();
    // A cluster that was cloned: its kube-system has the uid of another's.
    let cloned = fleet.stored("dp-1", "namespaces/kube-system").await;
    fleet.store("dp-2", "namespaces/kube-system", &cloned).await;
    let mut controller = ControlPlane::spawn(&fleet);
    for number in [1, 2] {
        fleet.dp(number).create(datacenter(&format!("dc{number}"), "shop", 1)).await;
    }
    let _finishers = [BackupFinisher::start(fleet.dp(1)), BackupFinisher::start(fleet.dp(2))];

    // The object of the one that comes second is the older one: its Secret comes later.
    home.create(data_plane("dp-2")).await;
    fleet.expect_data_plane("dp-2", "Accepted", "False", "SecretNotFound").await;
    fleet.register(1).await;
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
    controller.kill9();
    let second = rights::kubeconfig(fleet.dp(2)).to_string();
    home.create(secret(FLEET, "dp-2-kubeconfig", &[("kubeconfig", &second)])).await;
    controller.start();
    let message = fleet.expect_data_plane("dp-2", "Unique", "False", "DuplicateCluster").await;
    for part in ["`dp-1`", "spec.allowDuplicateClusterId", "127.0.0.1:"] {
        assert!(message.contains(part), "{message}");
    }
    fleet.expect_data_plane("dp-1", "Unique", "True", "UniqueCluster").await;
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;

    // What the first one had goes on, and that the other was not looked at is said.
    home.create(backup_job("held", json!({}))).await;
    let run = fleet.expect_phase("held", Phase::Succeeded).await.status.unwrap();
    let said: Vec<_> =
        run.datacenters.iter().map(|e| (e.data_plane.as_str(), e.phase, e.reason.as_deref())).collect();
    assert_eq!(said[0].0, "dp-1");
    assert_eq!(said[1], ("dp-2", Phase::Skipped, Some("DuplicateCluster")));
    home.create(backup_job("named", json!({"dataPlanes": ["dp-1", "dp-2"]}))).await;
    fleet.expect_phase("named", Phase::PartiallyFailed).await;

    home.patch::<DataPlane>(FLEET, "dp-2", json!({"spec": {"allowDuplicateClusterId": true}})).await;
    let message = fleet.expect_data_plane("dp-2", "Unique", "True", "DuplicateAllowed").await;
    assert!(message.contains("`dp-1`"), "{message}");
    fleet.expect_data_plane("dp-2", "Ready", "True", "Ready").await;
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
    expect_backed_up(&fleet, "both").await;

    // Without it, it gives way again, until the first one is gone.
    home.patch::<DataPlane>(FLEET, "dp-2", json!({"spec": {"allowDuplicateClusterId": null}})).await;
    fleet.expect_data_plane("dp-2", "Unique", "False", "DuplicateCluster").await;
    home.delete::<Secret>(FLEET, "dp-1").await;
    home.disappears::<DataPlane>(FLEET, "dp-1").await;
    fleet.expect_data_plane("dp-2", "Ready", "True", "Ready").await;
    controller.assert_running();
}
