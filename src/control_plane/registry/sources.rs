//! DataPlanes from labelled Secrets and ClientConfigs, and the one for the control plane's own cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::{DeserializeGuard, ObjectMeta, PartialObjectMeta},
    runtime::{WatchStreamExt as _, reflector, watcher},
};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    controller::RegistryContext,
    registration::{Asking, Plane, Refused, RegistrationStep, Request, plan, rejected},
};
use crate::{
    api::{
        Reason, Why,
        fleet::{DataPlane, DataPlaneSpec, LOCAL, RegisteredFrom, RegisteredFrom as Origin},
        k8ssandra::ClientConfig,
        labels,
    },
    control_plane::{
        data_planes::{remote::in_time, view::ObjectKey},
        sources::Kept,
    },
    runtime::backoff::Backoff,
};

/// First and longest pause before a failed write is tried again.
const AGAIN: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_mins(2);
/// How long news are gathered: a large fleet's DataPlanes change all at once, such as at a start.
const GATHER: Duration = Duration::from_millis(200);
/// How long after a DataPlane was made the watch may take to show it.
const SHOWN: Duration = Duration::from_secs(15);
/// How many DataPlanes are written at a time.
const WRITES: usize = 16;

/// DataPlane to why others that ask for its name are not heard.
pub(super) type RejectedRegistrations = BTreeMap<String, Why>;

/// Runs for ever. `tell` is told who is not heard.
pub(super) async fn run(context: &RegistryContext, tell: watch::Sender<RejectedRegistrations>) {
    let namespace = &context.namespace;
    let labelled = watcher::Config::default().labels(&format!("{}=true", labels::REGISTER));
    let (secrets, secrets_writer) = reflector::store();
    let secret_api: Api<PartialObjectMeta<Secret>> = Api::namespaced(context.client.clone(), namespace);
    let mut secret_events = watcher(secret_api, labelled)
        .default_backoff()
        .modify(|secret| secret.metadata.managed_fields = None)
        .reflect(secrets_writer)
        .boxed();
    let (planes, planes_writer) = reflector::store();
    let plane_api: Api<DeserializeGuard<DataPlane>> = Api::namespaced(context.client.clone(), namespace);
    let mut plane_events = watcher(plane_api, watcher::Config::default())
        .default_backoff()
        .modify(|plane| plane.meta_mut().managed_fields = None)
        .reflect(planes_writer)
        .boxed();
    let mut client_configs = context.sources.changes();
    let mut writes = Writes {
        api: Api::namespaced(context.client.clone(), namespace),
        context,
        backoff: Backoff::new(AGAIN, LONGEST),
        not_before: BTreeMap::new(),
    };
    let mut ready = (false, false);
    let mut refused: Vec<(Option<String>, Refused)> = Vec::new();
    let mut at = Instant::now() + AGAIN;
    loop {
        tokio::select! {
            event = secret_events.next() => match event {
                Some(Ok(watcher::Event::InitDone)) => ready.0 = true,
                Some(Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_))) => {}
                Some(Ok(watcher::Event::Init | watcher::Event::InitApply(_))) => continue,
                Some(Err(error)) => {
                    tracing::debug!(%error, "watch of the labelled Secrets interrupted");
                    continue;
                }
                None => return,
            },
            event = plane_events.next() => match event {
                Some(Ok(watcher::Event::InitDone)) => ready.1 = true,
                Some(Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_))) => {}
                Some(Ok(watcher::Event::Init | watcher::Event::InitApply(_)) | Err(_)) => continue,
                None => return,
            },
            Ok(()) = client_configs.changed() => {}
            () = sleep_until(at) => {
                at = Instant::now() + AGAIN;
                if ready.1 {
                    let labelled: Option<BTreeSet<String>> =
                        ready.0.then(|| secrets.state().iter().map(|s| s.name_any()).collect());
                    let configs = context.sources.client_configs();
                    let asking = Asking::new(namespace, labelled.as_ref(), &configs, &context.client_configs_in);
                    let known = planes.state();
                    let described = known.iter().map(|plane| (plane.name_any(), describe(plane))).collect();
                    let steps = plan(&asking, &described);
                    let now = rejected(&steps);
                    tell.send_if_modified(|before| std::mem::replace(before, now.clone()) != now);
                    let labelled = secrets.state();
                    let uid_of = |origin: &Origin| uid_of(origin, &labelled, &configs);
                    let still_refused = writes.carry_out(steps, &known, uid_of).await;
                    // One that is made again with the same fault is told so too.
                    let still_refused: Vec<_> =
                        still_refused.into_iter().map(|step| (uid_of(&step.origin), step)).collect();
                    for (uid, step) in &still_refused {
                        if !refused.contains(&(uid.clone(), step.clone())) {
                            let about = reference(namespace, &step.origin, uid.clone());
                            context.events.warning(about, step.reason, "Register", step.note.clone());
                        }
                    }
                    refused = still_refused;
                }
                continue;
            }
        }
        at = at.min(Instant::now() + GATHER);
    }
}

