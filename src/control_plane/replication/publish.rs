//! Writes the conditions of MedusaConfigurations: beside the copying, never in its way.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Resource as _,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::{sync::watch, time::sleep};

use super::{
    controller::ReplicationContext,
    desired::{CopyKey, Desired},
    status,
    worker::Shared,
};
use crate::{
    api::{Reason, Why, labels, medusa::MedusaConfiguration},
    control_plane::{fleet::Snapshot, view::ObjectKey},
    runtime::clock,
};

/// How long news are gathered before they are written.
const GATHER: Duration = Duration::from_millis(250);
/// Pause before failed writes are tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// Writes at once.
const CONCURRENT_WRITES: usize = 8;

/// Type, status and reason, and message of each condition, as last written.
type Digest = Vec<(String, String, String)>;
/// What went wrong, as the workers left it.
type Failures = BTreeMap<String, BTreeMap<CopyKey, Why>>;

/// Conditions that have to be written.
struct Due {
    key: ObjectKey,
    configuration: Arc<MedusaConfiguration>,
    conditions: Vec<Condition>,
    digest: Digest,
}

/// Runs for ever. Woken by [`Shared::progress`].
pub(super) async fn run(
    context: &ReplicationContext,
    shared: &Shared,
    wanted: watch::Receiver<Arc<Desired>>,
) {
    let mut published: BTreeMap<ObjectKey, Digest> = BTreeMap::new();
    loop {
        shared.progress.notified().await;
        sleep(GATHER).await;
        loop {
            let desired = wanted.borrow().clone();
            if publish(context, shared, &desired, &mut published).await {
                break;
            }
            sleep(AGAIN).await;
        }
    }
}

/// Writes the conditions that changed; says whether all could be written.
async fn publish(
    context: &ReplicationContext,
    shared: &Shared,
    desired: &Desired,
    published: &mut BTreeMap<ObjectKey, Digest>,
) -> bool {
    let failures = shared.failures.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let writes = due(context, shared, desired, &failures, published).into_iter().map(|due| async {
        let written = write(context, &due).await;
        (due, written)
    });
    let mut writes = stream::iter(writes).buffer_unordered(CONCURRENT_WRITES);
    let mut all = true;
    while let Some((due, written)) = writes.next().await {
        match written {
            Ok(()) => {
                announce(context, &due.configuration, &failures, desired, &due.key);
                published.insert(due.key, due.digest);
            }
            Err(error) if matches!(&error, kube::Error::Api(s) if s.code == 404) => {}
            Err(error) => {
                tracing::warn!(configuration = %due.key, %error, "write conditions");
                all = false;
            }
        }
    }
    all
}

/// The conditions that differ from what was written.
fn due(
    context: &ReplicationContext,
    shared: &Shared,
    desired: &Desired,
    failures: &Failures,
    published: &mut BTreeMap<ObjectKey, Digest>,
) -> Vec<Due> {
    let sources = shared.sources.objects();
    let planes: BTreeMap<String, Snapshot> =
        context.fleet.snapshot().into_iter().map(|p| (p.name.clone(), p)).collect();
    let settled = shared.settled.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let reports = context.deployed.borrow().clone();
    let facts = status::Facts {
        sources: &sources,
        desired,
        planes: &planes,
        failures,
        settled: &settled,
        reports: &reports,
    };
    let now = clock::now();
    published.retain(|key, _| sources.configurations.items.contains_key(key));
    let mut list = Vec::new();
    for (key, configuration) in &sources.configurations.items {
        if is_copy(configuration, &context.control_plane) {
            continue; // Its source says how it is.
        }
        let conditions = status::conditions(key, configuration, &facts, now);
        let before = configuration.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
        let digest: Digest = conditions
            .iter()
            .map(|c| (c.type_.clone(), format!("{}/{}", c.status, c.reason), c.message.clone()))
            .collect();
        if before != conditions && published.get(key) != Some(&digest) {
            list.push(Due { key: key.clone(), configuration: configuration.clone(), conditions, digest });
        }
    }
    list
}

async fn write(context: &ReplicationContext, due: &Due) -> Result<(), kube::Error> {
    let body = json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaConfiguration",
        "metadata": {"name": due.key.name}, "status": {"conditions": due.conditions},
    });
    let api: Api<MedusaConfiguration> = Api::namespaced(context.client.clone(), &due.key.namespace);
    let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE).force();
    api.patch_status(&due.key.name, &params, &Patch::Apply(&body)).await.map(drop)
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
    failures: &Failures,
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
