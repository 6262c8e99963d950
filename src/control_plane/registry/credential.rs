//! Reads the credential a DataPlane names, once per version of its Secret.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt as _};

use super::{
    controller::{Registry, RegistryError, lock},
    kubeconfig::{self, Refusal, Vetted},
};
use crate::{
    api::{
        Reason,
        fleet::{DataPlane, KubeconfigSecretRef, LOCAL},
        k8ssandra::ClientConfig,
    },
    control_plane::{
        sources::{Kept, Standing},
        view::ObjectKey,
    },
    runtime::clock,
};

/// A credential as read from a version of its Secret.
pub(super) struct Credential {
    /// Secret and resourceVersion, key and context it was read from.
    read_from: (ObjectKey, Option<String>, Option<String>, Option<String>),
    pub(super) verdict: Result<Vetted, Refusal>,
    pub(super) observed_at: Timestamp,
}

/// How a data plane is reached: the control plane's own client, or a vetted kubeconfig.
pub(super) enum Access {
    Local,
    Remote(Box<Vetted>),
}

impl Registry {
    /// Reads and vets the credential, unless this version of its Secret was read before.
    pub(super) async fn credential(
        &self,
        plane: &DataPlane,
    ) -> Result<Result<Access, Refusal>, RegistryError> {
        let name = plane.name_any();
        let refuse = |reason, message: &str| Ok(Err(Refusal { reason, message: message.to_owned() }));
        if plane.spec.local == Some(true) {
            return Ok(Ok(Access::Local));
        }
        if name == LOCAL {
            return refuse(
                Reason::ReservedName,
                "the name `local` means the control plane's own cluster; choose another",
            );
        }
        let Some(reference) = &plane.spec.kubeconfig_secret_ref else {
            return refuse(
                Reason::SecretNotFound,
                "`spec.kubeconfigSecretRef` is not set; name the Secret that holds the kubeconfig",
            );
        };
        let key = secret_of(reference, &self.context.namespace);
        // Who is going is asked no more: only so can copies be taken back for a ClientConfig that went first.
        let is_going = plane.metadata.deletion_timestamp.is_some();
        if key.namespace != self.context.namespace && !is_going && !self.is_lent(&key).await {
            let message = format!(
                "`spec.kubeconfigSecretRef.namespace` is `{}`, where no ClientConfig names Secret `{}`; a Secret of \
                 another namespace is used for a ClientConfig beside it only",
                key.namespace, key.name
            );
            return refuse(Reason::InvalidSpec, &message);
        }
        let version = self.secrets.of(&key);
        let read_from = (key.clone(), version, reference.key.clone(), plane.spec.context.clone());
        // Without a version there is nothing, or nothing is known: it is read again.
        let is_current = |known: &&Credential| known.read_from == read_from && read_from.1.is_some();
        if let Some(known) = lock(&self.credentials).get(&name).filter(is_current) {
            return Ok(known.verdict.clone().map(|v| Access::Remote(Box::new(v))));
        }
        let secret = Api::<Secret>::namespaced(self.context.client.clone(), &key.namespace)
            .get_opt(&key.name)
            .await
            .map_err(|error| RegistryError::ReadSecret { key: key.clone(), error })?;
        let verdict = vet(secret, &key, plane, &self.context.allow_unsafe);
        let mut credentials = lock(&self.credentials);
        let refusal = verdict.as_ref().err();
        let before =
            credentials.get(&name).filter(|c| refusal.is_some() && c.verdict.as_ref().err() == refusal);
        let observed_at = before.map_or_else(clock::now, |before| before.observed_at);
        credentials.insert(name, Credential { read_from, verdict: verdict.clone(), observed_at });
        Ok(verdict.map(|v| Access::Remote(Box::new(v))))
    }

    /// Whether a ClientConfig beside a Secret names it. Waits until they are listed, or cannot be.
    async fn is_lent(&self, secret: &ObjectKey) -> bool {
        let names = |key: &ObjectKey, config: &ClientConfig| {
            key.namespace == secret.namespace && config.spec.kube_config_secret.name == secret.name
        };
        let within = &self.context.client_configs_in;
        let configs = self.client_configs().await;
        (within.is_empty() || within.contains(&secret.namespace))
            && configs.items.iter().any(|(key, config)| names(key, config))
    }

    async fn client_configs(&self) -> Kept<ClientConfig> {
        let mut changes = self.context.sources.changes();
        loop {
            let configs = self.context.sources.client_configs();
            if configs.standing != Standing::NotListed || changes.changed().await.is_err() {
                return configs;
            }
        }
    }
}

/// The Secret a DataPlane of namespace `home` refers to.
pub(super) fn secret_of(reference: &KubeconfigSecretRef, home: &str) -> ObjectKey {
    let namespace = reference.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    ObjectKey::new(namespace.unwrap_or(home), &reference.name)
}

fn vet(
    secret: Option<Secret>,
    key: &ObjectKey,
    plane: &DataPlane,
    allow: &BTreeSet<String>,
) -> Result<Vetted, Refusal> {
    let reference = plane.spec.kubeconfig_secret_ref.clone().unwrap_or_default();
    let refusal = |reason, message| Refusal { reason, message };
    let Some(secret) = secret else {
        let message =
            format!("Secret `{}` does not exist in namespace `{}`; create it", key.name, key.namespace);
        return Err(refusal(Reason::SecretNotFound, message));
    };
    let data = secret.data.unwrap_or_default();
    let keys: Vec<&str> = match reference.key.as_deref().filter(|k| !k.is_empty()) {
        Some(key) => vec![key],
        None => kubeconfig::SECRET_KEYS.to_vec(),
    };
    let Some(bytes) = keys.iter().find_map(|key| data.get(*key)) else {
        let message = format!(
            "Secret `{}` has no key `{}`; put the kubeconfig there",
            reference.name,
            keys.join("` or `")
        );
        return Err(refusal(Reason::KubeconfigKeyMissing, message));
    };
    let text = std::str::from_utf8(&bytes.0).map_err(|_| {
        refusal(
            Reason::InvalidKubeconfig,
            format!("the kubeconfig in Secret `{}` is not text", reference.name),
        )
    })?;
    kubeconfig::vet(text, plane.spec.context.as_deref(), allow)
}
