//! What the controllers of all kinds have in common: each object has an edge at which a panic ends, pauses of its own after
//! a failure, and one path for errors: the log, the metrics by cause, and an Event where somebody can do something.
//!
//! Nothing here decides what is done with an object.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Resource as _, ResourceExt as _,
    core::DeserializeGuard,
    runtime::{
        Controller,
        controller::{Action, Config, Error as Ended},
        reflector::ObjectRef,
    },
};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::{
    backoff::Backoff,
    cause::{Cause, Kind},
    follow::Followed,
    guard::{self, Panicked},
    reconciles::Reconciles,
    sync::lock,
};
use crate::api::Reason;

/// An object as the watch brings it: it may be one that cannot be read.
pub type ObjectOf<C> = DeserializeGuard<<C as Controlled>::Object>;

/// The reason in metrics of a look that failed because the API server refused something.
const REFUSED: &str = "Refused";

/// Namespace and name of an object.
pub type Name = (String, String);

/// What is kept for the objects of one controller: how often each has failed, one time after the other, and how its looks
/// ended.
pub struct Shell {
    failures: Mutex<Backoff<Name>>,
    reconciles: Reconciles,
}

impl Shell {
    /// With this first and longest pause after a failure; looks are counted in `reconciles`.
    #[must_use]
    pub fn new((first, longest): (Duration, Duration), reconciles: Reconciles) -> Self {
        Self { failures: Mutex::new(Backoff::new(first, longest)), reconciles }
    }

    /// How long to wait after one more failure of the object.
    pub fn failed(&self, meta: &ObjectMeta) -> Duration {
        lock(&self.failures).failed_as(&name_of(meta), meta.uid.as_deref().unwrap_or_default())
    }

    /// Forgets the failures of the object: its next one counts as the first.
    pub fn succeeded(&self, namespace: &str, name: &str) {
        lock(&self.failures).succeeded(&(namespace.to_owned(), name.to_owned()));
    }
}

/// Namespace and name of the object; an empty string stands for what is missing.
#[must_use]
pub fn name_of(meta: &ObjectMeta) -> Name {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// A kind whose objects are looked at one by one.
pub trait Controlled: Sized + Send + Sync + 'static {
    /// The kind.
    type Object: Followed;
    /// Why a look could not be brought to its end.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Its name, in the log and in metrics.
    const KIND: &'static str;
    /// Objects that are looked at in the same moment.
    const WORKERS: u16 = 32;

    /// What the shell keeps for its objects.
    fn shell(&self) -> &Shell;

    /// Whether a look at this object waits for nothing that has no deadline: see [`guard::edge`].
    fn ends(&self, _: &ObjectOf<Self>) -> bool {
        false
    }

    /// Looks at an object; says when to look again.
    fn look(&self, object: &ObjectOf<Self>) -> impl Future<Output = Result<Action, Self::Error>> + Send;

    /// Says on the object that a look at it ended by an internal error.
    fn report(&self, object: &ObjectOf<Self>, panic: &Panicked) -> impl Future<Output = ()> + Send;

    /// Tells in an Event what somebody can do something about.
    fn tell(&self, _: &ObjectOf<Self>, _: &Self::Error) {}

    /// Forgets an object that is gone.
    fn forget(&self, _namespace: &str, _name: &str) {}
}

/// Why an object is looked at again after a pause.
#[derive(Debug, Error)]
pub enum LookError<E: std::error::Error + 'static> {
    /// The look's own error.
    #[error(transparent)]
    Look(E),
    /// An internal error.
    #[error(transparent)]
    Panicked(Panicked),
}

/// Looks at the objects of `controller` when they change, and at those that are `triggered`, until `shutdown`.
pub async fn run<C: Controlled>(
    controlled: Arc<C>,
    controller: Controller<ObjectOf<C>>,
    triggered: impl Stream<Item = ObjectRef<ObjectOf<C>>> + Send + 'static,
    shutdown: CancellationToken,
) {
    let here = controlled.clone();
    controller
        .with_config(Config::default().concurrency(C::WORKERS))
        .reconcile_on(triggered)
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(reconcile, on_error, controlled)
        .for_each(|ended| {
            match ended {
                Ok(_) | Err(Ended::ReconcilerFailed(..)) => {}
                // One that is deleted is woken once more and not found.
                Err(Ended::ObjectNotFound(gone)) => {
                    let namespace = gone.namespace.as_deref().unwrap_or_default();
                    here.shell().succeeded(namespace, &gone.name);
                    here.forget(namespace, &gone.name);
                }
                Err(error) => tracing::warn!(kind = C::KIND, %error, "a watch failed; it is begun again"),
            }
            std::future::ready(())
        })
        .await;
}

