//! What a Delegated schedule's status remembers of each data plane, and the messages that are made of it. Messages are
//! never read (ADR 26). Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    missed::{Settled, Tally},
    results::{Results, first_of},
    stale::{DatacenterKey, Stale},
};
use crate::{
    api::{
        cron::Missed,
        fleet::{FleetBackupScheduleStatus, MissedSlots, ScheduledDataPlane, ScheduledDatacenter, place},
    },
    control_plane::data_planes::{fleet::Snapshot, view::ObjectKey},
};

/// Datacenters of which a status says why they are named.
const TOLD: usize = 100;
/// Most datacenters that a status names.
const NAMED: usize = 5_000;
/// Stands for a text for which there is no room.
const NOT_TOLD: &str = "not told here: too many datacenters are in the same state";

/// What `status` remembers, also where an earlier version wrote it.
#[must_use]
pub fn remembered(status: &FleetBackupScheduleStatus) -> Vec<ScheduledDataPlane> {
    let mut planes = status.data_planes.clone();
    for old in &status.counted {
        if !planes.iter().any(|plane| plane.name == old.data_plane) {
            planes.push(ScheduledDataPlane {
                name: old.data_plane.clone(),
                counted_until: Some(old.until.clone()),
                ..ScheduledDataPlane::default()
            });
        }
    }
    planes.sort_by(|a, b| a.name.cmp(&b.name));
    planes
}

/// The same without what is known of datacenters: while the control plane makes the runs itself, nobody updates that.
#[must_use]
pub fn only_counted(status: &FleetBackupScheduleStatus) -> Vec<ScheduledDataPlane> {
    let counted = |plane: ScheduledDataPlane| ScheduledDataPlane { datacenters: Vec::new(), ..plane };
    remembered(status).into_iter().map(counted).collect()
}

/// `remembered` with the uids of the data planes that are there now, and without what is known of another data plane that had
/// the name of one of them.
#[must_use]
pub fn of_now(mut remembered: Vec<ScheduledDataPlane>, planes: &[Snapshot]) -> Vec<ScheduledDataPlane> {
    remembered.retain_mut(|entry| {
        let Some(plane) = planes.iter().find(|plane| plane.name == entry.name) else { return true };
        let is_it = entry.uid.as_ref().is_none_or(|uid| *uid == plane.uid);
        entry.uid = Some(plane.uid.clone());
        is_it
    });
    remembered
}

/// Up to which slot each data plane is counted.
pub fn counted(planes: &[ScheduledDataPlane]) -> impl Iterator<Item = (String, Timestamp)> {
    planes.iter().filter_map(|plane| Some((plane.name.clone(), plane.counted_until.as_ref()?.0)))
}

/// `old` after a look: what was `found` and counted of the datacenters that are `there`, and what was known before of
/// those that are `stale`. Nothing is known of the others any more, but for how far their slots are counted.
#[must_use]
pub fn advance(
    old: &[ScheduledDataPlane],
    there: &BTreeSet<DatacenterKey>,
    found: &Results,
    tally: &Tally,
    stale: &Stale,
) -> Vec<ScheduledDataPlane> {
    let known: BTreeMap<DatacenterKey, &ScheduledDatacenter> = all(old).collect();
    let news = found.missed.keys().chain(found.failed.keys()).chain(tally.settled.keys());
    let mut planes: BTreeMap<&str, ScheduledDataPlane> = BTreeMap::new();
    for at in known.keys().chain(news).collect::<BTreeSet<_>>() {
        let is_unread = stale.has(at);
        if !is_unread && !there.contains(at) {
            continue;
        }
        let before = known.get(at).map(|known| (*known).clone()).unwrap_or_default();
        let stands = |text: Option<String>| text.filter(|_| is_unread);
        let says = found.missed.get(at).cloned();
        let says = if there.contains(at) { says } else { stands(before.missed_message()) };
        let datacenter = ScheduledDatacenter {
            namespace: at.1.namespace.clone(),
            name: at.1.name.clone(),
            missed: missed(before.missed.as_ref(), says, tally.settled.get(at), is_unread),
            failed: found.failed.get(at).cloned().or_else(|| stands(before.failed.clone())),
        };
        if datacenter.missed.is_some() || datacenter.failed.is_some() {
            planes.entry(&at.0).or_default().datacenters.push(datacenter);
        }
    }
    for (name, until) in &tally.until {
        planes.entry(name).or_default().counted_until = Some(Time(*until));
    }
    let uid = |name: &str| old.iter().find(|plane| plane.name == name)?.uid.clone();
    let named = |(name, plane)| ScheduledDataPlane { name: String::from(name), uid: uid(name), ..plane };
    planes.into_iter().map(named).collect()
}

