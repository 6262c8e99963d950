//! The board: what is listed, who may run, and who is woken.

use serde_json::{Value, json};

use super::*;
use crate::api::medusa::MedusaBackupJob;

fn job(name: &str, schedule: &str, status: Value) -> MedusaBackupJob {
    serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": "ns", "uid": format!("uid-{name}"),
            "labels": {crate::api::labels::SCHEDULE: schedule},
        },
        "spec": {"cassandraDatacenter": "dc1"}, "status": status,
    }))
    .unwrap()
}

fn planned(name: &str, schedule: &str) -> Run {
    Run { uid: String::new(), ..Run::of_job(&job(name, schedule, json!({}))) }
}

fn ended() -> Value {
    json!({"finishTime": "2026-03-01T00:00:00Z", "finished": ["a"]})
}

fn note(board: &Board, event: Event<MedusaBackupJob>) -> Wake {
    board.note_run(&None, Source::Jobs, Ok(event), |job| Some(Run::of_job(job)))
}

fn is_free(board: &Board, name: &str, schedule: &str, policy: Policy) -> bool {
    matches!(board.claim(&planned(name, schedule), schedule, policy), Claim::Free(_))
}

fn datacenter(uid: &str, more: Value) -> CassandraDatacenter {
    serde_json::from_value(json!({
        "metadata": {"name": "dc1", "namespace": "ns", "uid": uid, "annotations": more},
        "spec": {"clusterName": "shop"},
    }))
    .unwrap()
}

fn note_datacenter(board: &Board, event: Event<CassandraDatacenter>) -> Wake {
    board.note_datacenter(&None, Ok(event), |datacenter| Some(datacenter.clone()))
}

fn woken(names: &[&str], label: &str) -> Wake {
    Wake::Some("ns".to_owned(), names.iter().map(|n| (*n).to_owned()).collect(), Some(label.to_owned()))
}

#[test]
fn nothing_is_known_before_all_is_listed() {
    let board = Board::default();
    for done in [Source::Jobs, Source::Tasks] {
        board.note_run::<MedusaBackupJob>(&None, done, Ok(Event::Init), |_| None);
        assert_eq!(
            board.note_run::<MedusaBackupJob>(&None, done, Ok(Event::InitDone), |_| None),
            Wake::All(None)
        );
        assert!(!board.is_listed("ns"));
    }
    note_datacenter(&board, Event::Init);
    note_datacenter(&board, Event::InitDone);
    assert!(board.is_listed("ns"));
}

#[test]
fn one_namespace_does_not_wait_for_another() {
    let board = Board::default();
    let scope = Some("ns".to_owned());
    for done in [Source::Jobs, Source::Tasks] {
        board.note_run::<MedusaBackupJob>(&scope, done, Ok(Event::InitDone), |_| None);
    }
    board.note_datacenter::<CassandraDatacenter>(&scope, Ok(Event::InitDone), |_| None);
    assert!(board.is_listed("ns") && !board.is_listed("other"));
}

#[test]
fn a_definition_that_is_not_served_has_no_objects_and_an_error_says_nothing() {
    let board = Board::default();
    let answer = |code: u16, reason: &str| {
        let status = json!({"status": "Failure", "code": code, "reason": reason, "message": ""});
        WatchError::InitialListFailed(kube::Error::Api(serde_json::from_value(status).unwrap()))
    };
    let note = |error| board.note_datacenter::<CassandraDatacenter>(&None, Err(error), |_| None);
    assert_eq!(note(answer(503, "ServiceUnavailable")), Wake::Nobody);
    assert_eq!(note(answer(404, "NotFound")), Wake::All(None));
    assert_eq!(note(answer(404, "NotFound")), Wake::Nobody);
}

