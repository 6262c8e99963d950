//! All objects of one kind in one namespace, kept current.

use std::{fmt::Debug, hash::Hash};

use futures::{FutureExt as _, Stream, StreamExt as _};
use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt as _,
        reflector::{self, Store},
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

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

/// The objects of kind `K` in `namespace`, and what happens to them: the store is current for as long as that is polled.
pub fn news<K: Followed>(
    client: Client,
    namespace: &str,
) -> (Store<K>, impl Stream<Item = ()> + Unpin + use<K>) {
    let (store, writer) = reflector::store();
    let api: Api<K> = Api::namespaced(client, namespace);
    // What the API server keeps about writers is most of these objects, of which there are thousands.
    let events = watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(|object| object.meta_mut().managed_fields = None)
        .reflect(writer)
        .touched_objects()
        .map(drop)
        .boxed();
    (store, events)
}

/// The objects of kind `K` in `namespace`, and the task that keeps them current for as long as it is polled.
pub fn follow<K: Followed>(client: Client, namespace: &str) -> (Store<K>, impl Future<Output = ()> + use<K>) {
    let (store, mut events) = news(client, namespace);
    (store, async move { while events.next().await.is_some() {} })
}

/// [`follow`], for a kind whose objects we write and nobody else has a say in: its spec is empty and its status ours. One
/// that cannot be read is there all the same, with as much of its status as can be, so that it is written anew; it must
/// not keep the others from being known.
pub fn follow_own<K: Followed>(
    client: Client,
    namespace: &str,
) -> (Store<K>, impl Future<Output = ()> + use<K>) {
    let (store, writer) = reflector::store();
    let api: Api<Guarded<K, Readable<K>>> = Api::namespaced(client, namespace);
    let mut events = watcher(api, watcher::Config::default())
        .default_backoff()
        .map(|event| event.map(own))
        .modify(|object: &mut K| object.meta_mut().managed_fields = None)
        .reflect(writer)
        .touched_objects()
        .boxed();
    (store, async move { while events.next().await.is_some() {} })
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

/// Whether a store has its first listing: what it does not hold before may be there all the same.
pub fn is_ready<K>(store: &Store<K>) -> bool
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
