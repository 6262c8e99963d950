//! What can be restored?

use jiff::Timestamp;

use super::{ago, message, moment, name};
use crate::{
    api::fleet::{FleetBackup, FleetBackupStatus},
    cli::output::Table,
};

/// One row per restore point, newest first.
#[must_use]
pub fn table(backups: &[FleetBackup], wide: bool, now: Timestamp) -> Table {
    let header = ["NAME", "CLUSTER", "STATUS", "DCS", "NODES", "SIZE", "STARTED", "AGE"];
    let mut table = Table::wide(wide, &header, &["RESTORABLE", "JOB", "MESSAGE"]);
    for backup in backups {
        let unknown = FleetBackupStatus::default();
        let status = backup.status.as_ref().unwrap_or(&unknown);
        let restorable = match (status.phase.is_empty(), status.restorable) {
            (true, _) => "Unknown",
            (false, true) => "True",
            (false, false) => "False",
        };
        table.row([
            name(&backup.metadata),
            status.cluster.clone(),
            status.phase.clone(),
            status.done.clone().unwrap_or_default(),
            status.nodes_done.clone().unwrap_or_default(),
            status.size.clone().unwrap_or_default(),
            moment(status.start_time.as_ref()),
            // A restore point is as old as what it restores; the object may have been made anew since.
            ago(status.start_time.as_ref(), now),
            restorable.to_owned(),
            status.origin.as_ref().and_then(|o| o.job.clone()).unwrap_or_default(),
            message(&status.conditions, if status.complete { "Restorable" } else { "Complete" }),
        ]);
    }
    table
}

/// Newest first; those that have not said when they started come before all others.
pub fn sort(backups: &mut [FleetBackup]) {
    let started = |b: &FleetBackup| b.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
    backups.sort_by(|a, b| match (started(a), started(b)) {
        (None, Some(_)) => std::cmp::Ordering::Less,
        (Some(_), None) => std::cmp::Ordering::Greater,
        (x, y) => y.cmp(&x).then_with(|| a.metadata.name.cmp(&b.metadata.name)),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::views::fixtures::{backups, now};

    #[test]
    fn restore_points_show_what_is_in_them_newest_first() {
        let mut backups = backups();
        sort(&mut backups);
        insta::assert_snapshot!(table(&backups, false, now()).render(0));
    }

    #[test]
    fn wide_restore_points_show_whether_and_why_not() {
        let mut backups = backups();
        sort(&mut backups);
        insta::assert_snapshot!(table(&backups, true, now()).render(0));
    }
}
