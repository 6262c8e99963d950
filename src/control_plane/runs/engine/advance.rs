//! From what the data planes show to the state of each datacenter in a run. Pure: the order in which news arrive does
//! not matter.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource as _, ResourceExt as _};

use super::{
    FirstSeen, RunInputs,
    adapter::{Adapter, Judged, ObservedChild},
};
use crate::{
    api::{
        Reason, Seen,
        fleet::{DatacenterRun, Phase},
    },
    control_plane::{
        data_planes::{
            fleet::{Snapshot, Usable},
            view::ObjectKey,
        },
        runs::{
            MISSING,
            child::{Child, child_key, is_of, place},
            ending::{cancelled, finish, set, stall, time_out},
            in_flight::Outcomes,
            outcome::Outcome,
            reach::{doubt, reach, wait},
            rollout::{may_retry, retry_pause},
            verdict::Verdict,
        },
    },
};

/// How long a child may be missing from a listing before it counts as deleted: one that was just made can be left
/// out by a listing that began before.
const MISSING_GRACE: SignedDuration = SignedDuration::from_secs(5);

/// Advances every entry by what is seen and by what became of the writes.
#[must_use]
pub fn advance<R: Adapter>(
    inputs: &RunInputs<'_, R>,
    entries: &[R::Entry],
    outcomes: &Outcomes,
    first_seen: &FirstSeen,
) -> Vec<R::Entry> {
    let mut entries = entries.to_vec();
    for entry in entries.iter_mut().filter(|entry| !(*entry).as_ref().phase.is_final()) {
        step(inputs, entry, outcomes, first_seen);
        if (*entry).as_ref().phase.is_final() {
            finish(entry.as_mut(), inputs.now());
        }
    }
    entries
}

/// An entry beside what can be known of it in this pass.
struct Advance<'a, R: Adapter> {
    inputs: &'a RunInputs<'a, R>,
    plane: &'a Snapshot,
    outcomes: &'a Outcomes,
    first_seen: &'a FirstSeen,
}

fn step<R: Adapter>(
    inputs: &RunInputs<'_, R>,
    entry: &mut R::Entry,
    outcomes: &Outcomes,
    first_seen: &FirstSeen,
) {
    let Some(plane) = reach(&inputs.terms, &inputs.planes, entry.as_mut()) else { return };
    if let Some(lack) = R::lacks(plane) {
        // What is not permitted cannot be seen either: a child that was made is not gone.
        let run = entry.as_mut();
        let fails = run.attempts() == 0 && lack.reason != Reason::Connecting;
        let phase = if fails { Phase::Failed } else { run.phase };
        set(run, phase, lack.reason, Some(lack.message));
        if phase == Phase::Running {
            time_out(&inputs.terms, run);
        }
        return;
    }
    let step = Advance { inputs, plane, outcomes, first_seen };
    let run = (*entry).as_ref();
    let is_withdrawn =
        run.phase == Phase::Running && step.outcome_of_attempt(run) == Some(&Outcome::Withdrawn);
    match step.newest_child(run) {
        // The view may show it for a moment longer.
        _ if is_withdrawn => step.missing(entry),
        Seen::Known((attempt, key, child)) => step.seen(entry, attempt, &key, child),
        Seen::Unknown { why, .. } => doubt(&inputs.terms, entry.as_mut(), why),
        Seen::Absent if run.phase == Phase::Running => step.missing(entry),
        Seen::Absent => step.not_made(entry),
    }
    // Whether the child was seen first, or its making known to be over.
    if let Some(Outcome::There(Some(point))) = step.outcome_of_attempt((*entry).as_ref()) {
        R::keeps(entry, point);
    }
    // Also of one that waits for another attempt: it may be decided by the run.
    R::add_up(inputs, entry, plane);
}