/// What is written for those who ask, and what of that failed.
struct Writes<'a> {
    context: &'a RegistryContext,
    api: Api<DataPlane>,
    backoff: Backoff<Origin>,
    /// What was written and not seen yet, or refused, and when it is tried again.
    not_before: BTreeMap<Origin, (Request, Instant)>,
}

impl Writes<'_> {
    /// Carries the steps out, many at a time, so that one that hangs or is refused holds up no other. Returns those who are
    /// refused.
    async fn carry_out(
        &mut self,
        steps: Vec<RegistrationStep>,
        known: &[Arc<DeserializeGuard<DataPlane>>],
        uid_of: impl Fn(&Origin) -> Option<String>,
    ) -> Vec<Refused> {
        let now = Instant::now();
        let asked = |origin: &Origin| steps.iter().any(|step| step.is_of(origin));
        // Whoever asks no longer begins anew when it is made again.
        self.not_before.retain(|origin, (_, at)| *at > now && asked(origin));
        self.backoff.retain(asked);
        let waits = |request: &Request| {
            self.not_before.get(&request.origin).is_some_and(|(before, _)| before == request)
        };
        let (mut refused, mut writes) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                RegistrationStep::Refuse(step) => refused.push(step),
                RegistrationStep::Register(request) | RegistrationStep::Amend(request) if waits(&request) => {
                }
                step @ (RegistrationStep::Register(_)
                | RegistrationStep::Amend(_)
                | RegistrationStep::Unregister(_)) => {
                    writes.push(step);
                }
            }
        }
        let mut written =
            stream::iter(writes).map(|step| write(&self.api, step, known)).buffer_unordered(WRITES);
        while let Some(outcome) = written.next().await {
            let Some((request, written)) = outcome else { continue };
            let Err(why) = written else {
                self.backoff.succeeded(&request.origin);
                self.not_before.insert(request.origin.clone(), (request, Instant::now() + SHOWN));
                continue;
            };
            let about = reference(&self.context.namespace, &request.origin, uid_of(&request.origin));
            let note = format!("DataPlane `{}` cannot be written: {why}", request.name);
            tracing::warn!(data_plane = request.name, from = %request.origin, %why, "register");
            self.context.events.warning(about, Reason::WriteRefused, "Register", note);
            let pause = self.backoff.failed(&request.origin);
            self.not_before.insert(request.origin.clone(), (request, Instant::now() + pause));
        }
        refused
    }
}

/// Carries out one step; returns what was asked for and what came of it, where somebody asked.
async fn write(
    api: &Api<DataPlane>,
    step: RegistrationStep,
    known: &[Arc<DeserializeGuard<DataPlane>>],
) -> Option<(Request, Result<(), String>)> {
    let find = |name: &str| known.iter().find(|plane| plane.name_any() == name);
    match step {
        RegistrationStep::Register(request) => {
            let written = create(api, &of_request(request.clone())).await;
            Some((request, written))
        }
        RegistrationStep::Amend(request) => {
            let written = amend(api, find(&request.name)?, &request).await;
            Some((request, written))
        }
        RegistrationStep::Unregister(name) => {
            delete(api, find(&name)?).await;
            None
        }
        RegistrationStep::Refuse(_) => None,
    }
}

fn describe(plane: &Arc<DeserializeGuard<DataPlane>>) -> Plane {
    let spec = plane.0.as_ref().ok().map(|plane| &plane.spec);
    Plane {
        origin: plane.annotations().get(labels::REGISTERED_FROM).map(|from| RegisteredFrom::read(from)),
        secret: spec.and_then(|spec| spec.kubeconfig_secret_ref.clone()),
        context: spec.and_then(|spec| spec.context.clone()),
        deleting: plane.meta().deletion_timestamp.is_some(),
    }
}

