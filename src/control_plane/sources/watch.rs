//! What the control plane's own cluster holds: configurations, clusters, and the Secrets they refer to.
//!
//! Secrets are watched by metadata only and read one by one when something refers to them; their
//! content is dropped a few seconds later and only its hash is kept.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, watch};

use super::{
    objects::{Kept, SecretState, SourceObjects, Standing, listing, secrets_needed},
    payload::Payload,
};
use crate::{
    api::{
        k8ssandra::{ClientConfig, K8ssandraCluster},
        medusa::MedusaConfiguration,
    },
    control_plane::{fleet::Fleet, view::ObjectKey},
    runtime::guard::again,
};

/// How long a Secret's content is kept for the data planes that still need it.
const KEEP_CONTENT: Duration = Duration::from_secs(10);
/// Secrets read at once.
const CONCURRENT_READS: usize = 16;
/// Pause before a failed read is tried again.
const READ_AGAIN: Duration = Duration::from_secs(2);

#[derive(Default)]
struct State {
    objects: SourceObjects,
    contents: HashMap<ObjectKey, Arc<Payload>>,
    /// Counts the changes of a Secret, so that an answer to an older read cannot replace a newer one.
    touched: HashMap<ObjectKey, u64>,
}

/// The sources, kept current.
pub struct Sources {
    client: Client,
    fleet: Arc<Fleet>,
    state: Mutex<State>,
    reads: Semaphore,
    changed: watch::Sender<()>,
}

impl Sources {
    /// Sources in the cluster of `client`; [`Sources::watch`] fills them. `fleet` is told which datacenters
    /// K8ssandraClusters list.
    #[must_use]
    pub fn new(client: Client, fleet: Arc<Fleet>) -> Arc<Self> {
        Arc::new(Self {
            client,
            fleet,
            state: Mutex::default(),
            reads: Semaphore::new(CONCURRENT_READS),
            changed: watch::Sender::default(),
        })
    }

    /// Told on every change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sources as they are now.
    #[must_use]
    pub fn objects(&self) -> SourceObjects {
        self.lock().objects.clone()
    }

    /// The ClientConfigs as they are now.
    #[must_use]
    pub fn client_configs(&self) -> Kept<ClientConfig> {
        self.lock().objects.client_configs.clone()
    }

    /// Watches for ever.
    pub async fn watch(self: Arc<Self>) {
        tokio::join!(
            self.keep::<MedusaConfiguration>("configurations", |o| &mut o.configurations),
            self.keep::<K8ssandraCluster>("clusters", |o| &mut o.clusters),
            self.keep::<ClientConfig>("client configs", |o| &mut o.client_configs),
            self.watch_secrets(),
        );
    }

    async fn keep<K>(self: &Arc<Self>, name: &'static str, part: fn(&mut SourceObjects) -> &mut Kept<K>)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let api: Api<DeserializeGuard<K>> = Api::all(self.client.clone());
        let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
        let mut listing = Vec::new();
        loop {
            match events.try_next().await {
                Ok(Some(Event::Init)) => {
                    listing.clear();
                    continue;
                }
                Ok(Some(Event::InitApply(object))) => {
                    listing.push(object);
                    continue;
                }
                Ok(Some(Event::InitDone)) => {
                    let mut state = self.lock();
                    let kept = part(&mut state.objects);
                    let before =
                        std::mem::replace(kept, Kept { standing: Standing::Listed, ..Kept::default() });
                    for object in listing.drain(..) {
                        keep_one(kept, &before.items, name, object);
                    }
                }
                Ok(Some(Event::Apply(object))) => {
                    let mut state = self.lock();
                    let kept = part(&mut state.objects);
                    let before = kept.items.clone();
                    keep_one(kept, &before, name, object);
                }
                Ok(Some(Event::Delete(object))) => {
                    let key = ObjectKey::of(&object);
                    let mut state = self.lock();
                    let kept = part(&mut state.objects);
                    kept.items.remove(&key);
                    kept.unreadable.remove(&key);
                }
                Err(watcher::Error::InitialListFailed(kube::Error::Api(status))) if status.code == 404 => {
                    // The definition is not installed, so there are none; but those that were there a moment ago
                    // would have been seen to go.
                    let mut state = self.lock();
                    let kept = part(&mut state.objects);
                    let is_empty = kept.items.is_empty() && kept.unreadable.is_empty();
                    kept.standing = if is_empty { Standing::NotServed } else { Standing::NotListed };
                }
                Err(watcher::Error::InitialListFailed(kube::Error::Api(status))) if status.code == 403 => {
                    let mut state = self.lock();
                    let kept = part(&mut state.objects);
                    if kept.standing == Standing::NotListed {
                        tracing::warn!(
                            source = name,
                            "may not be listed; grant what deploy/control-plane.yaml does"
                        );
                        kept.standing = Standing::Forbidden;
                    }
                }
                Err(error) => {
                    tracing::debug!(source = name, %error, "watch interrupted");
                    continue;
                }
                Ok(None) => return,
            }
            self.refer();
            self.tell();
        }
    }

