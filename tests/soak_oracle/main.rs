//! That the soak's oracle finds what it is there for, that its plan depends on nothing but its terms, and that its figures
//! are right. The soak itself is `tests/soak`.

#![allow(dead_code, reason = "the soak uses the rest")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by them")]
#![allow(clippy::wildcard_enum_match_arm, reason = "what a test is not about")]

#[path = "../soak/action.rs"]
mod action;
#[path = "../soak/dice.rs"]
mod dice;
#[path = "../soak/latency.rs"]
mod latency;
#[path = "../soak/memory.rs"]
mod memory;
#[path = "../soak/observed.rs"]
mod observed;
#[path = "../soak/oracle/mod.rs"]
mod oracle;
#[path = "../soak/parse.rs"]
mod parse;
#[path = "../soak/plan.rs"]
mod plan;

mod figures;
mod plans;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use medusa_fleet::api::labels;
use rstest::rstest;
use serde_json::json;

use crate::{
    observed::{Disturbance, End, HomeNow, Made, Observed, Open, PlaneNow, Run, RunPart, What},
    oracle::{Finding, Rule, findings},
};

fn at(second: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_000_000 + second)
}

/// One run over two data planes, and all as it should be.
fn good() -> Observed {
    let part = |plane: &str| RunPart {
        plane: plane.to_owned(),
        datacenter: "dc1".to_owned(),
        job: "nightly-dc1-0a".to_owned(),
        attempts: 1,
        phase: "Succeeded".to_owned(),
        finished: Some(at(20)),
        ..RunPart::default()
    };
    let made = |plane: &str| Made {
        plane: plane.to_owned(),
        resource: "medusabackupjobs".to_owned(),
        name: "nightly-dc1-0a".to_owned(),
        uid: format!("made-{plane}"),
        owner: "run".to_owned(),
        datacenter: "dc1".to_owned(),
        at: at(12),
        deleted: None,
        end: End::Good,
    };
    let run = Run {
        kind: "FleetBackupJob".to_owned(),
        name: "nightly".to_owned(),
        uid: "run".to_owned(),
        created: at(10),
        policy: "Wait".to_owned(),
        phase: "Succeeded".to_owned(),
        finished: Some(at(20)),
        entries: vec![part("a"), part("b")],
        ..Run::default()
    };
    let idle = Open { watches: 9, connections: 2 };
    let contents = |kind: &str| [("shared".to_owned(), kind.to_owned())].into();
    let plane = PlaneNow {
        secrets: contents("secret"),
        configurations: contents("configuration"),
        backups: ["nightly-dc1-0a".to_owned()].into(),
        open: idle,
        held: 2,
    };
    let names = ["a", "b"].map(str::to_owned);
    Observed {
        runs: vec![run],
        made: vec![made("a"), made("b")],
        planes: names.clone().map(|name| (name, plane.clone())).into(),
        home: HomeNow {
            registered: names.clone().into(),
            data_planes: ["a", "b", "local"].map(|name| (name.to_owned(), String::new())).into(),
            secrets: contents("secret"),
            configurations: contents("configuration"),
            backups: names.map(|name| (name, "nightly-dc1-0a".to_owned())).into(),
            ..HomeNow::default()
        },
        idle,
        starts: 1,
        ..Observed::default()
    }
}

fn after(change: impl FnOnce(&mut Observed)) -> Vec<Rule> {
    let mut seen = good();
    change(&mut seen);
    findings(&seen).into_iter().map(|Finding { rule, .. }| rule).collect()
}

fn disturbed(what: What, plane: &str, from: i64, until: Option<i64>) -> Disturbance {
    Disturbance { plane: plane.to_owned(), what, from: at(from), until: until.map(at) }
}

/// The data plane `b` leaves, as one that is unregistered should.
fn leave(seen: &mut Observed) {
    seen.disturbances.push(disturbed(What::Unregistered, "b", 15, None));
    seen.home.registered.remove("b");
    seen.home.data_planes.remove("b");
    seen.home.backups.retain(|(plane, _)| plane == "a");
    let left = seen.planes.get_mut("b").unwrap();
    *left = PlaneNow { backups: left.backups.clone(), ..PlaneNow::default() };
}

/// The part of `b` was not done, with nothing made.
fn undone(seen: &mut Observed, phase: &str) {
    seen.made.pop();
    let run = &mut seen.runs[0];
    phase.clone_into(&mut run.entries[1].phase);
    run.entries[1].attempts = 0;
    if phase == "Failed" { "PartiallyFailed" } else { "Succeeded" }.clone_into(&mut run.phase);
}

#[test]
fn where_all_is_as_it_should_be_there_is_no_finding() {
    assert_eq!(after(|_| {}), []);
    assert_eq!(after(leave), []);
}

