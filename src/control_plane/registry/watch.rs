//! One watch of one kind in one data plane, kept in its view.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _};
use http::{Request, Response};
use jiff::Timestamp;
use kube::{
    Api, Client, Resource, ResourceExt as _,
    client::Body,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::{sync::Notify, time::Instant};

use super::pulse::{Beat, Pulse};
use crate::{
    control_plane::data_planes::{
        capabilities::resource,
        fleet::ViewCell,
        section::Section,
        view::{ObjectKey, View},
    },
    runtime::{
        cause::{Cause, Kind},
        clock::Clock,
    },
};

/// How long one watch request lasts. Short enough to notice within minutes a connection that only
/// looks alive; the probe notices a dead cluster much earlier.
const WATCH_SECONDS: u32 = 120;
/// Most characters of an API server's words that are kept.
const MAX_WORDS: usize = 300;

/// How many objects a watch may add to what was listed: it has no pages that could be counted.
#[derive(Clone, Copy)]
pub(super) struct Room {
    /// Objects more than were listed.
    pub(super) objects: usize,
    /// How long a kind that had more is left alone, before it is listed anew within the bounds of lists.
    pub(super) pause: Duration,
}

impl Room {
    /// As much as a list may bring.
    pub(super) const USUAL: Self = Self { objects: 100_000, pause: Duration::from_mins(1) };
}

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

/// Whether the API server has begun to answer a watch request. The stream of events does not say that: where nothing
/// changes, a watch that goes on after a failure shows nothing.
#[derive(Default)]
pub(super) struct Answered {
    is_so: AtomicBool,
    signal: Notify,
}

impl Answered {
    /// `client`, telling of each watch request that is answered well.
    pub(super) fn heard_through(self: &Arc<Self>, client: &Client) -> Client {
        let namespace = client.default_namespace().to_owned();
        let (heard, client) = (self.clone(), client.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (heard, client) = (heard.clone(), client.clone());
            async move {
                let query = request.uri().query().unwrap_or_default();
                let is_watch = query.split('&').any(|part| matches!(part, "watch=true" | "watch=1"));
                let response: Response<Body> = client.send(request).await?;
                if is_watch && response.status().is_success() {
                    heard.is_so.store(true, Ordering::Release);
                    heard.signal.notify_one();
                }
                Ok::<_, kube::Error>(response)
            }
        });
        Client::new(service, namespace)
    }

    fn take(&self) -> bool {
        self.is_so.swap(false, Ordering::AcqRel)
    }
}

/// What a watch needs besides what it watches.
#[derive(Clone)]
pub(super) struct Place {
    /// Where what it shows is kept.
    pub(super) cell: Arc<ViewCell>,
    /// Set for good once anything went wrong.
    pub(super) failed: Arc<AtomicBool>,
    /// Whether watch requests are answered.
    pub(super) answered: Arc<Answered>,
    /// The time.
    pub(super) clock: Clock,
    /// How much may be added before all are listed anew.
    pub(super) room: Room,
}

