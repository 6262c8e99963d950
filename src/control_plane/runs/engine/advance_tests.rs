//! Each datacenter of a run, news by news.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::{
        fleet::{DatacenterTask, FleetBackupJob, FleetTask, UnreachablePolicy},
        labels,
        medusa::MedusaBackupJob,
    },
    control_plane::{
        data_planes::{records::BackupRecord, view::View},
        fanout::tests::{datacenter, fleet_job, inputs, live, made, pending, plane, silent},
        runs::buckets::Buckets,
    },
};

fn begun(job: &FleetBackupJob, entry: &DatacenterRun) -> DatacenterRun {
    DatacenterRun {
        phase: Phase::Running,
        job: Some(child_key(job, entry, 1).name),
        attempts: 1,
        created_time: Some(Time(Timestamp::UNIX_EPOCH)),
        ..entry.clone()
    }
}

fn good() -> Arc<BackupRecord> {
    Arc::new(BackupRecord {
        status: "SUCCESS".into(),
        total_nodes: 1,
        finished_nodes: 1,
        size_bytes: Some(2048),
        ..BackupRecord::default()
    })
}

fn ended(failed: &[&str]) -> Value {
    let finished: &[&str] = if failed.is_empty() { &["a"] } else { &[] };
    json!({"startTime": "1970-01-01T00:00:00Z", "finishTime": "1970-01-01T00:00:09Z", "finished": finished,
        "failed": failed})
}

fn view_with(job: &FleetBackupJob, entry: &DatacenterRun, children: &[(usize, Value)]) -> View {
    let mut view = live(&[datacenter("dc1", 1)]);
    for (attempt, status) in children {
        let (key, child) = made(job, entry, *attempt, status.clone());
        view.jobs.put(key, child);
    }
    view
}

fn at(job: &FleetBackupJob, entry: &DatacenterRun, view: View, second: i64) -> DatacenterRun {
    let planes = [plane("eu", view)];
    let inputs = inputs(job, &planes, second);
    advance(&inputs, std::slice::from_ref(entry), &Outcomes::new(), &FirstSeen::default()).remove(0)
}

fn said(entry: &DatacenterRun) -> (Phase, &str) {
    (entry.phase, entry.reason.as_deref().unwrap_or_default())
}

#[test]
fn a_proven_backup_succeeds() {
    let (job, entry) = (fleet_job("nightly"), pending("eu", "dc1"));
    let mut view = view_with(&job, &entry, &[(1, ended(&[]))]);
    view.backups.put(child_key(&job, &entry, 1), good());
    let entry = at(&job, &entry, view, 10);
    assert_eq!(said(&entry), (Phase::Succeeded, "Succeeded"));
    assert_eq!((entry.attempts, entry.size_bytes, entry.created_time), (1, Some(2048), None));
}

#[test]
fn a_silent_cluster_is_waited_for_and_neither_failed_nor_forgotten() {
    let mut job = fleet_job("nightly");
    let entry = begun(&job, &pending("eu", "dc1"));
    for policy in [UnreachablePolicy::Wait, UnreachablePolicy::Skip, UnreachablePolicy::Fail] {
        job.spec.run.unreachable_policy = policy;
        let entry = at(&job, &entry, silent(), 1_000_000);
        assert_eq!(said(&entry), (Phase::Running, "DataPlaneUnreachable"), "{policy:?}");
    }
}

#[test]
fn what_did_not_start_follows_the_policy() {
    for (policy, phase) in [
        (UnreachablePolicy::Wait, Phase::Pending),
        (UnreachablePolicy::Skip, Phase::Skipped),
        (UnreachablePolicy::Fail, Phase::Failed),
    ] {
        let mut job = fleet_job("nightly");
        job.spec.run.unreachable_policy = policy;
        assert_eq!(at(&job, &pending("eu", "dc1"), silent(), 0).phase, phase);
    }
}

#[test]
fn a_strangers_object_is_a_conflict() {
    let (job, entry) = (fleet_job("nightly"), pending("eu", "dc1"));
    let mut view = live(&[datacenter("dc1", 1)]);
    view.jobs.put(child_key(&job, &entry, 1), Arc::new(MedusaBackupJob::default()));
    assert_eq!(said(&at(&job, &entry, view, 0)), (Phase::Failed, "NameConflict"));
}

/// A child in data plane `eu` of that uid that was seen as it is since the beginning of time.
fn first_seen(key: ObjectKey, uid: &str) -> FirstSeen {
    let mut first_seen = FirstSeen::default();
    first_seen.set(("eu".to_owned(), key), uid, Timestamp::UNIX_EPOCH);
    first_seen
}

/// The uid of a child that [`made`] made.
fn uid_of(key: &ObjectKey) -> String {
    format!("uid-{}", key.name)
}