#[rstest]
#[case::goes_on(|run: &mut Run| { run.phase = "Running".to_owned(); run.entries[0].finished = None; }, Rule::NotOver)]
#[case::never_begun(|run: &mut Run| run.phase = String::new(), Rule::NotOver)]
#[case::no_entry(|run: &mut Run| { run.entries.remove(1); }, Rule::Lost)]
#[case::never_made(|run: &mut Run| run.entries[0].job = "other".to_owned(), Rule::Lost)]
#[case::wrong_sum(|run: &mut Run| run.phase = "PartiallyFailed".to_owned(), Rule::WrongVerdict)]
#[case::cancelled_by_nobody(|run: &mut Run| run.phase = "Cancelled".to_owned(), Rule::WrongVerdict)]
#[case::good_is_called_failed(
    |run: &mut Run| { run.entries[0].phase = "Failed".to_owned(); run.phase = "PartiallyFailed".to_owned(); },
    Rule::WrongVerdict
)]
#[case::failed_without_a_datacenter(
    |run: &mut Run| { run.named = vec!["a".to_owned()]; run.entries.clear(); run.phase = "Failed".to_owned(); },
    Rule::WrongVerdict
)]
fn what_is_wrong_with_a_run_is_found(#[case] change: impl FnOnce(&mut Run), #[case] rule: Rule) {
    let found = after(|seen| change(&mut seen.runs[0]));
    assert!(found.contains(&rule), "{found:?}");
}

#[test]
fn a_run_that_is_gone_need_not_have_ended() {
    let found = after(|seen| {
        seen.runs[0].phase = "Running".to_owned();
        seen.runs[0].is_gone = true;
        seen.made.iter_mut().for_each(|made| made.deleted = Some(at(30)));
    });
    assert_eq!(found, []);
}

#[test]
fn what_is_made_twice_is_found() {
    let again = |name: &str, uid: &str| {
        let (name, uid) = (name.to_owned(), uid.to_owned());
        move |seen: &mut Observed| {
            let made = Made { name, uid, deleted: Some(at(30)), ..seen.made[0].clone() };
            seen.made.push(made);
        }
    };
    assert_eq!(after(again("nightly-dc1-0a", "again")), [Rule::Doubled, Rule::Doubled], "the same name");
    assert_eq!(
        after(again("nightly-dc1-r2x0a", "again")),
        [Rule::Doubled],
        "an attempt that nobody knows of"
    );
    let known = |seen: &mut Observed| {
        seen.runs[0].entries[0].attempts = 2;
        again("nightly-dc1-r2x0a", "again")(seen);
    };
    assert_eq!(after(known), []);
    let slot = |seen: &mut Observed| seen.runs.push(Run { uid: "twin".to_owned(), ..seen.runs[0].clone() });
    assert!(after(slot).contains(&Rule::Doubled), "a slot that ran twice");
}

#[test]
fn what_a_schedule_keeps_is_made_again_only_with_a_registration() {
    let again = |seen: &mut Observed| {
        for uid in ["one", "two"] {
            let made = Made {
                resource: "medusabackupschedules".to_owned(),
                uid: uid.to_owned(),
                owner: "schedule".to_owned(),
                deleted: Some(at(30)),
                ..seen.made[1].clone()
            };
            seen.made.push(made);
        }
    };
    assert_eq!(after(again), [Rule::Doubled]);
    let registered_again = |seen: &mut Observed| {
        again(seen);
        seen.disturbances.push(disturbed(What::Unregistered, "b", 31, Some(32)));
    };
    assert_eq!(after(registered_again), []);
}

#[test]
fn what_nobody_asked_for_is_found() {
    assert_eq!(after(|seen| seen.made[0].owner = "nobody".to_owned()), [Rule::Lost, Rule::Unexplained]);
    let elsewhere = |seen: &mut Observed| {
        let made = Made { plane: "c".to_owned(), uid: "c".to_owned(), ..seen.made[0].clone() };
        seen.made.push(made);
    };
    assert_eq!(after(elsewhere), [Rule::Unexplained]);
}

#[rstest]
#[case::bad(End::Bad)]
#[case::going(End::Going)]
#[case::untouched(End::Untouched)]
fn what_has_not_ended_well_has_not_succeeded(#[case] end: End) {
    assert_eq!(after(|seen| seen.made[0].end = end), [Rule::WrongVerdict]);
}

