//! The control-plane cluster as the command line sees it.

use kube::{Api, Client, api::ListParams, core::DeserializeGuard};

use super::{
    args::Global,
    failure::{Failure, Outcome, is_not_found},
    output::{self, one_line},
    views::name,
};
use crate::{
    api::names,
    runtime::{
        client::{self, Timeouts},
        follow::Followed,
    },
};

/// A connection to the control plane's cluster, and the namespace the fleet's objects are in.
#[derive(Clone)]
pub struct ControlPlaneClient {
    /// The client.
    pub client: Client,
    /// The controller's namespace.
    pub namespace: String,
    /// Address of the API server, for messages.
    pub server: String,
}

impl ControlPlaneClient {
    /// Connects as the global options say; `context` stands in for `--context`.
    ///
    /// # Errors
    /// When there is no usable configuration.
    pub fn connect(global: &Global, context: Option<&str>) -> Outcome<Self> {
        let config = client::config(global.kubeconfig.as_deref(), context).map_err(Failure::CouldNotAsk)?;
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = client::connect(config, Timeouts::HOME).map_err(|error| {
            Failure::CouldNotAsk(format!("cannot use the configuration of `{server}`: {error}"))
        })?;
        Ok(Self { client, namespace: global.namespace.clone(), server })
    }

    /// The fleet's objects of one kind.
    #[must_use]
    pub fn api<K: Followed>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// All of the fleet's objects of one kind that can be read. Why another cannot be read is told on stderr.
    ///
    /// # Errors
    /// When the API server does not list them.
    pub async fn list<K: Followed>(&self) -> Outcome<Vec<K>> {
        let (objects, unreadable) = self.read().await?;
        for why in unreadable {
            output::aside(&format!("note: {why}"));
        }
        Ok(objects)
    }

    /// The same, with a sentence for each object that cannot be read.
    ///
    /// # Errors
    /// When the API server does not list them.
    pub async fn read<K: Followed>(&self) -> Outcome<(Vec<K>, Vec<String>)> {
        let all = self.api::<DeserializeGuard<K>>().list(&ListParams::default()).await;
        let all = all.map_err(|error| Failure::reading(&format!("{} {self}", K::plural(&())), &error))?;
        let (mut objects, mut unreadable) = (Vec::new(), Vec::new());
        for object in all {
            match object.0 {
                Ok(object) => objects.push(object),
                Err(invalid) => {
                    let (kind, name) = (K::kind(&()).to_lowercase(), name(&invalid.metadata));
                    unreadable.push(format!(
                        "{kind} `{name}` cannot be read: {}; correct that field of it",
                        one_line(&invalid.error)
                    ));
                }
            }
        }
        Ok((objects, unreadable))
    }

    /// One of the fleet's objects, if it exists.
    ///
    /// # Errors
    /// When the API server does not say.
    pub async fn find<K: Followed>(&self, name: &str) -> Outcome<Option<K>> {
        let kind = K::kind(&()).to_lowercase();
        if !names::is_object_name(name) {
            return Err(Failure::CouldNotAsk(format!(
                "`{}` cannot be the name of a {kind}: use lower-case letters, digits, `-` and `.`, at most 253",
                names::shown(name, 60)
            )));
        }
        match self.api::<K>().get(name).await {
            Ok(found) => Ok(Some(found)),
            Err(error @ kube::Error::Api(_)) if is_not_found(&error) && !is_missing_kind(&error) => Ok(None),
            Err(error) => Err(Failure::reading(&format!("{kind} `{name}` {self}"), &error)),
        }
    }
}

/// A 404 without details is about the kind, not about the object.
fn is_missing_kind(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.details.is_none())
}

impl std::fmt::Display for ControlPlaneClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "in namespace `{}` of the control plane `{}`", self.namespace, self.server)
    }
}
