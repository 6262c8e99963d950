//! How a Delegated schedule goes, from what its MedusaBackupSchedules and what they made say. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::history::History;
use crate::{
    api::{
        Conditions as _,
        fleet::{DatacenterRun, ScheduledRun},
    },
    control_plane::{fleet::Snapshot, view::ObjectKey},
};

/// Most runs a status names.
const MAX_ACTIVE: usize = 50;

/// What the data planes say, together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results {
    /// The latest slot that ran anywhere.
    pub last: Option<Timestamp>,
    /// The earliest slot that comes.
    pub next: Option<Timestamp>,
    /// Since when every one of the datacenters has a successful run of this schedule: the end of the oldest of their
    /// newest.
    pub success: Option<Timestamp>,
    /// Datacenters whose last run is known to have gone wrong, with why.
    pub failed: Vec<String>,
    /// Datacenters whose schedule says that slots passed without a run, with its words.
    pub missed: Vec<String>,
    /// Datacenters whose schedule says that it will not run, with its words.
    pub unready: Vec<String>,
    /// Whether every datacenter's last run ended well.
    pub is_good: bool,
    /// Runs that have not ended.
    pub active: Vec<ScheduledRun>,
    /// Data planes of which nobody knows what ran there.
    pub unread: BTreeSet<String>,
}

/// Reads `there`, the datacenters that have their MedusaBackupSchedule, at `now`.
#[must_use]
pub fn results(there: &[(DatacenterRun, ObjectKey)], planes: &[Snapshot], now: Timestamp) -> Results {
    let mut found = Results { is_good: !there.is_empty(), ..Results::default() };
    let mut successes: Vec<Option<Timestamp>> = Vec::new();
    for (entry, key) in there {
        let plane = planes.iter().find(|plane| plane.name == entry.data_plane);
        let Some((plane, schedule)) = plane.and_then(|p| Some((p, p.view.schedules.items.get(key)?))) else {
            continue;
        };
        let place = place(entry);
        let status = schedule.status.clone().unwrap_or_default();
        let next = status.next_schedule.as_ref().map(|time| time.0);
        found.next = found.next.into_iter().chain(next).min();
        let say = |type_: &str, status_: &str| {
            let condition = status.conditions.of_type(type_).filter(|c| c.status == status_)?;
            Some(format!("{place}: {}", condition.message))
        };
        found.missed.extend(say("Missed", "True"));
        found.unready.extend(say("Ready", "False").filter(|_| schedule.spec.disabled != Some(true)));
        let Some(history) = History::of(plane, key) else {
            found.unread.insert(entry.data_plane.clone());
            continue;
        };
        let last = history.times().last().copied();
        found.last = found.last.max(last);
        found.active.extend(history.active(&entry.data_plane));
        successes.push(history.success(now));
        match history.latest(now) {
            Some((at, Ok(_))) => found.is_good &= last.is_none_or(|last| last <= at),
            Some((_, Err(why))) => found.failed.push(format!("{place}: {why}")),
            None => found.is_good = false,
        }
    }
    found.is_good &= found.failed.is_empty() && found.unread.is_empty();
    found.success = successes.into_iter().min().flatten().filter(|_| found.unread.is_empty());
    found
}

/// The runs a status names: those that are `found`, and of those it `named` the ones in data planes that cannot be
/// asked now. Nobody knows whether these have ended.
#[must_use]
pub fn active(
    found: Vec<ScheduledRun>,
    named: &[ScheduledRun],
    is_silent: impl Fn(&str) -> bool,
) -> Vec<ScheduledRun> {
    let kept = named.iter().filter(|run| run.data_plane.as_deref().is_some_and(&is_silent)).cloned();
    let mut all: Vec<ScheduledRun> = found.into_iter().chain(kept).collect();
    all.sort_by(|a, b| (&a.data_plane, &a.namespace, &a.name).cmp(&(&b.data_plane, &b.namespace, &b.name)));
    all.dedup();
    all.truncate(MAX_ACTIVE);
    all
}

/// A datacenter, for people.
#[must_use]
pub fn place(entry: &DatacenterRun) -> String {
    format!("{}/{}/{}", entry.data_plane, entry.namespace, entry.datacenter)
}

/// How many places a message names.
pub const SHOWN: usize = 3;

