//! The frame every kind of this role is reconciled in: what its passes share, and what is remembered of
//! one object between two of them.
//!
//! A kind implements [`Reconciler`]; the frame keeps the memory of each object, meets conflicts and reports what cannot be
//! read, inside the shell that all controllers have (`runtime::controller`). Nothing here may know what a kind does.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{Client, Resource as _, core::DeserializeGuard, runtime::controller::Action};
use serde::Serialize;
use serde_json::json;

use super::{metrics::Metrics, objects, timings::Timings};
use crate::{
    api::{Reason, condition::set_condition},
    runtime::{
        clock::Clock,
        controller::{Controlled, Name, Shell, name_of},
        events::Events,
        follow::Followed,
        guard::Panicked,
        remembered::Remembered,
        sync::lock,
    },
};

/// Pause after somebody else has changed the object.
const CONFLICT: Duration = Duration::from_millis(50);
/// First and longest pause after a failure.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

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
    /// The time.
    pub clock: Clock,
}

/// An object as it is watched: one that cannot be read must not hide the others.
pub type Guarded<R> = DeserializeGuard<<R as Reconciler>::Object>;

/// How one kind is carried out. The value is what is remembered of one object.
pub trait Reconciler: Send + Sized + 'static {
    /// The kind.
    type Object: Followed + Serialize;
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

/// The reconcilers of one kind.
pub struct Context<R: Reconciler> {
    /// What every pass may use.
    pub tools: Tools,
    /// What the passes of this kind share.
    pub shared: R::Shared,
    memories: Mutex<Remembered<Name, Arc<tokio::sync::Mutex<R>>>>,
    shell: Shell,
}

impl<R: Reconciler> Context<R> {
    /// A context that remembers nothing.
    #[must_use]
    pub fn new(tools: Tools, shared: R::Shared) -> Self {
        let shell = Shell::new(RETRY, tools.metrics.reconciles.clone());
        Self { tools, shared, memories: Mutex::default(), shell }
    }

    fn memory(&self, name: Name, uid: &str, now: Timestamp) -> Arc<tokio::sync::Mutex<R>> {
        let mut memories = lock(&self.memories);
        Arc::clone(memories.entry(name, uid, || Arc::new(tokio::sync::Mutex::new(R::new(now)))))
    }

    /// Forgets what is remembered of an object.
    fn drop_memory(&self, name: &Name) {
        // Dropped once the lock is free: what it holds, such as connections, may take a while to end.
        let memory = lock(&self.memories).forget(name);
        drop(memory);
    }
}

impl<R: Reconciler> Controlled for Context<R> {
    type Object = R::Object;
    type Error = kube::Error;

    const KIND: &'static str = R::PART;
    const WORKERS: u16 = R::WORKERS;

    fn shell(&self) -> &Shell {
        &self.shell
    }

    /// A pass waits for nothing that has no deadline.
    fn ends(&self, _: &Guarded<R>) -> bool {
        true
    }

    async fn look(&self, guarded: &Guarded<R>) -> Result<Action, kube::Error> {
        let object = match &guarded.0 {
            Ok(object) => object,
            Err(invalid) => {
                report_invalid::<R>(&self.tools, guarded.object_ref(&()), &invalid.error);
                return Ok(Action::await_change());
            }
        };
        let name = name_of(object.meta());
        if R::is_over(object) {
            self.drop_memory(&name);
            self.shell.succeeded(&name.0, &name.1);
            return Ok(Action::await_change());
        }
        let uid = object.meta().uid.as_deref().unwrap_or_default();
        let memory = self.memory(name.clone(), uid, self.tools.clock.now());
        let mut memory = memory.lock().await;
        let action = match memory.pass(self, object).await {
            Err(error) if objects::is_conflict(&error) => {
                let fresh = objects::reread(&self.tools.client, object).await?;
                memory.meet(fresh, self.tools.clock.now());
                Action::requeue(CONFLICT)
            }
            other => other?,
        };
        self.shell.succeeded(&name.0, &name.1);
        Ok(action)
    }

    async fn report(&self, guarded: &Guarded<R>, panic: &Panicked) {
        // The panic may have left what is remembered half changed.
        self.drop_memory(&name_of(guarded.meta()));
        if let Ok(object) = &guarded.0 {
            report_panic::<R>(&self.tools, object, panic).await;
        }
    }

    fn forget(&self, namespace: &str, name: &str) {
        self.drop_memory(&(namespace.to_owned(), name.to_owned()));
    }
}

/// Says on the object, where its status has room for it, and in an Event that its pass ended by an internal error.
async fn report_panic<R: Reconciler>(tools: &Tools, object: &R::Object, panic: &Panicked) {
    let meta = object.meta();
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
        tracing::warn!(kind = R::PART, name = meta.name, %error, "cannot write into the status that a pass failed");
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