/// What is missed in one datacenter, of what was `before`, what its schedule `says` and what was counted of it.
fn missed(
    before: Option<&MissedSlots>,
    says: Option<String>,
    settled: Option<&Settled>,
    is_unread: bool,
) -> Option<MissedSlots> {
    let (count, first) = before.map(|before| (before.count, before.first.clone())).unwrap_or_default();
    let (count, first) = match settled {
        Some(Settled::Missed { slots, ran }) => {
            let (count, first) = if *ran { (0, None) } else { (count, first) };
            let more = i64::try_from(slots.count).unwrap_or(i64::MAX);
            (count.saturating_add(more), first.or(Some(Time(slots.first))))
        }
        Some(Settled::Nothing) => (count, first),
        None if is_unread => (count, first),
        Some(Settled::Ran) | None => (0, None),
    };
    (count > 0 || says.is_some()).then_some(MissedSlots { count, first, message: says })
}

/// Whether no slot is missed any more: some were settled, none is known to be missed, and every data plane that was
/// counted has been read.
#[must_use]
pub fn is_over(planes: &[ScheduledDataPlane], tally: &Tally, stale: &Stale) -> bool {
    let holds_up = |plane: &ScheduledDataPlane| {
        plane.datacenters.iter().any(|datacenter| datacenter.missed.is_some())
            || (plane.counted_until.is_some() && stale.has_plane(&plane.name))
    };
    tally.is_news() && !planes.iter().any(holds_up)
}

/// What is to be said of missed slots; nothing when none is.
#[must_use]
pub fn missed_message(planes: &[ScheduledDataPlane]) -> Option<String> {
    message(planes, ScheduledDatacenter::missed_text)
}

/// What is to be said of runs that went wrong; nothing when none did.
#[must_use]
pub fn failed_message(planes: &[ScheduledDataPlane]) -> Option<String> {
    message(planes, |datacenter| datacenter.failed.clone())
}

fn message(
    planes: &[ScheduledDataPlane],
    text: impl Fn(&ScheduledDatacenter) -> Option<String>,
) -> Option<String> {
    let parts: Vec<String> = all(planes)
        .filter_map(|((plane, key), datacenter)| {
            Some(format!("{}: {}", place([&plane, &key.namespace, &key.name]), text(datacenter)?))
        })
        .collect();
    (!parts.is_empty()).then(|| first_of(&parts))
}

/// Whether `new` knows of missed slots that `old` did not: more of them, or other words. That some are over is no news.
#[must_use]
pub fn has_more_missed(old: &[ScheduledDataPlane], new: &[ScheduledDataPlane]) -> bool {
    is_news(old, new, |datacenter, before| {
        let (now, then) = (datacenter.missed.as_ref(), before.and_then(|before| before.missed.as_ref()));
        let counted = |missed: Option<&MissedSlots>| missed.map_or(0, |missed| missed.count);
        match datacenter.missed_message() {
            // What it says of its slots is told, and not once more when we have counted them.
            Some(says) => {
                is_other_text(&says, before.and_then(ScheduledDatacenter::missed_message).as_deref())
            }
            None => counted(now) > counted(then),
        }
    })
}

/// Whether `new` knows of runs that went wrong and that `old` did not. That one is among them no more is no news.
#[must_use]
pub fn has_more_failed(old: &[ScheduledDataPlane], new: &[ScheduledDataPlane]) -> bool {
    is_news(old, new, |datacenter, before| {
        let known = before.and_then(|before| before.failed.as_deref());
        datacenter.failed.as_ref().is_some_and(|failed| is_other_text(failed, known))
    })
}

/// Whether a text says something else than the one before it. That there is room for a text now, or no longer, is no
/// news.
fn is_other_text(new: &str, before: Option<&str>) -> bool {
    before.is_none_or(|before| before != new && before != NOT_TOLD && new != NOT_TOLD)
}

fn is_news(
    old: &[ScheduledDataPlane],
    new: &[ScheduledDataPlane],
    differs: impl Fn(&ScheduledDatacenter, Option<&ScheduledDatacenter>) -> bool,
) -> bool {
    let known: BTreeMap<DatacenterKey, &ScheduledDatacenter> = all(old).collect();
    all(new).any(|(at, datacenter)| differs(datacenter, known.get(&at).copied()))
}