#[test]
fn a_child_that_is_made_again_is_not_judged_by_the_patience_with_the_former() {
    let job = fleet_job("nightly");
    let entry = begun(&job, &pending("eu", "dc1"));
    let (key, child) = made(&job, &entry, 1, ended(&[]));
    let mut view = live(&[datacenter("dc1", 1)]);
    view.jobs.put(key.clone(), child);
    let planes = [plane("eu", view)];
    let look = |uid: &str| {
        let first_seen = first_seen(key.clone(), uid);
        advance(
            &inputs(&job, &planes, 1_000_000),
            std::slice::from_ref(&entry),
            &Outcomes::new(),
            &first_seen,
        )
        .remove(0)
    };
    assert_eq!(look(&uid_of(&key)).phase, Phase::Failed);
    assert_eq!(said(&look("uid-of-the-former")), (Phase::Running, "AwaitingMedusaBackup"));
    assert_eq!(said(&look(MISSING)), (Phase::Running, "AwaitingMedusaBackup"));
}

#[test]
fn a_child_that_vanished_fails_after_a_moment_unless_its_backup_is_there() {
    let job = fleet_job("nightly");
    let entry = begun(&job, &pending("eu", "dc1"));
    let planes = [plane("eu", live(&[datacenter("dc1", 1)]))];
    let first_seen = first_seen(child_key(&job, &entry, 1), MISSING);
    let look = |second| {
        advance(&inputs(&job, &planes, second), std::slice::from_ref(&entry), &Outcomes::new(), &first_seen)
            .remove(0)
    };
    assert_eq!(look(4).phase, Phase::Running);
    assert_eq!(said(&look(5)), (Phase::Failed, "JobDeleted"));
    let mut view = live(&[datacenter("dc1", 1)]);
    view.backups.put(child_key(&job, &entry, 1), good());
    assert_eq!(at(&job, &entry, view, 5).phase, Phase::Succeeded);
}

#[test]
fn a_failed_attempt_is_followed_by_another_under_a_new_name_until_they_are_used_up() {
    let mut job = fleet_job("nightly");
    job.spec.run.rollout = serde_json::from_value(json!({"retriesPerDatacenter": 1})).unwrap();
    let first = begun(&job, &pending("eu", "dc1"));
    let failed = at(&job, &first, view_with(&job, &first, &[(1, ended(&["a"]))]), 100);
    assert_eq!(said(&failed), (Phase::Pending, "AwaitingRetry"));
    assert!(failed.message.as_ref().unwrap().contains("attempt 1 failed (NodesFailed)"));
    let later = at(&job, &failed, view_with(&job, &first, &[(1, ended(&["a"]))]), 105);
    assert_eq!(later, failed, "until its time comes nothing changes");

    let view = view_with(&job, &first, &[(1, ended(&["a"])), (2, json!({}))]);
    let second = at(&job, &failed, view.clone(), 110);
    assert_eq!(said(&second), (Phase::Running, "JobCreated"));
    assert_eq!(second.attempts, 2);
    assert!(second.job.as_ref().unwrap().contains("-r2x"));
    assert_eq!(second.created_time, Some(Time(Timestamp::from_second(110).unwrap())));
    assert_eq!(at(&job, &first, view, 110).attempts, 2, "made before a crash, found again");

    let view = view_with(&job, &first, &[(1, ended(&["a"])), (2, ended(&["a"]))]);
    let last = at(&job, &second, view.clone(), 120);
    assert_eq!(said(&last), (Phase::Failed, "NodesFailed"));
    job.spec.run.cancel = Some(true);
    job.spec.run.rollout = serde_json::from_value(json!({"retriesPerDatacenter": 9})).unwrap();
    assert_eq!(at(&job, &second, view, 120).phase, Phase::Failed, "a cancelled run tries nothing again");
}

#[test]
fn an_attempt_that_takes_too_long_is_given_up_and_not_repeated() {
    let mut job = fleet_job("nightly");
    job.spec.run.rollout =
        serde_json::from_value(json!({"datacenterTimeoutSeconds": 60, "retriesPerDatacenter": 3})).unwrap();
    let entry = begun(&job, &pending("eu", "dc1"));
    let view =
        view_with(&job, &entry, &[(1, json!({"startTime": "1970-01-01T00:00:00Z", "inProgress": ["a"]}))]);
    assert_eq!(at(&job, &entry, view.clone(), 59).phase, Phase::Running);
    assert_eq!(said(&at(&job, &entry, view, 60)), (Phase::Failed, "DeadlineExceeded"));
    assert_eq!(said(&at(&job, &entry, silent(), 60)), (Phase::Failed, "DeadlineExceeded"), "silent or not");
}

