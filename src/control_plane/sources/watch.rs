//! What the control plane's own cluster holds: configurations, clusters, and the Secrets they refer to.
//!
//! Secrets are watched by metadata only and read one by one when something refers to them; their
//! content is dropped a few seconds later and only its hash is kept.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    core::PartialObjectMeta,
    runtime::watcher::{self, Event},
};
use tokio::sync::{Semaphore, watch};

use super::{
    guard::{Copyable, Never},
    malformed::Malformed,
    objects::{Kept, SecretState, SourceObjects, Standing, listing, lists, secrets_needed},
    payload::Payload,
};
use crate::{
    api::{
        guarded::Guarded,
        k8ssandra::{ClientConfig, K8ssandraCluster},
        medusa::MedusaConfiguration,
    },
    control_plane::data_planes::{fleet::Fleet, membership::Known, view::ObjectKey},
    runtime::{follow::Followed, guard::again, scope, sync::lock},
};

/// How long a Secret's content is kept for the data planes that still need it.
const KEEP_CONTENT: Duration = Duration::from_secs(10);
/// Secrets read at once.
const CONCURRENT_READS: usize = 16;
/// Pause before a failed read is tried again.
const READ_AGAIN: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct State {
    pub(super) objects: SourceObjects,
    contents: HashMap<ObjectKey, Content>,
    /// Counts the changes of a Secret, so that an answer to an older read cannot replace a newer one.
    touched: HashMap<ObjectKey, u64>,
}

/// What a Secret held in some version.
struct Content {
    version: String,
    payload: Arc<Payload>,
}

/// Whether what was read in version `read` may take the place of what is held in version `held`; `None` when that cannot
/// be told. API servers count versions up, and answers of two reads may cross.
fn supersedes(held: &str, read: &str) -> Option<bool> {
    let (held, read): (u64, u64) = (held.parse().ok()?, read.parse().ok()?);
    Some(read >= held)
}

/// The sources, kept current.
pub struct Sources {
    pub(super) client: Client,
    fleet: Arc<Fleet>,
    /// Where ClientConfigs are watched; everywhere when empty.
    client_configs_in: BTreeSet<String>,
    state: Mutex<State>,
    reads: Semaphore,
    changed: watch::Sender<()>,
}

impl Sources {
    /// Sources in the cluster of `client`; [`Sources::watch`] fills them. `fleet` is told which datacenters
    /// K8ssandraClusters list. `home` is the controller's namespace; MedusaConfigurations and K8ssandraClusters are
    /// followed in the namespaces `within`, in every one when it is empty, and ClientConfigs count in the namespaces
    /// `client_configs_in`, likewise.
    #[must_use]
    pub fn new(
        client: Client,
        fleet: Arc<Fleet>,
        home: String,
        within: BTreeSet<String>,
        client_configs_in: &BTreeSet<String>,
    ) -> Arc<Self> {
        // Also one that does not count keeps the Secret that it names from being copied.
        let client_configs_in = if within.is_empty() || client_configs_in.is_empty() {
            BTreeSet::new()
        } else {
            within.union(client_configs_in).cloned().collect()
        };
        let objects = SourceObjects { home, within, ..SourceObjects::default() };
        Arc::new(Self {
            client,
            fleet,
            client_configs_in,
            state: Mutex::new(State { objects, ..State::default() }),
            reads: Semaphore::new(CONCURRENT_READS),
            changed: watch::Sender::default(),
        })
    }

