//! Slots of a Delegated schedule that passed without a run. Pure.
//!
//! Each datacenter has slots of its own: those of its MedusaBackupSchedule, since that is as it is now. A slot is
//! *settled* once nothing can run it any more: its data plane has gone on to the next, or the next has come, of which
//! only the latest runs. A settled slot is *missed* when no run belongs to it, and that means something: what history
//! limits, purges or people may have removed is not missed, and neither is what a silent data plane has.
//!
//! Every settled slot is counted once. The status remembers for each data plane the latest that was, and is written in
//! one piece with the count.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{
    delegate::since,
    history::History,
    stale::{DatacenterKey, Stale, place_of},
};
use crate::{
    api::{
        cron::{CronExpr, MANY, Missed},
        fleet::DatacenterRun,
    },
    control_plane::data_planes::{fleet::Snapshot, view::ObjectKey},
};

/// How long after a slot nothing is concluded, and after an edit nothing expected: the clocks differ, and what has run
/// comes by another watch.
pub const GRACE: SignedDuration = SignedDuration::from_mins(5);
/// Slots lie on whole seconds.
const SECOND: SignedDuration = SignedDuration::from_secs(1);
/// What is older is not counted any more, so that data planes that are gone need not be remembered.
const OLDEST: SignedDuration = SignedDuration::from_hours(400 * 24);

/// What a look has found of one datacenter's slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// No slot is settled that was not before.
    Nothing,
    /// Some are, and no miss is known.
    Ran,
    /// Some are, and some were missed.
    Missed {
        slots: Missed,
        /// Whether others of them ran.
        ran: bool,
    },
}

/// What has been counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// What is found of each datacenter whose slots can be counted.
    pub settled: BTreeMap<DatacenterKey, Settled>,
    /// Up to which slot each data plane is counted now.
    pub until: BTreeMap<String, Timestamp>,
}

impl Tally {
    /// How many slots are newly known to be missed.
    #[must_use]
    pub fn missed(&self) -> usize {
        let missed = |settled: &Settled| match settled {
            Settled::Missed { slots, .. } => slots.count,
            Settled::Nothing | Settled::Ran => 0,
        };
        self.settled.values().map(missed).sum()
    }

    /// Whether slots were settled that were not before.
    #[must_use]
    pub fn is_news(&self) -> bool {
        self.settled.values().any(|settled| *settled != Settled::Nothing)
    }
}

/// Counts on from where each data plane was `counted` up to. `there` are the datacenters that have their
/// MedusaBackupSchedule. Data planes that are `stale` are left as they are.
#[must_use]
pub fn tally(
    counted: impl IntoIterator<Item = (String, Timestamp)>,
    there: &[(DatacenterRun, ObjectKey)],
    stale: &Stale,
    planes: &[Snapshot],
    now: Timestamp,
) -> Tally {
    let oldest = now.checked_sub(OLDEST).unwrap_or(Timestamp::MIN);
    let until = counted.into_iter().filter(|(_, until)| *until > oldest).collect();
    let mut tally = Tally { until, ..Tally::default() };
    for plane in planes.iter().filter(|plane| !stale.has_plane(&plane.name)) {
        let own = courses(there, plane);
        let Some(until) = own.iter().map(|(_, course)| course.settled_until(now)).min() else { continue };
        let before = tally.until.get(&plane.name).copied();
        let mut latest = before;
        for (place, course) in own {
            let from = course.from().max(oldest).max(before.unwrap_or(Timestamp::MIN));
            let newly = course.latest(from, until);
            let settled = match (newly, course.missed(from, until)) {
                (_, Some(slots)) => Settled::Missed { slots, ran: course.has_run(from, until) },
                (Some(_), None) => Settled::Ran,
                (None, None) => Settled::Nothing,
            };
            latest = latest.max(newly);
            tally.settled.insert(place, settled);
        }
        tally.until.extend(latest.map(|latest| (plane.name.clone(), latest)));
    }
    tally
}

/// The datacenters in `plane` whose slots can be counted.
fn courses<'a>(
    there: &[(DatacenterRun, ObjectKey)],
    plane: &'a Snapshot,
) -> Vec<(DatacenterKey, Course<'a>)> {
    let own = there.iter().filter(|(entry, _)| entry.data_plane == plane.name);
    own.filter_map(|(entry, key)| Some((place_of(entry), Course::of(History::of(plane, key)?)?))).collect()
}

/// One datacenter's slots and runs.
struct Course<'a> {
    history: History<'a>,
    cron: CronExpr,
    since: Timestamp,
    /// Times something ran at, from `since` on.
    times: Vec<Timestamp>,
    /// Before this, that no run is there says nothing.
    floor: Option<Timestamp>,
}

