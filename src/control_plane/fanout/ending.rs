//! What ends datacenters of a run for the run's sake: it was cancelled, too many failed, nothing goes on, or only
//! its plan was asked for. Pure.

use jiff::{SignedDuration, Timestamp};

use super::{
    Scene,
    child::child_key,
    rollout::{is_spent, retry_pause, stagger},
    rollup::{cancelled, finish, set, times_out_at},
    select::is_placeholder,
};
use crate::api::{
    Reason,
    fleet::{DatacenterRun, Phase, limit},
};

/// Ends what the run does not go on with. `progress` is when something last went on.
pub fn end(scene: &Scene<'_>, entries: &mut [DatacenterRun], progress: Timestamp) {
    if scene.job.spec.is_cancelled() {
        each(scene, entries, cancel);
        return;
    }
    let rollout = scene.job.spec.rollout();
    let failed = entries.iter().filter(|e| e.phase == Phase::Failed).count();
    if is_spent(&rollout, failed) {
        let why = format!("{failed} datacenters failed, as many as `spec.rollout.maxFailures` allows");
        each(scene, entries, |entry| spend(entry, &why));
    }
    if let Some(end) = gives_up_at(scene, entries, progress).filter(|end| scene.now >= *end) {
        let why = format!(
            "nothing went on until {end:.0}, longer than `spec.rollout.progressDeadlineSeconds` allows"
        );
        each(scene, entries, |entry| give_up(entry, &why));
    }
}

fn each(scene: &Scene<'_>, entries: &mut [DatacenterRun], change: impl Fn(&mut DatacenterRun)) {
    for entry in entries.iter_mut().filter(|entry| !entry.phase.is_final()) {
        change(entry);
        if entry.phase.is_final() {
            finish(entry, scene.now);
        }
    }
}

/// What has not started does not start. What runs ends by itself and is waited for, unless nobody answers.
fn cancel(entry: &mut DatacenterRun) {
    let silent = [Reason::DataPlaneUnreachable, Reason::DataPlaneNotReady]
        .iter()
        .any(|reason| entry.reason.as_deref() == Some(reason.as_str()));
    match entry.phase {
        Phase::Pending if entry.attempts() > 0 => {
            let message = entry.message.take().unwrap_or_default();
            set(entry, Phase::Failed, Reason::Cancelled, Some(format!("cancelled; {message}")));
        }
        Phase::Pending => cancelled(entry, "cancelled before it started"),
        Phase::Running if silent => {
            cancelled(entry, "cancelled while its data plane does not answer; what was begun there goes on");
        }
        Phase::Running
        | Phase::Succeeded
        | Phase::PartiallyFailed
        | Phase::Failed
        | Phase::Skipped
        | Phase::Cancelled => {}
    }
}

fn spend(entry: &mut DatacenterRun, why: &str) {
    match (entry.phase, entry.attempts()) {
        (Phase::Pending, 0) => {
            set(entry, Phase::Skipped, Reason::FailureBudgetSpent, Some(why.to_owned()));
        }
        (Phase::Pending, _) => {
            let message = format!("{}; {why}", entry.message.take().unwrap_or_default());
            set(entry, Phase::Failed, Reason::FailureBudgetSpent, Some(message));
        }
        _ => {}
    }
}

fn give_up(entry: &mut DatacenterRun, why: &str) {
    let before = entry.message.take().map(|message| format!(": {message}")).unwrap_or_default();
    let rest = if entry.phase == Phase::Running { "; it may still be going on" } else { "" };
    let message = format!("{why}{rest}{before}");
    set(entry, Phase::Failed, Reason::ProgressDeadlineExceeded, Some(message));
}

/// When the run is given up unless something goes on. Waiting for a place in the stagger window or for the next
/// attempt is no standstill.
#[must_use]
pub fn gives_up_at(scene: &Scene<'_>, entries: &[DatacenterRun], progress: Timestamp) -> Option<Timestamp> {
    let rollout = scene.job.spec.rollout();
    let patience = SignedDuration::from_secs(i64::try_from(limit(rollout.progress_deadline_seconds)?).ok()?);
    let expected =
        entries.iter().filter(|e| e.phase == Phase::Pending && !is_placeholder(e)).filter_map(|e| {
            match (e.attempts(), &e.finish_time) {
                (attempts @ 1.., Some(end)) => end.0.checked_add(retry_pause(attempts)).ok(),
                _ => scene
                    .begun
                    .checked_add(stagger(&rollout, &e.data_plane, &e.namespace, &e.datacenter))
                    .ok(),
            }
        });
    expected.fold(progress, Timestamp::max).checked_add(patience).ok()
}

/// Whether anything went on between two looks.
#[must_use]
pub fn went_on(before: &[DatacenterRun], after: &[DatacenterRun]) -> bool {
    let mark = |e: &DatacenterRun| {
        let ended = e.nodes.map(|nodes| (nodes.finished, nodes.failed));
        (e.phase.is_final(), e.attempts(), e.start_time.is_some(), ended)
    };
    before.len() != after.len() || before.iter().zip(after).any(|(b, a)| mark(b) != mark(a))
}

/// The next moment at which a deadline passes.
#[must_use]
pub fn next_deadline(scene: &Scene<'_>, entries: &[DatacenterRun], progress: Timestamp) -> Option<Timestamp> {
    let timeouts = entries.iter().filter_map(|entry| times_out_at(scene, entry));
    timeouts.chain(gives_up_at(scene, entries, progress)).min()
}

/// Says what would be done, in entries that nothing else is said about.
pub fn rehearse(scene: &Scene<'_>, entries: &mut [DatacenterRun]) {
    let rollout = scene.job.spec.rollout();
    for entry in entries.iter_mut().filter(|e| e.phase == Phase::Pending && !is_placeholder(e)) {
        let waits = entry.reason.as_deref().is_some_and(|reason| reason != Reason::Pending.as_str());
        if waits && entry.reason.as_deref() != Some(Reason::AwaitingTurn.as_str()) {
            continue;
        }
        let key = child_key(scene.job, entry, 1);
        let seconds = stagger(&rollout, &entry.data_plane, &entry.namespace, &entry.datacenter).as_secs();
        let after = if seconds > 0 { format!(", {seconds} s after the start") } else { String::new() };
        let message = format!("would be backed up as {key}{after}");
        set(entry, Phase::Pending, Reason::DryRun, Some(message));
    }
}
