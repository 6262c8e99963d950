//! What the data planes show of each datacenter's part. Pure: the order in which news arrive does not matter.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource as _;

use super::{
    Outcome, Scene,
    child::sync_key,
    judge::{self, Evidence, judge, purged},
};
use crate::{
    api::{
        Reason, Seen,
        fleet::{DatacenterRun, DatacenterTask, FleetOperation, Phase, Purged},
        medusa::MedusaTask,
    },
    control_plane::{
        data_planes::{capabilities::Feature, fleet::Snapshot, view::ObjectKey},
        runs::{
            child::{Child as _, child_key, is_of, place},
            ending::{cancelled, set, stall, time_out},
            imports::Wordless,
            reach::{doubt, reach, wait},
            rollout::may_retry,
            verdict::Verdict,
        },
    },
};

/// Advances one entry. `outcome` is what became of a write for a child, `finished_since` since when a child has been
/// seen finished.
pub(super) fn advance<'o>(
    scene: &Scene<'_>,
    entry: &mut DatacenterTask,
    outcome: &impl Fn(&str, &ObjectKey) -> Option<&'o Outcome>,
    finished_since: &impl Fn(&str, &ObjectKey) -> Option<Timestamp>,
) {
    let Some(plane) = reach(&scene.terms(), &scene.planes, &mut entry.run) else { return };
    if let Err(lack) = plane.view.capabilities.allow(Feature::Tasks) {
        // What is not permitted cannot be seen either: a child that was made is not gone.
        let fails = entry.run.attempts() == 0 && lack.reason != Reason::Connecting;
        let phase = if fails { Phase::Failed } else { entry.run.phase };
        set(&mut entry.run, phase, lack.reason, Some(lack.message));
        return;
    }
    if entry.run.phase == Phase::Pending {
        begin(scene, plane, entry, outcome);
    }
    if entry.run.phase == Phase::Running {
        go_on(scene, plane, entry, outcome, finished_since);
    }
    // Also of one that waits for another attempt: it may be decided by the run, and a shortened status lacks them.
    entry.purged = figures(scene, plane, &entry.run).or(entry.purged);
}

/// An entry that waits for its first or next child.
fn begin<'o>(
    scene: &Scene<'_>,
    plane: &Snapshot,
    entry: &mut DatacenterTask,
    outcome: &impl Fn(&str, &ObjectKey) -> Option<&'o Outcome>,
) {
    let attempt = entry.run.attempts() + 1;
    let key = child_key(scene.task, &entry.run, attempt);
    let outcome = outcome(&plane.name, &key);
    let seen = plane.view.seen(&plane.view.tasks, &key);
    // Made before a crash it is adopted.
    if seen.known().is_some_and(|child| is_of(child.as_ref(), scene.task))
        || matches!(outcome, Some(Outcome::There(_)))
    {
        if let Some(Outcome::There(keeps)) = outcome {
            entry.keeps.clone_from(keeps);
        }
        let run = &mut entry.run;
        run.job = Some(key.name);
        run.attempts = i64::try_from(attempt).unwrap_or(i64::MAX);
        run.created_time = Some(Time(scene.now));
        run.start_time = None;
        run.finish_time = None;
        set(run, Phase::Running, Reason::JobCreated, None);
        return;
    }
    if seen.known().is_some() || outcome == Some(&Outcome::Conflict) {
        conflict(&mut entry.run, &key);
        return;
    }
    if let Seen::Unknown { why, .. } = seen {
        doubt(&scene.terms(), &mut entry.run, why);
        return;
    }
    let datacenter = plane.view.seen(&plane.view.datacenters, &place(&entry.run));
    match outcome {
        Some(Outcome::Shut(reason, message)) => {
            set(&mut entry.run, Phase::Failed, *reason, Some(message.clone()));
        }
        Some(Outcome::NotNow(Reason::RestorePointsUnknown, message)) => {
            wait(&scene.terms(), &mut entry.run, Reason::RestorePointsUnknown, message.clone());
        }
        Some(Outcome::NotNow(reason, message)) => {
            set(&mut entry.run, Phase::Pending, *reason, Some(message.clone()));
        }
        Some(Outcome::Would(keeps)) => {
            entry.keeps.clone_from(keeps);
            let message = format!("would {} it as {key}", scene.task.spec.operation.as_str());
            set(&mut entry.run, Phase::Pending, Reason::DryRun, Some(message));
        }
        _ if datacenter == Seen::Absent => {
            let message = format!("CassandraDatacenter {} does not exist any more", place(&entry.run));
            set(&mut entry.run, Phase::Failed, Reason::DatacenterNotFound, Some(message));
        }
        _ if let Seen::Unknown { why, .. } = datacenter => doubt(&scene.terms(), &mut entry.run, why),
        _ if attempt == 1 => set(&mut entry.run, Phase::Pending, Reason::Pending, None),
        _ => {}
    }
}

