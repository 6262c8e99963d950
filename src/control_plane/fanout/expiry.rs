//! Deletes a run whose time after its end is over, and the MedusaBackupJobs it made. Backups stay.

use std::time::Duration;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{DeleteParams, Preconditions},
};

use super::{
    child::{child_key, is_finished, is_of},
    desk::delete,
    write::Outcome,
};
use crate::{
    api::{
        Reason,
        fleet::{FleetBackupJob, FleetBackupJobStatus},
    },
    control_plane::fleet::{Snapshot, Usable},
    runtime::events::Events,
};

/// Pause before children that could not be deleted are looked at again.
const AGAIN: Duration = Duration::from_secs(15);
/// How long a data plane that does not answer may delay the deletion.
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);

/// When a run that is over is to be deleted.
pub(super) fn expires_at(job: &FleetBackupJob, status: &FleetBackupJobStatus) -> Option<Timestamp> {
    let seconds = i64::from(job.spec.ttl_seconds_after_finished?);
    let end = status.finish_time.as_ref()?.0;
    Some(end.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX))
}

/// Deletes the run's children and then the run, or says when to look again. A child that a data plane is still at
/// work on stays: it is the only trace of that work. `overdue` says for how long it should have been deleted.
///
/// # Errors
/// When the run itself cannot be deleted.
pub async fn expire(
    client: &Client,
    events: &Events,
    job: &FleetBackupJob,
    status: &FleetBackupJobStatus,
    planes: &[Snapshot],
    overdue: SignedDuration,
) -> Result<Option<Duration>, kube::Error> {
    let mut unknown: Vec<String> = Vec::new();
    let mut deletions = Vec::new();
    for plane in planes {
        let entries: Vec<_> =
            status.datacenters.iter().filter(|e| e.data_plane == plane.name && e.attempts() > 0).collect();
        if entries.is_empty() {
            continue;
        }
        let Some(remote) = plane.remote.as_ref().filter(|_| plane.usable == Usable::Ready) else {
            unknown.push(plane.name.clone());
            continue;
        };
        for entry in entries {
            for key in (1..=entry.attempts()).map(|attempt| child_key(job, entry, attempt)) {
                let Some(child) = plane.view.jobs.items.get(&key) else { continue };
                if is_of(child, job) && is_finished(child) {
                    let uid = child.uid().unwrap_or_default();
                    deletions.push(async move { (plane, delete(remote, &key, &uid, None).await) });
                }
            }
        }
    }
    for (plane, outcome) in join_all(deletions).await {
        if outcome != Outcome::Withdrawn && !unknown.contains(&plane.name) {
            unknown.push(plane.name.clone());
        }
    }
    if !unknown.is_empty() {
        if overdue < PATIENCE {
            return Ok(Some(AGAIN));
        }
        let note = format!(
            "deleted after its time was over; MedusaBackupJobs it made may be left in data plane {}",
            unknown.join(", ")
        );
        events.warning(job.object_ref(&()), Reason::LeftBehind, "Expire", note);
    }
    let api: Api<FleetBackupJob> = Api::namespaced(client.clone(), &job.namespace().unwrap_or_default());
    let preconditions = Preconditions { uid: job.uid(), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match api.delete(&job.name_any(), &params).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(None),
        Err(error) => Err(error),
    }
}
