//! Reads the credential a DataPlane names, once per version of its Secret.

use std::{collections::BTreeSet, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _};

use super::{
    controller::Registry,
    kubeconfig::{self, Vetted},
    renewal::Renewal,
};
use crate::{
    api::{
        Reason, Why,
        fleet::{DataPlane, KubeconfigSecretRef, LOCAL},
        k8ssandra::ClientConfig,
        labels,
    },
    control_plane::{
        data_planes::view::ObjectKey,
        sources::{Kept, Standing},
    },
    runtime::{
        client::{self, Timeouts},
        kubeconfig::own,
        sync::lock,
    },
};

/// How long a program of `exec` may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// In how many namespaces at most, each with up to eleven watches, the watches share one connection.
const SHARING: usize = 8;
/// How long a refusal is believed: a certificate that was too young becomes valid by itself.
const REFUSED_FOR: SignedDuration = SignedDuration::from_secs(50);

/// A credential as read from a version of its Secret.
pub(super) struct Credential {
    /// Secret and resourceVersion, key and context it was read from.
    read_from: (ObjectKey, Option<String>, Option<String>, Option<String>),
    pub(super) verdict: Result<Vetted, Why>,
    pub(super) renewal: Renewal,
    pub(super) observed_at: Timestamp,
    /// When it was read last.
    read_at: Timestamp,
}

/// How a data plane is reached: the control plane's own client, or a vetted kubeconfig.
pub(super) enum Access {
    Local,
    Remote(Box<Vetted>),
}

impl Registry {
    /// Reads and vets the credential, unless this version of its Secret was read before.
    pub(super) async fn credential(&self, plane: &DataPlane) -> Result<Access, Why> {
        if plane.spec.local == Some(true) {
            return Ok(Access::Local);
        }
        if plane.name_any() == LOCAL {
            let message = "the name `local` means the control plane's own cluster; choose another";
            return Err(Why::new(Reason::ReservedName, message));
        }
        let Some(reference) = &plane.spec.kubeconfig_secret_ref else {
            let message = "`spec.kubeconfigSecretRef` is not set; name the Secret that holds the kubeconfig";
            return Err(Why::new(Reason::SecretNotFound, message));
        };
        let key = secret_of(reference, &self.context.namespace);
        let loan = if key.namespace == self.context.namespace { Loan::Yes } else { self.loan(&key) };
        let is_going = plane.metadata.deletion_timestamp.is_some();
        if loan == Loan::No && !is_going {
            let message = format!(
                "`spec.kubeconfigSecretRef.namespace` is `{}`, where no ClientConfig names Secret `{}`; a Secret of \
                 another namespace is used for a ClientConfig beside it only",
                key.namespace, key.name
            );
            return Err(Why::new(Reason::InvalidSpec, message));
        }
        let vetted = self.verdict(plane, &key, reference).await?;
        if loan != Loan::Yes && !was_accepted(plane, &vetted) {
            let message = format!(
                "it is not known whether a ClientConfig names Secret `{key}`; see that ClientConfigs can be listed"
            );
            return Err(Why::new(Reason::Pending, message));
        }
        Ok(Access::Remote(Box::new(vetted)))
    }

