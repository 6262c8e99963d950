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
    child::{Child, ExactObject, is_of},
    kind::Fanned,
    publish::unless_stale,
    write::delete,
};
use crate::{
    api::Reason,
    control_plane::data_planes::fleet::{Snapshot, Usable},
    runtime::events::Events,
};

/// Pause before children that could not be deleted are looked at again.
const AGAIN: Duration = Duration::from_secs(15);
/// How long a data plane that does not answer may delay the deletion.
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);

/// When a run that is over is to be deleted.
pub(super) fn expires_at<K: Fanned>(run: &K, status: &K::Status) -> Option<Timestamp> {
    let seconds = i64::from(run.run().ttl_seconds_after_finished?);
    let end = K::progress(status).finish_time.as_ref()?.0;
    Some(end.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX))
}

/// Deletes the run's children and then the run, or returns the pause before the next attempt. A child that a data plane
/// is still at work on stays, and so does one that ended and that nothing else tells of: each is the only trace of its
/// work. `overdue` says for how long the run should have been deleted.
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
        let here = || entries.iter().filter(|e| e.data_plane == plane.name);
        if here().next().is_none() {
            continue;
        }
        let has_begun = here().any(|e| e.attempts() > 0);
        let remote = plane.remote.as_ref().filter(|_| plane.usable == Usable::Ready);
        let listed = plane.view.listing(K::Child::section(&plane.view)).known();
        let Some((remote, items)) = remote.zip(listed) else {
            // A request that was on its way when the entry was decided may still have made one: it goes if it is seen, and
            // nobody waits for that.
            if has_begun {
                unknown.push(&plane.name);
            }
            continue;
        };
        for (key, child) in items.iter().filter(|(_, child)| is_of(child.as_ref(), run)) {
            if child.is_only_trace(&plane.view, key) {
                continue;
            }
            if child.is_finished() || !child.is_started() {
                // One that is begun with in this moment stays, and so does one that somebody makes his own.
                let object = ExactObject::of(plane, child.as_ref());
                deletions.push(async move {
                    let is_gone = match &object {
                        Some(object) => delete::<K::Child>(remote, object).await.is_ok(),
                        None => false,
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
    unless_stale(api.delete(&run.name_any(), &params).await).map(|_| None)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Method, Request, Response, StatusCode};
    use kube::client::Body;
    use serde_json::{Value, json};
    use tower::service_fn;

    use super::*;
    use crate::{
        api::{
            fleet::{DatacenterRun, FleetBackupJob, FleetBackupJobStatus, Limits},
            medusa::MedusaBackupJob,
        },
        control_plane::{
            data_planes::{records::BackupRecord, remote::Remote, view::ObjectKey},
            fanout::tests::{datacenter, fleet_job, live, made, pending, plane},
        },
    };

    /// A client of an API server that answers every request with `code`, and what it was asked to delete.
    fn answering(code: u16) -> (Client, Arc<Mutex<Vec<Value>>>) {
        let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
        let seen = asked.clone();
        let service = service_fn(move |request: Request<Body>| {
            let seen = seen.clone();
            async move {
                assert_eq!(*request.method(), Method::DELETE);
                let body = request.into_body().collect_bytes().await?;
                seen.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
                let answer =
                    json!({"kind": "Status", "status": "Success", "code": code, "message": "", "reason": ""});
                let mut answer = Response::new(Body::from(answer.to_string().into_bytes()));
                *answer.status_mut() = StatusCode::from_u16(code).unwrap();
                Ok::<_, kube::Error>(answer)
            }
        });
        (Client::new(service, "medusa-fleet"), asked)
    }

    /// Data plane `eu`, which holds a child and its MedusaBackup.
    fn holding(key: &ObjectKey, child: &Arc<MedusaBackupJob>, client: Client) -> Snapshot {
        let mut view = live(&[datacenter("dc1", 1)]);
        view.backups.put(key.clone(), Arc::new(BackupRecord::default()));
        view.jobs.put(key.clone(), child.clone());
        Snapshot { remote: Some(Arc::new(Remote::new(client, &Limits::default()))), ..plane("eu", view) }
    }

    #[tokio::test]
    async fn a_child_goes_in_the_version_in_which_it_was_seen_to_be_ours_and_the_run_after_it() {
        let job: FleetBackupJob = fleet_job("nightly");
        let entry = DatacenterRun { attempts: 1, ..pending("eu", "dc1") };
        let ended = json!({"startTime": "2026-01-01T00:00:00Z", "finishTime": "2026-01-01T00:01:00Z"});
        let (key, child) = made(&job, &entry, 1, ended);
        let status = FleetBackupJobStatus { datacenters: vec![entry], ..FleetBackupJobStatus::default() };
        for (code, is_gone) in [(200, true), (409, false)] {
            let (there, asked) = answering(code);
            let (home, run) = answering(200);
            let eu = holding(&key, &child, there);
            let events = Events::new(home.clone(), "test");
            let again = expire(&home, &events, &job, &status, &[eu], SignedDuration::ZERO).await.unwrap();
            let expected = json!({"uid": child.uid(), "resourceVersion": "7"});
            assert_eq!(asked.lock().unwrap()[0]["preconditions"], expected);
            assert_eq!((again.is_none(), run.lock().unwrap().len()), (is_gone, usize::from(is_gone)));
        }
    }

    #[tokio::test]
    async fn a_child_that_nobody_knew_to_be_made_goes_where_it_is_seen_and_is_not_waited_for_elsewhere() {
        let job: FleetBackupJob = fleet_job("nightly");
        let skipped = pending("eu", "dc1");
        let ended = json!({"startTime": "2026-01-01T00:00:00Z", "finishTime": "2026-01-01T00:01:00Z"});
        let (key, child) = made(&job, &skipped, 1, ended);
        let status = FleetBackupJobStatus { datacenters: vec![skipped], ..FleetBackupJobStatus::default() };
        for (usable, deleted) in [(Usable::Ready, 1), (Usable::Connecting, 0)] {
            let (there, asked) = answering(200);
            let (home, run) = answering(200);
            let eu = Snapshot { usable, ..holding(&key, &child, there) };
            let events = Events::new(home.clone(), "test");
            let again = expire(&home, &events, &job, &status, &[eu], SignedDuration::ZERO).await.unwrap();
            assert_eq!((again, asked.lock().unwrap().len(), run.lock().unwrap().len()), (None, deleted, 1));
        }
    }
}
