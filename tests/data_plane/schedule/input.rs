//! Schedules that cannot run: each says why, and runs once it can.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use medusa_fleet::api::cassandra::CassandraDatacenter;
use rstest::rstest;

use super::*;

#[rstest]
#[case(json!({"cronSchedule": "0 2 * *"}), "cronSchedule: give five fields")]
#[case(json!({"cronSchedule": "often"}), "cronSchedule: give five fields")]
#[case(json!({"cronSchedule": ""}), "spec.cronSchedule")]
#[case(json!({"cronSchedule": "TZ=UTC @daily", "timeZone": "UTC"}), "timeZone: a time zone is given twice")]
#[case(json!({"startingDeadlineSeconds": -1}), "spec.startingDeadlineSeconds")]
#[tokio::test(flavor = "multi_thread")]
async fn the_definition_refuses_what_it_can(#[case] spec: Value, #[case] mentions: &str) {
    let clocked = ClockedDatacenter::new().await;
    let mut new = schedule("nightly", spec);
    new["metadata"]["namespace"] = clocked.dc.ns.as_str().into();
    let refused = clocked.dc.cluster.try_create(new).await.unwrap_err().to_string();
    assert!(refused.contains(mentions), "{refused}");
}

#[rstest]
#[case("*/5 * * * *")]
#[case("TZ=Europe/Berlin 0 2 * * MON-FRI")]
#[case("CRON_TZ=UTC @every 1h30m")]
#[case(" @daily ")]
#[tokio::test(flavor = "multi_thread")]
async fn the_definition_takes_what_can_be_followed(#[case] cron: &str) {
    let clocked = ClockedDatacenter::new().await;
    let _data_plane = clocked.data_plane().await;
    clocked.schedule("nightly", json!({"cronSchedule": cron})).await;
    clocked.reason("nightly", "Scheduled").await;
}

