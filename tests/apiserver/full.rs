//! A store that is full: API servers answer and take no writes. Nothing is lost, nothing ends, and everything goes on
//! when there is room again. And a disk of our own that is: nothing of what we say is heard.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use medusa_fleet::api::{
    fleet::{DataPlane, Phase},
    medusa::MedusaBackupJob,
};
use serde_json::json;

use crate::support::{
    BackupFinisher, CASS, ControlPlane, FLEET, Fleet, backup_job, configuration, datacenter, eventually,
    medusa_fleet, secret,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_delays_everything_and_costs_nothing() {
    let fleet = Fleet::start(1).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
    fleet.dp(1).create(datacenter("dc1", "shop", 1)).await;
    fleet.expect_size("shop", 1).await;
    let _finisher = BackupFinisher::start(fleet.dp(1));

    // Wanted while nobody works, and not to be had when somebody begins to.
    controller.kill9();
    home.create(secret(FLEET, "bucket", &[("credentials", "key")])).await;
    home.create(configuration("shared", "bucket", Some("*"))).await;
    home.create(backup_job("nightly", json!({}))).await;
    fleet.set_full(true);
    controller.start();
    eventually("the refusals are in the log", async || {
        let log = controller.log();
        if log.contains("database space exceeded") { Ok(()) } else { Err("no refusal yet") }
    })
    .await;
    let refused = medusa_fleet(&fleet.home().kubeconfig, &["backup", "now", "-n", FLEET]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("database space exceeded"), "{said}");
    controller.assert_running();
    controller.restart();
    let job = fleet.job("nightly").await;
    assert!(job.status.as_ref().is_none_or(|s| s.run.phase.is_none()), "nothing can have been written");

    fleet.set_full(false);
    fleet.expect_phase("nightly", Phase::Succeeded).await;
    eventually("the Secret is copied", async || {
        fleet.dp(1).find::<Secret>(CASS, "bucket").await.map(drop).ok_or("no Secret yet")
    })
    .await;
    let children = fleet.dp(1).list::<MedusaBackupJob>(CASS).await;
    let names: Vec<String> = children.iter().map(kube::ResourceExt::name_any).collect();
    assert_eq!(children.len(), 1, "{names:?}");
    assert!(names[0].ends_with(&job.uid().unwrap()[..8]), "{names:?}");
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_can_write_nothing_down_works_and_goes_on() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn_unheard(&fleet);
    fleet.register_all().await;
    there.create(datacenter("dc1", "shop", 1)).await;
    let _finisher = BackupFinisher::start(there);
    // What is worth a warning, and what cannot be read.
    fleet.register_as("odd", "kubeconfig", "not: a kubeconfig").await;
    fleet.expect_data_plane("odd", "Accepted", "False", "InvalidKubeconfig").await;
    home.create(configuration("odd", "nowhere", Some("//"))).await;
    fleet.stop("dp-1");
    eventually("its silence is noticed", async || {
        let plane: DataPlane = home.get(FLEET, "dp-1").await;
        plane.status.and_then(|status| status.disconnected_since).map(drop).ok_or("it is not")
    })
    .await;
    fleet.start_again("dp-1");
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
    home.create(backup_job("nightly", json!({"dataPlanes": ["dp-1"]}))).await;
    fleet.expect_phase("nightly", Phase::Succeeded).await;
    controller.assert_running();
}
