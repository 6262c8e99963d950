//! An object that is as large as an API server takes has no room for a status: that is said, tried again at growing pauses,
//! and costs nobody else anything.

use medusa_fleet::api::fleet::{FleetBackupJob, Phase};
use serde_json::json;

use crate::support::{BackupFinisher, ControlPlane, FLEET, Fleet, backup_job, datacenter};

/// More of them than this no object can hold.
const NAMES: usize = 7_000;

#[tokio::test(flavor = "multi_thread")]
async fn an_object_without_room_for_a_status_says_so_and_holds_up_no_other() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    there.create(datacenter("dc1", "shop", 1)).await;
    fleet.expect_size("shop", 1).await;
    let _finisher = BackupFinisher::start(there);

    // Nobody writes to it while it grows.
    controller.kill9();
    let name = |number: usize| format!("{number:05}{}", "x".repeat(240));
    let large = |names: usize| {
        backup_job("large", json!({"clusters": (0..names).map(name).collect::<Vec<String>>()}))
    };
    let (mut fits, mut too_many) = (0, NAMES);
    while too_many - fits > 1 {
        let half = usize::midpoint(fits, too_many);
        if home.try_create(large(half)).await.is_ok() {
            home.delete::<FleetBackupJob>(FLEET, "large").await;
            fits = half;
        } else {
            too_many = half;
        }
    }
    assert!(fits > 1_000, "{fits}");
    home.create(large(fits)).await;
    controller.start();
    let note = home.event("FleetBackupJob", "large", "TooLarge").await;
    assert!(note.contains("its status cannot be written") && note.contains("smaller"), "{note}");
    let tries = controller.log().matches("name=\"large\"").count();
    assert!(tries < 20, "{tries} tries");
    home.create(backup_job("small", json!({"clusters": ["shop"]}))).await;
    fleet.expect_phase("small", Phase::Succeeded).await;

    home.delete::<FleetBackupJob>(FLEET, "large").await;
    home.disappears::<FleetBackupJob>(FLEET, "large").await;
    controller.assert_running();
}
