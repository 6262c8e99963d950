//! Keeps the identity's record in a ConfigMap of the controller's namespace. It decides nothing.

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, Client, Resource as _, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::json;

use super::{FleetRecord, Identity, RECORD};
use crate::{
    api::{Reason, labels, names},
    runtime::{cause::Cause, events::Events},
};

/// Where and as whom a control plane is started.
#[derive(Clone)]
pub struct Start<'a> {
    /// Asks the cluster it runs in.
    pub client: &'a Client,
    /// The controller's namespace.
    pub namespace: &'a str,
    /// The fleet's name, where one was given.
    pub fleet: Option<&'a str>,
}

impl Start<'_> {
    fn api(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    /// The identity, whose record is then stored.
    ///
    /// # Errors
    /// When the API server does not answer or refuses, or the record was changed in this moment. Without the record nobody
    /// knows the fleet's name, and under another all that it wrote would be a stranger's.
    pub async fn establish(&self) -> Result<Identity, kube::Error> {
        let installation = self.installation().await?;
        let found = self.api().get_opt(RECORD).await?;
        let record = self.settled(found.as_ref(), &installation);
        self.store(found.as_ref(), &record).await?;
        Ok(Identity::new(record, &installation))
    }

    /// The identity that is stored, if one is.
    ///
    /// # Errors
    /// When the API server does not answer or refuses.
    pub async fn established(&self) -> Result<Option<Identity>, kube::Error> {
        let Some(found) = self.api().get_opt(RECORD).await? else { return Ok(None) };
        let installation = self.installation().await?;
        Ok(Some(Identity::new(self.settled(Some(&found), &installation), &installation)))
    }

    async fn installation(&self) -> Result<String, kube::Error> {
        let kube_system = Api::<Namespace>::all(self.client.clone()).get_metadata("kube-system").await?;
        let uid = kube_system.metadata.uid.unwrap_or_default();
        Ok(names::label_value(&format!("{}.{uid}", self.namespace)))
    }

    /// Returns when the record says something else than `identity`.
    pub async fn changed(&self, identity: &Identity) {
        let mut states = std::pin::pin!(watcher::watch_object(self.api(), RECORD).default_backoff());
        let mut told = String::new();
        loop {
            match states.try_next().await {
                Ok(Some(Some(found))) => {
                    told.clear();
                    let record = self.settled(Some(&found), identity.installation());
                    if Identity::new(record, identity.installation()) != *identity {
                        return;
                    }
                }
                // Without the record the identity is what it is; it is stored again at the next start.
                Ok(Some(None)) => told.clear(),
                Ok(None) => return std::future::pending().await,
                // What was seen is too old to go on from: it is read anew at once.
                Err(watcher::Error::WatchError(status)) if status.code == 410 => {
                    tracing::debug!("watch ConfigMap {RECORD}: begun anew");
                }
                Err(error) => {
                    let why = Cause::of(&error).words;
                    if is_news(&mut told, &why) {
                        tracing::warn!(
                            namespace = self.namespace,
                            "cannot follow ConfigMap {RECORD}: {why}; it is tried again, and a change of the fleet's \
                             name, or of what it has adopted, takes effect only then or at the next start"
                        );
                    }
                }
            }
        }
    }

    fn settled(&self, found: Option<&ConfigMap>, installation: &str) -> FleetRecord {
        let data = found.and_then(|map| map.data.clone()).unwrap_or_default();
        let (record, wrong) = FleetRecord::read(&data);
        if let Some(found) = found.filter(|_| !wrong.is_empty()) {
            let note = format!(
                "what cannot be the name of a fleet or an installation, or is one too many, is ignored; take it out: {}",
                wrong.join(", ")
            );
            tracing::warn!(namespace = self.namespace, "ConfigMap {RECORD}: {note}");
            let events = Events::new(self.client.clone(), labels::MANAGER_CONTROL_PLANE);
            events.warning(found.object_ref(&()), Reason::InvalidObject, "Adopt", note);
        }
        record.settled(self.fleet, installation)
    }

    async fn store(&self, found: Option<&ConfigMap>, record: &FleetRecord) -> Result<(), kube::Error> {
        let before = found.map(|map| FleetRecord::read(&map.data.clone().unwrap_or_default()).0);
        if before.as_ref() == Some(record) {
            return Ok(());
        }
        // Without these two where there is none yet: who makes it at the same time makes the same.
        let (uid, version) =
            (found.and_then(ResourceExt::uid), found.and_then(ResourceExt::resource_version));
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": RECORD, "uid": uid, "resourceVersion": version}, "data": record.data(),
        });
        let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE).force();
        self.api().patch(RECORD, &params, &Patch::Apply(&map)).await.map(drop)
    }
}

/// Whether `why` is another than what was `told` last, which it then is.
fn is_news(told: &mut String, why: &str) -> bool {
    let is_news = told.as_str() != why;
    why.clone_into(told);
    is_news
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_way_is_said_once_until_it_is_something_else_or_was_gone() {
        let mut told = String::new();
        let mut say = |why: &str| is_news(&mut told, why);
        assert_eq!(
            ["no route", "no route", "forbidden", "no route"].map(&mut say),
            [true, false, true, true]
        );
        told.clear();
        assert!(is_news(&mut told, "no route"));
    }
}
