//! Which Secrets the control plane's cluster holds, in which versions: enough to notice that a kubeconfig changed, in
//! whatever namespace it is. Content is not watched.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard},
};

use futures::{Stream, StreamExt as _, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Client, ResourceExt as _,
    core::PartialObjectMeta,
    runtime::watcher::{self, Event},
};

use crate::{
    control_plane::data_planes::view::ObjectKey,
    runtime::{scope, sync::lock},
};

/// Secret to its resourceVersion.
type Versions = HashMap<ObjectKey, String>;

#[derive(Default)]
struct KnownVersions {
    /// `None` until all are listed.
    known: Option<Versions>,
    /// The listing that goes on.
    listing: Versions,
}

#[derive(Default)]
pub(super) struct SecretVersions(Mutex<KnownVersions>);

impl SecretVersions {
    fn lock(&self) -> MutexGuard<'_, KnownVersions> {
        lock(&self.0)
    }

    /// The version of a Secret; `None` when there is none or nothing is known yet.
    pub(super) fn of(&self, key: &ObjectKey) -> Option<String> {
        self.lock().known.as_ref()?.get(key).cloned()
    }

    /// Watches for ever, in the namespaces `within` or, when that is empty, in every one; yields every Secret that came,
    /// changed or went.
    pub(super) fn follow(
        self: Arc<Self>,
        client: &Client,
        within: &BTreeSet<String>,
    ) -> impl Stream<Item = ObjectKey> + use<> {
        let events = scope::events::<PartialObjectMeta<Secret>>(client, within, &watcher::Config::default());
        events.flat_map(move |event| match event {
            Ok(event) => stream::iter(self.note(event)),
            Err(error) => {
                tracing::debug!(%error, "watch of the kubeconfigs interrupted");
                stream::iter(Vec::new())
            }
        })
    }

    /// Takes an event in; returns the Secrets it says something new about.
    fn note(&self, event: Event<PartialObjectMeta<Secret>>) -> Vec<ObjectKey> {
        let mut state = self.lock();
        match event {
            Event::Init => state.listing.clear(),
            Event::InitApply(secret) => {
                let version = secret.resource_version().unwrap_or_default();
                state.listing.insert(ObjectKey::of(&secret), version);
            }
            Event::InitDone => {
                let now = std::mem::take(&mut state.listing);
                let before = state.known.take().unwrap_or_default();
                let keys: BTreeSet<&ObjectKey> = now.keys().chain(before.keys()).collect();
                let news =
                    keys.into_iter().filter(|key| now.get(*key) != before.get(*key)).cloned().collect();
                state.known = Some(now);
                return news;
            }
            Event::Apply(secret) => {
                let (key, version) = (ObjectKey::of(&secret), secret.resource_version().unwrap_or_default());
                state.known.get_or_insert_default().insert(key.clone(), version);
                return vec![key];
            }
            Event::Delete(secret) => {
                let key = ObjectKey::of(&secret);
                state.known.get_or_insert_default().remove(&key);
                return vec![key];
            }
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use kube::core::{ObjectMeta, PartialObjectMetaExt as _};

    use super::*;

    fn secret(name: &str, version: &str) -> PartialObjectMeta<Secret> {
        let metadata = ObjectMeta {
            namespace: Some("ops".to_owned()),
            name: Some(name.to_owned()),
            resource_version: Some(version.to_owned()),
            ..ObjectMeta::default()
        };
        metadata.into_response_partial()
    }

    #[test]
    fn what_came_changed_or_went_is_told_also_when_the_watch_slept_through_it() {
        let versions = SecretVersions::default();
        let key = |name: &str| ObjectKey::new("ops", name);
        let list = |secrets: &[(&str, &str)]| {
            versions.note(Event::Init);
            for (name, version) in secrets {
                versions.note(Event::InitApply(secret(name, version)));
            }
            versions.note(Event::InitDone)
        };
        assert_eq!(versions.of(&key("a")), None);
        assert_eq!(list(&[("a", "1"), ("b", "1"), ("c", "1")]), ["a", "b", "c"].map(key));
        assert_eq!(versions.of(&key("a")).as_deref(), Some("1"));
        assert_eq!(list(&[("a", "1"), ("b", "2")]), ["b", "c"].map(key));
        assert_eq!(versions.note(Event::Apply(secret("a", "3"))), [key("a")]);
        assert_eq!(versions.note(Event::Delete(secret("b", "4"))), [key("b")]);
        assert_eq!((versions.of(&key("a")).as_deref(), versions.of(&key("b"))), (Some("3"), None));
    }
}
