//! One controller per kind: its watches, and what wakes it.
//!
//! Nothing here may decide what is done with an object.

use std::{sync::Arc, time::Duration};

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use kube::{
    Api, Client, Resource as _,
    core::PartialObjectMeta,
    runtime::{
        Controller, WatchStreamExt as _,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use tokio_util::sync::CancellationToken;

use super::context::{Context, Guarded, Reconciler};
use crate::{
    api::{cassandra::CassandraDatacenter, medusa::GROUP},
    runtime::{controller, follow::Followed},
};

/// What else wakes a kind, made from the store of its objects.
pub type Triggers<R> = BoxStream<'static, ObjectRef<Guarded<R>>>;

/// Reconciles the objects of one kind, in one namespace or in all, until `shutdown`. `triggers` is given
/// the store of the watched objects and returns what wakes them beside their own changes and their
/// datacenter's.
pub async fn run<R: Reconciler>(
    ctx: Arc<Context<R>>,
    scope: Option<&str>,
    triggers: impl FnOnce(Store<Guarded<R>>) -> Triggers<R>,
    shutdown: CancellationToken,
) {
    let client = ctx.tools.client.clone();
    let objects: Api<Guarded<R>> = scoped(&client, scope);
    let by_object = Controller::new(objects, watcher::Config::default());
    let datacenters = datacenter_changes::<R>(scoped(&client, scope), by_object.store());
    let others = triggers(by_object.store());
    controller::run(ctx, by_object, stream::select(datacenters, others), shutdown).await;
}

/// Nothing else wakes the kind.
pub fn no_triggers<R: Reconciler>(_: Store<Guarded<R>>) -> Triggers<R> {
    stream::pending().boxed()
}

/// Objects whose datacenter has just changed: it may be what they wait for. Only metadata is watched. A
/// stream of its own, as an error in one of a controller's own triggers slows all of them down, and a
/// cluster may lack the definition.
fn datacenter_changes<R: Reconciler>(
    api: Api<PartialObjectMeta<CassandraDatacenter>>,
    objects: Store<Guarded<R>>,
) -> impl stream::Stream<Item = ObjectRef<Guarded<R>>> + Send + 'static {
    watcher(api, watcher::Config::default())
        .default_backoff()
        .touched_objects()
        .filter_map(|datacenter| std::future::ready(datacenter.ok()))
        .flat_map(move |datacenter| {
            let meta = datacenter.metadata;
            let (namespace, name) = (meta.namespace.unwrap_or_default(), meta.name.unwrap_or_default());
            stream::iter(of_datacenter::<R>(&objects, &namespace, &name))
        })
}

/// The objects in `store` that wait for changes of that datacenter.
#[must_use]
pub fn of_datacenter<R: Reconciler>(
    store: &Store<Guarded<R>>,
    namespace: &str,
    name: &str,
) -> Vec<ObjectRef<Guarded<R>>> {
    let waits = |object: &R::Object| {
        object.meta().namespace.as_deref() == Some(namespace)
            && !R::is_over(object)
            && R::datacenter(object) == Some(name)
    };
    store
        .state()
        .iter()
        .filter(|guarded| guarded.0.as_ref().is_ok_and(waits))
        .map(|guarded| ObjectRef::from_obj(guarded.as_ref()))
        .collect()
}

/// The kind's API in one namespace or in all.
#[must_use]
pub fn scoped<K: Followed>(client: &Client, namespace: Option<&str>) -> Api<K> {
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Waits until the API server serves the Medusa kinds of those plural names. Returns false on shutdown.
pub async fn served(
    client: &Client,
    definitions: &[&str],
    pause: Duration,
    shutdown: &CancellationToken,
) -> bool {
    let version = format!("{GROUP}/v1alpha1");
    let mut is_logged = false;
    loop {
        let served = unless_shutdown(shutdown, pause, || async {
            match client.list_api_group_resources(&version).await {
                Ok(list) => Ok(list.resources.into_iter().map(|r| r.name).collect::<Vec<_>>()),
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Vec::new()),
                Err(error) => Err(error),
            }
        });
        let Some(served) = served.await else { return false };
        let missing: Vec<&&str> =
            definitions.iter().filter(|name| !served.iter().any(|s| s == **name)).collect();
        if missing.is_empty() {
            return true;
        }
        if !is_logged {
            tracing::warn!(?missing, "waits for definitions of {GROUP}; install them (medusa-fleet crds)");
            is_logged = true;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return false,
        }
    }
}

/// Repeats `ask`, with a pause in between, until it is answered; nothing on shutdown.
pub async fn unless_shutdown<T, F>(
    shutdown: &CancellationToken,
    pause: Duration,
    mut ask: impl FnMut() -> F,
) -> Option<T>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    loop {
        tokio::select! {
            answer = ask() => match answer {
                Ok(value) => return Some(value),
                Err(error) => tracing::warn!(%error, "the API server cannot be asked; trying again"),
            },
            () = shutdown.cancelled() => return None,
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return None,
        }
    }
}