    /// Tells everyone who looks at the sources.
    fn tell(&self) {
        let listing = listing(&self.lock().objects);
        if let Some(listing) = listing {
            self.fleet.set_listing(listing);
        }
        self.changed.send_replace(());
    }

    async fn watch_secrets(self: &Arc<Self>) {
        let api: Api<PartialObjectMeta<Secret>> = Api::all(self.client.clone());
        let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
        let mut listing = BTreeSet::new();
        loop {
            match events.try_next().await {
                Ok(Some(Event::Init)) => listing.clear(),
                Ok(Some(Event::InitApply(secret))) => {
                    let key = ObjectKey::of(&secret);
                    if self.lock().objects.secrets.contains_key(&key) {
                        self.read(&key);
                        listing.insert(key);
                    }
                }
                Ok(Some(Event::InitDone)) => {
                    let missed: Vec<ObjectKey> = {
                        let mut state = self.lock();
                        state.objects.secrets_listed = true;
                        state.objects.secrets.keys().filter(|key| !listing.contains(key)).cloned().collect()
                    };
                    // A Secret that became of interest during the listing, or is gone: ask.
                    for key in &missed {
                        self.read(key);
                    }
                    self.changed.send_replace(());
                }
                Ok(Some(Event::Apply(secret))) => {
                    let key = ObjectKey::of(&secret);
                    if self.lock().objects.secrets.contains_key(&key) {
                        self.read(&key);
                    }
                }
                Ok(Some(Event::Delete(secret))) => {
                    let key = ObjectKey::of(&secret);
                    if self.lock().objects.secrets.contains_key(&key) {
                        // Deleted and made again in quick succession reads as there.
                        self.read(&key);
                    }
                }
                Err(error) => tracing::debug!(source = "secrets", %error, "watch interrupted"),
                Ok(None) => return,
            }
        }
    }

    /// Starts to follow the Secrets that are referred to, and stops following the others.
    fn refer(self: &Arc<Self>) {
        let new: Vec<ObjectKey> = {
            let mut state = self.lock();
            let needed = secrets_needed(&state.objects);
            state.objects.secrets.retain(|key, _| needed.contains(key));
            let new: Vec<ObjectKey> =
                needed.into_iter().filter(|key| !state.objects.secrets.contains_key(key)).collect();
            for key in &new {
                state.objects.secrets.insert(key.clone(), SecretState::NotRead);
            }
            new
        };
        for key in &new {
            self.read(key);
        }
    }

    /// Reads a Secret in the background.
    fn read(self: &Arc<Self>, key: &ObjectKey) {
        let turn = {
            let mut state = self.lock();
            let turn = state.touched.entry(key.clone()).or_insert(0);
            *turn += 1;
            *turn
        };
        let (this, key) = (self.clone(), key.clone());
        tokio::spawn(async move { again("sources", || this.read_until_known(&key, turn)).await });
    }