impl<'a, R: Adapter> Advance<'a, R> {
    fn child(&self, key: &ObjectKey) -> Seen<&'a R::Child> {
        self.plane.view.seen(R::Child::section(&self.plane.view), key).map(AsRef::as_ref)
    }

    fn outcome(&self, key: &ObjectKey) -> Option<&'a Outcome> {
        self.outcomes.get(&(self.plane.name.clone(), key.clone()))
    }

    /// What became of a write to the child of the attempt that was made last.
    fn outcome_of_attempt(&self, entry: &DatacenterRun) -> Option<&'a Outcome> {
        self.outcome(&child_key(self.inputs.run, entry, entry.attempts()))
    }

    /// The child of the last attempt that has one: an attempt made before a crash may not be in the status yet. Of an
    /// attempt that failed nothing is asked any more.
    fn newest_child(&self, entry: &DatacenterRun) -> Seen<(usize, ObjectKey, &'a R::Child)> {
        let find = |attempt: usize| {
            let key = child_key(self.inputs.run, entry, attempt);
            self.child(&key).map(|child| (attempt, key, child))
        };
        let first =
            if entry.phase == Phase::Pending { entry.attempts() + 1 } else { entry.attempts().max(1) };
        let mut newest = find(first);
        for attempt in first + 1.. {
            match find(attempt) {
                Seen::Absent => break,
                Seen::Known(later) => newest = Seen::Known(later),
                unknown @ Seen::Unknown { .. } => return unknown,
            }
        }
        newest
    }

    /// The child is there.
    fn seen(&self, entry: &mut R::Entry, attempt: usize, key: &ObjectKey, child: &'a R::Child) {
        let (inputs, run) = (self.inputs, entry.as_mut());
        if !is_of(child, inputs.run) {
            conflict::<R::Child>(run, key);
            return;
        }
        made(run, attempt, key, inputs.now());
        let finished_since = finished_since(self.first_seen, self.plane, key, child);
        let found = ObservedChild { plane: self.plane, key, child, finished_since, outcomes: self.outcomes };
        let Judged { verdict, nodes, ended, at_work } = R::judge(inputs, entry, &found);
        let run = entry.as_mut();
        run.nodes = Some(nodes);
        run.start_time = child.started().or(run.start_time.take());
        match verdict {
            Verdict::Running { reason, message } => {
                set(run, Phase::Running, reason, message);
                time_out(&inputs.terms, run);
                if let Some(at_work) = at_work {
                    stall(&inputs.terms, run, &at_work);
                }
            }
            Verdict::Again { reason, message } if inputs.terms.is_cancelled => {
                cancelled(run, &format!("cancelled before another attempt ({reason}): {message}"));
            }
            Verdict::Again { reason, message } => self.again(run, reason, message),
            Verdict::Failed { reason, message } => self.failed(run, reason, message),
            Verdict::Succeeded => {
                set(run, Phase::Succeeded, Reason::Succeeded, None);
                run.finish_time = ended;
            }
        }
    }

    /// An attempt failed. What may go better the next time is tried again while the run allows it.
    fn failed(&self, run: &mut DatacenterRun, reason: Reason, message: String) {
        let (terms, attempts) = (&self.inputs.terms, run.attempts());
        if !R::may_go_better(reason) || terms.is_cancelled || !may_retry(&terms.rollout, attempts) {
            set(run, Phase::Failed, reason, Some(message));
            return;
        }
        let at = terms.now.saturating_add(retry_pause(attempts)).unwrap_or(Timestamp::MAX);
        let message =
            format!("attempt {attempts} failed ({reason}): {message}; the next one follows at {at:.0}");
        self.again(run, Reason::AwaitingRetry, message);
    }

    /// Another attempt follows.
    fn again(&self, run: &mut DatacenterRun, reason: Reason, message: String) {
        set(run, Phase::Pending, reason, Some(message));
        run.finish_time = Some(Time(self.inputs.now()));
        run.created_time = None;
    }

    /// The child was made and is not there.
    fn missing(&self, entry: &mut R::Entry) {
        let inputs = self.inputs;
        let before = (*entry).as_ref();
        let key = child_key(inputs.run, before, before.attempts().max(1));
        let outcome = self.outcome(&key);
        if matches!(outcome, Some(Outcome::There(_))) {
            return; // Just made; the view will show it.
        }
        let done = R::is_done_without(entry, self.plane, &key);
        let run = entry.as_mut();
        let is_withdrawn = outcome == Some(&Outcome::Withdrawn);
        let missing_since = self.first_seen.get(&(self.plane.name.clone(), key.clone()), MISSING);
        let is_gone = is_withdrawn
            || missing_since.is_some_and(|since| inputs.now().duration_since(*since) >= MISSING_GRACE);
        if let Seen::Known(()) = done {
            set(run, Phase::Succeeded, Reason::Succeeded, None);
        } else if is_gone && inputs.terms.is_cancelled {
            cancelled(run, "cancelled before its data plane had begun with it");
        } else if is_withdrawn {
            self.failed(run, Reason::NotStarted, R::why_withdrawn());
        } else if let Seen::Unknown { why, .. } = done {
            doubt(&inputs.terms, run, why);
        } else if is_gone {
            let message = format!("{} {key} was deleted before it was judged", R::Child::kind(&()));
            set(run, Phase::Failed, Reason::JobDeleted, Some(message));
        }
    }

    /// The next attempt has not been made.
    fn not_made(&self, entry: &mut R::Entry) {
        let terms = &self.inputs.terms;
        let run = entry.as_mut();
        let (attempt, is_first) = (run.attempts() + 1, run.attempts() == 0);
        let key = child_key(self.inputs.run, run, attempt);
        let datacenter = self.plane.view.seen(&self.plane.view.datacenters, &place(run));
        // Nothing is tried again for a datacenter that is gone.
        let is_nowhere = datacenter == Seen::Absent;
        match self.outcome(&key) {
            Some(Outcome::There(_)) => {
                made(run, attempt, &key, terms.now);
                set(run, Phase::Running, Reason::JobCreated, None);
            }
            Some(Outcome::Would(point)) => {
                let message = format!("would be {} as {key}", self.inputs.run.event_text().done);
                set(run, Phase::Pending, Reason::DryRun, Some(message));
                if let Some(point) = point {
                    R::keeps(entry, point);
                }
            }
            Some(Outcome::Conflict) => conflict::<R::Child>(run, &key),
            Some(Outcome::Refused(reason, message)) => {
                set(run, Phase::Failed, *reason, Some(message.clone()));
            }
            // The policy for data planes that do not answer is about what they do not tell, too.
            Some(Outcome::NotNow(Reason::RestorePointsUnknown, message)) if !is_nowhere => {
                wait(terms, run, Reason::RestorePointsUnknown, message.clone());
            }
            Some(Outcome::NotNow(reason, message)) if !is_nowhere => {
                set(run, Phase::Pending, *reason, Some(message.clone()));
            }
            Some(Outcome::Withdrawn | Outcome::NotNow(..)) | None => match datacenter {
                Seen::Absent => {
                    let message = format!("CassandraDatacenter {} does not exist any more", place(run));
                    set(run, Phase::Failed, Reason::DatacenterNotFound, Some(message));
                }
                Seen::Unknown { why, .. } => doubt(terms, run, why),
                // What a dry run has found out stays.
                Seen::Known(_) if is_first && !is_for(run, Reason::DryRun) => {
                    set(run, Phase::Pending, Reason::Pending, None);
                }
                Seen::Known(_) => {}
            },
        }
    }
}

