//! Coordinated schedules of the real program, from the slot to the children in the data planes.

use medusa_fleet::api::{
    fleet::{DataPlane, Phase},
    medusa::MedusaBackupJob,
};

use super::*;
use crate::support::{BackupFinisher, CASS, ControlPlane, FLEET, datacenter};

#[tokio::test(flavor = "multi_thread")]
async fn every_slot_is_one_run_over_the_fleet_while_the_control_plane_is_killed_again_and_again() {
    let fleet = Fleet::start(2).await;
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    let mut finishers = Vec::new();
    for number in 1..=2 {
        fleet.dp(number).create(datacenter(&format!("dc{number}"), "shop", 1)).await;
        finishers.push(BackupFinisher::start(fleet.dp(number)));
    }
    // A run is of the datacenters that are known when it begins; a young API server may break watches off.
    for name in ["dp-1", "dp-2"] {
        eventually(format!("the datacenter in {name} is known"), async || {
            let plane: DataPlane = fleet.home().get(FLEET, name).await;
            let known = plane.status.and_then(|status| status.datacenters);
            if known == Some(1) { Ok(()) } else { Err(format!("{known:?}")) }
        })
        .await;
    }
    let fake_clock = FakeClock::at(Timestamp::UNIX_EPOCH);
    let home = rights::config(fleet.home()).await;
    let clocked =
        ClockedNamespace { fleet: &fleet, ns: FLEET.to_owned(), fake_clock, home, data_planes: Vec::new() };
    let begun = clocked.watch().await;
    let spec = json!({
        "schedule": "@every 2s", "concurrencyPolicy": "Allow", "template": {"selector": {"clusters": ["shop"]}},
        "successfulJobsHistoryLimit": 100, "failedJobsHistoryLimit": 100,
    });
    clocked.schedule("often", spec).await;
    let succeeded = async || {
        let jobs = clocked.jobs().list(&ListParams::default()).await.unwrap();
        let is_good =
            |job: &&FleetBackupJob| job.status.as_ref().and_then(|s| s.run.phase) == Some(Phase::Succeeded);
        jobs.iter().filter(is_good).count()
    };
    for wanted in [1, 3, 5, 7] {
        eventually(format!("{wanted} runs succeeded"), async || {
            let found = succeeded().await;
            if found >= wanted { Ok(()) } else { Err(format!("{found}")) }
        })
        .await;
        controller.restart();
    }
    clocked.edit("often", json!({"suspend": true})).await;
    clocked.ready("often", "Paused").await;
    eventually("every run ended well", async || {
        let all = clocked.runs().await.len();
        let found = succeeded().await;
        if found == all { Ok(()) } else { Err(format!("{found} of {all}")) }
    })
    .await;
    let status = clocked.until("often", "no run is active", |s| s.active.is_empty().then(|| s.clone())).await;
    assert!(status.last_successful_time.is_some());
    let runs = clocked.runs().await;
    let begun = begun.lock().unwrap().clone();
    assert_eq!(begun.keys().cloned().collect::<BTreeSet<_>>(), runs);
    assert!(begun.values().all(|uids| uids.len() == 1), "{begun:?}");
    for number in 1..=2 {
        let children = fleet.dp(number).list::<MedusaBackupJob>(CASS).await;
        assert_eq!(children.len(), runs.len(), "one child per run in dp-{number}");
    }
    // Slots are two seconds apart, and none lies outside the schedule's time.
    let seconds: Vec<i64> =
        runs.iter().map(|name| name.rsplit_once('-').unwrap().1.parse().unwrap()).collect();
    assert!(seconds.windows(2).all(|pair| pair[1] > pair[0] && (pair[1] - pair[0]) % 2 == 0), "{seconds:?}");
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_run_makes_way_when_the_policy_is_replace() {
    let fleet = Fleet::start(1).await;
    let _controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    fleet.dp(1).create(datacenter("dc1", "shop", 1)).await;
    let fake_clock = FakeClock::at(Timestamp::UNIX_EPOCH);
    let home = rights::config(fleet.home()).await;
    let clocked =
        ClockedNamespace { fleet: &fleet, ns: FLEET.to_owned(), fake_clock, home, data_planes: Vec::new() };
    clocked.schedule("replaces", json!({"schedule": "@every 3s", "concurrencyPolicy": "Replace"})).await;
    eventually("a run is cancelled for the next", async || {
        let jobs = clocked.jobs().list(&ListParams::default()).await.unwrap().items;
        let cancelled = jobs.iter().filter(|job| job.spec.run.cancel == Some(true)).count();
        if cancelled >= 1 && jobs.len() > cancelled {
            Ok(())
        } else {
            Err(format!("{cancelled} of {}", jobs.len()))
        }
    })
    .await;
    // Before it is suspended: that would take the place of the slot which it is told with.
    fleet.home().event("FleetBackupSchedule", "replaces", "RunReplaced").await;
    clocked.edit("replaces", json!({"suspend": true})).await;
}