/// An entry whose child was made.
fn go_on<'o>(
    scene: &Scene<'_>,
    plane: &Snapshot,
    entry: &mut DatacenterTask,
    outcome: &impl Fn(&str, &ObjectKey) -> Option<&'o Outcome>,
    finished_since: &impl Fn(&str, &ObjectKey) -> Option<Timestamp>,
) {
    let key = child_key(scene.task, &entry.run, entry.run.attempts());
    let outcome_of = |key: &ObjectKey| outcome(&plane.name, key);
    match outcome_of(&key) {
        Some(Outcome::Withdrawn) => {
            withdrawn(scene, &mut entry.run);
            return;
        }
        // The view showed the child before its making was known to be over.
        Some(Outcome::There(Some(keeps))) => entry.keeps = Some(keeps.clone()),
        _ => {}
    }
    let own = |key: &ObjectKey| plane.view.seen(&plane.view.tasks, key).map(AsRef::as_ref);
    let child = match own(&key) {
        Seen::Known(child) => child,
        Seen::Absent => {
            if missed_at(scene, &entry.run).is_none_or(|at| scene.now >= at) {
                let message = format!("MedusaTask {key} was deleted before it was judged");
                set(&mut entry.run, Phase::Failed, Reason::JobDeleted, Some(message));
            }
            return;
        }
        Seen::Unknown { why, .. } => {
            doubt(&scene.terms(), &mut entry.run, why);
            return;
        }
    };
    let follow_up = sync_key(&key);
    let datacenter = plane.view.datacenters.last(&place(&entry.run)).map(AsRef::as_ref);
    let sync = own(&follow_up).known().copied().filter(|sync| is_of(*sync, scene.task));
    let evidence = Evidence {
        child,
        sync,
        wordless: Wordless::of(sync.unwrap_or(child), &plane.view, scene.now),
        datacenter,
        finished_since: finished_since(&plane.name, &key),
    };
    entry.sync = evidence.sync.map(|_| follow_up.name.clone()).or(entry.sync.take());
    entry.run.nodes = Some(judge::nodes(child, datacenter));
    if let Some(status) = &child.status {
        entry.run.start_time.clone_from(&status.start_time);
    }
    let mut verdict = judge(&evidence, scene.now);
    if evidence.sync.is_none() && matches!(verdict, Verdict::Running { reason: Reason::AwaitingSync, .. }) {
        verdict = match outcome_of(&follow_up) {
            Some(Outcome::Conflict) => Verdict::Failed {
                reason: Reason::NameConflict,
                message: format!(
                    "the purge is done, but MedusaTask {follow_up} exists and was not made by this task; make a sync \
                     with another name, so that purged MedusaBackups go"
                ),
            },
            Some(Outcome::NotNow(reason, message)) => {
                Verdict::Running { reason: *reason, message: Some(message.clone()) }
            }
            _ => verdict,
        };
    }
    match verdict {
        // The sync after a purge is made again under its name ([`super::plan::repairs`]).
        Verdict::Running { message: Some(message), .. }
            if sync.is_none() && evidence.wordless.as_ref().is_some_and(Wordless::is_unwhole) =>
        {
            if scene.task.spec.run.is_cancelled() {
                cancelled(&mut entry.run, "cancelled before another sync imported what is left");
                return;
            }
            entry.run.finish_time = Some(Time(scene.now));
            set(&mut entry.run, Phase::Pending, Reason::AwaitingSync, Some(message));
        }
        Verdict::Running { reason, message } => {
            set(&mut entry.run, Phase::Running, reason, message);
            time_out(&scene.terms(), &mut entry.run);
            let at_work = match sync {
                _ if !child.is_finished() => Some(&key),
                Some(sync) if !sync.is_finished() => Some(&follow_up),
                Some(_) | None => None,
            };
            if let Some(at_work) = at_work {
                stall(&scene.terms(), &mut entry.run, &format!("MedusaTask {at_work}"));
            }
        }
        Verdict::Succeeded => {
            set(&mut entry.run, Phase::Succeeded, Reason::Succeeded, None);
            let last = evidence.sync.unwrap_or(child);
            entry.run.finish_time = last.status.as_ref().and_then(|status| status.finish_time.clone());
        }
        Verdict::Failed { reason, message } => failed(scene, &mut entry.run, reason, message),
    }
}

