//! What runs beside what, and what is kept.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use medusa_fleet::api::medusa::MedusaBackup;

use super::*;
use crate::support::{eventually, like};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_does_not_end_is_named_and_the_slot_runs_when_it_does() {
    let clocked = ClockedDatacenter::new().await;
    let _data_plane = clocked.data_plane().await;
    clocked.schedule("nightly", json!({})).await;
    let slot = clocked.run_next("nightly").await;
    let next = clocked.next("nightly", Some(slot)).await;
    clocked.fake_clock.set(next);
    let message = clocked.reason("nightly", "PreviousRunUnfinished").await;
    let job = of("nightly", slot);
    for part in [job.as_str(), "created", "kubectl describe", &next.to_string()] {
        assert!(message.contains(part), "{message}");
    }
    clocked.dc.event("nightly", "PreviousRunUnfinished").await;
    assert_eq!(clocked.status("nightly").await.next_schedule, Some(Time(next)), "the slot is not given up");
    clocked.fake_clock.turn(7 * 60);
    clocked.end(&job, true).await;
    let latest = next + SignedDuration::from_mins(5);
    clocked
        .until("nightly", "it ran", |s| s.last_execution.clone().filter(|last| *last == Time(latest)))
        .await;
    assert_eq!(clocked.jobs().await, set([job, of("nightly", latest)]));
    clocked.reason("nightly", "Scheduled").await;
}