#[rstest]
#[case::waits("Wait", "Failed", true, false)]
#[case::waits_and_skips("Wait", "Skipped", true, false)]
#[case::skips("Skip", "Skipped", true, true)]
#[case::skips_and_fails("Skip", "Failed", true, false)]
#[case::fails("Fail", "Failed", true, true)]
#[case::fails_and_skips("Fail", "Skipped", true, false)]
#[case::skips_for_nothing("Skip", "Skipped", false, false)]
#[case::fails_for_nothing("Fail", "Failed", false, false)]
fn only_a_policy_and_a_fault_excuse_what_was_not_done(
    #[case] policy: &str,
    #[case] phase: &str,
    #[case] has_fault: bool,
    #[case] is_excused: bool,
) {
    let found = after(|seen| {
        undone(seen, phase);
        policy.clone_into(&mut seen.runs[0].policy);
        if has_fault {
            seen.disturbances.push(disturbed(What::Fault, "b", 5, Some(15)));
        }
    });
    assert_eq!(found.is_empty(), is_excused, "{found:?}");
}

#[test]
fn a_fault_elsewhere_long_before_or_afterwards_is_no_excuse() {
    for (plane, from, until) in [("a", 5, 15), ("b", -90, -60), ("b", 25, 30), ("b", 22, 24)] {
        let found = after(|seen| {
            undone(seen, "Skipped");
            "Skip".clone_into(&mut seen.runs[0].policy);
            seen.disturbances.push(disturbed(What::Fault, plane, from, Some(until)));
        });
        assert_eq!(found, [Rule::WrongVerdict], "{plane} {from}");
    }
}

#[test]
fn a_run_that_was_called_off_and_a_data_plane_that_left_are_excused() {
    let cancelled = |seen: &mut Observed| {
        undone(seen, "Skipped");
        seen.runs[0].is_cancelled = true;
        "Cancelled".clone_into(&mut seen.runs[0].phase);
    };
    assert_eq!(after(cancelled), []);
    let left = |seen: &mut Observed| {
        leave(seen);
        undone(seen, "Failed");
    };
    assert_eq!(after(left), []);
}

#[test]
fn a_purge_is_refused_only_where_backups_had_overlapped() {
    let refused = |other_ended: i64| {
        after(|seen| {
            let part = |reason: &str, job: &str, phase: &str, end: i64| RunPart {
                reason: reason.to_owned(),
                job: job.to_owned(),
                phase: phase.to_owned(),
                finished: Some(at(end)),
                ..seen.runs[0].entries[0].clone()
            };
            let run = |kind: &str, part: RunPart| Run {
                kind: kind.to_owned(),
                name: kind.to_owned(),
                uid: kind.to_owned(),
                named: vec!["a".to_owned()],
                phase: part.phase.clone(),
                entries: vec![part],
                ..seen.runs[0].clone()
            };
            let other = run("FleetBackupJob", part("", "other", "Succeeded", other_ended));
            let purge = run("FleetTask", part("WouldRemoveLastRestorePoint", "", "Failed", 30));
            let made = Made {
                name: "other".to_owned(),
                uid: "other".to_owned(),
                owner: other.uid.clone(),
                at: at(5),
                ..seen.made[0].clone()
            };
            seen.made.push(made);
            seen.runs.extend([other, purge]);
        })
    };
    assert_eq!(refused(14), []);
    assert_eq!(refused(8), [Rule::WrongVerdict]);
}

type Change = fn(&mut Observed);

#[rstest]
#[case::not_ready(|seen: &mut Observed| { seen.home.data_planes.insert("a".into(), "TimedOut".into()); }, Rule::NotReady)]
#[case::no_data_plane(|seen: &mut Observed| { seen.home.data_planes.remove("a"); }, Rule::NotReady)]
#[case::unregistered_and_there(|seen: &mut Observed| { leave(seen); seen.home.data_planes.insert("b".into(), String::new()); }, Rule::NotReady)]
#[case::old_secret(|seen: &mut Observed| { plane_of(seen).secrets.insert("shared".into(), "old".into()); }, Rule::Copies)]
#[case::no_copy(|seen: &mut Observed| { plane_of(seen).configurations.clear(); }, Rule::Copies)]
#[case::surplus_copy(|seen: &mut Observed| { plane_of(seen).secrets.insert("passing".into(), "x".into()); }, Rule::Copies)]
#[case::copies_in_what_left(|seen: &mut Observed| { leave(seen); plane_of(seen).secrets.insert("shared".into(), "secret".into()); }, Rule::Copies)]
#[case::untold_backup(|seen: &mut Observed| { plane_of(seen).backups.insert("more".into()); }, Rule::Inventory)]
#[case::untrue_backup(|seen: &mut Observed| { plane_of(seen).backups.clear(); }, Rule::Inventory)]
#[case::child_of_a_run_that_is_gone(|seen: &mut Observed| seen.runs[0].is_gone = true, Rule::LeftOver)]
#[case::schedule(|seen: &mut Observed| { seen.home.schedules.insert("schedule-1".into()); }, Rule::LeftOver)]
#[case::watch(|seen: &mut Observed| plane_of(seen).open.watches = 10, Rule::Open)]
#[case::connection(|seen: &mut Observed| plane_of(seen).open.connections = 3, Rule::Open)]
#[case::connection_to_what_left(|seen: &mut Observed| { leave(seen); plane_of(seen).open.connections = 1; }, Rule::Open)]
#[case::events(|seen: &mut Observed| { seen.home.events.insert(("FleetBackupJob".into(), "n".into(), "R".into()), 10); }, Rule::Events)]
fn what_is_left_over_or_differs_is_found(#[case] change: Change, #[case] rule: Rule) {
    assert_eq!(after(change).into_iter().collect::<BTreeSet<Rule>>(), [rule].into());
}

