//! One watch of one kind in one data plane, kept in its view.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::TryStreamExt as _;
use http::{Request, Response};
use jiff::Timestamp;
use kube::{
    Client, Resource, ResourceExt as _,
    client::Body,
    core::DeserializeGuard,
    runtime::watcher::{self, Event},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::Notify, time::Instant};

use super::pulse::{Beat, Pulse};
use crate::{
    control_plane::data_planes::{
        capabilities::resource,
        fleet::ViewCell,
        section::Section,
        view::{ObjectKey, View},
        weight::weight,
    },
    runtime::{
        backoff,
        cause::{Cause, Kind},
        clock::Clock,
        scope::WatchEvents,
        sync::lock,
        wire,
    },
};

/// How long one watch request lasts. With a connection of its own it is short enough to notice within minutes one that only
/// looks alive; the probe notices a dead cluster much earlier. A connection that watches share is asked for signs of life.
const WATCH: Duration = Duration::from_mins(2);
/// The shortest and the longest of these, by data plane and kind.
const SHARED_WATCH: (Duration, Duration) = (Duration::from_secs(200), Duration::from_secs(290));
// A watch that is renewed finds the connection of the others.
const _: () = assert!(SHARED_WATCH.1.as_secs() < crate::runtime::client::WATCHES_SHARE.as_secs());
/// Most characters of an API server's words that are kept.
const MAX_WORDS: usize = 300;
const MIB: usize = 1024 * 1024;

/// How much memory the objects of one data plane may take. They are kept, and whoever sends without end would fill our
/// memory with them.
#[derive(Clone, Copy)]
pub(super) struct Room {
    /// Bytes, about, of all kinds together; listings under way may take as much again.
    pub(super) bytes: usize,
    /// How long a kind is left alone for which there was no room, before it is listed anew.
    pub(super) pause: Duration,
}

impl Room {
    /// Some eight thousand datacenters, or fifty thousand MedusaBackups.
    pub(super) const USUAL: Self = Self { bytes: 64 * MIB, pause: Duration::from_mins(1) };

    /// Why the kind `name` is not followed.
    fn exceeded(self, name: &str) -> String {
        format!(
            "{name} cannot be followed: what is kept of this data plane's objects takes more than {} MiB; delete there what \
             is not needed",
            self.bytes / MIB
        )
    }
}

/// How long the watch requests of one kind in one data plane last, on a connection that others share or on its own.
pub(super) fn lasts(who: (&str, &str), is_shared: bool) -> Duration {
    if is_shared { backoff::spread(&who, SHARED_WATCH.0, SHARED_WATCH.1) } else { WATCH }
}

/// Configuration of a watch on `selector` (all objects when empty) whose requests last so long.
pub(super) fn config(selector: &str, lasts: Duration) -> watcher::Config {
    let config = watcher::Config::default().timeout(u32::try_from(lasts.as_secs()).unwrap_or(u32::MAX));
    if selector.is_empty() { config } else { config.labels(selector) }
}

