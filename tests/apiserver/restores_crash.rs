//! The control plane is killed with SIGKILL at any point of a restore, and data planes hang in it: no datacenter is
//! restored twice, none is forgotten.

use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams},
};
use medusa_fleet::api::{
    fleet::{FleetRestoreJob, Phase},
    medusa::MedusaRestoreJob,
};
use serde_json::json;

use crate::support::{
    CASS, Cluster, ControlPlane, FLEET, Fleet, eventually,
    refusals::{permit, refuse},
    restores::{backed_up, child_of, expect_end, expect_restore, restore, restore_job, upstreams, work},
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

/// Makes the API server of the control plane refuse every status of a FleetRestoreJob that records the uid of a
/// MedusaRestoreJob: so the controller stands between the making and the record of it.
async fn refuse_records(home: &Cluster) {
    let allowed = "!has(object.status.datacenters) || object.status.datacenters.all(d, !has(d.jobUid))";
    refuse(home, "no-records", "fleetrestorejobs/status", allowed, "not to be recorded").await;
    home.create(restore_job("probe", json!({"backup": "none", "dryRun": true}))).await;
    eventually("records are refused", async || {
        let status = json!({"status": {"datacenters": [{"dataPlane": "dp", "jobUid": "u"}]}});
        let jobs = home.api::<FleetRestoreJob>(FLEET);
        let params = PatchParams { dry_run: true, ..PatchParams::default() };
        match jobs.patch_status("probe", &params, &Patch::Merge(status)).await {
            Err(error) if error.to_string().contains("not to be recorded") => Ok(()),
            answer => Err(format!("{answer:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_deleted_before_its_uid_is_recorded_is_not_made_again() {
    let fleet = Fleet::start(2).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    backed_up(&fleet).await;
    refuse_records(home).await;
    let made = home.create(restore_job("gap", json!({"backup": BACKUP}))).await;
    let names = ["dc1", "dc2"].map(|dc| child_of(&made, dc));
    let mut uids = Vec::new();
    for number in [1, 2] {
        let child: MedusaRestoreJob = fleet.dp(number).appears(CASS, &names[number - 1]).await;
        uids.push(child.uid().unwrap());
    }
    controller.kill9();
    let unrecorded = restore(&fleet, "gap").await.status.unwrap().datacenters;
    assert!(unrecorded.len() == 2 && unrecorded.iter().all(|run| run.job_uid.is_none()), "{unrecorded:#?}");

    // Somebody deletes one of them. It cannot vanish.
    fleet.dp(1).delete::<MedusaRestoreJob>(CASS, &names[0]).await;
    let deleted: MedusaRestoreJob = fleet.dp(1).get(CASS, &names[0]).await;
    assert!(deleted.metadata.deletion_timestamp.is_some());
    permit(home, "no-records").await;
    controller.start();

    fleet.dp(1).disappears::<MedusaRestoreJob>(CASS, &names[0]).await;
    expect_restore(&fleet, "gap", "the deleted one is a failure", |job| {
        let runs = job.status.clone().unwrap_or_default().datacenters;
        runs[0].reason.as_deref() == Some("JobDeleted") && runs[0].job_uid.as_ref() == Some(&uids[0])
    })
    .await;
    // The other one goes on: it is seen, and may vanish from now on.
    eventually("the other is let go", async || {
        let other: MedusaRestoreJob = fleet.dp(2).get(CASS, &names[1]).await;
        if other.finalizers().is_empty() { Ok(()) } else { Err(format!("{:?}", other.metadata)) }
    })
    .await;
    work(fleet.dp(2), &names[1], upstreams()[3].clone()).await;
    let status = expect_end(&fleet, "gap", Phase::PartiallyFailed).await.status.unwrap();
    assert_eq!(status.datacenters[1].job_uid.as_ref(), Some(&uids[1]));
    fleet.dp(2).disappears::<MedusaRestoreJob>(CASS, &names[1]).await;
    assert!(fleet.dp(1).find::<MedusaRestoreJob>(CASS, &names[0]).await.is_none());
    controller.assert_running();

    // Without its FleetRestoreJob one is held by nobody.
    let made = home.create(restore_job("orphan", json!({"backup": BACKUP}))).await;
    let name = child_of(&made, "dc1");
    fleet.dp(1).appears::<MedusaRestoreJob>(CASS, &name).await;
    controller.kill9();
    home.delete::<FleetRestoreJob>(FLEET, "orphan").await;
    fleet.dp(1).delete::<MedusaRestoreJob>(CASS, &name).await;
    controller.start();
    fleet.dp(1).disappears::<MedusaRestoreJob>(CASS, &name).await;
}
