//! What runs beside what, and what is kept.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use medusa_fleet::api::medusa::MedusaBackup;

use super::*;
use crate::support::{eventually, like};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_does_not_end_is_named_and_the_slot_runs_when_it_does() {
    let stage = Stage::new().await;
    let _data_plane = stage.data_plane().await;
    stage.schedule("nightly", json!({})).await;
    let slot = stage.run_next("nightly").await;
    let next = stage.next("nightly", Some(slot)).await;
    stage.fake_clock.set(next);
    let message = stage.reason("nightly", "PreviousRunUnfinished").await;
    let job = of("nightly", slot);
    for part in [job.as_str(), "created", "kubectl describe", &next.to_string()] {
        assert!(message.contains(part), "{message}");
    }
    stage.world.event("nightly", "PreviousRunUnfinished").await;
    assert_eq!(stage.status("nightly").await.next_schedule, Some(Time(next)), "the slot is not given up");
    stage.fake_clock.turn(7 * 60);
    stage.end(&job, true).await;
    let latest = next + SignedDuration::from_mins(5);
    stage.until("nightly", "it ran", |s| s.last_execution.clone().filter(|last| *last == Time(latest))).await;
    assert_eq!(stage.jobs().await, set([job, of("nightly", latest)]));
    stage.reason("nightly", "Scheduled").await;
}

/// The end of a job wakes the schedule; nothing else does here, as it looks at the clock once an hour.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_job_wakes_the_schedule() {
    let stage = Stage::new().await;
    let rarely = Timings { schedule_check: Duration::from_secs(3600), ..patient() };
    stage.world.job("by-hand", "dc1").await;
    // Created with the clock past its first slot already: no timer is needed for it.
    stage.fake_clock.turn(600);
    stage.schedule("nightly", json!({})).await;
    let _data_plane = stage.world.data_plane_at(Gate::default(), rarely, stage.fake_clock.clock()).await;
    let message = stage.reason("nightly", "PreviousRunUnfinished").await;
    assert!(message.contains("`by-hand`"), "jobs made by hand count too: {message}");
    stage.delete_job("by-hand").await;
    stage.until("nightly", "it ran", |status| status.last_execution.clone()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_waits_past_its_deadline_is_missed_and_the_next_one_waits() {
    let stage = Stage::new().await;
    let _data_plane = stage.data_plane().await;
    stage.world.job("by-hand", "dc1").await;
    stage.schedule("nightly", json!({"startingDeadlineSeconds": 60})).await;
    let slot = stage.next("nightly", None).await;
    stage.fake_clock.set(slot);
    stage.reason("nightly", "PreviousRunUnfinished").await;
    stage.fake_clock.turn(61);
    let next = stage.next("nightly", Some(slot)).await;
    stage.world.event("nightly", "SlotsMissed").await;
    stage.end("by-hand", true).await;
    stage.fake_clock.set(next);
    stage.until("nightly", "it ran", |s| s.last_execution.clone().filter(|last| *last == Time(next))).await;
    assert_eq!(stage.jobs().await, set(["by-hand".to_owned(), of("nightly", next)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_datacenters_and_other_operations_do_not_stand_in_the_way() {
    let stage = Stage::new().await;
    let _data_plane = stage.data_plane().await;
    stage.world.job("elsewhere", "dc2").await;
    stage
        .world
        .create::<MedusaTask>(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaTask", "metadata": {"name": "sync"},
            "spec": {"cassandraDatacenter": "dc1", "operation": "sync"}
        }))
        .await;
    stage.schedule("nightly", json!({})).await;
    stage.schedule("tidy", json!({"operationType": "purge"})).await;
    stage.run_next("nightly").await;
    stage.until("tidy", "it ran", |status| status.last_execution.clone()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_schedules_that_are_due_together_run_one_after_the_other() {
    let stage = Stage::new().await;
    let _data_plane = stage.data_plane().await;
    let names = ["one", "two", "three"];
    for name in names {
        stage.schedule(name, json!({"cronSchedule": "@yearly"})).await;
    }
    let mut slot = Timestamp::MIN;
    for name in names {
        slot = slot.max(stage.next(name, None).await);
    }
    stage.fake_clock.set(slot);
    for done in 1..=names.len() {
        let job = eventually("one runs", async || {
            let jobs = stage.world.list::<MedusaBackupJob>().await;
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
        stage.end(&job, true).await;
    }
    for name in names {
        stage.until(name, "it ran", |status| status.last_execution.clone()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn allow_runs_beside_an_unfinished_job() {
    let stage = Stage::new().await;
    let _data_plane = stage.data_plane().await;
    stage.schedule("nightly", json!({"concurrencyPolicy": "Allow"})).await;
    let (a, b) = (stage.run_next("nightly").await, stage.run_next("nightly").await);
    assert_eq!(stage.jobs().await, set([of("nightly", a), of("nightly", b)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn replace_deletes_its_own_unfinished_job_and_no_other() {
    let stage = Stage::new().await;
    let _data_plane = stage.data_plane().await;
    stage.world.job("by-hand", "dc1").await;
    stage.schedule("nightly", json!({"concurrencyPolicy": "Replace"})).await;
    let (first, second) = (stage.run_next("nightly").await, stage.run_next("nightly").await);
    assert_eq!(stage.jobs().await, set(["by-hand".to_owned(), of("nightly", second)]));
    let note = stage.world.event("nightly", "RunReplaced").await;
    assert!(note.contains(&of("nightly", first)) && note.contains("cannot be stopped"), "{note}");
    stage.end(&of("nightly", second), true).await;
    let third = stage.run_next("nightly").await;
    assert_eq!(
        stage.jobs().await,
        set(["by-hand".to_owned(), of("nightly", second), of("nightly", third)]),
        "one that has ended is not replaced"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_jobs_beyond_the_limits_are_deleted_and_medusa_backups_stay() {
    let stage = Stage::new().await;
    let _data_plane = stage.data_plane().await;
    stage.world.job("nightly-1", "dc1").await;
    stage.end("nightly-1", true).await;
    let limits = json!({"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0});
    stage.schedule("nightly", limits).await;
    let mut slots = Vec::new();
    for is_good in [true, false, true] {
        let slot = stage.run_next("nightly").await;
        stage
            .world
            .create::<MedusaBackup>(json!({
                "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackup",
                "metadata": {"name": of("nightly", slot)}, "spec": {"cassandraDatacenter": "dc1"}
            }))
            .await;
        stage.end(&of("nightly", slot), is_good).await;
        slots.push(slot);
    }
    let kept = set(["nightly-1".to_owned(), of("nightly", slots[2])]);
    eventually("only the last good one is kept", async || like(stage.jobs().await, |jobs| *jobs == kept))
        .await;
    for slot in slots {
        assert!(stage.world.backup(&of("nightly", slot)).await.is_some());
    }
}
