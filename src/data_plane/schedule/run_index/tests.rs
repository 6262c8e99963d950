//! The index: what is listed, who may run, and who is woken.

use proptest::prelude::*;
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

fn planned(name: &str, schedule: &str) -> ScheduleRun {
    ScheduleRun { uid: String::new(), ..ScheduleRun::of_job(&job(name, schedule, json!({}))) }
}

fn ended() -> Value {
    json!({"finishTime": "2026-03-01T00:00:00Z", "finished": ["a"]})
}

fn note(run_index: &RunIndex, event: Event<MedusaBackupJob>) -> Wake {
    run_index.note_run(&None, Source::Jobs, Ok(event), |job| Some(ScheduleRun::of_job(job)))
}

fn is_free(run_index: &RunIndex, name: &str, schedule: &str, policy: Policy) -> bool {
    matches!(run_index.claim(&planned(name, schedule), schedule, policy), Claim::Free(_))
}

fn datacenter(uid: &str, more: Value) -> CassandraDatacenter {
    serde_json::from_value(json!({
        "metadata": {"name": "dc1", "namespace": "ns", "uid": uid, "annotations": more},
        "spec": {"clusterName": "shop"},
    }))
    .unwrap()
}

fn note_datacenter(run_index: &RunIndex, event: Event<CassandraDatacenter>) -> Wake {
    run_index.note_datacenter(&None, Ok(event), |datacenter| Some(datacenter.clone()))
}

fn woken(names: &[&str], label: &str) -> Wake {
    Wake::Some("ns".to_owned(), names.iter().map(|n| (*n).to_owned()).collect(), Some(label.to_owned()))
}

#[test]
fn nothing_is_known_before_all_is_listed() {
    let run_index = RunIndex::default();
    for done in [Source::Jobs, Source::Tasks] {
        run_index.note_run::<MedusaBackupJob>(&None, done, Ok(Event::Init), |_| None);
        assert_eq!(
            run_index.note_run::<MedusaBackupJob>(&None, done, Ok(Event::InitDone), |_| None),
            Wake::All(None)
        );
        assert!(!run_index.is_listed("ns"));
    }
    note_datacenter(&run_index, Event::Init);
    note_datacenter(&run_index, Event::InitDone);
    assert!(run_index.is_listed("ns"));
}

#[test]
fn one_namespace_does_not_wait_for_another() {
    let run_index = RunIndex::default();
    let scope = Some("ns".to_owned());
    for done in [Source::Jobs, Source::Tasks] {
        run_index.note_run::<MedusaBackupJob>(&scope, done, Ok(Event::InitDone), |_| None);
    }
    run_index.note_datacenter::<CassandraDatacenter>(&scope, Ok(Event::InitDone), |_| None);
    assert!(run_index.is_listed("ns") && !run_index.is_listed("other"));
}

#[test]
fn a_definition_that_is_not_served_has_no_objects_and_an_error_says_nothing() {
    let run_index = RunIndex::default();
    let answer = |code: u16, reason: &str| {
        let status = json!({"status": "Failure", "code": code, "reason": reason, "message": ""});
        WatchError::InitialListFailed(kube::Error::Api(serde_json::from_value(status).unwrap()))
    };
    let note = |error| run_index.note_datacenter::<CassandraDatacenter>(&None, Err(error), |_| None);
    assert_eq!(note(answer(503, "ServiceUnavailable")), Wake::Nobody);
    assert_eq!(note(answer(404, "NotFound")), Wake::All(None));
    assert_eq!(note(answer(404, "NotFound")), Wake::Nobody);
}

#[test]
fn two_that_are_due_together_do_not_both_find_it_free() {
    let run_index = RunIndex::default();
    assert!(is_free(&run_index, "a-1", "a", Policy::Forbid));
    assert!(!is_free(&run_index, "b-1", "b", Policy::Forbid));
    assert!(is_free(&run_index, "a-1", "a", Policy::Forbid), "its own claim does not stand in its way");
    assert!(is_free(&run_index, "c-1", "c", Policy::Allow));
    run_index.release(&planned("a-1", "a"));
    run_index.release(&planned("c-1", "c"));
    assert!(is_free(&run_index, "b-1", "b", Policy::Forbid));
}

