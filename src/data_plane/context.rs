//! The frame every kind of this role is reconciled in: what its passes share, and what is remembered of
//! one object between two of them.
//!
//! A kind implements [`Reconciler`]; the frame reads the object, keeps its memory, retries after errors and
//! reports what cannot be read. Nothing here may know what a kind does.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Client, Resource,
    core::{DeserializeGuard, NamespaceResourceScope},
    runtime::controller::Action,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::{metrics::Metrics, objects, pool::Pool, timings::Timings};
use crate::{
    api::{Reason, condition::set_condition},
    runtime::{
        backoff::Backoff,
        clock::Clock,
        events::Events,
        guard::{self, Panicked},
        remembered::Remembered,
        sync::lock,
    },
};

/// Pause after somebody else has changed the object.
const CONFLICT: Duration = Duration::from_millis(50);

/// What every pass may use, whatever its kind. Clones share it.
#[derive(Clone)]
pub struct Tools {
    /// The data plane's own cluster.
    pub client: Client,
    /// Where Events go.
    pub events: Events,
    /// Deadlines and budgets.
    pub timings: Timings,
    /// Figures for `/metrics`.
    pub metrics: Metrics,
    /// Connections to Medusas.
    pub medusas: Pool,
    /// The time.
    pub clock: Clock,
}

/// An object as it is watched: one that cannot be read must not hide the others.
pub type Guarded<R> = DeserializeGuard<<R as Reconciler>::Object>;

/// How one kind is carried out. The value is what is remembered of one object.
pub trait Reconciler: Send + Sized + 'static {
    /// The kind.
    type Object: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static;
    /// What the passes of this kind share beside [`Tools`].
    type Shared: Send + Sync + 'static;

    /// Its kind, in the log and in metrics.
    const PART: &'static str;
    /// The condition that says whether all is well with an object.
    const CONDITION: &'static str = "Complete";

    /// Passes at a time. A pass holds its worker for at most [`Timings::pass`].
    const WORKERS: u16 = 64;

    /// What is remembered of an object that is seen for the first time.
    fn new(now: Timestamp) -> Self;

    /// Whether nothing is left to do, so that the memory can go.
    fn is_over(object: &Self::Object) -> bool;

    /// The CassandraDatacenter, in the object's namespace, whose changes may be what the object waits for.
    fn datacenter(object: &Self::Object) -> Option<&str>;

    /// One pass. It must not hold its worker for longer than [`Timings::pass`] plus a few calls to the API
    /// server.
    ///
    /// An error means that the API server could not be asked or refused. After a conflict [`Self::meet`] is
    /// called, any other error is retried later and later.
    fn pass(
        &mut self,
        ctx: &Context<Self>,
        object: &Self::Object,
    ) -> impl Future<Output = Result<Action, kube::Error>> + Send;

    /// Somebody changed the object under us: `fresh` is what it is now, nothing when it is gone. The next
    /// pass may still be given the old version.
    fn meet(&mut self, fresh: Option<Self::Object>, now: Timestamp);
}

/// Namespace and name of an object.
pub type Key = (String, String);

/// The reconcilers of one kind.
pub struct Context<R: Reconciler> {
    /// What every pass may use.
    pub tools: Tools,
    /// What the passes of this kind share.
    pub shared: R::Shared,
    memories: Mutex<Remembered<Key, Arc<tokio::sync::Mutex<R>>>>,
    failures: Mutex<Backoff<Key>>,
}

impl<R: Reconciler> Context<R> {
    /// A context that remembers nothing.
    #[must_use]
    pub fn new(tools: Tools, shared: R::Shared) -> Self {
        let failures = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
        Self { tools, shared, memories: Mutex::default(), failures: Mutex::new(failures) }
    }

    fn memory(&self, key: Key, uid: &str, now: Timestamp) -> Arc<tokio::sync::Mutex<R>> {
        let mut memories = lock(&self.memories);
        Arc::clone(memories.entry(key, uid, || Arc::new(tokio::sync::Mutex::new(R::new(now)))))
    }

    /// How long to wait after one more failure of an object.
    fn failed(&self, key: &Key, uid: &str) -> Duration {
        lock(&self.failures).failed_as(key, uid)
    }

