//! Reads the credential a DataPlane names, once per version of its Secret.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt as _, core::PartialObjectMeta, runtime::reflector::ObjectRef};

use super::{
    controller::{Registry, RegistryError, lock},
    kubeconfig::{self, Refusal, Vetted},
};
use crate::{
    api::{
        Reason,
        fleet::{DataPlane, LOCAL},
    },
    runtime::clock,
};

/// A credential as read from a version of its Secret.
pub(super) struct Credential {
    /// Secret name and resourceVersion, key and context it was read from.
    pub(super) read_from: (String, String, Option<String>, Option<String>),
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
    pub(super) async fn credential(&self, plane: &DataPlane) -> Result<Result<Access, Refusal>, RegistryError> {
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
        // One waiter only: kube's store wakes the last of several and forgets the others.
        self.secrets_listed.get_or_init(|| async { drop(self.secrets.wait_until_ready().await) }).await;
        let key =
            ObjectRef::<PartialObjectMeta<Secret>>::new(&reference.name).within(&self.context.namespace);
        let version =
            self.secrets.get(&key).and_then(|s| s.metadata.resource_version.clone()).unwrap_or_default();
        let read_from = (reference.name.clone(), version, reference.key.clone(), plane.spec.context.clone());
        if let Some(known) = lock(&self.credentials).get(&name).filter(|c| c.read_from == read_from) {
            return Ok(known.verdict.clone().map(|v| Access::Remote(Box::new(v))));
        }
        let secret = Api::<Secret>::namespaced(self.context.client.clone(), &self.context.namespace)
            .get_opt(&reference.name)
            .await
            .map_err(|error| RegistryError::ReadSecret { name: reference.name.clone(), error })?;
        let verdict = vet(secret, plane, &self.context.allow_unsafe);
        let credential = Credential { read_from, verdict: verdict.clone(), observed_at: clock::now() };
        lock(&self.credentials).insert(name, credential);
        Ok(verdict.map(|v| Access::Remote(Box::new(v))))
    }
}

fn vet(secret: Option<Secret>, plane: &DataPlane, allow: &BTreeSet<String>) -> Result<Vetted, Refusal> {
    let reference = plane.spec.kubeconfig_secret_ref.clone().unwrap_or_default();
    let refusal = |reason, message| Refusal { reason, message };
    let Some(secret) = secret else {
        let message = format!("Secret `{}` does not exist in this namespace; create it", reference.name);
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

