//! A restore: its plan, how each datacenter stands, and how it ended.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::{detail::Page, moment, name, run::why};
use crate::{
    api::fleet::{CheckState, FleetRestoreJob, FleetRestoreJobStatus, Phase, RestorePlan, RestoreRun, place},
    cli::output::{Table, one_line},
};

/// Name of a datacenter in a restore: `<data plane>/<namespace>/<datacenter>`.
#[must_use]
pub fn title(run: &RestoreRun) -> String {
    place([&run.data_plane, &run.namespace, &run.datacenter])
}

/// State of a datacenter in a restore, on one line.
#[must_use]
pub fn line(run: &RestoreRun) -> String {
    let mut line = run.phase.as_str().to_owned();
    if let Some(nodes) = run.nodes {
        let _ = write!(line, ", {}/{} nodes", nodes.finished, nodes.total);
    }
    line + &why(run.phase, run.reason.as_deref(), run.message.as_deref())
}

/// How the restore stands, in one line.
#[must_use]
pub fn summary(status: &FleetRestoreJobStatus) -> String {
    let done = status.done.clone().unwrap_or_default();
    let line = format!("{}: {done} datacenters restored", status.phase.unwrap_or_default().as_str());
    let verdict = status.conditions.iter().find(|c| c.type_ == "Complete");
    let succeeded = status.phase == Some(Phase::Succeeded);
    match verdict.filter(|c| !c.message.is_empty() && (!succeeded || c.status == "False")) {
        Some(condition) => format!("{line} ({}: {})", condition.reason, one_line(&condition.message)),
        None => line,
    }
}

/// The plan as a table: what goes where, and what stands in the way.
#[must_use]
pub fn plan(entries: &[RestorePlan]) -> Table {
    let mut table = Table::new(&["DATA PLANE", "NAMESPACE", "DATACENTER", "MEDUSA BACKUP", "CHECKS", "NOTE"]);
    for entry in entries {
        let worst = entry.checks.iter().map(|c| c.state).max().unwrap_or_default();
        let open = entry.checks.iter().filter(|c| c.state != CheckState::Passed);
        let notes: Vec<String> = open.filter_map(|c| c.message.clone()).collect();
        table.row([
            entry.data_plane.clone(),
            entry.namespace.clone(),
            entry.datacenter.clone(),
            entry.medusa_backup.clone(),
            format!("{worst:?}"),
            notes.join("; "),
        ]);
    }
    table
}

/// Everything known about a restore.
#[must_use]
pub fn page(object: &FleetRestoreJob, now: Timestamp) -> String {
    let mut page = Page::new("FleetRestoreJob", &name(&object.metadata));
    page.fact("Backup", object.spec.backup.clone().unwrap_or_default());
    page.fact("Order", format!("{:?}", object.spec.order));
    let Some(status) = &object.status else {
        page.fact("Phase", "Pending (no control plane has taken it up yet)");
        return page.0;
    };
    page.fact("Cluster", status.cluster.clone().unwrap_or_default());
    page.fact("Summary", summary(status));
    page.fact("Started", moment(status.start_time.as_ref()));
    page.fact("Checks passed", moment(status.checked_time.as_ref()));
    page.fact("Finished", moment(status.finish_time.as_ref()));
    page.section("Plan", &plan(&status.plan));
    let mut table = Table::new(&["DATACENTER", "STATE", "STARTED", "STOPPED", "FINISHED", "JOB"]);
    for run in &status.datacenters {
        table.row([
            title(run),
            line(run),
            moment(run.start_time.as_ref()),
            moment(run.stopped_time.as_ref()),
            moment(run.finish_time.as_ref()),
            run.job.clone().unwrap_or_default(),
        ]);
    }
    page.section("Datacenters", &table);
    page.conditions(&status.conditions, now);
    page.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::views::fixtures::{now, restore};

    #[test]
    fn a_page_shows_the_plan_and_every_step() {
        insta::assert_snapshot!(page(&restore(), now()));
    }
}
