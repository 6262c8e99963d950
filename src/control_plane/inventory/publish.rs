//! Writes FleetBackups and FleetClusters: only what changed, gathered over a moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Client, CustomResourceExt, Resource, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
    runtime::{
        WatchStreamExt as _,
        reflector::{self, Store},
        watcher,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, sleep_until},
};

use super::{clusters::clusters, points::restore_points};
use crate::{
    api::{
        Conditions as _, Reason,
        fleet::{FleetBackup, FleetBackupStatus, FleetCluster, FleetClusterStatus},
        labels,
    },
    control_plane::{
        fleet::{Change, Fleet, Snapshot},
        metrics::{ClusterFigures, Figures},
    },
    runtime::{clock, events::Events, http::Readiness},
};

/// How long news are gathered before they are written.
const GATHER: Duration = Duration::from_millis(300);
/// How often ages are brought up to date.
const REFRESH: Duration = Duration::from_mins(1);
/// Pause before failed writes are tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// What the inventory needs.
pub struct InventoryContext {
    /// The control plane's own cluster.
    pub client: Client,
    /// The controller's namespace.
    pub namespace: String,
    /// The data planes.
    pub fleet: Arc<Fleet>,
    /// Age above which the newest complete restore point no longer protects.
    pub recovery_point_objective: SignedDuration,
    /// Where Events go.
    pub events: Events,
    /// Where the metrics find what was found out.
    pub figures: Figures,
    /// Told when the first inventory stands.
    pub readiness: Readiness,
}

/// Runs for ever.
pub async fn run(context: InventoryContext) {
    let (backups, keep_backups) = follow::<FleetBackup>(&context);
    let (known, keep_clusters) = follow::<FleetCluster>(&context);
    let changes = context.fleet.changes();
    tokio::select! {
        () = keep_backups => {}
        () = keep_clusters => {}
        () = publish(&context, &backups, &known, changes) => {}
    }
}

/// Our own objects of one kind, and the task that keeps them current.
fn follow<K>(context: &InventoryContext) -> (Store<K>, impl Future<Output = ()> + use<K>)
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (store, writer) = reflector::store();
    let api: Api<K> = Api::namespaced(context.client.clone(), &context.namespace);
    let mut events =
        watcher(api, watcher::Config::default()).default_backoff().reflect(writer).touched_objects().boxed();
    (store, async move { while events.next().await.is_some() {} })
}

