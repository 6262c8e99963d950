//! DataPlanes from labelled Secrets, and the one for the control plane's own cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, PostParams},
    core::{DeserializeGuard, ObjectMeta, PartialObjectMeta},
    runtime::{
        WatchStreamExt as _,
        reflector::{self},
        watcher,
    },
};

use crate::{
    api::{
        Reason,
        fleet::{DataPlane, DataPlaneSpec, KubeconfigSecretRef, LOCAL},
        labels,
    },
    runtime::events::Events,
};

/// Pause before a failed write is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// A DataPlane as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plane {
    /// The Secret it was made from by us, when it was.
    registered_from: Option<String>,
    /// The Secret it refers to.
    secret: Option<String>,
}

/// What to do about the labelled Secrets.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Make the DataPlane of this Secret.
    Register(String),
    /// Delete this DataPlane: its Secret is gone or not labelled any more.
    Unregister(String),
    /// The Secret cannot become a DataPlane.
    Refuse(String, Reason, String),
}

/// Pure plan: which DataPlanes to make and to delete.
fn plan(secrets: &BTreeSet<String>, planes: &BTreeMap<String, Plane>) -> Vec<Step> {
    let made = secrets.iter().filter_map(|secret| match planes.get(secret) {
        _ if secret == LOCAL => Some(Step::Refuse(
            secret.clone(),
            Reason::ReservedName,
            "a Secret called `local` cannot be registered: that name means the control plane's own cluster"
                .to_owned(),
        )),
        None => Some(Step::Register(secret.clone())),
        Some(plane) if plane.secret.as_ref() == Some(secret) => None,
        Some(_) => Some(Step::Refuse(
            secret.clone(),
            Reason::NameConflict,
            format!("DataPlane `{secret}` exists and refers to another Secret; rename this one"),
        )),
    });
    let gone = planes
        .iter()
        .filter(|(_, plane)| plane.registered_from.as_ref().is_some_and(|from| !secrets.contains(from)))
        .map(|(name, _)| Step::Unregister(name.clone()));
    made.chain(gone).collect()
}

/// Runs for ever.
pub async fn run(client: Client, namespace: String, events: Events) {
    let labelled = watcher::Config::default().labels(&format!("{}=true", labels::REGISTER));
    let (secrets, secrets_writer) = reflector::store();
    let secret_api: Api<PartialObjectMeta<Secret>> = Api::namespaced(client.clone(), &namespace);
    let mut secret_events = watcher(secret_api, labelled).default_backoff().reflect(secrets_writer).boxed();
    let (planes, planes_writer) = reflector::store();
    let plane_api: Api<DeserializeGuard<DataPlane>> = Api::namespaced(client.clone(), &namespace);
    let mut plane_events =
        watcher(plane_api, watcher::Config::default()).default_backoff().reflect(planes_writer).boxed();
    let api: Api<DataPlane> = Api::namespaced(client, &namespace);
    let mut ready = (false, false);
    let mut refused: BTreeSet<String> = BTreeSet::new();
    loop {
        let again = tokio::time::sleep(AGAIN);
        tokio::select! {
            event = secret_events.next() => match event {
                Some(Ok(watcher::Event::InitDone)) => ready.0 = true,
                Some(Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_))) => {}
                Some(Ok(watcher::Event::Init | watcher::Event::InitApply(_)) | Err(_)) => continue,
                None => return,
            },
            event = plane_events.next() => match event {
                Some(Ok(watcher::Event::InitDone)) => ready.1 = true,
                Some(Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_))) => {}
                Some(Ok(watcher::Event::Init | watcher::Event::InitApply(_)) | Err(_)) => continue,
                None => return,
            },
            () = again => {}
        }
        if ready != (true, true) {
            continue;
        }
        let labelled: BTreeSet<String> = secrets.state().iter().map(|s| s.name_any()).collect();
        let known: BTreeMap<String, Plane> =
            planes.state().iter().map(|plane| (plane.name_any(), describe(plane))).collect();
        refused.retain(|name| labelled.contains(name));
        for step in plan(&labelled, &known) {
            match step {
                Step::Register(secret) => register(&api, &secret).await,
                Step::Unregister(name) => {
                    if let Err(error) = api.delete(&name, &DeleteParams::default()).await {
                        tracing::warn!(data_plane = name, %error, "unregister");
                    }
                }
                Step::Refuse(secret, reason, note) => {
                    if refused.insert(secret.clone()) {
                        events.warning(secret_reference(&namespace, &secret), reason, "Register", note);
                    }
                }
            }
        }
    }
}

