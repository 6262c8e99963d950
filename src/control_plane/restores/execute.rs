//! A restore that has begun, datacenter by datacenter: made, watched, called off. Pure.

use kube::{ResourceExt as _, core::ObjectMeta};

use super::{
    check::waits_for,
    checks::reach,
    judge::{self, RestoreVerdict, can_be_called_off, judge},
    machine::{RestoreWrite, start_limit, turn},
    plan::RestoreInputs,
    resolve::Place,
};
use crate::{
    api::{
        Reason, Seen, Why,
        fleet::{FleetRestoreJobStatus, Phase, RestoreOrder, RestorePlan, RestoreRun},
        labels,
        medusa::{MedusaRestoreJob, MedusaRestoreJobSpec},
    },
    control_plane::{
        data_planes::{
            fleet::{Snapshot, Usable},
            view::ObjectKey,
        },
        runs::child::{ExactObject, is_of, metadata},
    },
};

/// Advances every entry by what is seen, and says what to write for what `old` has recorded.
#[must_use]
pub fn advance(
    inputs: &RestoreInputs<'_>,
    old: &FleetRestoreJobStatus,
) -> (Vec<RestoreRun>, Vec<RestoreWrite>) {
    let (mut runs, mut actions) = (Vec::new(), Vec::new());
    let may_start = may_start(inputs, old);
    for (entry, run) in old.plan.iter().zip(&old.datacenters) {
        let mut run = run.clone();
        if !run.phase.is_final() && run.job.is_some() {
            actions.extend(follow(inputs, entry, &mut run, may_start));
        }
        close(&mut run, inputs);
        runs.push(run);
    }
    take_turns(inputs, old, &mut runs);
    for run in &mut runs {
        close(run, inputs);
    }
    (runs, actions)
}

fn close(run: &mut RestoreRun, inputs: &RestoreInputs<'_>) {
    if run.phase.is_final() && run.job.is_some() {
        run.finish_time.get_or_insert(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(inputs.now));
    }
}

/// Whether a job may be made. The first one is made only while every data plane of the restore answers, so that a restore
/// never begins in a part of its datacenters. Once one was seen, the others follow as they can.
fn may_start(inputs: &RestoreInputs<'_>, old: &FleetRestoreJobStatus) -> bool {
    old.datacenters.iter().any(|run| run.job_uid.is_some())
        || old.plan.iter().all(|entry| {
            inputs.planes.iter().any(|p| p.name == entry.data_plane && p.usable == Usable::Ready)
        })
}

fn set(run: &mut RestoreRun, phase: Phase, reason: Reason, message: impl Into<Option<String>>) {
    run.phase = phase;
    run.reason = Some(reason.as_str().to_owned());
    run.message = message.into();
}

fn place_of(entry: &RestorePlan) -> Place {
    let key = ObjectKey::new(&entry.namespace, &entry.datacenter);
    Place { data_plane: entry.data_plane.clone(), key }
}

/// One datacenter whose turn it is or was.
fn follow(
    inputs: &RestoreInputs<'_>,
    entry: &RestorePlan,
    run: &mut RestoreRun,
    may_start: bool,
) -> Option<RestoreWrite> {
    let plane = match reach(&place_of(entry), inputs.planes) {
        Ok(plane) => plane,
        Err(Why { reason, message }) => {
            // Silence is no failure: what was begun there goes on without us.
            let phase = if reason == Reason::UnknownDataPlane { Phase::Failed } else { run.phase };
            set(run, phase, reason, message);
            return None;
        }
    };
    let key = ObjectKey::new(&entry.namespace, &entry.job);
    match plane.view.seen(&plane.view.restores, &key) {
        Seen::Known(job) => seen(inputs, run, plane, &key, job),
        Seen::Absent => absent(inputs, entry, run, plane, may_start),
        Seen::Unknown { why, .. } => {
            doubt(run, plane, &why);
            None
        }
    }
}

/// The data plane answers, and does not show what has to be known: what was begun there goes on without us.
fn doubt(run: &mut RestoreRun, plane: &Snapshot, why: &str) {
    let message = format!("data plane `{}` does not show what is there: {why}", plane.name);
    set(run, run.phase, Reason::WatchesStale, message);
}

