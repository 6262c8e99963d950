//! Ending the data plane between any two writes, two of them at once, and two hundred schedules at once.

use rstest::rstest;
use tokio::sync::OnceCell;

use super::*;
use crate::support::{eventually, gate::Stop, like};

static UNDISTURBED: OnceCell<Value> = OnceCell::const_new();

/// Two slots with concurrencyPolicy Replace, the second one's job ended and deleted by the history limit.
/// Returns what is left, without what differs from run to run.
async fn scenario(clocked: &ClockedDatacenter) -> Value {
    let spec = json!({"concurrencyPolicy": "Replace", "successfulJobsHistoryLimit": 0});
    clocked.schedule("nightly", spec).await;
    let first = clocked.run_next("nightly").await;
    let second = clocked.run_next("nightly").await;
    assert_eq!(clocked.jobs().await, set([of("nightly", second)]));
    clocked.end(&of("nightly", second), true).await;
    eventually("the ended job is deleted", async || like(clocked.jobs().await, |jobs| jobs.is_empty())).await;
    let schedule = clocked.get("nightly").await;
    let status = schedule.status.unwrap();
    let since_first = |time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
        time.map(|time| time.0.as_second() - first.as_second())
    };
    let conditions: Vec<Value> = status
        .conditions
        .iter()
        .map(|c| json!([c.type_, c.status, c.reason, c.message, c.observed_generation]))
        .collect();
    json!({
        "next": since_first(status.next_schedule), "last": since_first(status.last_execution),
        "conditions": conditions, "message": status.message,
        "owners": schedule.metadata.owner_references.map(|owners| owners.len()),
    })
}

async fn undisturbed() -> Value {
    let clocked = ClockedDatacenter::new().await;
    let data_plane = clocked.data_plane().await;
    let end = scenario(&clocked).await;
    assert!(data_plane.gate.writes().len() >= 8, "{:#?}", data_plane.gate.writes());
    end
}

/// What becomes of jobs.
async fn watch_jobs(clocked: &ClockedDatacenter) -> Uids {
    uids::follow(clocked.dc.api::<MedusaBackupJob>(), |_| true).await
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_write_it_ends_as_if_undisturbed(
    #[values(1, 2, 3, 4, 5, 6, 7, 8)] write: usize,
    #[values(false, true)] answered: bool,
) {
    let expected = UNDISTURBED.get_or_init(undisturbed).await;
    let clocked = ClockedDatacenter::new().await;
    let seen = watch_jobs(&clocked).await;
    let stop = if answered { Stop::After(write) } else { Stop::Before(write) };
    let first = clocked.data_plane_with(Gate::stopping(stop)).await;
    let killed = async {
        first.gate.reached().await;
        first.kill();
        clocked.data_plane().await
    };
    let (found, _second) = tokio::join!(scenario(&clocked), killed);
    assert_eq!(found, *expected);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen.values().all(|uids| uids.len() == 1), "no slot ran twice: {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_data_planes_at_once_run_each_slot_once_also_when_its_job_is_gone() {
    let clocked = ClockedDatacenter::new().await;
    let seen = watch_jobs(&clocked).await;
    let _first = clocked.data_plane().await;
    let _second = clocked.data_plane().await;
    let names: Vec<String> = (0..10).map(|n| format!("s{n}")).collect();
    for name in &names {
        let spec =
            json!({"cronSchedule": "@yearly", "concurrencyPolicy": "Allow", "successfulJobsHistoryLimit": 0});
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
            clocked
                .until(name, "the slot ran", |s| s.last_execution.clone().filter(|last| last.0 == slot))
                .await;
            clocked.end(&of(name, slot), true).await;
        }
        eventually("ended jobs are deleted", async || like(clocked.jobs().await, |jobs| jobs.is_empty()))
            .await;
        slots.push(slot);
    }
    let seen = seen.lock().unwrap();
    let expected: BTreeSet<String> =
        names.iter().flat_map(|name| slots.iter().map(move |slot| of(name, *slot))).collect();
    assert_eq!(seen.keys().cloned().collect::<BTreeSet<_>>(), expected);
    assert!(seen.values().all(|uids| uids.len() == 1), "{seen:?}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_that_are_due_together_run_once_each(#[values(false, true)] is_killed: bool) {
    const MANY: usize = 200;
    let clocked = ClockedDatacenter::new().await;
    let seen = watch_jobs(&clocked).await;
    // Each schedule costs two writes before its slot.
    let gate = if is_killed { Gate::stopping(Stop::After(2 * MANY + 100)) } else { Gate::default() };
    let mut data_plane = clocked.data_plane_with(gate).await;
    let names: Vec<String> = (0..MANY).map(|n| format!("s{n:03}")).collect();
    for name in &names {
        clocked.schedule(name, json!({"cronSchedule": "@yearly", "concurrencyPolicy": "Allow"})).await;
    }
    let mut slot = Timestamp::MIN;
    for name in &names {
        slot = slot.max(clocked.next(name, None).await);
    }
    let before = data_plane.gate.writes().len();
    assert_eq!(before, 2 * MANY, "an owner and a status each");
    clocked.fake_clock.set(slot);
    if is_killed {
        data_plane.gate.reached().await;
        data_plane.kill();
        data_plane = clocked.data_plane().await;
    }
    let expected: BTreeSet<String> = names.iter().map(|name| of(name, slot)).collect();
    eventually("every slot has its job", async || like(clocked.jobs().await, |jobs| *jobs == expected)).await;
    for name in &names {
        clocked.until(name, "it ran", |s| s.last_execution.clone().filter(|last| last.0 == slot)).await;
    }
    let created = data_plane.gate.writes().iter().filter(|write| write.starts_with("POST")).count();
    assert!(is_killed || created == MANY, "{created} creations");
    assert!(seen.lock().unwrap().values().all(|uids| uids.len() == 1));
}
