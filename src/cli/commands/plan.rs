//! `plan VERB`: what a verb would do where, and what it would skip and why.

use crate::{
    api::fleet::{FleetCluster, FleetOperation},
    cli::{
        args::Planned,
        failure::{Failure, Outcome},
        home::ControlPlaneClient,
        output::{Format, Printer},
        views::plan,
    },
};

/// Shows the plan that is asked for. Nothing is changed.
///
/// # Errors
/// When there is nothing of that name, it cannot be read, or nothing of it would be done.
pub async fn run(printer: Printer, home: &ControlPlaneClient, verb: Planned) -> Outcome {
    match verb {
        Planned::Deploy { cluster } => deploy(printer, home, cluster.as_deref()).await,
        Planned::Backup(choice) => super::backup::plan(printer, home, *choice).await,
        Planned::Sync(choice) => super::task::plan(printer, home, FleetOperation::Sync, choice).await,
        Planned::Purge(choice) => super::task::plan(printer, home, FleetOperation::Purge, choice).await,
        Planned::Restore(choice) => super::restore::plan(printer, home, &choice).await,
        Planned::Schedule(args) => super::schedule::plan(printer, home, &args).await,
    }
}

/// What deploying Medusa would change in each datacenter, as the control plane found by trying it.
async fn deploy(printer: Printer, home: &ControlPlaneClient, only: Option<&str>) -> Outcome {
    let clusters = home.list::<FleetCluster>().await?;
    if let Some(typed) = only
        && !clusters.iter().any(|cluster| plan::is_called(cluster, typed))
    {
        return Err(Failure::Failed(format!("there is no cluster `{typed}` {home}")));
    }
    let planned = plan::deployments(&clusters, only);
    let outcome = if plan::is_refused(&planned) { Err(Failure::Unhealthy) } else { Ok(()) };
    if printer.format().is_for_programs() {
        return printer.value(&planned).and(outcome);
    }
    if planned.is_empty() {
        let of = only.map_or_else(String::new, |name| format!(" of cluster `{name}`"));
        printer.note(&format!("no K8ssandraCluster asks for Medusa in a datacenter{of}; `spec.medusa` does"));
        return Ok(());
    }
    printer.text(&plan::screen(&planned, printer.format() == Format::Wide)).and(outcome)
}