/// The first of `places`, and how many more there are.
#[must_use]
pub fn first_of(places: &[String]) -> String {
    let shown = places.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    match places.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::history::tests::{at, back_up, key, run, view},
        *,
    };
    use crate::control_plane::fanout::tests::{pending, plane};

    /// A data plane with `dc1`, its schedule and backups of these slots.
    fn snapshot(name: &str, status: &Value, backups: &[(i64, &str)]) -> Snapshot {
        let mut view = view(&json!({}), status);
        for (slot, word) in backups {
            back_up(&mut view, *slot, word);
        }
        plane(name, view)
    }

    fn status(last: i64, next: i64) -> Value {
        json!({"lastExecution": at(last).to_string(), "nextSchedule": at(next).to_string()})
    }

    fn read(planes: &[Snapshot]) -> Results {
        let there: Vec<_> = planes.iter().map(|p| (pending(&p.name, "dc1"), key("dc1"))).collect();
        results(&there, planes, at(9_999))
    }

    #[test]
    fn the_last_success_is_that_of_the_datacenter_that_is_furthest_behind() {
        let planes = [
            snapshot("eu", &status(2_000, 3_000), &[(1_000, "SUCCESS"), (2_000, "SUCCESS")]),
            snapshot("us", &status(2_000, 2_900), &[(1_000, "SUCCESS"), (2_000, "FAILED")]),
        ];
        let found = read(&planes);
        assert_eq!(
            (found.last, found.next, found.success),
            (Some(at(2_000)), Some(at(2_900)), Some(at(1_010)))
        );
        assert_eq!(found.failed.len(), 1);
        assert!(!found.is_good && found.failed[0].starts_with("us/ns/dc1"));
        assert!(read(&planes[..1]).is_good);
        let never = [planes[0].clone(), snapshot("us", &json!({}), &[])];
        assert_eq!(read(&never).success, None, "one has no backup at all");
        let going = [snapshot("eu", &status(2_000, 3_000), &[(1_000, "SUCCESS")])];
        assert!(
            !read(&going).is_good && read(&going).failed.is_empty(),
            "the last one may still be going on"
        );
    }

    #[test]
    fn nothing_is_said_of_all_while_one_is_not_known() {
        let mut unlisted = view(&json!({}), &json!({}));
        unlisted.scheduled_jobs.synced = false;
        let good = snapshot("eu", &status(2_000, 3_000), &[(2_000, "SUCCESS")]);
        let found = read(&[good, plane("us", unlisted)]);
        assert_eq!((found.success, found.is_good, found.unread.len()), (None, false, 1));
    }

    #[test]
    fn a_run_stays_named_while_its_data_plane_cannot_be_asked() {
        let mut going = view(&json!({}), &json!({}));
        run(&mut going, 1_000, None);
        let named = read(&[plane("eu", going.clone()), plane("us", going)]).active;
        let still = |silent: &'static str| active(named[..1].to_vec(), &named, move |plane| plane == silent);
        assert_eq!(still("us"), named);
        assert_eq!(still("eu"), named[..1]);
        let many = active(Vec::new(), &vec![named[0].clone(); 3], |_| true);
        assert_eq!(many.len(), 1);
        let own = ScheduledRun { kind: "FleetBackupJob".to_owned(), ..ScheduledRun::default() };
        assert!(active(Vec::new(), &[own], |_| true).is_empty(), "that is none of a data plane's");
    }

    #[test]
    fn what_a_data_plane_missed_is_said_in_its_words() {
        let condition = |type_: &str, status: &str| {
            json!({"type": type_, "status": status, "reason": "X", "message": format!("{type_} it says"),
                   "lastTransitionTime": "2026-03-01T00:00:00Z"})
        };
        let said = json!({"conditions": [condition("Missed", "True"), condition("Ready", "False")]});
        let found = read(&[snapshot("eu", &said, &[])]);
        assert_eq!(found.missed, ["eu/ns/dc1: Missed it says"]);
        assert_eq!(found.unready, ["eu/ns/dc1: Ready it says"]);
    }

    #[test]
    fn long_lists_are_cut() {
        let places: Vec<String> = (1..=5).map(|n| n.to_string()).collect();
        assert_eq!(first_of(&places), "1; 2; 3; and 2 more");
        assert_eq!(first_of(&places[..2]), "1; 2");
    }
}