fn describe(plane: &Arc<DeserializeGuard<DataPlane>>) -> Plane {
    let deleting = plane.meta_deletion();
    let secret = plane.0.as_ref().ok().and_then(|p| p.spec.kubeconfig_secret_ref.clone()).map(|r| r.name);
    Plane {
        registered_from: plane.annotations().get(labels::REGISTERED_FROM).filter(|_| !deleting).cloned(),
        secret,
    }
}

trait Deletion {
    fn meta_deletion(&self) -> bool;
}

impl Deletion for Arc<DeserializeGuard<DataPlane>> {
    fn meta_deletion(&self) -> bool {
        use kube::Resource as _;
        self.meta().deletion_timestamp.is_some()
    }
}

fn secret_reference(namespace: &str, name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Secret".to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}

async fn register(api: &Api<DataPlane>, secret: &str) {
    let plane = DataPlane {
        metadata: ObjectMeta {
            name: Some(secret.to_owned()),
            annotations: Some(BTreeMap::from([(labels::REGISTERED_FROM.to_owned(), secret.to_owned())])),
            ..ObjectMeta::default()
        },
        spec: DataPlaneSpec {
            kubeconfig_secret_ref: Some(KubeconfigSecretRef { name: secret.to_owned(), key: None }),
            ..DataPlaneSpec::default()
        },
        status: None,
    };
    create(api, &plane).await;
}

async fn create(api: &Api<DataPlane>, plane: &DataPlane) {
    let params =
        PostParams { field_manager: Some(labels::MANAGER_CONTROL_PLANE.to_owned()), ..PostParams::default() };
    match api.create(&params, plane).await {
        Ok(_) => tracing::info!(data_plane = plane.name_any(), "registered"),
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => tracing::warn!(data_plane = plane.name_any(), %error, "register"),
    }
}

/// Makes the DataPlane of the control plane's own cluster, unless it is there.
///
/// # Errors
/// When the API server does not answer or the definition is not installed yet.
pub async fn ensure_local(client: Client, namespace: &str) -> Result<(), kube::Error> {
    let api: Api<DataPlane> = Api::namespaced(client, namespace);
    if api.get_metadata_opt(LOCAL).await?.is_none() {
        let plane = DataPlane {
            metadata: ObjectMeta { name: Some(LOCAL.to_owned()), ..ObjectMeta::default() },
            spec: DataPlaneSpec { local: Some(true), ..DataPlaneSpec::default() },
            status: None,
        };
        create(&api, &plane).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane(from: Option<&str>, secret: &str) -> Plane {
        Plane { registered_from: from.map(str::to_owned), secret: Some(secret.to_owned()) }
    }

    #[test]
    fn labelled_secrets_become_data_planes_and_go_with_them() {
        let secrets: BTreeSet<String> = ["new", "known", "taken", "local"].map(str::to_owned).into();
        let planes = BTreeMap::from([
            ("known".to_owned(), plane(Some("known"), "known")),
            ("taken".to_owned(), plane(None, "other")),
            ("gone".to_owned(), plane(Some("gone"), "gone")),
            ("mine".to_owned(), plane(None, "unlabelled")),
        ]);
        let steps = plan(&secrets, &planes);
        assert!(steps.contains(&Step::Register("new".to_owned())));
        assert!(steps.contains(&Step::Unregister("gone".to_owned())));
        assert!(steps.iter().any(|s| matches!(s, Step::Refuse(n, Reason::NameConflict, _) if n == "taken")));
        assert!(steps.iter().any(|s| matches!(s, Step::Refuse(n, Reason::ReservedName, _) if n == "local")));
        assert_eq!(steps.len(), 4);
    }
}