    async fn verdict(
        &self,
        plane: &DataPlane,
        key: &ObjectKey,
        reference: &KubeconfigSecretRef,
    ) -> Result<Vetted, Why> {
        let uid = plane.uid().unwrap_or_default();
        let version = self.secrets.of(key);
        let read_from = (key.clone(), version, reference.key.clone(), plane.spec.context.clone());
        // Without a version there is nothing, or nothing is known: it is read again.
        let now = self.context.fleet.now();
        let is_current = |known: &&Credential| {
            let is_young = now.duration_since(known.read_at) < REFUSED_FOR;
            known.read_from == read_from && read_from.1.is_some() && (known.verdict.is_ok() || is_young)
        };
        if let Some(known) = lock(&self.credentials).get(&uid).filter(is_current) {
            return known.verdict.clone();
        }
        let secrets = Api::<Secret>::namespaced(self.context.client.clone(), &key.namespace);
        // That it cannot be read now says nothing of what is in it, and is not remembered.
        let secret = secrets.get_opt(&key.name).await.map_err(|error| read_failed(key, &error))?;
        let metadata = secret.as_ref().map(|secret| secret.metadata.clone()).unwrap_or_default();
        let verdict = vet(secret, key, plane, &self.context.allow_unsafe, now);
        let renewal = verdict.as_ref().map_or_else(
            |_| Renewal::default(),
            |vetted| {
                let label = metadata.labels.as_ref().and_then(|all| all.get(labels::REGISTER));
                let is_ours =
                    key.namespace == self.context.namespace && label.is_some_and(|label| label == "true");
                let annotations = metadata.annotations.unwrap_or_default();
                Renewal::of(is_ours, &annotations, vetted.access.account(), now)
            },
        );
        let mut credentials = lock(&self.credentials);
        let refusal = verdict.as_ref().err();
        let before =
            credentials.get(&uid).filter(|c| refusal.is_some() && c.verdict.as_ref().err() == refusal);
        let observed_at = before.map_or(now, |before| before.observed_at);
        let known = Credential { read_from, verdict: verdict.clone(), renewal, observed_at, read_at: now };
        credentials.insert(uid, known);
        verdict
    }

    /// Whether a ClientConfig beside a Secret names it, as far as they are known.
    fn loan(&self, secret: &ObjectKey) -> Loan {
        let within = &self.context.client_configs_in;
        if !within.is_empty() && !within.contains(&secret.namespace) {
            return Loan::No;
        }
        loan(&self.context.sources.client_configs(), secret)
    }
}

/// Whether a ClientConfig lends a Secret of its namespace to the DataPlane that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loan {
    Yes,
    No,
    /// They are not listed (any more), or one that may lend it cannot be read.
    Unknown,
}

fn loan(configs: &Kept<ClientConfig>, secret: &ObjectKey) -> Loan {
    let names = |key: &ObjectKey, config: &ClientConfig| {
        key.namespace == secret.namespace && config.spec.kube_config_secret.name == secret.name
    };
    let is_spoilt = configs.unreadable.keys().any(|key| key.namespace == secret.namespace);
    match configs.standing {
        _ if configs.items.iter().any(|(key, config)| names(key, config)) => Loan::Yes,
        Standing::Listed if !is_spoilt => Loan::No,
        Standing::Listed | Standing::NotListed | Standing::NotServed | Standing::Forbidden => Loan::Unknown,
    }
}

/// Whether this very credential was in use for the DataPlane before, which its status says and nobody else can write:
/// what was lent then may be used on while nobody knows, and to take copies back when the ClientConfig went first.
fn was_accepted(plane: &DataPlane, vetted: &Vetted) -> bool {
    let known = plane.status.as_ref().and_then(|status| status.credential.as_ref());
    known.is_some_and(|credential| credential.hash.as_ref() == Some(&vetted.hash))
}

/// The Secret a DataPlane of namespace `home` refers to.
pub(super) fn secret_of(reference: &KubeconfigSecretRef, home: &str) -> ObjectKey {
    let namespace = reference.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    ObjectKey::new(namespace.unwrap_or(home), &reference.name)
}

fn read_failed(key: &ObjectKey, error: &kube::Error) -> Why {
    if let kube::Error::Api(answer) = error {
        return unreadable(&format!(
            "Secret `{key}` cannot be read: the API server answered {}",
            answer.code
        ));
    }
    unreadable(&format!("read Secret `{key}`: {error}"))
}

/// Why the Secret could not be asked for: nothing was read.
pub(super) fn unreadable(why: &str) -> Why {
    Why::new(Reason::SecretUnreadable, format!("{why}; see that the controller may get it"))
}

