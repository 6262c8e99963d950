//! Tests of `missed.rs`: what is missed, what is only unknown, and that each slot is counted once.

use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::fleet::FleetBackupScheduleStatus,
    control_plane::{
        data_planes::{
            fleet::Usable,
            view::{Contact, View},
        },
        fanout::tests::pending,
        schedules::{
            delegate::tests::open,
            history::tests::{at, back_up, key, run, view},
            results::results,
            status::{self, Outcome, Report},
            unread::parts,
        },
    },
};

/// Seconds of an hour; the schedules here are hourly, since second 0.
const HOUR: i64 = 3_600;
/// When what happened at the full hour is certain.
const LATER: i64 = 301;

fn look(old: &[CountedSlots], there: &[(DatacenterRun, ObjectKey)], planes: &[Snapshot], now: i64) -> Tally {
    tally(old, there, &Unread::of(&[], there, planes), planes, at(now))
}

fn count(old: &[CountedSlots], view: &View, now: i64) -> Tally {
    look(old, &[(pending("eu", "dc1"), key("dc1"))], &[open("eu", view.clone())], now)
}

/// How many are missed, and from which hour on.
fn missed(tally: &Tally) -> Option<(usize, i64)> {
    tally.missed.first().map(|(_, missed)| (missed.count, missed.first.as_second() / HOUR))
}

/// The last hour that is counted.
fn until(tally: &Tally) -> Option<i64> {
    tally.counted.first().map(|entry| entry.until.0.as_second() / HOUR)
}

fn dealt_with(last: Option<i64>, next: i64) -> Value {
    json!({"lastExecution": last.map(|hour| at(hour * HOUR).to_string()), "nextSchedule": at(next * HOUR).to_string()})
}

#[tokio::test]
async fn a_slot_that_its_data_plane_left_out_is_missed_once_it_is_certain() {
    let view = view(&json!({}), &dealt_with(None, 2));
    assert_eq!(count(&[], &view, HOUR + 200), Tally::default(), "the run may not have come yet");
    let first = count(&[], &view, HOUR + LATER);
    assert_eq!((missed(&first), until(&first)), (Some((1, 1)), Some(1)));
    let again = count(&first.counted, &view, HOUR + LATER + 60);
    assert_eq!((missed(&again), again.is_over, &again.counted), (None, false, &first.counted), "once");
}

#[tokio::test]
async fn without_a_controller_a_slot_is_missed_when_the_next_has_come() {
    let view = view(&json!({}), &json!({}));
    assert_eq!(count(&[], &view, HOUR + LATER), Tally::default(), "it may still run");
    let found = count(&[], &view, 3 * HOUR + LATER);
    assert_eq!((missed(&found), until(&found)), (Some((2, 1)), Some(2)));
    assert_eq!(missed(&count(&found.counted, &view, 4 * HOUR + LATER)), Some((1, 3)));
}

#[tokio::test]
async fn a_slot_waits_with_the_run_in_its_way_until_the_next_has_come() {
    let mut view = view(&json!({}), &dealt_with(Some(1), 2));
    run(&mut view, HOUR, None);
    assert_eq!(until(&count(&[], &view, 2 * HOUR + LATER)), Some(1));
    let found = count(&[], &view, 3 * HOUR + LATER);
    assert_eq!((missed(&found), until(&found)), (Some((1, 2)), Some(2)));
}

#[tokio::test]
async fn what_ran_is_not_missed_whatever_is_left_of_it() {
    let mut traces = view(&json!({}), &dealt_with(Some(4), 5));
    run(&mut traces, HOUR, Some(false));
    run(&mut traces, 2 * HOUR, Some(true));
    back_up(&mut traces, 3 * HOUR, "SUCCESS");
    let found = count(&[], &traces, 4 * HOUR + LATER);
    assert_eq!((missed(&found), until(&found)), (None, Some(4)));
    assert!(found.is_over);
}