/// `planes` as a status has room for them: the first datacenter of every data plane before the second of any, so that one
/// of which much is wrong leaves room for the others.
#[must_use]
pub fn fit(mut planes: Vec<ScheduledDataPlane>) -> Vec<ScheduledDataPlane> {
    let mut turns: Vec<(usize, usize)> = (0..)
        .zip(&planes)
        .flat_map(|(plane, entry)| (0..entry.datacenters.len()).map(move |turn| (turn, plane)))
        .collect();
    turns.sort_unstable();
    let told: BTreeSet<(usize, usize)> = turns.iter().take(TOLD).copied().collect();
    let named: BTreeSet<(usize, usize)> = turns.into_iter().take(NAMED).collect();
    for (plane, entry) in (0..).zip(&mut planes) {
        let mut turn = 0..;
        entry.datacenters.retain(|_| turn.next().is_some_and(|turn| named.contains(&(turn, plane))));
        for (turn, datacenter) in (0..).zip(&mut entry.datacenters) {
            let says = datacenter.missed.as_mut().and_then(|missed| missed.message.as_mut());
            let texts = says.into_iter().chain(&mut datacenter.failed);
            texts.filter(|_| !told.contains(&(turn, plane))).for_each(|text| NOT_TOLD.clone_into(text));
        }
    }
    planes
}

fn all(planes: &[ScheduledDataPlane]) -> impl Iterator<Item = (DatacenterKey, &ScheduledDatacenter)> {
    planes.iter().flat_map(|plane| {
        plane.datacenters.iter().map(|datacenter| {
            ((plane.name.clone(), ObjectKey::new(&datacenter.namespace, &datacenter.name)), datacenter)
        })
    })
}

impl ScheduledDatacenter {
    fn missed_message(&self) -> Option<String> {
        self.missed.as_ref()?.message.clone()
    }

    /// What its schedule says of missed slots, or what we have counted.
    fn missed_text(&self) -> Option<String> {
        let missed = self.missed.as_ref()?;
        let counted = || {
            let count = usize::try_from(missed.count).unwrap_or_default();
            missed.first.as_ref().map(|first| Missed { count, first: first.0 }.to_string())
        };
        missed.message.clone().or_else(counted)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::history::tests::at, *};
    use crate::control_plane::{
        fanout::tests::{pending, plane, silent},
        schedules::{
            stale::place_of,
            summarize::{self, MISSED, SUCCEEDED, ScheduleReport, SlotOutcome},
        },
    };

    fn dc1(plane: &str) -> DatacenterKey {
        place_of(&pending(plane, "dc1"))
    }

    fn there(planes: &[&str]) -> BTreeSet<DatacenterKey> {
        planes.iter().map(|plane| dc1(plane)).collect()
    }