fn vet(
    secret: Option<Secret>,
    key: &ObjectKey,
    plane: &DataPlane,
    allow: &BTreeSet<String>,
    now: Timestamp,
) -> Result<Vetted, Why> {
    let reference = plane.spec.kubeconfig_secret_ref.clone().unwrap_or_default();
    let Some(secret) = secret else {
        let message =
            format!("Secret `{}` does not exist in namespace `{}`; create it", key.name, key.namespace);
        return Err(Why::new(Reason::SecretNotFound, message));
    };
    let data = secret.data.unwrap_or_default();
    let keys: Vec<&str> = match reference.key.as_deref().filter(|k| !k.is_empty()) {
        Some(key) => vec![key],
        None => kubeconfig::SECRET_KEYS.to_vec(),
    };
    // Of two, one that is empty is as good as absent.
    let held = || keys.iter().filter_map(|key| data.get(*key));
    let Some(bytes) = held().find(|bytes| !bytes.0.is_empty()).or_else(|| held().next()) else {
        let message = format!(
            "Secret `{}` has no key `{}`; put the kubeconfig there",
            reference.name,
            keys.join("` or `")
        );
        return Err(Why::new(Reason::KubeconfigKeyMissing, message));
    };
    kubeconfig::vet(&bytes.0, plane.spec.context.as_deref(), allow, now, own::content)
}

/// A client for a kubeconfig that was accepted. Its watches share one connection, unless it is for so many `namespaces` that
/// each has watches of its own in: an API server takes about a hundred requests on one connection at a time.
///
/// # Errors
/// The library's own reason, which holds nothing of the credential.
pub(super) async fn client(vetted: Vetted, namespaces: usize) -> Result<Client, Why> {
    let config = vetted.access.config();
    let timeouts = Timeouts { multiplexed: namespaces <= SHARING, ..Timeouts::REMOTE };
    let refused = |why: &dyn std::fmt::Display| {
        kubeconfig::invalid(format!("no client can be made of the kubeconfig: {why}"))
    };
    if !vetted.access.runs_a_program() {
        return client::connect(config, timeouts).map_err(|error| refused(&error));
    }
    // The program, where it is allowed, is waited for: it must hold up nobody else, nor for ever.
    let made = tokio::task::spawn_blocking(move || client::connect(config, timeouts));
    match tokio::time::timeout(PATIENCE, made).await {
        Ok(Ok(made)) => made.map_err(|error| refused(&error)),
        Ok(Err(_)) => Err(refused(&"the attempt broke off")),
        Err(_) => Err(refused(&"the program of `exec` or `auth-provider` gave no credential within 30 s")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::named(Standing::Listed, "eu", false, Loan::Yes)]
    #[case::another(Standing::Listed, "us", false, Loan::No)]
    #[case::one_that_cannot_be_read(Standing::Listed, "us", true, Loan::Unknown)]
    #[case::not_listed(Standing::NotListed, "us", false, Loan::Unknown)]
    #[case::known_before(Standing::NotListed, "eu", false, Loan::Yes)]
    #[case::definition_gone(Standing::NotServed, "us", false, Loan::Unknown)]
    #[case::not_permitted(Standing::Forbidden, "us", false, Loan::Unknown)]
    fn a_secret_is_lent_by_a_client_config_beside_it_only(
        #[case] standing: Standing,
        #[case] named: &str,
        #[case] malformed: bool,
        #[case] expected: Loan,
    ) {
        let config = json!({"metadata": {}, "spec": {"kubeConfigSecret": {"name": named}}});
        let config: Arc<ClientConfig> = Arc::new(serde_json::from_value(config).unwrap());
        let elsewhere = json!({"metadata": {}, "spec": {"kubeConfigSecret": {"name": "eu"}}});
        let elsewhere: Arc<ClientConfig> = Arc::new(serde_json::from_value(elsewhere).unwrap());
        let items = [(ObjectKey::new("ops", "one"), config), (ObjectKey::new("else", "one"), elsewhere)];
        let mut configs = Kept { items: items.into(), standing, ..Kept::default() };
        if malformed {
            configs.unreadable.insert(ObjectKey::new("ops", "odd"), "no spec".to_owned());
        }
        assert_eq!(loan(&configs, &ObjectKey::new("ops", "eu")), expected);
    }
}
