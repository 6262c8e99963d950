//! Keeps the list of wanted copies, one worker per data plane, and the conditions.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kube::{
    Api, Client, Resource as _,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::{
    sync::{Notify, broadcast, watch},
    task::JoinHandle,
    time::Instant,
};

use super::{
    desired::{Desired, Places, Problem, SourceObjects, desired},
    sources::Sources,
    status,
    worker::{self, Failures, Shared},
};
use crate::{
    api::{Reason, labels, medusa::MedusaConfiguration},
    control_plane::{
        fleet::{Change, Fleet, Snapshot},
        view::ObjectKey,
    },
    runtime::{clock, events::Events},
};

/// How long news are gathered before conditions are written.
const PUBLISH_AFTER: Duration = Duration::from_millis(250);

/// What replication needs.
pub struct ReplicationContext {
    /// The control plane's own cluster.
    pub client: Client,
    /// The data planes.
    pub fleet: Arc<Fleet>,
    /// Value of the control-plane label on our copies.
    pub control_plane: String,
    /// Where Events go.
    pub events: Events,
}

/// Runs for ever.
pub async fn run(context: ReplicationContext) {
    let sources = Sources::new(context.client.clone());
    let mut changes = context.fleet.changes();
    let (wanted, _) = watch::channel(Arc::new(Desired::default()));
    let shared = Arc::new(Shared {
        fleet: context.fleet.clone(),
        sources: sources.clone(),
        control_plane: context.control_plane.clone(),
        failures: Failures::default(),
        settled: Arc::new(Mutex::default()),
        progress: Arc::new(Notify::new()),
    });
    let mut workers: BTreeMap<String, JoinHandle<()>> = BTreeMap::new();
    let mut publish_at: Option<Instant> = None;
    let mut published: BTreeMap<ObjectKey, Vec<(String, String, String)>> = BTreeMap::new();
    let watching = tokio::spawn(sources.clone().watch());
    loop {
        let objects = sources.objects();
        let planes = context.fleet.snapshot();
        let new = desired(&objects, &places(&planes));
        wanted.send_if_modified(|old| {
            let news = **old != new;
            if news {
                *old = Arc::new(new);
            }
            news
        });
        for plane in &planes {
            let gone = workers.get(&plane.name).is_none_or(JoinHandle::is_finished);
            if gone {
                let worker = worker::run(plane.name.clone(), shared.clone(), wanted.subscribe());
                workers.insert(plane.name.clone(), tokio::spawn(worker));
            }
        }
        workers.retain(|name, _| planes.iter().any(|p| p.name == *name));
        let soon = publish_at.unwrap_or_else(|| Instant::now() + PUBLISH_AFTER);
        publish_at = Some(soon);
        loop {
            tokio::select! {
                () = sources.changed.notified() => break,
                change = changes.recv() => match change {
                    Ok(Change::Datacenters(_) | Change::Contact(_)) | Err(broadcast::error::RecvError::Lagged(_)) => break,
                    Ok(Change::Copies(_)) => { publish_at.get_or_insert_with(|| Instant::now() + PUBLISH_AFTER); }
                    Ok(Change::Job { .. } | Change::Backups(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => { watching.abort(); return; }
                },
                () = shared.progress.notified() => {
                    publish_at.get_or_insert_with(|| Instant::now() + PUBLISH_AFTER);
                }
                () = sleep_until(publish_at) => {
                    publish_at = None;
                    if !publish(&context, &shared, &sources.objects(), &wanted.borrow().clone(), &mut published).await {
                        publish_at = Some(Instant::now() + Duration::from_secs(5));
                    }
                }
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn places(planes: &[Snapshot]) -> Places {
    let mut places = Places::default();
    for plane in planes.iter().filter(|p| !p.unregistering) {
        let hosting: BTreeSet<String> = plane.view.datacenter_namespaces().map(str::to_owned).collect();
        places.hosting.insert(plane.name.clone(), hosting);
    }
    places.listed = planes.iter().filter(|p| p.view.is_live()).map(|p| p.name.clone()).collect();
    places
}

/// Writes the conditions that changed; says whether all could be written.
async fn publish(
    context: &ReplicationContext,
    shared: &Shared,
    sources: &SourceObjects,
    desired: &Desired,
    published: &mut BTreeMap<ObjectKey, Vec<(String, String, String)>>,
) -> bool {
    let planes: BTreeMap<String, Snapshot> =
        context.fleet.snapshot().into_iter().map(|p| (p.name.clone(), p)).collect();
    let failures = shared.failures.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let settled = shared.settled.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let facts = status::Facts { sources, desired, planes: &planes, failures: &failures, settled: &settled };
    let now = clock::now();
    let mut all = true;
    published.retain(|key, _| sources.configurations.contains_key(key));
    for (key, configuration) in &sources.configurations {
        if is_copy(configuration, &context.control_plane) {
            continue; // Its source says how it is.
        }
        let conditions = status::conditions(key, configuration, &facts, now);
        let before = configuration.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
        let digest: Vec<(String, String, String)> = conditions
            .iter()
            .map(|c| (c.type_.clone(), format!("{}/{}", c.status, c.reason), c.message.clone()))
            .collect();
        if before == conditions || published.get(key) == Some(&digest) {
            continue;
        }
        let body = json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaConfiguration",
            "metadata": {"name": key.name}, "status": {"conditions": conditions},
        });
        let api: Api<MedusaConfiguration> = Api::namespaced(context.client.clone(), &key.namespace);
        let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE).force();
        match api.patch_status(&key.name, &params, &Patch::Apply(&body)).await {
            Ok(_) => {
                announce(context, configuration, &failures, desired, key);
                published.insert(key.clone(), digest);
            }
            Err(error) if matches!(&error, kube::Error::Api(s) if s.code == 404) => {}
            Err(error) => {
                tracing::warn!(configuration = %key, %error, "write conditions");
                all = false;
            }
        }
    }
    all
}

fn is_copy(configuration: &MedusaConfiguration, control_plane: &str) -> bool {
    configuration
        .metadata
        .labels
        .as_ref()
        .and_then(|l| l.get(labels::CONTROL_PLANE))
        .is_some_and(|v| v == control_plane)
}

/// One Event per thing that a person must mend.
fn announce(
    context: &ReplicationContext,
    configuration: &MedusaConfiguration,
    failures: &BTreeMap<String, BTreeMap<super::desired::CopyKey, Problem>>,
    desired: &Desired,
    key: &ObjectKey,
) {
    let about = configuration.object_ref(&());
    for problem in desired.problems.get(key).into_iter().flatten() {
        context.events.warning(about.clone(), problem.reason, "Replicate", problem.message.clone());
    }
    for (plane, copy) in desired.claims.get(key).into_iter().flatten() {
        if let Some(problem) = failures.get(plane).and_then(|f| f.get(copy))
            && problem.reason != Reason::DataPlaneUnreachable
        {
            let note = format!("data plane `{plane}`: {}", problem.message);
            context.events.warning(about.clone(), problem.reason, "Replicate", note);
        }
    }
}
