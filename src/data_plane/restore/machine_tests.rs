//! A rule of the restore machine per test, on a made-up clock of whole seconds.

use jiff::Timestamp;
use rstest::rstest;
use serde_json::json;

use super::{
    judge::Report,
    lock::{Lock, LockHolder, RestoreEnd, Step},
    machine::{Case, Change, Next, Orders, next},
    template::Holds,
    view::{Datacenter, Restore, RestorePod, Set, View},
};
use crate::{
    api::{Reason, medusa::MedusaRestoreJobStatus},
    data_plane::Timings,
};

const UID: &str = "u1";
/// The step under test began then.
const BEGUN: i64 = 1000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn lock(step: Step) -> Lock {
    Lock { job: "r1".to_owned(), uid: UID.to_owned(), stopped: false, step, since: at(BEGUN), verdict: None }
}

fn ended(step: Step, reason: Reason) -> Lock {
    Lock { verdict: Some(RestoreEnd::new(reason, "it ended")), ..lock(step) }
}

fn set(replicas: i32, orders: Holds) -> Set {
    Set { name: "sts".to_owned(), replicas, orders, is_rolled_out: true }
}

fn pod(orders: Holds) -> RestorePod {
    RestorePod {
        name: "sts-0".to_owned(),
        uid: "p".to_owned(),
        created: None,
        orders,
        ready_since: None,
        restore: Restore::Pending(String::new()),
    }
}

/// A situation, which each test changes in one thing.
struct Situation {
    dc: Option<Datacenter>,
    sets: Vec<Set>,
    pods: Vec<RestorePod>,
    status: MedusaRestoreJobStatus,
    report: Report,
    is_deleted: bool,
    now: i64,
}

impl Situation {
    fn status(more: &serde_json::Value) -> MedusaRestoreJobStatus {
        let mut status = json!({
            "restoreKey": UID, "restorePrepared": true, "startTime": "1970-01-01T00:16:30Z",
            "restoreMapping": {"in_place": true, "host_map": {"sts-0": {"source": ["sts-0"], "seed": false}}}
        });
        for (field, value) in more.as_object().into_iter().flatten() {
            status[field] = value.clone();
        }
        serde_json::from_value(status).unwrap()
    }

    /// Checked, and nothing changed yet.
    fn checked() -> Self {
        Self {
            dc: Some(Datacenter { is_ready: true, ..Datacenter::default() }),
            sets: vec![set(1, Holds::Nothing)],
            pods: vec![pod(Holds::Nothing)],
            status: Self::status(&json!({})),
            report: Report::default(),
            is_deleted: false,
            now: BEGUN,
        }
    }

    /// Stopped and empty, on that step.
    fn stopped(step: Step) -> Self {
        let stopped = json!({"datacenterStopped": "1970-01-01T00:16:40Z"});
        Self {
            dc: Some(Datacenter {
                stopped: true,
                is_stopped: true,
                claim: LockHolder::Ours(lock(step)),
                ..Datacenter::default()
            }),
            sets: vec![set(0, Holds::Nothing)],
            pods: Vec::new(),
            status: Self::status(&stopped),
            ..Self::checked()
        }
    }

    /// The pods are restoring.
    fn starting() -> Self {
        Self {
            dc: Some(Datacenter {
                orders: Holds::These,
                claim: LockHolder::Ours(lock(Step::Starting)),
                ..Datacenter::default()
            }),
            sets: vec![set(1, Holds::These)],
            pods: vec![pod(Holds::These)],
            report: Report { in_progress: vec!["sts-0".to_owned()], is_busy: true, ..Report::default() },
            ..Self::stopped(Step::Starting)
        }
    }

    fn dc(&mut self) -> &mut Datacenter {
        self.dc.as_mut().unwrap()
    }

    fn next(&self) -> Next {
        let view = View { datacenter: self.dc.clone(), sets: self.sets.clone(), pods: self.pods.clone() };
        next(Case {
            job: "r1",
            uid: UID,
            status: &self.status,
            is_deleted: self.is_deleted,
            view: &view,
            sets: &["sts".to_owned()],
            report: &self.report,
            timings: &Timings::default(),
            now: at(self.now),
        })
    }

    fn change(&self) -> Change {
        let next = self.next();
        let Next::Change(change) = next else { panic!("{next:?}") };
        change
    }

    fn waits(&self) -> Reason {
        let next = self.next();
        let Next::Wait(reason, _) = next else { panic!("{next:?}") };
        reason
    }

