//! Real watches directly on every cluster: what was seen where, and when.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    time::Instant,
};

use futures::TryStreamExt as _;
use kube::{
    Api, Resource, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinSet,
    time::timeout,
};

use crate::{clusters::PATIENCE, harness::Result};

/// An object somewhere: number of the cluster, kind, name.
pub type Place = (usize, &'static str, String);

struct Sighting {
    place: Place,
    /// What tells one version of the object from others; `None` when it is gone.
    marker: Option<String>,
    at: Instant,
}

/// Everything seen so far.
pub struct Recorder {
    sender: UnboundedSender<Sighting>,
    events: UnboundedReceiver<Sighting>,
    seen: BTreeMap<Place, (Option<String>, Instant)>,
    watches: JoinSet<()>,
}

impl Recorder {
    /// A recorder that watches nothing yet.
    pub fn new() -> Self {
        let (sender, events) = unbounded_channel();
        Self { sender, events, seen: BTreeMap::new(), watches: JoinSet::new() }
    }

    /// Watches `api` as cluster number `cluster`, until the recorder is dropped.
    pub fn watch<K>(&mut self, cluster: usize, kind: &'static str, api: Api<K>, marker: fn(&K) -> String)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let sender = self.sender.clone();
        self.watches.spawn(async move {
            let mut events = Box::pin(watcher(api, watcher::Config::default()).default_backoff());
            loop {
                let event = events.try_next().await;
                let at = Instant::now();
                let (object, gone) = match event {
                    Ok(Some(Event::Apply(object) | Event::InitApply(object))) => (object, false),
                    Ok(Some(Event::Delete(object))) => (object, true),
                    Ok(Some(Event::Init | Event::InitDone)) | Err(_) => continue,
                    Ok(None) => return,
                };
                let marker = (!gone).then(|| marker(&object));
                if sender.send(Sighting { place: (cluster, kind, object.name_any()), marker, at }).is_err() {
                    return;
                }
            }
        });
    }

    /// Waits until `wanted` holds for every place, and says when the last one came.
    pub async fn until(
        &mut self,
        places: impl IntoIterator<Item = Place>,
        wanted: impl Fn(Option<&str>) -> bool,
    ) -> Result<Instant> {
        while let Ok(sighting) = self.events.try_recv() {
            self.note(sighting);
        }
        let mut missing: BTreeSet<Place> = BTreeSet::new();
        let mut last: Option<Instant> = None;
        for place in places {
            match self.seen.get(&place) {
                Some((marker, at)) if wanted(marker.as_deref()) => last = last.max(Some(*at)),
                None if wanted(None) => {}
                Some(_) | None => _ = missing.insert(place),
            }
        }
        let wait = async {
            while !missing.is_empty() {
                let Some(sighting) = self.events.recv().await else { return };
                if wanted(sighting.marker.as_deref()) && missing.remove(&sighting.place) {
                    last = last.max(Some(sighting.at));
                }
                self.note(sighting);
            }
        };
        if timeout(PATIENCE, wait).await.is_err() {
            let (cluster, kind, name) = missing.first().cloned().unwrap_or_default();
            return Err(format!(
                "after {} s {} objects were still awaited, among them {kind} {name} in cluster {cluster}",
                PATIENCE.as_secs(),
                missing.len()
            )
            .into());
        }
        Ok(last.unwrap_or_else(Instant::now))
    }

    /// Waits until every place has a version marked `marker`.
    pub async fn until_marked(
        &mut self,
        places: impl IntoIterator<Item = Place>,
        marker: &str,
    ) -> Result<Instant> {
        self.until(places, |seen| seen == Some(marker)).await
    }

    /// Waits until there is something in every place.
    pub async fn until_there(&mut self, places: impl IntoIterator<Item = Place>) -> Result<Instant> {
        self.until(places, |seen| seen.is_some()).await
    }

    /// Waits until there is nothing in any place.
    pub async fn until_gone(&mut self, places: impl IntoIterator<Item = Place>) -> Result<Instant> {
        self.until(places, |seen| seen.is_none()).await
    }

    /// Names of one kind now in one cluster.
    pub fn names(&self, cluster: usize, kind: &str) -> Vec<String> {
        let here = self
            .seen
            .iter()
            .filter(|((c, k, _), (marker, _))| *c == cluster && *k == kind && marker.is_some());
        here.map(|((_, _, name), _)| name.clone()).collect()
    }

    /// Since when each of these places is as it is now.
    pub fn since(&self, places: &[Place]) -> Vec<Instant> {
        places.iter().filter_map(|place| self.seen.get(place)).map(|(_, at)| *at).collect()
    }

    /// What is written again and says the same is no news.
    fn note(&mut self, Sighting { place, marker, at }: Sighting) {
        if self.seen.get(&place).is_none_or(|(before, _)| *before != marker) {
            self.seen.insert(place, (marker, at));
        }
    }

    /// Waits until at least `count` objects of a kind whose names start with `prefix` are there, over all
    /// clusters, and says when the last one came.
    pub async fn until_count(&mut self, kind: &str, prefix: &str, count: usize) -> Result<Instant> {
        let counted = |place: &Place| place.1 == kind && place.2.starts_with(prefix);
        let wait = async {
            loop {
                let there: Vec<Instant> = self
                    .seen
                    .iter()
                    .filter(|(place, (marker, _))| counted(place) && marker.is_some())
                    .map(|(_, (_, at))| *at)
                    .collect();
                if there.len() >= count {
                    return there.into_iter().max();
                }
                let sighting = self.events.recv().await?;
                self.note(sighting);
                while let Ok(sighting) = self.events.try_recv() {
                    self.note(sighting);
                }
            }
        };
        match timeout(PATIENCE, wait).await {
            Ok(at) => Ok(at.unwrap_or_else(Instant::now)),
            Err(_) => {
                Err(format!("after {} s fewer than {count} {kind}s {prefix}… exist", PATIENCE.as_secs())
                    .into())
            }
        }
    }
}