#[test]
fn the_end_of_a_run_wakes_who_waits_for_it_and_who_made_it() {
    let run_index = RunIndex::default();
    assert_eq!(note(&run_index, Event::Apply(job("a-1", "a", json!({})))), Wake::Nobody);
    assert!(!is_free(&run_index, "b-1", "b", Policy::Forbid));
    assert_eq!(note(&run_index, Event::Apply(job("a-1", "a", json!({"inProgress": ["x"]})))), Wake::Nobody);
    assert_eq!(note(&run_index, Event::Apply(job("a-1", "a", ended()))), woken(&["b"], "a"));
    assert!(is_free(&run_index, "b-1", "b", Policy::Forbid));
    assert!(!is_free(&run_index, "a-2", "a", Policy::Forbid));
    assert_eq!(note(&run_index, Event::Delete(job("b-1", "b", json!({})))), woken(&["a"], "b"));
}

#[test]
fn replace_names_the_schedules_own_runs_only() {
    let run_index = RunIndex::default();
    note(&run_index, Event::Apply(job("a-1", "a", json!({}))));
    note(&run_index, Event::Apply(job("b-1", "b", json!({}))));
    note(&run_index, Event::Apply(job("a-0", "a", ended())));
    let Claim::Free(replaced) = run_index.claim(&planned("a-2", "a"), "a", Policy::Replace) else {
        panic!("free")
    };
    assert_eq!(replaced.iter().map(|run| run.name.as_str()).collect::<Vec<_>>(), ["a-1"]);
}

#[test]
fn a_new_listing_removes_what_it_does_not_bring_but_not_what_was_just_created() {
    let run_index = RunIndex::default();
    note(&run_index, Event::Apply(job("gone", "a", json!({}))));
    assert!(is_free(&run_index, "claimed", "a", Policy::Allow));
    note(&run_index, Event::Init);
    note(&run_index, Event::InitApply(job("stays", "a", json!({}))));
    run_index.settle(ScheduleRun::of_job(&job("made", "a", json!({}))));
    assert_eq!(note(&run_index, Event::InitDone), Wake::All(None));
    let mut names: Vec<String> = run_index.runs_of("ns", "a").into_iter().map(|run| run.name).collect();
    names.sort();
    assert_eq!(names, ["claimed", "made", "stays"]);
}

#[test]
fn only_what_matters_of_a_datacenter_wakes() {
    let run_index = RunIndex::default();
    let here = || Wake::All(Some("ns".to_owned()));
    assert_eq!(note_datacenter(&run_index, Event::Apply(datacenter("1", json!({})))), here());
    assert_eq!(note_datacenter(&run_index, Event::Apply(datacenter("1", json!({"a": "b"})))), Wake::Nobody);
    assert_eq!(note_datacenter(&run_index, Event::Apply(datacenter("2", json!({})))), here());
    assert!(run_index.datacenter("dc1", "ns", &[]).is_ok());
    assert_eq!(note_datacenter(&run_index, Event::Delete(datacenter("2", json!({})))), here());
    assert!(run_index.datacenter("dc1", "ns", &[]).is_err());
}

#[test]
fn what_cannot_be_read_is_not_gone() {
    let run_index = RunIndex::default();
    note_datacenter(&run_index, Event::Apply(datacenter("1", json!({}))));
    let spoiled = Event::Apply(datacenter("1", json!({})));
    assert_eq!(run_index.note_datacenter(&None, Ok(spoiled), |_| None), Wake::Nobody);
    assert!(run_index.datacenter("dc1", "ns", &[]).is_ok());

    note(&run_index, Event::Apply(job("a-1", "a", json!({}))));
    let spoiled = Event::Apply(job("a-1", "a", json!({})));
    assert_eq!(run_index.note_run(&None, Source::Jobs, Ok(spoiled), |_| None), Wake::Nobody);
    assert!(!is_free(&run_index, "a-2", "a", Policy::Forbid));
}