fn seen(
    inputs: &RestoreInputs<'_>,
    run: &mut RestoreRun,
    plane: &Snapshot,
    key: &ObjectKey,
    job: &MedusaRestoreJob,
) -> Option<RestoreWrite> {
    let uid = job.uid().unwrap_or_default();
    let is_other = run.job_uid.as_ref().is_some_and(|known| *known != uid);
    if is_other || !is_of(job, inputs.job) {
        let message =
            format!("MedusaRestoreJob {key} exists and was not made by this restore; it is left alone");
        set(run, Phase::Failed, Reason::NameConflict, message);
        return None;
    }
    run.job_uid = Some(uid.clone());
    run.nodes = judge::nodes(job);
    run.stopped_time = job.status.as_ref().and_then(|s| s.datacenter_stopped.clone());
    match judge(job) {
        RestoreVerdict::Succeeded(unreported) => set(run, Phase::Succeeded, Reason::Succeeded, unreported),
        RestoreVerdict::Failed(Reason::Cancelled, why) => set(run, Phase::Cancelled, Reason::Cancelled, why),
        RestoreVerdict::Failed(reason, why) => set(run, Phase::Failed, reason, why),
        RestoreVerdict::Running(reason, message) => {
            set(run, Phase::Running, reason, message);
            return going_on(inputs, run, plane, key, job);
        }
    }
    None
}

/// A job that is not over: called off if that was asked for and is harmless, given up when its time is over.
fn going_on(
    inputs: &RestoreInputs<'_>,
    run: &mut RestoreRun,
    plane: &Snapshot,
    key: &ObjectKey,
    job: &MedusaRestoreJob,
) -> Option<RestoreWrite> {
    if inputs.job.spec.cancel {
        let cancelling = |run: &mut RestoreRun, message: &str| {
            set(run, Phase::Running, Reason::Cancelling, message.to_owned());
        };
        if job.metadata.deletion_timestamp.is_some() {
            cancelling(run, "waits for the datacenter to be put back");
            return None;
        }
        if can_be_called_off(job) && job.finalizers().iter().any(|f| f == labels::UNRECORDED) {
            // Deleted now it would stay, and k8ssandra-operator would go on with it (ADR 14).
            cancelling(run, "is called off as soon as it is recorded");
            return None;
        }
        if can_be_called_off(job) {
            cancelling(run, "nothing was restored yet; it is called off");
            return ExactObject::of(plane, job).map(RestoreWrite::CallOff);
        }
        let said = run.message.take().map(|m| format!("; {m}")).unwrap_or_default();
        run.message =
            Some(format!("it cannot be cancelled any more, as the datacenter was stopped for it{said}"));
    }
    let begun = run.start_time.as_ref().map_or(inputs.now, |t| t.0);
    let limit = inputs.job.spec.datacenter_timeout_seconds;
    if limit.is_some_and(|limit| inputs.now.duration_since(begun).as_secs() >= limit) {
        let stand = run.reason.clone().unwrap_or_default();
        let message = format!(
            "not done within {} s ({stand}); MedusaRestoreJob {key} is left to go on: look at it, and at the datacenter",
            limit.unwrap_or_default()
        );
        set(run, Phase::Failed, Reason::DeadlineExceeded, message);
    }
    None
}

/// There is no job of that name: it vanished, or has to be made.
fn absent(
    inputs: &RestoreInputs<'_>,
    entry: &RestorePlan,
    run: &mut RestoreRun,
    plane: &Snapshot,
    may_start: bool,
) -> Option<RestoreWrite> {
    if inputs.job.spec.cancel && run.stopped_time.is_none() {
        set(run, Phase::Cancelled, Reason::Cancelled, "called off before anything was restored".to_owned());
        return None;
    }
    if run.job_uid.is_some() {
        let message = format!(
            "MedusaRestoreJob {}/{} was deleted before it ended; the datacenter may be half restored: look at it, and \
             restore again",
            entry.namespace, entry.job
        );
        set(run, Phase::Failed, Reason::JobDeleted, message);
        return None;
    }
    let begun = run.start_time.as_ref().map_or(inputs.now, |t| t.0);
    if inputs.now.duration_since(begun) >= start_limit(inputs.job) {
        let message = format!(
            "its MedusaRestoreJob could not be made within {} s; it is not begun any more, and nothing was touched",
            inputs.job.spec.start_deadline_seconds
        );
        set(run, Phase::Failed, Reason::DeadlineExceeded, message);
        return None;
    }
    let key = ObjectKey::new(&entry.namespace, &entry.datacenter);
    let datacenter = match plane.view.seen(&plane.view.datacenters, &key) {
        Seen::Known(datacenter) => datacenter,
        Seen::Absent => {
            let message = format!("CassandraDatacenter {key} does not exist any more");
            set(run, Phase::Failed, Reason::DatacenterNotFound, message);
            return None;
        }
        Seen::Unknown { why, .. } => {
            doubt(run, plane, &why);
            return None;
        }
    };
    if !may_start {
        let message = "waits until every data plane of the restore answers".to_owned();
        set(run, Phase::Pending, Reason::DataPlaneUnreachable, message);
        return None;
    }
    set(run, Phase::Pending, Reason::Starting, None);
    let child = ObjectKey::new(&entry.namespace, &entry.job);
    let restore = MedusaRestoreJob {
        metadata: ObjectMeta {
            // It stays until the published status has the child's uid.
            finalizers: Some(vec![labels::UNRECORDED.to_owned()]),
            ..metadata(inputs.job, child, datacenter, inputs.control_plane)
        },
        spec: MedusaRestoreJobSpec {
            backup: entry.medusa_backup.clone(),
            cassandra_datacenter: entry.datacenter.clone(),
        },
        status: None,
    };
    Some(RestoreWrite::Restore(entry.data_plane.clone(), Box::new(restore)))
}

