//! A restore: its plan, what changed, and how it ended.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::{detail::Page, moment, name};
use crate::{
    api::fleet::{CheckState, FleetRestoreJob, FleetRestoreJobStatus, Phase, RestorePlan, RestoreRun},
    cli::output::{Table, one_line},
};

/// Name of a datacenter in a restore: `<data plane>/<namespace>/<datacenter>`.
#[must_use]
pub fn title(run: &RestoreRun) -> String {
    format!("{}/{}/{}", run.data_plane, run.namespace, run.datacenter)
}

/// State of a datacenter in a restore, on one line.
#[must_use]
pub fn line(run: &RestoreRun) -> String {
    let mut line = run.phase.as_str().to_owned();
    if let Some(nodes) = run.nodes {
        let _ = write!(line, ", {}/{} nodes", nodes.finished, nodes.total);
    }
    let why = [run.reason.as_deref(), run.message.as_deref()].into_iter().flatten();
    let why = why.filter(|w| !w.is_empty() && *w != run.phase.as_str()).collect::<Vec<_>>().join(": ");
    if !why.is_empty() && run.phase != Phase::Succeeded {
        let _ = write!(line, " ({})", one_line(&why));
    }
    line
}

/// What changed: what is waited for before anything begins, then one line per datacenter that is not as it was.
#[must_use]
pub fn changes(before: Option<&FleetRestoreJob>, after: &FleetRestoreJob) -> Vec<String> {
    let runs = |job: &FleetRestoreJob| job.status.clone().unwrap_or_default().datacenters;
    let now = runs(after);
    if now.is_empty() {
        let told = |job: &FleetRestoreJob| job.status.as_ref().map(summary);
        return told(after).filter(|line| before.and_then(told).as_ref() != Some(line)).into_iter().collect();
    }
    let known = before.map(runs).unwrap_or_default();
    let was = |run: &RestoreRun| known.iter().find(|old| title(old) == title(run)).map(line);
    let changed = now.iter().filter(|run| was(run).as_deref() != Some(&line(run)));
    changed.map(|run| format!("{}: {}", title(run), line(run))).collect()
}

/// How the restore stands, in one line.
#[must_use]
pub fn summary(status: &FleetRestoreJobStatus) -> String {
    let done = status.done.clone().unwrap_or_default();
    let line = format!("{}: {done} datacenters restored", status.phase.unwrap_or_default().as_str());
    let verdict = status.conditions.iter().find(|c| c.type_ == "Complete");
    match verdict.filter(|c| !c.message.is_empty() && status.phase != Some(Phase::Succeeded)) {
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
    use serde_json::json;

    use super::*;
    use crate::cli::views::fixtures::now;

    fn restore() -> FleetRestoreJob {
        serde_json::from_value(json!({
            "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetRestoreJob",
            "metadata": {"name": "back"}, "spec": {"backup": "nightly.shop"},
            "status": {
                "phase": "Running", "cluster": "shop", "done": "1/2", "startTime": "2026-11-02T11:00:00Z",
                "checkedTime": "2026-11-02T11:00:10Z",
                "plan": [
                    {"dataPlane": "eu-1", "namespace": "shop", "datacenter": "dc1", "medusaBackup": "nightly-dc1",
                     "job": "back-dc1", "checks": [{"name": "Idle", "state": "Passed"}]},
                    {"dataPlane": "us-1", "namespace": "shop", "datacenter": "dc2", "medusaBackup": "nightly-dc2",
                     "job": "back-dc2", "checks": [{"name": "Idle", "state": "Passed"}]},
                ],
                "datacenters": [
                    {"dataPlane": "eu-1", "namespace": "shop", "datacenter": "dc1", "job": "back-dc1",
                     "phase": "Succeeded", "reason": "Succeeded", "startTime": "2026-11-02T11:00:11Z",
                     "stoppedTime": "2026-11-02T11:01:00Z", "finishTime": "2026-11-02T11:30:00Z",
                     "nodes": {"total": 3, "finished": 3}},
                    {"dataPlane": "us-1", "namespace": "shop", "datacenter": "dc2", "job": "back-dc2",
                     "phase": "Running", "reason": "Restoring", "message": "1 pods restored",
                     "startTime": "2026-11-02T11:00:11Z", "nodes": {"total": 3, "finished": 1}},
                ],
                "conditions": [{"type": "Complete", "status": "Unknown", "reason": "Running",
                    "message": "us-1/shop/dc2: Restoring", "lastTransitionTime": "2026-11-02T11:00:00Z"}],
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_page_shows_the_plan_and_every_step() {
        insta::assert_snapshot!(page(&restore(), now()));
    }

    #[test]
    fn only_what_changed_is_told() {
        let (mut before, after) = (restore(), restore());
        assert_eq!(changes(Some(&before), &after), Vec::<String>::new());
        before.status.as_mut().unwrap().datacenters[1].phase = Phase::Pending;
        let told = changes(Some(&before), &after);
        assert_eq!(told, ["us-1/shop/dc2: Running, 1/3 nodes (Restoring: 1 pods restored)"]);
    }

    #[test]
    fn before_it_begins_it_says_what_it_waits_for() {
        let mut waiting = restore();
        waiting.status.as_mut().unwrap().datacenters.clear();
        let told = changes(None, &waiting);
        assert_eq!(told, ["Running: 1/2 datacenters restored (Running: us-1/shop/dc2: Restoring)"]);
        assert!(changes(Some(&waiting), &waiting).is_empty());
    }
}
