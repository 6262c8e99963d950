//! Delegated schedules over real data planes: made, followed, taken back, and what comes of silence.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use medusa_fleet::api::medusa::{MedusaBackup, MedusaBackupSchedule};

use super::*;
use crate::support::{CASS, Cluster, ControlPlane, FLEET, datacenter, eventually_within, write_backup};

pub(crate) fn delegated(name: &str, spec: Value) -> Value {
    let mut whole = json!({"schedule": "0 2 * * *", "execution": "Delegated", "template": {}});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetBackupSchedule",
        "metadata": {"name": name, "namespace": FLEET}, "spec": whole
    })
}

async fn edit(fleet: &Fleet, name: &str, spec: Value) {
    fleet.home().patch::<FleetBackupSchedule>(FLEET, name, json!({"spec": spec})).await;
}

pub(super) async fn status(fleet: &Fleet, name: &str) -> FleetBackupScheduleStatus {
    fleet.home().get::<FleetBackupSchedule>(FLEET, name).await.status.unwrap_or_default()
}

/// Waits until the status is about the schedule as it is now: after an edit, whoever was there before has not written it.
pub(super) async fn seen(fleet: &Fleet, name: &str) -> FleetBackupScheduleStatus {
    let now = fleet.home().get::<FleetBackupSchedule>(FLEET, name).await.metadata.generation;
    eventually(format!("{name} is seen as it is now"), async || {
        let status = status(fleet, name).await;
        if status.observed_generation == now { Ok(status) } else { Err(format!("{status:?}")) }
    })
    .await
}

/// Waits until the schedule's condition `Ready` has this reason; returns its message.
async fn ready(fleet: &Fleet, name: &str, reason: &str) -> String {
    eventually(format!("{name} is {reason}"), async || {
        let status = status(fleet, name).await;
        let (_, found, message) = condition(&status.conditions, "Ready");
        if found == reason { Ok(message) } else { Err(format!("{status:?}")) }
    })
    .await
}

/// The MedusaBackupSchedules of a data plane, by datacenter.
async fn there(cluster: &Cluster) -> BTreeMap<String, MedusaBackupSchedule> {
    let all = cluster.list::<MedusaBackupSchedule>(CASS).await;
    all.into_iter().map(|s| (s.spec.backup_spec.cassandra_datacenter.clone(), s)).collect()
}

