//! Writes what a pass decided, all data planes at once; one outcome each.

use futures::future::join_all;
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    execute::Outcome,
    machine::Action,
    sweep::{Chore, Leftover},
};
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
            child::Child,
            write::{Made, delete, make, not_now, show},
        },
    },
};

/// What became of one write.
pub(super) struct Done {
    /// The data plane.
    pub(super) data_plane: String,
    /// The object.
    pub(super) key: ObjectKey,
    /// What became of it.
    pub(super) outcome: Outcome,
}

/// Tries every action. What was made is put into the views at once.
pub(super) async fn apply(actions: Vec<Action>, planes: &[Snapshot], fleet: &Fleet) -> Vec<Done> {
    let writes = actions.into_iter().filter_map(|action| {
        let plane = planes.iter().find(|p| p.name == action.data_plane())?;
        let remote = plane.remote.clone()?;
        Some(async move { one(action, &remote, fleet).await })
    });
    join_all(writes).await
}

async fn one(action: Action, remote: &Remote, fleet: &Fleet) -> Done {
    match action {
        Action::Sync(data_plane, task) => made(remote, fleet, data_plane, *task).await,
        Action::Restore(data_plane, job) => made(remote, fleet, data_plane, *job).await,
        Action::CallOff { data_plane, key, uid, version } => {
            let called_off = delete::<MedusaRestoreJob>(remote, &key, &uid, &version).await;
            let outcome = match unless_stale(called_off) {
                Ok(()) => Outcome::CalledOff,
                Err(error) => {
                    let (reason, message) = not_now(&error);
                    Outcome::NotNow(reason, message)
                }
            };
            Done { data_plane, key, outcome }
        }
    }
}

async fn made<C: Child>(remote: &Remote, fleet: &Fleet, data_plane: String, child: C) -> Done {
    let outcome = match make(remote, &child).await {
        Made::Ours(object) => {
            let uid = object.uid().unwrap_or_default();
            show(fleet, &data_plane, *object);
            Outcome::There(uid)
        }
        Made::Foreign => Outcome::Conflict,
        Made::NotNow(reason, message) => Outcome::NotNow(reason, message),
    };
    Done { data_plane, key: ObjectKey::of(&child), outcome }
}

/// Does what [`super::sweep`] found to be done.
///
/// # Errors
/// When the API server refuses or does not answer.
pub(super) async fn clear(left: Leftover, remote: &Remote) -> Result<(), CallError> {
    let Leftover { key, uid, version, .. } = left;
    match left.chore {
        Chore::LetGo(finalizers) => let_go(remote, &key, uid, version, finalizers).await,
        Chore::DeleteRestore => unless_stale(delete::<MedusaRestoreJob>(remote, &key, &uid, &version).await),
        Chore::DeleteTask => unless_stale(delete::<MedusaTask>(remote, &key, &uid, &version).await),
    }
}

/// Leaves a MedusaRestoreJob only these finalizers, if it is still that version.
async fn let_go(
    remote: &Remote,
    key: &ObjectKey,
    uid: String,
    version: String,
    finalizers: Vec<String>,
) -> Result<(), CallError> {
    let patch = json!({"metadata": {"uid": uid, "resourceVersion": version, "finalizers": finalizers}});
    let params = PatchParams {
        field_manager: Some(labels::MANAGER_CONTROL_PLANE.to_owned()),
        ..PatchParams::default()
    };
    let answer = remote
        .call(|client| async {
            let api = Api::<MedusaRestoreJob>::namespaced(client, &key.namespace);
            api.patch_metadata(&key.name, &params, &Patch::Merge(&patch)).await
        })
        .await;
    unless_stale(answer)
}

/// That an object is gone or has changed is no error: the next pass sees.
fn unless_stale<T>(answer: Result<T, CallError>) -> Result<(), CallError> {
    match answer {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(()),
        Err(error) => Err(error),
    }
}
