//! Cron expressions mean what they mean to Kubernetes and k8ssandra-operator: robfig/cron, which both use, finds the same
//! slots, also in the nights in which clocks change. `make testbed` builds what asks it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    reason = "tests"
)]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use jiff::Timestamp;
use medusa_fleet::api::cron::CronExpr;
use proptest::prelude::*;
use serde_json::{Value, json};

#[path = "support/harness/mod.rs"]
mod harness;

use harness::testbed;

/// robfig/cron, a line in and a line out.
struct Robfig {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Robfig {
    fn start() -> Self {
        let mut child = testbed::command()
            .arg("slots")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the testbed");
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    /// The next slots after a Unix time; `Err` where it cannot read the expression.
    fn slots(&mut self, expression: &str, after: i64, count: usize) -> Result<Vec<i64>, String> {
        writeln!(self.input, "{}", json!({"expression": expression, "after": after, "count": count}))
            .unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => {
                Ok(answer["slots"].as_array().unwrap().iter().map(|slot| slot.as_i64().unwrap()).collect())
            }
        }
    }
}

impl Drop for Robfig {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ours, as far as robfig/cron looks: five years from each slot on.
fn ours(cron: &CronExpr, after: i64, count: usize) -> Vec<i64> {
    let mut at = Timestamp::from_second(after).unwrap();
    let mut slots = Vec::new();
    while slots.len() < count {
        let Some(next) = cron.next_after(at, at) else { break };
        slots.push(next.as_second());
        at = next;
    }
    slots
}

/// A zone and the moment of a change of its clocks, or where nothing changes.
const NIGHTS: [(&str, &str); 8] = [
    ("Europe/Berlin", "2024-03-31T01:00:00Z"),
    ("Europe/Berlin", "2024-10-27T01:00:00Z"),
    ("America/New_York", "2023-03-12T07:00:00Z"),
    ("America/New_York", "2023-11-05T06:00:00Z"),
    // At midnight, so that a day has two beginnings.
    ("America/Sao_Paulo", "2019-02-17T02:00:00Z"),
    ("Africa/Casablanca", "2023-03-19T02:00:00Z"),
    ("Asia/Kolkata", "2023-06-01T00:00:00Z"),
    ("UTC", "2024-02-29T00:00:00Z"),
];

/// The beginning of 2025: what zones do until then is in everybody's tables.
const KNOWN: i64 = 1_735_689_600;

fn part(min: u32, max: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("*".to_owned()),
        3 => (min..=max).prop_map(|value| value.to_string()),
        1 => (min..=max, min..=max).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (1..=max.div_euclid(2).max(1)).prop_map(|step| format!("*/{step}")),
        1 => (min..=max, 1..=7_u32).prop_map(move |(from, step)| format!("{from}-{max}/{step}")),
    ]
}

fn field(min: u32, max: u32) -> impl Strategy<Value = String> {
    prop::collection::vec(part(min, max), 1..3).prop_map(|parts| parts.join(","))
}

fn expression() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (field(0, 59), field(0, 4), field(1, 31), field(1, 12), field(0, 6)),
        // Every day, around the hours in which clocks change.
        4 => (field(0, 59), field(0, 4), Just("*".to_owned()), Just("*".to_owned()), Just("*".to_owned())),
        1 => (field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 6)),
    ]
    .prop_map(|(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"))
}

#[test]
fn robfig_finds_the_same_slots_also_in_the_nights_in_which_clocks_change() {
    let mut robfig = Robfig::start();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(2_000));
    let robfig = std::cell::RefCell::new(&mut robfig);
    let cases = (expression(), 0..NIGHTS.len(), -200_000_i64..100_000);
    runner
        .run(&cases, |(expression, night, offset)| {
            let (zone, change) = NIGHTS[night];
            let after = change.parse::<Timestamp>().unwrap().as_second() + offset;
            let theirs = robfig.borrow_mut().slots(&format!("TZ={zone} {expression}"), after, 12);
            let Ok(cron) = CronExpr::parse(&expression, Some(zone)) else {
                // A day that no month has is refused by us; they find no slot.
                prop_assert_eq!(theirs, Ok(Vec::new()), "{}", expression);
                return Ok(());
            };
            let theirs = theirs.unwrap();
            let mut ours = ours(&cron, after, 12);
            // They look no further than five years ahead, and what zones do in years to come depends on the tables.
            ours.truncate(theirs.len());
            let past = |slots: &[i64]| slots.iter().copied().filter(|slot| *slot < KNOWN).collect::<Vec<_>>();
            prop_assert_eq!(past(&ours), past(&theirs));
            Ok(())
        })
        .unwrap();
}