proptest! {
    #[test]
    fn the_order_in_which_news_arrive_does_not_matter(
        order in Just([0_usize, 1, 2, 3]).prop_shuffle(), silent_at in 0_usize..5, failing in any::<bool>(),
    ) {
        let job = fleet_job("nightly");
        let first = begun(&job, &pending("eu", "dc1"));
        let status = if failing { ended(&["a"]) } else { ended(&[]) };
        let running = json!({"startTime": "1970-01-01T00:00:00Z", "inProgress": ["a"]});
        let key = child_key(&job, &first, 1);
        let mut view = view_with(&job, &first, &[(1, json!({}))]);
        let mut entry = first;
        for (step, news) in order.into_iter().enumerate() {
            match news {
                // What a watch shows of one object never goes back.
                0 if view.jobs.last(&key).unwrap().status.as_ref().is_none_or(|s| s.finish_time.is_none()) => {
                    view.jobs.put(key.clone(), made(&job, &entry, 1, running.clone()).1);
                }
                1 => { view.jobs.put(key.clone(), made(&job, &entry, 1, status.clone()).1); }
                2 => { view.backups.put(key.clone(), good()); }
                _ => {}
            }
            let shown = if step == silent_at { silent() } else { view.clone() };
            entry = at(&job, &entry, shown, 20);
        }
        let entry = at(&job, &entry, view, 20);
        let expected = if failing { (Phase::Failed, "NodesFailed") } else { (Phase::Succeeded, "Succeeded") };
        prop_assert_eq!(said(&entry), expected);
        prop_assert_eq!(entry.attempts, 1);
    }
}

#[test]
fn a_status_that_was_shortened_goes_on_where_it_stood() {
    let job = fleet_job("nightly");
    let entry = begun(&job, &pending("eu", "dc1"));
    let short = DatacenterRun { job: None, start_time: None, nodes: None, ..entry.clone() };
    let view =
        view_with(&job, &entry, &[(1, json!({"startTime": "1970-01-01T00:00:02Z", "inProgress": ["a"]}))]);
    assert_eq!(at(&job, &short, view.clone(), 30), at(&job, &entry, view, 30));
}

/// What one look after so long makes of a run whose data plane shows the view so.
fn seen_so(change: impl Fn(&mut View), children: &[(usize, Value)], begun_with: bool) -> (Phase, String) {
    let job = fleet_job("nightly");
    let entry = pending("eu", "dc1");
    let entry = if begun_with { begun(&job, &entry) } else { entry };
    let mut view = view_with(&job, &entry, children);
    change(&mut view);
    let planes = [plane("eu", view)];
    let key = child_key(&job, &entry, 1);
    let is_there = children.iter().any(|(attempt, _)| *attempt == 1);
    let uid = if is_there { uid_of(&key) } else { MISSING.to_owned() };
    let first_seen = first_seen(key, &uid);
    let inputs = inputs(&job, &planes, 1_000_000);
    let entry = advance(&inputs, std::slice::from_ref(&entry), &Outcomes::new(), &first_seen).remove(0);
    (entry.phase, format!("{}: {}", entry.reason.unwrap_or_default(), entry.message.unwrap_or_default()))
}

/// What is not shown, the children that are there, and whether the run had begun with the datacenter.
type Case<'a> = (fn(&mut View), &'a [(usize, Value)], bool);

#[test]
fn what_cannot_be_listed_or_read_is_neither_missing_nor_deleted() {
    let finished = [(1, ended(&[]))];
    let running = [(1, json!({"startTime": "1970-01-01T00:00:00Z"}))];
    let cases: [Case<'_>; 6] = [
        (|view| assert!(view.backups.trust.refuse("forbidden")), &finished, true),
        (|view| assert!(view.backups.trust.fail(Timestamp::UNIX_EPOCH, "forbidden")), &finished, true),
        (|view| assert!(view.jobs.trust.refuse("forbidden")), &running, true),
        (|view| assert!(view.jobs.trust.give_up("forbidden")), &[], true),
        // Its job is gone; its MedusaBackup may say that it was done.
        (|view| assert!(view.backups.trust.refuse("forbidden")), &[], true),
        (
            |view| {
                view.datacenters.blur(ObjectKey::new("ns", "dc1"), "forbidden".to_owned());
            },
            &[],
            false,
        ),
    ];
    for (number, (change, children, begun_with)) in cases.into_iter().enumerate() {
        let (phase, said) = seen_so(change, children, begun_with);
        let expected = if begun_with { Phase::Running } else { Phase::Pending };
        assert!(phase == expected && said.contains("forbidden"), "{number}: {phase:?}, {said}");
    }
    let known = seen_so(|_| {}, &finished, true);
    assert!(known.0 == Phase::Failed && known.1.starts_with("MedusaBackupMissing"), "{known:?}");
}

