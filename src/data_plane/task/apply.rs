//! The changes of a sync, written one by one. Each is harmless to repeat, and a removal is of the very
//! version it was decided on.

use kube::{
    Api, Client,
    api::{Patch, Preconditions},
};
use serde_json::Value;

use super::sync_plan::SyncChange;
use crate::{
    api::medusa::{MedusaBackup, MedusaBackupJob, MedusaBackupStatus},
    data_plane::frame::{objects, outcome},
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
    change: &SyncChange,
    done: &mut Applied,
) -> Result<(), kube::Error> {
    let backups = Api::<MedusaBackup>::namespaced(client.clone(), namespace);
    let (name, written) = match change {
        SyncChange::Create(backup) => {
            let name = objects::name(backup.as_ref());
            (name, create(&backups, backup).await.map(|made| done.created += usize::from(made)))
        }
        SyncChange::Refresh { name, this, status } => {
            let patch = Patch::Merge(status_patch(this, status));
            let written = backups.patch_status(name, &objects::patch_params(), &patch).await;
            (name.as_str(), written.map(|_| done.refreshed += 1))
        }
        SyncChange::Remove { name, this, job } => {
            let jobs = Api::<MedusaBackupJob>::namespaced(client.clone(), namespace);
            let removed = remove(&backups, &jobs, name, this, job.as_ref()).await;
            (name.as_str(), removed.map(|()| done.removed += 1))
        }
    };
    match written {
        Ok(()) => Ok(()),
        // What was decided no longer holds; the next sync decides anew.
        Err(kube::Error::Api(answer)) if answer.is_conflict() || answer.is_not_found() => {
            done.notes.push(format!("{name}: changed while the storage was listed"));
            Ok(())
        }
        Err(error) => {
            let Some(why) = objects::refusal(&error) else { return Err(error) };
            let why = format!("MedusaBackup `{name}` cannot be written: {why}");
            tracing::warn!(namespace, name, why);
            done.refused.get_or_insert(why);
            Ok(())
        }
    }
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
    let patch = Patch::Merge(status_patch(&objects::this_version(&made.metadata), &status));
    backups.patch_status(objects::name(backup), &objects::patch_params(), &patch).await?;
    Ok(true)
}

/// The job first: once the MedusaBackup is gone nothing leads to it any more.
async fn remove(
    backups: &Api<MedusaBackup>,
    jobs: &Api<MedusaBackupJob>,
    name: &str,
    this: &Preconditions,
    job: Option<&Preconditions>,
) -> Result<(), kube::Error> {
    if let Some(job) = job {
        objects::delete(jobs, name, job.clone()).await?;
    }
    objects::delete(backups, name, this.clone()).await
}

/// Every field, so that none of an older status stays.
fn status_patch(this: &Preconditions, status: &MedusaBackupStatus) -> Value {
    let fields = [
        "startTime",
        "finishTime",
        "totalNodes",
        "finishedNodes",
        "nodes",
        "totalFiles",
        "totalSize",
        "status",
    ];
    outcome::patch(this.resource_version.as_deref().unwrap_or_default(), status, &fields)
}