/// Since when this very child has been seen finished.
#[must_use]
pub fn finished_since<C: Child>(
    first_seen: &FirstSeen,
    plane: &Snapshot,
    key: &ObjectKey,
    child: &C,
) -> Option<Timestamp> {
    let uid = child.meta().uid.as_deref().unwrap_or_default();
    first_seen.get(&(plane.name.clone(), key.clone()), uid).copied()
}

/// A child was made, now or earlier.
fn made(entry: &mut DatacenterRun, attempt: usize, key: &ObjectKey, now: Timestamp) {
    if entry.attempts() < attempt {
        entry.attempts = i64::try_from(attempt).unwrap_or(i64::MAX);
        entry.created_time = Some(Time(now));
        entry.start_time = None;
        entry.finish_time = None;
    }
    entry.job = Some(key.name.clone());
    entry.attempts = entry.attempts.max(1);
    entry.created_time.get_or_insert(Time(now));
}

fn conflict<C: Child>(entry: &mut DatacenterRun, key: &ObjectKey) {
    let message = format!("{} {key} exists and was not made by this run; it is left alone", C::kind(&()));
    set(entry, Phase::Failed, Reason::NameConflict, Some(message));
}

fn is_for(entry: &DatacenterRun, reason: Reason) -> bool {
    !entry.phase.is_final() && entry.has_reason(reason)
}

/// Why something waits was found out by the plan, which the views know nothing of.
#[must_use]
pub fn waiting_stays<R: Adapter>(before: &[R::Entry], after: Vec<R::Entry>) -> Vec<R::Entry> {
    let keep = |(old, new): (&R::Entry, R::Entry)| {
        let reasons = [Reason::AwaitingTurn, Reason::RestoreInProgress, Reason::PurgeRunning, Reason::DryRun];
        let waits = reasons.into_iter().any(|reason| is_for(old.as_ref(), reason));
        if waits && is_for(new.as_ref(), Reason::Pending) { old.clone() } else { new }
    };
    before.iter().zip(after).map(keep).collect()
}

/// Notes since when children are finished, or missing. One that is being written to is neither.
pub fn note<R: Adapter>(
    inputs: &RunInputs<'_, R>,
    entries: &[R::Entry],
    first_seen: &mut FirstSeen,
    is_under_way: impl Fn(&str, &ObjectKey) -> bool,
) {
    for entry in entries.iter().map(AsRef::as_ref).filter(|e| e.attempts() > 0) {
        let Some(plane) = inputs.planes.get(entry.data_plane.as_str()) else { continue };
        if plane.usable != Usable::Ready {
            continue;
        }
        let key = child_key(inputs.run, entry, entry.attempts());
        let (goes_on, uid) = match plane.view.seen(R::Child::section(&plane.view), &key) {
            Seen::Known(child) => (!child.is_finished(), child.uid().unwrap_or_default()),
            Seen::Absent => (false, MISSING.to_owned()),
            Seen::Unknown { .. } => (true, MISSING.to_owned()),
        };
        // What is awaited of it is awaited from when it can be seen.
        let is_open = goes_on || is_under_way(&plane.name, &key) || R::is_blind(plane, &key);
        let key = (plane.name.clone(), key);
        if is_open || entry.phase != Phase::Running {
            first_seen.forget(&key);
        } else {
            first_seen.entry(key, &uid, || inputs.now());
        }
    }
}

#[cfg(test)]
#[path = "advance_tests.rs"]
mod tests;