fn uid_of(
    origin: &Origin,
    labelled: &[Arc<PartialObjectMeta<Secret>>],
    configs: &Kept<ClientConfig>,
) -> Option<String> {
    match origin {
        Origin::Secret(name) => labelled.iter().find(|secret| secret.name_any() == *name)?.uid(),
        Origin::ClientConfig { namespace, name } => {
            let key = ObjectKey::new(namespace, name);
            let malformed = configs.malformed.get(&key).map(|malformed| malformed.metadata.uid.clone());
            malformed.unwrap_or_else(|| configs.items.get(&key)?.uid())
        }
    }
}

/// What an Event about `origin` is about. Without the uid `kubectl describe` does not show it.
fn reference(home: &str, origin: &RegisteredFrom, uid: Option<String>) -> ObjectReference {
    let (api_version, namespace, name) = match origin {
        RegisteredFrom::Secret(name) => ("v1".into(), home, name),
        RegisteredFrom::ClientConfig { namespace, name } => {
            (ClientConfig::api_version(&()), namespace.as_str(), name)
        }
    };
    ObjectReference {
        api_version: Some(api_version.into_owned()),
        kind: Some(origin.kind().to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(name.clone()),
        uid,
        ..ObjectReference::default()
    }
}

fn of_request(request: Request) -> DataPlane {
    let from = request.origin.written();
    DataPlane {
        metadata: ObjectMeta {
            name: Some(request.name),
            annotations: Some(BTreeMap::from([(labels::REGISTERED_FROM.to_owned(), from)])),
            ..ObjectMeta::default()
        },
        spec: DataPlaneSpec {
            kubeconfig_secret_ref: Some(request.secret),
            context: request.context,
            ..DataPlaneSpec::default()
        },
        status: None,
    }
}

async fn create(api: &Api<DataPlane>, plane: &DataPlane) -> Result<(), String> {
    let params =
        PostParams { field_manager: Some(labels::MANAGER_CONTROL_PLANE.to_owned()), ..PostParams::default() };
    match in_time(api.create(&params, plane)).await {
        Ok(_) => tracing::info!(data_plane = plane.name_any(), "registered"),
        Err(error) if error.code() == Some(409) => {}
        Err(error) => return Err(error.answer()),
    }
    Ok(())
}

/// Makes the DataPlane of a ClientConfig say what that one says now. Everything else in it stays.
async fn amend(
    api: &Api<DataPlane>,
    plane: &DeserializeGuard<DataPlane>,
    request: &Request,
) -> Result<(), String> {
    let body = json!({
        "apiVersion": DataPlane::api_version(&()), "kind": DataPlane::kind(&()),
        "metadata": {"name": request.name, "uid": plane.uid(), "resourceVersion": plane.resource_version()},
        "spec": {"kubeconfigSecretRef": request.secret, "context": request.context},
    });
    let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE).force();
    match in_time(api.patch(&request.name, &params, &Patch::Apply(&body))).await {
        Ok(_) => tracing::info!(data_plane = request.name, from = %request.origin, "registered anew"),
        // It changed in the meantime and is looked at again.
        Err(error) if matches!(error.code(), Some(404 | 409)) => {}
        Err(error) => return Err(error.answer()),
    }
    Ok(())
}

async fn delete(api: &Api<DataPlane>, plane: &DeserializeGuard<DataPlane>) {
    let seen = Preconditions { uid: plane.uid(), resource_version: plane.resource_version() };
    let (name, params) = (plane.name_any(), DeleteParams::default().preconditions(seen));
    match in_time(api.delete(&name, &params)).await {
        Ok(_) => {}
        // It is gone, or changed in the meantime and is looked at again.
        Err(error) if matches!(error.code(), Some(404 | 409)) => {}
        Err(error) => tracing::warn!(data_plane = name, %error, "unregister"),
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
        // Without it the control plane works as well: it is tried again at the next start.
        if let Err(why) = create(&api, &plane).await {
            tracing::warn!(data_plane = LOCAL, %why, "register");
        }
    }
    Ok(())
}
