//! `status`: is the fleet protected?

use crate::{
    api::fleet::{DataPlane, FleetBackupJob, FleetCluster},
    cli::{
        failure::{Failure, Outcome},
        home::Home,
        output::Printer,
        views::status::{assess, screen},
    },
    runtime::clock,
};

/// Prints the one screen, and fails when the fleet is not healthy.
///
/// # Errors
/// When the fleet is unhealthy, or cannot be read.
pub async fn run(printer: Printer, home: &Home) -> Outcome {
    let (data_planes, clusters, jobs) = futures::try_join!(
        home.list::<DataPlane>(),
        home.list::<FleetCluster>(),
        home.list::<FleetBackupJob>(),
    )?;
    let now = clock::now();
    let status = assess(&data_planes, &clusters, &jobs, now);
    if printer.format().is_for_programs() {
        printer.value(&status)?;
    } else {
        printer.text(&screen(&status, now))?;
    }
    if status.healthy { Ok(()) } else { Err(Failure::Unhealthy) }
}
