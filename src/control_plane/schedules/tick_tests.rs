//! Tests of `tick.rs`: each slot once, over crashes at any point, two control planes and any walk of the clock.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    super::{
        recipe,
        runs::tests::{ended, held, run},
    },
    *,
};
use crate::control_plane::schedules::summarize::{self, ScheduleReport, SlotOutcome};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A schedule of every hundred seconds, created at second 0, that runs nothing of before second 900.
fn schedule(spec: Value, status: Value) -> FleetBackupSchedule {
    let mut whole = json!({"schedule": "@every 100s"});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let mut there = json!({"nextScheduleTime": at(1_000).to_string()});
    there.as_object_mut().unwrap().extend(status.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "metadata": {
            "name": "nightly", "uid": "schedule-uid", "generation": 1, "creationTimestamp": "1970-01-01T00:00:00Z"
        },
        "spec": whole, "status": there
    }))
    .unwrap()
}

fn look(schedule: &FleetBackupSchedule, runs: &[Run], now: i64) -> Tick {
    tick(schedule, &recipe::read(&schedule.spec).unwrap(), runs, &BTreeSet::new(), at(now))
}

fn written(slot: i64) -> Value {
    json!({
        "lastScheduleTime": at(slot).to_string(), "nextScheduleTime": at(slot + 100).to_string(),
        "active": [{"kind": "FleetBackupJob", "name": format!("nightly-{slot}"), "uid": format!("uid-{slot}")}]
    })
}

fn starts(tick: &Tick) -> Option<i64> {
    match &tick.next {
        Next::Start { slot, .. } => Some(slot.as_second()),
        Next::Later { .. } | Next::Busy { .. } => None,
    }
}

#[test]
fn a_slot_that_has_come_is_started() {
    let tick = look(&schedule(json!({}), json!({})), &[], 1_000);
    assert_eq!(starts(&tick), Some(1_000));
    assert_eq!(starts(&look(&schedule(json!({}), json!({})), &[], 999)), None);
}

#[test]
fn a_held_run_is_taken_over_before_its_slot_is_written_down_and_let_go_after() {
    let before = look(&schedule(json!({}), json!({})), &[held(1_000)], 1_001);
    assert_eq!((before.adopt.len(), before.last, before.active.len()), (1, Some(at(1_000)), 1));
    assert_eq!(starts(&before), None, "it is written down first");
    let late = look(&schedule(json!({}), json!({})), &[held(1_300)], 1_301);
    assert_eq!(late.skipped, Some(Missed { count: 3, first: at(1_000) }), "what was left out stays known");
    let after = look(&schedule(json!({}), written(1_000)), &[held(1_000)], 1_001);
    assert_eq!((after.release.len(), after.adopt.len(), after.discard.len()), (1, 0, 0));
}

#[test]
fn a_run_made_again_for_a_slot_that_is_written_down_never_starts() {
    let mut again = held(1_000);
    again.uid = "another".to_owned();
    let tick = look(&schedule(json!({}), written(1_000)), &[again.clone()], 1_001);
    assert_eq!((tick.discard.as_slice(), tick.adopt.len(), tick.release.len()), (&[again][..], 0, 0));
    assert!(tick.active.iter().all(|active| active.uid == "uid-1000"));
    let tick = look(&schedule(json!({}), written(2_000)), &[held(1_000)], 2_001);
    assert_eq!(tick.discard.len(), 1, "of an earlier slot");
}

#[test]
fn one_that_a_person_deletes_before_its_slot_is_written_down_counts_as_run() {
    let mut deleted = held(1_000);
    deleted.is_deleted = true;
    let tick = look(&schedule(json!({}), json!({})), &[deleted], 1_001);
    assert_eq!((tick.adopt.len(), tick.last, tick.active.len()), (1, Some(at(1_000)), 0));
}

#[test]
fn the_policy_says_what_a_run_that_goes_on_means() {
    let going = [run(1_000, json!({"status": {"phase": "Running"}}))];
    let with =
        |policy: &str| look(&schedule(json!({"concurrencyPolicy": policy}), written(1_000)), &going, 1_100);
    assert_eq!(with("Forbid").next, Next::Busy { since: at(1_100), until: None });
    assert_eq!(starts(&with("Allow")), Some(1_100));
    let Next::Start { slot, cancel, .. } = with("Replace").next else { panic!("starts") };
    assert_eq!((slot, cancel.len()), (at(1_100), 1));
    let over = look(&schedule(json!({}), written(1_000)), &[ended(1_000, "Failed")], 1_100);
    assert_eq!((starts(&over), over.active.len()), (Some(1_100), 0));
}

#[test]
fn a_run_that_is_not_seen_goes_on_until_it_is_known_to_be_gone() {
    let schedule = schedule(json!({}), written(1_000));
    assert_eq!(look(&schedule, &[], 1_100).next, Next::Busy { since: at(1_100), until: None });
    let gone = BTreeSet::from(["uid-1000".to_owned()]);
    let recipe = recipe::read(&schedule.spec).unwrap();
    assert_eq!(starts(&tick(&schedule, &recipe, &[], &gone, at(1_100))), Some(1_100));
}

