//! Which objects ever stood under a name, seen by a watch.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::{Arc, Mutex},
};

use futures::StreamExt as _;
use kube::{
    Api, Resource, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, watcher},
    },
};
use serde::de::DeserializeOwned;

/// Every uid that ever stood under a name.
pub type Uids = Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>;

/// Follows the objects that `count`, until the test ends. What is there before it returns is seen too.
pub async fn follow<K>(api: Api<K>, count: impl Fn(&K) -> bool + Send + 'static) -> Uids
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let seen = Uids::default();
    let into = Arc::clone(&seen);
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let mut ready = Some(ready);
        let mut events = Box::pin(watcher(api, watcher::Config::default()).default_backoff());
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) if count(&object) => {
                    let (name, uid) = (object.name_any(), object.uid().unwrap());
                    into.lock().unwrap().entry(name).or_default().insert(uid);
                }
                Ok(watcher::Event::InitDone) => drop(ready.take().map(|ready| ready.send(()))),
                // A watch that broke goes on by itself.
                Err(_)
                | Ok(
                    watcher::Event::Init
                    | watcher::Event::Apply(_)
                    | watcher::Event::InitApply(_)
                    | watcher::Event::Delete(_),
                ) => {}
            }
        }
    });
    is_ready.await.unwrap();
    seen
}