async fn publish(
    context: &InventoryContext,
    backups: &Store<FleetBackup>,
    known: &Store<FleetCluster>,
    mut changes: broadcast::Receiver<Change>,
) {
    if backups.wait_until_ready().await.is_err() || known.wait_until_ready().await.is_err() {
        return;
    }
    let mut at = Instant::now();
    loop {
        sleep_until(at).await;
        at = Instant::now() + REFRESH;
        if !context.fleet.is_enrolled() || !write(context, backups, known).await {
            at = Instant::now() + AGAIN.min(if context.fleet.is_enrolled() { AGAIN } else { GATHER });
            continue;
        }
        context.readiness.ready("inventory");
        // Wait for news, or for the ages to grow.
        loop {
            tokio::select! {
                () = sleep_until(at) => break,
                change = changes.recv() => match change {
                    Ok(
                        Change::Contact(_)
                        | Change::Datacenters(_)
                        | Change::Backups(_)
                        | Change::Schedules(_)
                        | Change::Job { .. },
                    )
                    | Err(RecvError::Lagged(_)) => at = at.min(Instant::now() + GATHER),
                    Ok(_) => {}
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }
}

/// Computes and writes; says whether everything could be written.
async fn write(
    context: &InventoryContext,
    backups: &Store<FleetBackup>,
    known: &Store<FleetCluster>,
) -> bool {
    let planes: Vec<Snapshot> =
        context.fleet.snapshot().into_iter().filter(|p| !is_duplicate(p) && !p.unregistering).collect();
    let now = clock::now();
    let old_points: BTreeMap<String, FleetBackupStatus> =
        backups.state().iter().map(|b| (b.name_any(), b.status.clone().unwrap_or_default())).collect();
    let old_clusters: BTreeMap<String, FleetClusterStatus> =
        known.state().iter().map(|c| (c.name_any(), c.status.clone().unwrap_or_default())).collect();
    let points = restore_points(&planes, &old_points, now);
    let clusters = clusters(&planes, &points, &old_clusters, context.recovery_point_objective, now);
    *context.figures.lock().unwrap_or_else(PoisonError::into_inner) = clusters
        .iter()
        .map(|(name, status)| ClusterFigures {
            cluster: name.clone(),
            recovery_point: status.recovery_point_time.as_ref().map(|t| t.0),
        })
        .collect();
    let mut all = true;
    // Clusters first: who waits for a restore point finds its cluster protected already.
    for (name, status) in &clusters {
        let old = old_clusters.get(name);
        if old.is_none_or(|old| is_news(old, status)) {
            let written = put::<FleetCluster>(context, name, status, old.is_none()).await;
            if written {
                tell(context, known, name, old.map(|o| o.conditions.as_slice()), &status.conditions);
            }
            all &= written;
        }
    }
    for (name, status) in &points {
        if old_points.get(name) != Some(status) {
            let new = !old_points.contains_key(name);
            all &= put::<FleetBackup>(context, name, status, new).await;
        }
    }
    for (name, status) in &old_points {
        let of = status.datacenters.iter().map(|d| d.data_plane.as_str());
        if !points.contains_key(name) && may_go(of, &planes) {
            all &= remove::<FleetBackup>(context, name).await;
        }
    }
    for (name, status) in &old_clusters {
        let of = status.datacenters.iter().map(|d| d.data_plane.as_str());
        if !clusters.contains_key(name) && may_go(of, &planes) {
            all &= remove::<FleetCluster>(context, name).await;
        }
    }
    all
}

fn is_duplicate(plane: &Snapshot) -> bool {
    matches!(
        &plane.usable,
        crate::control_plane::fleet::Usable::NotReady { reason: Reason::DuplicateCluster, .. }
    )
}

/// Whether an object that is not computed any more may be deleted: every data plane it speaks of has
/// answered and does not have it, or is not registered any more.
fn may_go<'a>(mut of: impl Iterator<Item = &'a str>, planes: &[Snapshot]) -> bool {
    let silent: BTreeSet<&str> =
        planes.iter().filter(|p| !p.view.is_live()).map(|p| p.name.as_str()).collect();
    !of.any(|name| silent.contains(name))
}

/// Whether a cluster's status is worth a write: an age alone only once a minute.
fn is_news(old: &FleetClusterStatus, new: &FleetClusterStatus) -> bool {
    let ageless =
        |s: &FleetClusterStatus| FleetClusterStatus { recovery_point_age_seconds: None, ..s.clone() };
    if ageless(old) != ageless(new) {
        return true;
    }
    let refresh = i64::try_from(REFRESH.as_secs()).unwrap_or(60) - 5;
    match (old.recovery_point_age_seconds, new.recovery_point_age_seconds) {
        (Some(old), Some(new)) => new - old >= refresh,
        (old, new) => old != new,
    }
}

async fn put<K>(context: &InventoryContext, name: &str, status: &impl Serialize, new: bool) -> bool
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + CustomResourceExt
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(context.client.clone(), &context.namespace);
    let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE).force();
    let (version, kind) = (K::api_version(&()), K::kind(&()));
    let head = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": {}});
    let body = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "status": status});
    let written = async {
        if new {
            api.patch(name, &params, &Patch::Apply(&head)).await?;
        }
        api.patch_status(name, &params, &Patch::Apply(&body)).await
    };
    match written.await {
        Ok(_) => true,
        Err(error) => {
            tracing::warn!(%kind, name, %error, "write inventory");
            false
        }
    }
}

async fn remove<K>(context: &InventoryContext, name: &str) -> bool
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(context.client.clone(), &context.namespace);
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => true,
        Err(kube::Error::Api(status)) if status.code == 404 => true,
        Err(error) => {
            tracing::warn!(kind = %K::kind(&()), name, %error, "remove from inventory");
            false
        }
    }
}

/// An Event when a cluster's protection begins or ends.
fn tell(
    context: &InventoryContext,
    known: &Store<FleetCluster>,
    name: &str,
    old: Option<&[Condition]>,
    new: &[Condition],
) {
    let Some(protected) = new.of_type("Protected") else { return };
    let before = old.and_then(|list| list.of_type("Protected")).map(|c| c.status.as_str());
    if before == Some(protected.status.as_str()) {
        return;
    }
    let Some(cluster) = known.state().into_iter().find(|c| c.name_any() == name) else { return };
    let about = cluster.object_ref(&());
    let reasons = [Reason::RecoveryPointFresh, Reason::RecoveryPointStale, Reason::NeverBackedUp];
    match reasons.into_iter().find(|r| r.as_str() == protected.reason) {
        Some(Reason::RecoveryPointFresh) => {
            context.events.normal(about, Reason::RecoveryPointFresh, "Protect", protected.message.clone());
        }
        Some(reason) => context.events.warning(about, reason, "Protect", protected.message.clone()),
        None => {}
    }
}
