//! From what the data planes show to the state of each datacenter in a run. Pure: the order in which news arrive
//! does not matter.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use super::{
    Scene,
    judge::{self, Evidence, judge},
    write::Outcome,
};
use crate::{
    api::{
        Reason, Seen,
        fleet::{DatacenterRun, Phase},
        medusa::MedusaBackupJob,
    },
    control_plane::{
        data_planes::{fleet::Snapshot, records::BackupRecord, view::ObjectKey},
        runs::{
            MISSING, Noted,
            child::{Child as _, child_key, is_of, place},
            desk,
            ending::{cancelled, finish, set, stall, time_out},
            reach::{doubt, reach},
            rollout::{may_retry, retry_pause},
            verdict::Verdict,
        },
    },
};

/// How long a child may be missing from a listing before it counts as deleted: one that was just made can be left
/// out by a listing that began before.
const MISSING_GRACE: SignedDuration = SignedDuration::from_secs(5);

/// What became of the writes, by child.
pub type Outcomes = desk::Outcomes<Outcome>;

/// Advances every entry by what is seen and by what became of the writes.
#[must_use]
pub fn advance(
    scene: &Scene<'_>,
    entries: &[DatacenterRun],
    outcomes: &Outcomes,
    noted: &Noted,
) -> Vec<DatacenterRun> {
    entries
        .iter()
        .map(|entry| {
            let mut entry = entry.clone();
            if !entry.phase.is_final() {
                step(scene, &mut entry, outcomes, noted);
                if entry.phase.is_final() {
                    finish(&mut entry, scene.now);
                }
            }
            entry
        })
        .collect()
}

fn step(scene: &Scene<'_>, entry: &mut DatacenterRun, outcomes: &Outcomes, noted: &Noted) {
    let Some(plane) = reach(&scene.terms(), &scene.planes, entry) else { return };
    match newest_child(scene, entry, plane) {
        Seen::Known((attempt, key, child)) => seen(scene, entry, plane, (attempt, &key, child), noted),
        Seen::Unknown { why, .. } => doubt(&scene.terms(), entry, why),
        Seen::Absent if entry.phase == Phase::Running => missing(scene, entry, plane, outcomes, noted),
        Seen::Absent => not_made(scene, entry, plane, outcomes),
    }
}

/// The child of the last attempt that has one: an attempt made before a crash may not be in the status yet.
fn newest_child<'a>(
    scene: &Scene<'_>,
    entry: &DatacenterRun,
    plane: &'a Snapshot,
) -> Seen<(usize, ObjectKey, &'a MedusaBackupJob)> {
    let find = |attempt: usize| {
        let key = child_key(scene.job, entry, attempt);
        plane.view.seen(&plane.view.jobs, &key).map(|child| (attempt, key, child.as_ref()))
    };
    let first = entry.attempts().max(1);
    let mut newest = find(first);
    for attempt in first + 1.. {
        match find(attempt) {
            Seen::Absent => break,
            Seen::Known(later) => newest = Seen::Known(later),
            unknown @ Seen::Unknown { .. } => return unknown,
        }
    }
    newest
}

fn backup_of<'a>(plane: &'a Snapshot, key: &ObjectKey) -> Seen<&'a BackupRecord> {
    plane.view.seen(&plane.view.backups, key).map(AsRef::as_ref)
}

/// The child is there.
fn seen(
    scene: &Scene<'_>,
    entry: &mut DatacenterRun,
    plane: &Snapshot,
    (attempt, key, child): (usize, &ObjectKey, &MedusaBackupJob),
    noted: &Noted,
) {
    if !is_of(child, scene.job) {
        conflict(entry, key);
        return;
    }
    if entry.attempts() >= attempt && entry.phase == Phase::Pending {
        return; // That attempt failed; the next one is due after a pause.
    }
    made(entry, attempt, key, scene.now);
    let backup = backup_of(plane, key);
    let evidence = Evidence {
        job: child,
        backup: backup.clone(),
        datacenter: plane.view.datacenters.last(&place(entry)).map(AsRef::as_ref),
        finished_since: noted
            .get(&(plane.name.clone(), key.clone()), &child.uid().unwrap_or_default())
            .copied(),
    };
    entry.nodes = Some(judge::nodes(&evidence));
    if let Some(status) = &child.status {
        entry.start_time.clone_from(&status.start_time);
    }
    match judge(&evidence, scene.now) {
        Verdict::Running { reason, message } => {
            set(entry, Phase::Running, reason, message);
            time_out(&scene.terms(), entry);
            if !child.is_finished() {
                stall(&scene.terms(), entry, &format!("MedusaBackupJob {key}"));
            }
        }
        Verdict::Failed { reason, message } => failed(scene, entry, reason, message),
        Verdict::Succeeded => {
            succeeded(entry, backup.known().copied());
            entry.finish_time = child.status.as_ref().and_then(|s| s.finish_time.clone());
        }
    }
}