    fn words<'a>(said: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeMap<DatacenterKey, String> {
        said.into_iter().map(|(plane, words)| (dc1(plane), words.to_owned())).collect()
    }

    fn settled<'a>(found: impl IntoIterator<Item = (&'a str, Settled)>) -> Tally {
        let settled = found.into_iter().map(|(plane, settled)| (dc1(plane), settled)).collect();
        Tally { settled, ..Tally::default() }
    }

    const fn lost(count: usize, first: i64) -> Settled {
        Settled::Missed { slots: Missed { count, first: Timestamp::constant(first, 0) }, ran: false }
    }

    #[test]
    fn slots_missed_in_data_planes_are_counted_and_told_once_and_then_over() {
        let both = there(&["eu", "us"]);
        let mut now = FleetBackupScheduleStatus::default();
        // What is said of missed slots, whether that is news, and how many there are in all.
        let mut look = |said: &[(&str, &str)], tally: &Tally| {
            let found = Results { missed: words(said.iter().copied()), ..Results::default() };
            let before = remembered(&now);
            let planes = advance(&before, &both, &found, tally, &Stale::default());
            let is_over = is_over(&planes, tally, &Stale::default());
            let outcome = summarize::missed_there(&now, &planes, tally.missed(), is_over);
            let is_news = has_more_missed(&before, &planes);
            let report = ScheduleReport {
                outcome: outcome.clone(),
                data_planes: fit(planes),
                ..ScheduleReport::unchanged(&now, Ok(String::new()))
            };
            now = summarize::status(&now, &report, Some(1), at(0));
            (outcome, is_news, now.missed_slots)
        };
        let calm = settled([("eu", Settled::Nothing), ("us", Settled::Nothing)]);
        let passed = [("eu", "2 slots passed; sorry")];
        assert_eq!(look(&[], &calm), (SlotOutcome::Nothing, false, 0));
        let told = "eu/ns/dc1: 2 slots passed; sorry";
        assert_eq!(look(&passed, &calm), (SlotOutcome::There(0, told.to_owned()), true, 0));
        assert!(!look(&passed, &calm).1, "told already");
        let counted = settled([("eu", lost(2, 60)), ("us", Settled::Nothing)]);
        let again = (SlotOutcome::There(2, told.to_owned()), false, 2);
        assert_eq!(look(&passed, &counted), again, "what it says was told when it said so");
        let counted = settled([("eu", Settled::Nothing), ("us", lost(1, 60))]);
        let (SlotOutcome::There(1, message), true, 3) = look(&passed, &counted) else { panic!() };
        assert!(message.starts_with(told) && message.contains("us/ns/dc1: 1 slot passed"), "{message}");
        let (SlotOutcome::There(0, still), false, 3) = look(&passed, &calm) else { panic!() };
        assert_eq!(still, message, "it stands until a slot runs");
        let (SlotOutcome::There(1, more), true, 4) =
            look(&[], &settled([("eu", Settled::Nothing), ("us", lost(1, 120))]))
        else {
            panic!()
        };
        assert!(more.contains("us/ns/dc1: 2 slots passed without a run, the first at 1970-01-01T00:01:00Z"));
        let ran = Settled::Missed { slots: Missed { count: 1, first: at(240) }, ran: true };
        let (SlotOutcome::There(1, anew), _, 5) =
            look(&[], &settled([("eu", Settled::Nothing), ("us", ran)]))
        else {
            panic!()
        };
        assert!(anew.contains("us/ns/dc1: 1 slot passed"), "since the last that ran: {anew}");
        let (SlotOutcome::There(0, left), false, 5) =
            look(&[], &settled([("eu", Settled::Nothing), ("us", Settled::Ran)]))
        else {
            panic!()
        };
        assert!(left.starts_with("eu/ns/dc1: 2 slots") && !left.contains("us/"), "{left}");
        assert_eq!(look(&[], &settled([("eu", Settled::Ran)])), (SlotOutcome::OnTime, false, 5));
        assert!(remembered(&now).is_empty());
    }

    #[test]
    fn a_failure_stands_while_its_data_plane_is_silent_and_no_longer() {
        let dead: [Snapshot; 1] = [plane("us", silent())];
        let stale = Stale::of(&[], &[], &dead);
        let mut now = FleetBackupScheduleStatus::default();
        let mut look = |planes: &[&str], failed: &[&str], stale: &Stale| {
            let failed = words(failed.iter().map(|plane| (*plane, "the backup of today is FAILED")));
            let found = Results { failed, ..Results::default() };
            let before = remembered(&now);
            let known = advance(&before, &there(planes), &found, &Tally::default(), stale);
            let is_news = has_more_failed(&before, &known);
            let succeeded = summarize::succeeded_there(&known, true, "backup");
            let report = ScheduleReport {
                succeeded,
                data_planes: known,
                ..ScheduleReport::unchanged(&now, Ok(String::new()))
            };
            now = summarize::status(&now, &report, None, at(0));
            let condition = now.conditions.iter().find(|c| c.type_ == SUCCEEDED).unwrap();
            (condition.message.matches("is FAILED").count(), is_news)
        };
        let nothing = Stale::default();
        assert_eq!(look(&["eu", "us"], &["eu", "us"], &nothing), (2, true));
        assert_eq!(look(&["eu"], &["eu"], &stale), (2, false), "us is silent");
        assert_eq!(look(&["eu"], &[], &stale), (1, false));
        assert_eq!(look(&["eu"], &["eu"], &stale), (2, true), "eu failed again");
        assert_eq!(look(&["eu", "us"], &["eu"], &nothing), (1, false), "us did well meanwhile");
        assert_eq!(look(&["us"], &[], &nothing), (0, false), "eu is not in it any more");
    }

    #[test]
    fn a_datacenter_is_not_taken_for_another_whose_name_begins_like_it() {
        let ten = place_of(&pending("eu", "dc10"));
        let found =
            Results { missed: [(ten.clone(), "2 slots passed".to_owned())].into(), ..Results::default() };
        let both = [dc1("eu"), ten].into();
        let planes = advance(&[], &both, &found, &settled([("eu", lost(1, 60))]), &Stale::default());
        let message = missed_message(&planes).unwrap();
        assert!(
            message.contains("eu/ns/dc1: 1 slot passed") && message.contains("eu/ns/dc10: 2 slots passed")
        );
    }

    #[test]
    fn a_data_plane_that_is_made_again_under_its_name_begins_with_nothing() {
        let found = Results { failed: words([("us", "no luck")]), ..Results::default() };
        let first = plane("us", silent());
        let before = of_now(Vec::new(), std::slice::from_ref(&first));
        let tally = Tally { until: [("us".to_owned(), at(60))].into(), ..Tally::default() };
        let known = advance(&before, &there(&["us"]), &found, &tally, &Stale::default());
        let known = of_now(known, std::slice::from_ref(&first));
        assert_eq!(known[0].uid.as_ref(), Some(&first.uid));
        assert_eq!(of_now(known.clone(), std::slice::from_ref(&first)), known);
        assert_eq!(of_now(known.clone(), &[]), known, "while it is not registered, nothing is known anew");
        let again = Snapshot { uid: "another".to_owned(), ..first };
        assert!(of_now(known, &[again]).is_empty());
    }

    #[test]
    fn an_earlier_status_is_read_once_and_not_written_again() {
        let old: FleetBackupScheduleStatus = serde_json::from_value(json!({
            "missedSlots": 2,
            "counted": [
                {"dataPlane": "us", "until": "2026-03-01T00:00:00Z", "missed": true},
                {"dataPlane": "eu", "until": "2026-03-02T00:00:00Z"}
            ],
            "dataPlanes": [{"name": "eu", "countedUntil": "2026-03-03T00:00:00Z"}],
        }))
        .unwrap();
        let until: Vec<_> =
            counted(&remembered(&old)).map(|(name, until)| format!("{name} {until}")).collect();
        assert_eq!(until, ["eu 2026-03-03T00:00:00Z", "us 2026-03-01T00:00:00Z"]);
        let new = summarize::status(&old, &ScheduleReport::unchanged(&old, Ok(String::new())), None, at(0));
        let written = json!(new);
        assert!(written.get("counted").is_none(), "{written}");
        assert_eq!(written["dataPlanes"][1], json!({"name": "us", "countedUntil": "2026-03-01T00:00:00Z"}));
        assert!(new.conditions.iter().all(|c| c.type_ != MISSED));
    }

    #[test]
    fn a_fleet_in_which_everything_fails_fits_into_a_status() {
        let entry = |n: usize| pending(&format!("plane-{:04}", n / 2), &format!("{}-{n:05}", "d".repeat(57)));
        let all: BTreeSet<DatacenterKey> = (0..6_000).map(|n| place_of(&entry(n))).collect();
        let failed = all.iter().map(|at| (at.clone(), "no luck".repeat(30))).collect();
        let found = Results { failed, ..Results::default() };
        let known = advance(&[], &all, &found, &Tally::default(), &Stale::default());
        assert!(failed_message(&known).unwrap().ends_with("; and 5997 more"));
        let fitted = fit(known.clone());
        assert!(serde_json::to_vec(&fitted).unwrap().len() < 1_200_000);
        let texts: Vec<&String> =
            super::all(&fitted).filter_map(|(_, datacenter)| datacenter.failed.as_ref()).collect();
        assert_eq!((texts.len(), texts.iter().filter(|text| **text != NOT_TOLD).count()), (NAMED, TOLD));
        assert_eq!(fit(fitted.clone()), fitted);
        let again = fit(advance(&fitted, &all, &found, &Tally::default(), &Stale::default()));
        assert!(again == fitted && !has_more_failed(&fitted, &again), "nothing moves");
        let small = place_of(&pending("z", "dc1"));
        let crowded: BTreeMap<_, _> = (0..6_000)
            .map(|n| place_of(&pending("a", &format!("dc-{n:05}"))))
            .chain([small.clone()])
            .map(|at| (at, "no luck".to_owned()))
            .collect();
        let everywhere = crowded.keys().cloned().collect();
        let found_there = Results { failed: crowded, ..Results::default() };
        let room = fit(advance(&[], &everywhere, &found_there, &Tally::default(), &Stale::default()));
        let last = super::all(&room).last().unwrap();
        assert_eq!((last.0, last.1.failed.as_deref()), (small, Some("no luck")), "one crowds out no other");
        let two_hundred: BTreeMap<_, _> = found.failed.into_iter().take(200).collect();
        let look = |failed: BTreeMap<DatacenterKey, String>| {
            let found = Results { failed, ..Results::default() };
            fit(advance(&[], &all, &found, &Tally::default(), &Stale::default()))
        };
        let (before, after) = (look(two_hundred.clone()), look(two_hundred.into_iter().skip(1).collect()));
        assert!(!has_more_failed(&before, &after), "that there is room for the text of one more is no news");
    }
}
