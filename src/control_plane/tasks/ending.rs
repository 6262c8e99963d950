//! What ends datacenters for the task's sake: it was cancelled, too many failed, or nothing goes on. Pure.

use jiff::{SignedDuration, Timestamp};

use super::{Scene, plan::not_before};
use crate::{
    api::{
        Reason,
        fleet::{DatacenterRun, DatacenterTask, Phase, limit},
    },
    control_plane::fanout::{
        rollout::is_spent,
        rollup::{finish, set},
        select::is_placeholder,
    },
};

/// Ends what the task does not go on with. `progress` is when something last went on. An entry whose child is being
/// made in this moment (`is_starting`) is decided when that is known.
pub(super) fn end(
    scene: &Scene<'_>,
    entries: &mut [DatacenterTask],
    progress: Timestamp,
    is_starting: impl Fn(&DatacenterRun) -> bool,
) {
    let rollout = scene.rollout();
    let failed = entries.iter().filter(|e| e.run.phase == Phase::Failed).count();
    let gives_up = gives_up_at(scene, entries, progress).filter(|end| scene.now >= *end);
    for entry in entries.iter_mut().filter(|e| !e.run.phase.is_final() && !is_starting(&e.run)) {
        let run = &mut entry.run;
        if scene.task.spec.is_cancelled() {
            cancel(run);
        } else if is_spent(&rollout, failed) && run.phase == Phase::Pending {
            let why = format!("{failed} datacenters failed, and `spec.rollout.maxFailures` allows no more");
            give_up(run, Reason::FailureBudgetSpent, &why);
        } else if let Some(end) = gives_up {
            let why = format!(
                "nothing went on until {end:.0}, longer than `spec.rollout.progressDeadlineSeconds` allows"
            );
            give_up(run, Reason::ProgressDeadlineExceeded, &why);
        }
        if run.phase.is_final() {
            finish(run, scene.now);
        }
    }
}

/// What has not started does not start. What runs ends by itself and is waited for, unless nobody answers.
fn cancel(run: &mut DatacenterRun) {
    let silent = [Reason::DataPlaneUnreachable, Reason::DataPlaneNotReady]
        .iter()
        .any(|reason| run.reason.as_deref() == Some(reason.as_str()));
    match run.phase {
        Phase::Pending if run.attempts() == 0 => {
            let message = "cancelled before it started".to_owned();
            set(run, Phase::Cancelled, Reason::Cancelled, Some(message));
        }
        Phase::Pending => give_up(run, Reason::Cancelled, "cancelled"),
        Phase::Running if silent => {
            let message = "cancelled while its data plane does not answer; what was begun there goes on";
            set(run, Phase::Cancelled, Reason::Cancelled, Some(message.to_owned()));
        }
        Phase::Running
        | Phase::Succeeded
        | Phase::PartiallyFailed
        | Phase::Failed
        | Phase::Skipped
        | Phase::Cancelled => {}
    }
}

/// Nothing more is tried. What was never tried is left out when only the budget is spent.
fn give_up(run: &mut DatacenterRun, reason: Reason, why: &str) {
    let before = run.message.take().map(|message| format!(": {message}")).unwrap_or_default();
    let untried = reason == Reason::FailureBudgetSpent && run.attempts() == 0;
    let phase = if untried { Phase::Skipped } else { Phase::Failed };
    let goes_on = if run.phase == Phase::Running { "; it may still be going on" } else { "" };
    set(run, phase, reason, Some(format!("{why}{goes_on}{before}")));
}

/// When the task is given up unless something goes on. Waiting for a place in the stagger window or for the next
/// attempt is no standstill.
#[must_use]
pub(super) fn gives_up_at(
    scene: &Scene<'_>,
    entries: &[DatacenterTask],
    progress: Timestamp,
) -> Option<Timestamp> {
    let patience = limit(scene.rollout().progress_deadline_seconds)?;
    let patience = SignedDuration::from_secs(i64::try_from(patience).ok()?);
    let waiting = entries.iter().map(|e| &e.run).filter(|r| r.phase == Phase::Pending && !is_placeholder(r));
    let expected = waiting.map(|run| not_before(scene, run));
    expected.fold(progress, Timestamp::max).checked_add(patience).ok()
}

/// Whether anything went on between two looks.
#[must_use]
pub(super) fn went_on(before: &[DatacenterTask], after: &[DatacenterTask]) -> bool {
    let mark = |e: &DatacenterTask| {
        let ended = e.run.nodes.map(|nodes| (nodes.finished, nodes.failed));
        (e.run.phase.is_final(), e.run.attempts(), e.run.start_time.is_some(), ended, e.sync.is_some())
    };
    before.len() != after.len() || before.iter().zip(after).any(|(b, a)| mark(b) != mark(a))
}
