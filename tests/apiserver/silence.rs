//! Data planes that are dead or asleep cost the others nothing, and silence is no failure.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use medusa_fleet::api::{fleet::Phase, medusa::MedusaBackupJob};
use serde_json::{Value, json};

use crate::support::{
    BackupFinisher, CASS, ControlPlane, FLEET, Fleet, backup_job, configuration, datacenter, eventually,
    eventually_within, secret,
};

fn with_policy(name: &str, policy: &str) -> Value {
    let mut job = backup_job(name, json!({}));
    job["spec"]["unreachablePolicy"] = json!(policy);
    job
}

/// The entry of a data plane in a run: (phase, reason).
async fn entry(fleet: &Fleet, job: &str, plane: &str) -> (Phase, String) {
    let status = fleet.job(job).await.status.unwrap_or_default();
    let entry = status.datacenters.into_iter().find(|e| e.data_plane == plane).unwrap_or_default();
    (entry.phase, entry.reason.unwrap_or_default())
}

async fn expect_entry(fleet: &Fleet, job: &str, plane: &str, phase: Phase, reason: &str) {
    eventually(format!("{job}: {plane} is {} because of {reason}", phase.as_str()), async || {
        let seen = entry(fleet, job, plane).await;
        if seen == (phase, reason.to_owned()) { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_data_plane_is_waited_for_skipped_or_failed_as_the_job_says() {
    let fleet = Fleet::start(2).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    for number in [1, 2] {
        fleet.dp(number).create(datacenter(&format!("dc{number}"), "shop", 1)).await;
    }
    fleet.expect_size("shop", 2).await;
    let _first = BackupFinisher::start(fleet.dp(1));

    fleet.stop("dp-2");
    // This one starts before anybody knows.
    home.create(backup_job("waits", json!({}))).await;
    expect_entry(&fleet, "waits", "dp-1", Phase::Succeeded, "Succeeded").await;
    expect_entry(&fleet, "waits", "dp-2", Phase::Pending, "DataPlaneUnreachable").await;
    fleet.expect_data_plane("dp-2", "Reachable", "False", "ConnectionRefused").await;
    // Until the data plane is known to be silent, the write that found nobody there says so in its own words.
    eventually("waits: dp-2 says that it does not answer, and why", async || {
        let said = fleet.job("waits").await.status.unwrap().datacenters;
        let why =
            said.into_iter().find(|e| e.data_plane == "dp-2").and_then(|e| e.message).unwrap_or_default();
        let is_said =
            why.contains("does not answer") && why.contains("refused") && !why.contains("ServiceError");
        if is_said { Ok(()) } else { Err(why) }
    })
    .await;
    fleet.expect_data_plane("dp-2", "Authenticated", "Unknown", "Unreachable").await;
    home.event("DataPlane", "dp-2", "ConnectionRefused").await;
    for (name, policy) in [("skips", "Skip"), ("fails", "Fail")] {
        home.create(with_policy(name, policy)).await;
    }
    let status = fleet.expect_phase("skips", Phase::Succeeded).await.status.unwrap();
    assert_eq!(status.run.counts.map(|c| (c.total, c.succeeded, c.skipped)), Some((2, 1, 1)));
    assert_eq!(entry(&fleet, "skips", "dp-2").await, (Phase::Skipped, "DataPlaneUnreachable".to_owned()));
    fleet.expect_phase("fails", Phase::PartiallyFailed).await;
    assert_eq!(entry(&fleet, "fails", "dp-2").await, (Phase::Failed, "DataPlaneUnreachable".to_owned()));

    // A control plane that never saw dp-2 alive does not know its datacenters, and waits all the same.
    controller.restart();
    home.create(backup_job("later", json!({}))).await;
    expect_entry(&fleet, "later", "dp-1", Phase::Succeeded, "Succeeded").await;
    expect_entry(&fleet, "later", "dp-2", Phase::Pending, "DataPlaneUnreachable").await;
    expect_entry(&fleet, "waits", "dp-2", Phase::Pending, "DataPlaneUnreachable").await;
    fleet.expect_size("shop", 2).await;

    fleet.start_again("dp-2");
    let _second = BackupFinisher::start(fleet.dp(2));
    for name in ["waits", "later"] {
        let status = fleet.expect_phase(name, Phase::Succeeded).await.status.unwrap();
        assert_eq!(status.run.counts.map(|c| (c.total, c.succeeded)), Some((2, 2)), "{name}");
        assert_eq!(status.restore_points.len(), 1, "{name}");
    }
    let children: Vec<String> =
        fleet.dp(2).list::<MedusaBackupJob>(CASS).await.iter().map(ResourceExt::name_any).collect();
    assert_eq!(children.len(), 2, "only the runs that waited came: {children:?}");
    fleet.expect_data_plane("dp-2", "Ready", "True", "Ready").await;
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_plane_that_hangs_holds_nobody_up() {
    let fleet = Fleet::start(3).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    for number in 1..=3 {
        fleet.dp(number).create(datacenter(&format!("dc{number}"), "shop", 1)).await;
    }
    fleet.expect_size("shop", 3).await;
    home.create(secret(FLEET, "bucket", &[("credentials", "one")])).await;
    home.create(configuration("shared", "bucket", Some("*"))).await;
    for number in 1..=3 {
        fleet.dp(number).appears::<Secret>(CASS, "bucket").await;
    }
    let _finishers = (BackupFinisher::start(fleet.dp(1)), BackupFinisher::start(fleet.dp(3)));

    // It accepts connections and never answers.
    fleet.pause("dp-2");
    home.create(backup_job("nightly", json!({}))).await;
    // A write to it ends after ten seconds; the others' news do not wait for that.
    eventually_within(Duration::from_secs(8), "the status tells of the others", async || {
        let seen = [entry(&fleet, "nightly", "dp-1").await.0, entry(&fleet, "nightly", "dp-3").await.0];
        if seen.contains(&Phase::Pending) { Err(format!("{seen:?}")) } else { Ok(()) }
    })
    .await;
    home.patch::<Secret>(FLEET, "bucket", json!({"stringData": {"credentials": "two"}})).await;
    for number in [1, 3] {
        let cluster = fleet.dp(number);
        eventually_within(
            Duration::from_secs(20),
            format!("{} has the new Secret", cluster.name),
            async || {
                let data = cluster.get::<Secret>(CASS, "bucket").await.data.unwrap_or_default();
                if data["credentials"].0 == b"two" { Ok(()) } else { Err("it has the old one") }
            },
        )
        .await;
    }
    for plane in ["dp-1", "dp-3"] {
        eventually_within(Duration::from_secs(40), format!("{plane} is done while dp-2 hangs"), async || {
            let seen = entry(&fleet, "nightly", plane).await;
            if seen.0 == Phase::Succeeded { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
    }
    assert_eq!(entry(&fleet, "nightly", "dp-2").await.0, Phase::Pending, "it hangs still");
    fleet.expect_data_plane("dp-2", "Reachable", "False", "TimedOut").await;
    home.create(backup_job("second", json!({"dataPlanes": ["dp-1", "dp-3"]}))).await;
    fleet.expect_phase("second", Phase::Succeeded).await;

    fleet.resume("dp-2");
    let _third = BackupFinisher::start(fleet.dp(2));
    let status = fleet.expect_phase("nightly", Phase::Succeeded).await.status.unwrap();
    assert_eq!(status.run.counts.map(|c| (c.total, c.succeeded)), Some((3, 3)));
    let cluster = fleet.dp(2);
    eventually("dp-2 catches up", async || {
        let data = cluster.get::<Secret>(CASS, "bucket").await.data.unwrap_or_default();
        if data["credentials"].0 == b"two" { Ok(()) } else { Err("it has the old Secret") }
    })
    .await;
    assert_eq!(
        cluster.list::<MedusaBackupJob>(CASS).await.len(),
        1,
        "one child, whatever was sent while it hung"
    );
    controller.assert_running();
}