#[test]
fn two_that_are_due_together_do_not_both_find_it_free() {
    let board = Board::default();
    assert!(is_free(&board, "a-1", "a", Policy::Forbid));
    assert!(!is_free(&board, "b-1", "b", Policy::Forbid));
    assert!(is_free(&board, "a-1", "a", Policy::Forbid), "its own claim does not stand in its way");
    assert!(is_free(&board, "c-1", "c", Policy::Allow));
    board.release(&planned("a-1", "a"));
    board.release(&planned("c-1", "c"));
    assert!(is_free(&board, "b-1", "b", Policy::Forbid));
}

#[test]
fn the_end_of_a_run_wakes_who_waits_for_it_and_who_made_it() {
    let board = Board::default();
    assert_eq!(note(&board, Event::Apply(job("a-1", "a", json!({})))), Wake::Nobody);
    assert!(!is_free(&board, "b-1", "b", Policy::Forbid));
    assert_eq!(note(&board, Event::Apply(job("a-1", "a", json!({"inProgress": ["x"]})))), Wake::Nobody);
    assert_eq!(note(&board, Event::Apply(job("a-1", "a", ended()))), woken(&["b"], "a"));
    assert!(is_free(&board, "b-1", "b", Policy::Forbid));
    assert!(!is_free(&board, "a-2", "a", Policy::Forbid));
    assert_eq!(note(&board, Event::Delete(job("b-1", "b", json!({})))), woken(&["a"], "b"));
}

#[test]
fn replace_names_the_schedules_own_runs_only() {
    let board = Board::default();
    note(&board, Event::Apply(job("a-1", "a", json!({}))));
    note(&board, Event::Apply(job("b-1", "b", json!({}))));
    note(&board, Event::Apply(job("a-0", "a", ended())));
    let Claim::Free(replaced) = board.claim(&planned("a-2", "a"), "a", Policy::Replace) else {
        panic!("free")
    };
    assert_eq!(replaced.iter().map(|run| run.name.as_str()).collect::<Vec<_>>(), ["a-1"]);
}

#[test]
fn a_new_listing_removes_what_it_does_not_bring_but_not_what_was_just_created() {
    let board = Board::default();
    note(&board, Event::Apply(job("gone", "a", json!({}))));
    assert!(is_free(&board, "claimed", "a", Policy::Allow));
    note(&board, Event::Init);
    note(&board, Event::InitApply(job("stays", "a", json!({}))));
    board.settle(Run::of_job(&job("made", "a", json!({}))));
    assert_eq!(note(&board, Event::InitDone), Wake::All(None));
    let mut names: Vec<String> = board.runs_of("ns", "a").into_iter().map(|run| run.name).collect();
    names.sort();
    assert_eq!(names, ["claimed", "made", "stays"]);
}

#[test]
fn only_what_matters_of_a_datacenter_wakes() {
    let board = Board::default();
    let here = || Wake::All(Some("ns".to_owned()));
    assert_eq!(note_datacenter(&board, Event::Apply(datacenter("1", json!({})))), here());
    assert_eq!(note_datacenter(&board, Event::Apply(datacenter("1", json!({"a": "b"})))), Wake::Nobody);
    assert_eq!(note_datacenter(&board, Event::Apply(datacenter("2", json!({})))), here());
    assert!(board.datacenter("dc1", "ns", &[]).is_ok());
    assert_eq!(note_datacenter(&board, Event::Delete(datacenter("2", json!({})))), here());
    assert!(board.datacenter("dc1", "ns", &[]).is_err());
}

#[test]
fn what_cannot_be_read_is_not_gone() {
    let board = Board::default();
    note_datacenter(&board, Event::Apply(datacenter("1", json!({}))));
    let spoiled = Event::Apply(datacenter("1", json!({})));
    assert_eq!(board.note_datacenter(&None, Ok(spoiled), |_| None), Wake::Nobody);
    assert!(board.datacenter("dc1", "ns", &[]).is_ok());

    note(&board, Event::Apply(job("a-1", "a", json!({}))));
    let spoiled = Event::Apply(job("a-1", "a", json!({})));
    assert_eq!(board.note_run(&None, Source::Jobs, Ok(spoiled), |_| None), Wake::Nobody);
    assert!(!is_free(&board, "a-2", "a", Policy::Forbid));
}
