//! The run's status, summed up from its datacenters. Pure: their order does not matter.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{
        Reason,
        condition::set_condition,
        fleet::{DatacenterCounts, DatacenterRun, FleetBackupJob, FleetBackupJobStatus, Phase, RunStatus},
        names, size,
    },
    control_plane::runs::{
        child::child_key,
        ending::{going, is_cancelled},
    },
};

/// Restore points a status names at most: it is read by people, and the inventory knows all.
const MAX_RESTORE_POINTS: usize = 500;

/// Sums the entries up. `old` is the status before, `invalid` why the run cannot be done at all, `rehearsed` says
/// that the plan of a dry run is whole.
#[must_use]
pub fn summarize(
    job: &FleetBackupJob,
    old: &FleetBackupJobStatus,
    entries: Vec<DatacenterRun>,
    invalid: Option<&(Reason, String)>,
    rehearsed: bool,
    now: Timestamp,
) -> FleetBackupJobStatus {
    let counts = DatacenterCounts::of(&entries);
    let phase =
        if rehearsed { rehearsed_phase(&counts) } else { phase(&counts, &entries, invalid.is_some()) };
    let starts = || entries.iter().filter_map(|e| e.start_time.as_ref()).map(|t| t.0);
    let skew = starts().max().zip(starts().min()).map(|(last, first)| last.duration_since(first).as_secs());
    // Whoever is not done has no size to miss.
    let counted = entries.iter().filter(|e| e.size_bytes.is_some() || e.phase == Phase::Succeeded);
    let sizes: Vec<Option<i64>> = counted.map(|e| e.size_bytes).collect();
    let decided = counts.succeeded + counts.failed + counts.skipped;
    let run = RunStatus {
        observed_generation: job.metadata.generation,
        phase: Some(phase),
        start_time: old.run.start_time.clone().or(Some(Time(now))),
        finish_time: if phase.is_final() { old.run.finish_time.clone().or(Some(Time(now))) } else { None },
        last_progress_time: old.run.last_progress_time.clone(),
        counts: Some(counts),
        done: Some(format!("{decided}/{}", counts.total)),
        conditions: old.run.conditions.clone(),
    };
    let mut status = FleetBackupJobStatus {
        run,
        // A status that had to be shortened no longer has every start.
        start_skew_seconds: skew.max(old.start_skew_seconds),
        size: size::of_known(&sizes),
        restore_points: restore_points(job, &entries),
        datacenters: entries,
    };
    let (complete, reason, message) = if rehearsed {
        let starts = |e: &&DatacenterRun| e.reason.as_deref() == Some(Reason::DryRun.as_str());
        let starting = status.datacenters.iter().filter(starts).count();
        let waiting = usize::try_from(counts.pending).unwrap_or(0).saturating_sub(starting);
        let waiting = if waiting > 0 { format!(", {waiting} would be waited for") } else { String::new() };
        let message = format!(
            "only the plan was asked for: {starting} of {} datacenters would be backed up{waiting}{}",
            counts.total,
            said(&status, &[Phase::Failed, Phase::Skipped])
        );
        // As for every kind: a plan that would go as asked is what a dry run is to bring.
        (Some(phase == Phase::Succeeded), Reason::DryRun, message)
    } else {
        explain(phase, &status, invalid)
    };
    let generation = job.metadata.generation;
    set_condition(&mut status.run.conditions, "Complete", complete, reason, message, generation, now);
    status
}

fn restore_points(job: &FleetBackupJob, entries: &[DatacenterRun]) -> Vec<String> {
    let succeeded = entries.iter().filter(|e| e.phase == Phase::Succeeded && e.attempts() > 0);
    let mut points: Vec<String> = succeeded
        .map(|e| {
            let (point, _) = names::restore_point(&child_key(job, e, e.attempts()).name, &e.datacenter);
            names::fleet_backup(&point, &e.cluster)
        })
        .collect();
    points.sort();
    points.dedup();
    points.truncate(MAX_RESTORE_POINTS);
    points
}

