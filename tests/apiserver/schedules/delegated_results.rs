//! What Delegated schedules have made in the data planes, seen from the control plane: runs that go on, slots without a
//! run, purges; whichever controller made them.

use medusa_fleet::api::medusa::{MedusaBackupJob, MedusaBackupSchedule, MedusaTask, ScheduledOperation};

use super::{
    delegated::{delegated, expect, seen, status, two},
    *,
};
use crate::support::{CASS, Cluster, FLEET, finish, finish_task};

/// A run of a MedusaBackupSchedule, as its data plane's controller makes it: ours marks it, k8ssandra-operator does not.
async fn run(cluster: &Cluster, schedule: &MedusaBackupSchedule, slot: Timestamp, marked: bool) -> Value {
    let dc = &schedule.spec.backup_spec.cassandra_datacenter;
    let mut of = json!({labels::CASSANDRA_CLUSTER: "shop", labels::CASSANDRA_DATACENTER: dc});
    if marked {
        of[labels::SCHEDULE] = schedule.name_any().into();
    }
    let (kind, spec) = match schedule.spec.operation_type {
        ScheduledOperation::Purge => ("MedusaTask", json!({"operation": "purge", "cassandraDatacenter": dc})),
        ScheduledOperation::Backup => ("MedusaBackupJob", json!({"cassandraDatacenter": dc})),
    };
    let made = cluster
        .create(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": kind,
            "metadata": {"name": super::of(&schedule.name_any(), slot), "namespace": CASS, "labels": of}, "spec": spec,
        }))
        .await;
    serde_json::to_value(made).unwrap()
}

fn read<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).unwrap()
}

/// Waits until the schedule names the runs of these data planes, and no others, as not ended.
async fn expect_active(fleet: &Fleet, name: &str, planes: &[&str]) -> FleetBackupScheduleStatus {
    eventually(format!("{name} is active in {planes:?}"), async || {
        let status = status(fleet, name).await;
        let found: Vec<&str> = status.active.iter().filter_map(|run| run.data_plane.as_deref()).collect();
        if found == planes { Ok(status) } else { Err(format!("{status:?}")) }
    })
    .await
}

