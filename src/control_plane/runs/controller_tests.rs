//! The edge of a run: a panic in one costs no other anything, is said on it, and is tried again later and later.

use std::sync::Mutex as StdMutex;

use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tower::service_fn;

use super::*;
use crate::{api::fleet::FleetBackupJob, control_plane::fanout::tests::fleet_job};

/// Panics over the runs of one name.
struct Fragile(Frame<FleetBackupJob>);

impl Driver for Fragile {
    type Run = FleetBackupJob;

    fn frame(&self) -> &Frame<FleetBackupJob> {
        &self.0
    }

    const FOLLOWED: &'static [Kind] = &[];

    async fn look(&self, run: &FleetBackupJob) -> Result<Next, AdvanceError> {
        tokio::task::yield_now().await;
        assert_ne!(run.name_any(), "poison", "what was read: hunter2");
        Ok(Next::await_change())
    }

    fn forget(&self, _: &str) {}
}

/// A driver whose API server returns what it is sent, and what that was.
fn driver() -> (Arc<Fragile>, Arc<StdMutex<Vec<Value>>>) {
    let sent: Arc<StdMutex<Vec<Value>>> = Arc::default();
    let seen = sent.clone();
    let service = service_fn(move |request: Request<Body>| {
        let seen = seen.clone();
        async move {
            let body = request.into_body().collect_bytes().await?;
            let mut body: Value = serde_json::from_slice(&body).unwrap();
            seen.lock().unwrap().push(body.clone());
            body["spec"] = json!({});
            Ok::<_, kube::Error>(Response::new(Body::from(body.to_string().into_bytes())))
        }
    });
    let client = Client::new(service, "medusa-fleet");
    let context = RunContext::of_tests(client);
    let (frame, _feed) = Frame::new(context);
    (Arc::new(Fragile(frame)), sent)
}

fn run(name: &str) -> Arc<DeserializeGuard<FleetBackupJob>> {
    Arc::new(DeserializeGuard(Ok(fleet_job(name))))
}

#[tokio::test]
async fn a_run_that_panics_says_so_and_is_tried_again_while_the_others_go_on() {
    let (driver, sent) = driver();
    let driver = Arc::new(Driven(driver));
    let ended = controller::reconcile(run("poison"), driver.clone()).await.unwrap_err();
    assert!(matches!(ended, controller::LookError::Panicked(_)), "{ended}");
    assert!(controller::reconcile(run("nightly"), driver.clone()).await.is_ok());
    {
        let sent = sent.lock().unwrap();
        assert_eq!(sent.len(), 1, "{sent:?}");
        let complete = &sent[0]["status"]["conditions"][0];
        assert_eq!((&complete["type"], &complete["reason"]), (&json!("Complete"), &json!("InternalError")));
        assert!(!sent[0].to_string().contains("hunter2"), "{sent:?}");
    }
    let pauses: Vec<Next> =
        (0..3).map(|_| controller::on_error(run("poison"), &ended, driver.clone())).collect();
    assert_eq!(pauses, [500, 1_000, 2_000].map(|ms| Next::requeue(Duration::from_millis(ms))));
}