#[test]
fn a_backup_that_cannot_be_read_is_not_missing_and_holds_nobody_elses_up() {
    let job = fleet_job("nightly");
    let (dc1, dc2) = (pending("eu", "dc1"), pending("eu", "dc2"));
    let mut view = live(&[datacenter("dc1", 1), datacenter("dc2", 1)]);
    for entry in [&dc1, &dc2] {
        let (key, child) = made(&job, entry, 1, ended(&[]));
        view.jobs.put(key, child);
    }
    view.backups.blur(child_key(&job, &dc1, 1), "invalid type, field `status`".to_owned());
    view.backups.put(child_key(&job, &dc2, 1), good());
    let planes = [plane("eu", view)];
    let key = child_key(&job, &dc1, 1);
    let first_seen = first_seen(key.clone(), &uid_of(&key));
    let after = advance(&inputs(&job, &planes, 1_000_000), &[dc1, dc2], &Outcomes::new(), &first_seen);
    assert_eq!(said(&after[0]), (Phase::Running, "AwaitingMedusaBackup"));
    assert!(after[0].message.as_ref().unwrap().contains("field `status`"));
    assert_eq!(said(&after[1]), (Phase::Succeeded, "Succeeded"));
}

#[test]
fn what_was_taken_back_is_gone_also_while_the_view_still_shows_it() {
    let mut task: FleetTask = serde_json::from_value(json!({
        "metadata": {"name": "weekly", "namespace": "medusa-fleet", "uid": "0b1c2d3e-0000-0000-0000-000000000000"},
        "spec": {"operation": "purge", "rollout": {"retriesPerDatacenter": 1}},
    }))
    .unwrap();
    let run = DatacenterRun {
        phase: Phase::Running,
        attempts: 1,
        created_time: Some(Time(Timestamp::UNIX_EPOCH)),
        ..pending("eu", "dc1")
    };
    let key = child_key(&task, &run, 1);
    let child = json!({
        "metadata": {"name": key.name, "namespace": "ns", "uid": "u", "labels": {labels::JOB_UID: task.metadata.uid}},
        "spec": {"cassandraDatacenter": "dc1", "operation": "purge"},
    });
    let mut view = live(&[datacenter("dc1", 1)]);
    view.tasks.put(key.clone(), serde_json::from_value(child).map(Arc::new).unwrap());
    let planes = [plane("eu", view)];
    let outcomes = Outcomes::from([(("eu".to_owned(), key), Outcome::Withdrawn)]);
    let mut look = |cancel: bool| {
        task.spec.run.cancel = Some(cancel);
        let (buckets, now) = (Buckets::default(), Timestamp::from_second(3_600).unwrap());
        let inputs = RunInputs::new(&task, &planes, &buckets, Timestamp::UNIX_EPOCH, now);
        let entry = DatacenterTask { run: run.clone(), ..DatacenterTask::default() };
        advance(&inputs, &[entry], &outcomes, &FirstSeen::default()).remove(0).run
    };
    let again = look(false);
    assert_eq!(said(&again), (Phase::Pending, "AwaitingRetry"));
    assert!(again.message.unwrap().contains("NotStarted"));
    assert_eq!(said(&look(true)), (Phase::Cancelled, "Cancelled"));
}

#[test]
fn what_waits_to_be_made_in_a_datacenter_that_is_gone_fails() {
    let job = fleet_job("nightly");
    for attempts in [0, 1] {
        let entry = DatacenterRun { attempts, ..pending("eu", "dc1") };
        let refused = Outcome::NotNow(Reason::BackupRunning, "waits for a backup".to_owned());
        let key = child_key(&job, &entry, entry.attempts() + 1);
        let outcomes = Outcomes::from([(("eu".to_owned(), key), refused)]);
        let look = |view: View| {
            let planes = [plane("eu", view)];
            let entries = [entry.clone()];
            advance(&inputs(&job, &planes, 1), &entries, &outcomes, &FirstSeen::default()).remove(0)
        };
        let waits = look(live(&[datacenter("dc1", 1)]));
        assert_eq!(said(&waits), (Phase::Pending, "BackupRunning"), "also of another attempt");
        assert_eq!(said(&look(live(&[]))), (Phase::Failed, "DatacenterNotFound"));
    }
}

#[test]
fn a_cancelled_run_does_not_take_a_listing_that_began_before_for_the_end_of_a_child() {
    let mut job = fleet_job("nightly");
    job.spec.run.cancel = Some(true);
    let entry = begun(&job, &pending("eu", "dc1"));
    let planes = [plane("eu", live(&[datacenter("dc1", 1)]))];
    let first_seen = first_seen(child_key(&job, &entry, 1), MISSING);
    let look = |second| {
        let entries = [entry.clone()];
        advance(&inputs(&job, &planes, second), &entries, &Outcomes::new(), &first_seen).remove(0)
    };
    assert_eq!(look(4).phase, Phase::Running);
    assert_eq!(said(&look(5)), (Phase::Cancelled, "Cancelled"));
}
