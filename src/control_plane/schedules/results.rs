//! How a Delegated schedule goes, from what its MedusaBackupSchedules and what they made say. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::Resource as _;

use super::{
    history::History,
    stale::{DatacenterKey, place_of},
};
use crate::{
    api::{
        Conditions as _, Seen,
        fleet::{DatacenterRun, ScheduledRun},
        medusa::{MedusaTask, ScheduledOperation},
        names,
    },
    control_plane::data_planes::{fleet::Snapshot, view::ObjectKey},
};

/// Longest text of one datacenter, in characters: a data plane may write what it likes, and what it writes stands in a
/// condition with what others say.
const TEXT: usize = 256;
/// Most runs a status names.
const MAX_ACTIVE: usize = 50;

/// What the data planes say, together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results {
    /// The latest slot that ran anywhere.
    pub last: Option<Timestamp>,
    /// The earliest slot that comes.
    pub next: Option<Timestamp>,
    /// Since when every datacenter has a successful run of this schedule: of the end of each datacenter's newest one, the
    /// earliest.
    pub success: Option<Timestamp>,
    /// Datacenters whose last run is known to have gone wrong, with why.
    pub failed: BTreeMap<DatacenterKey, String>,
    /// Datacenters whose schedule says that slots passed without a run, with its words.
    pub missed: BTreeMap<DatacenterKey, String>,
    /// Datacenters whose schedule says that it will not run, with its words.
    pub unready: Vec<String>,
    /// Whether every datacenter's last run ended well.
    pub is_good: bool,
    /// Data planes of which nobody knows what ran there.
    pub stale: BTreeSet<String>,
}

/// Reads `there`, the datacenters that have their MedusaBackupSchedule, at `now`.
#[must_use]
pub fn results(there: &[(DatacenterRun, ObjectKey)], planes: &[Snapshot], now: Timestamp) -> Results {
    let mut found = Results { is_good: !there.is_empty(), ..Results::default() };
    let mut successes: Vec<Option<Timestamp>> = Vec::new();
    for (entry, key) in there {
        let plane = planes.iter().find(|plane| plane.name == entry.data_plane);
        let Some((plane, schedule)) = plane.and_then(|p| Some((p, p.view.schedules.last(key)?))) else {
            continue;
        };
        let status = schedule.status.clone().unwrap_or_default();
        let next = status.next_schedule.as_ref().map(|time| time.0);
        found.next = found.next.into_iter().chain(next).min();
        let says = |type_: &str, status_: &str| {
            let condition = status.conditions.of_type(type_).filter(|c| c.status == status_)?;
            Some(names::shown(&condition.message, TEXT))
        };
        found.missed.extend(says("Missed", "True").map(|words| (place_of(entry), words)));
        let unready = says("Ready", "False").filter(|_| schedule.spec.disabled != Some(true));
        found.unready.extend(unready.map(|words| format!("{}: {words}", entry.place())));
        let Some(history) = History::of(plane, key) else {
            found.stale.insert(entry.data_plane.clone());
            continue;
        };
        let last = history.times().last().copied();
        found.last = found.last.max(last);
        successes.push(history.success(now));
        match history.latest(now) {
            Some((at, Ok(_))) => found.is_good &= last.is_none_or(|last| last <= at),
            Some((_, Err(why))) => _ = found.failed.insert(place_of(entry), names::shown(&why, TEXT)),
            None => found.is_good = false,
        }
    }
    found.is_good &= found.failed.is_empty() && found.stale.is_empty();
    found.success = successes.into_iter().min().flatten().filter(|_| found.stale.is_empty());
    found
}

/// The runs of the MedusaBackupSchedules `ours` that are seen to go on.
#[must_use]
pub fn going(ours: &[(String, ObjectKey)], planes: &[Snapshot]) -> Vec<ScheduledRun> {
    let of = |(name, key): &(String, ObjectKey)| {
        let history = History::of(planes.iter().find(|plane| plane.name == *name)?, key)?;
        Some(history.active(name).collect::<Vec<_>>())
    };
    ours.iter().filter_map(of).flatten().collect()
}

/// What a run in a data plane does.
#[must_use]
pub fn operation(run: &ScheduledRun) -> ScheduledOperation {
    if run.kind == MedusaTask::kind(&()) { ScheduledOperation::Purge } else { ScheduledOperation::Backup }
}

/// Whether a run that a status names goes on in its data plane. `None` while no watch of the data plane can tell. A run in a
/// data plane that is not registered any more counts as ended.
#[must_use]
pub fn goes_on(run: &ScheduledRun, planes: &[Snapshot]) -> Option<bool> {
    let Some(plane) = planes.iter().find(|plane| run.data_plane.as_ref() == Some(&plane.name)) else {
        return Some(false);
    };
    let operation = operation(run);
    // Without a schedule there they are not watched.
    if !plane.view.delegates(operation) {
        return None;
    }
    let key = ObjectKey::new(run.namespace.as_deref().unwrap_or_default(), &run.name);
    match plane.view.scheduled_run(operation, &key) {
        Seen::Known(there) => Some(there.uid == run.uid && there.is_active()),
        Seen::Absent => Some(false),
        Seen::Unknown { .. } => None,
    }
}

/// The runs a status names: those in data planes that it `named` before and that are not known to have `ended`, and then as
/// many of those `found` as there is room for.
#[must_use]
pub fn active(
    mut found: Vec<ScheduledRun>,
    named: &[ScheduledRun],
    ended: &BTreeSet<String>,
) -> Vec<ScheduledRun> {
    let mut all: Vec<ScheduledRun> =
        named.iter().filter(|run| run.data_plane.is_some() && !ended.contains(&run.uid)).cloned().collect();
    sort(&mut all);
    found.retain(|run| !all.contains(run));
    sort(&mut found);
    all.extend(found);
    all.truncate(MAX_ACTIVE);
    sort(&mut all);
    all
}