/// Gives the next datacenter its turn, when they go one after the other, and ends those that will get none because the
/// restore was cancelled or one before them failed.
fn take_turns(inputs: &RestoreInputs<'_>, old: &FleetRestoreJobStatus, runs: &mut [RestoreRun]) {
    let is_over = runs.iter().any(|run| run.phase.is_final() && run.phase != Phase::Succeeded);
    if inputs.job.spec.cancel || is_over {
        let (phase, reason, message) = if inputs.job.spec.cancel {
            (Phase::Cancelled, Reason::Cancelled, "cancelled before its turn; it was not touched")
        } else {
            (Phase::Skipped, Reason::PreviousFailed, "not touched, as one before it was not restored")
        };
        for run in runs.iter_mut().filter(|run| run.job.is_none() && !run.phase.is_final()) {
            set(run, phase, reason, message.to_owned());
        }
        return;
    }
    if inputs.job.spec.order == RestoreOrder::Parallel {
        return;
    }
    let Some(next) = runs.iter().position(|run| run.phase != Phase::Succeeded) else { return };
    let since = next.checked_sub(1).and_then(|n| runs.get(n)).and_then(|run| run.finish_time.clone());
    let (Some(run), Some(entry)) = (runs.get_mut(next), old.plan.get(next)) else { return };
    if run.job.is_some() {
        return;
    }
    match reach(&place_of(entry), inputs.planes) {
        Ok(_) => turn(run, &entry.job, inputs.now),
        Err(Why { reason, message }) => {
            let late = since.is_some_and(|s| inputs.now.duration_since(s.0) >= start_limit(inputs.job));
            if late || reason == Reason::UnknownDataPlane {
                set(run, Phase::Failed, reason, format!("not touched: when it was its turn, {message}"));
            } else {
                set(run, Phase::Pending, reason, message);
            }
        }
    }
}

/// What became of one write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The object is there, and ours: its uid.
    There(String),
    /// An object of that name is there and is not ours.
    Conflict,
    /// The deletion was asked for.
    CalledOff,
    /// It could not be written for now.
    NotNow(Reason, String),
}

/// Puts the outcome of the write about `key` into the status.
pub fn fold(status: &mut FleetRestoreJobStatus, data_plane: &str, key: &ObjectKey, outcome: WriteOutcome) {
    let is_it = |plane: &str, namespace: &str, job: &str| {
        plane == data_plane && namespace == key.namespace && job == key.name
    };
    let run = status
        .datacenters
        .iter_mut()
        .find(|r| is_it(&r.data_plane, &r.namespace, r.job.as_deref().unwrap_or_default()));
    if let Some(run) = run {
        match outcome {
            WriteOutcome::There(uid) => {
                run.job_uid = Some(uid);
                set(run, Phase::Running, Reason::JobCreated, None);
            }
            WriteOutcome::Conflict => {
                let message = format!("MedusaRestoreJob {key} exists and was not made by this restore");
                set(run, Phase::Failed, Reason::NameConflict, message);
            }
            WriteOutcome::NotNow(reason, message) => set(run, run.phase, reason, message),
            WriteOutcome::CalledOff => {}
        }
        return;
    }
    // A sync that could not be made: its check says why.
    let entry = status.plan.iter_mut().find(|e| is_it(&e.data_plane, &e.namespace, &e.job));
    if let (Some(entry), WriteOutcome::NotNow(_, why)) = (entry, outcome) {
        let check = entry.checks.iter_mut().find(|c| waits_for(c, Reason::SyncNeeded));
        if let Some(message) = check.and_then(|c| c.message.as_mut()) {
            *message = format!("{message}; it could not be made yet: {why}");
        }
    }
}