/// What happens to the runs of one name.
#[derive(Clone, Debug)]
enum Happens {
    /// A schedule claims the name and makes its run, if the name is free; the answer comes, or the process dies.
    Made { answered: bool },
    /// It is asked to go.
    Deleted,
    /// It goes.
    Released,
    /// The watch brings the next that happened.
    Brought,
    /// The watch lists all anew.
    Listed,
    /// The process starts anew.
    Restarted,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        3 => any::<bool>().prop_map(|answered| Happens::Made { answered }),
        2 => Just(Happens::Deleted),
        3 => Just(Happens::Released),
        6 => Just(Happens::Brought),
        1 => Just(Happens::Listed),
        1 => Just(Happens::Restarted),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// However far the watch is behind: while a run that we made goes on, no other schedule finds its datacenter free,
    /// and in the end the index shows what is there.
    #[test]
    fn a_run_that_is_made_again_is_another_and_is_not_forgotten_with_the_former(
        story in prop::collection::vec(happens(), 0..60)
    ) {
        let made = |uid: u32, is_deleted: bool| {
            let mut job = job("a-1", "a", json!({}));
            job.metadata.uid = Some(format!("uid-{uid}"));
            let at = jiff::Timestamp::from_second(uid.into()).unwrap();
            job.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at));
            job.metadata.deletion_timestamp = job.metadata.creation_timestamp.clone().filter(|_| is_deleted);
            job
        };
        let claims = |run_index: &RunIndex, uid: u32| {
            let claim = ScheduleRun { uid: String::new(), ..ScheduleRun::of_job(&made(uid, false)) };
            matches!(run_index.claim(&claim, "a", Policy::Forbid), Claim::Free(_))
        };
        let list = |run_index: &RunIndex, there: Option<(u32, bool)>| {
            note(run_index, Event::Init);
            if let Some((uid, going)) = there {
                note(run_index, Event::InitApply(made(uid, going)));
            }
            note(run_index, Event::InitDone);
        };
        let mut run_index = RunIndex::default();
        let mut there: Option<(u32, bool)> = None;
        let mut ours = false;
        let mut news: std::collections::VecDeque<Event<MedusaBackupJob>> = std::collections::VecDeque::new();
        for (uid, step) in (1..).zip(story) {
            match step {
                // No slot runs again that shows a run of it.
                Happens::Made { answered } => if there.is_none()
                    && run_index.runs_of("ns", "a").is_empty()
                    && claims(&run_index, uid)
                {
                    there = Some((uid, false));
                    news.push_back(Event::Apply(made(uid, false)));
                    if answered {
                        run_index.settle(ScheduleRun::of_job(&made(uid, false)));
                    }
                    ours = true;
                },
                Happens::Deleted => if let Some((uid, is_going)) = &mut there {
                    (*is_going, ours) = (true, false);
                    news.push_back(Event::Apply(made(*uid, true)));
                },
                Happens::Released => if let Some((uid, true)) = there {
                    there = None;
                    news.push_back(Event::Delete(made(uid, true)));
                },
                Happens::Brought => if let Some(event) = news.pop_front() {
                    note(&run_index, event);
                },
                Happens::Listed => {
                    news.clear();
                    list(&run_index, there);
                }
                Happens::Restarted => {
                    (run_index, ours) = (RunIndex::default(), false);
                    news.clear();
                    list(&run_index, there);
                }
            }
            prop_assert!(!ours || !is_free(&run_index, "b-1", "b", Policy::Forbid), "after {uid} steps");
            run_index.release(&planned("b-1", "b"));
        }
        while let Some(event) = news.pop_front() {
            note(&run_index, event);
        }
        run_index.release(&planned("a-1", "a"));
        let known: Vec<(String, bool)> =
            run_index.runs_of("ns", "a").into_iter().map(|run| (run.uid, run.is_deleted)).collect();
        let expected: Vec<(String, bool)> =
            there.into_iter().map(|(uid, going)| (format!("uid-{uid}"), going)).collect();
        prop_assert_eq!(known, expected);
    }
}
