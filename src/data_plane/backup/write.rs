//! The MedusaBackup of a run that ended well. Writing it is harmless to repeat.

use kube::{
    Api, Client,
    api::{ObjectMeta, Patch},
};
use serde_json::json;

use super::admit;
use crate::{
    api::{
        Reason,
        cassandra::CassandraDatacenter,
        medusa::{MedusaBackup, MedusaBackupJob, MedusaBackupSpec, MedusaBackupStatus},
    },
    data_plane::frame::{
        objects::{self, name, namespace, patch_params},
        problem::{Obstacle, Problem},
    },
};

/// Writes the MedusaBackup of the job's name and its status, or completes the one that is there.
///
/// # Errors
/// When the API server cannot be asked. It is a problem when the name belongs to another datacenter, or when the API server
/// will never take the MedusaBackup.
pub async fn backup(
    client: &Client,
    job: &MedusaBackupJob,
    datacenter: &CassandraDatacenter,
    status: &MedusaBackupStatus,
) -> Result<(), Obstacle> {
    let backups = Api::<MedusaBackup>::namespaced(client.clone(), namespace(job));
    let new = MedusaBackup {
        metadata: ObjectMeta {
            name: job.metadata.name.clone(),
            namespace: job.metadata.namespace.clone(),
            labels: Some(objects::own_labels(job, datacenter)),
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
            if existing.spec.cassandra_datacenter != job.spec.cassandra_datacenter {
                admit::name_is_free(&existing, &job.spec.cassandra_datacenter)?;
            }
        }
        Err(error) => return Err(objects::refused(error, |why| refused(name(job), why))),
    }
    let patch = Patch::Merge(json!({"status": status}));
    let written = backups.patch_status(name(job), &patch_params(), &patch).await;
    written.map(drop).map_err(|error| objects::refused(error, |why| refused(name(job), why)))
}

/// The data is in the storage; what tells of it cannot be.
fn refused(name: &str, why: &str) -> Problem {
    Problem::for_good(
        Reason::WriteRefused,
        format!(
            "the nodes have made the backup, but the API server refuses MedusaBackup `{name}`: {why}. When that is \
             mended, a MedusaTask `sync` makes it"
        ),
    )
}