    fn finishes(&self) -> Reason {
        let next = self.next();
        let Next::Finish(verdict) = next else { panic!("{next:?}") };
        verdict.reason()
    }
}

fn reason(change: &Change) -> Reason {
    change.lock.verdict.as_ref().unwrap().reason()
}

#[rstest]
#[case(false)]
#[case(true)]
fn it_stops_the_datacenter_and_remembers_whether_it_was_stopped(#[case] stopped: bool) {
    let mut s = Situation::checked();
    s.dc().stopped = stopped;
    let change = s.change();
    assert_eq!((change.stopped, change.orders, change.lock.step), (true, Orders::Keep, Step::Stopping));
    assert_eq!(change.lock.stopped, stopped);
}

#[test]
fn a_job_left_for_hours_before_anything_stopped_is_not_begun() {
    let mut s = Situation::checked();
    s.now = BEGUN + 3 * 3600;
    assert_eq!(s.finishes(), Reason::DeadlineExceeded);
    s.dc().stopped = true;
    assert_eq!(s.change().lock.step, Step::Stopping);
}

#[test]
fn what_k8ssandra_operator_stopped_is_started_again() {
    let mut s = Situation::checked();
    s.status.restore_key = "theirs".to_owned();
    s.dc().stopped = true;
    assert!(!s.change().lock.stopped);
}

#[rstest]
#[case::template_not_changed_yet(true, Holds::Nothing, Step::Preparing)]
#[case::template_changed(true, Holds::These, Step::Preparing)]
#[case::started(false, Holds::These, Step::Starting)]
fn what_k8ssandra_operator_began_is_taken_over(
    #[case] stopped: bool,
    #[case] orders: Holds,
    #[case] step: Step,
) {
    let mut s = Situation::stopped(Step::Preparing);
    s.status.restore_key = "theirs".to_owned();
    *s.dc() = Datacenter { stopped, orders, ..Datacenter::default() };
    let change = s.change();
    assert_eq!((change.stopped, change.lock.step, change.lock.stopped), (stopped, step, false));
}

#[test]
fn another_restores_datacenter_is_left_alone() {
    let mut s = Situation::checked();
    s.dc().claim = LockHolder::Other(Lock { uid: "u2".to_owned(), ..lock(Step::Starting) });
    assert_eq!(s.waits(), Reason::RestoreRunning);
    s.now = BEGUN + 2 * 3600;
    assert_eq!(s.finishes(), Reason::RestoreRunning);
    s.is_deleted = true;
    assert_eq!(s.next(), Next::LetGo);
}

#[test]
fn what_a_vanished_job_stopped_is_started_again() {
    let mut s = Situation::checked();
    s.dc().stopped = true;
    s.dc().claim = LockHolder::Orphan(Lock { uid: "u2".to_owned(), ..lock(Step::Starting) });
    assert!(!s.change().lock.stopped);
}

#[test]
fn stopped_means_that_no_pod_is_there_and_none_will_come() {
    let stopped = |change: fn(&mut Situation)| {
        let mut s = Situation::stopped(Step::Stopping);
        s.status.datacenter_stopped = None;
        change(&mut s);
        s.next()
    };
    assert_eq!(stopped(|_| {}), Next::Stopped);
    for change in [
        (|s| s.pods = vec![pod(Holds::Nothing)]) as fn(&mut Situation),
        |s| s.sets = vec![set(1, Holds::Nothing)],
        |s| s.sets = Vec::new(),
        |s| s.dc().is_stopped = false,
    ] {
        assert!(matches!(stopped(change), Next::Wait(Reason::Stopping, _)));
    }
}

#[test]
fn the_orders_are_given_when_it_is_written_that_all_pods_stopped() {
    let change = Situation::stopped(Step::Stopping).change();
    assert_eq!((change.stopped, change.orders, change.lock.step), (true, Orders::Give, Step::Preparing));
}

#[test]
fn a_stop_that_hangs_is_given_up_and_taken_back_at_once() {
    let mut s = Situation::checked();
    s.dc().stopped = true;
    s.dc().claim = LockHolder::Ours(lock(Step::Stopping));
    s.now = BEGUN + 3599;
    assert_eq!(s.waits(), Reason::Stopping);
    s.now = BEGUN + 3600;
    let change = s.change();
    assert_eq!(reason(&change), Reason::StopTimedOut);
    assert_eq!((change.stopped, change.lock.step), (false, Step::Returned));
}

