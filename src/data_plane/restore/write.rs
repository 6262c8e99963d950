//! Everything a restore writes into the API server.
//!
//! Each write holds to the version it was decided on. A change of the datacenter and the annotation that
//! speaks of it are one write.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, api::Patch};
use serde_json::{Value, json};

use super::{
    machine::{Change, Orders},
    names, template,
    view::pod_spec,
};
use crate::{
    api::{
        cassandra::CassandraDatacenter,
        labels,
        medusa::{MedusaRestoreJob, MedusaRestoreJobStatus},
    },
    data_plane::{
        frame::{
            objects::{self, patch_params},
            outcome,
        },
        medusa::inputs::datacenters,
    },
};

/// The status as a merge patch that only applies to `version`.
#[must_use]
pub fn status_patch(version: &str, status: &MedusaRestoreJobStatus) -> Value {
    let fields = [
        "restorePrepared",
        "restoreMapping",
        "startTime",
        "finishTime",
        "datacenterStopped",
        "inProgress",
        "finished",
        "failed",
        "message",
        "conditions",
    ];
    outcome::patch(version, status, &fields)
}

/// Changes the datacenter `raw`.
///
/// # Errors
/// When the API server refuses, among others because the datacenter has changed.
pub async fn datacenter(
    client: &Client,
    job: &MedusaRestoreJob,
    raw: &Value,
    change: &Change,
) -> Result<(), kube::Error> {
    let status = job.status.clone().unwrap_or_default();
    let lock = serde_json::to_string(&change.lock).map_err(kube::Error::SerdeError)?;
    let mapping = serde_json::to_string(&status.restore_mapping).map_err(kube::Error::SerdeError)?;
    let orders = template::Orders { backup: &job.spec.backup, key: &status.restore_key, mapping: &mapping };
    let containers = match change.orders {
        Orders::Keep => None,
        Orders::Give => template::with(pod_spec(raw), orders),
        Orders::Take => template::without(pod_spec(raw)),
    };
    let patch = datacenter_patch(raw, Some(&lock), change.stopped, containers);
    patch_datacenter(client, job, patch).await
}

/// Takes the annotation off the datacenter `raw`.
///
/// # Errors
/// When the API server refuses, among others because the datacenter has changed.
pub async fn release(client: &Client, job: &MedusaRestoreJob, raw: &Value) -> Result<(), kube::Error> {
    let patch = json!({"metadata": {
        "resourceVersion": raw.pointer("/metadata/resourceVersion"),
        "annotations": {labels::RESTORE: null},
    }});
    patch_datacenter(client, job, patch).await
}

/// The change as a merge patch of only what differs, which only applies to the version `raw` has.
fn datacenter_patch(raw: &Value, lock: Option<&str>, stopped: bool, containers: Option<Value>) -> Value {
    let mut patch = json!({"metadata": {
        "resourceVersion": raw.pointer("/metadata/resourceVersion"),
        "annotations": {labels::RESTORE: lock},
    }});
    let mut spec = serde_json::Map::new();
    let old = raw.pointer("/spec/stopped").and_then(Value::as_bool);
    if old.unwrap_or_default() != stopped {
        spec.insert("stopped".to_owned(), stopped.into());
    }
    if let Some(containers) = containers
        && pod_spec(raw).get("initContainers") != Some(&containers)
    {
        spec.insert("podTemplateSpec".to_owned(), json!({"spec": {"initContainers": containers}}));
    }
    if let (false, Some(patch)) = (spec.is_empty(), patch.as_object_mut()) {
        patch.insert("spec".to_owned(), Value::Object(spec));
    }
    patch
}

async fn patch_datacenter(client: &Client, job: &MedusaRestoreJob, patch: Value) -> Result<(), kube::Error> {
    datacenters(client, objects::namespace(job))
        .patch(&job.spec.cassandra_datacenter, &patch_params(), &Patch::Merge(patch))
        .await
        .map(drop)
}

/// Puts our finalizer on the job, or takes it off.
///
/// # Errors
/// When the API server refuses, among others because the job has changed.
pub async fn finalizer(
    client: &Client,
    job: &MedusaRestoreJob,
    is_there: bool,
) -> Result<MedusaRestoreJob, kube::Error> {
    let mut all = job.metadata.finalizers.clone().unwrap_or_default();
    all.retain(|name| name != labels::RESTORE_FINALIZER);
    if is_there {
        all.push(labels::RESTORE_FINALIZER.to_owned());
    }
    let patch = json!({"metadata": {"resourceVersion": job.metadata.resource_version, "finalizers": all}});
    let jobs = Api::<MedusaRestoreJob>::namespaced(client.clone(), objects::namespace(job));
    jobs.patch(objects::name(job), &patch_params(), &Patch::Merge(patch)).await
}

/// Marks the Secrets of the superuser and of every user, so that cass-operator creates the users anew: the
/// restored tables may hold older passwords (upstream: Restores). Returns the names of Secrets that do not exist.
///
/// # Errors
/// When the API server refuses.
pub async fn refresh_users(
    client: &Client,
    dc: &CassandraDatacenter,
    begun: Timestamp,
) -> Result<Vec<String>, kube::Error> {
    let secrets =
        Api::<Secret>::namespaced(client.clone(), dc.metadata.namespace.as_deref().unwrap_or_default());
    let users = dc.spec.users.iter().map(|user| user.secret_name.clone()).filter(|name| !name.is_empty());
    let mut names: Vec<String> = users.chain([names::superuser_secret(dc)]).collect();
    names.sort();
    names.dedup();
    let patch = json!({"metadata": {"annotations": {labels::REFRESH: begun.to_string()}}});
    let mut missing = Vec::new();
    for name in names {
        match secrets.patch_metadata(&name, &patch_params(), &Patch::Merge(&patch)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => missing.push(name),
            Err(error) => return Err(error),
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> Value {
        json!({
            "metadata": {"resourceVersion": "7"},
            "spec": {"podTemplateSpec": {"spec": {"initContainers": [{"name": "medusa-restore"}]}}}
        })
    }

    #[test]
    fn a_patch_has_only_what_differs_and_the_version_it_was_made_from() {
        let nothing = datacenter_patch(&raw(), Some("{}"), false, None);
        assert_eq!(nothing["metadata"]["resourceVersion"], "7");
        assert_eq!(nothing["metadata"]["annotations"]["fleet.k8ssandra.io/restore"], "{}");
        assert!(nothing.get("spec").is_none());
        let stop = datacenter_patch(&raw(), Some("{}"), true, None);
        assert_eq!(stop["spec"], json!({"stopped": true}));
        let same = datacenter_patch(&raw(), None, false, Some(json!([{"name": "medusa-restore"}])));
        assert!(same.get("spec").is_none());
        let containers = json!([{"name": "medusa-restore", "env": []}]);
        let other = datacenter_patch(&raw(), None, false, Some(containers.clone()));
        assert_eq!(other["spec"], json!({"podTemplateSpec": {"spec": {"initContainers": containers}}}));
    }

    #[test]
    fn a_status_always_has_its_key_and_empties_lists() {
        let status =
            MedusaRestoreJobStatus { restore_key: "k".to_owned(), ..MedusaRestoreJobStatus::default() };
        let patch = status_patch("3", &status);
        assert_eq!(patch["status"]["restoreKey"], "k");
        assert!(patch["status"]["inProgress"].is_null());
        assert_eq!(patch["metadata"]["resourceVersion"], "3");
    }
}
