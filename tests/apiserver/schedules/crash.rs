//! Ending the control plane between any two writes, two of them at once, and people who delete runs in between.

use futures::{StreamExt as _, stream};

use super::*;
use crate::support::gate::Stop;

/// Makes schedule `nightly`, and kills its controller at a write of its first slot; returns that slot.
async fn killed_at(clocked: &ClockedNamespace<'_>, stop: Stop) -> Timestamp {
    let controller = clocked.controller_with(Gate::stopping(stop));
    clocked.schedule("nightly", json!({})).await;
    let slot = clocked.next("nightly", None).await;
    clocked.fake_clock.set(slot);
    controller.gate.reached().await;
    controller.kill();
    slot
}

/// Two slots, the first run ended badly, the second well and then deleted by the history limit. Returns what is left,
/// without what differs from run to run.
async fn scenario(clocked: &ClockedNamespace<'_>) -> Value {
    clocked.schedule("nightly", json!({"successfulJobsHistoryLimit": 0})).await;
    let first = clocked.run_next("nightly").await;
    clocked.end(&of("nightly", first), "Failed").await;
    clocked.until("nightly", "no run is active", |s| s.active.is_empty().then_some(())).await;
    let second = clocked.run_next("nightly").await;
    clocked.end(&of("nightly", second), "Succeeded").await;
    eventually("only the failed run is kept", async || {
        let runs = clocked.runs().await;
        if runs == set([of("nightly", first)]) { Ok(()) } else { Err(format!("{runs:?}")) }
    })
    .await;
    let status = clocked
        .until("nightly", "the last run is over", |s| {
            (s.active.is_empty() && s.last_successful_time.is_some()).then(|| s.clone())
        })
        .await;
    let since_first = |time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
        time.map(|time| time.0.as_second() - first.as_second())
    };
    let conditions: Vec<Value> = status
        .conditions
        .iter()
        .map(|c| json!([c.type_, c.status, c.reason, c.observed_generation]))
        .collect();
    json!({
        "next": since_first(status.next_schedule_time), "last": since_first(status.last_schedule_time),
        "successful": since_first(status.last_successful_time), "missed": status.missed_slots,
        "conditions": conditions,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_write_it_ends_as_if_undisturbed() {
    const WRITES: usize = 10;
    let fleet = Fleet::start(0).await;
    let undisturbed = ClockedNamespace::new(&fleet, "undisturbed").await;
    let controller = undisturbed.controller();
    let expected = scenario(&undisturbed).await;
    let writes = controller.gate.writes();
    assert!(writes.len() >= WRITES, "{writes:#?}");
    controller.kill();

    let points = (1..=WRITES).flat_map(|write| [Stop::Before(write), Stop::After(write)]);
    let cases = points.map(|stop| {
        let (fleet, expected) = (&fleet, &expected);
        async move {
            let ns = format!("{stop:?}").to_lowercase().replace(['(', ')'], "-");
            let clocked = ClockedNamespace::new(fleet, ns.trim_end_matches('-')).await;
            let begun = clocked.watch().await;
            let first = clocked.controller_with(Gate::stopping(stop));
            let killed = async {
                first.gate.reached().await;
                first.kill();
                clocked.controller()
            };
            let (found, _second) = tokio::join!(scenario(&clocked), killed);
            assert_eq!(&found, expected, "{stop:?}");
            let begun = begun.lock().unwrap();
            assert_eq!(begun.len(), 2, "{stop:?}: {begun:?}");
            assert!(begun.values().all(|uids| uids.len() == 1), "{stop:?}: a slot ran twice: {begun:?}");
        }
    });
    stream::iter(cases).buffer_unordered(4).collect::<Vec<()>>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_control_planes_at_once_run_each_slot_once_also_when_its_run_is_gone() {
    let fleet = Fleet::start(0).await;
    let clocked = ClockedNamespace::new(&fleet, "two").await;
    let begun = clocked.watch().await;
    let _first = clocked.controller();
    let _second = clocked.controller();
    let names: Vec<String> = (0..10).map(|n| format!("s{n}")).collect();
    for name in &names {
        let spec =
            json!({"schedule": "@yearly", "concurrencyPolicy": "Allow", "successfulJobsHistoryLimit": 0});
        clocked.schedule(name, spec).await;
    }
    let mut slots = Vec::new();
    for _ in 0..3 {
        let last = slots.last().copied();
        let mut slot = Timestamp::MIN;
        for name in &names {
            slot = slot.max(clocked.next(name, last).await);
        }
        clocked.fake_clock.set(slot);
        for name in &names {
            clocked.ran(name, slot).await;
            clocked.end(&of(name, slot), "Succeeded").await;
        }
        eventually("ended runs are deleted", async || {
            let runs = clocked.runs().await;
            if runs.is_empty() { Ok(()) } else { Err(format!("{runs:?}")) }
        })
        .await;
        slots.push(slot);
    }
    let begun = begun.lock().unwrap();
    let expected: BTreeSet<String> =
        names.iter().flat_map(|name| slots.iter().map(move |slot| of(name, *slot))).collect();
    assert_eq!(begun.keys().cloned().collect::<BTreeSet<_>>(), expected);
    assert!(begun.values().all(|uids| uids.len() == 1), "{begun:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_a_person_deletes_is_not_made_again_wherever_the_control_plane_was_killed() {
    let fleet = Fleet::start(0).await;
    // 1: the first status, 2: the run, 3: its slot, 4: letting it go.
    for stop in [Stop::After(2), Stop::Before(3), Stop::After(3), Stop::Before(4), Stop::After(4)] {
        let ns = format!("{stop:?}").to_lowercase().replace(['(', ')'], "-");
        let clocked = ClockedNamespace::new(&fleet, ns.trim_end_matches('-')).await;
        let begun = clocked.watch().await;
        let slot = killed_at(&clocked, stop).await;
        clocked.delete_run(&of("nightly", slot)).await;
        let _second = clocked.controller();
        clocked.ran("nightly", slot).await;
        eventually("the run is gone", async || {
            let runs = clocked.runs().await;
            if runs.is_empty() { Ok(()) } else { Err(format!("{stop:?}: {runs:?}")) }
        })
        .await;
        let next = clocked.run_next("nightly").await;
        assert_eq!(clocked.runs().await, set([of("nightly", next)]), "{stop:?}");
        assert!(begun.lock().unwrap().values().all(|uids| uids.len() == 1), "{stop:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_wakes_up_late_makes_no_run_of_a_slot_that_is_over() {
    let fleet = Fleet::start(0).await;
    let clocked = ClockedNamespace::new(&fleet, "late").await;
    let begun = clocked.watch().await;
    // Stands just before it makes the run of the first slot.
    let late = clocked.controller_with(Gate::holding(2));
    clocked.schedule("nightly", json!({"successfulJobsHistoryLimit": 0})).await;
    let slot = clocked.next("nightly", None).await;
    clocked.fake_clock.set(slot);
    late.gate.reached().await;
    let other = clocked.controller();
    clocked.ran("nightly", slot).await;
    clocked.end(&of("nightly", slot), "Succeeded").await;
    eventually("the run is deleted", async || {
        let runs = clocked.runs().await;
        if runs.is_empty() { Ok(()) } else { Err(format!("{runs:?}")) }
    })
    .await;
    other.kill();
    late.gate.go_on();
    let made = |writes: Vec<String>| writes.iter().filter(|write| write.starts_with("DELETE")).count();
    eventually("what it made too late is taken back", async || {
        let (writes, runs) = (late.gate.writes(), clocked.runs().await);
        if made(writes.clone()) > 0 && runs.is_empty() {
            Ok(())
        } else {
            Err(format!("{runs:?} {writes:#?}"))
        }
    })
    .await;
    let next = clocked.run_next("nightly").await;
    let begun = begun.lock().unwrap();
    assert_eq!(
        begun.keys().cloned().collect::<BTreeSet<_>>(),
        set([of("nightly", slot), of("nightly", next)])
    );
    assert!(begun.values().all(|uids| uids.len() == 1), "{begun:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_goes_takes_a_held_run_along() {
    let fleet = Fleet::start(0).await;
    let clocked = ClockedNamespace::new(&fleet, "gone").await;
    let begun = clocked.watch().await;
    let first = clocked.controller_with(Gate::stopping(Stop::After(2)));
    clocked.schedule("nightly", json!({})).await;
    let slot = clocked.next("nightly", None).await;
    clocked.fake_clock.set(slot);
    first.gate.reached().await;
    first.kill();
    clocked.schedules().delete("nightly", &DeleteParams::default()).await.unwrap();
    let _second = clocked.controller();
    eventually("the run is gone", async || {
        let runs = clocked.runs().await;
        if runs.is_empty() { Ok(()) } else { Err(format!("{runs:?}")) }
    })
    .await;
    assert!(begun.lock().unwrap().is_empty(), "it never started");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_is_delegated_meanwhile_leaves_no_run_held() {
    let fleet = Fleet::start(0).await;
    // 2: the run, 3: its slot.
    for (stop, is_written_down) in [(Stop::After(2), false), (Stop::After(3), true)] {
        let clocked = ClockedNamespace::new(&fleet, if is_written_down { "written" } else { "made" }).await;
        let begun = clocked.watch().await;
        let slot = killed_at(&clocked, stop).await;
        clocked.edit("nightly", json!({"execution": "Delegated"})).await;
        let _second = clocked.controller();
        clocked.ready("nightly", "NoDatacenters").await;
        let expected = if is_written_down { set([of("nightly", slot)]) } else { BTreeSet::new() };
        eventually("the run goes on, or is gone", async || {
            let (runs, begun) = (clocked.runs().await, begun.lock().unwrap().keys().cloned().collect());
            if (&runs, &begun) == (&expected, &expected) {
                Ok(())
            } else {
                Err(format!("{runs:?} {begun:?}"))
            }
        })
        .await;
        let named = expected.len();
        clocked.until("nightly", "what goes on is named", |s| (s.active.len() == named).then_some(())).await;
    }
}
