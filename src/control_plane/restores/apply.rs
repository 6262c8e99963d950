//! Writes what a pass decided, all data planes at once; one outcome each.

use futures::future::join_all;
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{execute::WriteOutcome, machine::RestoreWrite, sweep::Chore};
use crate::{
    api::{
        labels,
        medusa::{MedusaRestoreJob, MedusaTask},
    },
    control_plane::{
        data_planes::{
            fleet::{Fleet, Snapshot},
            remote::{CallError, Remote},
            view::ObjectKey,
        },
        runs::{
            child::{Child, ExactObject},
            write::{CreatedChild, delete, make, not_now, show},
        },
    },
};

/// What became of one write: the data plane and the object it is about, and the outcome.
pub(super) type Done = (String, ObjectKey, WriteOutcome);

/// Tries every action. What was made is put into the views at once.
pub(super) async fn apply(actions: Vec<RestoreWrite>, planes: &[Snapshot], fleet: &Fleet) -> Vec<Done> {
    let writes = actions.into_iter().filter_map(|action| {
        let plane = planes.iter().find(|p| p.name == action.data_plane())?;
        let remote = plane.remote.clone()?;
        Some(async move { one(action, &remote, fleet).await })
    });
    join_all(writes).await
}

async fn one(action: RestoreWrite, remote: &Remote, fleet: &Fleet) -> Done {
    match action {
        RestoreWrite::Sync(data_plane, task) => made(remote, fleet, data_plane, *task).await,
        RestoreWrite::Restore(data_plane, job) => made(remote, fleet, data_plane, *job).await,
        RestoreWrite::CallOff(object) => {
            let called_off = delete::<MedusaRestoreJob>(remote, &object).await;
            let outcome = match unless_stale(called_off) {
                Ok(()) => WriteOutcome::CalledOff,
                Err(error) => {
                    let (reason, message) = not_now(&error);
                    WriteOutcome::NotNow(reason, message)
                }
            };
            (object.data_plane, object.key, outcome)
        }
    }
}

async fn made<C: Child>(remote: &Remote, fleet: &Fleet, data_plane: String, child: C) -> Done {
    let outcome = match make(remote, &child).await {
        CreatedChild::Ours(object) => {
            let uid = object.uid().unwrap_or_default();
            show(fleet, &data_plane, *object);
            WriteOutcome::There(uid)
        }
        CreatedChild::Foreign => WriteOutcome::Conflict,
        CreatedChild::NotNow(reason, message) => WriteOutcome::NotNow(reason, message),
    };
    (data_plane, ObjectKey::of(&child), outcome)
}

/// Does what [`super::sweep`] found to be done.
pub(super) async fn clear(object: &ExactObject, chore: Chore, remote: &Remote) -> Result<(), CallError> {
    unless_stale(match chore {
        Chore::LetGo(finalizers) => let_go(remote, object, finalizers).await,
        Chore::DeleteRestore => delete::<MedusaRestoreJob>(remote, object).await,
        Chore::DeleteTask => delete::<MedusaTask>(remote, object).await,
    })
}

/// Leaves a MedusaRestoreJob only these finalizers, if it is still that version.
async fn let_go(remote: &Remote, object: &ExactObject, finalizers: Vec<String>) -> Result<(), CallError> {
    let ExactObject { key, uid, version, .. } = object;
    let patch = json!({"metadata": {"uid": uid, "resourceVersion": version, "finalizers": finalizers}});
    let params = PatchParams {
        field_manager: Some(labels::MANAGER_CONTROL_PLANE.to_owned()),
        ..PatchParams::default()
    };
    remote
        .call(|client| async {
            let api = Api::<MedusaRestoreJob>::namespaced(client, &key.namespace);
            api.patch_metadata(&key.name, &params, &Patch::Merge(&patch)).await.map(drop)
        })
        .await
}

/// That an object is gone or has changed is no error: the next pass sees what is there.
fn unless_stale(answer: Result<(), CallError>) -> Result<(), CallError> {
    match answer {
        Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(()),
        answer => answer,
    }
}
