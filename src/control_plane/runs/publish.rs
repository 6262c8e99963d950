//! Writes a run's status, at a pace that follows the time and the status's size and never the number of news.

use std::{borrow::Cow, fmt, time::Duration};

use jiff::Timestamp;
use kube::{
    Client, ResourceExt as _,
    api::{Api, ObjectMeta, Patch, PatchParams},
    core::object::HasStatus,
};
use serde::Serialize;

use super::kind::Run;
use crate::{
    api::{Reason, condition::set_condition, labels},
    runtime::{follow::Followed, guard::Panicked},
};

/// Least time between two writes of the status of a run that goes on.
pub const PUBLISH_EVERY: Duration = Duration::from_millis(500);
/// Bytes of status per second that one run may write: a status of a megabyte is written every five seconds.
const BYTES_PER_SECOND: usize = 200_000;

/// Least time between a status write of so many bytes and the next.
pub(super) fn pace(bytes: usize) -> Duration {
    let millis = bytes.saturating_mul(1_000) / BYTES_PER_SECOND;
    PUBLISH_EVERY.max(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
}

/// Writes a status for exactly this object, and over exactly this version of it. Returns the object as it is now; nothing
/// when it is another one by now, has changed since, or is gone.
pub async fn publish<K: Followed + HasStatus<Status: Serialize>>(
    client: &Client,
    object: &K,
    status: &K::Status,
) -> Result<Option<K>, kube::Error> {
    let name = object.name_any();
    let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let metadata = ObjectMeta {
        name: Some(name.clone()),
        uid: object.uid(),
        resource_version: object.resource_version(),
        ..ObjectMeta::default()
    };
    let body = StatusBody { api_version: K::api_version(&()), kind: K::kind(&()), metadata, status };
    let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE).force();
    unless_stale(api.patch_status(&name, &params, &Patch::Apply(&body)).await)
}

/// An object of which the status is written. It may be large, and is not copied into a JSON value first.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusBody<'a, S> {
    api_version: Cow<'static, str>,
    kind: Cow<'static, str>,
    metadata: ObjectMeta,
    status: &'a S,
}

impl<S> fmt::Debug for StatusBody<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status of {} {:?}", self.kind, self.metadata.name)
    }
}

/// What came of a write to an object in the version that was seen; `None` when it has changed since, was made anew, or is
/// gone: the next event says which.
///
/// # Errors
/// Whatever else the API server answered, or that it did not.
pub fn unless_stale<T>(written: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match written {
        Ok(written) => Ok(Some(written)),
        Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Says on a run that goes on that the controller failed at it by a fault of its own.
pub(super) async fn report<K: Run>(
    client: &Client,
    run: &K,
    panic: &Panicked,
    now: Timestamp,
) -> Result<(), kube::Error> {
    let mut status = run.status().cloned().unwrap_or_default();
    let (conditions, generation) = (K::conditions(&mut status), run.meta().generation);
    set_condition(conditions, "Complete", None, Reason::InternalError, panic.to_string(), generation, now);
    if run.status() == Some(&status) {
        return Ok(());
    }
    publish(client, run, &status).await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};
    use tower::service_fn;

    use super::*;
    use crate::{
        api::fleet::{FleetBackupJob, FleetBackupJobStatus, Phase, RunStatus},
        control_plane::fanout::tests::fleet_job,
        runtime::guard,
    };

    /// A client whose API server answers everything with `code`, and what it was sent.
    fn answering(code: u16) -> (Client, Arc<Mutex<Vec<Value>>>) {
        let sent: Arc<Mutex<Vec<Value>>> = Arc::default();
        let seen = sent.clone();
        let service = service_fn(move |request: Request<Body>| {
            let seen = seen.clone();
            async move {
                let body = request.into_body().collect_bytes().await?;
                let mut body: Value = serde_json::from_slice(&body).unwrap();
                body["spec"] = json!({});
                seen.lock().unwrap().push(body.clone());
                let refusal = json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "changed",
                    "reason": "Conflict", "code": code,
                });
                let answer = if code == 200 { body } else { refusal };
                let answer =
                    Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
                Ok::<_, kube::Error>(answer.unwrap())
            }
        });
        (Client::new(service, "ns"), sent)
    }

    fn run() -> FleetBackupJob {
        let mut run = fleet_job("nightly");
        run.metadata.resource_version = Some("41".to_owned());
        run.metadata.namespace = Some("fleet".to_owned());
        run
    }

    fn running() -> FleetBackupJobStatus {
        let run = RunStatus { phase: Some(Phase::Running), ..RunStatus::default() };
        FleetBackupJobStatus { run, ..FleetBackupJobStatus::default() }
    }

    #[test]
    fn the_pace_follows_the_size() {
        assert_eq!(pace(2_000), Duration::from_millis(500));
        assert_eq!(pace(1_000_000), Duration::from_secs(5));
    }

    #[tokio::test]
    async fn a_status_is_written_over_the_version_it_was_decided_on_or_not_at_all() {
        let status = running();
        let (client, sent) = answering(200);
        let written = publish(&client, &run(), &status).await.unwrap();
        assert_eq!(written.unwrap().status.unwrap().run.phase, Some(Phase::Running));
        assert_eq!(sent.lock().unwrap()[0]["metadata"]["resourceVersion"], "41");
        assert_eq!(sent.lock().unwrap()[0]["metadata"]["uid"], json!(run().metadata.uid));
        let (client, _) = answering(409);
        assert!(publish(&client, &run(), &status).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn an_internal_error_is_said_once_beside_what_is_known() {
        let ended: Result<(), Panicked> = guard::work("test-report", async {
            panic!("token hunter2");
        })
        .await;
        let panic = ended.unwrap_err();
        let (client, sent) = answering(200);
        let mut run = run();
        run.status = Some(running());
        report(&client, &run, &panic, Timestamp::UNIX_EPOCH).await.unwrap();
        let body = sent.lock().unwrap()[0].clone();
        assert_eq!(body["status"]["phase"], "Running");
        let complete = &body["status"]["conditions"][0];
        assert_eq!((&complete["status"], &complete["reason"]), (&json!("Unknown"), &json!("InternalError")));
        assert!(!body.to_string().contains("hunter2"), "{body}");
        run.status = serde_json::from_value(body["status"].clone()).unwrap();
        report(&client, &run, &panic, Timestamp::UNIX_EPOCH).await.unwrap();
        assert_eq!(sent.lock().unwrap().len(), 1, "again");
    }
}
