//! Fleets of which no two data planes are alike: other controllers, older definitions, smaller roles.

use k8s_openapi::{
    api::rbac::v1::ClusterRole,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, api::PostParams};
use medusa_fleet::{
    api::{
        fleet::{DataPlane, DeploymentState, FleetBackup, FleetCluster, FleetClusterStatus, Phase},
        medusa::{MedusaBackup, MedusaBackupSchedule},
    },
    runtime::clock,
};
use serde_json::{Value, json};

use crate::{
    deployment_steps::{bare, bucket, expect_state, k8ssandra, medusa_in, raw, settle},
    support::{
        BackupFinisher, CASS, Cluster, ControlPlane, FLEET, Fleet, backup_job, condition, datacenter,
        eventually, eventually_within, medusa_definitions, token, with_token, write_backup,
    },
};

/// Fields of MedusaBackupSchedules that are ours.
const OURS: [&str; 4] =
    ["timeZone", "startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"];

/// Our definitions as k8ssandra-operator has them, without `fields` of MedusaBackupSchedules besides ours.
fn upstreams(fields: &[&str]) -> Vec<CustomResourceDefinition> {
    let without = |definition: CustomResourceDefinition| {
        let mut object = serde_json::to_value(definition).unwrap();
        if object["spec"]["names"]["kind"] == "MedusaBackupSchedule" {
            let spec = object
                .pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec")
                .and_then(Value::as_object_mut)
                .unwrap();
            spec.remove("x-kubernetes-validations");
            for field in OURS.iter().chain(fields) {
                let properties = spec["properties"].as_object_mut().unwrap();
                assert!(properties.remove(*field).is_some(), "{field}");
            }
        }
        serde_json::from_value(object).unwrap()
    };
    medusa_definitions().into_iter().map(without).collect()
}

/// The Deployment by which k8ssandra-operator is recognised.
async fn install_k8ssandra_operator(cluster: &Cluster) {
    let labels =
        json!({"app.kubernetes.io/name": "k8ssandra-operator", "app.kubernetes.io/version": "1.29.0"});
    let container = json!({"name": "manager", "image": "k8ssandra/k8ssandra-operator:v1.29.0"});
    cluster
        .create(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "k8ssandra-operator", "namespace": CASS, "labels": labels},
            "spec": {
                "selector": {"matchLabels": {"app": "operator"}},
                "template": {"metadata": {"labels": {"app": "operator"}}, "spec": {"containers": [container]}},
            },
        }))
        .await;
}

/// Waits until the FleetCluster `shop` is as `wanted` says.
async fn expect_cluster(fleet: &Fleet, what: &str, wanted: impl Fn(&FleetClusterStatus) -> bool) {
    eventually(format!("FleetCluster shop: {what}"), async || {
        let cluster = fleet.home().find::<FleetCluster>(FLEET, "shop").await.ok_or("it is not there")?;
        let status = cluster.status.unwrap_or_default();
        if wanted(&status) { Ok(()) } else { Err(format!("{status:#?}")) }
    })
    .await;
}