/// A child was made, now or earlier.
fn made(entry: &mut DatacenterRun, attempt: usize, key: &ObjectKey, now: Timestamp) {
    if entry.attempts() < attempt {
        entry.attempts = i64::try_from(attempt).unwrap_or(i64::MAX);
        entry.created_time = Some(Time(now));
        entry.start_time = None;
        entry.finish_time = None;
    }
    entry.job = Some(key.name.clone());
    entry.attempts = entry.attempts.max(1);
    entry.created_time.get_or_insert(Time(now));
}

fn succeeded(entry: &mut DatacenterRun, backup: Option<&BackupRecord>) {
    set(entry, Phase::Succeeded, Reason::Succeeded, None);
    entry.size_bytes = backup.and_then(|b| b.size_bytes);
}

/// An attempt failed. What may go better the next time is tried again while the run allows it.
fn failed(scene: &Scene<'_>, entry: &mut DatacenterRun, reason: Reason, message: String) {
    let worth_it =
        matches!(reason, Reason::NodesFailed | Reason::BackupIncomplete | Reason::MedusaBackupMissing);
    let attempts = entry.attempts();
    if !worth_it || scene.job.spec.run.is_cancelled() || !may_retry(&scene.job.spec.run.rollout(), attempts) {
        set(entry, Phase::Failed, reason, Some(message));
        return;
    }
    let at = scene.now.saturating_add(retry_pause(attempts)).unwrap_or(Timestamp::MAX);
    let message = format!("attempt {attempts} failed ({reason}): {message}; the next one follows at {at:.0}");
    set(entry, Phase::Pending, Reason::AwaitingRetry, Some(message));
    entry.finish_time = Some(Time(scene.now));
    entry.created_time = None;
}

/// The child was made and is not there.
fn missing(
    scene: &Scene<'_>,
    entry: &mut DatacenterRun,
    plane: &Snapshot,
    outcomes: &Outcomes,
    noted: &Noted,
) {
    let key = child_key(scene.job, entry, entry.attempts().max(1));
    let at = (plane.name.clone(), key.clone());
    if outcomes.get(&at) == Some(&Outcome::There) {
        return; // Just made; the view will show it.
    }
    let backup = backup_of(plane, &key);
    if let Seen::Known(backup) = backup
        && backup.status == "SUCCESS"
        && backup.finished_nodes == backup.total_nodes
    {
        succeeded(entry, Some(backup));
    } else if outcomes.get(&at) == Some(&Outcome::Withdrawn) || scene.job.spec.run.is_cancelled() {
        cancelled(entry, "cancelled before its data plane had begun with it");
    } else if let Seen::Unknown { why, .. } = backup {
        // Its MedusaBackup may say that it was done.
        doubt(&scene.terms(), entry, why);
    } else if noted.get(&at, MISSING).is_some_and(|since| scene.now.duration_since(*since) >= MISSING_GRACE) {
        let message = format!("MedusaBackupJob {key} was deleted before it finished");
        set(entry, Phase::Failed, Reason::JobDeleted, Some(message));
    }
}

/// The next attempt has not been made.
fn not_made(scene: &Scene<'_>, entry: &mut DatacenterRun, plane: &Snapshot, outcomes: &Outcomes) {
    let attempt = entry.attempts() + 1;
    let key = child_key(scene.job, entry, attempt);
    let datacenter = plane.view.seen(&plane.view.datacenters, &place(entry));
    match outcomes.get(&(plane.name.clone(), key.clone())) {
        Some(Outcome::There) => {
            made(entry, attempt, &key, scene.now);
            set(entry, Phase::Running, Reason::JobCreated, None);
        }
        Some(Outcome::Conflict) => conflict(entry, &key),
        Some(Outcome::NotNow(reason, message)) => set(entry, Phase::Pending, *reason, Some(message.clone())),
        Some(Outcome::Withdrawn) | None if datacenter == Seen::Absent => {
            let message = format!("CassandraDatacenter {} does not exist any more", place(entry));
            set(entry, Phase::Failed, Reason::DatacenterNotFound, Some(message));
        }
        Some(Outcome::Withdrawn) | None if let Seen::Unknown { why, .. } = datacenter => {
            doubt(&scene.terms(), entry, why);
        }
        Some(Outcome::Withdrawn) | None if entry.attempts() == 0 => {
            set(entry, Phase::Pending, Reason::Pending, None);
        }
        Some(Outcome::Withdrawn) | None => {}
    }
}

fn conflict(entry: &mut DatacenterRun, key: &ObjectKey) {
    let message = format!("MedusaBackupJob {key} exists and was not made by this run; it is left alone");
    set(entry, Phase::Failed, Reason::NameConflict, Some(message));
}

#[cfg(test)]
mod tests;