/// Where clocks change by half an hour, robfig/cron goes on in whole hours and passes over slots of that morning. Ours
/// are where the clock on the wall shows what the expression names.
#[test]
fn half_an_hour_that_robfig_passes_over_has_its_slots() {
    let cron = CronExpr::parse("*/15 3 * * 0", Some("Australia/Lord_Howe")).unwrap();
    let after = "2023-04-01T15:00:00Z".parse::<Timestamp>().unwrap().as_second();
    let three = "2023-04-01T16:30:00Z".parse::<Timestamp>().unwrap().as_second();
    assert_eq!(ours(&cron, after, 4), [three, three + 900, three + 1_800, three + 2_700]);
    let theirs = Robfig::start().slots("TZ=Australia/Lord_Howe */15 3 * * 0", after, 2);
    assert_eq!(theirs, Ok(vec![three + 1_800, three + 2_700]));
}

/// In São Paulo the Sunday on which clocks changed in 2018 began at one o'clock, which robfig/cron takes for Saturday's.
#[test]
fn a_day_without_a_midnight_has_no_slot_of_the_day_before() {
    let cron = CronExpr::parse("0 1 * * 6", Some("America/Sao_Paulo")).unwrap();
    let one = "2018-11-04T03:00:00Z".parse::<Timestamp>().unwrap().as_second();
    let next = "2018-11-10T03:00:00Z".parse::<Timestamp>().unwrap().as_second();
    assert_eq!(ours(&cron, one - 2, 1), [next]);
    assert_eq!(Robfig::start().slots("TZ=America/Sao_Paulo 0 1 * * 6", one - 2, 2), Ok(vec![one, next]));
}

/// Samoa had no 30 December in 2011. Asked for it, robfig/cron searches for ever.
#[test]
fn a_day_that_there_was_not_has_no_slot_and_ends_no_search() {
    let cron = CronExpr::parse("0 2 30 * *", Some("Pacific/Apia")).unwrap();
    let after = "2011-12-29T12:00:00Z".parse::<Timestamp>().unwrap().as_second();
    let next = "2012-01-30T02:00:00+14:00".parse::<Timestamp>().unwrap().as_second();
    assert_eq!(ours(&cron, after, 1), [next]);
    let theirs = Robfig::start().slots("TZ=Pacific/Apia 0 2 30 * *", after, 1);
    assert!(theirs.as_ref().is_err_and(|error| error.contains("does not end")), "{theirs:?}");
}

#[test]
fn what_robfig_takes_or_refuses_in_words_we_take_or_refuse_too() {
    let mut robfig = Robfig::start();
    let after = 1_700_000_000;
    for expression in [
        "@yearly",
        "@annually",
        "@monthly",
        "@weekly",
        "@daily",
        "@midnight",
        "@hourly",
        "@every 90m",
        "@every 1h30m10s",
        "0 2 * * mon-fri",
        "0 2 * jan,FEB *",
        "0 2 ? * SUN",
        "*/15 * * * *",
        "5/15 * * * *",
        "0-30/10 * * * *",
        "0 0 1 * 1",
        "0 0 */2 * 1",
        "0 0 31 * *",
        "60 * * * *",
        "0 24 * * *",
        "0 0 0 * *",
        "0 0 * 13 *",
        "0 0 * * 7",
        "0 0 * *",
        "0 0 * * * *",
        "@reboot",
        "@every",
        "",
        "a b c d e",
        "5-1 * * * *",
        "*/0 * * * *",
        "- * * * *",
        "1-2-3 * * * *",
        "*/a * * * *",
        "0 0 L * *",
        "0 0 1W * *",
        "0 0 * * 1#2",
    ] {
        let theirs = robfig.slots(expression, after, 5);
        match (CronExpr::parse(expression, None), theirs) {
            (Ok(cron), Ok(theirs)) => assert_eq!(ours(&cron, after, 5), theirs, "{expression}"),
            (Err(_), Err(_)) => {}
            (ours, theirs) => panic!("{expression}: {ours:?}, but robfig/cron: {theirs:?}"),
        }
    }
    // A run every second is nobody's wish.
    for expression in ["@every -5m", "@every 0s", "@every 100ms"] {
        assert_eq!(robfig.slots(expression, after, 2), Ok(vec![after + 1, after + 2]), "{expression}");
        assert!(CronExpr::parse(expression, None).is_err(), "{expression}");
    }
    // They overlook that a value is missing.
    assert!(robfig.slots("1,, * * * *", after, 1).is_ok() && CronExpr::parse("1,, * * * *", None).is_err());
}