/// Watches for ever, keeping what `keep` makes of each object in `section`, if anything. `tell` hears of each change.
pub(super) async fn run<K, T>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    place: Place,
    section: fn(&mut View) -> &mut Section<T>,
    keep: impl Fn(&K) -> Option<T>,
    tell: impl Fn(News<'_, T>),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    T: Send + Sync,
    View: Clone,
{
    let Place { cell, failed, answered, clock, room } = place;
    let mut events = watcher(api.clone(), config.clone()).default_backoff().boxed();
    let mut most = room.objects;
    let mut listing = BTreeMap::new();
    let mut unreadable = BTreeMap::new();
    let mut pulse = Pulse::default();
    let name = resource(&K::group(&()), &K::plural(&()));
    loop {
        let event = tokio::select! {
            event = events.try_next() => event,
            () = answered.signal.notified() => {
                if answered.take() {
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
        if matches!(event, Ok(Some(Event::Apply(_) | Event::Delete(_)))) && pulse.well() {
            tell(News::Resumed);
        }
        match event {
            Ok(Some(Event::Init)) => {
                listing.clear();
                unreadable.clear();
            }
            Ok(Some(Event::InitApply(object))) => match read(object, &keep) {
                (key, Ok(Some(kept))) => {
                    listing.insert(key, kept);
                }
                (_, Ok(None)) => {}
                (key, Err(why)) => {
                    unreadable.insert(key, why);
                }
            },
            Ok(Some(Event::InitDone)) => {
                pulse.well();
                let (items, unreadable) = (std::mem::take(&mut listing), std::mem::take(&mut unreadable));
                cell.update(|view| section(view).fill(items, unreadable));
                most = cell.update(|view| section(view).count()).saturating_add(room.objects);
                tell(News::Listed);
            }
            // Whoever adds without end would fill our memory with it.
            Ok(Some(Event::Apply(_))) if cell.update(|view| section(view).count()) >= most => {
                let why = spill(&cell, section, &name, room);
                failed.store(true, Ordering::Release);
                tell(News::Failed(clock.now(), &why));
                events = watcher(api.clone(), config.clone()).default_backoff().boxed();
                tokio::time::sleep(room.pause).await;
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
                    (section.unreadable().contains_key(&key), section.remove(&key))
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
                answered.take();
                let why = interrupted(&name, &error);
                tracing::debug!(kind = name, why, "watch interrupted");
                failed.store(true, Ordering::Release);
                pulse.failed(Instant::now(), clock.now(), &why);
                tell(if is_refusal(&error) { News::Refused(&why) } else { News::Interrupted(&why) });
            }
            Ok(None) => return,
        }
    }
}

/// Forgets a kind to which more was added than there is room for; says why.
fn spill<T>(cell: &ViewCell, section: fn(&mut View) -> &mut Section<T>, name: &str, room: Room) -> String {
    cell.update(|view| {
        section(view).clear();
        section(view).trust.begin();
    });
    let why = format!("{name} cannot be followed: {} were added since they were listed", room.objects);
    tracing::warn!(kind = name, why, "watch overflowed");
    why
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
    use tokio::sync::mpsc;

    use super::*;
    use crate::control_plane::data_planes::{fleet::Fleet, view::CopyRecord};

    /// Lists nothing, and adds ConfigMaps to whoever watches.
    fn adding() -> Client {
        let service = tower::service_fn(|request: Request<Body>| async move {
            let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
            let body = if is_watch {
                let added = |n: u32| {
                    format!(
                        r#"{{"type":"ADDED","object":{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"m{n}","namespace":"ns","resourceVersion":"{n}"}}}}}}"#
                    ) + "\n"
                };
                Body::from((2..50).map(added).collect::<String>().into_bytes())
            } else {
                let list = r#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}"#;
                Body::from(list.as_bytes().to_vec())
            };
            Response::builder().status(200).body(body)
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn objects_added_without_end_are_given_up_and_listed_anew_later() {
        let fleet = Fleet::default();
        fleet.enrol("eu", "uid", |_| {});
        let cell = fleet.member("eu").unwrap().view;
        let place = Place {
            cell: cell.clone(),
            failed: Arc::default(),
            answered: Arc::default(),
            clock: fleet.clock(),
            room: Room { objects: 10, pause: Duration::ZERO },
        };
        let (say, mut said) = mpsc::unbounded_channel();
        let tell = move |news: News<'_, CopyRecord>| match news {
            News::Listed => say.send("listed".to_owned()).unwrap(),
            News::Failed(_, why) => say.send(why.to_owned()).unwrap(),
            News::Changed(..) | News::Blurred | News::Interrupted(_) | News::Refused(_) | News::Resumed => {}
        };
        let keep = |_: &ConfigMap| Some(CopyRecord::default());
        let api = Api::all(adding());
        let watch = tokio::spawn(run(api, config(""), place, |view| &mut view.config_maps, keep, tell));
        for _ in 0..2 {
            let mut hear = async || {
                let heard = tokio::time::timeout(Duration::from_secs(30), said.recv()).await;
                heard.expect("nothing happens").expect("it ended")
            };
            assert_eq!(hear().await, "listed");
            let why = hear().await;
            assert!(why.contains("configmaps") && why.contains("10 were added"), "{why}");
        }
        watch.abort();
        let _ = watch.await;
        assert!(cell.get().config_maps.count() <= 10, "no more of it is kept");
    }
}
