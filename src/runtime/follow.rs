//! All objects of one kind in one namespace, kept current.

use std::{fmt::Debug, hash::Hash};

use futures::{FutureExt as _, Stream, StreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt as _,
        reflector::{self, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;

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

/// Whether a store has its first listing: what it does not hold before may be there all the same.
pub fn is_ready<K>(store: &Store<K>) -> bool
where
    K: reflector::Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    store.wait_until_ready().now_or_never().is_some_and(|ready| ready.is_ok())
}
