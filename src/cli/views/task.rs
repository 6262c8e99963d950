//! A sync or purge over the fleet: how it stands, and what a dry run found out.

use std::fmt::Write as _;

use super::run;
use crate::{
    api::{
        fleet::{DatacenterTask, FleetTaskStatus, Phase, Purged},
        size,
    },
    cli::output::{Table, one_line},
};

/// How the task stands, in one line.
#[must_use]
pub fn summary(status: &FleetTaskStatus) -> String {
    let phase = status.run.phase.unwrap_or_default();
    let counts = status.run.counts.unwrap_or_default();
    let mut line = format!("{}: {}/{} datacenters", phase.as_str(), counts.succeeded, counts.total);
    for (n, word) in [(counts.failed, "failed"), (counts.skipped, "skipped")] {
        if n > 0 {
            let _ = write!(line, ", {n} {word}");
        }
    }
    if let Some(purged) = status.purged {
        let _ = write!(line, ", {}", figures(purged));
    }
    line + &run::failure(&status.run)
}

/// What was purged, for people.
#[must_use]
pub fn figures(purged: Purged) -> String {
    let Purged { backups, objects, bytes, objects_within_grace } = purged;
    let freed = size::humanize(bytes);
    let grace = if objects_within_grace > 0 {
        format!(", {objects_within_grace} objects kept for now")
    } else {
        String::new()
    };
    format!("{backups} node backups and {objects} objects purged, {freed} freed{grace}")
}

/// One row per datacenter: how far it is, and what it came to.
#[must_use]
pub fn table(entries: &[DatacenterTask]) -> Table {
    let mut table = Table::new(&["DATACENTER", "CLUSTER", "STATE", "PURGED", "KEEPS", "TASK"]);
    for DatacenterTask { run: entry, purged, keeps, .. } in entries {
        table.row([
            run::title(entry),
            entry.cluster.clone(),
            run::line(entry),
            purged.map_or_else(String::new, figures),
            keeps.clone().unwrap_or_default(),
            entry.job.clone().unwrap_or_default(),
        ]);
    }
    table
}

/// Whether a dry run found that nothing would be done: the task cannot be done at all, or every datacenter refuses it.
#[must_use]
pub fn is_refused(status: &FleetTaskStatus) -> bool {
    let entries = &status.datacenters;
    status.run.phase == Some(Phase::Failed)
        || (!entries.is_empty() && entries.iter().all(|e| e.run.phase == Phase::Failed))
}

/// One row per datacenter: what would be done there, or why not.
#[must_use]
pub fn plan(entries: &[DatacenterTask], verb: &str) -> Table {
    let mut table = Table::new(&["DATACENTER", "CLUSTER", "WOULD", "KEEPS", "WHY"]);
    for DatacenterTask { run: entry, keeps, .. } in entries {
        let planned = entry.reason.as_deref() == Some("DryRun");
        let would = match entry.phase {
            Phase::Pending | Phase::Running if planned => verb.to_owned(),
            Phase::Pending | Phase::Running => "wait".to_owned(),
            Phase::Failed => "refuse".to_owned(),
            Phase::Skipped | Phase::Cancelled | Phase::Succeeded | Phase::PartiallyFailed => {
                "skip".to_owned()
            }
        };
        let why = [entry.reason.as_deref(), entry.message.as_deref()].into_iter().flatten();
        let why = if planned { String::new() } else { one_line(&why.collect::<Vec<_>>().join(": ")) };
        let keeps = keeps.clone().unwrap_or_default();
        table.row([run::title(entry), entry.cluster.clone(), would, keeps, why]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status() -> FleetTaskStatus {
        serde_json::from_value(json!({
            "phase": "PartiallyFailed", "done": "2/2",
            "counts": {"total": 2, "pending": 0, "running": 0, "succeeded": 1, "failed": 1, "skipped": 0},
            "purged": {"backups": 3, "objects": 814, "bytes": 10_770_961, "objectsWithinGrace": 5},
            "datacenters": [
                {"dataPlane": "eu-1", "namespace": "shop", "datacenter": "dc1", "cluster": "shop", "phase": "Succeeded",
                 "job": "weekly-dc1-0b1c2d3e", "keeps": "nightly-0b1c2d3e.shop", "nodes": {"total": 3, "finished": 3},
                 "purged": {"backups": 3, "objects": 814, "bytes": 10_770_961, "objectsWithinGrace": 5}},
                {"dataPlane": "us-1", "namespace": "pay", "datacenter": "dc9", "cluster": "payments", "phase": "Failed",
                 "reason": "WouldRemoveLastRestorePoint", "message": "no complete restore point:\nback it up first"},
            ],
            "conditions": [{"type": "Complete", "status": "False", "reason": "PartiallyFailed",
                "message": "1 of 2 datacenters purged", "lastTransitionTime": "2026-11-02T11:59:00Z"}],
        }))
        .unwrap()
    }

    #[test]
    fn the_last_line_sums_up_and_the_table_says_what_stays_and_why_not() {
        let mut text = format!("{}\n", summary(&status()));
        text += &table(&status().datacenters).render(0);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn the_last_line_of_one_that_succeeded_and_is_not_complete_says_why_not() {
        let mut odd = status();
        odd.run.phase = Some(Phase::Succeeded);
        let line = summary(&odd);
        assert!(line.starts_with("Succeeded: ") && line.ends_with(" (1 of 2 datacenters purged)"), "{line}");
        odd.run.conditions[0].message.clear();
        assert!(summary(&odd).ends_with(" (PartiallyFailed)"), "{}", summary(&odd));
        odd.run.conditions[0].status = "True".to_owned();
        assert!(!summary(&odd).contains('('), "{}", summary(&odd));
    }

    #[test]
    fn a_dry_run_is_refused_when_every_datacenter_is_or_there_is_none() {
        let mut dry_run = status();
        dry_run.run.phase = Some(Phase::Succeeded);
        assert!(!is_refused(&dry_run), "one of two would be purged");
        dry_run.datacenters.remove(0);
        assert!(is_refused(&dry_run), "a dry run succeeds, and what it found is a refusal");
        dry_run.datacenters.clear();
        assert!(!is_refused(&dry_run));
        dry_run.run.phase = Some(Phase::Failed);
        assert!(is_refused(&dry_run), "no datacenter matches");
    }

    #[test]
    fn a_plan_says_what_would_be_refused_and_why() {
        let mut entries = status().datacenters;
        let first = &mut entries[0];
        first.run.phase = Phase::Pending;
        first.run.reason = Some("DryRun".to_owned());
        let mut waits = entries[1].clone();
        waits.run.phase = Phase::Pending;
        waits.run.reason = Some("BackupRunning".to_owned());
        entries.push(waits);
        insta::assert_snapshot!(plan(&entries, "purge").render(0));
    }
}
