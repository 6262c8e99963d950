//! What a restore that has passed its checks does next.
//!
//! ```text
//! (checked) ── Stopping ── Preparing ── Starting ──┬── Settling ──┬── Returned ── (finishTime)
//!                  │            └──────────────────┴── Draining ──┤
//!                  └──────────────────────────────────────────────┘
//! ```
//!
//! Pure. Where a restore stands is in the annotation of its datacenter ([`Lock`]), how it will end too, once
//! that is decided; the job's status has what its pods said. Why the orders are taken out in two ways, and
//! what is done after a restore that got half-way, is in ADR 8.

use jiff::Timestamp;

use super::{
    judge::Report,
    lock::{Lock, LockHolder, RestoreEnd, Step},
    template::Holds,
    view::{Datacenter, View},
};
use crate::{
    api::{Reason, medusa::MedusaRestoreJobStatus},
    data_plane::frame::timings::{Timings, since},
};

/// Everything a decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The job's name.
    pub job: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// Its status.
    pub status: &'a MedusaRestoreJobStatus,
    /// Whether it is being deleted.
    pub is_deleted: bool,
    /// What is there.
    pub view: &'a View,
    /// Names of the StatefulSets the datacenter should have.
    pub sets: &'a [String],
    /// How the pods stand.
    pub report: &'a Report,
    /// Deadlines.
    pub timings: &'a Timings,
    /// The time.
    pub now: Timestamp,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing yet: what is waited for.
    Wait(Reason, String),
    /// Change the datacenter.
    Change(Change),
    /// Put down that every pod has stopped.
    Stopped,
    /// Write how it ended. The datacenter is as it was.
    Finish(RestoreEnd),
    /// The job is being deleted and holds nothing.
    LetGo,
}

/// One change of the datacenter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What `spec.stopped` is to be.
    pub stopped: bool,
    /// What is to become of the orders in the pod template.
    pub orders: Orders,
    /// The annotation that goes with it.
    pub lock: Lock,
}

/// What is to become of the orders in the pod template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orders {
    /// They stay as they are.
    Keep,
    /// They are written.
    Give,
    /// They are taken out.
    Take,
}

/// Decides.
#[must_use]
pub fn next(case: Case<'_>) -> Next {
    let Some(dc) = &case.view.datacenter else {
        return if case.is_deleted {
            Next::LetGo
        } else {
            finish(Reason::DatacenterNotFound, "the CassandraDatacenter was deleted during the restore")
        };
    };
    match &dc.claim {
        LockHolder::Ours(lock) => held(case, dc, lock),
        claim
        @ (LockHolder::Free | LockHolder::Other(_) | LockHolder::Orphan(_) | LockHolder::Unreadable) => {
            free(case, dc, claim)
        }
    }
}

/// The annotation is not there: the restore has not begun to change anything, or was begun by
/// k8ssandra-operator, which leaves none, or somebody has written over it.
fn free(case: Case<'_>, dc: &Datacenter, claim: &LockHolder) -> Next {
    let adopted = |step| Lock {
        job: case.job.to_owned(),
        uid: case.uid.to_owned(),
        stopped: false,
        step,
        since: case.now,
        verdict: None,
    };
    if case.is_deleted {
        return if dc.orders == Holds::These {
            undo(case, dc, &adopted(Step::Starting), cancelled())
        } else {
            Next::LetGo
        };
    }
    let is_upstreams = case.status.restore_key != case.uid;
    if case.status.datacenter_stopped.is_none() {
        let stopped = match claim {
            LockHolder::Other(_) | LockHolder::Unreadable => return blocked(case, claim),
            LockHolder::Orphan(lock) => lock.stopped,
            // Upstream asks a running Medusa before it stops anything: that it is stopped is its own doing.
            LockHolder::Free | LockHolder::Ours(_) => dc.stopped && !is_upstreams,
        };
        let begun = case.status.start_time.as_ref().map_or(case.now, |time| time.0);
        if !dc.stopped && since(begun, case.now) >= case.timings.input.saturating_mul(2) {
            return finish(
                Reason::DeadlineExceeded,
                format!(
                    "the job was started at {begun} and nothing has stopped since; a restore that begins this \
                     late would take away what was written in the meantime: create a new job if you still \
                     want it"
                ),
            );
        }
        let lock = Lock { stopped, ..adopted(Step::Stopping) };
        return change(true, Orders::Keep, lock);
    }
    let step = if dc.stopped { Step::Preparing } else { Step::Starting };
    if matches!(claim, LockHolder::Free) && (dc.orders == Holds::These || (is_upstreams && dc.stopped)) {
        return change(dc.stopped, Orders::Keep, adopted(step));
    }
    finish(
        Reason::DatacenterChanged,
        "somebody else wrote the CassandraDatacenter anew during the restore: its annotation and the \
         variables of medusa-restore are gone, and nothing is left to put back. Find out who (a changed \
         K8ssandraCluster is written over it), look at the data, and restore again",
    )
}

