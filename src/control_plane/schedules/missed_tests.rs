//! Tests of `missed.rs`: what is missed, what is only unknown, and that each slot is counted once.

use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::fleet::{FleetBackupScheduleStatus, ScheduledDataPlane},
    control_plane::{
        data_planes::{
            fleet::Usable,
            view::{Contact, View},
        },
        fanout::tests::pending,
        schedules::{
            by_data_plane::{advance, counted, fit, has_more_missed, is_over, remembered},
            delegate::tests::open,
            history::tests::{at, back_up, key, run, view},
            results::results,
            summarize::{self, ScheduleReport, SlotOutcome},
        },
    },
};

/// Seconds of an hour; the schedules here are hourly, since second 0.
const HOUR: i64 = 3_600;
/// When what happened at the full hour is certain.
const LATER: i64 = 301;

/// Up to where each data plane is counted.
type Until = BTreeMap<String, Timestamp>;

fn look(old: &Until, there: &[(DatacenterRun, ObjectKey)], planes: &[Snapshot], now: i64) -> Tally {
    tally(old.clone(), there, &Stale::of(&[], there, planes), planes, at(now))
}

/// A first look at a view.
fn first(view: &View, now: i64) -> Tally {
    count(&Until::new(), view, now)
}

fn count(old: &Until, view: &View, now: i64) -> Tally {
    look(old, &[(pending("eu", "dc1"), key("dc1"))], &[open("eu", view.clone())], now)
}

/// What one look makes of what was known before it.
struct Step {
    known: Vec<ScheduledDataPlane>,
    missed: usize,
    is_over: bool,
}

fn step(
    old: &[ScheduledDataPlane],
    there: &[(DatacenterRun, ObjectKey)],
    planes: &[Snapshot],
    now: i64,
) -> Step {
    let stale = Stale::of(&[], there, planes);
    let tally = tally(counted(old), there, &stale, planes, at(now));
    let places = there.iter().map(|(entry, _)| place_of(entry)).collect();
    let known = advance(old, &places, &results(there, planes, at(now)), &tally, &stale);
    Step { is_over: is_over(&known, &tally, &stale), missed: tally.missed(), known }
}

/// How many are missed, and from which hour on.
fn missed(tally: &Tally) -> Option<(usize, i64)> {
    let mut missed = tally.settled.values().filter_map(|settled| match settled {
        Settled::Missed { slots, .. } => Some((slots.count, slots.first.as_second() / HOUR)),
        Settled::Nothing | Settled::Ran => None,
    });
    missed.next()
}

/// Whether no slot is settled and nothing counted.
fn says_nothing(tally: &Tally) -> bool {
    !tally.is_news() && tally.until.is_empty()
}

/// The last hour that is counted.
fn until(tally: &Tally) -> Option<i64> {
    tally.until.values().next().map(|until| until.as_second() / HOUR)
}

fn dealt_with(last: Option<i64>, next: i64) -> Value {
    json!({"lastExecution": last.map(|hour| at(hour * HOUR).to_string()), "nextSchedule": at(next * HOUR).to_string()})
}

#[tokio::test]
async fn a_slot_that_its_data_plane_left_out_is_missed_once_it_is_certain() {
    let view = view(&json!({}), &dealt_with(None, 2));
    assert!(says_nothing(&first(&view, HOUR + 200)), "the run may not have come yet");
    let found = first(&view, HOUR + LATER);
    assert_eq!((missed(&found), until(&found)), (Some((1, 1)), Some(1)));
    let again = count(&found.until, &view, HOUR + LATER + 60);
    assert_eq!((missed(&again), again.is_news(), &again.until), (None, false, &found.until), "once");
}

#[tokio::test]
async fn without_a_controller_a_slot_is_missed_when_the_next_has_come() {
    let view = view(&json!({}), &json!({}));
    assert!(says_nothing(&first(&view, HOUR + LATER)), "it may still run");
    let found = first(&view, 3 * HOUR + LATER);
    assert_eq!((missed(&found), until(&found)), (Some((2, 1)), Some(2)));
    assert_eq!(missed(&count(&found.until, &view, 4 * HOUR + LATER)), Some((1, 3)));
}

