//! The edge of one object: a panic in its pass costs no other anything, is said on it, and is tried again later and
//! later.

use std::sync::Mutex as StdMutex;

use http::{Method, Request, Response};
use kube::client::Body;
use proptest::prelude::*;
use serde_json::Value;
use tower::service_fn;

use super::*;
use crate::{
    api::medusa::MedusaBackupJob,
    data_plane::Timings,
    runtime::controller::{on_error, reconcile},
};

/// Panics over the objects of one name, every time but the third.
struct Fragile(u32);

/// How often anybody was looked at.
type Looks = StdMutex<u32>;

impl Reconciler for Fragile {
    type Object = MedusaBackupJob;
    type Shared = Looks;

    const PART: &'static str = "test-fragile";

    fn new(_: Timestamp) -> Self {
        Self(0)
    }

    fn is_over(_: &MedusaBackupJob) -> bool {
        false
    }

    fn datacenter(_: &MedusaBackupJob) -> Option<&str> {
        None
    }

    async fn pass(&mut self, ctx: &Context<Self>, job: &MedusaBackupJob) -> Result<Action, kube::Error> {
        assert_eq!(self.0, 0, "a memory that a panic left half done");
        self.0 += 1;
        let look = {
            let mut looks = ctx.shared.lock().unwrap();
            *looks += 1;
            *looks
        };
        tokio::task::yield_now().await;
        assert!(objects::name(job) != "poison" || look == 3, "what was read: hunter2");
        self.0 = 0;
        Ok(Action::await_change())
    }

    fn meet(&mut self, _: Option<MedusaBackupJob>, _: Timestamp) {}
}

/// A context whose API server returns what it is sent, and the statuses it was sent.
fn context() -> (Arc<Context<Fragile>>, Arc<StdMutex<Vec<Value>>>) {
    let sent: Arc<StdMutex<Vec<Value>>> = Arc::default();
    let seen = sent.clone();
    let service = service_fn(move |request: Request<Body>| {
        let seen = seen.clone();
        async move {
            let is_status = *request.method() == Method::PATCH && request.uri().path().ends_with("/status");
            let body = request.into_body().collect_bytes().await?;
            if is_status {
                seen.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
            }
            Ok::<_, kube::Error>(Response::new(Body::from(json!(job("poison")).to_string().into_bytes())))
        }
    });
    let client = Client::new(service, "cass");
    let tools = Tools {
        events: Events::new(client.clone(), "test"),
        client,
        timings: Timings::default(),
        metrics: Metrics::default(),
        clock: Clock::of(|| Timestamp::UNIX_EPOCH),
    };
    (Arc::new(Context::new(tools, Looks::default())), sent)
}

fn job(name: &str) -> MedusaBackupJob {
    serde_json::from_value(json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackupJob",
        "metadata": {"name": name, "namespace": "cass", "uid": name, "resourceVersion": "7"},
        "spec": {"cassandraDatacenter": "dc1"},
    }))
    .unwrap()
}

#[tokio::test]
async fn an_object_whose_pass_panics_says_so_and_is_tried_again_while_the_others_go_on() {
    let (ctx, sent) = context();
    let look = async |name| {
        let object = Arc::new(DeserializeGuard(Ok(job(name))));
        let ended = reconcile(object.clone(), ctx.clone()).await;
        ended.unwrap_or_else(|failure| on_error(object, &failure, ctx.clone()))
    };
    assert_eq!(look("poison").await, Action::requeue(Duration::from_secs(1)));
    assert_eq!(look("poison").await, Action::requeue(Duration::from_secs(2)));
    assert_eq!(look("poison").await, Action::await_change(), "the third time");
    assert_eq!(look("other").await, Action::await_change());
    assert_eq!(look("poison").await, Action::requeue(Duration::from_secs(1)), "its first again");
    let sent = sent.lock().unwrap();
    assert_eq!(sent.len(), 3, "{sent:?}");
    assert_eq!(sent[0]["metadata"]["resourceVersion"], "7");
    let complete = &sent[0]["status"]["conditions"][0];
    assert_eq!((&complete["type"], &complete["reason"]), (&json!("Complete"), &json!("InternalError")));
    assert!(!json!(*sent).to_string().contains("hunter2"), "{sent:?}");
}

/// Fails as its object says, and counts its passes in what it remembers.
struct Counting(u32);

impl Reconciler for Counting {
    type Object = MedusaBackupJob;
    type Shared = ();

    const PART: &'static str = "test-counting";

    fn new(_: Timestamp) -> Self {
        Self(0)
    }

    fn is_over(job: &MedusaBackupJob) -> bool {
        job.spec.cassandra_datacenter == "over"
    }

    fn datacenter(_: &MedusaBackupJob) -> Option<&str> {
        None
    }

    async fn pass(&mut self, _: &Context<Self>, job: &MedusaBackupJob) -> Result<Action, kube::Error> {
        self.0 += 1;
        tokio::task::yield_now().await;
        match job.spec.cassandra_datacenter.as_str() {
            "panics" => panic!("it is broken"),
            "fails" => Err(kube::Error::Api(Box::default())),
            _ => Ok(Action::requeue(Duration::from_secs(self.0.into()))),
        }
    }

    fn meet(&mut self, _: Option<MedusaBackupJob>, _: Timestamp) {}
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// The frame is the same for all Medusa kinds: what is done about an object that was made again, and when it is tried
    /// again, is what it would be under a name that nothing ever had.
    #[test]
    fn an_object_that_is_made_again_is_treated_as_one_of_a_name_of_its_own(
        story in prop::collection::vec((any::<bool>(), prop::sample::select(vec!["goes", "fails", "panics", "over"])), 0..24)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        let (tools, _) = context();
        let (again, never) = (Context::<Counting>::new(tools.tools.clone(), ()), Context::<Counting>::new(tools.tools.clone(), ()));
        let (again, never) = (Arc::new(again), Arc::new(never));
        let mut uid = 0;
        for (made_again, does) in story {
            uid += u32::from(made_again);
            let look = |ctx: &Arc<Context<Counting>>, name: String| {
                let mut job = job(&name);
                job.metadata.uid = Some(format!("uid-{uid}"));
                job.spec.cassandra_datacenter = does.to_owned();
                let object = Arc::new(DeserializeGuard(Ok(job)));
                let looked = runtime.block_on(reconcile(object.clone(), ctx.clone()));
                looked.unwrap_or_else(|failure| on_error(object, &failure, ctx.clone()))
            };
            let one = look(&again, "again".to_owned());
            prop_assert_eq!(one, look(&never, format!("never-{uid}")), "{} of {}", does, uid);
        }
    }
}