#[rstest]
#[case(json!({"cronSchedule": "61 2 * * *"}), "InvalidSpec", "spec.cronSchedule: minute `61`")]
#[case(json!({"cronSchedule": "0 0 30 2 *"}), "NeverFires", "spec.cronSchedule")]
#[case(json!({"timeZone": "Mars/Phobos"}), "InvalidSpec", "spec.timeZone")]
#[case(json!({"concurrencyPolicy": "replace"}), "InvalidSpec", "spec.concurrencyPolicy")]
#[tokio::test(flavor = "multi_thread")]
async fn what_the_definition_cannot_see_a_condition_says(
    #[case] spec: Value,
    #[case] reason: &str,
    #[case] mentions: &str,
) {
    let clocked = ClockedDatacenter::new().await;
    let data_plane = clocked.data_plane().await;
    clocked.schedule("nightly", spec).await;
    let message = clocked.reason("nightly", reason).await;
    assert!(message.contains(mentions), "{message}");
    let status = clocked.status("nightly").await;
    assert!(status.next_schedule.is_none() && status.message == Some(message), "{status:?}");
    assert!(clocked.dc.event("nightly", reason).await.contains(mentions));
    let writes = data_plane.gate.writes().len();
    assert!(writes <= 2, "it is said once: {:?}", data_plane.gate.writes());

    // Slots of the time it could not be read are not caught up with.
    clocked.fake_clock.turn(3600);
    clocked
        .edit("nightly", json!({"cronSchedule": "*/5 * * * *", "timeZone": null, "concurrencyPolicy": null}))
        .await;
    clocked.reason("nightly", "Scheduled").await;
    assert!(clocked.jobs().await.is_empty());
    let slot = clocked.run_next("nightly").await;
    assert_eq!(clocked.jobs().await, set([of("nightly", slot)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_datacenter_is_said_and_waited_for() {
    let clocked = ClockedDatacenter::new().await;
    let _data_plane = clocked.data_plane().await;
    clocked.schedule("nightly", json!({"backupSpec": {"cassandraDatacenter": "dc2"}})).await;
    let message = clocked.reason("nightly", "DatacenterNotFound").await;
    assert!(
        message.contains("spec.backupSpec.cassandraDatacenter") && message.contains("`dc2`"),
        "{message}"
    );
    clocked.dc.event("nightly", "DatacenterNotFound").await;
    let slot = clocked.next("nightly", None).await;
    clocked.fake_clock.set(slot);
    clocked.dc.create::<CassandraDatacenter>(clocked.dc.datacenter("dc2", 1)).await;
    clocked.until("nightly", "it ran", |status| status.last_execution.clone()).await;
    assert_eq!(clocked.jobs().await, set([of("nightly", slot)]));
    clocked.reason("nightly", "Scheduled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cassandras_own_name_is_not_taken_for_the_objects() {
    let clocked = ClockedDatacenter::new().await;
    let _data_plane = clocked.data_plane().await;
    let mut datacenter = clocked.dc.datacenter("dc2-object", 1);
    datacenter["spec"]["datacenterName"] = json!("dc2");
    let datacenter = clocked.dc.create::<CassandraDatacenter>(datacenter).await;
    let spec = json!({"operationType": "purge", "backupSpec": {"cassandraDatacenter": "dc2"}});
    clocked.schedule("byhand", spec.clone()).await;
    let message = clocked.reason("byhand", "DatacenterNotFound").await;
    assert!(message.contains("`dc2-object`"), "{message}");

    // A schedule that its datacenter owns, as k8ssandra-operator makes them, cannot mean another one.
    let mut owned = schedule("operators", spec);
    owned["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenter",
        "name": "dc2-object", "uid": datacenter.metadata.uid
    }]);
    clocked.dc.create::<MedusaBackupSchedule>(owned).await;
    let slot = clocked.run_next("operators").await;
    let task = clocked.dc.get::<MedusaTask>(&of("operators", slot)).await;
    assert_eq!(task.spec.cassandra_datacenter, "dc2-object");
    assert_eq!(clocked.tasks().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_is_said_and_the_other_object_left_alone() {
    let clocked = ClockedDatacenter::new().await;
    let _data_plane = clocked.data_plane().await;
    clocked.schedule("nightly", json!({})).await;
    let slot = clocked.next("nightly", None).await;
    clocked.dc.job(&of("nightly", slot), "elsewhere").await;
    clocked.fake_clock.set(slot);
    let message = clocked.reason("nightly", "NameConflict").await;
    assert!(message.contains(&of("nightly", slot)), "{message}");
    clocked.delete_job(&of("nightly", slot)).await;
    clocked.until("nightly", "it ran", |status| status.last_execution.clone()).await;
    assert_eq!(clocked.jobs().await, set([of("nightly", slot)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_definitions_are_enough() {
    let clocked = ClockedDatacenter::under(Definitions::Upstream).await;
    let first = clocked.data_plane().await;
    clocked.schedule("nightly", json!({})).await;
    clocked.schedule("garbage", json!({"cronSchedule": "often"})).await;
    assert!(clocked.dc.event("garbage", "InvalidSpec").await.contains("spec.cronSchedule"));
    let slot = clocked.run_next("nightly").await;
    clocked.fake_clock.turn(300);
    assert!(clocked.dc.event("nightly", "PreviousRunUnfinished").await.contains(&of("nightly", slot)));
    let status = clocked.status("nightly").await;
    assert!(status.conditions.is_empty() && status.message.is_none(), "{status:?}");
    let garbage = first.gate.writes().iter().filter(|w| w.contains("garbage")).count();
    let nightly = first.gate.writes().iter().filter(|w| w.contains("schedules/nightly")).count();
    assert!(garbage <= 2 && nightly <= 4, "what is dropped is not written again: {:#?}", first.gate.writes());

    first.kill();
    let _second = clocked.data_plane().await;
    clocked.end(&of("nightly", slot), true).await;
    let next = slot + SignedDuration::from_mins(5);
    clocked.until("nightly", "it ran", |s| s.last_execution.clone().filter(|last| *last == Time(next))).await;
    assert_eq!(clocked.jobs().await, set([of("nightly", slot), of("nightly", next)]));
    let labels = clocked.dc.get::<MedusaBackupJob>(&of("nightly", next)).await.metadata.labels;
    assert_eq!(labels.unwrap()["fleet.k8ssandra.io/medusa-backup-schedule"], "nightly");
}