#[tokio::test]
async fn a_slot_waits_with_the_run_in_its_way_until_the_next_has_come() {
    let mut view = view(&json!({}), &dealt_with(Some(1), 2));
    run(&mut view, HOUR, None);
    assert_eq!(until(&first(&view, 2 * HOUR + LATER)), Some(1));
    let found = first(&view, 3 * HOUR + LATER);
    assert_eq!((missed(&found), until(&found)), (Some((1, 2)), Some(2)));
}

#[tokio::test]
async fn what_ran_is_not_missed_whatever_is_left_of_it() {
    let mut traces = view(&json!({}), &dealt_with(Some(4), 5));
    run(&mut traces, HOUR, Some(false));
    run(&mut traces, 2 * HOUR, Some(true));
    back_up(&mut traces, 3 * HOUR, "SUCCESS");
    let found = first(&traces, 4 * HOUR + LATER);
    assert_eq!((missed(&found), until(&found), found.is_news()), (None, Some(4), true));
}

#[tokio::test]
async fn of_slots_before_a_run_that_caught_up_only_the_latest_is_its_own() {
    // k8ssandra-operator names the run after the moment, ours after the slot.
    for late in [0, 900] {
        let mut view = view(&json!({}), &dealt_with(None, 6));
        run(&mut view, HOUR + late / 100, Some(true));
        run(&mut view, 5 * HOUR + late, Some(true));
        let found = first(&view, 5 * HOUR + 2 * LATER + late);
        assert_eq!((missed(&found), until(&found)), (Some((3, 2)), Some(5)), "{late}");
    }
}

#[tokio::test]
async fn what_may_have_been_removed_is_not_missed() {
    let mut view = view(&json!({"successfulJobsHistoryLimit": 2}), &dealt_with(Some(9), 10));
    assert_eq!(missed(&first(&view, 9 * HOUR + LATER)), None, "nothing is left of any run");
    run(&mut view, 4 * HOUR, Some(false));
    run(&mut view, 6 * HOUR, Some(true));
    assert_eq!(missed(&first(&view, 9 * HOUR + LATER)), Some((3, 5)), "one more would have been kept");
    run(&mut view, 9 * HOUR, Some(true));
    assert_eq!(missed(&first(&view, 9 * HOUR + LATER)), Some((2, 7)), "older good ones are not kept");
    let stored = Arc::make_mut(view.schedules.items_mut().get_mut(&key("dc1")).unwrap());
    stored.spec.failed_jobs_history_limit = Some(0);
    assert_eq!(missed(&first(&view, 9 * HOUR + LATER)), None, "failed runs leave no trace");
}

#[tokio::test]
async fn a_silent_data_plane_is_counted_when_it_answers() {
    let mut view = view(&json!({}), &dealt_with(Some(1), 2));
    run(&mut view, HOUR, Some(true));
    let before = first(&view, HOUR + LATER);
    let mut silent = view.clone();
    silent.contact = Contact::Lost { since: at(2 * HOUR), why: "gone".to_owned() };
    let meanwhile = count(&before.until, &silent, 9 * HOUR);
    assert_eq!((missed(&meanwhile), &meanwhile.until), (None, &before.until));
    let mut unlisted = view.clone();
    unlisted.scheduled_jobs.trust.begin();
    assert_eq!(count(&before.until, &unlisted, 9 * HOUR), meanwhile, "its runs are not listed yet");
    let after = count(&meanwhile.until, &view, 9 * HOUR + LATER);
    assert_eq!((missed(&after), until(&after)), (Some((7, 2)), Some(8)));
}

