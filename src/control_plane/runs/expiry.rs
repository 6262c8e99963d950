//! Deletes a run whose time after its end is over, and what it made in the data planes. Backups stay, and so does what
//! alone tells of one: a purge has to know of it (ADR 22).

use std::time::Duration;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, Preconditions},
};

use super::{
    child::{Child, is_of},
    kind::Fanned,
    write::delete,
};
use crate::{
    api::Reason,
    control_plane::fleet::{Snapshot, Usable},
    runtime::events::Events,
};

/// Pause before children that could not be deleted are looked at again.
const AGAIN: Duration = Duration::from_secs(15);
/// How long a data plane that does not answer may delay the deletion.
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);

/// When a run that is over is to be deleted.
pub(super) fn expires_at<K: Fanned>(run: &K, status: &K::Status) -> Option<Timestamp> {
    let seconds = i64::from(run.ttl()?);
    let end = K::finish_time(status)?.0;
    Some(end.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX))
}

/// Deletes the run's children and then the run, or says when to look again. A child that a data plane is still at
/// work on stays, and so does one that ended and that nothing else tells of: each is the only trace of its work.
/// `overdue` says for how long it should have been deleted.
///
/// # Errors
/// When the run itself cannot be deleted.
pub async fn expire<K: Fanned>(
    client: &Client,
    events: &Events,
    run: &K,
    status: &K::Status,
    planes: &[Snapshot],
    overdue: SignedDuration,
) -> Result<Option<Duration>, kube::Error> {
    let mut unknown: Vec<&str> = Vec::new();
    let mut deletions = Vec::new();
    let entries = K::entries(status);
    for plane in planes {
        if !entries.iter().any(|e| e.data_plane == plane.name && e.attempts() > 0) {
            continue;
        }
        let Some(remote) = plane.remote.as_ref().filter(|_| plane.usable == Usable::Ready) else {
            unknown.push(&plane.name);
            continue;
        };
        let Some(items) = plane.view.listing(K::Child::section(&plane.view)).known() else {
            unknown.push(&plane.name);
            continue;
        };
        for (key, child) in items.iter().filter(|(_, child)| is_of(child.as_ref(), run)) {
            if child.is_only_trace(&plane.view, key) {
                continue;
            }
            if child.is_finished() || !child.is_started() {
                // One that is begun with in this moment stays.
                let version = child.resource_version().filter(|_| !child.is_finished());
                let uid = child.uid().unwrap_or_default();
                deletions.push(async move {
                    let is_gone = match delete::<K::Child>(remote, key, &uid, version.as_deref()).await {
                        Ok(()) => true,
                        // Another object of that name is none of ours.
                        Err(error) => error.code() == Some(409) && version.is_none(),
                    };
                    (plane, is_gone)
                });
            }
        }
    }
    for (plane, is_gone) in join_all(deletions).await {
        if !is_gone && !unknown.contains(&plane.name.as_str()) {
            unknown.push(&plane.name);
        }
    }
    if !unknown.is_empty() {
        if overdue < PATIENCE {
            return Ok(Some(AGAIN));
        }
        let note = format!(
            "deleted after its time was over; objects it made may be left in data plane {}",
            unknown.join(", ")
        );
        events.warning(run.object_ref(&()), Reason::LeftBehind, "Expire", note);
    }
    let api: Api<K> = Api::namespaced(client.clone(), &run.namespace().unwrap_or_default());
    let preconditions = Preconditions { uid: run.uid(), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match api.delete(&run.name_any(), &params).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(None),
        Err(error) => Err(error),
    }
}