/// The end of a job wakes the schedule; nothing else does here, as it looks at the clock once an hour.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_job_wakes_the_schedule() {
    let clocked = ClockedDatacenter::new().await;
    let rarely = Timings { schedule_check: Duration::from_secs(3600), ..patient() };
    clocked.dc.job("by-hand", "dc1").await;
    // Created with the clock past its first slot already: no timer is needed for it.
    clocked.fake_clock.turn(600);
    clocked.schedule("nightly", json!({})).await;
    let _data_plane = clocked.dc.data_plane_at(Gate::default(), rarely, clocked.fake_clock.clock()).await;
    let message = clocked.reason("nightly", "PreviousRunUnfinished").await;
    assert!(message.contains("`by-hand`"), "jobs made by hand count too: {message}");
    clocked.delete_job("by-hand").await;
    clocked.until("nightly", "it ran", |status| status.last_execution.clone()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_waits_past_its_deadline_is_missed_and_the_next_one_waits() {
    let clocked = ClockedDatacenter::new().await;
    let _data_plane = clocked.data_plane().await;
    clocked.dc.job("by-hand", "dc1").await;
    clocked.schedule("nightly", json!({"startingDeadlineSeconds": 60})).await;
    let slot = clocked.next("nightly", None).await;
    clocked.fake_clock.set(slot);
    clocked.reason("nightly", "PreviousRunUnfinished").await;
    clocked.fake_clock.turn(61);
    let next = clocked.next("nightly", Some(slot)).await;
    clocked.dc.event("nightly", "SlotsMissed").await;
    clocked.end("by-hand", true).await;
    clocked.fake_clock.set(next);
    clocked.until("nightly", "it ran", |s| s.last_execution.clone().filter(|last| *last == Time(next))).await;
    assert_eq!(clocked.jobs().await, set(["by-hand".to_owned(), of("nightly", next)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_datacenters_and_other_operations_do_not_stand_in_the_way() {
    let clocked = ClockedDatacenter::new().await;
    let _data_plane = clocked.data_plane().await;
    clocked.dc.job("elsewhere", "dc2").await;
    clocked
        .dc
        .create::<MedusaTask>(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaTask", "metadata": {"name": "sync"},
            "spec": {"cassandraDatacenter": "dc1", "operation": "sync"}
        }))
        .await;
    clocked.schedule("nightly", json!({})).await;
    clocked.schedule("tidy", json!({"operationType": "purge"})).await;
    clocked.run_next("nightly").await;
    clocked.until("tidy", "it ran", |status| status.last_execution.clone()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_schedules_that_are_due_together_run_one_after_the_other() {
    let clocked = ClockedDatacenter::new().await;
    let _data_plane = clocked.data_plane().await;
    let names = ["one", "two", "three"];
    for name in names {
        clocked.schedule(name, json!({"cronSchedule": "@yearly"})).await;
    }
    let mut slot = Timestamp::MIN;
    for name in names {
        slot = slot.max(clocked.next(name, None).await);
    }
    clocked.fake_clock.set(slot);
    for done in 1..=names.len() {
        let job = eventually("one runs", async || {
            let jobs = clocked.dc.list::<MedusaBackupJob>().await;
            let unfinished: Vec<String> = jobs
                .iter()
                .filter(|job| job.status.as_ref().is_none_or(|s| s.finish_time.is_none()))
                .map(ResourceExt::name_any)
                .collect();
            assert!(unfinished.len() <= 1, "{unfinished:?}");
            match unfinished.into_iter().next() {
                Some(job) if jobs.len() == done => Ok(job),
                other => Err(format!("{other:?} of {} jobs", jobs.len())),
            }
        })
        .await;
        clocked.end(&job, true).await;
    }
    for name in names {
        clocked.until(name, "it ran", |status| status.last_execution.clone()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn allow_runs_beside_an_unfinished_job() {
    let clocked = ClockedDatacenter::new().await;
    let _data_plane = clocked.data_plane().await;
    clocked.schedule("nightly", json!({"concurrencyPolicy": "Allow"})).await;
    let (a, b) = (clocked.run_next("nightly").await, clocked.run_next("nightly").await);
    assert_eq!(clocked.jobs().await, set([of("nightly", a), of("nightly", b)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn replace_deletes_its_own_unfinished_job_and_no_other() {
    let clocked = ClockedDatacenter::new().await;
    let _data_plane = clocked.data_plane().await;
    clocked.dc.job("by-hand", "dc1").await;
    clocked.schedule("nightly", json!({"concurrencyPolicy": "Replace"})).await;
    let (first, second) = (clocked.run_next("nightly").await, clocked.run_next("nightly").await);
    assert_eq!(clocked.jobs().await, set(["by-hand".to_owned(), of("nightly", second)]));
    let note = clocked.dc.event("nightly", "RunReplaced").await;
    assert!(note.contains(&of("nightly", first)) && note.contains("cannot be stopped"), "{note}");
    clocked.end(&of("nightly", second), true).await;
    let third = clocked.run_next("nightly").await;
    assert_eq!(
        clocked.jobs().await,
        set(["by-hand".to_owned(), of("nightly", second), of("nightly", third)]),
        "one that has ended is not replaced"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_jobs_beyond_the_limits_are_deleted_and_medusa_backups_stay() {
    let clocked = ClockedDatacenter::new().await;
    let _data_plane = clocked.data_plane().await;
    clocked.dc.job("nightly-1", "dc1").await;
    clocked.end("nightly-1", true).await;
    let limits = json!({"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0});
    clocked.schedule("nightly", limits).await;
    let mut slots = Vec::new();
    for is_good in [true, false, true] {
        let slot = clocked.run_next("nightly").await;
        clocked
            .dc
            .create::<MedusaBackup>(json!({
                "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackup",
                "metadata": {"name": of("nightly", slot)}, "spec": {"cassandraDatacenter": "dc1"}
            }))
            .await;
        clocked.end(&of("nightly", slot), is_good).await;
        slots.push(slot);
    }
    let kept = set(["nightly-1".to_owned(), of("nightly", slots[2])]);
    eventually("only the last good one is kept", async || like(clocked.jobs().await, |jobs| *jobs == kept))
        .await;
    for slot in slots {
        assert!(clocked.dc.backup(&of("nightly", slot)).await.is_some());
    }
}
