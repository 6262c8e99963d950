//! The control plane is killed with SIGKILL at any point of a restore, and data planes hang in it: no datacenter is
//! restored twice, none is forgotten.

use kube::ResourceExt as _;
use medusa_fleet::api::{
    fleet::{FleetRestoreJob, Phase},
    medusa::MedusaRestoreJob,
};
use serde_json::json;

use crate::support::{
    CASS, ControlPlane, FLEET, Fleet,
    restores::{backed_up, child_of, expect_end, expect_restore, restore_job, upstreams, work},
};

const BACKUP: &str = "b-0a0a0a0a.shop";

async fn posts(fleet: &Fleet, number: usize) -> u64 {
    fleet.dp(number).writes("medusarestorejobs").await.get("POST").copied().unwrap_or(0)
}

/// Kills the controller whenever the status shows another step, up to the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_survives_kill_9_at_every_step() {
    let fleet = Fleet::start(2).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    backed_up(&fleet).await;

    controller.kill9();
    let made = home.create(restore_job("steps", json!({"backup": BACKUP, "order": "Serial"}))).await;
    controller.start();
    expect_restore(&fleet, "steps", "the plan is recorded", |job| {
        job.status.as_ref().is_some_and(|s| s.checked_time.is_some())
    })
    .await;
    controller.restart();
    for (number, dc) in [(1, "dc1"), (2, "dc2")] {
        let name = child_of(&made, dc);
        let child: MedusaRestoreJob = fleet.dp(number).appears(CASS, &name).await;
        controller.restart();
        for status in upstreams() {
            controller.kill9();
            work(fleet.dp(number), &name, status).await;
            controller.start();
            let reached = |job: &FleetRestoreJob| {
                let runs = job.status.clone().unwrap_or_default().datacenters;
                runs.get(number - 1).is_some_and(|run| {
                    run.job_uid == child.uid()
                        && (run.phase == Phase::Running || run.phase == Phase::Succeeded)
                })
            };
            expect_restore(&fleet, "steps", "it goes on where it stood", reached).await;
        }
        expect_restore(&fleet, "steps", "the datacenter is restored", |job| {
            let runs = job.status.clone().unwrap_or_default().datacenters;
            runs.get(number - 1).is_some_and(|run| run.phase == Phase::Succeeded)
        })
        .await;
        // Recorded; deleted or not.
        controller.restart();
    }
    let status = expect_end(&fleet, "steps", Phase::Succeeded).await.status.unwrap();
    assert_eq!(status.done.as_deref(), Some("2/2"));
    for (number, dc) in [(1, "dc1"), (2, "dc2")] {
        fleet.dp(number).disappears::<MedusaRestoreJob>(CASS, &child_of(&made, dc)).await;
        assert!(posts(&fleet, number).await <= 2, "asked for once, and once more after a crash");
    }

    // And wherever it happens to be: each restore is cut at another moment, and played to its end.
    for run in 0..6_u64 {
        let name = format!("run-{run}");
        let made = home.create(restore_job(&name, json!({"backup": BACKUP}))).await;
        // Not to wait for anything, but to be killed at another point each time.
        tokio::time::sleep(std::time::Duration::from_millis(60 * (run + 1))).await;
        controller.restart();
        let mut uids = Vec::new();
        for (number, dc) in [(1, "dc1"), (2, "dc2")] {
            let child = child_of(&made, dc);
            uids.push(fleet.dp(number).appears::<MedusaRestoreJob>(CASS, &child).await.uid());
            work(fleet.dp(number), &child, upstreams()[3].clone()).await;
        }
        controller.restart();
        let status = expect_end(&fleet, &name, Phase::Succeeded).await.status.unwrap();
        let recorded: Vec<Option<String>> = status.datacenters.iter().map(|r| r.job_uid.clone()).collect();
        assert_eq!(recorded, uids, "{name}: made anew");
        for (number, dc) in [(1, "dc1"), (2, "dc2")] {
            fleet.dp(number).disappears::<MedusaRestoreJob>(CASS, &child_of(&made, dc)).await;
        }
    }
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_plane_that_hangs_in_the_middle_is_waited_for() {
    let fleet = Fleet::start(2).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    backed_up(&fleet).await;
    let made = home.create(restore_job("hangs", json!({"backup": BACKUP}))).await;
    let names = ["dc1", "dc2"].map(|dc| child_of(&made, dc));
    for number in [1, 2] {
        fleet.dp(number).appears::<MedusaRestoreJob>(CASS, &names[number - 1]).await;
    }
    expect_restore(&fleet, "hangs", "both are recorded", |job| {
        let runs = job.status.clone().unwrap_or_default().datacenters;
        runs.len() == 2 && runs.iter().all(|run| run.job_uid.is_some())
    })
    .await;
    fleet.pause("dp-2");
    work(fleet.dp(1), &names[0], upstreams()[3].clone()).await;
    expect_restore(&fleet, "hangs", "dc1 is done and dc2 is awaited", |job| {
        let runs = job.status.clone().unwrap_or_default().datacenters;
        runs[0].phase == Phase::Succeeded
            && runs[1].phase == Phase::Running
            && runs[1].reason.as_deref() == Some("DataPlaneUnreachable")
    })
    .await;
    controller.restart();
    fleet.dp(1).disappears::<MedusaRestoreJob>(CASS, &names[0]).await;
    fleet.resume("dp-2");
    work(fleet.dp(2), &names[1], upstreams()[3].clone()).await;
    expect_end(&fleet, "hangs", Phase::Succeeded).await;
    fleet.dp(2).disappears::<MedusaRestoreJob>(CASS, &names[1]).await;
    for number in [1, 2] {
        assert_eq!(posts(&fleet, number).await, 1);
    }

    // What its FleetRestoreJob does not watch any more is deleted when it has ended.
    let made = home.create(restore_job("forgotten", json!({"backup": BACKUP}))).await;
    let name = child_of(&made, "dc1");
    fleet.dp(1).appears::<MedusaRestoreJob>(CASS, &name).await;
    home.delete::<FleetRestoreJob>(FLEET, "forgotten").await;
    work(fleet.dp(1), &name, upstreams()[1].clone()).await;
    assert!(fleet.dp(1).find::<MedusaRestoreJob>(CASS, &name).await.is_some());
    work(fleet.dp(1), &name, upstreams()[3].clone()).await;
    fleet.dp(1).disappears::<MedusaRestoreJob>(CASS, &name).await;
    controller.assert_running();
}