/// One look at an object, inside its edge.
///
/// # Errors
/// The look's own, or that it panicked.
pub async fn reconcile<C: Controlled>(
    object: Arc<ObjectOf<C>>,
    controlled: Arc<C>,
) -> Result<Action, LookError<C::Error>> {
    let begun = Instant::now();
    // On the heap: what a look needs would otherwise be a part of every future around it.
    let look = Box::pin(controlled.look(&object));
    let ended = match guard::edge(C::KIND, controlled.ends(&object), look).await {
        Ok(looked) => looked.map_err(LookError::Look),
        Err(panic) => {
            controlled.report(&object, &panic).await;
            Err(LookError::Panicked(panic))
        }
    };
    let failure = ended.as_ref().err().map(|failure| match failure {
        LookError::Look(error) => {
            let kind = Cause::of(error).kind;
            if kind == Kind::Answered { REFUSED } else { kind.reason().as_str() }
        }
        LookError::Panicked(_) => Reason::InternalError.as_str(),
    });
    controlled.shell().reconciles.count(C::KIND, begun.elapsed(), failure);
    ended
}

/// Says why a look failed; returns how long to wait before the next: longer each time, per object.
#[expect(clippy::needless_pass_by_value, reason = "the controller's signature")]
pub fn on_error<C: Controlled>(
    object: Arc<ObjectOf<C>>,
    failure: &LookError<C::Error>,
    controlled: Arc<C>,
) -> Action {
    let (name, namespace, meta) = (object.name_any(), object.namespace(), object.meta());
    match failure {
        LookError::Look(error) => {
            let again = "the reconcile failed; it is tried again";
            tracing::warn!(kind = C::KIND, namespace, name, %error, "{again}");
            controlled.tell(&object, error);
        }
        LookError::Panicked(panic) => tracing::error!(kind = C::KIND, namespace, name, "{panic}"),
    }
    Action::requeue(controlled.shell().failed(meta))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::core::Status;

    use super::*;

    /// Looks at ConfigMaps as their names say, and notes what is reported and told.
    struct Noting {
        shell: Shell,
        notes: Mutex<Vec<String>>,
    }

    impl Noting {
        fn note(&self, note: impl Into<String>) {
            lock(&self.notes).push(note.into());
        }

        fn notes(&self) -> Vec<String> {
            std::mem::take(&mut *lock(&self.notes))
        }
    }

    impl Controlled for Noting {
        type Object = ConfigMap;
        type Error = kube::Error;

        const KIND: &'static str = "ConfigMap";

        fn shell(&self) -> &Shell {
            &self.shell
        }

        async fn look(&self, object: &ObjectOf<Self>) -> Result<Action, kube::Error> {
            match object.name_any().as_str() {
                "poison" => panic!("over what was read"),
                "refused" => Err(kube::Error::Api(Box::new(Status::failure("no", "Invalid").with_code(422)))),
                "forbidden" => {
                    Err(kube::Error::Api(Box::new(Status::failure("no", "Forbidden").with_code(403))))
                }
                _ => Ok(Action::await_change()),
            }
        }

        async fn report(&self, object: &ObjectOf<Self>, _: &Panicked) {
            self.note(format!("reported {}", object.name_any()));
        }

        fn tell(&self, object: &ObjectOf<Self>, _: &kube::Error) {
            self.note(format!("told {}", object.name_any()));
        }
    }

    fn object(name: &str, uid: &str) -> Arc<ObjectOf<Noting>> {
        let metadata =
            ObjectMeta { name: Some(name.to_owned()), uid: Some(uid.to_owned()), ..ObjectMeta::default() };
        Arc::new(DeserializeGuard(Ok(ConfigMap { metadata, ..ConfigMap::default() })))
    }

    #[tokio::test]
    async fn each_look_is_counted_by_its_end_and_each_failure_told_and_paused_for_per_object() {
        let second = Duration::from_secs(1);
        let reconciles = Reconciles::default();
        let shell = Shell::new((second, second * 3), reconciles.clone());
        let noting = Arc::new(Noting { shell, notes: Mutex::default() });
        let counted = |by: Option<&'static str>| reconciles.counted(Noting::KIND, by);
        let look = async |name: &str, uid: &str| {
            let object = object(name, uid);
            let ended = reconcile(object.clone(), noting.clone()).await;
            ended.err().map(|error| on_error(object, &error, noting.clone()))
        };
        assert_eq!(look("fine", "u").await, None);
        assert_eq!((noting.notes().len(), counted(None)), (0, 1));
        assert_eq!(look("refused", "u").await, Some(Action::requeue(second)));
        assert_eq!((noting.notes(), counted(Some(REFUSED))), (vec!["told refused".to_owned()], 1));
        assert_eq!(look("refused", "u").await, Some(Action::requeue(second * 2)));
        assert_eq!(look("refused", "u").await, Some(Action::requeue(second * 3)), "no longer than that");
        noting.notes();
        assert_eq!(look("forbidden", "u").await, Some(Action::requeue(second)), "each for itself");
        assert_eq!((noting.notes(), counted(Some("NotAuthorized"))), (vec!["told forbidden".to_owned()], 1));
        assert_eq!(look("refused", "another").await, Some(Action::requeue(second)), "it was made again");
        noting.notes();
        assert_eq!(look("poison", "u").await, Some(Action::requeue(second)));
        assert_eq!((noting.notes(), counted(Some("InternalError"))), (vec!["reported poison".to_owned()], 1));
        noting.shell.succeeded("", "poison");
        assert_eq!(look("poison", "u").await, Some(Action::requeue(second)));
    }
}
