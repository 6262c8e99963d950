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
    client::Body,
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
    before: Counted,
}

/// What an API server has counted since it started.
#[derive(Default)]
struct Counted {
    started: String,
    /// Writes, and lists, by resource and verb.
    writes: BTreeMap<(String, String), u64>,
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
        Self {
            name: text("name"),
            kubeconfig,
            client: Client::try_from(config).unwrap(),
            before: Counted::default(),
        }
    }

    /// Installs `definitions` and the two namespaces, and waits until they and cass-operator's kind are served.
    pub async fn prepare(&self, definitions: &[CustomResourceDefinition]) {
        for name in [FLEET, CASS] {
            self.namespace(name).await;
        }
        let datacenters = self.watchable("cassandra.datastax.com", "v1beta1", "cassandradatacenters");
        futures::future::join(self.install(definitions), datacenters).await;
    }

    /// Installs `definitions` and waits until they are served.
    pub async fn install(&self, definitions: &[CustomResourceDefinition]) {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let install = async |definition: &CustomResourceDefinition| {
            api.create(&PostParams::default(), definition).await.expect("install a definition");
            let spec = &definition.spec;
            self.watchable(&spec.group, &spec.versions[0].name, &spec.names.plural).await;
        };
        join_all(definitions.iter().map(install)).await;
    }

    /// Waits until the API server opens a watch of a kind without asking for patience: the first request for a kind
    /// makes it fill its cache, whoever watches too early is told to come back in a second, and does not hear before
    /// that of what a test makes meanwhile.
    async fn watchable(&self, group: &str, version: &str, plural: &str) {
        let mut config = connection(&self.kubeconfig).await;
        config.default_retry = false;
        let client = Client::try_from(config).unwrap();
        let path = format!("/apis/{group}/{version}/{plural}?watch=1");
        eventually(format!("{plural} can be watched in {}", self.name), async || {
            let request = http::Request::get(&path).body(Body::empty()).unwrap();
            let answer = client.send(request).await.map_err(|error| error.to_string())?.status();
            if answer.is_success() { Ok(()) } else { Err(answer.to_string()) }
        })
        .await;
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
    /// server since the test began.
    pub async fn writes(&self, resource: &str) -> BTreeMap<String, u64> {
        let Counted { started, writes } = self.counted().await;
        let before = Some(&self.before).filter(|before| before.started == started);
        let mut new = BTreeMap::new();
        for (key, count) in writes.into_iter().filter(|((of, verb), _)| of == resource && verb != "LIST") {
            let old = before.and_then(|before| before.writes.get(&key)).copied().unwrap_or(0);
            if count > old {
                new.insert(key.1, count - old);
            }
        }
        new
    }

    /// How often all or some objects of `resource` were listed, by whomever.
    pub async fn lists(&self, resource: &str) -> u64 {
        let asked = self.counted().await.writes;
        asked.get(&(resource.to_owned(), "LIST".to_owned())).copied().unwrap_or(0)
    }

    /// Leaves out of [`Self::writes`] what there was so far.
    pub async fn count_from_now(&mut self) {
        self.before = self.counted().await;
    }

    async fn counted(&self) -> Counted {
        let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
        let text = self.client.request_text(request).await.expect("read the API server's metrics");
        let started = text.lines().find_map(|line| line.strip_prefix("process_start_time_seconds "));
        let mut writes = BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
            let label = |name: &str| {
                let (_, rest) = line.split_once(&format!("{name}=\""))?;
                rest.split_once('"').map(|(value, _)| value.to_owned())
            };
            let (resource, verb) = (label("resource").unwrap_or_default(), label("verb").unwrap_or_default());
            if !matches!(verb.as_str(), "GET" | "WATCH") {
                let count = line.rsplit(' ').next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
                let count = count as u64;
                *writes.entry((resource, verb)).or_insert(0) += count;
            }
        }
        Counted { started: started.expect("when the API server started").to_owned(), writes }
    }
}
