//! Schedules that are deleted and made again under their names, while the data plane works and while it is down.

use rstest::rstest;

use super::*;
use crate::support::{eventually, like};

impl ClockedDatacenter {
    /// Deletes the schedule and makes it again with `spec`.
    async fn make_again(&self, name: &str, spec: Value) {
        let former = self.get(name).await.uid();
        self.dc.delete::<MedusaBackupSchedule>(name).await;
        eventually("the name is free", async || {
            let found = self.dc.find::<MedusaBackupSchedule>(name).await;
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
    let clocked = ClockedDatacenter::new().await;
    let seen = uids::follow(clocked.dc.api::<MedusaBackupJob>(), |_| true).await;
    let mut data_plane = clocked.data_plane().await;
    clocked.schedule("nightly", json!({})).await;
    // The clock is now up to five minutes ahead of the API server's, by which the newcomer is made.
    let slot = clocked.run_next("nightly").await;
    let before = clocked.jobs().await;
    clocked.end(&of("nightly", slot), true).await;
    if is_down {
        data_plane.kill();
        clocked.make_again("nightly", json!({"cronSchedule": "@every 10m"})).await;
        data_plane = clocked.data_plane().await;
    } else {
        clocked.make_again("nightly", json!({"cronSchedule": "@every 10m"})).await;
    }
    let next = clocked.next("nightly", Some(slot)).await;
    assert_eq!(clocked.status("nightly").await.last_execution, None, "it has not run");
    assert_eq!(clocked.jobs().await, before);
    assert_eq!(clocked.run_next("nightly").await, next);
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
    let clocked = ClockedDatacenter::new().await;
    let mut data_plane = clocked.data_plane().await;
    clocked.schedule("nightly", json!({})).await;
    let slot = clocked.run_next("nightly").await;
    clocked.end(&of("nightly", slot), true).await;
    clocked.fake_clock.turn(-3600);
    clocked.reason("nightly", "ClockSteppedBack").await;
    if is_down {
        data_plane.kill();
        clocked.make_again("nightly", json!({"cronSchedule": "@every 7m"})).await;
        data_plane = clocked.data_plane().await;
    } else {
        clocked.make_again("nightly", json!({"cronSchedule": "@every 7m"})).await;
    }
    clocked.reason("nightly", "Scheduled").await;
    assert_eq!(clocked.status("nightly").await.last_execution, None);
    clocked.run_next("nightly").await;
    drop(data_plane);
}