fn phase(counts: &DatacenterCounts, entries: &[DatacenterRun], invalid: bool) -> Phase {
    if invalid || counts.total == 0 {
        return Phase::Failed;
    }
    if counts.pending + counts.running > 0 {
        let started = counts.running > 0 || counts.succeeded > 0 || entries.iter().any(|e| e.attempts() > 0);
        return if started { Phase::Running } else { Phase::Pending };
    }
    if entries.iter().any(is_cancelled) {
        return Phase::Cancelled;
    }
    // Left out by the run itself, not on purpose.
    let spent = entries.iter().any(|e| e.reason.as_deref() == Some(Reason::FailureBudgetSpent.as_str()));
    match (counts.succeeded, counts.failed) {
        (0, _) => Phase::Failed,
        (_, 0) if !spent => Phase::Succeeded,
        _ => Phase::PartiallyFailed,
    }
}

/// A dry run succeeds when the run would leave out nothing it was asked for by name, and back up something.
fn rehearsed_phase(counts: &DatacenterCounts) -> Phase {
    match (counts.pending, counts.failed) {
        (0, _) => Phase::Failed,
        (_, 0) => Phase::Succeeded,
        _ => Phase::PartiallyFailed,
    }
}

/// What the first few datacenters in one of these phases say.
fn said(status: &FleetBackupJobStatus, wanted: &[Phase]) -> String {
    let parts: Vec<String> = status
        .datacenters
        .iter()
        .filter(|e| wanted.contains(&e.phase))
        .filter_map(|e| e.message.as_ref().map(|m| format!("{}: {m}", e.place())))
        .take(5)
        .collect();
    if parts.is_empty() { String::new() } else { format!("; {}", parts.join("; ")) }
}