fn blocked(case: Case<'_>, claim: &LockHolder) -> Next {
    let why = match claim {
        LockHolder::Other(lock) => format!("MedusaRestoreJob `{}` is at work on the datacenter", lock.job),
        LockHolder::Unreadable | LockHolder::Free | LockHolder::Ours(_) | LockHolder::Orphan(_) => format!(
            "annotation {} of the CassandraDatacenter cannot be read; remove it",
            crate::api::labels::RESTORE
        ),
    };
    let begun = case.status.start_time.as_ref().map_or(case.now, |time| time.0);
    if since(begun, case.now) >= case.timings.input {
        return finish(Reason::RestoreRunning, why);
    }
    Next::Wait(Reason::RestoreRunning, why)
}

fn held(case: Case<'_>, dc: &Datacenter, lock: &Lock) -> Next {
    if case.is_deleted && lock.verdict.is_none() {
        return undo(case, dc, lock, cancelled());
    }
    match lock.step {
        Step::Stopping => stopping(case, dc, lock),
        Step::Preparing => preparing(case, dc, lock),
        Step::Starting => starting(case, dc, lock),
        Step::Draining => draining(case, dc, lock),
        Step::Settling => settling(case, dc, lock),
        Step::Returned => Next::Finish(verdict(lock)),
    }
}

fn stopping(case: Case<'_>, dc: &Datacenter, lock: &Lock) -> Next {
    if dc.stopped && dc.is_stopped && is_empty(case) {
        return if case.status.datacenter_stopped.is_none() {
            Next::Stopped
        } else {
            change(true, Orders::Give, at(case, lock, Step::Preparing))
        };
    }
    if is_late(case, lock, case.timings.stop) {
        let why = format!(
            "the datacenter did not stop within {:?}: {}; nothing was restored",
            case.timings.stop,
            left(case, dc)
        );
        return undo(case, dc, lock, RestoreEnd::new(Reason::StopTimedOut, why));
    }
    if !dc.stopped {
        return again(lock, true, Orders::Keep);
    }
    Next::Wait(Reason::Stopping, format!("waits for the datacenter to stop: {}", left(case, dc)))
}

fn preparing(case: Case<'_>, dc: &Datacenter, lock: &Lock) -> Next {
    let waits: Vec<&str> = case
        .sets
        .iter()
        .filter(|name| !case.view.sets.iter().any(|s| s.name == **name && s.orders == Holds::These))
        .map(String::as_str)
        .collect();
    // No StatefulSets at all is not done.
    let done = dc.stopped && dc.orders == Holds::These && !dc.is_updating && !case.sets.is_empty();
    if done && waits.is_empty() && is_empty(case) {
        return change(false, Orders::Keep, at(case, lock, Step::Starting));
    }
    let waits = if waits.is_empty() { "the operator is still updating".to_owned() } else { waits.join(", ") };
    if is_late(case, lock, case.timings.template) {
        let why = format!(
            "the pod template did not reach every StatefulSet within {:?}: {waits}; is cass-operator running? \
             Nothing was restored",
            case.timings.template
        );
        return undo(case, dc, lock, RestoreEnd::new(Reason::UpdateTimedOut, why));
    }
    if !dc.stopped || dc.orders != Holds::These {
        return again(lock, true, Orders::Give);
    }
    Next::Wait(Reason::Preparing, format!("waits for StatefulSets to take over the pod template: {waits}"))
}

