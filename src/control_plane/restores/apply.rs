//! Writes what a pass decided, all data planes at once; one outcome each.

use std::fmt::Debug;

use futures::future::join_all;
use kube::{
    Api, Resource, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::{
    execute::Outcome,
    machine::Action,
    sweep::{Chore, Leftover},
};
use crate::{
    api::{
        Reason, labels,
        medusa::{MedusaRestoreJob, MedusaTask},
    },
    control_plane::{
        fleet::{Fleet, Snapshot},
        registry::remote::{CallError, Remote},
        view::ObjectKey,
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
        Action::Sync(data_plane, task) => {
            let key = ObjectKey::of(&*task);
            let outcome = made(make(remote, &*task).await).0;
            Done { data_plane, key, outcome }
        }
        Action::Restore(data_plane, job) => {
            let key = ObjectKey::of(&*job);
            let (outcome, object) = made(make(remote, &*job).await);
            if let (Some(object), Some(member)) = (object, fleet.member(&data_plane)) {
                member.view.update(|view| {
                    view.restores.items.entry(key.clone()).or_insert_with(|| std::sync::Arc::new(object));
                });
            }
            Done { data_plane, key, outcome }
        }
        Action::CallOff { data_plane, key, uid, version } => {
            let outcome = match delete::<MedusaRestoreJob>(remote, &key, uid, version).await {
                Ok(()) => Outcome::CalledOff,
                Err(error) => not_now(&error),
            };
            Done { data_plane, key, outcome }
        }
    }
}

enum Made<K> {
    Ours(K),
    Foreign,
    NotNow(Outcome),
}

fn made<K: kube::ResourceExt>(made: Made<K>) -> (Outcome, Option<K>) {
    match made {
        Made::Ours(object) => (Outcome::There(object.uid().unwrap_or_default()), Some(object)),
        Made::Foreign => (Outcome::Conflict, None),
        Made::NotNow(outcome) => (outcome, None),
    }
}

async fn make<K>(remote: &Remote, child: &K) -> Made<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let namespace = child.namespace().unwrap_or_default();
    let params =
        PostParams { field_manager: Some(labels::MANAGER_CONTROL_PLANE.to_owned()), ..PostParams::default() };
    let answer = remote
        .call(|client| async { Api::<K>::namespaced(client, &namespace).create(&params, child).await })
        .await;
    match answer {
        Ok(made) => return Made::Ours(made),
        Err(error) if error.code() == Some(409) => {}
        Err(error) => return Made::NotNow(not_now(&error)),
    }
    // The name is in use: by our own, made before a crash or by another leader, or by a stranger's.
    let found = remote
        .call(|client| async { Api::<K>::namespaced(client, &namespace).get_opt(&child.name_any()).await })
        .await;
    match found {
        Ok(Some(found)) if found.labels().get(labels::JOB_UID) == child.labels().get(labels::JOB_UID) => {
            Made::Ours(found)
        }
        Ok(Some(_)) => Made::Foreign,
        Ok(None) => {
            Made::NotNow(Outcome::NotNow(Reason::Pending, "the name was in use a moment ago".to_owned()))
        }
        Err(error) => Made::NotNow(not_now(&error)),
    }
}

/// Does what [`super::sweep`] found to be done.
///
/// # Errors
/// When the API server refuses or does not answer.
pub(super) async fn clear(left: Leftover, remote: &Remote) -> Result<(), CallError> {
    let Leftover { key, uid, version, .. } = left;
    match left.chore {
        Chore::LetGo(finalizers) => let_go(remote, &key, uid, version, finalizers).await,
        Chore::DeleteRestore => delete::<MedusaRestoreJob>(remote, &key, uid, version).await,
        Chore::DeleteTask => delete::<MedusaTask>(remote, &key, uid, version).await,
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

/// Deletes one version of an object.
async fn delete<K>(remote: &Remote, key: &ObjectKey, uid: String, version: String) -> Result<(), CallError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let params = DeleteParams::default()
        .preconditions(Preconditions { uid: Some(uid), resource_version: Some(version) });
    let answer = remote
        .call(|client| async {
            Api::<K>::namespaced(client, &key.namespace).delete(&key.name, &params).await
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

fn not_now(error: &CallError) -> Outcome {
    match error.status() {
        Some(status) => {
            Outcome::NotNow(Reason::WriteRefused, format!("the API server answered: {}", status.message))
        }
        None => Outcome::NotNow(Reason::DataPlaneUnreachable, error.to_string()),
    }
}
