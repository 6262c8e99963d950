//! `dataplanes`, `clusters`, `backups`: what is there.

use crate::{
    api::fleet::{DataPlane, FleetBackup, FleetCluster},
    cli::{
        failure::Outcome,
        home::ControlPlaneClient,
        output::Printer,
        views::{self, name},
    },
    runtime::clock,
};

/// Lists the registered clusters.
///
/// # Errors
/// When they cannot be read or printed.
pub async fn data_planes(printer: Printer, home: &ControlPlaneClient) -> Outcome {
    let mut data_planes = home.list::<DataPlane>().await?;
    data_planes.sort_by_key(|data_plane| name(&data_plane.metadata));
    let nothing = || {
        let register = printer.command("register NAME --from-kubeconfig FILE");
        format!(
            "no data planes {home}; {register} adds one, and a running control plane adds its own cluster as `local`"
        )
    };
    let table = |wide| views::data_planes::table(&data_planes, wide, clock::now());
    printer.listing(&data_planes, nothing, table)
}

/// Lists the Cassandra clusters.
///
/// # Errors
/// When they cannot be read or printed.
pub async fn clusters(printer: Printer, home: &ControlPlaneClient) -> Outcome {
    let mut clusters = home.list::<FleetCluster>().await?;
    clusters.sort_by_key(|cluster| name(&cluster.metadata));
    let nothing = || {
        format!(
            "no Cassandra clusters {home}; they are found in the data planes: {} says whether those are ready and how \
             many datacenters they host",
            printer.command("dataplanes")
        )
    };
    printer.listing(&clusters, nothing, |wide| views::clusters::table(&clusters, wide, clock::now()))
}

/// Lists the restore points, of one Cassandra cluster or of all.
///
/// # Errors
/// When they cannot be read or printed.
pub async fn backups(printer: Printer, home: &ControlPlaneClient, cluster: Option<&str>) -> Outcome {
    let mut backups = home.list::<FleetBackup>().await?;
    if let Some(cluster) = cluster {
        backups.retain(|backup| backup.status.as_ref().is_some_and(|status| status.cluster == cluster));
    }
    views::backups::sort(&mut backups);
    let nothing = || {
        let of = cluster.map_or_else(String::new, |cluster| format!(" of cluster `{cluster}`"));
        format!("no restore points{of} {home}; {} makes one", printer.command("backup --watch"))
    };
    printer.listing(&backups, nothing, |wide| views::backups::table(&backups, wide, clock::now()))
}