#[test]
fn it_starts_when_every_statefulset_has_the_orders() {
    let ready = |change: fn(&mut Situation)| {
        let mut s = Situation::stopped(Step::Preparing);
        s.dc().orders = Holds::These;
        s.sets = vec![set(0, Holds::These)];
        change(&mut s);
        s.next()
    };
    let Next::Change(change) = ready(|_| {}) else { panic!() };
    assert_eq!((change.stopped, change.lock.step), (false, Step::Starting));
    for change in [
        (|s| s.sets = vec![set(0, Holds::Nothing)]) as fn(&mut Situation),
        |s| s.sets = vec![set(0, Holds::Others)],
        |s| s.sets = Vec::new(),
        |s| s.dc().is_updating = true,
    ] {
        assert!(matches!(ready(change), Next::Wait(Reason::Preparing, _)));
    }
}

#[test]
fn a_template_that_does_not_arrive_is_given_up() {
    let mut s = Situation::stopped(Step::Preparing);
    s.dc().orders = Holds::These;
    s.now = BEGUN + 900;
    let change = s.change();
    assert_eq!(reason(&change), Reason::UpdateTimedOut);
    assert_eq!((change.stopped, change.orders, change.lock.step), (true, Orders::Take, Step::Draining));
}

#[test]
fn what_somebody_undoes_is_done_again_and_the_deadline_runs_on() {
    let mut s = Situation::stopped(Step::Preparing);
    s.now = BEGUN + 10;
    let change = s.change();
    assert_eq!((change.orders, change.lock), (Orders::Give, lock(Step::Preparing)));
    let mut s = Situation::checked();
    s.dc().claim = LockHolder::Ours(lock(Step::Stopping));
    s.now = BEGUN + 10;
    assert_eq!((s.change().stopped, s.change().lock), (true, lock(Step::Stopping)));
}

#[test]
fn success_needs_every_pod_and_a_ready_datacenter() {
    let mut s = Situation::starting();
    s.report = Report { finished: vec!["sts-0".to_owned()], ..Report::default() };
    assert_eq!(s.waits(), Reason::Restoring);
    s.dc().is_ready = true;
    let change = s.change();
    assert_eq!(reason(&change), Reason::Succeeded);
    assert_eq!((change.stopped, change.orders, change.lock.step), (false, Orders::Take, Step::Settling));
    s.report = Report { in_progress: vec!["sts-0".to_owned()], ..Report::default() };
    assert_eq!(s.waits(), Reason::Restoring);
}

#[test]
fn no_pods_at_all_are_no_success() {
    let mut s = Situation::starting();
    s.report = Report::default();
    s.dc().is_ready = true;
    assert_eq!(s.waits(), Reason::Restoring);
}

#[test]
fn a_datacenter_that_was_stopped_is_stopped_again() {
    let mut s = Situation::starting();
    s.report = Report { finished: vec!["sts-0".to_owned()], ..Report::default() };
    s.dc().is_ready = true;
    s.dc().claim = LockHolder::Ours(Lock { stopped: true, ..lock(Step::Starting) });
    let change = s.change();
    assert_eq!((change.stopped, change.orders, change.lock.step), (true, Orders::Take, Step::Draining));
}

#[test]
fn failed_pods_fail_the_restore_with_the_reason_they_share() {
    let mut s = Situation::starting();
    let failures = vec![(Reason::RestoreSkipped, "sts-0: nothing".to_owned())];
    s.report = Report { failed: vec!["sts-0".to_owned()], failures, ..Report::default() };
    let change = s.change();
    assert_eq!((reason(&change), change.lock.step), (Reason::RestoreSkipped, Step::Draining));
    s.dc().is_ready = true;
    assert_eq!(s.change().lock.step, Step::Settling);
}

#[test]
fn pods_that_do_not_move_are_given_up_but_not_one_that_restores() {
    let mut s = Situation::starting();
    s.now = BEGUN + 3600;
    assert_eq!(s.waits(), Reason::Restoring);
    s.report.is_busy = false;
    assert_eq!(reason(&s.change()), Reason::DatacenterNotReady);
    s.report.moved = Some(at(BEGUN + 10));
    assert_eq!(s.waits(), Reason::Restoring);
    s.report.is_busy = true;
    s.now = BEGUN + 48 * 3600;
    assert_eq!(reason(&s.change()), Reason::DeadlineExceeded);
}