    /// Told on every change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
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
        let within = self.lock().objects.within.clone();
        tokio::join!(
            self.keep::<MedusaConfiguration>("configurations", &within, |o| &mut o.configurations),
            self.keep::<K8ssandraCluster>("clusters", &within, |o| &mut o.clusters),
            self.keep::<ClientConfig>("client configs", &self.client_configs_in, |o| &mut o.client_configs),
            self.watch_data_planes(),
            self.watch_secrets(&within),
        );
    }

    /// Keeps the objects of one kind, in the namespaces `within` or, when that is empty, in every one.
    async fn keep<K>(
        self: &Arc<Self>,
        name: &'static str,
        within: &BTreeSet<String>,
        part: fn(&mut SourceObjects) -> &mut Kept<K>,
    ) where
        K: Followed,
    {
        let config = watcher::Config::default();
        let mut events = scope::events::<Guarded<K, Malformed>>(&self.client, within, &config);
        let mut listing = Vec::new();
        loop {
            let event = events.try_next().await;
            {
                let mut state = self.lock();
                let kept = part(&mut state.objects);
                match event {
                    Ok(Some(Event::Init)) => {
                        listing.clear();
                        continue;
                    }
                    Ok(Some(Event::InitApply(object))) => {
                        listing.push(object);
                        continue;
                    }
                    Ok(Some(Event::InitDone)) => {
                        let listed = Kept { standing: Standing::Listed, ..Kept::default() };
                        let before = std::mem::replace(kept, listed);
                        for object in listing.drain(..) {
                            let before = before.items.get(&ObjectKey::of(&object)).cloned();
                            keep_one(kept, before, name, object);
                        }
                    }
                    Ok(Some(Event::Apply(object))) => {
                        let before = kept.items.get(&ObjectKey::of(&object)).cloned();
                        keep_one(kept, before, name, object);
                    }
                    Ok(Some(Event::Delete(object))) => {
                        let key = ObjectKey::of(&object);
                        kept.items.remove(&key);
                        kept.unreadable.remove(&key);
                        kept.malformed.remove(&key);
                    }
                    Err(watcher::Error::InitialListFailed(kube::Error::Api(status)))
                        if status.code == 404 =>
                    {
                        // The definition is not installed, so there are none; but those that were there a moment ago
                        // would have been seen to go.
                        let is_empty = kept.items.is_empty() && kept.unreadable.is_empty();
                        kept.standing = if is_empty { Standing::NotServed } else { Standing::NotListed };
                    }
                    Err(watcher::Error::InitialListFailed(kube::Error::Api(status)))
                        if status.code == 403 =>
                    {
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
            }
            self.refer();
            self.tell();
        }
    }

    /// Tells everyone who looks at the sources.
    pub(super) fn tell(&self) {
        let known = {
            let objects = &self.lock().objects;
            listing(objects).map(|listing| (listing, Known::of(lists(objects))))
        };
        if let Some((listing, known)) = known {
            self.fleet.set_known(known);
            self.fleet.set_listing(listing);
        }
        self.changed.send_replace(());
    }

    async fn watch_secrets(self: &Arc<Self>, within: &BTreeSet<String>) {
        let config = watcher::Config::default();
        let mut events = scope::events::<PartialObjectMeta<Secret>>(&self.client, within, &config);
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
                    // Those that the listing did not name are gone, or were not of interest when it began: they are read.
                    for key in &missed {
                        self.read(key);
                    }
                    self.changed.send_replace(());
                }
                // One that is deleted is read, too: it may have been made again in quick succession.
                Ok(Some(Event::Apply(secret) | Event::Delete(secret))) => {
                    let key = ObjectKey::of(&secret);
                    if self.lock().objects.secrets.contains_key(&key) {
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
                    let never = Never::of(&secret);
                    let version = secret.metadata.resource_version.clone().unwrap_or_default();
                    let payload = Arc::new(Payload::of_secret(secret));
                    let hash = payload.hash();
                    self.keep_for_a_while(&mut state, key, version, &payload);
                    SecretState::Read { uid, hash, keys, never }
                }
            };
            if state.objects.secrets.get(key) == Some(&known) {
                return;
            }
            state.objects.secrets.insert(key.clone(), known);
        }
        self.changed.send_replace(());
    }

    /// Keeps a content for those who need it next, unless a newer one is held. Returns the newer of the two.
    fn keep_for_a_while(
        self: &Arc<Self>,
        state: &mut State,
        key: &ObjectKey,
        version: String,
        payload: &Arc<Payload>,
    ) -> Arc<Payload> {
        if let Some(held) = state.contents.get(key) {
            match supersedes(&held.version, &version) {
                Some(true) => {}
                Some(false) => return held.payload.clone(),
                None => {
                    // Which is newer cannot be told: the next who needs it reads it.
                    state.contents.remove(key);
                    return payload.clone();
                }
            }
        }
        state.contents.insert(key.clone(), Content { version, payload: payload.clone() });
        let (this, key, kept) = (self.clone(), key.clone(), payload.clone());
        tokio::spawn(async move {
            tokio::time::sleep(KEEP_CONTENT).await;
            let mut state = this.lock();
            if state.contents.get(&key).is_some_and(|held| Arc::ptr_eq(&held.payload, &kept)) {
                state.contents.remove(&key);
            }
        });
        payload.clone()
    }

    /// A source Secret's content: as read a moment ago, else read now. `None` when it is gone, or is never copied, as
    /// far as is known by now.
    ///
    /// # Errors
    /// When the control plane's API server does not answer.
    pub async fn secret(self: &Arc<Self>, key: &ObjectKey) -> Result<Option<Arc<Payload>>, kube::Error> {
        let held = self.lock().contents.get(key).map(|held| held.payload.clone());
        let payload = if let Some(payload) = held {
            payload
        } else {
            let Some(secret) = self.fetch(key).await? else { return Ok(None) };
            let version = secret.metadata.resource_version.clone().unwrap_or_default();
            let payload = Arc::new(Payload::of_secret(secret));
            self.keep_for_a_while(&mut self.lock(), key, version, &payload)
        };
        let is_refused = matches!(*payload, Payload::Secret { never: Some(_), .. })
            || matches!(self.lock().objects.copyable(key), Copyable::Never { .. });
        Ok((!is_refused).then_some(payload))
    }

    #[must_use]
    pub fn configuration(&self, key: &ObjectKey) -> Option<Payload> {
        let state = self.lock();
        let configuration = state.objects.configurations.items.get(key)?;
        Some(Payload::Configuration(Box::new(configuration.spec.clone())))
    }
}