    /// Forgets an object: what its memory holds, such as connections, is dropped.
    pub fn forget(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        lock(&self.failures).succeeded(&key);
        let memory = lock(&self.memories).forget(&key);
        drop(memory);
    }
}

/// One pass over one object.
///
/// # Errors
/// When the API server cannot be asked or refuses; the caller retries.
pub async fn reconcile<R: Reconciler>(
    guarded: Arc<Guarded<R>>,
    ctx: Arc<Context<R>>,
) -> Result<Action, kube::Error> {
    let object = match &guarded.0 {
        Ok(object) => object,
        Err(invalid) => {
            report_invalid::<R>(&ctx.tools, guarded.object_ref(&()), &invalid.error);
            return Ok(Action::await_change());
        }
    };
    let key = key_of::<R>(&guarded);
    if R::is_over(object) {
        ctx.forget(&key.0, &key.1);
        return Ok(Action::await_change());
    }
    let uid = object.meta().uid.as_deref().unwrap_or_default();
    let memory = ctx.memory(key.clone(), uid, ctx.tools.clock.now());
    let mut memory = memory.lock().await;
    let pass = guard::work(R::PART, memory.pass(&ctx, object)).await;
    let passed = match pass {
        Ok(passed) => passed,
        Err(panic) => {
            // What it remembers may be half of something.
            *memory = R::new(ctx.tools.clock.now());
            report_panic::<R>(&ctx.tools, object, &panic).await;
            return Ok(Action::requeue(ctx.failed(&key, uid)));
        }
    };
    let action = match passed {
        Err(error) if objects::is_conflict(&error) => {
            let fresh = objects::reread(&ctx.tools.client, object).await?;
            memory.meet(fresh, ctx.tools.clock.now());
            Action::requeue(CONFLICT)
        }
        other => other?,
    };
    lock(&ctx.failures).succeeded(&key);
    Ok(action)
}

/// How long to wait after an error: longer each time, per object.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "the controller's signature")]
pub fn on_error<R: Reconciler>(
    guarded: Arc<Guarded<R>>,
    error: &kube::Error,
    ctx: Arc<Context<R>>,
) -> Action {
    let key = key_of::<R>(&guarded);
    tracing::warn!(kind = %R::Object::kind(&()), namespace = key.0, name = key.1, %error, "reconcile");
    Action::requeue(ctx.failed(&key, guarded.meta().uid.as_deref().unwrap_or_default()))
}

fn key_of<R: Reconciler>(guarded: &Guarded<R>) -> Key {
    let meta = guarded.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// Says on the object, where its status has room for it, and in an Event that its pass ended by an internal error.
async fn report_panic<R: Reconciler>(tools: &Tools, object: &R::Object, panic: &Panicked) {
    let meta = object.meta();
    tracing::error!(kind = R::PART, namespace = meta.namespace, name = meta.name, "{panic}");
    tools.events.warning(object.object_ref(&()), Reason::InternalError, "Reconcile", panic.to_string());
    let written = json!(object);
    let conditions = written.pointer("/status/conditions").cloned().unwrap_or_default();
    let before: Vec<Condition> = serde_json::from_value(conditions).unwrap_or_default();
    let mut conditions = before.clone();
    let (reason, now) = (Reason::InternalError, tools.clock.now());
    set_condition(&mut conditions, R::CONDITION, None, reason, panic.to_string(), meta.generation, now);
    if conditions == before {
        return;
    }
    let patch = json!({
        "metadata": {"resourceVersion": meta.resource_version}, "status": {"conditions": conditions},
    });
    if let Err(error) = objects::patch_status(&tools.client, object, &patch).await {
        tracing::warn!(kind = R::PART, name = meta.name, %error, "say that a pass failed");
    }
}

fn report_invalid<R: Reconciler>(tools: &Tools, about: ObjectReference, error: &str) {
    let note = format!("the object cannot be read and is left alone: {error}");
    tracing::warn!(
        kind = %R::Object::kind(&()),
        namespace = about.namespace,
        name = about.name,
        error,
        "an object cannot be read"
    );
    tools.events.warning(about, Reason::InvalidObject, "Read", note);
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
