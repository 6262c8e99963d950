//! Which objects ever stood under a name, seen by a watch.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::{Arc, Mutex},
};

use futures::TryStreamExt as _;
use kube::{
    Api, Resource, ResourceExt as _,
    runtime::watcher::{self, watcher},
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
        let mut events = Box::pin(watcher(api, watcher::Config::default()));
        while let Ok(Some(event)) = events.try_next().await {
            match event {
                watcher::Event::Apply(object) | watcher::Event::InitApply(object) if count(&object) => {
                    let (name, uid) = (object.name_any(), object.uid().unwrap());
                    into.lock().unwrap().entry(name).or_default().insert(uid);
                }
                watcher::Event::InitDone => drop(ready.take().map(|ready| ready.send(()))),
                watcher::Event::Init
                | watcher::Event::Apply(_)
                | watcher::Event::InitApply(_)
                | watcher::Event::Delete(_) => {}
            }
        }
    });
    is_ready.await.unwrap();
    seen
}