/// Waits until condition `Succeeded` has this status; returns its message.
async fn succeeded(fleet: &Fleet, name: &str, wanted: &str) -> String {
    eventually(format!("Succeeded of {name} is {wanted}"), async || {
        let status = status(fleet, name).await;
        let (found, _, message) = condition(&status.conditions, "Succeeded");
        if found == wanted { Ok(message) } else { Err(format!("{status:?}")) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_go_on_are_named_also_while_their_data_plane_is_silent() {
    let (fleet, mut controller) = two().await;
    fleet.home().create(delegated("nightly", json!({}))).await;
    let first = expect(fleet.dp(1), &["dc1"], |_| true).await.remove("dc1").unwrap();
    let second = expect(fleet.dp(2), &["dc2"], |_| true).await.remove("dc2").unwrap();
    let slot = Timestamp::from_second(1_790_000_000).unwrap();
    let one: MedusaBackupJob = read(run(fleet.dp(1), &first, slot, true).await);
    let two: MedusaBackupJob =
        read(run(fleet.dp(2), &second, slot + SignedDuration::from_secs(3), false).await);
    // A person's job on the datacenter, and one of another schedule.
    for name in ["by-hand".to_owned(), of("a-persons", slot)] {
        let own = json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackupJob",
            "metadata": {"name": name, "namespace": CASS, "labels": {labels::CASSANDRA_DATACENTER: "dc1"}},
            "spec": {"cassandraDatacenter": "dc1"},
        });
        fleet.dp(1).create(own).await;
    }
    let named = expect_active(&fleet, "nightly", &["dp-1", "dp-2"]).await.active;
    let of = |job: &MedusaBackupJob| (Some(job.name_any()), job.uid());
    let found: Vec<_> = named.iter().map(|run| (Some(run.name.clone()), Some(run.uid.clone()))).collect();
    assert_eq!(found, [of(&one), of(&two)]);
    assert!(named.iter().all(|run| run.kind == "MedusaBackupJob" && run.namespace.as_deref() == Some(CASS)));

    finish(fleet.dp(1), &one).await;
    expect_active(&fleet, "nightly", &["dp-2"]).await;
    fleet.stop("dp-2");
    fleet.expect_data_plane("dp-2", "Reachable", "False", "ConnectionRefused").await;
    controller.restart();
    // Something that only the new process can have written.
    fleet
        .home()
        .patch::<FleetBackupSchedule>(FLEET, "nightly", json!({"spec": {"schedule": "0 3 * * *"}}))
        .await;
    expect(fleet.dp(1), &["dc1"], |s| s.spec.cron_schedule == "0 3 * * *").await;
    assert_eq!(seen(&fleet, "nightly").await.active, named[1..]);
    fleet.start_again("dp-2");
    fleet.expect_data_plane("dp-2", "Ready", "True", "Ready").await;
    // A failed one leaves no MedusaBackup under k8ssandra-operator.
    let at = two.metadata.creation_timestamp.clone();
    let failed = json!({"startTime": at, "finishTime": at, "failed": ["shop-dc2-default-sts-0"]});
    fleet.dp(2).patch_status::<MedusaBackupJob>(CASS, &two.name_any(), failed).await;
    expect_active(&fleet, "nightly", &[]).await;
    let message = succeeded(&fleet, "nightly", "False").await;
    assert!(message.contains("dp-2/cass/dc2") && message.contains("shop-dc2-default-sts-0"), "{message}");
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_without_a_run_are_counted_also_where_no_controller_works() {
    let (fleet, mut controller) = two().await;
    // Twelve hours from any slot, whenever this runs.
    let now = medusa_fleet::runtime::clock::now();
    let hour = (now.as_second().div_euclid(3_600) + 12).rem_euclid(24);
    let minute = now.as_second().div_euclid(60).rem_euclid(60);
    fleet.home().create(delegated("nightly", json!({"schedule": format!("{minute} {hour} * * *")}))).await;
    let first = expect(fleet.dp(1), &["dc1"], |_| true).await.remove("dc1").unwrap();
    expect(fleet.dp(2), &["dc2"], |_| true).await;
    eventually("both are scheduled", async || {
        let status = status(&fleet, "nightly").await;
        if status.datacenters.is_some_and(|dcs| dcs.scheduled == 2) {
            Ok(())
        } else {
            Err(format!("{status:?}"))
        }
    })
    .await;
    assert_eq!(status(&fleet, "nightly").await.missed_slots, 0);
    // As if it had been there for five days: of its five slots the second ran, the last may still run, and whether the
    // run of the first was removed nobody knows.
    let since = (now - SignedDuration::from_hours(5 * 24)).to_string();
    let second = now - SignedDuration::from_hours(3 * 24 + 12);
    let second = Timestamp::from_second(second.as_second().div_euclid(60) * 60).unwrap();
    run(fleet.dp(1), &first, second, true).await;
    expect_active(&fleet, "nightly", &["dp-1"]).await;
    let patch = json!({"metadata": {"annotations": {labels::SCHEDULED_SINCE: since}}});
    fleet.dp(1).patch::<MedusaBackupSchedule>(CASS, &first.name_any(), patch).await;
    eventually("both are counted", async || {
        let status = status(&fleet, "nightly").await;
        let is_said = condition(&status.conditions, "Missed").2.contains("dp-1/cass/dc1: 2 slots passed");
        if status.missed_slots == 2 && is_said { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    fleet.home().event("FleetBackupSchedule", "nightly", "SlotsMissed").await;
    controller.restart();
    // The last runs now. Only the new process can have seen it, and has counted in the same look.
    run(fleet.dp(1), &first, second + SignedDuration::from_hours(3 * 24), true).await;
    let status = expect_active(&fleet, "nightly", &["dp-1", "dp-1"]).await;
    assert_eq!(status.missed_slots, 2, "once: {status:?}");
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegated_purge_says_how_it_went() {
    let (fleet, _controller) = two().await;
    fleet.home().create(delegated("tidy", json!({"operation": "purge"}))).await;
    let first = expect(fleet.dp(1), &["dc1"], |_| true).await.remove("dc1").unwrap();
    let second = expect(fleet.dp(2), &["dc2"], |_| true).await.remove("dc2").unwrap();
    let slot = Timestamp::from_second(1_790_000_000).unwrap();
    let one: MedusaTask = read(run(fleet.dp(1), &first, slot, true).await);
    let two: MedusaTask = read(run(fleet.dp(2), &second, slot, false).await);
    let named = expect_active(&fleet, "tidy", &["dp-1", "dp-2"]).await;
    assert!(named.active.iter().all(|run| run.kind == "MedusaTask"), "{named:?}");
    finish_task(fleet.dp(1), &one).await;
    let status = expect_active(&fleet, "tidy", &["dp-2"]).await;
    assert_eq!(status.last_successful_time, None, "dc2 is not done");
    finish_task(fleet.dp(2), &two).await;
    succeeded(&fleet, "tidy", "True").await;
    let status = expect_active(&fleet, "tidy", &[]).await;
    assert_eq!(
        status.last_successful_time,
        one.metadata.creation_timestamp.min(two.metadata.creation_timestamp)
    );

    let again: MedusaTask =
        read(run(fleet.dp(2), &second, slot + SignedDuration::from_hours(24), false).await);
    let at = again.metadata.creation_timestamp.clone();
    let failed = json!({"startTime": at, "finishTime": at, "failed": ["shop-dc2-default-sts-0"]});
    fleet.dp(2).patch_status::<MedusaTask>(CASS, &again.name_any(), failed).await;
    let message = succeeded(&fleet, "tidy", "False").await;
    assert!(message.contains("dp-2/cass/dc2") && message.contains(&again.name_any()), "{message}");
    fleet.home().event("FleetBackupSchedule", "tidy", "Failed").await;
}
