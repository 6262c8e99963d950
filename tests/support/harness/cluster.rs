//! One cluster, seen by an administrator.

use std::{fmt::Debug, fs, path::PathBuf};

use futures::future::{try_join, try_join_all};
use k8s_openapi::{
    NamespaceResourceScope, api::core::v1::Namespace,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config, Resource,
    api::PostParams,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
    core::{ApiResource, GroupVersionKind, TypeMeta},
};
use serde::{Deserialize as _, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{DEADLINE, Result, answered::Answered, within};

/// A cluster of a [`super::Testbed`].
#[derive(Clone)]
pub struct Cluster {
    /// Its name, also in the kubeconfig.
    pub name: String,
    /// File with an administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// How an administrator connects.
    pub config: Config,
    /// An administrator's client.
    pub client: Client,
    /// What its API server had answered when it began to be counted.
    pub before: Answered,
}

/// What can be asked for by type: every namespaced kind.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned
{
}

/// How one connects with a kubeconfig.
pub async fn connection(kubeconfig: &str) -> Result<Config> {
    let file = Kubeconfig::from_yaml(kubeconfig)?;
    Ok(Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?)
}

/// What an API server calls objects like this one, by what stands in it.
pub fn resource(object: &Value) -> Result<ApiResource> {
    Ok(ApiResource::from_gvk(&GroupVersionKind::try_from(TypeMeta::deserialize(object)?)?))
}

impl Cluster {
    /// A client from what the testbed says about a cluster.
    pub async fn connect(described: &Value) -> Result<Self> {
        let text = |key: &str| described[key].as_str().unwrap_or_default();
        let (name, kubeconfig) = (text("name").to_owned(), PathBuf::from(text("kubeconfig")));
        Self::connect_as(name, kubeconfig, |_| {}).await
    }

    /// A client from a kubeconfig, connected as `change` has it.
    pub async fn connect_as(
        name: String,
        kubeconfig: PathBuf,
        change: impl FnOnce(&mut Config),
    ) -> Result<Self> {
        let mut config = connection(&fs::read_to_string(&kubeconfig)?).await?;
        change(&mut config);
        let client = Client::try_from(config.clone())?;
        Ok(Self { name, kubeconfig, config, client, before: Answered::default() })
    }

    /// Makes the namespaces, installs `definitions`, and waits until they and cass-operator's kind are served.
    pub async fn prepare(&self, definitions: &[CustomResourceDefinition], namespaces: &[&str]) -> Result<()> {
        for name in namespaces {
            self.namespace(name).await?;
        }
        let client = self.impatient()?;
        let datacenters =
            self.watchable(&client, "cassandra.datastax.com", "v1beta1", "cassandradatacenters");
        try_join(self.install_by(&client, definitions), datacenters).await?;
        Ok(())
    }

    /// Installs `definitions` and waits until they are served.
    pub async fn install(&self, definitions: &[CustomResourceDefinition]) -> Result<()> {
        self.install_by(&self.impatient()?, definitions).await
    }

    async fn install_by(&self, client: &Client, definitions: &[CustomResourceDefinition]) -> Result<()> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let install = async |definition: &CustomResourceDefinition| {
            api.create(&PostParams::default(), definition).await?;
            let spec = &definition.spec;
            let version = spec.versions.first().ok_or("a definition has no version")?;
            self.watchable(client, &spec.group, &version.name, &spec.names.plural).await
        };
        try_join_all(definitions.iter().map(install)).await?;
        Ok(())
    }

    /// Waits until the API server opens a watch of a kind without asking for patience: the first request for a kind
    /// makes it fill its cache, whoever watches too early is told to come back in a second, and does not hear before
    /// that of what a test makes meanwhile.
    async fn watchable(&self, client: &Client, group: &str, version: &str, plural: &str) -> Result<()> {
        let path = format!("/apis/{group}/{version}/{plural}?watch=1");
        within(DEADLINE, format!("{plural} can be watched in {}", self.name), async || {
            let request = http::Request::get(&path).body(Body::empty()).map_err(|error| error.to_string())?;
            let answer = client.send(request).await.map_err(|error| error.to_string())?.status();
            if answer.is_success() { Ok(()) } else { Err(answer.to_string()) }
        })
        .await
    }

    /// A client that hands on what the API server answers, also that it is to ask again later.
    pub fn impatient(&self) -> Result<Client> {
        let mut config = self.config.clone();
        config.default_retry = false;
        Ok(Client::try_from(config)?)
    }

    /// Creates a namespace.
    pub async fn namespace(&self, name: &str) -> Result<()> {
        let namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        let api: Api<Namespace> = Api::all(self.client.clone());
        api.create(&PostParams::default(), &namespace).await?;
        Ok(())
    }

    /// Typed access to a namespace.
    pub fn api<K: Kind>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// What its API server has answered since it started.
    pub async fn answered(&self) -> Result<Answered> {
        Answered::of(&self.client).await
    }
}
