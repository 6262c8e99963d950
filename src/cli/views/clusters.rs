//! Which Cassandra clusters are there, and what would be lost if one were gone now?

use jiff::Timestamp;

use super::{ago, message, name, reason, state};
use crate::{
    api::fleet::{FleetCluster, FleetClusterStatus},
    cli::{duration::age, output::Table},
};

/// One row per Cassandra cluster, by name.
#[must_use]
pub fn table(clusters: &[FleetCluster], wide: bool, now: Timestamp) -> Table {
    let header = ["NAME", "DCS", "MEDUSA", "PROTECTED", "LAST BACKUP", "RPO", "RESTORE POINTS", "NEXT"];
    let mut table = Table::wide(wide, &header, &["REASON", "DATA PLANES", "MESSAGE"]);
    for cluster in clusters {
        let unknown = FleetClusterStatus::default();
        let status = cluster.status.as_ref().unwrap_or(&unknown);
        table.row([
            name(&cluster.metadata),
            status.size.to_string(),
            medusa(status),
            state(&status.conditions, "Protected"),
            status.last_complete_backup.clone().unwrap_or_default(),
            ago(status.recovery_point_time.as_ref(), now),
            status.restore_points.to_string(),
            status.next_scheduled_backup.as_ref().map_or_else(String::new, |next| until(next.0, now)),
            reason(&status.conditions, "Protected"),
            data_planes(status),
            message(&status.conditions, "Protected"),
        ]);
    }
    table
}

/// How long until `next`; `due` once it has come.
fn until(next: Timestamp, now: Timestamp) -> String {
    if next > now { age(now, next) } else { "due".to_owned() }
}

/// Datacenters whose pods run Medusa, of all.
#[must_use]
pub fn medusa(status: &FleetClusterStatus) -> String {
    let deployed = status.datacenters.iter().filter(|dc| dc.medusa.deployed).count();
    format!("{deployed}/{}", status.datacenters.len())
}

/// The data planes a cluster spans, each once.
#[must_use]
pub fn data_planes(status: &FleetClusterStatus) -> String {
    let mut names: Vec<&str> = status.datacenters.iter().map(|dc| dc.data_plane.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::views::fixtures::{clusters, now};

    #[test]
    fn clusters_show_whether_they_are_protected_and_what_would_be_lost() {
        insta::assert_snapshot!(table(&clusters(), false, now()).render(0));
    }

    #[test]
    fn wide_clusters_show_why() {
        insta::assert_snapshot!(table(&clusters(), true, now()).render(0));
    }
}
