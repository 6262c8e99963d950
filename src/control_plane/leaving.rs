//! The end of the control plane's own namespace, deleted with everything in it: what waits there for this controller is let
//! go, whoever leads.
//!
//! Kubernetes deletes the Lease, the Secrets and the rights with all else, in any order, and nothing can be made there any
//! more: nobody can be elected. So this does not pass the fence. It takes nothing but our finalizers off, and only of what
//! is being deleted in a namespace that is. Copies and schedules in data planes stay where they could not be taken back in
//! time: the log names them, as no Event can be written.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
    core::PartialObjectMeta,
};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    api::{
        fleet::{DataPlane, FleetBackupJob, FleetBackupSchedule, FleetTask},
        labels,
    },
    runtime::follow::Followed,
};

/// Pause between two looks at the namespace.
const LOOK: Duration = Duration::from_secs(5);
/// How long a leader has for taking back what is in data planes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs for ever. `client` does not pass the fence.
pub(super) async fn run(client: Client, namespace: String) {
    let mut since = None;
    loop {
        tokio::time::sleep(LOOK).await;
        // Where it may not be asked, as with an older Role, nothing is concluded.
        let found = Api::<Namespace>::all(client.clone()).get_metadata_opt(&namespace).await;
        let is_ending =
            found.ok().flatten().is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some());
        if !is_ending {
            since = None;
            continue;
        }
        if since.get_or_insert_with(Instant::now).elapsed() < PATIENCE {
            continue;
        }
        let_go::<FleetBackupJob>(&client, &namespace, "nothing: it had not begun").await;
        let_go::<FleetTask>(&client, &namespace, "nothing: it had not begun").await;
        let_go::<FleetBackupSchedule>(
            &client,
            &namespace,
            "its MedusaBackupSchedules, which go on in the data planes that did not answer",
        )
        .await;
        let_go::<DataPlane>(
            &client,
            &namespace,
            "copies of Secrets and configurations, if any are still there",
        )
        .await;
    }
}

/// Takes our finalizers off what is being deleted of a kind. `left` is what that may leave behind.
async fn let_go<K: Followed>(client: &Client, namespace: &str, left: &str) {
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let kind = K::kind(&());
    let listed = match api.list_metadata(&ListParams::default()).await {
        Ok(listed) => listed,
        Err(error) => return tracing::warn!(%kind, %error, "cannot let go of what the namespace ends with"),
    };
    for object in &listed.items {
        let Some(rest) = without_ours(object) else { continue };
        // Without them the patch would be for whatever has the name.
        let (Some(uid), Some(version)) = (&object.metadata.uid, &object.metadata.resource_version) else {
            continue;
        };
        let patch = json!({"metadata": {"uid": uid, "resourceVersion": version, "finalizers": rest}});
        let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE);
        let name = object.name_any();
        match api.patch_metadata(&name, &params, &Patch::Merge(&patch)).await {
            Ok(_) => tracing::warn!(%kind, name, left, "let go of, as the namespace ends; left behind"),
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => {}
            Err(error) => {
                tracing::warn!(%kind, name, %error, "cannot let go of what the namespace ends with");
            }
        }
    }
}

/// The finalizers of others on an object that is being deleted and waits for one of ours; `None` for any other object.
fn without_ours<K>(object: &PartialObjectMeta<K>) -> Option<Vec<String>> {
    object.metadata.deletion_timestamp.as_ref()?;
    let all = object.metadata.finalizers.as_deref().unwrap_or_default();
    let is_ours = |finalizer: &String| {
        [labels::FINALIZER, labels::DELEGATED, labels::HELD].contains(&finalizer.as_str())
    };
    all.iter().any(is_ours).then(|| all.iter().filter(|finalizer| !is_ours(finalizer)).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_being_deleted_and_waits_for_us_is_let_go() {
        let object = |deleted: bool, finalizers: &[&str]| -> PartialObjectMeta<DataPlane> {
            let at = deleted.then_some("2026-01-01T00:00:00Z");
            let metadata = json!({"name": "eu", "deletionTimestamp": at, "finalizers": finalizers});
            serde_json::from_value(json!({"metadata": metadata})).unwrap()
        };
        let all = ["foregroundDeletion", labels::FINALIZER, labels::DELEGATED, labels::HELD];
        assert_eq!(without_ours(&object(true, &all)), Some(vec!["foregroundDeletion".to_owned()]));
        assert_eq!(without_ours(&object(false, &all)), None);
        assert_eq!(without_ours(&object(true, &all[..1])), None, "it waits for somebody else");
        assert_eq!(without_ours(&object(true, &[])), None);
    }
}
