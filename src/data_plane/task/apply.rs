//! The changes of a sync, written one by one. Each is harmless to repeat, and a removal is of the very
//! version it was decided on.

use kube::{
    Api, Client,
    api::{DeleteParams, Patch, Preconditions},
    core::NamespaceResourceScope,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::sync_plan::{Change, This};
use crate::{
    api::medusa::{MedusaBackup, MedusaBackupJob, MedusaBackupStatus},
    data_plane::objects,
};

/// What was done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// MedusaBackups made.
    pub created: usize,
    /// MedusaBackups whose status was rewritten.
    pub refreshed: usize,
    /// MedusaBackups removed.
    pub removed: usize,
    /// What was left alone because it had changed meanwhile.
    pub notes: Vec<String>,
    /// The first write that the API server refused for good, and why.
    pub refused: Option<String>,
}

/// Makes one change and notes it in `done`.
///
/// # Errors
/// When the API server cannot be asked, or cannot say yet.
pub async fn change(
    client: &Client,
    namespace: &str,
    change: &Change,
    done: &mut Applied,
) -> Result<(), kube::Error> {
    let backups = Api::<MedusaBackup>::namespaced(client.clone(), namespace);
    let (name, written) = match change {
        Change::Create(backup) => {
            let name = objects::name(backup.as_ref());
            (name, create(&backups, backup).await.map(|made| done.created += usize::from(made)))
        }
        Change::Refresh { name, this, status } => {
            let patch = Patch::Merge(status_patch(this, status));
            let written = backups.patch_status(name, &objects::patch_params(), &patch).await;
            (name.as_str(), written.map(|_| done.refreshed += 1))
        }
        Change::Remove { name, this, job } => {
            let jobs = Api::<MedusaBackupJob>::namespaced(client.clone(), namespace);
            (
                name.as_str(),
                remove(&backups, &jobs, name, this, job.as_ref()).await.map(|()| done.removed += 1),
            )
        }
    };
    match written {
        Ok(()) => Ok(()),
        // What was decided no longer holds; the next sync decides anew.
        Err(kube::Error::Api(answer)) if answer.is_conflict() || answer.is_not_found() => {
            done.notes.push(format!("{name}: changed while the storage was listed"));
            Ok(())
        }
        Err(kube::Error::Api(answer)) if is_final(answer.code) => {
            let why = format!("MedusaBackup `{name}` cannot be written: {}", answer.message);
            tracing::warn!(namespace, name, why);
            done.refused.get_or_insert(why);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Refusals that no repetition changes: forbidden, too large, invalid.
fn is_final(code: u16) -> bool {
    matches!(code, 400 | 403 | 413 | 422)
}

/// Says whether it was made here; somebody else may have just made it.
async fn create(backups: &Api<MedusaBackup>, backup: &MedusaBackup) -> Result<bool, kube::Error> {
    let mut bare = backup.clone();
    let status = bare.status.take().unwrap_or_default();
    let made = match backups.create(&objects::post_params(), &bare).await {
        Ok(made) => made,
        Err(kube::Error::Api(answer)) if answer.is_already_exists() => {
            let existing = backups.get(objects::name(backup)).await?;
            let is_empty = existing.status.as_ref().is_none_or(|s| *s == MedusaBackupStatus::default());
            if existing.spec.cassandra_datacenter != backup.spec.cassandra_datacenter || !is_empty {
                return Ok(false);
            }
            existing
        }
        Err(error) => return Err(error),
    };
    let this = This { uid: made.metadata.uid, resource_version: made.metadata.resource_version };
    let patch = Patch::Merge(status_patch(&this, &status));
    backups.patch_status(objects::name(backup), &objects::patch_params(), &patch).await?;
    Ok(true)
}

/// The job first: once the MedusaBackup is gone nothing leads to it any more.
async fn remove(
    backups: &Api<MedusaBackup>,
    jobs: &Api<MedusaBackupJob>,
    name: &str,
    this: &This,
    job: Option<&This>,
) -> Result<(), kube::Error> {
    if let Some(job) = job {
        delete(jobs, name, job).await?;
    }
    delete(backups, name, this).await
}

async fn delete<K>(api: &Api<K>, name: &str, this: &This) -> Result<(), kube::Error>
where
    K: kube::Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let preconditions =
        Preconditions { uid: this.uid.clone(), resource_version: this.resource_version.clone() };
    match api.delete(name, &DeleteParams::default().preconditions(preconditions)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(answer)) if answer.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

fn status_patch(this: &This, status: &MedusaBackupStatus) -> Value {
    json!({"metadata": {"resourceVersion": this.resource_version}, "status": {
        "startTime": status.start_time,
        "finishTime": status.finish_time,
        "totalNodes": status.total_nodes,
        "finishedNodes": status.finished_nodes,
        "nodes": status.nodes,
        "totalFiles": status.total_files,
        "totalSize": status.total_size,
        "status": status.status,
    }})
}
