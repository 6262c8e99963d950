//! Sums the entries up into the task's status. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Scene;
use crate::{
    api::{
        Reason,
        condition::set_condition,
        fleet::{
            DatacenterCounts, DatacenterTask, FleetOperation, FleetTaskStatus, Phase, Purged, RunStatus,
        },
        size,
    },
    control_plane::runs::ending::{going, is_cancelled},
};

/// Entries whose messages a condition repeats.
const QUOTED: usize = 5;

/// The status at `scene.now`. `old` is the status before, `invalid` why the task cannot be done at all.
#[must_use]
pub(super) fn summarize(
    scene: &Scene<'_>,
    old: &FleetTaskStatus,
    entries: Vec<DatacenterTask>,
    progress: Timestamp,
    invalid: Option<&(Reason, String)>,
) -> FleetTaskStatus {
    let task = scene.task;
    let counts = DatacenterCounts::of(entries.iter().map(|e| &e.run));
    let purged = total(old, &entries);
    let decided = counts.total - counts.pending - counts.running;
    let run = RunStatus {
        observed_generation: task.metadata.generation,
        phase: None,
        start_time: old.run.start_time.clone().or(Some(Time(scene.begun))),
        finish_time: None,
        last_progress_time: Some(Time(progress)),
        counts: Some(counts),
        done: Some(format!("{decided}/{}", counts.total)),
        conditions: old.run.conditions.clone(),
    };
    let freed = purged.map(|p| size::humanize(p.bytes));
    let mut status = FleetTaskStatus { run, freed, purged, datacenters: entries };
    let verdict = verdict(scene, &status, invalid);
    status.run.phase = Some(verdict.phase);
    if verdict.phase.is_final() {
        status.run.finish_time = old.run.finish_time.clone().or(Some(Time(scene.now)));
    }
    set_condition(
        &mut status.run.conditions,
        "Complete",
        verdict.complete,
        verdict.reason,
        verdict.message,
        task.metadata.generation,
        scene.now,
    );
    status
}

/// What was purged in all: what the entries say, and what those said whose figures a status that had to be shortened
/// no longer has.
fn total(old: &FleetTaskStatus, entries: &[DatacenterTask]) -> Option<Purged> {
    let sum = |entries: &[DatacenterTask]| entries.iter().filter_map(|e| e.purged).reduce(Purged::plus);
    let told_before = sum(&old.datacenters).unwrap_or_default();
    let no_longer_told =
        old.purged.map(|all| all.minus(told_before)).filter(|rest| *rest != Purged::default());
    no_longer_told.into_iter().chain(sum(entries)).reduce(Purged::plus)
}

struct Verdict {
    phase: Phase,
    complete: Option<bool>,
    reason: Reason,
    message: String,
}

fn verdict(scene: &Scene<'_>, status: &FleetTaskStatus, invalid: Option<&(Reason, String)>) -> Verdict {
    let is = |phase: Phase, complete: Option<bool>, reason: Reason, message: String| Verdict {
        phase,
        complete,
        reason,
        message,
    };
    let counts = status.run.counts.unwrap_or_default();
    if let Some((reason, message)) = invalid {
        return is(Phase::Failed, Some(false), *reason, message.clone());
    }
    if counts.total == 0 {
        let message = "`spec.selector` matches no datacenter in any registered data plane; see `kubectl medusa clusters`";
        return is(Phase::Failed, Some(false), Reason::NoDatacenters, message.to_owned());
    }
    let spec = &scene.task.spec;
    let word = match spec.operation {
        FleetOperation::Sync => "synced",
        FleetOperation::Purge => "purged",
    };
    if spec.run.is_dry_run() && status.datacenters.iter().all(is_rehearsed) {
        let would =
            status.datacenters.iter().filter(|e| e.run.reason.as_deref() == Some(Reason::DryRun.as_str()));
        let message = format!(
            "{} of {} datacenters would be {word}; nothing was done{}",
            would.count(),
            counts.total,
            said(status, |phase| phase != Phase::Pending)
        );
        return is(Phase::Succeeded, Some(true), Reason::DryRun, message);
    }
    if counts.pending + counts.running > 0 {
        let started = counts.running > 0 || status.datacenters.iter().any(|e| e.run.attempts() > 0);
        let phase = if started { Phase::Running } else { Phase::Pending };
        let (reason, stalled) = going(status.datacenters.iter().map(|e| &e.run));
        let message = format!(
            "{} of {} datacenters decided{stalled}{}",
            counts.total - counts.pending - counts.running,
            counts.total,
            said(status, |phase| phase == Phase::Pending)
        );
        return is(phase, None, reason, message);
    }
    let bad = said(status, |phase| phase != Phase::Succeeded);
    let sum = format!("{} of {} datacenters {word}", counts.succeeded, counts.total);
    let message = format!("{sum}, {} failed, {} left out{bad}", counts.failed, counts.skipped);
    if status.datacenters.iter().any(|e| is_cancelled(&e.run)) {
        return is(Phase::Cancelled, Some(false), Reason::Cancelled, message);
    }
    match (counts.succeeded, counts.failed) {
        (0, _) => is(Phase::Failed, Some(false), Reason::Failed, message),
        (_, 0) if counts.skipped == 0 => is(Phase::Succeeded, Some(true), Reason::Succeeded, sum),
        (_, 0) => is(Phase::Succeeded, Some(true), Reason::Succeeded, message),
        _ => is(Phase::PartiallyFailed, Some(false), Reason::PartiallyFailed, message),
    }
}