fn explain(
    phase: Phase,
    status: &FleetBackupJobStatus,
    invalid: Option<&(Reason, String)>,
) -> (Option<bool>, Reason, String) {
    if let Some((reason, message)) = invalid {
        return (Some(false), *reason, message.clone());
    }
    let counts = status.run.counts.unwrap_or_default();
    if counts.total == 0 {
        let message = "`spec.selector` matches no datacenter in any registered data plane; see `kubectl medusa clusters`";
        return (Some(false), Reason::NoDatacenters, message.to_owned());
    }
    match phase {
        Phase::Succeeded => {
            let left = if counts.skipped > 0 {
                format!(", {} left out{}", counts.skipped, said(status, &[Phase::Skipped]))
            } else {
                String::new()
            };
            (
                Some(true),
                Reason::Succeeded,
                format!("{} of {} datacenters backed up{left}", counts.succeeded, counts.total),
            )
        }
        Phase::Failed | Phase::PartiallyFailed | Phase::Skipped | Phase::Cancelled => {
            let reason = match phase {
                Phase::PartiallyFailed => Reason::PartiallyFailed,
                Phase::Cancelled => Reason::Cancelled,
                Phase::Pending | Phase::Running | Phase::Succeeded | Phase::Failed | Phase::Skipped => {
                    Reason::Failed
                }
            };
            let message = format!(
                "{} of {} datacenters backed up, {} failed, {} left out{}",
                counts.succeeded,
                counts.total,
                counts.failed,
                counts.skipped,
                said(status, &[Phase::Failed, Phase::Skipped, Phase::Cancelled])
            );
            (Some(false), reason, message)
        }
        Phase::Pending | Phase::Running => {
            let (reason, stalled) = going(status.datacenters.iter());
            let message = format!(
                "{} of {} datacenters decided{stalled}{}",
                counts.succeeded + counts.failed + counts.skipped,
                counts.total,
                said(status, &[Phase::Pending])
            );
            (None, reason, message)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control_plane::fanout::tests::{fleet_job, pending};

    fn now() -> Timestamp {
        Timestamp::from_second(1_000_000).unwrap()
    }

    fn entry(number: usize, phase: Phase) -> DatacenterRun {
        DatacenterRun {
            phase,
            attempts: i64::from(!matches!(phase, Phase::Pending | Phase::Skipped | Phase::Cancelled)),
            start_time: Timestamp::from_second(i64::try_from(number * 10).unwrap()).ok().map(Time),
            size_bytes: (phase == Phase::Succeeded).then_some(1024),
            reason: (phase == Phase::Cancelled).then(|| "Cancelled".to_owned()),
            ..pending("eu", &format!("dc{number}"))
        }
    }

    fn sum(entries: Vec<DatacenterRun>) -> FleetBackupJobStatus {
        summarize(&fleet_job("nightly"), &FleetBackupJobStatus::default(), entries, None, false, now())
    }

    fn of(phases: &[Phase]) -> FleetBackupJobStatus {
        sum(phases.iter().enumerate().map(|(n, phase)| entry(n, *phase)).collect())
    }

    #[test]
    fn the_phase_is_the_datacenters() {
        use Phase::{Cancelled, Failed, PartiallyFailed, Pending, Running, Skipped, Succeeded};
        for (phases, phase) in [
            (&[Pending, Pending][..], Pending),
            (&[Pending, Running], Running),
            (&[Pending, Succeeded], Running),
            (&[Succeeded, Succeeded], Succeeded),
            (&[Succeeded, Skipped], Succeeded),
            (&[Succeeded, Failed], PartiallyFailed),
            (&[Failed, Skipped], Failed),
            (&[Cancelled, Running], Running),
            (&[Cancelled, Succeeded, Failed], Cancelled),
        ] {
            assert_eq!(of(phases).run.phase, Some(phase), "{phases:?}");
        }
    }

    #[test]
    fn a_run_names_its_restore_points_size_and_skew() {
        let status = of(&[Phase::Succeeded, Phase::Succeeded, Phase::Failed]);
        assert_eq!(status.run.done.as_deref(), Some("3/3"));
        assert_eq!(status.size.as_deref(), Some("2.00 KB"));
        assert_eq!(status.restore_points, ["nightly-0b1c2d3e.shop.ns.eu"]);
        assert_eq!(status.start_skew_seconds, Some(20));
    }

    #[test]
    fn a_run_whose_budget_is_spent_did_not_succeed() {
        let mut skipped = entry(1, Phase::Skipped);
        skipped.reason = Some("FailureBudgetSpent".to_owned());
        let status = sum(vec![entry(0, Phase::Succeeded), skipped]);
        assert_eq!(status.run.phase, Some(Phase::PartiallyFailed));
    }

    #[test]
    fn a_dry_run_is_complete_with_a_plan_that_would_go_as_asked() {
        let job = fleet_job("nightly");
        let old = FleetBackupJobStatus::default();
        let mut planned = entry(0, Phase::Pending);
        planned.reason = Some("DryRun".to_owned());
        let entries = vec![planned, entry(1, Phase::Skipped)];
        let status = summarize(&job, &old, entries, None, true, now());
        assert_eq!(status.run.phase, Some(Phase::Succeeded));
        let complete = &status.run.conditions[0];
        assert_eq!((complete.status.as_str(), complete.reason.as_str()), ("True", "DryRun"));
        assert!(complete.message.contains("1 of 2 datacenters would be backed up"), "{}", complete.message);
        assert!(status.restore_points.is_empty() && status.run.finish_time.is_some());
        let nothing = summarize(&job, &old, vec![entry(0, Phase::Skipped)], None, true, now());
        assert_eq!(nothing.run.phase, Some(Phase::Failed));
        assert_eq!(
            (nothing.run.conditions[0].status.as_str(), nothing.run.conditions[0].reason.as_str()),
            ("False", "DryRun")
        );
    }

    #[test]
    fn nothing_selected_is_a_failure_with_a_reason() {
        let status = sum(Vec::new());
        assert_eq!(status.run.phase, Some(Phase::Failed));
        assert_eq!(status.run.conditions[0].reason, "NoDatacenters");
        let (job, old) = (fleet_job("nightly"), FleetBackupJobStatus::default());
        let invalid = (Reason::InvalidSelector, "`x` cannot be read".to_owned());
        let status = summarize(&job, &old, Vec::new(), Some(&invalid), false, now());
        assert_eq!(status.run.conditions[0].reason, "InvalidSelector");
    }

    proptest! {
        #[test]
        fn the_verdict_does_not_depend_on_the_order(phases in proptest::collection::vec(0_usize..6, 1..12), turn in 0_usize..12) {
            let all = [Phase::Pending, Phase::Running, Phase::Succeeded, Phase::Failed, Phase::Skipped, Phase::Cancelled];
            let list: Vec<DatacenterRun> = phases.iter().enumerate().map(|(n, p)| entry(n, all[*p])).collect();
            let mut turned = list.clone();
            turned.rotate_left(turn % list.len());
            let (a, b) = (sum(list), sum(turned));
            let said = |s: &FleetBackupJobStatus| {
                (s.run.phase, s.run.counts, s.run.done.clone(), s.size.clone(), s.start_skew_seconds, s.restore_points.clone())
            };
            prop_assert_eq!(said(&a), said(&b));
            let counts = a.run.counts.unwrap();
            prop_assert_eq!(counts.pending + counts.running + counts.succeeded + counts.failed + counts.skipped, counts.total);
        }
    }
}
