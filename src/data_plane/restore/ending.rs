//! The writes that end a restore, and those that say how far it is.

use kube::{Resource as _, runtime::controller::Action};

use super::{is_finished, is_held, judge::Report, lock::RestoreEnd, lock_of, observe::Seen, write};
use crate::{
    api::{
        Reason,
        medusa::{MedusaRestoreJob, MedusaRestoreJobStatus},
    },
    data_plane::frame::{context::Tools, objects, outcome},
};

/// Writes the pods' stand into the status, if it has changed.
///
/// # Errors
/// When the API server refuses, among others because the object has changed.
pub async fn note(
    tools: &Tools,
    job: &MedusaRestoreJob,
    report: &Report,
) -> Result<MedusaRestoreJob, kube::Error> {
    let mut status = job.status.clone().unwrap_or_default();
    status.finished.clone_from(&report.finished);
    status.failed.clone_from(&report.failed);
    status.in_progress.clone_from(&report.in_progress);
    if job.status.as_ref() == Some(&status) {
        return Ok(job.clone());
    }
    put(tools, job, status).await
}

/// The users, then `finishTime`, which says that all is done; then annotation and finalizer go.
///
/// # Errors
/// When the API server refuses, among others because the object has changed.
pub async fn finish(
    tools: &Tools,
    job: &MedusaRestoreJob,
    seen: &Seen,
    verdict: &RestoreEnd,
) -> Result<Action, kube::Error> {
    if is_finished(job) {
        return let_go(tools, job, seen).await;
    }
    let now = tools.clock.now();
    let mut status = job.status.clone().unwrap_or_default();
    let mut message = verdict.message.clone();
    if let (Some(datacenter), false) = (&seen.typed, status.finished.is_empty()) {
        let begun = status.start_time.as_ref().map_or(now, |time| time.0);
        let missing = write::refresh_users(&tools.client, datacenter, begun).await?;
        if !missing.is_empty() {
            let note = format!(
                "Secrets {} of Cassandra users do not exist: should restored passwords be older, nobody sets \
                 them anew",
                missing.join(", ")
            );
            tools.events.warning(job.object_ref(&()), Reason::UserSecretNotFound, "RefreshUsers", &note);
            message = format!("{message}. {note}");
        }
    }
    let generation = job.metadata.generation;
    if verdict.is_good() {
        outcome::succeed(&mut status, &message, generation, now);
    } else {
        status.failed.append(&mut status.in_progress);
        outcome::fail(&mut status, verdict.reason(), &message, generation, now);
    }
    let job = put(tools, job, status).await?;
    if verdict.is_good() {
        tools.events.normal(job.object_ref(&()), Reason::Succeeded, "FinishRestore", message);
    } else {
        tools.events.warning(job.object_ref(&()), verdict.reason(), "FinishRestore", message);
    }
    let_go(tools, &job, seen).await
}

/// Takes our annotation off the datacenter and our finalizer off the job.
///
/// # Errors
/// When the API server refuses, among others because the object has changed.
pub async fn let_go(tools: &Tools, job: &MedusaRestoreJob, seen: &Seen) -> Result<Action, kube::Error> {
    if lock_of(seen).is_some() {
        write::release(&tools.client, job, &seen.raw).await?;
    }
    if is_held(job) {
        write::finalizer(&tools.client, job, false).await?;
    }
    Ok(Action::await_change())
}

/// Writes the status, and returns the job with what was written, should the cluster's definition have
/// dropped a part of it.
///
/// # Errors
/// When the API server refuses, among others because the object has changed.
pub async fn put(
    tools: &Tools,
    job: &MedusaRestoreJob,
    status: MedusaRestoreJobStatus,
) -> Result<MedusaRestoreJob, kube::Error> {
    let version = job.metadata.resource_version.clone().unwrap_or_default();
    let patch = write::status_patch(&version, &status);
    let mut written = objects::patch_status(&tools.client, job, &patch).await?;
    written.status = Some(status);
    Ok(written)
}