#[tokio::test]
async fn it_is_over_when_a_slot_has_run_wherever_one_was_missed() {
    let there = [(pending("eu", "dc1"), key("dc1")), (pending("us", "dc1"), key("dc1"))];
    let ran = |hours: &[i64], last: i64| {
        let mut view = view(&json!({}), &dealt_with(hours.last().copied(), last + 1));
        for hour in hours {
            run(&mut view, hour * HOUR, Some(true));
        }
        view
    };
    let both = |old: &[ScheduledDataPlane], eu: View, us: View, now| {
        step(old, &there, &[open("eu", eu), open("us", us)], now)
    };
    let one = both(&[], ran(&[1], 1), ran(&[], 1), HOUR + LATER);
    assert_eq!((one.missed, one.is_over), (1, false));
    let two = both(&one.known, ran(&[1, 2], 2), ran(&[], 1), 2 * HOUR + LATER);
    assert_eq!((two.missed, two.is_over), (0, false), "only where none was missed");
    let three = both(&two.known, ran(&[1, 2], 2), ran(&[2], 2), 2 * HOUR + LATER);
    assert_eq!((three.missed, three.is_over), (0, true));
    let gone = step(&one.known, &there[..1], &[open("eu", ran(&[1, 2], 2))], 2 * HOUR + LATER);
    assert!(gone.is_over, "a data plane that is unregistered holds nothing up");
    // Whatever us has to say of the second hour, nobody knows yet.
    let silent = Snapshot { usable: Usable::Connecting, ..open("us", View::unknown()) };
    let planes = [open("eu", ran(&[1, 2, 3], 3)), silent];
    assert!(!step(&three.known, &there[..1], &planes, 3 * HOUR + LATER).is_over, "us was counted");
    assert!(step(&gone.known[..1], &there[..1], &planes, 3 * HOUR + LATER).is_over, "us never was");
}

#[tokio::test]
async fn slots_before_an_edit_and_of_a_disabled_schedule_are_none() {
    let mut edited = view(&json!({}), &json!({}));
    let stored = Arc::make_mut(edited.schedules.items_mut().get_mut(&key("dc1")).unwrap());
    let since = at(3 * HOUR + 60).to_string();
    stored.metadata.annotations = Some([(crate::api::labels::SCHEDULED_SINCE.to_owned(), since)].into());
    assert_eq!(missed(&first(&edited, 5 * HOUR + LATER)), Some((1, 4)));
    let disabled = view(&json!({"disabled": true}), &json!({}));
    assert!(says_nothing(&first(&disabled, 9 * HOUR)));
}

#[tokio::test]
async fn a_next_slot_of_an_expression_that_is_none_any_more_settles_nothing() {
    for next in [1, 30] {
        let view = view(&json!({}), &dealt_with(None, next));
        assert!(says_nothing(&first(&view, HOUR + LATER)), "{next}");
    }
}

#[tokio::test]
async fn every_so_often_counts_from_the_run_before() {
    let mut view =
        view(&json!({"cronSchedule": "@every 1h"}), &json!({"nextSchedule": at(8 * HOUR + 40).to_string()}));
    for (hour, late) in [(1, 10), (2, 20), (5, 30), (7, 40)] {
        run(&mut view, hour * HOUR + late, Some(true));
    }
    let found = first(&view, 7 * HOUR + 2 * LATER);
    assert_eq!(missed(&found), Some((3, 3)), "two before the third run, and one before the fourth");
}

#[tokio::test]
async fn each_data_plane_is_counted_by_itself_and_a_long_gap_up_to_a_point() {
    let planes =
        [open("eu", view(&json!({}), &json!({}))), open("us", view(&json!({}), &dealt_with(None, 1_000)))];
    let there = [(pending("eu", "dc1"), key("dc1")), (pending("us", "dc1"), key("dc1"))];
    let found = look(&Until::new(), &there, &planes, 999 * HOUR + LATER);
    assert_eq!((found.settled.len(), found.missed()), (2, 2 * MANY));
    let until: Vec<i64> = found.until.values().map(|until| until.as_second() / HOUR).collect();
    assert_eq!(until, [998, 999]);
    let old: Until = [("gone".to_owned(), at(1))].into();
    assert_eq!(look(&old, &[], &[], 2).until, old);
    assert!(look(&old, &[], &[], 401 * 24 * HOUR).until.is_empty());
}

