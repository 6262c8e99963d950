//! A fleet in which one data plane comes to deny writes: what is there before, what is asked for then, how it is held up,
//! and that it goes on. Who denies, and in which words, is the test's.

use medusa_fleet::api::{
    fleet::{DatacenterRun, DeploymentState, Phase},
    k8ssandra::K8ssandraCluster,
};
use serde_json::json;

use crate::{
    deployment_steps::{bare, bucket, container, expect_state, k8ssandra, medusa_in, raw, settle},
    support::{BackupFinisher, FLEET, Fleet, backup_job, configuration, datacenter, eventually, secret},
};

/// Cluster `shop` with `dc1` in the first data plane and `dc2` in the second, whose backups end by themselves, and cluster
/// `till` with Medusa in its `dc9` in the first.
pub(crate) async fn prepare(fleet: &Fleet) -> [BackupFinisher; 2] {
    let (home, there) = (fleet.home(), fleet.dp(1));
    for (number, dc) in [(1, "dc1"), (2, "dc2")] {
        fleet.expect_data_plane(&format!("dp-{number}"), "Ready", "True", "Ready").await;
        fleet.dp(number).create(datacenter(dc, "shop", 1)).await;
    }
    fleet.expect_size("shop", 2).await;
    let finishers = [BackupFinisher::start(there), BackupFinisher::start(fleet.dp(2))];
    home.create(bucket()).await;
    there.create(bare("dc9", "till")).await;
    settle(there, "dc9").await;
    home.create(k8ssandra("till", &[("dc9", "dp-1")], json!({}))).await;
    medusa_in(there, "dc9").await;
    settle(there, "dc9").await;
    expect_state(fleet, "till", "dc9", DeploymentState::Deployed, None).await;
    finishers
}

/// Asks for copies in both data planes, another image of Medusa in the first, and a backup of both.
pub(crate) async fn ask_for_writes(fleet: &Fleet) {
    let home = fleet.home();
    home.create(secret(FLEET, "shared", &[("credentials", "x")])).await;
    home.create(configuration("shared", "shared", Some("dp-1/cass, dp-2/cass"))).await;
    let image = json!({"spec": {"medusa": {"containerImage": {"tag": "9.9.9"}}}});
    home.patch::<K8ssandraCluster>(FLEET, "till", image).await;
    home.create(backup_job("audited", json!({"clusters": ["shop"]}))).await;
}

/// Waits until the backup is denied in one data plane and done in the other; returns the entry that is denied.
pub(crate) async fn held_up(fleet: &Fleet) -> DatacenterRun {
    eventually("the backup is held up there, and done elsewhere", async || {
        let entries = fleet.job("audited").await.status.unwrap_or_default().datacenters;
        let held = entries.iter().find(|entry| entry.reason.as_deref() == Some("DeniedByPolicy")).cloned();
        let other = entries.iter().any(|entry| entry.datacenter == "dc2" && entry.phase == Phase::Succeeded);
        held.filter(|_| other).ok_or(format!("{entries:?}"))
    })
    .await
}

/// Waits until all that was asked for is done.
pub(crate) async fn goes_on(fleet: &Fleet) {
    fleet.expect_replicated("shared", "True", "Replicated").await;
    fleet.expect_phase("audited", Phase::Succeeded).await;
    eventually("dc9 has the new image", async || {
        let datacenter = raw(fleet.dp(1), "dc9").await;
        let image = container(&datacenter, "containers", "medusa").map(|medusa| medusa["image"].to_string());
        image.filter(|image| image.contains(":9.9.9")).map(drop).ok_or("it has the old one")
    })
    .await;
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
}
