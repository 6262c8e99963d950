//! Clients, and what is done to a cluster before anything is measured.

use std::{collections::BTreeMap, fmt::Debug, path::Path, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Namespace, Secret},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config, Resource,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use medusa_fleet::api::{
    cassandra::CassandraDatacenter,
    crds,
    medusa::{MedusaBackupJob, MedusaConfiguration},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    objects::{SHOP, SOURCES, datacenter, lease},
    support::{Result, pause},
};

/// Requests the bare client has in flight per data plane: as many as medusa-fleet by default.
pub const IN_FLIGHT: usize = 32;

/// A plain client: kube's own, without limits.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let file = Kubeconfig::read_from(kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    // Watches are silent for minutes.
    config.read_timeout = None;
    Ok(Client::try_from(config)?)
}

fn manager() -> PatchParams {
    PatchParams::apply("bench").force()
}

/// Applies `object` as it is.
pub async fn apply(client: &Client, namespace: &str, object: &Value) -> Result<()> {
    let word = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (word("apiVersion"), word("kind"));
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: word("apiVersion").to_owned(),
        kind: kind.to_owned(),
        plural: format!("{}s", kind.to_lowercase()),
    };
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    api.patch(name, &manager(), &Patch::Apply(object))
        .await
        .map_err(|error| format!("apply {kind} {namespace}/{name}: {error}"))?;
    Ok(())
}

/// Creates a MedusaBackupJob.
pub async fn create_job(client: &Client, namespace: &str, object: &Value) -> Result<()> {
    let job: MedusaBackupJob = serde_json::from_value(object.clone())?;
    Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &job).await?;
    Ok(())
}

/// Writes all `objects`, at most [`IN_FLIGHT`] at once.
pub async fn apply_all(client: &Client, namespace: &str, objects: Vec<Value>) -> Result<()> {
    stream::iter(objects)
        .map(|object| async move { apply(client, namespace, &object).await })
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}

/// Makes a namespace, if it is missing.
pub async fn namespace(client: &Client, name: &str) -> Result<()> {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    Api::<Namespace>::all(client.clone()).patch(name, &manager(), &Patch::Apply(&object)).await?;
    Ok(())
}

/// Deletes every object of a kind in a namespace.
pub async fn clear<K>(client: &Client, namespace: &str, selector: &str) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    api.delete_collection(&DeleteParams::default(), &ListParams::default().labels(selector)).await?;
    Ok(())
}

/// Definitions, namespaces, and the Lease that says that a data plane's controller runs there.
pub async fn prepare(client: &Client) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let all = crds::all()?;
    for definition in &all {
        let name = definition.metadata.name.clone().unwrap_or_default();
        definitions.patch(&name, &manager(), &Patch::Apply(definition)).await?;
    }
    for name in [SHOP, SOURCES] {
        namespace(client, name).await?;
    }
    for definition in &all {
        let name = definition.metadata.name.clone().unwrap_or_default();
        while !established(&definitions.get(&name).await?) {
            pause(50).await;
        }
    }
    // Established is a moment before served.
    served::<MedusaConfiguration>(client).await?;
    served::<MedusaBackupJob>(client).await?;
    apply(client, SHOP, &lease()).await?;
    served::<Lease>(client).await
}

fn established(definition: &CustomResourceDefinition) -> bool {
    let conditions = definition.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|list| list.iter().any(|c| c.type_ == "Established" && c.status == "True"))
}

async fn served<K>(client: &Client) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::all(client.clone());
    for _ in 0..100 {
        if api.list_metadata(&ListParams::default().limit(1)).await.is_ok() {
            return Ok(());
        }
        pause(100).await;
    }
    Err(format!("{} is not served", K::kind(&())).into())
}

/// Gives a data plane exactly `count` datacenters.
pub async fn datacenters(client: &Client, plane: &str, count: usize) -> Result<()> {
    clear::<CassandraDatacenter>(client, SHOP, "").await?;
    apply_all(client, SHOP, (1..=count).map(|n| datacenter(&datacenter_name(plane, n))).collect()).await
}

/// Name of the `number`th datacenter of a data plane.
pub fn datacenter_name(plane: &str, number: usize) -> String {
    format!("{plane}-dc{number}")
}

/// Removes what earlier measurements left in a data plane.
pub async fn clean(client: &Client) -> Result<()> {
    clear::<MedusaBackupJob>(client, SHOP, "").await?;
    clear::<MedusaConfiguration>(client, SHOP, "").await?;
    clear::<Secret>(client, SHOP, "").await
}

/// Requests an API server has answered so far, by verb and resource.
#[derive(Clone, Debug, Default)]
pub struct Requests(pub BTreeMap<String, f64>);

impl Requests {
    /// Reads the API server's own count.
    pub async fn of(client: &Client) -> Result<Self> {
        let text = client.request_text(http::Request::get("/metrics").body(Vec::new())?).await?;
        let mut counts = BTreeMap::new();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("apiserver_request_total{") else { continue };
            let Some((labels, value)) = rest.rsplit_once("} ") else { continue };
            let label = |name: &str| {
                let start = labels.find(&format!("{name}=\"")).map_or(0, |at| at + name.len() + 2);
                labels.get(start..).and_then(|rest| rest.split('"').next()).unwrap_or_default()
            };
            let (verb, resource, sub) = (label("verb"), label("resource"), label("subresource"));
            if sub == "/metrics" {
                continue; // That was us.
            }
            let code = label("code");
            let code =
                if code.starts_with('2') || code == "0" { String::new() } else { format!(" → {code}") };
            let what = match (resource, sub) {
                ("", path) => format!("{verb} {path}{code}"),
                (resource, "") => format!("{verb} {resource}{code}"),
                (resource, sub) => format!("{verb} {resource}/{sub}{code}"),
            };
            *counts.entry(what).or_insert(0.0) += value.trim().parse::<f64>().unwrap_or_default();
        }
        Ok(Self(counts))
    }

    /// What came since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let grown = self
            .0
            .iter()
            .map(|(what, count)| (what.clone(), count - earlier.0.get(what).copied().unwrap_or_default()));
        Self(grown.filter(|(_, count)| *count > 0.0).collect())
    }

    /// Adds another server's.
    pub fn add(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what.clone()).or_insert(0.0) += count;
        }
    }

    /// How many requests `wanted` describes.
    pub fn sum(&self, wanted: impl Fn(&str) -> bool) -> f64 {
        // The sum of no floats is -0, and is printed so.
        self.0
            .iter()
            .filter(|(what, _)| wanted(what))
            .map(|(_, count)| count)
            .fold(0.0, |sum, count| sum + count)
    }

    /// As one line, divided by `by`.
    pub fn line(&self) -> String {
        let parts: Vec<String> = self.0.iter().map(|(what, count)| format!("{count:.0} {what}")).collect();
        if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
    }
}

/// Whether a request writes an object that people see.
pub fn is_write(what: &str) -> bool {
    ["POST ", "PUT ", "PATCH ", "APPLY ", "DELETE "].iter().any(|verb| what.starts_with(verb))
        && !what.contains("subjectaccessreviews")
}

/// Longest time anything measured may take.
pub const PATIENCE: Duration = Duration::from_secs(90);