    /// Reads a Secret until that is done, or it changed again.
    async fn read_until_known(self: &Arc<Self>, key: &ObjectKey, turn: u64) {
        while self.lock().touched.get(key) == Some(&turn) {
            match self.fetch(key).await {
                Ok(secret) => return self.learn(key, turn, secret),
                Err(error) => {
                    tracing::warn!(secret = %key, %error, "read source secret");
                    tokio::time::sleep(READ_AGAIN).await;
                }
            }
        }
    }

    async fn fetch(&self, key: &ObjectKey) -> Result<Option<Secret>, kube::Error> {
        let _permit = self.reads.acquire().await;
        Api::<Secret>::namespaced(self.client.clone(), &key.namespace).get_opt(&key.name).await
    }

    fn learn(self: &Arc<Self>, key: &ObjectKey, turn: u64, secret: Option<Secret>) {
        {
            let mut state = self.lock();
            if state.touched.get(key) != Some(&turn) || !state.objects.secrets.contains_key(key) {
                return;
            }
            let known = match secret {
                None => {
                    state.contents.remove(key);
                    SecretState::Absent
                }
                Some(secret) => {
                    let uid = secret.metadata.uid.clone().unwrap_or_default();
                    let keys = secret.data.iter().flat_map(|data| data.keys().cloned()).collect();
                    let payload = Arc::new(Payload::of_secret(secret));
                    let hash = payload.hash();
                    self.keep_for_a_while(&mut state, key, payload);
                    SecretState::Read { uid, hash, keys }
                }
            };
            if state.objects.secrets.get(key) == Some(&known) {
                return;
            }
            state.objects.secrets.insert(key.clone(), known);
        }
        self.changed.send_replace(());
    }

    fn keep_for_a_while(self: &Arc<Self>, state: &mut State, key: &ObjectKey, payload: Arc<Payload>) {
        state.contents.insert(key.clone(), payload.clone());
        let (this, key) = (self.clone(), key.clone());
        tokio::spawn(async move {
            tokio::time::sleep(KEEP_CONTENT).await;
            let mut state = this.lock();
            if state.contents.get(&key).is_some_and(|kept| Arc::ptr_eq(kept, &payload)) {
                state.contents.remove(&key);
            }
        });
    }

    /// A source Secret's content: as read a moment ago, else read now. `None` when it is gone.
    ///
    /// # Errors
    /// When the control plane's API server does not answer.
    pub async fn secret(self: &Arc<Self>, key: &ObjectKey) -> Result<Option<Arc<Payload>>, kube::Error> {
        if let Some(kept) = self.lock().contents.get(key) {
            return Ok(Some(kept.clone()));
        }
        let Some(secret) = self.fetch(key).await? else { return Ok(None) };
        let payload = Arc::new(Payload::of_secret(secret));
        self.keep_for_a_while(&mut self.lock(), key, payload.clone());
        Ok(Some(payload))
    }

    /// A source MedusaConfiguration's content.
    #[must_use]
    pub fn configuration(&self, key: &ObjectKey) -> Option<Payload> {
        let state = self.lock();
        let configuration = state.objects.configurations.items.get(key)?;
        Some(Payload::Configuration(Box::new(configuration.spec.clone())))
    }
}

/// Keeps one object. One that cannot be decoded is named, and what it said `before` still stands.
fn keep_one<K: Resource<DynamicType = ()>>(
    kept: &mut Kept<K>,
    before: &BTreeMap<ObjectKey, Arc<K>>,
    name: &str,
    object: DeserializeGuard<K>,
) {
    let key = ObjectKey::of(&object);
    match object.0 {
        Ok(object) => {
            kept.unreadable.remove(&key);
            kept.items.insert(key, Arc::new(object));
        }
        Err(error) => {
            tracing::warn!(source = name, object = %key, %error, "object cannot be read");
            if let Some(object) = before.get(&key) {
                kept.items.insert(key.clone(), object.clone());
            }
            kept.unreadable.insert(key, error.error);
        }
    }
}
