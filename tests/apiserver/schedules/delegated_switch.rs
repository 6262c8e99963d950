//! Delegated schedules that become Coordinated, while something of them is still in the data planes.

use medusa_fleet::api::medusa::{MedusaBackupJob, MedusaBackupSchedule};

use super::{
    delegated_crash::{clocked, days, dealt_with, expect, later, nightly, settled},
    *,
};

/// Makes the schedule Coordinated, and waits until that is seen.
async fn coordinate(clocked: &ClockedNamespace<'_>) {
    clocked.edit("nightly", json!({"execution": "Coordinated"})).await;
    clocked
        .until("nightly", "it is Coordinated", |s| {
            condition(&s.conditions, "Ready").2.contains("creates a FleetBackupJob").then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_of_a_silent_data_plane_are_counted_once_over_a_switch_and_back() {
    let fleet = Fleet::start(2).await;
    let clocked = clocked(&fleet, "silent").await;
    let slots = days(&clocked);
    let _controller = clocked.controller_over(Gate::default(), 2);
    clocked.schedule("nightly", nightly(&clocked)).await;
    settled(&clocked, "Scheduled", 2).await;
    later(&clocked, slots[0]);
    for number in 1..=2 {
        dealt_with(&clocked, number, None, slots[1]).await;
    }
    clocked.until("nightly", "one in each is missed", |s| (s.missed_slots == 2).then_some(())).await;

    fleet.stop("dp-2");
    coordinate(&clocked).await;
    eventually("dp-1 has given its schedule back", async || {
        let there = fleet.dp(1).list::<MedusaBackupSchedule>(&clocked.ns).await;
        if there.is_empty() { Ok(()) } else { Err(format!("{there:?}")) }
    })
    .await;
    clocked.edit("nightly", json!({"execution": "Delegated"})).await;
    fleet.start_again("dp-2");
    settled(&clocked, "Scheduled", 2).await;
    let status = clocked
        .until("nightly", "dp-2 is counted", |s| {
            s.data_planes.iter().any(|plane| plane.name == "dp-2").then(|| s.clone())
        })
        .await;
    assert_eq!(status.missed_slots, 2, "{status:?}");

    // Nothing is left to be counted on from once all of it is taken back.
    coordinate(&clocked).await;
    expect(&clocked, json!([])).await;
    clocked.until("nightly", "nothing is remembered", |s| s.data_planes.is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_goes_on_in_a_data_plane_holds_up_the_first_coordinated_slot() {
    let fleet = Fleet::start(2).await;
    let clocked = clocked(&fleet, "goes-on").await;
    let slots = days(&clocked);
    let first = clocked.controller_over(Gate::default(), 2);
    clocked.schedule("nightly", nightly(&clocked)).await;
    settled(&clocked, "Scheduled", 2).await;
    let [there] = fleet.dp(1).list::<MedusaBackupSchedule>(&clocked.ns).await.try_into().unwrap();
    let run = of(&there.name_any(), slots[0]);
    let job = json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackupJob",
        "metadata": {"name": run, "namespace": clocked.ns, "labels": {labels::CASSANDRA_DATACENTER: "dc1"}},
        "spec": {"cassandraDatacenter": "dc1"},
    });
    fleet.dp(1).create(job).await;
    clocked.until("nightly", "it is active", |s| (s.active.len() == 1).then_some(())).await;

    later(&clocked, slots[0]);
    coordinate(&clocked).await;
    expect(&clocked, json!([])).await;
    let slot = clocked.next("nightly", None).await;
    clocked.fake_clock.set(slot);
    let message = clocked.ready("nightly", "PreviousRunUnfinished").await;
    assert!(message.contains(&run) && message.contains("data plane `dp-1`"), "{message}");
    // A control plane that knows nothing of it asks.
    first.kill();
    clocked.edit("nightly", json!({"windowSeconds": 60})).await;
    let _second = clocked.controller_over(Gate::default(), 2);
    let status =
        clocked.until("nightly", "it is seen", |s| (s.observed_generation == Some(3)).then(|| s.clone()));
    let status = status.await;
    assert_eq!(condition(&status.conditions, "Ready").1, "PreviousRunUnfinished");
    assert!(status.active.len() == 1 && clocked.runs().await.is_empty(), "{status:?}");

    let at = clocked.fake_clock.clock().now().to_string();
    let ended = json!({"startTime": at, "finishTime": at, "failed": ["shop-dc1-default-sts-0"]});
    fleet.dp(1).patch_status::<MedusaBackupJob>(&clocked.ns, &run, ended).await;
    clocked.ran("nightly", slot).await;
    assert_eq!(clocked.runs().await, set([of("nightly", slot)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_switch_takes_back_nobody_else_has_taken_back() {
    let fleet = Fleet::start(2).await;
    let clocked = clocked(&fleet, "fro").await;
    let _controller = clocked.controller_over(Gate::default(), 2);
    clocked.schedule("nightly", nightly(&clocked)).await;
    for _ in 0..3 {
        settled(&clocked, "Scheduled", 2).await;
        coordinate(&clocked).await;
        expect(&clocked, json!([])).await;
        clocked.edit("nightly", json!({"execution": "Delegated"})).await;
    }
    settled(&clocked, "Scheduled", 2).await;
    let events = fleet.home().list::<k8s_openapi::api::events::v1::Event>(&clocked.ns).await;
    let reasons: Vec<Option<String>> = events.into_iter().map(|event| event.reason).collect();
    assert!(!reasons.iter().flatten().any(|reason| reason == "Conflict"), "{reasons:?}");
}