#[test]
fn a_day_away_runs_the_latest_slot_once_or_none() {
    let away = |spec: Value| look(&schedule(spec, json!({})), &[], 87_450);
    assert_eq!(starts(&away(json!({}))), Some(87_400));
    let Next::Later { next, missed } = away(json!({"catchUp": "None", "startingDeadlineSeconds": 49})).next
    else {
        panic!("later")
    };
    assert_eq!((next, missed.map(|m| m.count)), (Some(at(87_500)), Some(cron::MANY)));
    assert_eq!(starts(&away(json!({"startingDeadlineSeconds": 50}))), Some(87_400));
}

/// The API server, as far as a schedule needs one: its status with a version, and the runs by name.
#[derive(Clone, Debug, Default)]
struct Server {
    version: u64,
    uids: usize,
    status: crate::api::fleet::FleetBackupScheduleStatus,
    runs: BTreeMap<String, Run>,
    /// Every run that was let go: name and uid.
    begun: Vec<(String, String)>,
}

/// A control plane that has decided on a version of the schedule and has some writes left to do.
#[derive(Clone, Debug, Default)]
struct Worker {
    seen: Option<(u64, FleetBackupSchedule, Vec<Run>, i64)>,
    step: usize,
}

impl Server {
    fn snapshot(&self, spec: &Value) -> FleetBackupSchedule {
        let mut schedule = schedule(spec.clone(), json!({}));
        schedule.status = Some(self.status.clone());
        schedule
    }

    fn make(&mut self, slot: Timestamp) -> Run {
        let name = format!("nightly-{}", slot.as_second());
        self.uids += 1;
        let uid = format!("made-{}", self.uids);
        self.runs.entry(name).or_insert_with(|| Run { uid, ..held(slot.as_second()) }).clone()
    }

    fn commit(&mut self, version: u64, report: &ScheduleReport) -> bool {
        if version != self.version {
            return false;
        }
        self.status = summarize::status(&self.status, report, Some(1), at(0));
        self.version += 1;
        true
    }

    fn release(&mut self, run: &Run) {
        let Some(there) = self.runs.get_mut(&run.name).filter(|there| there.uid == run.uid) else { return };
        if !there.is_held() {
            return;
        }
        if there.is_deleted {
            self.runs.remove(&run.name);
            return;
        }
        there.finalizers.clear();
        self.begun.push((run.name.clone(), run.uid.clone()));
    }

    fn discard(&mut self, run: &Run) {
        if self.runs.get(&run.name).is_some_and(|there| there.uid == run.uid && there.is_held()) {
            self.runs.remove(&run.name);
        }
    }

    fn delete(&mut self, index: usize) {
        let Some(name) = self.runs.keys().nth(index % self.runs.len().max(1)).cloned() else { return };
        if let Some(run) = self.runs.get_mut(&name) {
            run.is_deleted = true;
        }
        self.runs.retain(|_, run| !run.is_deleted || run.is_held());
    }
}

