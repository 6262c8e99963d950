//! One cluster, seen by an administrator.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    path::{Path, PathBuf},
};

use futures::future::join_all;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{core::v1::Namespace, events::v1::Event},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config, Resource, ResourceExt as _,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::{ApiResource, GroupVersionKind},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{CASS, FLEET, eventually};

/// One cluster of a [`super::Fleet`].
pub struct Cluster {
    /// Its name, also in the kubeconfig.
    pub name: String,
    /// File with an administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// An administrator's client.
    pub client: Client,
}

/// Client configuration of a kubeconfig.
async fn connection(kubeconfig: &Path) -> Config {
    let file = Kubeconfig::read_from(kubeconfig).expect("read the testbed's kubeconfig");
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap()
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

impl Cluster {
    /// A client from what the testbed says about a cluster.
    pub async fn connect(described: &Value) -> Self {
        let text = |key: &str| described[key].as_str().unwrap_or_default().to_owned();
        let kubeconfig = PathBuf::from(text("kubeconfig"));
        let config = connection(&kubeconfig).await;
        Self { name: text("name"), kubeconfig, client: Client::try_from(config).unwrap() }
    }

    /// Installs `definitions` and the two namespaces, and waits until all is served.
    pub async fn prepare(&self, definitions: &[CustomResourceDefinition]) {
        for name in [FLEET, CASS] {
            self.namespace(name).await;
        }
        self.install(definitions).await;
    }

    /// Installs `definitions` and waits until the API server lists objects of each without asking for patience: the
    /// first request for a kind makes it fill its cache, and whoever comes too early is told to come back in a second.
    pub async fn install(&self, definitions: &[CustomResourceDefinition]) {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let mut config = connection(&self.kubeconfig).await;
        config.default_retry = false;
        let client = Client::try_from(config).unwrap();
        let install = async |definition: &CustomResourceDefinition| {
            api.create(&PostParams::default(), definition).await.expect("install a definition");
            let (spec, name) = (&definition.spec, definition.name_any());
            let path =
                format!("/apis/{}/{}/{}?limit=1", spec.group, spec.versions[0].name, spec.names.plural);
            eventually(format!("{name} is served in {}", self.name), async || {
                let request = http::Request::get(&path).body(Vec::new()).unwrap();
                client.request_text(request).await.map(drop)
            })
            .await;
        };
        join_all(definitions.iter().map(install)).await;
    }

    /// Creates a namespace.
    pub async fn namespace(&self, name: &str) {
        let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        let api: Api<Namespace> = Api::all(self.client.clone());
        api.create(&PostParams::default(), &namespace).await.expect("create a namespace");
    }

    /// Typed access to a namespace.
    pub fn api<K: Kind>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Creates any object, as it is: also with fields its type does not know.
    pub async fn try_create(&self, object: Value) -> kube::Result<DynamicObject> {
        let object: DynamicObject = serde_json::from_value(object).expect("an object");
        let types = object.types.clone().expect("apiVersion and kind");
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types).unwrap());
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), &namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        api.create(&PostParams::default(), &object).await
    }

    /// [`Self::try_create`], which must work.
    pub async fn create(&self, object: Value) -> DynamicObject {
        let what = format!("create {} {} in {}", object["kind"], object["metadata"]["name"], self.name);
        self.try_create(object).await.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// The object, when it is there.
    pub async fn find<K: Kind>(&self, namespace: &str, name: &str) -> Option<K> {
        self.api(namespace).get_opt(name).await.unwrap_or_else(|error| {
            panic!("get {} {namespace}/{name} in {}: {error}", K::kind(&()), self.name)
        })
    }

    /// The object, which must be there.
    pub async fn get<K: Kind>(&self, namespace: &str, name: &str) -> K {
        self.find(namespace, name)
            .await
            .unwrap_or_else(|| panic!("there is no {} {namespace}/{name} in {}", K::kind(&()), self.name))
    }

    /// Every object of a namespace.
    pub async fn list<K: Kind>(&self, namespace: &str) -> Vec<K> {
        self.api(namespace).list(&ListParams::default()).await.expect("list").items
    }

    /// Merges `patch` into an object.
    pub async fn patch<K: Kind>(&self, namespace: &str, name: &str, patch: Value) -> K {
        let api: Api<K> = self.api(namespace);
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("patch")
    }

    /// Merges `status` into an object's status.
    pub async fn patch_status<K: Kind>(&self, namespace: &str, name: &str, status: Value) -> K {
        let api: Api<K> = self.api(namespace);
        let patch = json!({"status": status});
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("patch status")
    }

    /// Deletes an object.
    pub async fn delete<K: Kind>(&self, namespace: &str, name: &str) {
        let api: Api<K> = self.api(namespace);
        api.delete(name, &DeleteParams::default()).await.unwrap_or_else(|error| {
            panic!("delete {} {namespace}/{name} in {}: {error}", K::kind(&()), self.name)
        });
    }

    /// Waits until the object is there.
    pub async fn appears<K: Kind>(&self, namespace: &str, name: &str) -> K {
        let what = format!("{} {namespace}/{name} is in {}", K::kind(&()), self.name);
        eventually(what, async || self.find(namespace, name).await.ok_or("it is not there")).await
    }

    /// Waits until the object is gone.
    pub async fn disappears<K: Kind>(&self, namespace: &str, name: &str) {
        let what = format!("{} {namespace}/{name} is gone from {}", K::kind(&()), self.name);
        eventually(what, async || match self.find::<K>(namespace, name).await {
            None => Ok(()),
            Some(object) => Err(format!("{object:?}")),
        })
        .await;
    }

    /// Events about an object, oldest first, as (reason, note).
    pub async fn events(&self, kind: &str, name: &str) -> Vec<(String, String)> {
        let events = Api::<Event>::all(self.client.clone()).list(&ListParams::default()).await.unwrap();
        let about = |event: &Event| {
            event
                .regarding
                .as_ref()
                .is_some_and(|r| r.kind.as_deref() == Some(kind) && r.name.as_deref() == Some(name))
        };
        let mut events: Vec<Event> = events.items.into_iter().filter(about).collect();
        events.sort_by_key(|e| e.event_time.clone().map(|t| t.0));
        events.into_iter().map(|e| (e.reason.unwrap_or_default(), e.note.unwrap_or_default())).collect()
    }

    /// Waits for an Event about an object and returns its note.
    pub async fn event(&self, kind: &str, name: &str, reason: &str) -> String {
        eventually(format!("an Event {reason} about {kind} {name}"), async || {
            let events = self.events(kind, name).await;
            let found = events.iter().find(|(r, _)| r == reason).map(|(_, note)| note.clone());
            found.ok_or(format!("{events:?}"))
        })
        .await
    }

    /// Requests that changed or tried to change objects of `resource` (its plural), by verb, counted by the API
    /// server since it started.
    pub async fn writes(&self, resource: &str) -> BTreeMap<String, u64> {
        let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
        let text = self.client.request_text(request).await.expect("read the API server's metrics");
        let mut writes = BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
            let label = |name: &str| {
                let (_, rest) = line.split_once(&format!("{name}=\""))?;
                rest.split_once('"').map(|(value, _)| value.to_owned())
            };
            let verb = label("verb").unwrap_or_default();
            let reads = matches!(verb.as_str(), "GET" | "LIST" | "WATCH");
            if !reads && label("resource").as_deref() == Some(resource) {
                let count = line.rsplit(' ').next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
                let count = count as u64;
                *writes.entry(verb).or_insert(0) += count;
            }
        }
        writes
    }
}
