//! What a Coordinated schedule has to do now. Pure.
//!
//! A slot is written down in the schedule's status after its run is made and before that run may start (ADR 13):
//!
//! ```text
//! make the run, held ──> write lastScheduleTime and the run's uid, on the version decided on ──> let the run go
//! ```
//!
//! The write in the middle decides. Whatever happens before it is found again and taken over; whatever is made for a
//! slot after it is written down carries another uid, and never starts.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{recipe::Recipe, runs::Run};
use crate::api::{
    cron::{self, Due, Missed, Past},
    fleet::{ConcurrencyPolicy, FleetBackupSchedule, ScheduledRun},
};

/// What there is to do, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tick {
    /// Held runs of a slot that is written down for another run, or for none: to be deleted.
    pub discard: Vec<Run>,
    /// Held runs whose slot is written down for them: to be let go.
    pub release: Vec<Run>,
    /// Held runs whose slot is not written down: to be written down before anything else is looked at.
    pub adopt: Vec<Run>,
    /// Slots before those that have not run.
    pub skipped: Option<Missed>,
    /// Runs that have not ended.
    pub active: Vec<ScheduledRun>,
    /// The latest slot that ran.
    pub last: Option<Timestamp>,
    /// What the clock asks for.
    pub next: Next,
}

/// What the clock asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing before this; nothing ever when there is none.
    Later {
        /// The next slot.
        next: Option<Timestamp>,
        /// Slots that are too late to run now.
        missed: Option<Missed>,
    },
    /// A slot has come, and runs that have not ended are in its way.
    Busy {
        /// The earliest slot that has not run.
        since: Timestamp,
        /// Until when the latest may run.
        until: Option<Timestamp>,
    },
    /// A slot has to run.
    Start {
        /// The slot.
        slot: Timestamp,
        /// The earliest slot that has not run.
        since: Timestamp,
        /// Slots before it that have not run.
        missed: Option<Missed>,
        /// The slot after now.
        next: Option<Timestamp>,
        /// Runs to cancel first.
        cancel: Vec<ScheduledRun>,
    },
}

impl Default for Next {
    fn default() -> Self {
        Self::Later { next: None, missed: None }
    }
}

/// What is to be done at `now`. `runs` are all runs of the schedule that are known; `gone` the uids of those in its
/// status that certainly exist no more. A run in the status that is neither counts as going on.
#[must_use]
pub fn tick(
    schedule: &FleetBackupSchedule,
    recipe: &Recipe,
    runs: &[Run],
    gone: &BTreeSet<String>,
    now: Timestamp,
) -> Tick {
    let status = schedule.status.clone().unwrap_or_default();
    let written = status.last_schedule_time.as_ref().map(|time| time.0);
    let created = schedule.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let is_named = |run: &Run| status.active.iter().any(|active| active.uid == run.uid);
    let mut tick = Tick { last: written, ..Tick::default() };
    for run in runs.iter().filter(|run| run.is_held()) {
        if is_named(run) {
            tick.release.push(run.clone());
        } else if run.slot.is_none_or(|slot| written.is_some_and(|last| slot <= last)) {
            tick.discard.push(run.clone());
        } else {
            tick.adopt.push(run.clone());
            tick.last = tick.last.max(run.slot);
        }
    }
    let is_over =
        |uid: &String| gone.contains(uid) || runs.iter().any(|run| run.uid == *uid && !run.is_active());
    tick.active = status.active.iter().filter(|active| !is_over(&active.uid)).cloned().collect();
    for run in runs.iter().filter(|run| run.is_active() && !is_named(run)) {
        if !tick.discard.contains(run) {
            tick.active.push(run.named());
        }
    }
    tick.active.sort_by(|a, b| (&a.name, &a.uid).cmp(&(&b.name, &b.uid)));
    if let Some(first) = tick.adopt.iter().filter_map(|run| run.slot).min() {
        let awaited = status.next_schedule_time.as_ref().map(|time| time.0).filter(|next| *next < first);
        let earliest = awaited.and_then(|next| recipe.cron.slots_from(next).next());
        let count = earliest.map_or(0, |earliest| recipe.cron.count(earliest, first, cron::MANY));
        tick.skipped = earliest.filter(|_| count > 0).map(|first| Missed { count, first });
        let next = tick.last.and_then(|last| recipe.cron.next_after(last, last));
        tick.next = Next::Later { next, missed: None };
        return tick;
    }
    // A run that was let go has its slot written down; only the status itself may have been emptied by somebody.
    let ran =
        runs.iter().filter(|run| !run.is_held()).filter_map(|run| run.slot).filter(|slot| *slot > created);
    tick.last = tick.last.max(ran.max());
    let past = Past {
        created,
        is_unchanged: schedule.metadata.generation.is_none_or(|generation| generation <= 1),
        next: status.next_schedule_time.as_ref().map(|time| time.0),
        last: tick.last,
    };
    tick.next = match cron::due(&recipe.cron, recipe.deadline, &past, now) {
        Due::Later { next, missed } => Next::Later { next, missed },
        Due::Now { since, slot, missed, next, until } => match schedule.spec.concurrency_policy {
            ConcurrencyPolicy::Forbid if !tick.active.is_empty() => Next::Busy { since, until },
            ConcurrencyPolicy::Replace => {
                // What runs in a data plane by itself is not ours to cancel.
                let cancel = tick.active.iter().filter(|run| run.data_plane.is_none()).cloned().collect();
                Next::Start { slot, since, missed, next, cancel }
            }
            ConcurrencyPolicy::Forbid | ConcurrencyPolicy::Allow => {
                Next::Start { slot, since, missed, next, cancel: Vec::new() }
            }
        },
    };
    tick
}

#[cfg(test)]
#[path = "tick_tests.rs"]
mod tests;
