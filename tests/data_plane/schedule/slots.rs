//! Slots run once, at their time or after it, and never because of a clock that steps.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use medusa_fleet::api::{
    Conditions as _,
    medusa::{BackupType, MedusaBackup, MedusaBackupJob, MedusaTask, TaskOperation},
};

use super::*;
use crate::support::{eventually, like};

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_makes_a_backup_job_that_is_named_after_it() {
    let clocked = ClockedDatacenter::new().await;
    let _data_plane = clocked.data_plane().await;
    clocked.schedule("nightly", json!({})).await;
    let slot = clocked.next("nightly", None).await;
    assert_eq!(clocked.status("nightly").await.last_execution, None, "it has not run");
    assert!(clocked.jobs().await.is_empty());
    clocked.fake_clock.set(slot);
    clocked.next("nightly", Some(slot)).await;
    let status = clocked.status("nightly").await;
    assert_eq!(status.last_execution, Some(Time(slot)));
    assert_eq!(status.next_schedule, Some(Time(slot + SignedDuration::from_mins(5))));
    assert!(status.conditions.is_true("Ready") && !status.conditions.is_true("Missed"), "{status:?}");

    let job = clocked.dc.get::<MedusaBackupJob>(&of("nightly", slot)).await;
    assert_eq!(job.spec.cassandra_datacenter, "dc1");
    assert_eq!(job.spec.backup_type, BackupType::Full);
    let labels = job.metadata.labels.unwrap();
    assert_eq!(labels["cassandra.datastax.com/cluster"], "Shop");
    assert_eq!(labels["cassandra.datastax.com/datacenter"], "dc1");
    assert_eq!(labels["fleet.k8ssandra.io/medusa-backup-schedule"], "nightly");
    let owners = job.metadata.owner_references.unwrap();
    assert_eq!((owners.len(), owners[0].kind.as_str()), (1, "CassandraDatacenter"));
    let owners = clocked.get("nightly").await.metadata.owner_references.unwrap();
    assert_eq!((owners.len(), owners[0].name.as_str()), (1, "dc1"));
    assert!(clocked.dc.event("nightly", "JobCreated").await.contains(&of("nightly", slot)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_makes_a_task() {
    let clocked = ClockedDatacenter::new().await;
    let _data_plane = clocked.data_plane().await;
    clocked.schedule("tidy", json!({"operationType": "purge"})).await;
    let slot = clocked.run_next("tidy").await;
    let task = clocked.dc.get::<MedusaTask>(&of("tidy", slot)).await;
    assert_eq!(task.spec.operation, TaskOperation::Purge);
    assert_eq!(task.spec.cassandra_datacenter, "dc1");
    assert!(clocked.jobs().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_name_is_shortened_and_found_again() {
    let clocked = ClockedDatacenter::new().await;
    let name = "x".repeat(250);
    let first = clocked.data_plane().await;
    clocked.schedule(&name, json!({"concurrencyPolicy": "Allow"})).await;
    clocked.run_next(&name).await;
    first.kill();
    let _second = clocked.data_plane().await;
    clocked.run_next(&name).await;
    let jobs = clocked.jobs().await;
    assert_eq!(jobs.len(), 2);
    assert!(jobs.iter().all(|job| job.len() <= 248), "{jobs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_slots_missed_while_nobody_ran_the_latest_runs_and_the_rest_are_counted() {
    let clocked = ClockedDatacenter::new().await;
    let first = clocked.data_plane().await;
    clocked.schedule("nightly", json!({})).await;
    let slot = clocked.next("nightly", None).await;
    first.kill();
    clocked.fake_clock.set(slot + SignedDuration::from_secs(3 * 300 + 17));
    let _second = clocked.data_plane().await;
    let latest = slot + SignedDuration::from_secs(3 * 300);
    clocked.next("nightly", Some(latest)).await;
    assert_eq!(clocked.jobs().await, set([of("nightly", latest)]));
    let missed = clocked.status("nightly").await.conditions.of_type("Missed").cloned().unwrap();
    assert_eq!((missed.status.as_str(), missed.reason.as_str()), ("True", "SlotsMissed"));
    assert!(missed.message.starts_with("3 slots "), "{}", missed.message);
    assert!(clocked.dc.event("nightly", "SlotsMissed").await.contains("3 slots"));
    clocked.end(&of("nightly", latest), true).await;
    clocked.run_next("nightly").await;
    assert!(!clocked.status("nightly").await.conditions.is_true("Missed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_too_late_does_not_run() {
    let clocked = ClockedDatacenter::new().await;
    let first = clocked.data_plane().await;
    clocked.schedule("nightly", json!({"startingDeadlineSeconds": 60})).await;
    let slot = clocked.next("nightly", None).await;
    first.kill();
    clocked.fake_clock.set(slot + SignedDuration::from_secs(61));
    let _second = clocked.data_plane().await;
    let next = clocked.next("nightly", Some(slot)).await;
    assert_eq!(next, slot + SignedDuration::from_mins(5));
    let status = clocked.status("nightly").await;
    assert!(status.last_execution.is_none() && status.conditions.is_true("Missed"), "{status:?}");
    let message = &status.conditions.of_type("Missed").unwrap().message;
    assert!(message.contains("spec.startingDeadlineSeconds (60)"), "{message}");
    assert!(clocked.jobs().await.is_empty());
    clocked.fake_clock.set(next + SignedDuration::from_secs(60));
    clocked.until("nightly", "it ran", |status| status.last_execution.clone()).await;
    assert_eq!(clocked.jobs().await, set([of("nightly", next)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_steps_back_repeats_nothing_even_what_was_deleted() {
    let clocked = ClockedDatacenter::new().await;
    let first = clocked.data_plane().await;
    clocked.schedule("nightly", json!({})).await;
    let slot = clocked.run_next("nightly").await;
    clocked.delete_job(&of("nightly", slot)).await;
    clocked.fake_clock.turn(-3600);
    let message = clocked.reason("nightly", "ClockSteppedBack").await;
    assert!(message.contains("status.lastExecution") && message.contains("kubectl patch"), "{message}");
    first.kill();
    let _second = clocked.data_plane().await;
    clocked.dc.event("nightly", "ClockSteppedBack").await;
    clocked.fake_clock.set(slot);
    clocked.reason("nightly", "Scheduled").await;
    let next = clocked.run_next("nightly").await;
    assert_eq!(next, slot + SignedDuration::from_mins(5));
    assert_eq!(clocked.jobs().await, set([of("nightly", next)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_expression_moves_the_next_slot_both_ways() {
    let clocked = ClockedDatacenter::new().await;
    let _data_plane = clocked.data_plane().await;
    clocked.schedule("nightly", json!({"cronSchedule": "@yearly"})).await;
    let yearly = clocked.next("nightly", None).await;
    let moved = async |cron: &str, wanted: &dyn Fn(Timestamp) -> bool| {
        clocked.edit("nightly", json!({"cronSchedule": cron})).await;
        clocked
            .until("nightly", cron, |status| {
                status.next_schedule.as_ref().map(|t| t.0).filter(|next| wanted(*next))
            })
            .await
    };
    let soon = moved("@every 10m", &|next| next < yearly).await;
    moved("@every 20m", &|next| next == soon + SignedDuration::from_mins(10)).await;
    moved("@yearly", &|next| next == yearly).await;
    assert!(clocked.jobs().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_schedule_pauses_and_catches_nothing_up() {
    let clocked = ClockedDatacenter::new().await;
    let _data_plane = clocked.data_plane().await;
    clocked.schedule("nightly", json!({})).await;
    let slot = clocked.run_next("nightly").await;
    clocked.end(&of("nightly", slot), true).await;
    clocked.edit("nightly", json!({"disabled": true})).await;
    let message = clocked.reason("nightly", "Paused").await;
    assert!(message.contains("spec.disabled"), "{message}");
    let status = clocked.status("nightly").await;
    assert_eq!((status.next_schedule, status.last_execution), (None, Some(Time(slot))));
    clocked.fake_clock.turn(3 * 300 + 10);
    clocked.edit("nightly", json!({"disabled": false})).await;
    let next = clocked.next("nightly", None).await;
    assert_eq!(next, slot + SignedDuration::from_mins(20));
    assert_eq!(clocked.jobs().await, set([of("nightly", slot)]));
    clocked.run_next("nightly").await;
    assert_eq!(clocked.jobs().await, set([of("nightly", slot), of("nightly", next)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_zone_counts() {
    let clocked = ClockedDatacenter::new().await;
    let _data_plane = clocked.data_plane().await;
    clocked.schedule("here", json!({"cronSchedule": "0 2 * * *", "timeZone": "Asia/Kolkata"})).await;
    clocked.schedule("there", json!({"cronSchedule": "CRON_TZ=Asia/Kolkata 0 2 * * *"})).await;
    let next = clocked.next("here", None).await;
    assert_eq!(clocked.next("there", None).await, next);
    assert_eq!(next.as_second().rem_euclid(86_400), (20 * 60 + 30) * 60);
}

/// With nothing played: a schedule on the wall clock, jobs that are carried out, and their MedusaBackups.
#[tokio::test(flavor = "multi_thread")]
async fn scheduled_backups_succeed_one_after_the_other() {
    let dc = ScriptedDatacenter::new(2, Script::default()).await;
    let _data_plane = dc.data_plane().await;
    let spec = json!({"cronSchedule": "@every 1s", "successfulJobsHistoryLimit": 1});
    dc.create::<MedusaBackupSchedule>(schedule("often", spec)).await;
    let done = eventually("three backups", async || {
        let backups = dc.list::<MedusaBackup>().await;
        let is_whole =
            |b: &MedusaBackup| b.status.as_ref().is_some_and(|s| s.status.as_deref() == Some("SUCCESS"));
        let whole: Vec<MedusaBackup> = backups.into_iter().filter(is_whole).collect();
        like(whole, |whole| whole.len() >= 3)
    })
    .await;
    for backup in done {
        assert!(backup.name_any().starts_with("often-"));
        assert_eq!(backup.metadata.labels.unwrap()["fleet.k8ssandra.io/medusa-backup-schedule"], "often");
    }
    eventually("old jobs are deleted", async || {
        let jobs = dc.list::<MedusaBackupJob>().await;
        let ended = |job: &&MedusaBackupJob| job.status.as_ref().is_some_and(|s| s.finish_time.is_some());
        like(jobs.iter().filter(ended).count(), |count| *count <= 1)
    })
    .await;
}
