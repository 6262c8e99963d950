//! A run's status, summed up from its datacenters, for every kind that has a child in each. Pure: the order of the
//! datacenters does not matter. What only one kind sums up stands in that kind's folder.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{
        Reason,
        condition::set_condition,
        fleet::{DatacenterCounts, DatacenterRun, Phase, RunStatus},
    },
    control_plane::runs::{
        Fanned,
        ending::{going, is_cancelled},
    },
};

/// Datacenters whose messages a condition repeats.
const QUOTED: usize = 5;

/// Why a run cannot be done at all.
pub type Invalid = (Reason, String);

/// What a run is summed up from.
pub struct Summary<'a, R> {
    pub run: &'a R,
    /// What its status said before.
    pub old: &'a RunStatus,
    pub entries: Vec<&'a DatacenterRun>,
    /// Why it cannot be done at all, if so.
    pub invalid: Option<&'a Invalid>,
    /// When something last went on.
    pub progress: Timestamp,
    pub now: Timestamp,
}

/// What a run has come to.
struct RunVerdict {
    phase: Phase,
    /// Status of the condition `Complete`.
    complete: Option<bool>,
    reason: Reason,
    message: String,
}

impl<R: Fanned> Summary<'_, R> {
    /// The part of the status that all kinds share.
    #[must_use]
    pub fn status(&self) -> RunStatus {
        let counts = DatacenterCounts::of(self.entries.iter().copied());
        let RunVerdict { phase, complete, reason, message } = self.verdict(&counts);
        let (old, generation, now) = (self.old, self.run.meta().generation, self.now);
        let mut conditions = old.conditions.clone();
        set_condition(&mut conditions, "Complete", complete, reason, message, generation, now);
        RunStatus {
            observed_generation: generation,
            phase: Some(phase),
            start_time: old.start_time.clone().or(Some(Time(now))),
            finish_time: phase.is_final().then(|| old.finish_time.clone().unwrap_or(Time(now))),
            last_progress_time: Some(Time(self.progress)),
            counts: Some(counts),
            done: Some(format!("{}/{}", decided(&counts), counts.total)),
            conditions,
        }
    }

    fn verdict(&self, counts: &DatacenterCounts) -> RunVerdict {
        if let Some((reason, message)) = self.invalid {
            return RunVerdict::failed(*reason, message.clone());
        }
        if counts.total == 0 {
            let message = "`spec.selector` matches no datacenter in any registered data plane; see `kubectl medusa \
                           clusters`";
            return RunVerdict::failed(Reason::NoDatacenters, message.to_owned());
        }
        if self.is_planned() {
            return self.plan(counts);
        }
        if counts.pending + counts.running > 0 {
            return self.going(counts);
        }
        self.end(counts)
    }

    /// Whether a dry run has looked at every datacenter: it would start, would have to wait, or is decided. What is not
    /// known yet is looked at again.
    fn is_planned(&self) -> bool {
        let asked_for = self.run.run().is_dry_run() && !self.run.run().is_cancelled();
        let unknown = [Reason::Pending, Reason::Connecting, Reason::AwaitingTurn];
        let is_seen = |entry: &&DatacenterRun| {
            let is_known = entry.reason.is_some() && !unknown.iter().any(|reason| entry.has_reason(*reason));
            entry.phase.is_final() || is_known
        };
        asked_for && self.entries.iter().all(is_seen)
    }

    /// A dry run succeeds when the run would leave out nothing it was asked for by name, and do something.
    fn plan(&self, counts: &DatacenterCounts) -> RunVerdict {
        let phase = match (counts.pending, counts.failed) {
            (0, _) => Phase::Failed,
            (_, 0) => Phase::Succeeded,
            _ => Phase::PartiallyFailed,
        };
        let starting = self.entries.iter().filter(|e| e.has_reason(Reason::DryRun)).count();
        let waiting = usize::try_from(counts.pending).unwrap_or(0).saturating_sub(starting);
        let waiting = if waiting > 0 { format!(", {waiting} would be waited for") } else { String::new() };
        let message = format!(
            "only the plan was asked for: {starting} of {} datacenters would be {}{waiting}{}",
            counts.total,
            self.run.event_text().done,
            self.said(|phase| matches!(phase, Phase::Failed | Phase::Skipped)),
        );
        RunVerdict { phase, complete: Some(phase == Phase::Succeeded), reason: Reason::DryRun, message }
    }

    fn going(&self, counts: &DatacenterCounts) -> RunVerdict {
        let has_started = counts.running > 0 || self.entries.iter().any(|e| e.attempts() > 0);
        let phase = if has_started || counts.succeeded > 0 { Phase::Running } else { Phase::Pending };
        let (reason, stalled) = going(self.entries.iter().copied());
        let message = format!(
            "{} of {} datacenters decided{stalled}{}",
            decided(counts),
            counts.total,
            self.said(|phase| phase == Phase::Pending)
        );
        RunVerdict { phase, complete: None, reason, message }
    }

    fn end(&self, counts: &DatacenterCounts) -> RunVerdict {
        let is_given_up = || self.entries.iter().any(|e| e.has_reason(Reason::FailureBudgetSpent));
        let (phase, reason) = match (counts.succeeded, counts.failed) {
            _ if self.entries.iter().any(|entry| is_cancelled(entry)) => {
                (Phase::Cancelled, Reason::Cancelled)
            }
            (0, _) => (Phase::Failed, Reason::Failed),
            // What the run itself gave up is not left out on purpose.
            (_, 0) if !is_given_up() => (Phase::Succeeded, Reason::Succeeded),
            _ => (Phase::PartiallyFailed, Reason::PartiallyFailed),
        };
        let is_good = phase == Phase::Succeeded;
        let failed = if is_good { String::new() } else { format!(", {} failed", counts.failed) };
        let left_out = if is_good && counts.skipped == 0 {
            String::new()
        } else {
            let said = self.said(|phase| phase != Phase::Succeeded);
            format!(", {} left out{said}", counts.skipped)
        };
        let (done, sum) = (self.run.event_text().done, counts.succeeded);
        let message = format!("{sum} of {} datacenters {done}{failed}{left_out}", counts.total);
        RunVerdict { phase, complete: Some(is_good), reason, message }
    }

    /// What the first few datacenters in a phase that is `wanted` say.
    fn said(&self, wanted: impl Fn(Phase) -> bool) -> String {
        let all = self.entries.iter().filter(|e| wanted(e.phase));
        let told = all.filter_map(|e| e.message.as_ref().map(|m| format!("; {}: {m}", e.place())));
        told.take(QUOTED).collect()
    }
}

