//! Runs that are deleted and made again at any moment, also while the control plane is down or its watch is behind.

use std::sync::Mutex as StdMutex;

use http::{Method, Request, Response};
use kube::client::Body;
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::service_fn;

use super::{
    super::{RunContext, controller::Feed},
    *,
};
use crate::{
    api::fleet::{FleetBackupJob, FleetBackupJobStatus},
    control_plane::fanout::tests::fleet_job,
};

/// Notes in the status of a run which run it looked at, and ends it at the third time.
struct Noting;

impl Engine for Noting {
    type Run = FleetBackupJob;

    const CHILDREN: Kind = Kind::Jobs;
    const FOLLOWED: &'static [Kind] = &[];

    async fn pass(
        _: &Runs<Self>,
        run: &FleetBackupJob,
        memory: &mut Memory<FleetBackupJobStatus>,
    ) -> Option<Duration> {
        assert_eq!(Some(&memory.uid), run.metadata.uid.as_ref());
        let status = &mut memory.status;
        status.restore_points.push(memory.uid.clone());
        status.run.phase =
            Some(if status.restore_points.len() < 3 { Phase::Running } else { Phase::Succeeded });
        Some(LEAST)
    }
}

/// An API server with one name.
#[derive(Default)]
struct Server {
    there: Option<FleetBackupJob>,
    version: u64,
    /// Every version there was of the name, for a watch that is behind.
    seen: Vec<Option<FleetBackupJob>>,
}

impl Server {
    fn put(&mut self, run: Option<FleetBackupJob>) {
        self.version += 1;
        self.there = run.map(|mut run| {
            run.metadata.resource_version = Some(self.version.to_string());
            run
        });
        self.seen.push(self.there.clone());
    }

    fn answer(&mut self, method: &Method, path: &str, body: &Value) -> (u16, Value) {
        if !path.contains("fleetbackupjobs") {
            return (200, json!({"metadata": {}, "involvedObject": {}, "regarding": {}, "eventTime": null}));
        }
        let Some(mut run) = self.there.clone() else {
            return (404, json!({"code": 404, "reason": "NotFound"}));
        };
        if *method == Method::PATCH {
            let is = |pointer: &str, own: &Option<String>| {
                body.pointer(pointer).and_then(Value::as_str) == own.as_deref()
            };
            if !is("/metadata/uid", &run.metadata.uid)
                || !is("/metadata/resourceVersion", &run.metadata.resource_version)
            {
                return (409, json!({"code": 409, "reason": "Conflict"}));
            }
            run.status = serde_json::from_value(body["status"].clone()).unwrap();
            self.put(Some(run));
        }
        (200, json!(self.there))
    }
}

fn runs(server: &Arc<StdMutex<Server>>) -> (Runs<Noting>, Feed<FleetBackupJob>) {
    let server = server.clone();
    let service = service_fn(move |request: Request<Body>| {
        let server = server.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = serde_json::from_slice(&body.collect_bytes().await?).unwrap_or_default();
            let (code, answer) = server.lock().unwrap().answer(&head.method, head.uri.path(), &body);
            Ok::<_, kube::Error>(
                Response::builder().status(code).body(Body::from(answer.to_string().into_bytes())).unwrap(),
            )
        }
    });
    let client = kube::Client::new(service, "medusa-fleet");
    let context = RunContext::of_tests(client);
    let (frame, feed) = Frame::new(context);
    (Runs::new(frame, Noting), feed)
}

#[test]
fn a_run_rests_after_a_long_pass_and_never_long_and_not_at_all_after_a_short_one() {
    let rest = |millis| rest_after(Duration::from_millis(millis)).map(|rest| rest.as_millis());
    assert_eq!([0, 6, 7, 50, 10_000].map(rest), [None, None, Some(21), Some(150), Some(500)]);
}

/// What happens to the run of one name.
#[derive(Clone, Copy, Debug)]
enum Happens {
    /// It is made, unless it is there.
    Made,
    /// It is deleted, unless it is gone.
    Deleted,
    /// The watch goes on by so many versions, and what it shows is looked at.
    Looked(usize),
    /// The process starts anew: the watch is up to date.
    Restarted,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_run_that_is_made_again_ends_as_one_under_a_name_of_its_own(
        story in prop::collection::vec(prop_oneof![
            2 => Just(Happens::Made),
            2 => Just(Happens::Deleted),
            5 => (0..3_usize).prop_map(Happens::Looked),
            1 => Just(Happens::Restarted),
        ], 0..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server: Arc<StdMutex<Server>> = Arc::default();
            let (mut engine, mut at, mut made) = (runs(&server), 0, 0_u32);
            let ending = std::iter::once(Happens::Made).chain(std::iter::repeat_n(Happens::Looked(99), 6));
            for step in story.into_iter().chain(ending) {
                let there = server.lock().unwrap().there.clone();
                match (step, there) {
                    (Happens::Made, None) => {
                        made += 1;
                        let mut run = fleet_job("nightly");
                        run.metadata.uid = Some(format!("uid-{made}"));
                        server.lock().unwrap().put(Some(run));
                    }
                    (Happens::Deleted, Some(_)) => server.lock().unwrap().put(None),
                    (Happens::Made | Happens::Deleted, _) => {}
                    (Happens::Restarted, _) => {
                        engine = runs(&server);
                        at = server.lock().unwrap().seen.len().saturating_sub(1);
                    }
                    (Happens::Looked(versions), _) => {
                        let seen = {
                            let server = server.lock().unwrap();
                            at = (at + versions).min(server.seen.len().saturating_sub(1));
                            server.seen.get(at).cloned().flatten()
                        };
                        match seen {
                            Some(run) => _ = engine.0.look(&run).await,
                            None => engine.0.forget("nightly"),
                        }
                    }
                }
            }
            let there = server.lock().unwrap().there.clone().unwrap();
            let status = there.status.unwrap_or_default();
            assert_eq!(status.run.phase, Some(Phase::Succeeded), "{status:?}");
            let own = there.metadata.uid.unwrap();
            assert!(status.restore_points.iter().all(|looked_at| *looked_at == own), "{own}: {status:?}");
        });
    }
}