/// The figures of all attempts whose MedusaTasks are there: a purge that failed has removed something all the same.
fn figures(scene: &Scene<'_>, plane: &Snapshot, run: &DatacenterRun) -> Option<Purged> {
    let children = run.latest_attempts().filter_map(|attempt| {
        let child: &MedusaTask = plane.view.tasks.last(&child_key(scene.task, run, attempt))?;
        purged(child)
    });
    children.reduce(Purged::plus)
}

/// A child failed: another attempt follows, or the datacenter failed.
fn failed(scene: &Scene<'_>, run: &mut DatacenterRun, reason: Reason, message: String) {
    let attempts = run.attempts();
    if may_retry(&scene.terms().rollout, attempts) && !scene.task.spec.run.is_cancelled() {
        run.finish_time = Some(Time(scene.now));
        set(run, Phase::Pending, reason, Some(format!("attempt {attempts} failed: {message}")));
    } else {
        set(run, Phase::Failed, reason, Some(message));
    }
}

fn withdrawn(scene: &Scene<'_>, run: &mut DatacenterRun) {
    if scene.task.spec.run.is_cancelled() {
        cancelled(run, "cancelled before its data plane began with it");
        return;
    }
    let message = format!(
        "its data plane did not begin within {} min; the check that a restore point stays would not hold any longer",
        START_WITHIN.as_mins()
    );
    failed(scene, run, Reason::NotStarted, message);
}

fn conflict(run: &mut DatacenterRun, key: &ObjectKey) {
    let message = format!("MedusaTask {key} exists and was not made by this task; it is left alone");
    set(run, Phase::Failed, Reason::NameConflict, Some(message));
}

/// How long a purge's child may wait for its data plane to begin: what was known of restore points when it was made
/// must still hold.
pub(super) const START_WITHIN: SignedDuration = SignedDuration::from_hours(1);

/// How long a child may be missing from a listing before it counts as deleted: one that was just made can be left
/// out by a listing that began before.
const MISSING_GRACE: SignedDuration = SignedDuration::from_secs(5);

/// When the child of an entry counts as deleted, should it not be there.
#[must_use]
pub(super) fn missed_at(scene: &Scene<'_>, run: &DatacenterRun) -> Option<Timestamp> {
    let plane = scene.planes.get(run.data_plane.as_str()).filter(|_| run.phase == Phase::Running)?;
    let key = child_key(scene.task, run, run.attempts());
    let is_missing = plane.view.seen(&plane.view.tasks, &key) == Seen::Absent;
    let made = run.created_time.as_ref().filter(|_| is_missing)?;
    made.0.checked_add(MISSING_GRACE).ok()
}

/// When a child that nobody has begun with is taken back.
#[must_use]
pub(super) fn withdrawn_at(scene: &Scene<'_>, run: &DatacenterRun) -> Option<Timestamp> {
    let purge = scene.task.spec.operation == FleetOperation::Purge;
    let waits = run.phase == Phase::Running && run.start_time.is_none() && purge;
    run.created_time.as_ref().filter(|_| waits)?.0.checked_add(START_WITHIN).ok()
}

/// Whether a child of an entry is to be taken back now: nobody has begun with it, and it is too late or cancelled.
#[must_use]
pub(super) fn is_to_withdraw(scene: &Scene<'_>, run: &DatacenterRun, child: &MedusaTask) -> bool {
    let late = withdrawn_at(scene, run).is_some_and(|at| scene.now >= at);
    is_untouched(child) && child.meta().uid.is_some() && (late || scene.task.spec.run.is_cancelled())
}

/// Whether no data plane has begun with a child.
#[must_use]
pub(super) fn is_untouched(child: &MedusaTask) -> bool {
    !child.is_started() && !child.is_finished()
}