/// Waits until the data plane has schedules for exactly these datacenters that all look like `wanted`.
pub(super) async fn expect(
    cluster: &Cluster,
    datacenters: &[&str],
    wanted: impl Fn(&MedusaBackupSchedule) -> bool,
) -> BTreeMap<String, MedusaBackupSchedule> {
    eventually(format!("{} has schedules for {datacenters:?}", cluster.name), async || {
        let found = there(cluster).await;
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        if names == datacenters && found.values().all(&wanted) {
            Ok(found)
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await
}

/// Two data planes with a datacenter of cluster `shop` each.
pub(super) async fn two() -> (Fleet, ControlPlane) {
    let fleet = Fleet::start(2).await;
    let controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    for number in 1..=2 {
        fleet.dp(number).create(datacenter(&format!("dc{number}"), "shop", 1)).await;
    }
    (fleet, controller)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_datacenter_has_its_own_schedule_that_follows_and_is_taken_back() {
    let (fleet, mut controller) = two().await;
    let home = fleet.home();
    let spec =
        json!({"timeZone": "Europe/Berlin", "windowSeconds": 1800, "template": {"backupType": "full"}});
    let made = home.create(delegated("nightly", spec)).await;
    let first = expect(fleet.dp(1), &["dc1"], |_| true).await.remove("dc1").unwrap();
    let second = expect(fleet.dp(2), &["dc2"], |_| true).await.remove("dc2").unwrap();
    let digits: String = made.uid().unwrap().chars().take(8).collect();
    assert_eq!(first.name_any(), format!("nightly-dc1-{digits}"));
    assert_eq!(first.spec.cron_schedule, second.spec.cron_schedule, "one cluster, one minute");
    assert_eq!(first.spec.time_zone.as_deref(), Some("Europe/Berlin"));
    assert_eq!(first.spec.backup_spec.backup_type.as_str(), "full");
    assert_eq!(first.owner_references()[0].kind, "CassandraDatacenter");
    ready(&fleet, "nightly", "Scheduled").await;
    let counts = status(&fleet, "nightly").await.datacenters.unwrap();
    assert_eq!((counts.total, counts.scheduled), (2, 2));

    // Changes are followed, also those made while the control plane was away, and so is drift.
    edit(&fleet, "nightly", json!({"suspend": true})).await;
    expect(fleet.dp(1), &["dc1"], |s| s.spec.disabled == Some(true)).await;
    expect(fleet.dp(2), &["dc2"], |s| s.spec.disabled == Some(true)).await;
    ready(&fleet, "nightly", "Paused").await;
    controller.kill9();
    edit(
        &fleet,
        "nightly",
        json!({"suspend": false, "schedule": "0 4 * * *", "template": {"backupType": "differential"}}),
    )
    .await;
    controller.start();
    let follows = |s: &MedusaBackupSchedule| {
        s.spec.disabled == Some(false)
            && s.spec.cron_schedule.ends_with(" 4 * * *")
            && s.spec.backup_spec.backup_type.as_str() == "differential"
    };
    let now = expect(fleet.dp(1), &["dc1"], follows).await;
    assert_eq!(now["dc1"].uid(), first.uid(), "it is changed, not made anew");
    expect(fleet.dp(2), &["dc2"], follows).await;
    let name = first.name_any();
    fleet.dp(1).patch::<MedusaBackupSchedule>(CASS, &name, json!({"spec": {"disabled": true}})).await;
    expect(fleet.dp(1), &["dc1"], follows).await;
    fleet.dp(1).delete::<MedusaBackupSchedule>(CASS, &name).await;
    expect(fleet.dp(1), &["dc1"], follows).await;

    // What no longer belongs goes, and nothing else.
    fleet.dp(1).create(datacenter("dc9", "shop", 1)).await;
    expect(fleet.dp(1), &["dc1", "dc9"], follows).await;
    let own = json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackupSchedule",
        "metadata": {"name": "a-persons", "namespace": CASS},
        "spec": {"cronSchedule": "@weekly", "backupSpec": {"cassandraDatacenter": "mine"}}
    });
    fleet.dp(1).create(own).await;
    edit(&fleet, "nightly", json!({"template": {"selector": {"datacenters": ["dc1", "dc2"]}}})).await;
    expect(fleet.dp(1), &["dc1", "mine"], |_| true).await;
    edit(&fleet, "nightly", json!({"execution": "Coordinated"})).await;
    expect(fleet.dp(1), &["mine"], |_| true).await;
    expect(fleet.dp(2), &[], |_| true).await;
    edit(&fleet, "nightly", json!({"execution": "Delegated"})).await;
    expect(fleet.dp(2), &["dc2"], follows).await;
    home.delete::<FleetBackupSchedule>(FLEET, "nightly").await;
    home.disappears::<FleetBackupSchedule>(FLEET, "nightly").await;
    expect(fleet.dp(1), &["mine"], |_| true).await;
    expect(fleet.dp(2), &[], |_| true).await;
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_data_planes_have_done_is_seen_here() {
    let (fleet, _controller) = two().await;
    fleet.home().create(delegated("nightly", json!({}))).await;
    let mut names = Vec::new();
    for number in 1..=2 {
        let dc = format!("dc{number}");
        names.push(expect(fleet.dp(number), &[&dc], |_| true).await[&dc].name_any());
    }
    let slot = Timestamp::from_second(1_790_000_000).unwrap();
    let next = slot + SignedDuration::from_secs(86_400);
    let ran = json!({"lastExecution": slot.to_string(), "nextSchedule": next.to_string()});
    for (number, name) in (1..=2).zip(&names) {
        fleet.dp(number).patch_status::<MedusaBackupSchedule>(CASS, name, ran.clone()).await;
    }
    write_backup(fleet.dp(1), &of(&names[0], slot), "dc1", 1, "SUCCESS").await;
    let last = eventually("the slot is seen", async || {
        let status = status(&fleet, "nightly").await;
        let times = (status.last_schedule_time.clone(), status.next_schedule_time.clone());
        match times {
            (Some(last), Some(at)) if last.0 == slot && at.0 == next => Ok(status),
            _ => Err(format!("{status:?}")),
        }
    })
    .await;
    assert_eq!(last.last_successful_time, None, "dc2 has no backup");
    write_backup(fleet.dp(2), &of(&names[1], slot), "dc2", 1, "SUCCESS").await;
    let finished =
        fleet.dp(1).get::<MedusaBackup>(CASS, &of(&names[0], slot)).await.status.unwrap().finish_time;
    eventually("it succeeded everywhere", async || {
        let status = status(&fleet, "nightly").await;
        let is_good = condition(&status.conditions, "Succeeded").0 == "True";
        if is_good && status.last_successful_time == finished { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;

    // A slot that is missed, and a backup that fails, are said in the data plane's words.
    let missed = json!({"conditions": [{
        "type": "Missed", "status": "True", "reason": "SlotsMissed", "message": "3 slots passed",
        "lastTransitionTime": slot.to_string(),
    }]});
    fleet.dp(2).patch_status::<MedusaBackupSchedule>(CASS, &names[1], missed).await;
    write_backup(fleet.dp(1), &of(&names[0], next), "dc1", 1, "FAILED").await;
    eventually("both are said", async || {
        let status = status(&fleet, "nightly").await;
        let (missed, good) =
            (condition(&status.conditions, "Missed"), condition(&status.conditions, "Succeeded"));
        let is_said = missed.2.contains("dp-2/cass/dc2: 3 slots passed") && good.2.contains("dp-1/cass/dc1");
        if is_said && good.0 == "False" { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    fleet.home().event("FleetBackupSchedule", "nightly", "SlotsMissed").await;
    fleet.home().event("FleetBackupSchedule", "nightly", "Failed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_takes_nothing_back_and_holds_up_nobody_for_ever() {
    let (fleet, mut controller) = two().await;
    let home = fleet.home();
    home.create(delegated("nightly", json!({}))).await;
    expect(fleet.dp(1), &["dc1"], |_| true).await;
    expect(fleet.dp(2), &["dc2"], |_| true).await;
    fleet.stop("dp-2");
    fleet.expect_data_plane("dp-2", "Reachable", "False", "ConnectionRefused").await;
    edit(&fleet, "nightly", json!({"schedule": "0 5 * * *"})).await;
    expect(fleet.dp(1), &["dc1"], |s| s.spec.cron_schedule == "0 5 * * *").await;
    let message = ready(&fleet, "nightly", "DataPlaneUnreachable").await;
    assert!(message.contains("dp-2"), "{message}");
    // The control plane forgets all it knew; the silent data plane still counts for nothing.
    controller.restart();
    home.delete::<FleetBackupSchedule>(FLEET, "nightly").await;
    expect(fleet.dp(1), &[], |_| true).await;
    assert!(home.find::<FleetBackupSchedule>(FLEET, "nightly").await.is_some(), "it waits for dp-2");
    eventually_within(Duration::from_secs(150), "the schedule goes after the grace period", async || {
        let there = home.find::<FleetBackupSchedule>(FLEET, "nightly").await;
        there.map_or(Ok(()), |schedule| Err(format!("{:?}", schedule.metadata)))
    })
    .await;
    let note = home.event("FleetBackupSchedule", "nightly", "LeftBehind").await;
    assert!(note.contains("dp-2"), "{note}");
    fleet.start_again("dp-2");
    expect(fleet.dp(2), &[], |_| true).await;
    controller.assert_running();
}

/// Makes the definition of MedusaBackupSchedules of a data plane one without these fields.
async fn without(cluster: &Cluster, fields: &[&str]) {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let name = "medusabackupschedules.medusa.k8ssandra.io";
    let mut definition = serde_json::to_value(api.get(name).await.unwrap()).unwrap();
    let spec = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    for field in fields {
        spec["properties"].as_object_mut().unwrap().remove(*field);
    }
    spec.as_object_mut().unwrap().remove("x-kubernetes-validations");
    let definition: CustomResourceDefinition = serde_json::from_value(definition).unwrap();
    api.replace(name, &kube::api::PostParams::default(), &definition).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_definition_gets_what_it_can_hold_and_one_without_the_kind_a_reason() {
    let fleet = Fleet::start(3).await;
    let older = ["operationType", "concurrencyPolicy", "timeZone", "startingDeadlineSeconds"];
    without(fleet.dp(2), &older).await;
    let definitions: Api<CustomResourceDefinition> = Api::all(fleet.dp(3).client.clone());
    definitions.delete("medusabackupschedules.medusa.k8ssandra.io", &DeleteParams::default()).await.unwrap();
    for number in 1..=3 {
        fleet.dp(number).create(datacenter(&format!("dc{number}"), "shop", 1)).await;
    }
    let _controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    let spec = json!({"timeZone": "Europe/Berlin", "startingDeadlineSeconds": 600});
    fleet.home().create(delegated("nightly", spec)).await;
    expect(fleet.dp(1), &["dc1"], |s| s.spec.time_zone.as_deref() == Some("Europe/Berlin")).await;
    expect(fleet.dp(2), &["dc2"], |s| s.spec.cron_schedule == "TZ=Europe/Berlin 0 2 * * *").await;
    let message = ready(&fleet, "nightly", "NotServed").await;
    assert!(message.contains("dp-3/cass/dc3"), "{message}");
    let counts = status(&fleet, "nightly").await.datacenters.unwrap();
    assert_eq!((counts.total, counts.scheduled), (3, 2));

    fleet.home().create(delegated("tidy", json!({"operation": "purge", "schedule": "0 6 * * *"}))).await;
    eventually("the purge is scheduled where it can be", async || {
        let found = fleet.dp(1).list::<MedusaBackupSchedule>(CASS).await;
        let purges = found.iter().filter(|s| s.name_any().starts_with("tidy-")).count();
        if purges == 1 { Ok(()) } else { Err(purges) }
    })
    .await;
    let message = ready(&fleet, "tidy", "NotServed").await;
    assert!(message.contains("operationType"), "{message}");
    assert_eq!(fleet.dp(2).list::<MedusaBackupSchedule>(CASS).await.len(), 1, "it would have been a backup");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unregistered_data_plane_gives_its_schedules_back() {
    let (fleet, _controller) = two().await;
    fleet.home().create(delegated("nightly", json!({}))).await;
    expect(fleet.dp(1), &["dc1"], |_| true).await;
    expect(fleet.dp(2), &["dc2"], |_| true).await;
    fleet.home().delete::<k8s_openapi::api::core::v1::Secret>(FLEET, "dp-2").await;
    expect(fleet.dp(2), &[], |_| true).await;
    fleet.home().disappears::<medusa_fleet::api::fleet::DataPlane>(FLEET, "dp-2").await;
    ready(&fleet, "nightly", "Scheduled").await;
    expect(fleet.dp(1), &["dc1"], |_| true).await;
}
