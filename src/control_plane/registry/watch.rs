//! One watch of one kind in one data plane, kept in its view.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use futures::{StreamExt as _, TryStreamExt as _};
use kube::{
    Api, Resource, ResourceExt as _,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;

use crate::control_plane::{
    fleet::ViewCell,
    view::{ObjectKey, Section, View},
};

/// How long one watch request lasts. Short enough to notice within minutes a connection that only
/// looks alive; the probe notices a dead cluster much earlier.
const WATCH_SECONDS: u32 = 120;

/// Configuration of a watch on `selector` (all objects when empty).
pub(super) fn config(selector: &str) -> watcher::Config {
    let config = watcher::Config::default().timeout(WATCH_SECONDS);
    if selector.is_empty() { config } else { config.labels(selector) }
}

/// Watches for ever, keeping what `keep` makes of each object in `section`. `changed` is called after
/// each change with the object's key, and with `None` once per complete listing.
pub(super) async fn run<K, T>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    cell: Arc<ViewCell>,
    section: fn(&mut View) -> &mut Section<T>,
    keep: impl Fn(&K) -> T,
    changed: impl Fn(Option<&ObjectKey>),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    T: Send + Sync,
    View: Clone,
{
    let mut events = watcher(api, config).default_backoff().boxed();
    let mut listing: BTreeMap<ObjectKey, Arc<T>> = BTreeMap::new();
    let kind = K::kind(&()).into_owned();
    let decoded = |object: DeserializeGuard<K>| {
        let key = ObjectKey::of(&object);
        match object.0 {
            Ok(object) => Some((key, Arc::new(keep(&object)))),
            Err(error) => {
                tracing::warn!(%kind, object = %key, %error, "object cannot be read and is left out");
                None
            }
        }
    };
    loop {
        match events.try_next().await {
            Ok(Some(Event::Init)) => listing.clear(),
            Ok(Some(Event::InitApply(object))) => listing.extend(decoded(object)),
            Ok(Some(Event::InitDone)) => {
                let items = std::mem::take(&mut listing);
                cell.update(|view| {
                    let section = section(view);
                    section.items = items;
                    section.synced = true;
                });
                changed(None);
            }
            Ok(Some(Event::Apply(object))) => {
                let key = ObjectKey::of(&object);
                let kept = decoded(object);
                cell.update(|view| {
                    let items = &mut section(view).items;
                    match kept {
                        Some((key, kept)) => items.insert(key, kept),
                        None => items.remove(&key),
                    }
                });
                changed(Some(&key));
            }
            Ok(Some(Event::Delete(object))) => {
                let key = ObjectKey::new(object.namespace().unwrap_or_default(), object.name_any());
                cell.update(|view| section(view).items.remove(&key));
                changed(Some(&key));
            }
            // The watcher itself starts over, with growing pauses.
            Err(error) => tracing::debug!(%kind, %error, "watch interrupted"),
            Ok(None) => return,
        }
    }
}