/// Whether a dry run has looked at an entry: it would start, would have to wait, or is decided. What is not known
/// yet is looked at again.
fn is_rehearsed(entry: &DatacenterTask) -> bool {
    let unknown = [Reason::Pending.as_str(), Reason::Connecting.as_str(), Reason::AwaitingTurn.as_str()];
    let reason = entry.run.reason.as_deref();
    entry.run.phase.is_final() || reason.is_some_and(|reason| !unknown.contains(&reason))
}

fn said(status: &FleetTaskStatus, wanted: impl Fn(Phase) -> bool) -> String {
    let parts: Vec<String> = status
        .datacenters
        .iter()
        .map(|e| &e.run)
        .filter(|run| wanted(run.phase))
        .filter_map(|run| {
            let message = run.message.as_ref()?;
            Some(format!("{}: {message}", run.place()))
        })
        .take(QUOTED)
        .collect();
    if parts.is_empty() { String::new() } else { format!("; {}", parts.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fleet::DatacenterRun;

    fn entry(datacenter: &str, phase: Phase, reason: Reason) -> DatacenterTask {
        let run = DatacenterRun {
            data_plane: "eu".to_owned(),
            datacenter: datacenter.to_owned(),
            phase,
            reason: Some(reason.as_str().to_owned()),
            message: Some("why".to_owned()),
            attempts: 1,
            ..DatacenterRun::default()
        };
        DatacenterTask { run, ..DatacenterTask::default() }
    }

    fn verdict_of(entries: Vec<DatacenterTask>) -> FleetTaskStatus {
        let task = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "sync"}, "spec": {"operation": "sync"},
        }));
        let begun = Timestamp::UNIX_EPOCH;
        let scene =
            Scene { task: &task.unwrap(), planes: std::collections::BTreeMap::new(), begun, now: begun };
        summarize(&scene, &FleetTaskStatus::default(), entries, begun, None)
    }

    #[test]
    fn one_that_was_cancelled_while_a_retry_waited_is_cancelled_as_a_backup_is() {
        let status = verdict_of(vec![
            entry("dc1", Phase::Succeeded, Reason::Succeeded),
            entry("dc2", Phase::Failed, Reason::Cancelled),
        ]);
        assert_eq!(status.run.phase, Some(Phase::Cancelled));
        assert_eq!(status.run.conditions[0].reason, "Cancelled");
        let failed = verdict_of(vec![entry("dc2", Phase::Failed, Reason::Failed)]);
        assert_eq!(failed.run.phase, Some(Phase::Failed));
    }

    #[test]
    fn a_place_of_which_only_the_data_plane_is_known_is_spelt_as_everywhere() {
        let status = verdict_of(vec![entry("", Phase::Failed, Reason::DataPlaneUnreachable)]);
        let message = &status.run.conditions[0].message;
        assert!(message.ends_with("; eu: why"), "{message}");
    }
}