fn starting(case: Case<'_>, dc: &Datacenter, lock: &Lock) -> Next {
    let report = case.report;
    if dc.stopped || dc.orders != Holds::These {
        let what = if dc.stopped { "stopped it" } else { "changed the variables of medusa-restore" };
        let verdict = RestoreEnd::new(
            Reason::DatacenterChanged,
            format!("somebody else {what} while pods were restoring. {}", mixed(report)),
        );
        // Whoever stopped it wants it stopped.
        let lock = Lock { stopped: lock.stopped || dc.stopped, ..lock.clone() };
        return undo(case, dc, &lock, verdict);
    }
    if report.is_decided() {
        if let Some(verdict) = failure(report) {
            return undo(case, dc, lock, verdict);
        }
        if dc.is_ready && !report.finished.is_empty() {
            let what = format!("{} pods restored", report.finished.len());
            return undo(case, dc, lock, RestoreEnd::new(Reason::Succeeded, what));
        }
    }
    let pending = if report.pending.is_empty() {
        "every pod restored; waits for the datacenter to become ready".to_owned()
    } else {
        format!("{} pods restored; {}", report.finished.len(), report.pending.join("; "))
    };
    if is_late(case, lock, case.timings.restore) {
        let why = format!("not done within {:?}: {pending}. {}", case.timings.restore, mixed(report));
        return undo(case, dc, lock, RestoreEnd::new(Reason::DeadlineExceeded, why));
    }
    let moved = report.moved.map_or(lock.since, |moved| moved.max(lock.since));
    if !report.is_busy && since(moved, case.now) >= case.timings.stall {
        let why = format!("nothing moved for {:?}: {pending}. {}", case.timings.stall, mixed(report));
        return undo(case, dc, lock, RestoreEnd::new(Reason::DatacenterNotReady, why));
    }
    Next::Wait(Reason::Restoring, pending)
}

/// The orders are out of the template; when no pod and no StatefulSet has them any more, `stopped` goes back.
fn draining(case: Case<'_>, dc: &Datacenter, lock: &Lock) -> Next {
    if dc.orders == Holds::These {
        return again(lock, true, Orders::Take);
    }
    let is_free = case.view.sets.iter().all(|s| s.orders != Holds::These);
    if !dc.stopped || (is_free && !dc.is_updating && is_empty(case)) {
        return back(case, lock, verdict(lock));
    }
    let limit = case.timings.stop.saturating_add(case.timings.template);
    if is_late(case, lock, limit) {
        let old = verdict(lock);
        let message = format!(
            "{}. The datacenter did not stop within {limit:?} afterwards: {}",
            old.message,
            left(case, dc)
        );
        let reason = if old.is_good() { Reason::StopTimedOut } else { old.reason() };
        return back(case, lock, RestoreEnd::new(reason, message));
    }
    Next::Wait(
        Reason::PuttingBack,
        format!("{}; waits for the pods to stop: {}", verdict(lock).message, left(case, dc)),
    )
}

/// The orders are out of the template of a running datacenter: its pods are replaced one after another.
fn settling(case: Case<'_>, dc: &Datacenter, lock: &Lock) -> Next {
    if dc.orders == Holds::These {
        return again(lock, dc.stopped, Orders::Take);
    }
    let sets = case.view.sets.iter().filter(|s| s.orders == Holds::These || !s.is_rolled_out);
    let waits: Vec<&str> = sets.map(|s| s.name.as_str()).collect();
    let old: Vec<&str> =
        case.view.pods.iter().filter(|p| p.orders == Holds::These).map(|p| p.name.as_str()).collect();
    if dc.stopped || (waits.is_empty() && old.is_empty() && dc.is_ready && !dc.is_updating) {
        return change(dc.stopped, Orders::Keep, at(case, lock, Step::Returned));
    }
    let waits = [waits, old].concat().join(", ");
    let moved = case.view.pods.iter().filter_map(super::view::RestorePod::moved).max();
    if since(moved.map_or(lock.since, |m| m.max(lock.since)), case.now) >= case.timings.stall {
        let message = format!(
            "{}. The datacenter did not become ready again within {:?} after the variables of medusa-restore \
             were taken out of its pod template: {waits}",
            verdict(lock).message,
            case.timings.stall
        );
        let reason =
            if verdict(lock).is_good() { Reason::DatacenterNotReady } else { verdict(lock).reason() };
        return back(case, lock, RestoreEnd::new(reason, message));
    }
    let message = verdict(lock).message;
    Next::Wait(Reason::PuttingBack, format!("{message}; waits for pods to be replaced: {waits}"))
}