impl Worker {
    /// One write further, or a new look when there is none left.
    fn go(&mut self, server: &mut Server, spec: &Value, now: i64) {
        let Some((version, schedule, runs, then)) = self.seen.clone() else {
            let runs = server.runs.values().cloned().collect();
            *self = Self { seen: Some((server.version, server.snapshot(spec), runs, now)), step: 0 };
            return;
        };
        let gone: BTreeSet<String> = schedule
            .status
            .iter()
            .flat_map(|status| &status.active)
            .filter(|active| !server.runs.values().any(|run| run.uid == active.uid))
            .map(|active| active.uid.clone())
            .collect();
        let tick = tick(&schedule, &recipe::read(&schedule.spec).unwrap(), &runs, &gone, at(then));
        let old = schedule.status.clone().unwrap_or_default();
        let report = ScheduleReport::unchanged(&old, Ok(String::new()));
        self.step += 1;
        let done = match (self.step, &tick) {
            (1, tick) => {
                tick.discard.iter().for_each(|run| server.discard(run));
                tick.release.iter().for_each(|run| server.release(run));
                false
            }
            (_, tick) if !tick.adopt.is_empty() => {
                let Next::Later { next, .. } = tick.next else { panic!("written down first") };
                let report = ScheduleReport { last: tick.last, next, active: tick.active.clone(), ..report };
                server.commit(version, &report);
                true
            }
            (2, Tick { next: Next::Start { slot, .. }, .. }) => {
                server.make(*slot);
                false
            }
            (3, Tick { next: Next::Start { slot, next, .. }, active, .. }) => {
                let made = server.runs.get(&format!("nightly-{}", slot.as_second())).cloned();
                let Some(made) = made.filter(Run::is_held) else {
                    self.seen = None;
                    return;
                };
                let mut active = active.clone();
                if made.is_active() {
                    active.push(made.named());
                }
                server.commit(version, &ScheduleReport { last: Some(*slot), next: *next, active, ..report });
                true
            }
            (_, Tick { next: Next::Later { next, missed }, active, last, .. }) => {
                let outcome = missed.map_or(SlotOutcome::Nothing, |m| SlotOutcome::Missed(m, String::new()));
                server.commit(
                    version,
                    &ScheduleReport { next: *next, last: *last, active: active.clone(), outcome, ..report },
                );
                true
            }
            (_, _) => true,
        };
        if done {
            self.seen = None;
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    /// A worker goes one write further.
    Go(usize),
    /// A worker is killed.
    Kill(usize),
    /// The clock walks.
    Clock(i64),
    /// A person or the history limit deletes a run.
    Delete(usize),
    /// Every run that was let go ends.
    End,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => (0_usize..2).prop_map(Event::Go),
        2 => (0_usize..2).prop_map(Event::Kill),
        3 => (-300_i64..400).prop_map(Event::Clock),
        2 => (0_usize..9).prop_map(Event::Delete),
        1 => Just(Event::End),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Two control planes, each killed or suspended for as long as you like between any two writes, with people who
    /// delete runs and a clock that walks: no slot begins twice, and none before its time.
    #[test]
    fn no_slot_begins_twice(
        events in prop::collection::vec(event(), 1..160),
        policy in prop::sample::select(vec!["Forbid", "Allow", "Replace"]),
    ) {
        let spec = json!({"concurrencyPolicy": policy});
        let (mut server, mut now, mut latest) = (Server::default(), 930, 930);
        server.status.next_schedule_time = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(1_000)));
        let mut workers = [Worker::default(), Worker::default()];
        for event in events {
            match event {
                Event::Go(worker) => workers[worker].go(&mut server, &spec, now),
                Event::Kill(worker) => workers[worker] = Worker::default(),
                Event::Clock(by) => now += by,
                Event::Delete(index) => server.delete(index),
                Event::End => {
                    for run in server.runs.values_mut().filter(|run| !run.is_held()) {
                        run.phase = crate::api::fleet::Phase::Succeeded;
                    }
                }
            }
            latest = latest.max(now);
        }
        let names: BTreeSet<&String> = server.begun.iter().map(|(name, _)| name).collect();
        prop_assert_eq!(names.len(), server.begun.len(), "{:?}", server.begun);
        for name in names {
            let slot: i64 = name.rsplit_once('-').unwrap().1.parse().unwrap();
            prop_assert!(slot > 0 && slot <= latest, "{slot} at {latest}");
        }
    }

    /// Once left alone, one control plane gets the latest slot to run, whatever happened before.
    #[test]
    fn what_was_interrupted_is_finished(events in prop::collection::vec(event(), 1..80)) {
        let spec = json!({"concurrencyPolicy": "Allow"});
        let (mut server, mut now) = (Server::default(), 930);
        server.status.next_schedule_time = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(1_000)));
        let mut workers = [Worker::default(), Worker::default()];
        for event in events {
            match event {
                Event::Go(worker) => workers[worker].go(&mut server, &spec, now),
                Event::Kill(worker) => workers[worker] = Worker::default(),
                Event::Clock(by) => now += by.abs(),
                Event::Delete(_) | Event::End => {}
            }
        }
        now += 1_000;
        let mut last = Worker::default();
        for _ in 0..20 {
            last.go(&mut server, &spec, now);
        }
        let due = at(now - now.rem_euclid(100));
        prop_assert_eq!(server.status.last_schedule_time.map(|time| time.0), Some(due));
        let name = format!("nightly-{}", due.as_second());
        prop_assert!(server.begun.iter().any(|(begun, _)| *begun == name), "{:?}", server.begun);
        prop_assert!(server.runs.values().all(|run| !run.is_held()), "{:?}", server.runs);
    }
}

#[test]
fn a_run_that_goes_on_in_a_data_plane_is_in_the_way_and_is_not_cancelled() {
    let status = json!({
        "lastScheduleTime": at(900).to_string(), "nextScheduleTime": at(1_000).to_string(),
        "active": [{"kind": "MedusaBackupJob", "name": "n", "uid": "u", "dataPlane": "eu", "namespace": "ns"}]
    });
    let waits = look(&schedule(json!({}), status.clone()), &[], 1_000);
    assert!(matches!(waits.next, Next::Busy { .. }) && waits.active.len() == 1);
    let replaces = look(&schedule(json!({"concurrencyPolicy": "Replace"}), status), &[], 1_000);
    assert_eq!((starts(&replaces), replaces.active.len()), (Some(1_000), 1));
    assert!(matches!(replaces.next, Next::Start { cancel, .. } if cancel.is_empty()));
}