#[tokio::test]
async fn of_slots_before_a_run_that_caught_up_only_the_latest_is_its_own() {
    // k8ssandra-operator names the run after the moment, ours after the slot.
    for late in [0, 900] {
        let mut view = view(&json!({}), &dealt_with(None, 6));
        run(&mut view, HOUR + late / 100, Some(true));
        run(&mut view, 5 * HOUR + late, Some(true));
        let found = count(&[], &view, 5 * HOUR + 2 * LATER + late);
        assert_eq!((missed(&found), until(&found)), (Some((3, 2)), Some(5)), "{late}");
    }
}

#[tokio::test]
async fn what_may_have_been_removed_is_not_missed() {
    let mut view = view(&json!({"successfulJobsHistoryLimit": 2}), &dealt_with(Some(9), 10));
    assert_eq!(missed(&count(&[], &view, 9 * HOUR + LATER)), None, "nothing is left of any run");
    run(&mut view, 4 * HOUR, Some(false));
    run(&mut view, 6 * HOUR, Some(true));
    assert_eq!(missed(&count(&[], &view, 9 * HOUR + LATER)), Some((3, 5)), "one more would have been kept");
    run(&mut view, 9 * HOUR, Some(true));
    assert_eq!(missed(&count(&[], &view, 9 * HOUR + LATER)), Some((2, 7)), "older good ones are not kept");
    let stored = Arc::make_mut(view.schedules.items_mut().get_mut(&key("dc1")).unwrap());
    stored.spec.failed_jobs_history_limit = Some(0);
    assert_eq!(missed(&count(&[], &view, 9 * HOUR + LATER)), None, "failed runs leave no trace");
}

#[tokio::test]
async fn a_silent_data_plane_is_counted_when_it_answers() {
    let mut view = view(&json!({}), &dealt_with(Some(1), 2));
    run(&mut view, HOUR, Some(true));
    let before = count(&[], &view, HOUR + LATER);
    let mut silent = view.clone();
    silent.contact = Contact::Lost { since: at(2 * HOUR), why: "gone".to_owned() };
    let meanwhile = count(&before.counted, &silent, 9 * HOUR);
    assert_eq!((missed(&meanwhile), &meanwhile.counted), (None, &before.counted));
    let mut unlisted = view.clone();
    unlisted.scheduled_jobs.trust.begin();
    assert_eq!(count(&before.counted, &unlisted, 9 * HOUR), meanwhile, "its runs are not listed yet");
    let after = count(&meanwhile.counted, &view, 9 * HOUR + LATER);
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
    let both = |old: &[CountedSlots], eu: View, us: View, now| {
        look(old, &there, &[open("eu", eu), open("us", us)], now)
    };
    let one = both(&[], ran(&[1], 1), ran(&[], 1), HOUR + LATER);
    assert_eq!((one.missed.len(), one.is_over), (1, false));
    let two = both(&one.counted, ran(&[1, 2], 2), ran(&[], 1), 2 * HOUR + LATER);
    assert!(two.missed.is_empty() && !two.is_over, "only where none was missed");
    let three = both(&two.counted, ran(&[1, 2], 2), ran(&[2], 2), 2 * HOUR + LATER);
    assert!(three.missed.is_empty() && three.is_over);
    let gone = look(&one.counted, &there[..1], &[open("eu", ran(&[1, 2], 2))], 2 * HOUR + LATER);
    assert!(gone.is_over, "a data plane that is unregistered holds nothing up");
    // Whatever us has to say of the second hour, nobody knows yet.
    let silent = Snapshot { usable: Usable::Connecting, ..open("us", View::unknown()) };
    let planes = [open("eu", ran(&[1, 2, 3], 3)), silent];
    assert!(!look(&three.counted, &there[..1], &planes, 3 * HOUR + LATER).is_over, "us was counted");
    assert!(look(&gone.counted[..1], &there[..1], &planes, 3 * HOUR + LATER).is_over, "us never was");
}