/// Begins to put the datacenter back, with `verdict` as the end.
fn undo(case: Case<'_>, dc: &Datacenter, lock: &Lock, verdict: RestoreEnd) -> Next {
    let orders = if dc.orders == Holds::These { Orders::Take } else { Orders::Keep };
    let (step, stopped) = if lock.step == Step::Stopping {
        // No pod was made with our orders.
        (Step::Returned, lock.stopped)
    } else if dc.is_ready && !dc.stopped && !lock.stopped {
        (Step::Settling, false)
    } else {
        (Step::Draining, true)
    };
    let lock = Lock { verdict: Some(verdict), ..at(case, lock, step) };
    change(stopped, orders, lock)
}

fn back(case: Case<'_>, lock: &Lock, verdict: RestoreEnd) -> Next {
    let lock = Lock { verdict: Some(verdict), ..at(case, lock, Step::Returned) };
    change(lock.stopped, Orders::Keep, lock)
}

/// The step's own change once more, as somebody undid it. Its deadline runs on.
fn again(lock: &Lock, stopped: bool, orders: Orders) -> Next {
    change(stopped, orders, lock.clone())
}

fn change(stopped: bool, orders: Orders, lock: Lock) -> Next {
    Next::Change(Change { stopped, orders, lock })
}

fn at(case: Case<'_>, lock: &Lock, step: Step) -> Lock {
    Lock { step, since: case.now, ..lock.clone() }
}

fn verdict(lock: &Lock) -> RestoreEnd {
    lock.verdict.clone().unwrap_or_else(|| RestoreEnd::new(Reason::Failed, "the restore's end is not known"))
}

fn cancelled() -> RestoreEnd {
    RestoreEnd::new(Reason::Cancelled, "the job was deleted before the restore was done")
}

fn finish(reason: Reason, message: impl Into<String>) -> Next {
    Next::Finish(RestoreEnd::new(reason, message))
}

fn is_late(case: Case<'_>, lock: &Lock, limit: std::time::Duration) -> bool {
    since(lock.since, case.now) >= limit
}

/// Whether no pod is there and none is to come. StatefulSets that are not there say nothing.
fn is_empty(case: Case<'_>) -> bool {
    case.view.pods.is_empty()
        && !case.view.sets.is_empty()
        && case.view.sets.iter().all(|set| set.replicas == 0)
}

fn left(case: Case<'_>, dc: &Datacenter) -> String {
    let pods: Vec<&str> = case.view.pods.iter().map(|p| p.name.as_str()).collect();
    if !pods.is_empty() {
        return format!("pods {} are still there", pods.join(", "));
    }
    if case.view.sets.is_empty() {
        return "it has no StatefulSets".to_owned();
    }
    if dc.is_stopped { "its StatefulSets are being updated" } else { "its condition Stopped is not True" }
        .to_owned()
}

/// Why a restore with failed pods failed: the reason they share, and each of them.
fn failure(report: &Report) -> Option<RestoreEnd> {
    let (first, _) = report.failures.first()?;
    let reason = if report.failures.iter().all(|(r, _)| r == first) { *first } else { Reason::NodesFailed };
    let list: Vec<&str> = report.failures.iter().map(|(_, why)| why.as_str()).collect();
    Some(RestoreEnd::new(reason, format!("{}. {}", list.join("; "), mixed(report))))
}

/// What the data is now, for whoever has to decide what to do.
fn mixed(report: &Report) -> String {
    let all = report.finished.len() + report.failed.len() + report.in_progress.len();
    match report.finished.len() {
        0 if report.failures.iter().any(|(reason, _)| *reason == Reason::RestoreUnconfirmed) => {
            "Whether the data is the backup's or the old one is not known: compare it before you go on"
                .to_owned()
        }
        0 => "No pod is known to have restored".to_owned(),
        done if done == all => "Every pod restored".to_owned(),
        done => format!(
            "{done} of {all} pods hold the backup's data ({}), the others may hold older, newer or half-restored \
             data: write nothing, and restore again",
            report.finished.join(", ")
        ),
    }
}
