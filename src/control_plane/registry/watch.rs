//! One watch of one kind in one data plane, kept in its view.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

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

use crate::{
    control_plane::{
        fleet::ViewCell,
        view::{ObjectKey, Section, View},
    },
    runtime::cause::Cause,
};

/// How long one watch request lasts. Short enough to notice within minutes a connection that only
/// looks alive; the probe notices a dead cluster much earlier.
const WATCH_SECONDS: u32 = 120;

/// Configuration of a watch on `selector` (all objects when empty).
pub(super) fn config(selector: &str) -> watcher::Config {
    let config = watcher::Config::default().timeout(WATCH_SECONDS);
    if selector.is_empty() { config } else { config.labels(selector) }
}

/// What a watch has to tell.
pub(super) enum News<'a, T> {
    /// A listing is complete.
    Listed,
    /// An object changed: its key, and what is kept of it, or was kept until now.
    Changed(&'a ObjectKey, &'a Arc<T>),
    /// The API server refuses to list, in its words. It is asked again, with growing pauses.
    Refused(&'a str),
}

/// Watches for ever, keeping what `keep` makes of each object in `section`, if anything. `tell` hears of each change, and
/// `failed` is set for good once anything went wrong.
pub(super) async fn run<K, T>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    cell: Arc<ViewCell>,
    failed: Arc<AtomicBool>,
    section: fn(&mut View) -> &mut Section<T>,
    keep: impl Fn(&K) -> Option<T>,
    tell: impl Fn(News<'_, T>),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    T: Send + Sync,
    View: Clone,
{
    let mut events = watcher(api, config).default_backoff().boxed();
    let mut listing: BTreeMap<ObjectKey, Arc<T>> = BTreeMap::new();
    let kind = K::kind(&()).into_owned();
    let is_secret = kind == "Secret";
    let decoded = |object: DeserializeGuard<K>| {
        let key = ObjectKey::of(&object);
        match object.0 {
            Ok(object) => keep(&object).map(|kept| (key, Arc::new(kept))),
            Err(error) => {
                // The library quotes what it cannot read.
                let error =
                    if is_secret { "it is not of its kind's shape".to_owned() } else { error.to_string() };
                tracing::warn!(%kind, object = %key, error, "object cannot be read and is left out");
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
                tell(News::Listed);
            }
            Ok(Some(Event::Apply(object))) => {
                let key = ObjectKey::of(&object);
                let kept = decoded(object).map(|(_, kept)| kept);
                let before = cell.update(|view| match &kept {
                    Some(kept) => section(view).items.insert(key.clone(), kept.clone()),
                    None => section(view).items.remove(&key),
                });
                if let Some(kept) = kept.or(before) {
                    tell(News::Changed(&key, &kept));
                }
            }
            Ok(Some(Event::Delete(object))) => {
                let key = ObjectKey::new(object.namespace().unwrap_or_default(), object.name_any());
                let before = cell.update(|view| section(view).items.remove(&key));
                if let Some(before) = before {
                    tell(News::Changed(&key, &before));
                }
            }
            // The watcher itself starts over, with growing pauses.
            Err(error) => {
                let cause = Cause::of(&error);
                let why = if is_secret { String::new() } else { cause.words };
                tracing::debug!(%kind, cause = ?cause.kind, why, "watch interrupted");
                failed.store(true, Ordering::Release);
                if let Some(words) = refusal(&error) {
                    tell(News::Refused(words));
                }
            }
            Ok(None) => return,
        }
    }
}

/// The API server's words when it does not serve or permit a listing; nothing for what may pass by itself.
fn refusal(error: &watcher::Error) -> Option<&str> {
    let watcher::Error::InitialListFailed(kube::Error::Api(status)) = error else { return None };
    matches!(status.code, 403..=405).then_some(status.message.as_str())
}
