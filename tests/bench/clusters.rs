//! What is done to a cluster before anything is measured, and what its API server counts meanwhile.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use medusa_fleet::api::{
    cassandra::CassandraDatacenter,
    crds,
    medusa::{MedusaBackupJob, MedusaConfiguration},
};
use serde_json::Value;

use crate::{
    harness::{Answered, Cluster, Kind, Program, Result, resource},
    objects::{SHOP, SOURCES, datacenter, lease},
};

/// Requests the bare client has in flight per data plane: as many as medusa-fleet by default.
pub const IN_FLIGHT: usize = 32;
/// Longest time anything measured may take.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Namespace of a data plane's controller.
pub const DATA_PLANE: &str = "bench-data-plane";

/// A cluster with a plain client: kube's own, without limits.
pub async fn connect(name: String, kubeconfig: PathBuf) -> Result<Cluster> {
    // Watches are silent for minutes.
    Cluster::connect_as(name, kubeconfig, |config| config.read_timeout = None).await
}

/// Starts `role` of the release binary in a cluster, as the manifests in deploy/ have it.
pub fn start(binary: &Path, role: &str, cluster: &Cluster, namespace: &str, log: &Path) -> Result<Program> {
    Program::start(binary, log, |command| {
        command
            .args([role, "--kubeconfig"])
            .arg(&cluster.kubeconfig)
            .args(["--namespace", namespace, "--metrics-addr", ""])
            .env("MALLOC_ARENA_MAX", "1")
    })
}

fn manager() -> PatchParams {
    PatchParams::apply("bench").force()
}

/// Applies `object` as it is.
pub async fn apply(cluster: &Cluster, namespace: &str, object: &Value) -> Result<()> {
    let resource = resource(object)?;
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), namespace, &resource);
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    api.patch(name, &manager(), &Patch::Apply(object))
        .await
        .map_err(|error| format!("apply {} {namespace}/{name}: {error}", resource.kind))?;
    Ok(())
}

/// Creates a MedusaBackupJob.
pub async fn create_job(cluster: &Cluster, namespace: &str, object: &Value) -> Result<()> {
    let job: MedusaBackupJob = serde_json::from_value(object.clone())?;
    cluster.api(namespace).create(&PostParams::default(), &job).await?;
    Ok(())
}

/// Writes all `objects`, at most [`IN_FLIGHT`] at once.
pub async fn apply_all(cluster: &Cluster, namespace: &str, objects: Vec<Value>) -> Result<()> {
    stream::iter(objects)
        .map(|object| async move { apply(cluster, namespace, &object).await })
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}

/// Deletes every object of a kind in a namespace.
pub async fn clear<K: Kind>(cluster: &Cluster, namespace: &str, selector: &str) -> Result<()> {
    let every = ListParams::default().labels(selector);
    cluster.api::<K>(namespace).delete_collection(&DeleteParams::default(), &every).await?;
    Ok(())
}

/// Definitions, namespaces, and the Lease that says that a data plane's controller runs there.
pub async fn prepare(cluster: &Cluster) -> Result<()> {
    cluster.prepare(&crds::all()?, &[SHOP, SOURCES, DATA_PLANE]).await?;
    apply(cluster, SHOP, &lease()).await
}

/// Gives a data plane exactly `count` datacenters.
pub async fn datacenters(cluster: &Cluster, plane: &str, count: usize) -> Result<()> {
    clear::<CassandraDatacenter>(cluster, SHOP, "").await?;
    apply_all(cluster, SHOP, (1..=count).map(|n| datacenter(&datacenter_name(plane, n))).collect()).await
}

/// Name of the `number`th datacenter of a data plane.
pub fn datacenter_name(plane: &str, number: usize) -> String {
    format!("{plane}-dc{number}")
}

/// Removes what earlier measurements left in a data plane.
pub async fn clean(cluster: &Cluster) -> Result<()> {
    clear::<MedusaBackupJob>(cluster, SHOP, "").await?;
    clear::<MedusaConfiguration>(cluster, SHOP, "").await?;
    clear::<Secret>(cluster, SHOP, "").await
}

/// Requests an API server has answered so far, by verb and resource.
#[derive(Clone, Debug, Default)]
pub struct Requests(pub BTreeMap<String, f64>);

impl Requests {
    /// Reads the API server's own count.
    pub async fn of(cluster: &Cluster) -> Result<Self> {
        let Answered { requests, .. } = cluster.answered().await?;
        let mut counts = BTreeMap::new();
        // The others were us.
        for (request, count) in requests.into_iter().filter(|(request, _)| request.subresource != "/metrics")
        {
            let (verb, resource, sub) =
                (&request.verb, request.resource.as_str(), request.subresource.as_str());
            let code = request.code.as_str();
            let code =
                if code.starts_with('2') || code == "0" { String::new() } else { format!(" → {code}") };
            let what = match (resource, sub) {
                ("", path) => format!("{verb} {path}{code}"),
                (resource, "") => format!("{verb} {resource}{code}"),
                (resource, sub) => format!("{verb} {resource}/{sub}{code}"),
            };
            *counts.entry(what).or_insert(0.0) += count;
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

    /// Those that write.
    pub fn writes(&self) -> Self {
        let written = self.0.iter().filter(|(what, _)| is_write(what));
        Self(written.map(|(what, count)| (what.clone(), *count)).collect())
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
