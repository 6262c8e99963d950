//! `status`: is the fleet protected?

use crate::{
    api::fleet::{DataPlane, FleetBackupJob, FleetCluster},
    cli::{
        failure::{Failure, Outcome},
        home::ControlPlaneClient,
        output::Printer,
        views::status::{assess, screen},
    },
    runtime::clock,
};

/// Prints the one screen, and fails when the fleet is not healthy.
///
/// # Errors
/// When the fleet is unhealthy, or cannot be read.
pub async fn run(printer: Printer, home: &ControlPlaneClient) -> Outcome {
    let ((data_planes, mut unreadable), (clusters, more), jobs) = futures::try_join!(
        home.read::<DataPlane>(),
        home.read::<FleetCluster>(),
        home.list::<FleetBackupJob>(),
    )?;
    unreadable.extend(more);
    let now = clock::now();
    let status = assess(&data_planes, &clusters, &jobs, now);
    if printer.format().is_for_programs() {
        printer.value(&status)?;
    } else {
        printer.text(&screen(&status, now))?;
    }
    // What cannot be read may be what is not protected.
    match (status.healthy, unreadable.is_empty()) {
        (true, true) => Ok(()),
        (true, false) => Err(Failure::CouldNotAsk(unreadable.join("; "))),
        (false, _) => {
            for why in unreadable {
                printer.note(&format!("note: {why}"));
            }
            Err(Failure::Unhealthy)
        }
    }
}
