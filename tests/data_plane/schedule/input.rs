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
    let stage = Stage::new().await;
    let mut new = schedule("nightly", spec);
    new["metadata"]["namespace"] = stage.world.ns.as_str().into();
    let refused = stage.world.cluster.try_create(new).await.unwrap_err().to_string();
    assert!(refused.contains(mentions), "{refused}");
}

#[rstest]
#[case("*/5 * * * *")]
#[case("TZ=Europe/Berlin 0 2 * * MON-FRI")]
#[case("CRON_TZ=UTC @every 1h30m")]
#[case(" @daily ")]
#[tokio::test(flavor = "multi_thread")]
async fn the_definition_takes_what_can_be_followed(#[case] cron: &str) {
    let stage = Stage::new().await;
    let _data_plane = stage.data_plane().await;
    stage.schedule("nightly", json!({"cronSchedule": cron})).await;
    stage.reason("nightly", "Scheduled").await;
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
    let stage = Stage::new().await;
    let data_plane = stage.data_plane().await;
    stage.schedule("nightly", spec).await;
    let message = stage.reason("nightly", reason).await;
    assert!(message.contains(mentions), "{message}");
    let status = stage.status("nightly").await;
    assert!(status.next_schedule.is_none() && status.message == Some(message), "{status:?}");
    assert!(stage.world.event("nightly", reason).await.contains(mentions));
    let writes = data_plane.gate.writes().len();
    assert!(writes <= 2, "it is said once: {:?}", data_plane.gate.writes());

    // Slots of the time it could not be read are not caught up with.
    stage.fake_clock.turn(3600);
    stage
        .edit("nightly", json!({"cronSchedule": "*/5 * * * *", "timeZone": null, "concurrencyPolicy": null}))
        .await;
    stage.reason("nightly", "Scheduled").await;
    assert!(stage.jobs().await.is_empty());
    let slot = stage.run_next("nightly").await;
    assert_eq!(stage.jobs().await, set([of("nightly", slot)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_datacenter_is_said_and_waited_for() {
    let stage = Stage::new().await;
    let _data_plane = stage.data_plane().await;
    stage.schedule("nightly", json!({"backupSpec": {"cassandraDatacenter": "dc2"}})).await;
    let message = stage.reason("nightly", "DatacenterNotFound").await;
    assert!(
        message.contains("spec.backupSpec.cassandraDatacenter") && message.contains("`dc2`"),
        "{message}"
    );
    stage.world.event("nightly", "DatacenterNotFound").await;
    let slot = stage.next("nightly", None).await;
    stage.fake_clock.set(slot);
    stage.world.create::<CassandraDatacenter>(stage.world.datacenter("dc2", 1)).await;
    stage.until("nightly", "it ran", |status| status.last_execution.clone()).await;
    assert_eq!(stage.jobs().await, set([of("nightly", slot)]));
    stage.reason("nightly", "Scheduled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cassandras_own_name_is_not_taken_for_the_objects() {
    let stage = Stage::new().await;
    let _data_plane = stage.data_plane().await;
    let mut datacenter = stage.world.datacenter("dc2-object", 1);
    datacenter["spec"]["datacenterName"] = json!("dc2");
    let datacenter = stage.world.create::<CassandraDatacenter>(datacenter).await;
    let spec = json!({"operationType": "purge", "backupSpec": {"cassandraDatacenter": "dc2"}});
    stage.schedule("byhand", spec.clone()).await;
    let message = stage.reason("byhand", "DatacenterNotFound").await;
    assert!(message.contains("`dc2-object`"), "{message}");

    // A schedule that its datacenter owns, as k8ssandra-operator makes them, cannot mean another one.
    let mut owned = schedule("operators", spec);
    owned["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenter",
        "name": "dc2-object", "uid": datacenter.metadata.uid
    }]);
    stage.world.create::<MedusaBackupSchedule>(owned).await;
    let slot = stage.run_next("operators").await;
    let task = stage.world.get::<MedusaTask>(&of("operators", slot)).await;
    assert_eq!(task.spec.cassandra_datacenter, "dc2-object");
    assert_eq!(stage.tasks().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_is_said_and_the_other_object_left_alone() {
    let stage = Stage::new().await;
    let _data_plane = stage.data_plane().await;
    stage.schedule("nightly", json!({})).await;
    let slot = stage.next("nightly", None).await;
    stage.world.job(&of("nightly", slot), "elsewhere").await;
    stage.fake_clock.set(slot);
    let message = stage.reason("nightly", "NameConflict").await;
    assert!(message.contains(&of("nightly", slot)), "{message}");
    stage.delete_job(&of("nightly", slot)).await;
    stage.until("nightly", "it ran", |status| status.last_execution.clone()).await;
    assert_eq!(stage.jobs().await, set([of("nightly", slot)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_definitions_are_enough() {
    let stage = Stage::under(Definitions::Upstream).await;
    let first = stage.data_plane().await;
    stage.schedule("nightly", json!({})).await;
    stage.schedule("garbage", json!({"cronSchedule": "often"})).await;
    assert!(stage.world.event("garbage", "InvalidSpec").await.contains("spec.cronSchedule"));
    let slot = stage.run_next("nightly").await;
    stage.fake_clock.turn(300);
    assert!(stage.world.event("nightly", "PreviousRunUnfinished").await.contains(&of("nightly", slot)));
    let status = stage.status("nightly").await;
    assert!(status.conditions.is_empty() && status.message.is_none(), "{status:?}");
    let garbage = first.gate.writes().iter().filter(|w| w.contains("garbage")).count();
    let nightly = first.gate.writes().iter().filter(|w| w.contains("schedules/nightly")).count();
    assert!(garbage <= 2 && nightly <= 4, "what is dropped is not written again: {:#?}", first.gate.writes());

    first.kill();
    let _second = stage.data_plane().await;
    stage.end(&of("nightly", slot), true).await;
    let next = slot + SignedDuration::from_mins(5);
    stage.until("nightly", "it ran", |s| s.last_execution.clone().filter(|last| *last == Time(next))).await;
    assert_eq!(stage.jobs().await, set([of("nightly", slot), of("nightly", next)]));
    let labels = stage.world.get::<MedusaBackupJob>(&of("nightly", next)).await.metadata.labels;
    assert_eq!(labels.unwrap()["fleet.k8ssandra.io/medusa-backup-schedule"], "nightly");
}
