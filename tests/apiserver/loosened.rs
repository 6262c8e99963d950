//! Definitions without types, as an older or a careless one is: an object of which a field is of another type is told so,
//! or left out, alone, whatever kind it is of.

use kube::api::DeleteParams;
use medusa_fleet::api::{
    fleet::{FleetBackupSchedule, FleetTask, Phase},
    medusa::{MedusaBackupSchedule, MedusaConfiguration, MedusaTask},
};
use serde_json::{Value, json};

use crate::{
    support::{
        BackupFinisher, CASS, Cluster, ControlPlane, FLEET, Fleet, backup_job,
        client_configs::{client_config, client_config_definition},
        condition, configuration, eventually, finish_task,
        loosened::{create_whole, loosen},
        restores::{backed_up, child_of, expect_end, restorable, restore_job},
        secret,
    },
    tasks::{over, task},
};

const FLEET_KINDS: &str = "fleet.k8ssandra.io/v1alpha1";
const MEDUSA: &str = "medusa.k8ssandra.io/v1alpha1";

/// An object of a kind with this spec and status.
fn odd(version: &str, kind: &str, namespace: &str, name: &str, spec: &Value, status: &Value) -> Value {
    let mut object = json!({
        "apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    });
    if !status.is_null() {
        object["status"] = status.clone();
    }
    object
}

/// A kind, a spec of it that is well, and what makes it odd: a place in spec or status, and what stands there instead.
type Odd = (&'static str, &'static str, Value, &'static [(&'static str, &'static str)]);

/// All of them, each with one place of another type.
fn odd_ones(namespace: &str, kinds: &[Odd]) -> Vec<Value> {
    let mut all = Vec::new();
    for (version, kind, sane, places) in kinds {
        for (number, (place, value)) in places.iter().enumerate() {
            let value: Value = serde_json::from_str(value).unwrap();
            let mut whole = json!({"spec": sane, "status": {}});
            let (parent, key) = place.rsplit_once('/').unwrap();
            let parent = if parent.is_empty() { &mut whole } else { whole.pointer_mut(parent).unwrap() };
            parent.as_object_mut().unwrap().insert(key.to_owned(), value);
            let name = format!("odd-{}-{number}", kind.to_lowercase());
            let status = if place.starts_with("/status") { whole["status"].clone() } else { Value::Null };
            all.push(odd(version, kind, namespace, &name, &whole["spec"], &status));
        }
    }
    all
}

fn at_home() -> Vec<Value> {
    let named = json!({"kubeconfigSecretRef": {"name": "nobodys"}});
    odd_ones(
        FLEET,
        &[
            (
                FLEET_KINDS,
                "DataPlane",
                named,
                &[
                    ("/spec", "[[]]"),
                    ("/spec/paused", "\"yes\""),
                    ("/spec/limits", "{\"qps\": {}}"),
                    ("/status/conditions", "5"),
                    ("/status", "\"x\""),
                ],
            ),
            (
                FLEET_KINDS,
                "FleetBackupJob",
                json!({"selector": {"clusters": ["nobody"]}}),
                &[
                    ("/spec", "7"),
                    ("/spec/selector", "\"*\""),
                    ("/spec/rollout", "{\"maxConcurrentDatacenters\": \"many\"}"),
                    ("/spec/ttlSecondsAfterFinished", "1.5"),
                    ("/status/datacenters", "{}"),
                    ("/status", "[]"),
                ],
            ),
            (
                FLEET_KINDS,
                "FleetTask",
                json!({"operation": "purge", "selector": {"clusters": ["nobody"]}}),
                &[
                    ("/spec", "\"purge\""),
                    ("/spec/operation", "[\"purge\"]"),
                    ("/status/datacenters", "true"),
                ],
            ),
            (
                FLEET_KINDS,
                "FleetBackupSchedule",
                json!({"schedule": "@yearly"}),
                &[
                    ("/spec", "null"),
                    ("/spec/schedule", "5"),
                    ("/spec/template", "{\"selector\": []}"),
                    ("/status/conditions", "{}"),
                    ("/status/lastScheduleTime", "\"yesterday\""),
                ],
            ),
            (
                FLEET_KINDS,
                "FleetRestoreJob",
                json!({"backup": "nobody", "dryRun": true}),
                &[
                    ("/spec", "[]"),
                    ("/spec/backup", "{}"),
                    ("/status/plan", "[]"),
                    ("/status/conditions", "\"none\""),
                ],
            ),
            (FLEET_KINDS, "FleetCluster", json!({}), &[("/spec", "5"), ("/status/datacenters", "{}")]),
            (FLEET_KINDS, "FleetBackup", json!({}), &[("/spec", "5"), ("/status/datacenters", "{}")]),
            (
                MEDUSA,
                "MedusaConfiguration",
                json!({"storageProperties": {"bucketName": "b"}}),
                &[("/spec", "5"), ("/spec/storageProperties", "[1]"), ("/status/conditions", "5")],
            ),
            (
                "k8ssandra.io/v1alpha1",
                "K8ssandraCluster",
                json!({"cassandra": {"datacenters": []}}),
                &[
                    ("/spec", "5"),
                    ("/spec/cassandra", "{\"datacenters\": {}}"),
                    ("/spec/medusa", "\"yes\""),
                    ("/status", "5"),
                ],
            ),
            (
                "config.k8ssandra.io/v1beta1",
                "ClientConfig",
                json!({"contextName": "x"}),
                &[("/spec", "5"), ("/spec/kubeConfigSecret", "[]"), ("/spec/contextName", "{}")],
            ),
        ],
    )
}

fn in_a_data_plane() -> Vec<Value> {
    let of_dc9 = json!({"cassandraDatacenter": "dc9"});
    let mut all = odd_ones(
        CASS,
        &[
            (
                MEDUSA,
                "MedusaBackupJob",
                of_dc9.clone(),
                &[
                    ("/spec", "5"),
                    ("/spec/cassandraDatacenter", "{}"),
                    ("/status/startTime", "\"soon\""),
                    ("/status/finished", "7"),
                ],
            ),
            (
                MEDUSA,
                "MedusaBackup",
                of_dc9.clone(),
                &[
                    ("/spec", "[]"),
                    ("/status/nodes", "{}"),
                    ("/status/totalNodes", "\"3\""),
                    ("/status/totalSize", "5"),
                ],
            ),
            (
                MEDUSA,
                "MedusaTask",
                of_dc9.clone(),
                &[("/spec", "[]"), ("/spec/operation", "5"), ("/status/finished", "\"all\"")],
            ),
            (
                MEDUSA,
                "MedusaBackupSchedule",
                of_dc9.clone(),
                &[("/spec", "[]"), ("/spec/backupSpec", "5"), ("/status/nextSchedule", "5")],
            ),
            (
                MEDUSA,
                "MedusaRestoreJob",
                json!({"cassandraDatacenter": "dc9", "backup": "x"}),
                &[("/spec", "5"), ("/spec/backup", "[]"), ("/status/restoreMapping", "\"none\"")],
            ),
            (MEDUSA, "MedusaConfiguration", json!({}), &[("/spec", "5"), ("/status", "5")]),
            (
                "cassandra.datastax.com/v1beta1",
                "CassandraDatacenter",
                restorable("x", "odd", 1)["spec"].clone(),
                &[
                    ("/spec", "5"),
                    ("/spec/size", "\"three\""),
                    ("/spec/stopped", "\"no\""),
                    ("/spec/podTemplateSpec", "[]"),
                    ("/status/conditions", "5"),
                    ("/status", "\"fine\""),
                ],
            ),
        ],
    );
    // Some are of a run of ours, by their labels.
    for (number, object) in all.iter_mut().enumerate().filter(|(number, _)| number % 2 == 0) {
        object["metadata"]["labels"] = json!({
            "fleet.k8ssandra.io/job": "x", "fleet.k8ssandra.io/job-uid": format!("{number}"),
            "fleet.k8ssandra.io/cluster": "odd",
        });
    }
    all
}

/// What a datacenter of a run waits for.
async fn held_up(fleet: &Fleet, run: &str, datacenter: &str) -> String {
    eventually(format!("{datacenter} of {run} waits"), async || {
        let entries = fleet.job(run).await.status.unwrap_or_default().datacenters;
        let entry = entries.iter().find(|entry| entry.datacenter == datacenter);
        entry.and_then(|entry| entry.message.clone()).ok_or(format!("{entries:?}"))
    })
    .await
}

/// Waits until a MedusaConfiguration says this of its copies.
async fn replicated(fleet: &Fleet, name: &str, reason: &str, words: &str) {
    eventually(format!("{name} is {reason}"), async || {
        let shared: MedusaConfiguration = fleet.home().get(FLEET, name).await;
        let (_, seen, message) = condition(&shared.status.unwrap_or_default().conditions, "Replicated");
        if seen == reason && message.contains(words) { Ok(()) } else { Err(format!("{seen}: {message}")) }
    })
    .await;
}

async fn delete(cluster: &Cluster, object: &Value) {
    let name = object["metadata"]["name"].as_str().unwrap();
    cluster.untyped(object).delete(name, &DeleteParams::default()).await.unwrap();
}

/// What an object says of itself.
async fn said(fleet: &Fleet, object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().unwrap();
    let found = fleet.home().untyped(object).get_opt(name).await.unwrap();
    found.map(|found| found.data["status"].to_string()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_definitions_have_no_types_an_object_of_other_types_costs_itself_alone() {
    let fleet = Fleet::start(2).await;
    let home = fleet.home();
    home.install(&[client_config_definition()]).await.unwrap();
    for cluster in [home, fleet.dp(1), fleet.dp(2)] {
        loosen(cluster).await;
    }
    let (odd_at_home, odd_there) = (at_home(), in_a_data_plane());
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    backed_up(&fleet).await;
    for object in &odd_at_home {
        create_whole(home, object).await;
    }
    for object in &odd_there {
        create_whole(fleet.dp(1), object).await;
    }
    // It may name a Secret by which a cluster is reached: only that one is held back, and why is said.
    let odd = json!({"contextName": 5, "kubeConfigSecret": {"name": "doubted"}});
    home.create(client_config(FLEET, "doubtful", odd)).await;
    home.create(secret(FLEET, "doubted", &[("credentials", "x")])).await;
    home.create(configuration("doubted", "doubted", Some("dp-1/cass"))).await;
    replicated(&fleet, "doubted", "SecretInDoubt", "spec.contextName").await;

    // What is well goes on, also where the odd ones are there from the beginning.
    let _finishers = [BackupFinisher::start(fleet.dp(1)), BackupFinisher::start(fleet.dp(2))];
    let dry_run = json!({"backup": "b-0a0a0a0a.shop", "dryRun": true});
    for round in ["one", "two"] {
        let shop = json!({"clusters": ["shop"], "dataPlanes": ["dp-1", "dp-2"]});
        home.create(secret(FLEET, round, &[("credentials", round)])).await;
        home.create(configuration(round, round, Some("dp-1/cass"))).await;
        home.create(backup_job(round, shop.clone())).await;
        if round == "one" {
            let held = held_up(&fleet, round, "dc1").await;
            assert!(held.contains("odd-medusarestorejob-2, which cannot be read"), "{held}");
            for object in odd_there.iter().filter(|object| object["kind"] == "MedusaRestoreJob") {
                delete(fleet.dp(1), object).await;
            }
        }
        fleet.expect_phase(round, Phase::Succeeded).await;
        home.create(task(round, json!({"operation": "sync", "selector": shop}))).await;
        for (number, dc) in [(1, "dc1"), (2, "dc2")] {
            let sync = home.get::<FleetTask>(FLEET, round).await;
            let child: MedusaTask = fleet.dp(number).appears(CASS, &child_of(&sync, dc)).await;
            finish_task(fleet.dp(number), &child).await;
        }
        assert_eq!(over(&fleet, round).await.status.unwrap().run.phase, Some(Phase::Succeeded));
        home.create(json!({
            "apiVersion": FLEET_KINDS, "kind": "FleetBackupSchedule",
            "metadata": {"name": round, "namespace": FLEET},
            "spec": {"schedule": "@yearly", "execution": "Delegated", "template": {"selector": shop}},
        }))
        .await;
        let schedule: FleetBackupSchedule = home.get(FLEET, round).await;
        fleet.dp(1).appears::<MedusaBackupSchedule>(CASS, &child_of(&schedule, "dc1")).await;
        replicated(&fleet, round, "Replicated", "").await;
        if round == "one" {
            // Of some nobody can say whose they are: a restore waits for those, and a dry run says so.
            home.create(restore_job("held", dry_run.clone())).await;
            let held = expect_end(&fleet, "held", Phase::Failed).await;
            let said = serde_json::to_string(&held.status).unwrap();
            assert!(said.contains("cannot be read and may be at work; correct it, or delete it"), "{said}");
            let nobodys =
                odd_there.iter().filter(|object| !object["spec"]["cassandraDatacenter"].is_string());
            for object in nobodys.filter(|object| {
                ["MedusaBackupJob", "MedusaTask"].contains(&object["kind"].as_str().unwrap())
            }) {
                delete(fleet.dp(1), object).await;
            }
        }
        home.create(restore_job(round, dry_run.clone())).await;
        expect_end(&fleet, round, Phase::Succeeded).await;
        if round == "one" {
            let since = controller.log().len();
            controller.restart();
            controller.ready(since).await;
        }
    }
    // Whoever wrote one of those is told the field.
    for (kind, number, words) in [
        ("DataPlane", 1, "`spec.paused`"),
        ("FleetBackupJob", 1, "spec.selector"),
        ("FleetBackupJob", 2, "spec.rollout.maxConcurrentDatacenters"),
        ("FleetTask", 1, "spec.operation"),
        ("FleetTask", 2, "status.datacenters"),
        ("FleetBackupSchedule", 1, "spec.schedule"),
        ("FleetRestoreJob", 1, "spec.backup"),
        ("MedusaConfiguration", 1, "spec.storageProperties"),
    ] {
        let name = format!("odd-{}-{number}", kind.to_lowercase());
        let object = odd_at_home.iter().find(|object| object["metadata"]["name"] == name.as_str()).unwrap();
        eventually(format!("{name} says {words}"), async || {
            let said = said(&fleet, object).await;
            if said.contains(words) && said.contains("\"Invalid") { Ok(()) } else { Err(said) }
        })
        .await;
    }
    fleet.expect_data_plane("dp-1", "Synced", "True", "WatchesLive").await;
    controller.assert_running();
    assert!(!controller.log().contains("panic"), "{}", controller.log());
}