fn schedule(name: &str, cron: &str) -> Value {
    json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackupSchedule",
        "metadata": {"name": name, "namespace": CASS},
        "spec": {"cronSchedule": cron, "backupSpec": {"cassandraDatacenter": "dc1"}},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_data_plane_serves_is_used_and_what_it_lacks_has_a_reason() {
    let bare: Vec<CustomResourceDefinition> = upstreams(&[])
        .into_iter()
        .filter(|d| d.spec.names.kind != "MedusaBackupSchedule" && d.spec.names.kind != "MedusaRestoreJob")
        .collect();
    let older = upstreams(&["operationType", "concurrencyPolicy"]);
    let fleet = Fleet::start_with(&[upstreams(&[]), older, bare]).await;
    let home = fleet.home();
    install_k8ssandra_operator(fleet.dp(1)).await;
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;

    // Each says what it lacks and what that costs; none is less ready for it.
    let served = |name: &'static str, parts: &'static [&'static str], not: &'static str| {
        let fleet = &fleet;
        async move {
            eventually(format!("{name} says that it lacks {parts:?}"), async || {
                let said = fleet.expect_data_plane(name, "Served", "True", "DefinitionsServed").await;
                let all = parts.iter().all(|part| said.contains(part)) && !said.contains(not);
                if all { Ok(()) } else { Err(said) }
            })
            .await;
        }
    };
    served("dp-1", &["`spec.timeZone` (the time zone goes into the expression)"], "operationType").await;
    served("dp-2", &["`spec.operationType` (no purge schedules)", "concurrencyPolicy"], "no restores").await;
    served(
        "dp-3",
        &["medusabackupschedules.medusa.k8ssandra.io (no schedules)", "(no restores)"],
        "timeZone",
    )
    .await;
    let plane: DataPlane = home.get(FLEET, "dp-1").await;
    let found = plane.status.unwrap_or_default().medusa_controller.unwrap();
    assert_eq!((found.name.as_str(), found.version.as_deref()), ("k8ssandra-operator", Some("1.29.0")));

    // A backup of all of them.
    for number in 1..=3 {
        fleet.dp(number).create(datacenter(&format!("dc{number}"), "shop", 2)).await;
    }
    expect_cluster(&fleet, "three datacenters", |s| s.size == 3).await;
    let finishers = [
        BackupFinisher::start(fleet.dp(1)),
        BackupFinisher::start(fleet.dp(2)),
        BackupFinisher::start(fleet.dp(3)),
    ];
    home.create(backup_job("all", json!({}))).await;
    fleet.expect_phase("all", Phase::Succeeded).await;
    drop(finishers);
    let is = |s: &FleetClusterStatus, type_: &str| condition(&s.conditions, type_);
    expect_cluster(&fleet, "protected and consistent", |s| {
        is(s, "Protected").0 == "True" && is(s, "InventoryConsistent").0 == "True"
    })
    .await;

    // Schedules of k8ssandra-operator: one slot, names that differ by a moment, one restore point.
    let moment = clock::now().as_second();
    for (number, late) in [(1, 20), (2, 0), (3, 47)] {
        let name = format!("weekly-{}", moment + late);
        write_backup(fleet.dp(number), &name, &format!("dc{number}"), 2, "SUCCESS").await;
    }
    eventually("the slot is one restore point, and no other is left of it", async || {
        let all: Vec<FleetBackup> = home.list(FLEET).await;
        let ours: Vec<_> = all
            .into_iter()
            .filter_map(|b| b.status)
            .filter(|s| s.origin.as_ref().is_some_and(|o| o.schedule.as_deref() == Some("weekly")))
            .map(|s| (s.complete, s.done.unwrap_or_default()))
            .collect();
        if ours == [(true, "3/3".to_owned())] { Ok(()) } else { Err(format!("{ours:?}")) }
    })
    .await;

    // What its schedules promise is what its age is measured against.
    let before = home.get::<FleetCluster>(FLEET, "shop").await.status.unwrap_or_default();
    fleet.dp(1).create(schedule("often", "0 * * * *")).await;
    fleet.dp(1).create(schedule("weekly", "0 0 * * 0")).await;
    expect_cluster(&fleet, "measured against an hourly schedule", |s| {
        s.expected_interval_seconds == Some(3_600 + 900 + 3_600) && s.next_scheduled_backup.is_some()
    })
    .await;
    for name in ["often", "weekly"] {
        fleet.dp(1).delete::<MedusaBackupSchedule>(CASS, name).await;
    }
    expect_cluster(&fleet, "measured against the objective again", |s| {
        s.expected_interval_seconds == before.expected_interval_seconds && s.next_scheduled_backup.is_none()
    })
    .await;

    // One datacenter lost its MedusaBackup.
    let name = format!("weekly-{}", moment + 47);
    fleet.dp(3).delete::<MedusaBackup>(CASS, &name).await;
    expect_cluster(&fleet, "drifted", |s| {
        let named: Vec<_> = s.drift.iter().map(|d| (d.data_plane.as_str(), d.reason.as_str())).collect();
        named == [("dp-3", "MedusaBackupMissing")] && is(s, "InventoryConsistent").1 == "InventoryDrifted"
    })
    .await;
    home.event("FleetCluster", "shop", "InventoryDrifted").await;
    controller.assert_running();
}

/// Takes from the role what backups do not need: as it was in earlier versions.
async fn shrink_role(cluster: &Cluster) -> ClusterRole {
    let api: Api<ClusterRole> = Api::all(cluster.client.clone());
    let full = api.get("medusa-fleet-control-plane").await.unwrap();
    let mut small = full.clone();
    let extra = ["medusabackupschedules", "medusatasks", "configmaps", "persistentvolumeclaims"];
    let rules = small.rules.as_mut().unwrap();
    rules.retain(|rule| !rule.resources.iter().flatten().any(|r| extra.contains(&r.as_str())));
    for rule in rules {
        if rule.resources.iter().flatten().any(|r| r == "cassandradatacenters") {
            rule.verbs.retain(|verb| verb != "patch");
        }
    }
    api.replace("medusa-fleet-control-plane", &PostParams::default(), &small).await.unwrap();
    full
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_earlier_role_backups_go_on_and_what_does_not_is_said() {
    let fleet = Fleet::start(1).await;
    let (home, cluster) = (fleet.home(), fleet.dp(1));
    let full = shrink_role(cluster).await;
    let mut controller = ControlPlane::spawn(&fleet);
    controller.lacks_rights();
    let kubeconfig = with_token(cluster, &token(cluster, "first").await);
    fleet.register_as("dp-1", "kubeconfig", &kubeconfig).await;
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
    let said = fleet.expect_data_plane("dp-1", "Authorized", "True", "PermissionsGranted").await;
    for part in ["patch cassandradatacenters", "no deploying Medusa", "no restores", "data-plane-rbac.yaml"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    cluster.create(datacenter("dc1", "shop", 2)).await;
    let _finisher = BackupFinisher::start(cluster);
    expect_cluster(&fleet, "found", |s| s.size == 1).await;
    home.create(backup_job("all", json!({}))).await;
    fleet.expect_phase("all", Phase::Succeeded).await;

    // Medusa is not deployed, and the missing verbs and their remedy are named on the cluster that asks for it.
    cluster.create(bare("dc2", "bare")).await;
    settle(cluster, "dc2").await;
    let before = raw(cluster, "dc2").await;
    home.create(bucket()).await;
    home.create(k8ssandra("bare", &[("dc2", "dp-1")], json!({}))).await;
    let refused = expect_state(&fleet, "bare", "dc2", DeploymentState::Refused, Some("NotAuthorized")).await;
    let said = refused.medusa.message.unwrap();
    for part in ["patch cassandradatacenters", "create/patch/delete configmaps", "data-plane-rbac.yaml"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    home.event("K8ssandraCluster", "bare", "NotAuthorized").await;
    assert_eq!(raw(cluster, "dc2").await["spec"], before["spec"]);
    home.create(backup_job("again", json!({"datacenters": ["dc1"]}))).await;
    fleet.expect_phase("again", Phase::Succeeded).await;

    // The role of this version takes effect without a restart.
    let api: Api<ClusterRole> = Api::all(cluster.client.clone());
    let now = api.get("medusa-fleet-control-plane").await.unwrap();
    let grown = ClusterRole { metadata: now.metadata, ..full };
    api.replace("medusa-fleet-control-plane", &PostParams::default(), &grown).await.unwrap();
    eventually_within(std::time::Duration::from_mins(2), "nothing is missing any more", async || {
        let said = fleet.expect_data_plane("dp-1", "Authorized", "True", "PermissionsGranted").await;
        if said == "every permission needed is granted" { Ok(()) } else { Err(said) }
    })
    .await;
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
    cluster.create(schedule("often", "@hourly")).await;
    expect_cluster(&fleet, "its schedules are seen now", |s| s.next_scheduled_backup.is_some()).await;
    medusa_in(cluster, "dc2").await;
    controller.assert_running();
}
