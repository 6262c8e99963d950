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
        problem::Problem,
    },
};

/// Writes the MedusaBackup of the job's name and its status, or completes the one that is there. The inner
/// error says that the name belongs to another datacenter, or that the API server will never take it.
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
            if existing.spec.cassandra_datacenter != job.spec.cassandra_datacenter
                && let Err(problem) = admit::name_is_free(&existing, &job.spec.cassandra_datacenter)
            {
                return Ok(Err(problem));
            }
        }
        Err(error) => match objects::refusal(&error) {
            Some(why) => return Ok(Err(refused(name(job), &why))),
            None => return Err(error),
        },
    }
    let patch = Patch::Merge(json!({"status": status}));
    match backups.patch_status(name(job), &patch_params(), &patch).await {
        Ok(_) => Ok(Ok(())),
        Err(error) => match objects::refusal(&error) {
            Some(why) => Ok(Err(refused(name(job), &why))),
            None => Err(error),
        },
    }
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
