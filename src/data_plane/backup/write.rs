//! Everything a backup writes into the API server, in order: owner, claim, progress, MedusaBackup, end.
//!
//! Each write is harmless to repeat, and each write to the job holds to the version it was decided on, so
//! that of two controllers only one gets through.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Client, Resource as _,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{admit, admit::Problem};
use crate::api::{
    cassandra::CassandraDatacenter,
    labels,
    medusa::{MedusaBackup, MedusaBackupJob, MedusaBackupSpec, MedusaBackupStatus},
};

/// Makes the job go when its datacenter goes, unless it has an owner already.
///
/// # Errors
/// When the API server refuses, among others because the job has changed.
pub async fn own(
    client: &Client,
    job: &MedusaBackupJob,
    datacenter: &CassandraDatacenter,
) -> Result<MedusaBackupJob, kube::Error> {
    if job.metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty()) {
        return Ok(job.clone());
    }
    let owner = OwnerReference {
        api_version: CassandraDatacenter::api_version(&()).into_owned(),
        kind: CassandraDatacenter::kind(&()).into_owned(),
        name: datacenter.metadata.name.clone().unwrap_or_default(),
        uid: datacenter.metadata.uid.clone().unwrap_or_default(),
        controller: None,
        block_owner_deletion: None,
    };
    let patch = json!({"metadata": {
        "resourceVersion": job.metadata.resource_version,
        "ownerReferences": [owner],
    }});
    jobs(client, job).patch(name(job), &params(), &Patch::Merge(patch)).await
}

/// Writes the job's status; `patch` holds the version it applies to.
///
/// # Errors
/// When the API server refuses, among others because the job has changed.
pub async fn job_status(
    client: &Client,
    job: &MedusaBackupJob,
    patch: &Value,
) -> Result<MedusaBackupJob, kube::Error> {
    jobs(client, job).patch_status(name(job), &params(), &Patch::Merge(patch)).await
}

/// Writes the MedusaBackup of the job's name and its status, or completes the one that is there. The inner
/// error says that the name belongs to another datacenter.
///
/// # Errors
/// When the API server refuses.
pub async fn backup(
    client: &Client,
    job: &MedusaBackupJob,
    datacenter: &CassandraDatacenter,
    status: &MedusaBackupStatus,
) -> Result<Result<(), Problem>, kube::Error> {
    let backups = Api::<MedusaBackup>::namespaced(client.clone(), namespace(job));
    let new = MedusaBackup {
        metadata: ObjectMeta {
            name: job.metadata.name.clone(),
            namespace: job.metadata.namespace.clone(),
            labels: Some(backup_labels(job, datacenter)),
            ..ObjectMeta::default()
        },
        spec: MedusaBackupSpec {
            cassandra_datacenter: job.spec.cassandra_datacenter.clone(),
            backup_type: job.spec.backup_type,
        },
        status: None,
    };
    let create =
        PostParams { field_manager: Some(labels::MANAGER_DATA_PLANE.to_owned()), ..PostParams::default() };
    match backups.create(&create, &new).await {
        Ok(_) => {}
        Err(kube::Error::Api(answer)) if answer.is_already_exists() => {
            let existing = backups.get(name(job)).await?;
            // One of this datacenter is ours, begun before a restart, or was made from the storage by a
            // sync in the meantime: the name was free when the run was claimed.
            if existing.spec.cassandra_datacenter != job.spec.cassandra_datacenter
                && let Err(problem) = admit::name_is_free(&existing, &job.spec.cassandra_datacenter)
            {
                return Ok(Err(problem));
            }
        }
        Err(error) => return Err(error),
    }
    backups.patch_status(name(job), &params(), &Patch::Merge(json!({"status": status}))).await?;
    Ok(Ok(()))
}

/// cass-operator's two labels, so that a backup is found by its datacenter, and what the control plane put
/// on the job, so that it recognises the backup as its own.
fn backup_labels(job: &MedusaBackupJob, datacenter: &CassandraDatacenter) -> BTreeMap<String, String> {
    let domain = format!("{}/", labels::DOMAIN);
    let mut all: BTreeMap<String, String> = job
        .metadata
        .labels
        .iter()
        .flatten()
        .filter(|(key, _)| key.starts_with(&domain))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    all.extend(datacenter.datacenter_labels());
    all
}

/// Whether an error only says that somebody else was faster.
#[must_use]
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_conflict())
}

/// The job as the API server has it now, if it still exists.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn reread(client: &Client, job: &MedusaBackupJob) -> Result<Option<MedusaBackupJob>, kube::Error> {
    let fresh = jobs(client, job).get_opt(name(job)).await?;
    Ok(fresh.filter(|fresh| fresh.metadata.uid == job.metadata.uid))
}

fn jobs(client: &Client, job: &MedusaBackupJob) -> Api<MedusaBackupJob> {
    Api::namespaced(client.clone(), namespace(job))
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some(labels::MANAGER_DATA_PLANE.to_owned()), ..PatchParams::default() }
}

fn name(job: &MedusaBackupJob) -> &str {
    job.metadata.name.as_deref().unwrap_or_default()
}

fn namespace(job: &MedusaBackupJob) -> &str {
    job.metadata.namespace.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_bears_the_datacenters_labels_and_the_fleets() {
        let job: MedusaBackupJob = serde_json::from_value(json!({
            "metadata": {"name": "b1", "labels": {
                "fleet.k8ssandra.io/job": "nightly", "app": "x", labels::CASSANDRA_CLUSTER: "wrong"
            }},
            "spec": {"cassandraDatacenter": "dc1"}
        }))
        .unwrap();
        let dc = serde_json::from_value(json!({
            "metadata": {"name": "dc1"}, "spec": {"clusterName": "First Cluster"}
        }))
        .unwrap();
        let labels: Vec<(String, String)> = backup_labels(&job, &dc).into_iter().collect();
        let expected = [
            (labels::CASSANDRA_CLUSTER, "FirstCluster"),
            (labels::CASSANDRA_DATACENTER, "dc1"),
            ("fleet.k8ssandra.io/job", "nightly"),
        ];
        assert_eq!(labels, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }
}