fn plane_of(seen: &mut Observed) -> &mut PlaneNow {
    seen.planes.get_mut("b").unwrap()
}

#[test]
fn what_a_schedule_kept_in_a_data_plane_goes_with_it() {
    let kept = |seen: &mut Observed| {
        let made = Made {
            resource: "medusabackupschedules".to_owned(),
            name: "schedule-1-dc1-0b".to_owned(),
            owner: "schedule".to_owned(),
            ..seen.made[0].clone()
        };
        seen.made.push(made);
    };
    assert_eq!(after(kept), [Rule::LeftOver]);
    let taken_back = |seen: &mut Observed| {
        kept(seen);
        seen.made[2].deleted = Some(at(30));
    };
    assert_eq!(after(taken_back), []);
}

#[test]
fn what_a_data_plane_kept_when_it_was_unregistered_stays_there() {
    let gone = |seen: &mut Observed, since: i64| {
        leave(seen);
        seen.disturbances[0].from = at(since);
        seen.runs[0].is_gone = true;
        seen.made[0].deleted = Some(at(40));
    };
    assert_eq!(after(|seen| gone(seen, 15)), []);
    let before = |seen: &mut Observed| {
        seen.runs[0].is_gone = true;
        seen.made[0].deleted = Some(at(40));
        seen.disturbances.push(disturbed(What::Unregistered, "b", -90, Some(-60)));
    };
    assert_eq!(after(before), [Rule::LeftOver], "it was made after that");
}

#[test]
fn a_name_does_not_say_what_is_in_a_secret() {
    let mut seen = good();
    plane_of(&mut seen).secrets.insert("shared".into(), "hunter2".into());
    let said: Vec<String> = findings(&seen).iter().map(ToString::to_string).collect();
    assert_eq!(said, ["Copies: Secret shared in b differs from its source"]);
}

#[test]
fn what_is_read_of_a_run_and_of_what_it_made() {
    let run = parse::run(
        "FleetBackupJob",
        &json!({
            "metadata": {"name": "n", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"selector": {"dataPlanes": ["a"]}, "unreachablePolicy": "Skip", "cancel": true},
            "status": {"phase": "Cancelled", "finishTime": "2026-01-01T00:00:09Z", "datacenters": [{
                "dataPlane": "a", "datacenter": "dc1", "job": "n-dc1-u", "attempts": 2, "phase": "Skipped",
                "reason": "Cancelled", "finishTime": "2026-01-01T00:00:08Z"}]},
        }),
    );
    assert_eq!((run.named, run.policy.as_str(), run.is_cancelled), (vec!["a".to_owned()], "Skip", true));
    assert_eq!(run.finished, Some("2026-01-01T00:00:09Z".parse().unwrap()));
    let [part] = &run.entries[..] else { panic!("{:?}", run.entries) };
    assert_eq!((part.attempts, part.phase.as_str(), part.job.as_str()), (2, "Skipped", "n-dc1-u"));
    let made = parse::made(&json!({
        "at": "2026-01-01T00:00:00.5Z", "plane": "a", "resource": "medusabackupjobs", "name": "n-dc1-u", "uid": "m",
        "labels": {labels::JOB_UID: "u", labels::CASSANDRA_DATACENTER: "dc1"},
    }));
    assert_eq!((made.owner.as_str(), made.datacenter.as_str()), ("u", "dc1"));
    let status = |status| parse::end(&json!({"status": status}), 2);
    assert_eq!(status(json!({})), End::Untouched);
    assert_eq!(status(json!({"startTime": "t"})), End::Going);
    assert_eq!(status(json!({"startTime": "t", "finishTime": "t", "finished": ["p", "q"]})), End::Good);
    assert_eq!(status(json!({"startTime": "t", "finishTime": "t", "finished": ["p"]})), End::Bad);
    assert_eq!(
        status(json!({"startTime": "t", "finishTime": "t", "finished": ["p", "q"], "failed": ["r"]})),
        End::Bad
    );
}