fn sort(runs: &mut Vec<ScheduledRun>) {
    runs.sort_by(|a, b| (&a.data_plane, &a.namespace, &a.name).cmp(&(&b.data_plane, &b.namespace, &b.name)));
    runs.dedup();
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
    use crate::control_plane::{
        data_planes::view::{Contact, View},
        fanout::tests::{pending, plane},
    };

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
        assert!(!found.is_good && found.failed.contains_key(&place_of(&pending("us", "dc1"))));
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
        unlisted.scheduled_jobs.trust.begin();
        let good = snapshot("eu", &status(2_000, 3_000), &[(2_000, "SUCCESS")]);
        let found = read(&[good, plane("us", unlisted)]);
        assert_eq!((found.success, found.is_good, found.stale.len()), (None, false, 1));
    }

    #[test]
    fn a_run_stays_named_until_a_watch_shows_that_it_ended() {
        let mut going_on = view(&json!({}), &json!({}));
        run(&mut going_on, 1_000, None);
        let planes = [plane("eu", going_on.clone()), plane("us", going_on.clone())];
        let ours: Vec<_> = planes.iter().map(|plane| (plane.name.clone(), key("dc1"))).collect();
        let named = going(&ours, &planes);
        assert_eq!(named.len(), 2);
        assert_eq!(goes_on(&named[1], &planes), Some(true));
        let seen = |change: &dyn Fn(&mut View)| {
            let mut view = going_on.clone();
            change(&mut view);
            goes_on(&named[1], &[planes[0].clone(), plane("us", view)])
        };
        assert_eq!(seen(&|view| run(view, 1_000, Some(true))), Some(false));
        assert_eq!(seen(&|view| view.scheduled_jobs.clear()), Some(false));
        assert_eq!(seen(&|view| view.scheduled_jobs.trust.begin()), None, "not listed yet");
        assert_eq!(seen(&|view| view.contact = Contact::NotTried), None);
        assert_eq!(seen(&|view| view.schedules.clear()), None, "they are not watched");
        let another = ScheduledRun { uid: "another".to_owned(), ..named[1].clone() };
        assert_eq!(goes_on(&another, &planes), Some(false));
        assert_eq!(goes_on(&named[1], &planes[..1]), Some(false), "the data plane is registered no more");
    }

    #[test]
    fn no_run_that_may_go_on_makes_room_for_another() {
        let many = |plane: &str, count: usize| -> Vec<ScheduledRun> {
            let named = |n| ScheduledRun {
                kind: "MedusaBackupJob".to_owned(),
                name: format!("{n:02}"),
                uid: format!("{plane}-{n}"),
                data_plane: Some(plane.to_owned()),
                namespace: Some("ns".to_owned()),
            };
            (0..count).map(named).collect()
        };
        let (silent, found) = (many("us", 20), many("eu", 60));
        let all = active(found.clone(), &silent, &BTreeSet::new());
        assert_eq!((all.len(), &all[30..]), (MAX_ACTIVE, silent.as_slice()));
        assert_eq!(active(found.clone(), &all, &BTreeSet::new()), all, "and stays so");
        let ended = silent.iter().map(|run| run.uid.clone()).collect();
        assert_eq!(active(found.clone(), &all, &ended), found[..MAX_ACTIVE]);
        let own = ScheduledRun { kind: "FleetBackupJob".to_owned(), ..ScheduledRun::default() };
        assert!(active(Vec::new(), &[own], &BTreeSet::new()).is_empty(), "that is none of a data plane's");
    }

    #[test]
    fn what_a_data_plane_missed_is_said_in_its_words() {
        let condition = |type_: &str, status: &str| {
            json!({"type": type_, "status": status, "reason": "X", "message": format!("{type_} it says"),
                   "lastTransitionTime": "2026-03-01T00:00:00Z"})
        };
        let said = json!({"conditions": [condition("Missed", "True"), condition("Ready", "False")]});
        let found = read(&[snapshot("eu", &said, &[])]);
        assert_eq!(found.missed, [(place_of(&pending("eu", "dc1")), "Missed it says".to_owned())].into());
        assert_eq!(found.unready, ["eu/ns/dc1: Ready it says"]);
    }

    #[test]
    fn what_a_data_plane_says_is_escaped_and_takes_no_more_room_than_it_may() {
        let condition = |type_: &str, status: &str| {
            json!({"type": type_, "status": status, "reason": "X", "message": "a\u{1b}[31m\n".repeat(100_000),
                   "lastTransitionTime": "2026-03-01T00:00:00Z"})
        };
        let said = json!({"conditions": [condition("Missed", "True"), condition("Ready", "False")]});
        let found = read(&[snapshot("eu", &said, &[(1_000, &"x\n".repeat(100_000))])]);
        let texts = found.missed.values().chain(found.failed.values()).chain(&found.unready);
        let texts: Vec<&String> = texts.collect();
        assert_eq!(texts.len(), 3);
        assert!(texts.iter().all(|text| text.len() < 300 && !text.contains(char::is_control)), "{texts:?}");
    }

    #[test]
    fn long_lists_are_cut() {
        let places: Vec<String> = (1..=5).map(|n| n.to_string()).collect();
        assert_eq!(first_of(&places), "1; 2; 3; and 2 more");
        assert_eq!(first_of(&places[..2]), "1; 2");
    }
}