impl RunVerdict {
    /// On a run that cannot be done at all.
    fn failed(reason: Reason, message: String) -> Self {
        Self { phase: Phase::Failed, complete: Some(false), reason, message }
    }
}

fn decided(counts: &DatacenterCounts) -> i64 {
    counts.total - counts.pending - counts.running
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{
        api::fleet::{FleetBackupJob, FleetTask},
        control_plane::fanout::tests::{fleet_job, pending},
    };

    fn entry(number: usize, phase: Phase) -> DatacenterRun {
        DatacenterRun {
            phase,
            attempts: i64::from(!matches!(phase, Phase::Pending | Phase::Skipped | Phase::Cancelled)),
            reason: (phase == Phase::Cancelled).then(|| "Cancelled".to_owned()),
            ..pending("eu", &format!("dc{number}"))
        }
    }

    fn because(reason: Reason, entry: DatacenterRun) -> DatacenterRun {
        DatacenterRun { reason: Some(reason.as_str().to_owned()), ..entry }
    }

    fn sum_of<R: Fanned>(run: &R, entries: &[DatacenterRun], invalid: Option<&Invalid>) -> RunStatus {
        let (old, now) = (RunStatus::default(), Timestamp::from_second(1_000_000).unwrap());
        Summary { run, old: &old, entries: entries.iter().collect(), invalid, progress: now, now }.status()
    }

    fn sum(entries: &[DatacenterRun]) -> RunStatus {
        sum_of(&fleet_job("nightly"), entries, None)
    }

    fn sync() -> FleetTask {
        serde_json::from_value(json!({"metadata": {"name": "sync"}, "spec": {"operation": "sync"}})).unwrap()
    }

    /// Status, reason and message of the condition `Complete`.
    fn complete(status: &RunStatus) -> (&str, &str, &str) {
        let complete = &status.conditions[0];
        (&complete.status, &complete.reason, &complete.message)
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
            let entries: Vec<_> = phases.iter().enumerate().map(|(n, phase)| entry(n, *phase)).collect();
            assert_eq!(sum(&entries).phase, Some(phase), "{phases:?}");
        }
    }

    #[test]
    fn what_has_become_of_the_datacenters_is_said_in_the_words_of_the_kind() {
        let entries = [entry(0, Phase::Succeeded), entry(1, Phase::Skipped)];
        assert_eq!(complete(&sum(&entries)).2, "1 of 2 datacenters backed up, 1 left out");
        let failed = DatacenterRun { message: Some("why".to_owned()), ..entry(0, Phase::Failed) };
        let status = sum_of(&sync(), &[failed], None);
        let message = "0 of 1 datacenters synced, 1 failed, 0 left out; eu/ns/dc0: why";
        assert_eq!(complete(&status), ("False", "Failed", message));
    }

    #[test]
    fn a_run_whose_budget_is_spent_did_not_succeed() {
        let entries =
            [entry(0, Phase::Succeeded), because(Reason::FailureBudgetSpent, entry(1, Phase::Skipped))];
        assert_eq!(sum(&entries).phase, Some(Phase::PartiallyFailed));
        assert_eq!(sum_of(&sync(), &entries, None).phase, Some(Phase::PartiallyFailed));
    }

    #[test]
    fn one_that_was_cancelled_while_a_retry_waited_is_cancelled() {
        let entries = [entry(0, Phase::Succeeded), because(Reason::Cancelled, entry(1, Phase::Failed))];
        for status in [sum(&entries), sum_of(&sync(), &entries, None)] {
            assert_eq!((status.phase, complete(&status).1), (Some(Phase::Cancelled), "Cancelled"));
        }
    }

    #[test]
    fn a_place_of_which_only_the_data_plane_is_known_is_spelt_as_everywhere() {
        let entry = DatacenterRun {
            data_plane: "eu".to_owned(),
            phase: Phase::Failed,
            message: Some("why".to_owned()),
            ..DatacenterRun::default()
        };
        let status = sum(&[entry]);
        assert!(complete(&status).2.ends_with("; eu: why"), "{}", complete(&status).2);
    }

    /// The condition of a dry run.
    fn dry(entries: &[DatacenterRun]) -> (Option<Phase>, String, String, String) {
        let mut job: FleetBackupJob = fleet_job("nightly");
        job.spec.run.dry_run = Some(true);
        let status = sum_of(&job, entries, None);
        let (condition, reason, message) = complete(&status);
        (status.phase, condition.to_owned(), reason.to_owned(), message.to_owned())
    }

    #[test]
    fn a_dry_run_is_complete_with_a_plan_that_would_go_as_asked() {
        let planned = because(Reason::DryRun, entry(0, Phase::Pending));
        let (phase, condition, reason, message) = dry(&[planned.clone(), entry(1, Phase::Skipped)]);
        assert_eq!((phase, condition.as_str(), reason.as_str()), (Some(Phase::Succeeded), "True", "DryRun"));
        assert!(message.contains("1 of 2 datacenters would be backed up"), "{message}");
        let (phase, condition, reason, _) = dry(&[entry(0, Phase::Skipped)]);
        assert_eq!((phase, condition.as_str(), reason.as_str()), (Some(Phase::Failed), "False", "DryRun"));
        let (phase, ..) = dry(&[planned.clone(), entry(1, Phase::Failed)]);
        assert_eq!(phase, Some(Phase::PartiallyFailed));
        let (phase, ..) = dry(&[planned, entry(1, Phase::Pending)]);
        assert_eq!(phase, Some(Phase::Pending), "what is not known yet is looked at again");
    }

    #[test]
    fn nothing_selected_is_a_failure_with_a_reason() {
        let status = sum(&[]);
        assert_eq!((status.phase, complete(&status).1), (Some(Phase::Failed), "NoDatacenters"));
        let invalid = (Reason::InvalidSelector, "`x` cannot be read".to_owned());
        let status = sum_of(&fleet_job("nightly"), &[], Some(&invalid));
        assert_eq!(complete(&status), ("False", "InvalidSelector", "`x` cannot be read"));
    }

    proptest! {
        #[test]
        fn the_verdict_does_not_depend_on_the_order(
            phases in proptest::collection::vec(0_usize..6, 1..12), turn in 0_usize..12,
        ) {
            let all = [
                Phase::Pending, Phase::Running, Phase::Succeeded, Phase::Failed, Phase::Skipped, Phase::Cancelled,
            ];
            let list: Vec<DatacenterRun> = phases.iter().enumerate().map(|(n, p)| entry(n, all[*p])).collect();
            let mut turned = list.clone();
            turned.rotate_left(turn % list.len());
            let (a, b) = (sum(&list), sum(&turned));
            prop_assert_eq!((a.phase, a.counts, &a.done), (b.phase, b.counts, &b.done));
            let counts = a.counts.unwrap();
            let each = counts.pending + counts.running + counts.succeeded + counts.failed + counts.skipped;
            prop_assert_eq!(each, counts.total);
        }
    }
}
