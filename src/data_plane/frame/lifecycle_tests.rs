//! Tests of `lifecycle.rs`: what a claim, the waiting and the end write.

use rstest::rstest;
use serde_json::json;

use super::*;
use crate::{
    api::Conditions as _,
    data_plane::frame::outcome::{COMPLETE, FAILED, fail, step, succeed, wait},
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A status that is claimed with these pods.
fn claimed<S: PodsStatus>(pods: &[&str]) -> S {
    let mut status = S::default();
    status.start(pods.iter().map(|pod| (*pod).to_owned()).collect(), at(5));
    step(&mut status, Reason::Running, "backing up", Some(1), at(5));
    status
}

#[test]
fn the_patch_empties_lists_and_holds_to_the_version_it_was_made_from() {
    let mut status: MedusaBackupJobStatus = claimed(&["a"]);
    let written = patch("7", &status);
    assert_eq!(written["metadata"]["resourceVersion"], "7");
    assert_eq!(written["status"]["inProgress"], json!(["a"]));
    assert_eq!(written["status"]["startTime"], "1970-01-01T00:00:05Z");
    assert!(written["status"]["finishTime"].is_null());
    status.in_progress.clear();
    assert!(patch("8", &status)["status"]["inProgress"].is_null());
    assert!(patch("9", &MedusaTaskStatus::default())["status"]["inProgress"].is_null());
}

#[test]
fn conditions_say_unknown_until_the_end() {
    let mut status = MedusaBackupJobStatus::default();
    wait(&mut status, &Problem::new(Reason::NoPods, "none".to_owned()), None, at(1));
    assert_eq!(status.conditions.of_type(COMPLETE).unwrap().status, "Unknown");
    assert_eq!(status.message.as_deref(), Some("none"));
    let mut status: MedusaBackupJobStatus = claimed(&["a"]);
    assert_eq!(status.conditions.of_type(COMPLETE).unwrap().status, "Unknown");
    assert_eq!(status.message, None);
    let mut bad = status.clone();
    succeed(&mut status, "done", None, at(3));
    assert!(status.conditions.is_true(COMPLETE) && !status.conditions.is_true(FAILED));
    fail(&mut bad, Reason::PodGone, "gone", None, at(3));
    assert!(bad.conditions.is_true(FAILED) && !bad.conditions.is_true(COMPLETE));
    assert_eq!(bad.times(), (Some(at(5)), Some(at(3))));
}

#[rstest]
#[case::whoever_was_not_done(&[], &["c", "a", "b"])]
#[case::those_it_is_about(&["b"], &["b"])]
fn a_run_that_is_given_up_fails_the_pods_that_were_not_done(#[case] about: &[&str], #[case] failed: &[&str]) {
    let mut status: MedusaTaskStatus = claimed(&["a", "b"]);
    status.failed = vec!["c".to_owned()];
    let pods = about.iter().map(|pod| (*pod).to_owned()).collect();
    status.give_up(&Problem { pods, ..Problem::new(Reason::NoPods, "none".to_owned()) });
    assert_eq!(
        (status.failed.as_slice(), status.in_progress.len()),
        (failed.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>().as_slice(), 0)
    );
}
