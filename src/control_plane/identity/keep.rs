//! Keeps the identity's record in a ConfigMap of the controller's namespace. It decides nothing.

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::json;

use super::{FleetRecord, Identity, RECORD};
use crate::api::{labels, names};

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

    /// The identity, whose record is then stored. Where the record may not be read or written, what needs no record holds.
    ///
    /// # Errors
    /// When the API server does not answer, or the record was changed in this moment.
    pub async fn establish(&self) -> Result<Identity, kube::Error> {
        let kube_system = Api::<Namespace>::all(self.client.clone()).get_metadata("kube-system").await?;
        let uid = kube_system.metadata.uid.unwrap_or_default();
        let installation = names::label_value(&format!("{}.{uid}", self.namespace));
        let found = match self.api().get_opt(RECORD).await {
            Err(error) if is_forbidden(&error) => {
                self.warn(&error);
                return Ok(Identity::new(
                    FleetRecord::default().settled(self.fleet, &installation),
                    &installation,
                ));
            }
            found => found?,
        };
        let record = self.settled(found.as_ref(), &installation);
        match self.store(found.as_ref(), &record).await {
            Err(error) if is_forbidden(&error) => self.warn(&error),
            stored => stored?,
        }
        Ok(Identity::new(record, &installation))
    }

    /// Returns when the record says something else than `identity`.
    pub async fn changed(&self, identity: &Identity) {
        let mut states = std::pin::pin!(watcher::watch_object(self.api(), RECORD).default_backoff());
        loop {
            match states.try_next().await {
                Ok(Some(Some(found))) => {
                    let record = self.settled(Some(&found), identity.installation());
                    if Identity::new(record, identity.installation()) != *identity {
                        return;
                    }
                }
                // Without the record the identity is what it is; it is stored again at the next start.
                Ok(Some(None)) => {}
                Ok(None) => return std::future::pending().await,
                Err(error) => tracing::debug!(%error, "watch ConfigMap {RECORD}"),
            }
        }
    }

    fn settled(&self, found: Option<&ConfigMap>, installation: &str) -> FleetRecord {
        let data = found.and_then(|map| map.data.clone()).unwrap_or_default();
        let (record, wrong) = FleetRecord::read(&data);
        if !wrong.is_empty() {
            tracing::warn!(
                namespace = self.namespace,
                "ConfigMap {RECORD} has what cannot be a name, which is ignored: {}",
                wrong.join(", ")
            );
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

    fn warn(&self, error: &kube::Error) {
        tracing::warn!(
            namespace = self.namespace,
            %error,
            "the fleet's name cannot be kept: allow get, list, watch, create and patch of ConfigMap {RECORD}; until then \
             nothing is adopted, and a name that is taken away is forgotten"
        );
    }
}

fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}
