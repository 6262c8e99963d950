//! The control plane is killed with SIGKILL at any point: nothing is lost, nothing is doubled.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};
use medusa_fleet::api::{
    fleet::{DataPlane, FleetBackup, Phase},
    medusa::{MedusaBackupJob, MedusaConfiguration},
};
use serde_json::json;

use crate::support::{
    BackupFinisher, CASS, ControlPlane, FLEET, Fleet, backup_job, configuration, datacenter, eventually,
    finish, secret,
};

/// Name and uid of every child in the fleet.
async fn children(fleet: &Fleet) -> BTreeSet<(String, String)> {
    let mut all = BTreeSet::new();
    for number in 1..=3 {
        let jobs = fleet.dp(number).list::<MedusaBackupJob>(CASS).await;
        all.extend(jobs.into_iter().map(|job| (job.name_any(), job.uid().unwrap_or_default())));
    }
    all
}

async fn expect_children(fleet: &Fleet, at_least: usize) -> BTreeSet<(String, String)> {
    eventually(format!("{at_least} children are there"), async || {
        let seen = children(fleet).await;
        if seen.len() >= at_least { Ok(seen) } else { Err(format!("{seen:?}")) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_survives_kill_9_between_any_two_steps() {
    let fleet = Fleet::start(3).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    for number in 1..=3 {
        fleet.dp(number).create(datacenter(&format!("dc{number}"), "shop", 1)).await;
    }

    // At points that can be seen from outside.
    controller.kill9();
    let made = home.create(backup_job("steps", json!({}))).await;
    controller.start();
    let first = expect_children(&fleet, 1).await;
    controller.restart();
    let all = expect_children(&fleet, 3).await;
    controller.restart();
    assert!(all.is_superset(&first), "a child was made anew");
    eventually("the status lists the datacenters", async || {
        let entries = fleet.job("steps").await.status.unwrap_or_default().datacenters;
        let known = entries.len() == 3 && entries.iter().all(|e| e.job.is_some());
        if known { Ok(()) } else { Err(format!("{entries:?}")) }
    })
    .await;
    controller.kill9();
    let child = async |number: usize| fleet.dp(number).list::<MedusaBackupJob>(CASS).await.remove(0);
    finish(fleet.dp(1), &child(1).await).await;
    controller.start();
    eventually("the first datacenter's verdict is in", async || {
        let status = fleet.job("steps").await.status.unwrap_or_default();
        if status.run.counts.is_some_and(|c| c.succeeded == 1) { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    finish(fleet.dp(2), &child(2).await).await;
    controller.kill9();
    finish(fleet.dp(3), &child(3).await).await;
    controller.start();
    let status = fleet.expect_phase("steps", Phase::Succeeded).await.status.unwrap();
    assert_eq!(status.run.done.as_deref(), Some("3/3"));
    assert_eq!(children(&fleet).await, all, "children were lost, doubled or made anew");
    let digits: String = made.uid().unwrap().chars().take(8).collect();
    let names: Vec<String> = all.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, (1..=3).map(|n| format!("steps-dc{n}-{digits}")).collect::<Vec<_>>());

    // And wherever it happens to be: each run is cut at another moment.
    let mut finishers = Vec::new();
    for number in 1..=3 {
        finishers.push(BackupFinisher::start(fleet.dp(number)));
    }
    let runs = 8;
    for run in 0..runs {
        home.create(backup_job(&format!("run-{run}"), json!({}))).await;
        // Not to wait for anything, but to be killed at another point each time.
        tokio::time::sleep(Duration::from_millis(150 * (run + 1))).await;
        controller.restart();
    }
    for run in 0..runs {
        let name = format!("run-{run}");
        let job = fleet.expect_phase(&name, Phase::Succeeded).await;
        let status = job.status.clone().unwrap();
        assert_eq!(status.run.done.as_deref(), Some("3/3"), "{name}");
        for number in 1..=3 {
            let jobs = fleet.dp(number).list::<MedusaBackupJob>(CASS).await;
            let own = jobs.iter().filter(|j| j.labels()["fleet.k8ssandra.io/job-uid"] == job.uid().unwrap());
            assert_eq!(own.count(), 1, "{name} in dp-{number}");
        }
    }
    assert_eq!(children(&fleet).await.len(), 3 * (1 + usize::try_from(runs).unwrap()));
    eventually("every run has its restore point", async || {
        let points = home.list::<FleetBackup>(FLEET).await;
        let complete = points.iter().filter(|p| p.status.as_ref().is_some_and(|s| s.complete)).count();
        if complete == 9 && points.len() == 9 { Ok(()) } else { Err(complete) }
    })
    .await;
    controller.assert_running();
}

/// Which version each remote DataPlane and the MedusaConfiguration `shared` have.
async fn versions(fleet: &Fleet) -> BTreeSet<(String, String)> {
    let planes = fleet.home().list::<DataPlane>(FLEET).await;
    let remote =
        planes.iter().filter(|plane| plane.spec.local != Some(true)).map(|plane| plane.meta().clone());
    let shared = fleet.home().get::<MedusaConfiguration>(FLEET, "shared").await.metadata;
    let version =
        |meta: ObjectMeta| (meta.name.unwrap_or_default(), meta.resource_version.unwrap_or_default());
    remote.chain([shared]).map(version).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_writes_nothing_about_what_is_as_it_was() {
    let fleet = Fleet::start(2).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    for number in 1..=2 {
        fleet.dp(number).create(datacenter(&format!("dc{number}"), "shop", 1)).await;
    }
    home.create(secret(FLEET, "bucket", &[("credentials", "canary")])).await;
    home.create(configuration("shared", "bucket", Some("*"))).await;
    // A young API server and the first looks bring news for a while: once there are none, a restart brings none.
    let mut seen = Vec::new();
    for restart in 0..6 {
        controller.restart();
        // Whatever it makes of the restart it has made of it when what is new has arrived everywhere, and is told of.
        let name = format!("new-{restart}");
        home.create(configuration(&name, "bucket", Some("*"))).await;
        fleet.expect_replicated(&name, "True", "Replicated").await;
        for data_plane in ["dp-1", "dp-2"] {
            fleet.expect_data_plane(data_plane, "Ready", "True", "Ready").await;
        }
        let now = versions(&fleet).await;
        if seen.last() == Some(&now) {
            return;
        }
        seen.push(now);
    }
    panic!("each restart wrote something: {seen:#?}");
}
