//! The MedusaBackup of a run that ended well. Writing it is harmless to repeat.

use std::collections::BTreeMap;

use kube::{
    Api, Client,
    api::{ObjectMeta, Patch},
};
use serde_json::json;

use super::admit;
use crate::{
    api::{
        cassandra::CassandraDatacenter,
        labels,
        medusa::{MedusaBackup, MedusaBackupJob, MedusaBackupSpec, MedusaBackupStatus},
    },
    data_plane::{
        objects::{self, name, namespace, patch_params},
        problem::Problem,
    },
};

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
    match backups.create(&objects::post_params(), &new).await {
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
    backups.patch_status(name(job), &patch_params(), &Patch::Merge(json!({"status": status}))).await?;
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