#[tokio::test]
async fn slots_before_an_edit_and_of_a_disabled_schedule_are_none() {
    let mut edited = view(&json!({}), &json!({}));
    let stored = Arc::make_mut(edited.schedules.items_mut().get_mut(&key("dc1")).unwrap());
    let since = at(3 * HOUR + 60).to_string();
    stored.metadata.annotations = Some([(crate::api::labels::SCHEDULED_SINCE.to_owned(), since)].into());
    assert_eq!(missed(&count(&[], &edited, 5 * HOUR + LATER)), Some((1, 4)));
    let disabled = view(&json!({"disabled": true}), &json!({}));
    assert_eq!(count(&[], &disabled, 9 * HOUR), Tally::default());
}

#[tokio::test]
async fn a_next_slot_of_an_expression_that_is_none_any_more_settles_nothing() {
    for next in [1, 30] {
        let view = view(&json!({}), &dealt_with(None, next));
        assert_eq!(count(&[], &view, HOUR + LATER), Tally::default(), "{next}");
    }
}

#[tokio::test]
async fn every_so_often_counts_from_the_run_before() {
    let mut view =
        view(&json!({"cronSchedule": "@every 1h"}), &json!({"nextSchedule": at(8 * HOUR + 40).to_string()}));
    for (hour, late) in [(1, 10), (2, 20), (5, 30), (7, 40)] {
        run(&mut view, hour * HOUR + late, Some(true));
    }
    let found = count(&[], &view, 7 * HOUR + 2 * LATER);
    assert_eq!(missed(&found), Some((3, 3)), "two before the third run, and one before the fourth");
}

#[tokio::test]
async fn each_data_plane_is_counted_by_itself_and_a_long_gap_up_to_a_point() {
    let planes =
        [open("eu", view(&json!({}), &json!({}))), open("us", view(&json!({}), &dealt_with(None, 1_000)))];
    let there = [(pending("eu", "dc1"), key("dc1")), (pending("us", "dc1"), key("dc1"))];
    let found = look(&[], &there, &planes, 999 * HOUR + LATER);
    let counts: Vec<usize> = found.missed.iter().map(|(_, missed)| missed.count).collect();
    assert_eq!(counts, [MANY, MANY]);
    let until: Vec<i64> = found.counted.iter().map(|entry| entry.until.0.as_second() / HOUR).collect();
    assert_eq!(until, [998, 999]);
    assert_eq!(found.missed[1].0, "us/ns/dc1");
    let old = vec![CountedSlots { data_plane: "gone".to_owned(), until: Time(at(1)), missed: true }];
    assert_eq!(look(&old, &[], &[], 2).counted, old);
    assert!(look(&old, &[], &[], 401 * 24 * HOUR).counted.is_empty());
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
        let mut told: BTreeSet<String> = BTreeSet::new();
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
            let unread = Unread::of(&[], &there, &planes);
            let tally = tally(&old.counted, &there, &unread, &planes, at(now));
            let said = results(&there, &planes, at(now)).missed;
            let outcome = status::missed_there(&old, &said, &tally, &unread);
            if outcome == Outcome::OnTime {
                prop_assert!(old.counted.iter().all(|entry| !unread.has_plane(&entry.data_plane)), "{old:?}");
            }
            if let Outcome::There(count, message) = &outcome {
                let new = parts(message);
                prop_assert!(*count > 0 || new.iter().any(|part| !told.contains(part)), "{message} {told:?}");
                told.extend(new);
            }
            let report =
                Report { outcome, counted: tally.counted, ..Report::unchanged(&old, Ok(String::new())) };
            old = status::status(&old, &report, None, at(now));
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
        let (mut counted, mut total) = (Vec::new(), 0);
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
            counted = found.counted;
        }
        let first = hours.iter().next().copied().unwrap_or(14);
        // Before the first run nothing tells that none was removed, unless it was looked in time.
        let certain = (first..14).filter(|hour| !hours.contains(hour)).count();
        let all = (1..14).filter(|hour| !hours.contains(hour)).count();
        prop_assert!((certain..=all).contains(&total), "{total} of {certain} to {all}: {hours:?}");
    }
}
