//! Schedules that are deleted and made again under their names, while the data plane works and while it is down.

use rstest::rstest;

use super::*;
use crate::support::{eventually, like};

impl Stage {
    /// Deletes the schedule and makes it again with `spec`.
    async fn make_again(&self, name: &str, spec: Value) {
        let former = self.get(name).await.uid();
        self.world.delete::<MedusaBackupSchedule>(name).await;
        eventually("the name is free", async || {
            let found = self.world.find::<MedusaBackupSchedule>(name).await;
            like(found, |found| found.as_ref().is_none_or(|found| found.uid() != former))
        })
        .await;
        self.schedule(name, spec).await;
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_is_made_again_runs_no_slot_twice_and_knows_nothing_of_the_former(
    #[values(false, true)] is_down: bool,
) {
    let stage = Stage::new().await;
    let seen = uids::follow(stage.world.api::<MedusaBackupJob>(), |_| true).await;
    let mut data_plane = stage.data_plane().await;
    stage.schedule("nightly", json!({})).await;
    // The clock is now up to five minutes ahead of the API server's, by which the newcomer is made.
    let slot = stage.run_next("nightly").await;
    let before = stage.jobs().await;
    stage.end(&of("nightly", slot), true).await;
    if is_down {
        data_plane.kill();
        stage.make_again("nightly", json!({"cronSchedule": "@every 10m"})).await;
        data_plane = stage.data_plane().await;
    } else {
        stage.make_again("nightly", json!({"cronSchedule": "@every 10m"})).await;
    }
    let next = stage.next("nightly", Some(slot)).await;
    assert_eq!(stage.status("nightly").await.last_execution, None, "it has not run");
    assert_eq!(stage.jobs().await, before);
    assert_eq!(stage.run_next("nightly").await, next);
    let seen: Uids = seen;
    let seen = seen.lock().unwrap().clone();
    assert!(seen.len() == 2 && seen.values().all(|uids| uids.len() == 1), "{seen:?}");
    drop(data_plane);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_is_made_again_does_not_wait_for_the_clock_of_the_former(
    #[values(false, true)] is_down: bool,
) {
    let stage = Stage::new().await;
    let mut data_plane = stage.data_plane().await;
    stage.schedule("nightly", json!({})).await;
    let slot = stage.run_next("nightly").await;
    stage.end(&of("nightly", slot), true).await;
    stage.fake_clock.turn(-3600);
    stage.reason("nightly", "ClockSteppedBack").await;
    if is_down {
        data_plane.kill();
        stage.make_again("nightly", json!({"cronSchedule": "@every 7m"})).await;
        data_plane = stage.data_plane().await;
    } else {
        stage.make_again("nightly", json!({"cronSchedule": "@every 7m"})).await;
    }
    stage.reason("nightly", "Scheduled").await;
    assert_eq!(stage.status("nightly").await.last_execution, None);
    stage.run_next("nightly").await;
    drop(data_plane);
}