proptest! {
    /// Whichever slots ran where, and whoever is silent when: nothing is over while a data plane that was counted is
    /// silent, and nothing is told twice.
    #[test]
    fn silence_ends_nothing_and_makes_no_news(
        ran in proptest::collection::vec(any::<[bool; 5]>(), 5), heard in proptest::collection::vec(any::<[bool; 5]>(), 15),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _guard = runtime.enter();
        let bases = ["a", "b", "c", "d", "e"].map(|name| open(name, View::unknown()));
        let mut old = FleetBackupScheduleStatus::default();
        let mut told: BTreeSet<(String, String)> = BTreeSet::new();
        for (look, heard) in (3_i64..).zip(&heard) {
            let hour = look / 3;
            let mut planes = Vec::new();
            for ((base, heard), plane) in bases.iter().zip(heard).zip(0..) {
                let did = |hour: i64| ran[usize::try_from(hour - 1).unwrap()][plane];
                let last = (1..=hour).rev().find(|hour| did(*hour));
                let mut status = dealt_with(last, hour + 1);
                if !did(hour) {
                    status["conditions"] = json!([{
                        "type": "Missed", "status": "True", "reason": "X", "message": format!("{hour} passed; sorry"),
                        "lastTransitionTime": "2026-03-01T00:00:00Z",
                    }]);
                }
                let mut view = view(&json!({}), &status);
                (1..=hour).filter(|hour| did(*hour)).for_each(|hour| run(&mut view, hour * HOUR, Some(true)));
                planes.push(if *heard {
                    Snapshot { view: Arc::new(view), ..base.clone() }
                } else {
                    Snapshot { usable: Usable::Connecting, ..base.clone() }
                });
            }
            let there: Vec<_> = planes
                .iter()
                .filter(|plane| plane.view.is_live())
                .map(|plane| (pending(&plane.name, "dc1"), key("dc1")))
                .collect();
            let now = hour * HOUR + LATER + look;
            let stale = Stale::of(&[], &there, &planes);
            let before = remembered(&old);
            let Step { known, missed, is_over } = step(&before, &there, &planes, now);
            let outcome = summarize::missed_there(&old, &known, missed, is_over);
            if outcome == SlotOutcome::OnTime {
                prop_assert!(counted(&before).all(|(plane, _)| !stale.has_plane(&plane)), "{before:?}");
            }
            if has_more_missed(&before, &known) {
                let says = |plane: &ScheduledDataPlane| {
                    let missed = plane.datacenters.first().and_then(|dc| dc.missed.as_ref());
                    Some((plane.name.clone(), missed?.message.clone()?))
                };
                let new: BTreeSet<_> = known.iter().filter_map(says).collect();
                prop_assert!(missed > 0 || !new.is_subset(&told), "{new:?} {told:?}");
                told.extend(new);
            }
            let report = ScheduleReport { outcome, data_planes: fit(known), ..ScheduleReport::unchanged(&old, Ok(String::new())) };
            old = summarize::status(&old, &report, None, at(now));
        }
    }

    /// However often it is looked, and whichever slots ran, each slot that did not is counted once and no other.
    #[test]
    fn each_slot_without_a_run_is_counted_once(
        ran in proptest::collection::vec(any::<bool>(), 12), looks in proptest::collection::btree_set(0_i64..14 * 12, 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _guard = runtime.enter();
        let (base, there) = (open("eu", view(&json!({}), &json!({}))), [(pending("eu", "dc1"), key("dc1"))]);
        let hours: BTreeSet<i64> =
            (1..).zip(&ran).filter(|(_, ran)| **ran).map(|(hour, _)| hour).collect();
        let (mut counted, mut total) = (Until::new(), 0);
        for now in looks.into_iter().map(|look| look * 300).chain([14 * HOUR]) {
            // What the data plane shows at that time: a run at each of those hours that have come.
            let come = || hours.iter().copied().filter(|hour| hour * HOUR <= now);
            let mut view = view(&json!({}), &dealt_with(come().max(), now / HOUR + 1));
            for hour in come() {
                run(&mut view, hour * HOUR, Some(true));
            }
            let plane = Snapshot { view: Arc::new(view), ..base.clone() };
            let found = look(&counted, &there, &[plane], now);
            total += missed(&found).map_or(0, |(count, _)| count);
            counted = found.until;
        }
        let first = hours.iter().next().copied().unwrap_or(14);
        // Before the first run nothing tells that none was removed, unless it was looked in time.
        let certain = (first..14).filter(|hour| !hours.contains(hour)).count();
        let all = (1..14).filter(|hour| !hours.contains(hour)).count();
        prop_assert!((certain..=all).contains(&total), "{total} of {certain} to {all}: {hours:?}");
    }
}