#[test]
fn orders_that_vanish_while_pods_restore_end_the_restore() {
    let mut s = Situation::starting();
    s.dc().orders = Holds::Nothing;
    assert_eq!(reason(&s.change()), Reason::DatacenterChanged);
    let mut s = Situation::starting();
    s.dc().stopped = true;
    let change = s.change();
    assert_eq!(reason(&change), Reason::DatacenterChanged);
    assert!(change.lock.stopped, "whoever stopped it wants it stopped");
}

#[rstest]
#[case::stopping(Situation::stopped(Step::Stopping), Step::Returned, false)]
#[case::preparing(Situation::stopped(Step::Preparing), Step::Draining, true)]
#[case::starting(Situation::starting(), Step::Draining, true)]
fn a_cancelled_job_puts_back_what_it_changed(
    #[case] mut s: Situation,
    #[case] step: Step,
    #[case] stopped: bool,
) {
    s.is_deleted = true;
    let change = s.change();
    assert_eq!((reason(&change), change.lock.step, change.stopped), (Reason::Cancelled, step, stopped));
}

#[rstest]
#[case(Step::Draining)]
#[case(Step::Settling)]
fn a_verdict_is_not_changed_by_a_later_deletion(#[case] step: Step) {
    let mut s = Situation::stopped(step);
    s.dc().claim = LockHolder::Ours(ended(step, Reason::Succeeded));
    s.is_deleted = true;
    assert_eq!(reason(&s.change()), Reason::Succeeded);
    assert_eq!(s.change().lock.step, Step::Returned);
}

#[test]
fn stopped_goes_back_when_no_statefulset_has_the_orders_any_more() {
    let mut s = Situation::stopped(Step::Draining);
    s.dc().claim = LockHolder::Ours(ended(Step::Draining, Reason::Cancelled));
    s.sets = vec![set(0, Holds::These)];
    assert_eq!(s.waits(), Reason::PuttingBack);
    s.sets = vec![set(0, Holds::Nothing)];
    let change = s.change();
    assert_eq!((change.stopped, change.lock.step), (false, Step::Returned));
    s.sets = vec![set(1, Holds::These)];
    s.now = BEGUN + 4500;
    let change = s.change();
    assert_eq!((change.stopped, reason(&change)), (false, Reason::Cancelled));
}

#[test]
fn a_running_datacenter_settles_when_all_its_pods_are_replaced() {
    let settled = |change: fn(&mut Situation)| {
        let mut s = Situation::checked();
        s.dc().claim = LockHolder::Ours(ended(Step::Settling, Reason::Succeeded));
        change(&mut s);
        s
    };
    assert_eq!(settled(|_| {}).change().lock.step, Step::Returned);
    for change in [
        (|s| s.pods = vec![pod(Holds::These)]) as fn(&mut Situation),
        |s| s.sets = vec![set(1, Holds::These)],
        |s| s.sets[0].is_rolled_out = false,
        |s| s.dc().is_ready = false,
    ] {
        let mut s = settled(change);
        assert_eq!(s.waits(), Reason::PuttingBack);
        s.now = BEGUN + 3600;
        assert_eq!(reason(&s.change()), Reason::DatacenterNotReady);
    }
}

#[test]
fn a_datacenter_written_anew_by_somebody_else_is_left_to_them() {
    let mut s = Situation::stopped(Step::Preparing);
    *s.dc() = Datacenter::default();
    assert_eq!(s.finishes(), Reason::DatacenterChanged);
}

#[test]
fn a_lost_annotation_is_written_again_while_the_orders_are_there() {
    let mut s = Situation::starting();
    s.dc().claim = LockHolder::Free;
    let change = s.change();
    assert_eq!((change.lock.step, change.orders, change.stopped), (Step::Starting, Orders::Keep, false));
}

#[test]
fn without_a_datacenter_there_is_nothing_to_put_back() {
    let mut s = Situation::starting();
    s.dc = None;
    assert_eq!(s.finishes(), Reason::DatacenterNotFound);
    s.is_deleted = true;
    assert_eq!(s.next(), Next::LetGo);
}

#[test]
fn what_is_back_is_finished() {
    let mut s = Situation::checked();
    s.dc().claim = LockHolder::Ours(ended(Step::Returned, Reason::Succeeded));
    assert_eq!(s.finishes(), Reason::Succeeded);
}
