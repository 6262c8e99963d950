//! All objects of one kind in one namespace, kept current.

use std::{fmt::Debug, hash::Hash, sync::Arc};

use futures::{FutureExt as _, Stream, StreamExt as _};
use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt as _,
        reflector::{self, ObjectRef, Store},
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::api::guarded::{Guarded, Unreadable};

/// A namespaced kind that can be watched.
pub trait Followed:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Followed for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// The objects of kind `K` in one namespace, as they were last heard of.
#[derive(Clone)]
pub struct Cache<K: Followed> {
    namespace: String,
    objects: Store<K>,
    /// Whether they have been listed. The library's own `Store::wait_until_ready` wakes only the last of those that wait for
    /// it, and none when somebody else has looked meanwhile.
    listed: watch::Receiver<bool>,
}

impl<K: Followed> Cache<K> {
    /// All of them. Before the first listing: none.
    #[must_use]
    pub fn state(&self) -> Vec<Arc<K>> {
        self.objects.state()
    }

    /// The one with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<K>> {
        self.objects.get(&ObjectRef::new(name).within(&self.namespace))
    }

    /// Whether they have been listed: what is not here before may be there all the same.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        *self.listed.borrow()
    }

    /// Waits for the first listing; says false if it will not come, as nobody keeps these objects current any more.
    pub async fn listed(&self) -> bool {
        self.listed.clone().wait_for(|is_listed| *is_listed).await.is_ok()
    }
}

/// The objects of kind `K` in `namespace`, and what happens to them: they are current for as long as that is polled.
pub fn news<K: Followed>(
    client: Client,
    namespace: &str,
) -> (Cache<K>, impl Stream<Item = ()> + Unpin + use<K>) {
    let api: Api<K> = Api::namespaced(client, namespace);
    let events = watcher(api, watcher::Config::default()).default_backoff();
    cached(namespace, events)
}

fn cached<K: Followed, S>(
    namespace: &str,
    events: S,
) -> (Cache<K>, impl Stream<Item = ()> + Unpin + use<K, S>)
where
    S: Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
{
    let (objects, writer) = reflector::store();
    let (says, listed) = watch::channel(false);
    // What the API server keeps about writers is most of these objects, of which there are thousands.
    let events = events
        .modify(|object| object.meta_mut().managed_fields = None)
        .reflect(writer)
        .inspect(move |event| {
            if matches!(event, Ok(Event::InitDone)) {
                says.send_replace(true);
            }
        })
        .touched_objects()
        .map(drop)
        .boxed();
    (Cache { namespace: namespace.to_owned(), objects, listed }, events)
}

/// The objects of kind `K` in `namespace`, and the task that keeps them current for as long as it is polled.
pub fn follow<K: Followed>(client: Client, namespace: &str) -> (Cache<K>, impl Future<Output = ()> + use<K>) {
    let (cache, events) = news(client, namespace);
    (cache, keep(events))
}

async fn keep(mut events: impl Stream<Item = ()> + Unpin) {
    while events.next().await.is_some() {}
}

/// [`follow`], for a kind whose objects we write and nobody else has a say in: its spec is empty and its status ours. One
/// that cannot be read is there all the same, with as much of its status as can be, so that it is written anew; it must
/// not keep the others from being known.
pub fn follow_own<K: Followed>(
    client: Client,
    namespace: &str,
) -> (Cache<K>, impl Future<Output = ()> + use<K>) {
    let api: Api<Guarded<K, Readable<K>>> = Api::namespaced(client, namespace);
    let events = watcher(api, watcher::Config::default()).default_backoff().map(|event| event.map(own));
    let (cache, events) = cached(namespace, events);
    (cache, keep(events))
}

fn own<K>(event: Event<Guarded<K, Readable<K>>>) -> Event<K> {
    let object = |object: Guarded<K, Readable<K>>| object.0.unwrap_or_else(|part| part.0);
    match event {
        Event::Apply(found) => Event::Apply(object(found)),
        Event::Delete(found) => Event::Delete(object(found)),
        Event::Init => Event::Init,
        Event::InitApply(found) => Event::InitApply(object(found)),
        Event::InitDone => Event::InitDone,
    }
}

/// What can be read of an object of ours.
#[derive(Clone, Debug)]
struct Readable<K>(K);

impl<K: Resource<DynamicType = ()> + DeserializeOwned> Unreadable<K> for Readable<K> {
    fn of(object: Value, metadata: ObjectMeta, error: &str) -> Result<Self, String> {
        let name = metadata.name.as_deref().unwrap_or_default();
        tracing::warn!(kind = %K::kind(&()), name, error, "object cannot be read; its status is written anew");
        let with = |status: Option<&Value>| {
            K::deserialize(json!({"metadata": metadata, "spec": {}, "status": status}))
        };
        let whole = with(object.get("status")).or_else(|_| with(None));
        whole.map(Self).map_err(|error| error.to_string())
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

/// Whether the store of a controller has its first listing, as [`Cache::is_listed`] says it of a cache. Nobody may wait for
/// it by `wait_until_ready`, as this takes that place.
pub fn is_listed<K>(store: &Store<K>) -> bool
where
    K: reflector::Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    store.wait_until_ready().now_or_never().is_some_and(|ready| ready.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fleet::FleetBackup;

    #[tokio::test]
    async fn all_who_wait_for_the_first_listing_hear_of_it_whoever_looked_meanwhile() {
        let (begin, begins) = tokio::sync::oneshot::channel::<()>();
        let backup: FleetBackup =
            serde_json::from_value(json!({"metadata": {"name": "b", "namespace": "ns"}, "spec": {}}))
                .unwrap();
        let listing = [Event::Init, Event::InitApply(backup), Event::InitDone].map(Ok);
        let events = futures::stream::once(begins).map(|_| Ok(Event::Init));
        let (cache, events) = cached("ns", events.chain(futures::stream::iter(listing)));
        let waiting = [(); 3].map(|()| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.listed().await })
        });
        // They all begin to wait.
        tokio::task::yield_now().await;
        assert!(!cache.is_listed());
        begin.send(()).unwrap();
        keep(events).await;
        for one in waiting {
            assert!(one.await.unwrap());
        }
        assert!(cache.is_listed() && cache.get("b").is_some() && cache.get("c").is_none());
    }

    #[tokio::test]
    async fn a_listing_that_will_not_come_is_not_waited_for() {
        let (cache, events) = cached::<FleetBackup, _>("ns", futures::stream::empty());
        keep(events).await;
        assert!(!cache.listed().await && !cache.is_listed());
    }

    type Own = Guarded<FleetBackup, Readable<FleetBackup>>;

    #[test]
    fn an_object_of_ours_is_there_whatever_stands_in_it_with_what_can_be_read() {
        let read = |spec: Value, status: Value| {
            let object = json!({"metadata": {"name": "b"}, "spec": spec, "status": status});
            serde_json::from_value::<Own>(object).unwrap().0.unwrap_or_else(|part| part.0)
        };
        let status = json!({"cluster": "shop", "complete": true});
        let whole = read(json!({}), status.clone());
        assert!(whole.status.as_ref().is_some_and(|status| status.complete));
        assert_eq!(read(json!(5), status).status, whole.status, "its spec says nothing");
        let odd = read(json!([1]), json!({"datacenters": {}}));
        assert_eq!((odd.metadata.name.as_deref(), odd.status), (Some("b"), None));
        assert!(serde_json::from_value::<Own>(json!({"metadata": 5})).is_err());
        assert!(serde_json::from_value::<Own>(json!("b")).is_err());
    }
}
