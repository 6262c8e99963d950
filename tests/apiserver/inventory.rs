//! Restore points and clusters, as found in the data planes.

use kube::ResourceExt as _;
use medusa_fleet::api::{
    fleet::{FleetBackup, FleetBackupStatus, FleetCluster, FleetClusterStatus},
    medusa::MedusaBackup,
};
use serde_json::json;

use crate::support::{
    CASS, ControlPlane, FLEET, Fleet, condition, datacenter, eventually, node_names, write_backup,
};

/// Waits until a FleetBackup is as `wanted` says; returns its status.
async fn expect_point(fleet: &Fleet, name: &str, wanted: (&str, &str)) -> FleetBackupStatus {
    eventually(format!("FleetBackup {name} is {wanted:?}"), async || {
        let backup = fleet.home().find::<FleetBackup>(FLEET, name).await.ok_or("it is not there")?;
        let status = backup.status.unwrap_or_default();
        let seen = (status.phase.as_str(), status.done.as_deref().unwrap_or_default());
        if seen == wanted { Ok(status) } else { Err(format!("{status:#?}")) }
    })
    .await
}

/// Waits until the FleetCluster `shop` is protected or not, for a reason.
async fn expect_protected(fleet: &Fleet, protected: &str, reason: &str) -> FleetClusterStatus {
    eventually(format!("shop: Protected is {protected} because of {reason}"), async || {
        let cluster = fleet.home().find::<FleetCluster>(FLEET, "shop").await.ok_or("it is not there")?;
        let status = cluster.status.unwrap_or_default();
        let seen = condition(&status.conditions, "Protected");
        let reached = (seen.0.as_str(), seen.1.as_str()) == (protected, reason) && status.size == 3;
        if reached { Ok(status) } else { Err(format!("{status:#?}")) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn restore_points_and_protection_follow_the_backups_and_outlive_silence() {
    let fleet = Fleet::start(3).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    for number in 1..=3 {
        fleet.dp(number).create(datacenter(&format!("dc{number}"), "shop", 2)).await;
    }
    let status = expect_protected(&fleet, "False", "NeverBackedUp").await;
    assert!(status.datacenters.iter().all(|dc| dc.medusa.deployed && dc.size == 2));
    assert_eq!(condition(&status.conditions, "MedusaDeployed").0, "True");

    // Part by part.
    for number in [1, 2] {
        write_backup(fleet.dp(number), "manual", &format!("dc{number}"), 2, "SUCCESS").await;
    }
    let status = expect_point(&fleet, "manual.shop", ("Incomplete", "2/3")).await;
    assert!(!status.complete && !status.restorable);
    assert_eq!(status.datacenters[2].status, "MISSING");
    write_backup(fleet.dp(3), "manual", "dc3", 2, "SUCCESS").await;
    let status = expect_point(&fleet, "manual.shop", ("Complete", "3/3")).await;
    assert!(status.complete && status.restorable);
    assert_eq!(status.nodes_done.as_deref(), Some("6/6"));
    assert_eq!(status.size.as_deref(), Some("6.00 KB"));
    assert_eq!(status.cluster, "shop");
    assert!(status.start_time.is_some() && status.finish_time.is_some() && status.origin.is_none());
    let cluster = expect_protected(&fleet, "True", "RecoveryPointFresh").await;
    assert_eq!(cluster.last_complete_backup.as_deref(), Some("manual.shop"));
    assert_eq!(cluster.restore_points, 1);
    assert!(cluster.datacenters.iter().all(|dc| dc.last_backup.as_deref() == Some("manual")));
    home.event("FleetCluster", "shop", "RecoveryPointFresh").await;

    // A data plane falls silent and the control plane starts anew: what is not seen is not gone.
    let point: FleetBackup = home.get(FLEET, "manual.shop").await;
    fleet.stop("dp-3");
    controller.kill9();
    let since = controller.log().len();
    controller.start();
    controller.ready(since).await;
    fleet.expect_data_plane("dp-3", "Reachable", "False", "ConnectionRefused").await;
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
    fleet.dp(1).delete::<MedusaBackup>(CASS, "manual").await;
    let status = expect_point(&fleet, "manual.shop", ("Incomplete", "2/3")).await;
    assert_eq!(status.datacenters[2].status, "SUCCESS", "the silent data plane's part is kept");
    let now: FleetBackup = home.get(FLEET, "manual.shop").await;
    assert_eq!(now.uid(), point.uid(), "it was made anew");
    expect_protected(&fleet, "False", "NoCompleteRestorePoint").await;
    write_backup(fleet.dp(1), "manual", "dc1", 2, "SUCCESS").await;
    expect_protected(&fleet, "True", "RecoveryPointFresh").await;
    fleet.start_again("dp-3");
    fleet.expect_data_plane("dp-3", "Ready", "True", "Ready").await;
    expect_point(&fleet, "manual.shop", ("Complete", "3/3")).await;

    // A MedusaBackup without status, as a crash of its controller leaves it.
    fleet
        .dp(1)
        .create(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackup",
            "metadata": {"name": "bare", "namespace": CASS}, "spec": {"cassandraDatacenter": "dc1"},
        }))
        .await;
    let status = expect_point(&fleet, "bare.shop", ("Incomplete", "0/3")).await;
    assert_eq!(status.datacenters[0].status, "UNKNOWN");
    assert_eq!(expect_protected(&fleet, "True", "RecoveryPointFresh").await.restore_points, 1);

    // A topology that changed since can not be restored to.
    let grown = json!({"spec": {"size": 3}});
    fleet.dp(2).patch::<medusa_fleet::api::cassandra::CassandraDatacenter>(CASS, "dc2", grown).await;
    eventually("it is complete but not restorable", async || {
        let status = home.get::<FleetBackup>(FLEET, "manual.shop").await.status.unwrap_or_default();
        let seen = condition(&status.conditions, "Restorable");
        let reached = status.complete && !status.restorable && seen.2.contains("dc2");
        if reached { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;

    // Too old to protect.
    let nodes: Vec<_> =
        node_names("dc1", 2).into_iter().map(|h| json!({"host": h, "datacenter": "dc1"})).collect();
    let old =
        json!({"startTime": "2020-02-02T00:00:00Z", "finishTime": "2020-02-02T01:00:00Z", "nodes": nodes});
    fleet.dp(1).patch_status::<MedusaBackup>(CASS, "manual", old).await;
    expect_protected(&fleet, "False", "RecoveryPointStale").await;
    home.event("FleetCluster", "shop", "RecoveryPointStale").await;

    // Deleted everywhere.
    fleet.dp(1).delete::<MedusaBackup>(CASS, "bare").await;
    home.disappears::<FleetBackup>(FLEET, "bare.shop").await;
    for number in 1..=3 {
        fleet.dp(number).delete::<MedusaBackup>(CASS, "manual").await;
    }
    home.disappears::<FleetBackup>(FLEET, "manual.shop").await;
    expect_protected(&fleet, "False", "NoCompleteRestorePoint").await;
    controller.assert_running();
}