impl<'a> Course<'a> {
    /// Of a MedusaBackupSchedule that is not disabled, cannot be misread, and says since when it is as it is.
    fn of(history: History<'a>) -> Option<Self> {
        let spec = &history.schedule.spec;
        if spec.disabled == Some(true) {
            return None;
        }
        let cron = CronExpr::parse(&spec.cron_schedule, spec.time_zone.as_deref()).ok()?;
        let since = since(history.schedule)?;
        let times = history.times().into_iter().filter(|at| *at > since).collect();
        let floor = floor(&history);
        Some(Self { history, cron, since, times, floor })
    }

    /// The moment its slots count from.
    fn from(&self) -> Timestamp {
        self.since.checked_add(GRACE).unwrap_or(Timestamp::MAX)
    }

    /// The first slot after `after`, as the latest run at or before `anchor` has it.
    fn next(&self, anchor: Timestamp, after: Timestamp) -> Option<Timestamp> {
        let anchor = self.times.iter().rev().find(|at| **at <= anchor).copied().unwrap_or(self.since);
        self.cron.next_after(anchor, after.max(anchor))
    }

    /// Until when, inclusive, every slot is settled at `now`.
    fn settled_until(&self, now: Timestamp) -> Timestamp {
        let horizon = now.checked_sub(GRACE).unwrap_or(Timestamp::MIN);
        let anchor = self.times.iter().rev().find(|at| **at <= horizon).copied().unwrap_or(self.since);
        let last = self.next(anchor, anchor).and_then(|first| self.cron.latest(first, horizon));
        // Every slot up to a run is settled by it.
        let Some(last) = last.filter(|_| self.times.iter().all(|at| *at <= horizon)) else { return horizon };
        let status = self.history.schedule.status.as_ref();
        let goes_on_to = status.and_then(|status| status.next_schedule.as_ref()).map(|time| time.0);
        // A slot far ahead is one of an expression that is none any more.
        let next = self.next(anchor, now).unwrap_or(Timestamp::MAX);
        let is_over = goes_on_to.is_some_and(|next_there| next_there > last && next_there <= next);
        if is_over { horizon } else { last.checked_sub(SECOND).unwrap_or(last) }
    }

    /// Slots after `from` up to `until` that are missed.
    fn missed(&self, from: Timestamp, until: Timestamp) -> Option<Missed> {
        let mut missed: Option<Missed> = None;
        let mut count = |slot: Timestamp| {
            let missed = missed.get_or_insert(Missed { count: 0, first: slot });
            missed.count += 1;
            missed.count < MANY
        };
        let mut before = self.since;
        for at in &self.times {
            // Of the slots since the run before, the latest is this one's.
            let own = || self.cron.latest(self.next(before, before)?, *at);
            if *at > from
                && let (Some(floor), Some(own)) = (self.floor, own())
            {
                let end = own.checked_sub(SECOND).unwrap_or(own).min(until);
                if !self.slots(before, from.max(floor), end).all(&mut count) {
                    return missed;
                }
            }
            before = *at;
        }
        // Nothing has run since, or the status would say so.
        self.slots(before, from, until).all(&mut count);
        missed
    }

    /// Whether anything ran after `from` up to `until`.
    fn has_run(&self, from: Timestamp, until: Timestamp) -> bool {
        self.times.iter().any(|at| *at > from && *at <= until)
    }

    /// Slots after `from` up to `until`, as the run at `anchor` has them.
    fn slots(&self, anchor: Timestamp, from: Timestamp, until: Timestamp) -> impl Iterator<Item = Timestamp> {
        std::iter::successors(self.next(anchor, from), move |slot| self.next(anchor, *slot))
            .take_while(move |slot| *slot <= until)
    }

    /// The latest slot after `from` up to `until`, or the latest run there.
    fn latest(&self, from: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let slot = self.next(until, from).and_then(|first| self.cron.latest(first, until));
        let run = self.times.iter().rev().find(|at| **at <= until).copied();
        slot.max(run).filter(|latest| *latest > from)
    }
}

/// Until when it says nothing that no run is there: the oldest runs may have been removed, by a sync after a purge, by
/// people, or by a history limit that is reached.
fn floor(history: &History<'_>) -> Option<Timestamp> {
    let spec = &history.schedule.spec;
    let limit = |limit: Option<i64>| limit.map(|limit| usize::try_from(limit).unwrap_or(0));
    let mut floor = history.runs.keys().next().copied()?;
    for (is_good, limit) in
        [(true, limit(spec.successful_jobs_history_limit)), (false, limit(spec.failed_jobs_history_limit))]
    {
        let ended = history
            .runs
            .iter()
            .filter(|(_, (_, run))| run.finish_time.is_some() && run.failure.is_none() == is_good);
        let ended: Vec<Timestamp> = ended.map(|(at, _)| *at).collect();
        // With so many there, the oldest of those that are kept; with none kept, nothing.
        if let Some(oldest) = limit.and_then(|limit| ended.len().checked_sub(limit)) {
            floor = floor.max(ended.get(oldest).copied()?);
        }
    }
    Some(floor)
}

#[cfg(test)]
#[path = "missed_tests.rs"]
mod tests;