/// Keeps one object. One that cannot be decoded is named, and what this very object said `before` still stands.
fn keep_one<K: Followed>(
    kept: &mut Kept<K>,
    before: Option<Arc<K>>,
    name: &str,
    object: Guarded<K, Malformed>,
) {
    let key = ObjectKey::of(&object);
    match object.0 {
        Ok(object) => {
            kept.unreadable.remove(&key);
            kept.malformed.remove(&key);
            kept.items.insert(key, Arc::new(object));
        }
        Err(malformed) => {
            tracing::warn!(source = name, object = %key, why = malformed.why, "object cannot be read");
            match before.filter(|object| object.meta().uid == malformed.metadata.uid) {
                Some(object) => drop(kept.items.insert(key.clone(), object)),
                None => drop(kept.items.remove(&key)),
            }
            kept.unreadable.insert(key.clone(), malformed.why.clone());
            kept.malformed.insert(key, Arc::new(malformed));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn configuration(uid: &str, bucket: &serde_json::Value) -> Guarded<MedusaConfiguration, Malformed> {
        let object = json!({
            "metadata": {"name": "s3", "namespace": "src", "uid": uid},
            "spec": {"storageProperties": {"bucketName": bucket, "storageSecretRef": {"name": "key"}}},
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn what_an_object_said_stands_while_it_cannot_be_read_and_not_for_one_made_again() {
        let mut kept = Kept::default();
        let key = ObjectKey::new("src", "s3");
        let keep = |kept: &mut Kept<MedusaConfiguration>, object| {
            let before = kept.items.get(&key).cloned();
            keep_one(kept, before, "configurations", object);
        };
        keep(&mut kept, configuration("u1", &json!("b")));
        keep(&mut kept, configuration("u1", &json!(7)));
        assert!(kept.items.contains_key(&key) && kept.unreadable.contains_key(&key));
        assert!(kept.malformed[&key].mentions.contains("key"));
        keep(&mut kept, configuration("u2", &json!(7)));
        assert!(!kept.items.contains_key(&key) && kept.unreadable.contains_key(&key));
        keep(&mut kept, configuration("u2", &json!("b")));
        assert!(kept.items.contains_key(&key) && kept.unreadable.is_empty() && kept.malformed.is_empty());
    }

    #[test]
    fn an_older_read_never_replaces_a_newer_one() {
        assert_eq!(supersedes("9", "10"), Some(true));
        assert_eq!(supersedes("10", "9"), Some(false));
        assert_eq!(supersedes("10", "10"), Some(true));
        assert_eq!(supersedes("x", "10"), None);
        assert_eq!(supersedes("10", ""), None);
    }
}