/// What a watch has to tell.
pub(super) enum News<'a, T> {
    Listed,
    /// An object changed: its key, and what is kept of it, or was kept until now.
    Changed(&'a ObjectKey, &'a Arc<T>),
    /// An object that cannot be read came, went or changed.
    Blurred,
    /// It was interrupted, for this reason. It is tried again, with growing pauses.
    Interrupted(&'a str),
    /// The API server refuses to list or watch, for this reason. It is asked again, likewise.
    Refused(&'a str),
    /// It has failed for long, since then and for this reason.
    Failed(Timestamp, &'a str),
    /// It had failed, and goes on where it was.
    Resumed,
}

/// Whether the API server has begun to answer the watch requests of a kind. The stream of events does not say that: where
/// nothing changes, a watch that goes on after a failure shows nothing.
#[derive(Default)]
pub(super) struct Answered {
    /// The namespaces that are watched, each by requests of its own; empty where one request watches all.
    within: BTreeSet<String>,
    /// Namespaces whose last request was for a watch and was answered well; an empty name stands for all.
    heard: Mutex<BTreeSet<String>>,
    signal: Notify,
}

impl Answered {
    pub(super) fn within(namespaces: &BTreeSet<String>) -> Self {
        Self { within: namespaces.clone(), ..Self::default() }
    }

    /// The one request that watches all was answered well.
    pub(super) fn hear(&self) {
        lock(&self.heard).insert(String::new());
        self.signal.notify_one();
    }

    /// `client`, telling of each watch request that is answered well.
    pub(super) fn heard_through(self: &Arc<Self>, client: &Client) -> Client {
        let namespace = client.default_namespace().to_owned();
        let (heard, client) = (self.clone(), client.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (heard, client) = (heard.clone(), client.clone());
            async move {
                let is_watch = wire::is_watch(&request);
                let namespace = namespace_of(request.uri().path()).to_owned();
                lock(&heard.heard).remove(&namespace);
                let response: Response<Body> = client.send(request).await?;
                if is_watch && response.status().is_success() {
                    lock(&heard.heard).insert(namespace);
                    heard.signal.notify_one();
                }
                Ok::<_, kube::Error>(response)
            }
        });
        Client::new(service, namespace)
    }

    /// Whether those of all namespaces are answered.
    pub(super) fn are_all(&self) -> bool {
        let heard = lock(&self.heard);
        !heard.is_empty() && self.within.is_subset(&heard)
    }

    /// Whether one watch shows all there is: then each of its events says that it goes on.
    fn is_one(&self) -> bool {
        self.within.len() <= 1
    }
}

/// The namespace of a path of the API; empty where it is about all.
fn namespace_of(path: &str) -> &str {
    path.split_once("/namespaces/").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default()
}

/// What a watch needs besides what it watches.
#[derive(Clone)]
pub(super) struct WatchContext {
    /// Where what it shows is kept.
    pub(super) cell: Arc<ViewCell>,
    /// Set for good once anything went wrong.
    pub(super) failed: Arc<AtomicBool>,
    /// Whether watch requests are answered.
    pub(super) answered: Arc<Answered>,
    pub(super) clock: Clock,
    /// How much may be kept.
    pub(super) room: Room,
}

/// Watches for ever by what `begin` begins, keeping what `keep` makes of each object in `section`, if anything. `tell` hears
/// of each change.
pub(super) async fn run<K, T>(
    begin: impl Fn() -> WatchEvents<DeserializeGuard<K>>,
    place: WatchContext,
    section: fn(&mut View) -> &mut Section<T>,
    keep: impl Fn(&K) -> Option<T>,
    tell: impl Fn(News<'_, T>),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    T: Serialize + Send + Sync,
{
    let WatchContext { cell, failed, answered, clock, room } = place;
    let mut events = begin();
    let mut arriving = Arriving::new(cell.clone());
    let mut pulse = Pulse::default();
    let name = resource(&K::group(&()), &K::plural(&()));
    loop {
        let event = tokio::select! {
            event = events.try_next() => event,
            () = answered.signal.notified() => {
                if answered.are_all() {
                    pulse.answered(Instant::now());
                }
                continue;
            }
            () = until(pulse.due()) => {
                match pulse.beat(Instant::now()) {
                    Some(Beat::Well) => tell(News::Resumed),
                    Some(Beat::Failed(since, why)) => {
                        tracing::warn!(kind = name, why, "watch has failed for long");
                        tell(News::Failed(since, &why));
                    }
                    None => {}
                }
                continue;
            }
        };
        let is_change = matches!(event, Ok(Some(Event::Apply(_) | Event::Delete(_))));
        if is_change && answered.is_one() && pulse.well() {
            tell(News::Resumed);
        }
        match event {
            Ok(Some(Event::Init)) => arriving.clear(),
            Ok(Some(Event::InitApply(object))) => {
                let (key, kept) = read(object, &keep);
                arriving.add(key, kept);
            }
            Ok(Some(Event::InitDone)) => {
                pulse.well();
                let (items, unreadable) = arriving.take();
                cell.update(|view| section(view).fill(items, unreadable));
                if cell.get().weight() <= room.bytes {
                    tell(News::Listed);
                }
            }
            Ok(Some(Event::Apply(object))) => {
                let (key, kept) = read(object, &keep);
                let is_blurred = kept.is_err();
                let (kept, before) = cell.update(|view| match kept {
                    Ok(Some(kept)) => (Some(kept.clone()), section(view).put(key.clone(), kept)),
                    Ok(None) => (None, section(view).remove(&key)),
                    Err(why) => (None, section(view).blur(key.clone(), why)),
                });
                if let Some(kept) = kept.or(before) {
                    tell(News::Changed(&key, &kept));
                }
                if is_blurred {
                    tell(News::Blurred);
                }
            }
            Ok(Some(Event::Delete(object))) => {
                let key = ObjectKey::new(object.namespace().unwrap_or_default(), object.name_any());
                let (was_blurred, before) = cell.update(|view| {
                    let section = section(view);
                    let version = object.resource_version().unwrap_or_default();
                    (section.unreadable().contains_key(&key), section.went(&key, &version))
                });
                if let Some(before) = before {
                    tell(News::Changed(&key, &before));
                }
                if was_blurred {
                    tell(News::Blurred);
                }
            }
            // The watcher itself starts over, with growing pauses.
            Err(error) => {
                let why = interrupted(&name, &error);
                tracing::debug!(kind = name, why, "watch interrupted");
                failed.store(true, Ordering::Release);
                pulse.failed(Instant::now(), clock.now(), &why);
                tell(if is_refusal(&error) { News::Refused(&why) } else { News::Interrupted(&why) });
            }
            Ok(None) => return,
        }
        if cell.get().weight().max(cell.arriving.load(Ordering::Relaxed)) > room.bytes {
            let why = room.exceeded(&name);
            tracing::warn!(kind = name, why, "no room for what a watch shows");
            arriving.clear();
            cell.update(|view| {
                section(view).clear();
                section(view).trust.begin();
            });
            failed.store(true, Ordering::Release);
            tell(News::Failed(clock.now(), &why));
            events = begin();
            tokio::time::sleep(room.pause).await;
        }
    }
}

/// What a listing under way has brought; counted with those of the data plane's other kinds as long as it is kept.
struct Arriving<T> {
    cell: Arc<ViewCell>,
    items: BTreeMap<ObjectKey, Arc<T>>,
    unreadable: BTreeMap<ObjectKey, String>,
    weight: usize,
}

impl<T: Serialize> Arriving<T> {
    fn new(cell: Arc<ViewCell>) -> Self {
        Self { cell, items: BTreeMap::new(), unreadable: BTreeMap::new(), weight: 0 }
    }

    fn add(&mut self, key: ObjectKey, kept: Result<Option<Arc<T>>, String>) {
        let weight = match kept {
            Ok(Some(kept)) => {
                let weight = weight(kept.as_ref());
                self.items.insert(key, kept);
                weight
            }
            Ok(None) => return,
            Err(why) => {
                let weight = weight(&why);
                self.unreadable.insert(key, why);
                weight
            }
        };
        self.weight += weight;
        self.cell.arriving.fetch_add(weight, Ordering::Relaxed);
    }
}

impl<T> Arriving<T> {
    fn take(&mut self) -> (BTreeMap<ObjectKey, Arc<T>>, BTreeMap<ObjectKey, String>) {
        self.cell.arriving.fetch_sub(std::mem::take(&mut self.weight), Ordering::Relaxed);
        (std::mem::take(&mut self.items), std::mem::take(&mut self.unreadable))
    }

    fn clear(&mut self) {
        drop(self.take());
    }
}

impl<T> Drop for Arriving<T> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Why a watch was interrupted. The library quotes what it cannot read, and a Secret may be in it.
fn interrupted(name: &str, error: &watcher::Error) -> String {
    let cause = Cause::of(error);
    let may_quote = matches!(cause.kind, Kind::NotKubernetes | Kind::Unreachable);
    let said = if name == "secrets" && may_quote { "the answer cannot be read" } else { &cause.words };
    format!("{name} cannot be followed: {said}").chars().take(MAX_WORDS).collect()
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// What is kept of an object, or why it cannot be read.
fn read<K, T>(
    object: DeserializeGuard<K>,
    keep: &impl Fn(&K) -> Option<T>,
) -> (ObjectKey, Result<Option<Arc<T>>, String>)
where
    K: Resource<DynamicType = ()>,
{
    let key = ObjectKey::of(&object);
    let read = match object.0 {
        Ok(object) => Ok(keep(&object).map(Arc::new)),
        Err(error) => {
            let kind = K::kind(&());
            // The library quotes what it cannot read.
            let why: String = if kind == "Secret" {
                "it is not of its kind's shape".to_owned()
            } else {
                error.error.chars().take(MAX_WORDS).collect()
            };
            tracing::warn!(%kind, object = %key, why, "object cannot be read");
            Err(format!("{kind} {key} cannot be read: {why}; correct or delete it there"))
        }
    };
    (key, read)
}

/// Whether the API server does not serve or permit it; nothing for what may pass by itself.
fn is_refusal(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(kube::Error::Api(status))
    | watcher::Error::WatchStartFailed(kube::Error::Api(status))) = error
    else {
        return false;
    };
    matches!(status.code, 403..=405)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use rstest::rstest;
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        control_plane::data_planes::{fleet::Fleet, records::CopyRecord},
        runtime::scope,
    };

    /// A ConfigMap.
    fn map(n: u32) -> String {
        format!(
            r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"m{n}","namespace":"ns","resourceVersion":"{n}"}}}}"#
        )
    }

    /// Lists so many ConfigMaps, and adds so many to whoever watches.
    fn sending(listed: u32, added: u32) -> Client {
        let service = tower::service_fn(move |request: Request<Body>| async move {
            let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
            let body = if is_watch {
                let event = |n| format!(r#"{{"type":"ADDED","object":{}}}"#, map(n)) + "\n";
                (listed..listed + added).map(event).collect::<String>()
            } else {
                let items = (0..listed).map(map).collect::<Vec<_>>().join(",");
                format!(
                    r#"{{"kind":"ConfigMapList","apiVersion":"v1","metadata":{{"resourceVersion":"1"}},"items":[{items}]}}"#
                )
            };
            Response::builder().status(200).body(Body::from(body.into_bytes()))
        });
        Client::new(service, "default")
    }

    #[rstest]
    #[case::in_a_list(50, 0, false)]
    #[case::in_a_watch(2, 50, true)]
    #[tokio::test]
    async fn objects_without_end_are_given_up_and_listed_anew_later(
        #[case] listed: u32,
        #[case] added: u32,
        #[case] is_listed: bool,
    ) {
        let fleet = Fleet::default();
        fleet.enrol("eu", "uid", |_| {});
        let cell = fleet.member("eu").unwrap().view;
        let room = Room { bytes: 2 * MIB, pause: Duration::ZERO };
        let place = WatchContext {
            cell: cell.clone(),
            failed: Arc::default(),
            answered: Arc::default(),
            clock: fleet.clock(),
            room,
        };
        let (say, mut said) = mpsc::unbounded_channel();
        let tell = move |news: News<'_, CopyRecord>| match news {
            News::Listed => say.send("listed".to_owned()).unwrap(),
            News::Failed(_, why) => say.send(why.to_owned()).unwrap(),
            News::Changed(..) | News::Blurred | News::Interrupted(_) | News::Refused(_) | News::Resumed => {}
        };
        let keep = |_: &ConfigMap| Some(CopyRecord { source: "x".repeat(MIB / 10), ..CopyRecord::default() });
        let client = sending(listed, added);
        let begin = move || scope::events(&client, &BTreeSet::new(), &config("", WATCH));
        let watch = tokio::spawn(run(begin, place, |view| &mut view.config_maps, keep, tell));
        for _ in 0..2 {
            let mut hear = async || {
                let heard = tokio::time::timeout(Duration::from_secs(30), said.recv()).await;
                heard.expect("nothing happens").expect("it ended")
            };
            if is_listed {
                assert_eq!(hear().await, "listed");
            }
            let why = hear().await;
            assert!(why.contains("configmaps") && why.contains("more than 2 MiB"), "{why}");
            assert!(cell.arriving.load(Ordering::Relaxed) <= room.bytes, "no more of it is kept");
            assert!(cell.get().weight() <= room.bytes, "no more of it is kept");
        }
        watch.abort();
        let _ = watch.await;
        assert_eq!(
            cell.arriving.load(Ordering::Relaxed),
            0,
            "what ends in the middle is not counted for ever"
        );
    }
    #[test]
    fn of_several_namespaces_all_must_have_answered_since_one_failed() {
        let answered = Answered::within(&["a", "b"].map(str::to_owned).into());
        let hear = |path: &str| {
            lock(&answered.heard).insert(namespace_of(path).to_owned());
        };
        hear("/api/v1/namespaces/a/secrets");
        assert!(!answered.are_all() && !answered.is_one());
        hear("/apis/medusa.k8ssandra.io/v1alpha1/namespaces/b/medusabackups");
        assert!(answered.are_all());
        lock(&answered.heard).remove("a");
        hear("/api/v1/namespaces/b/secrets");
        assert!(!answered.are_all(), "one is asked again");
        hear("/api/v1/namespaces/a/secrets");
        assert!(answered.are_all());
        let everywhere = Answered::default();
        assert!(!everywhere.are_all() && everywhere.is_one());
        lock(&everywhere.heard).insert(namespace_of("/api/v1/secrets").to_owned());
        assert!(everywhere.are_all());
    }
}
