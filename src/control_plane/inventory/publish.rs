//! Writes FleetBackups and FleetClusters: only what changed, gathered over a moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Client, Resource as _,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams},
    core::object::HasStatus,
};
use serde::Serialize;
use serde_json::json;
use tokio::{
    sync::{broadcast::error::RecvError, watch},
    time::{Instant, sleep_until},
};

use super::{
    clusters::{Findings, clusters},
    deployed::{describe, not_found},
    digest::Digest,
    expectation::Expectations,
    fit::{BUDGETS, fit_backup, fit_cluster},
    memo::Inventory,
    observe::by_name,
};
use crate::{
    api::{
        Conditions as _, Reason,
        fleet::{FleetBackup, FleetBackupStatus, FleetCluster, FleetClusterStatus},
        labels,
    },
    control_plane::{
        data_planes::{
            fleet::{Fleet, Snapshot, Usable},
            metrics::{ClusterFigures, DatacenterFigures, Figures},
            published::Published,
            watched::Kind,
        },
        deployment::report::Reports,
    },
    runtime::{
        cause::{self, Denier},
        events::Events,
        follow::{Cache, Followed},
        guard,
        http::Readiness,
        sync::lock,
    },
};

/// How long news are gathered before they are written: at least, and at most where there is much to write. A thousand backups
/// that end are told of in a few goes, and the API server has time for those that go on.
const GATHER: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(5));
/// What the inventory is made of.
const FOLLOWED: &[Kind] = &[Kind::Datacenters, Kind::Jobs, Kind::Backups, Kind::Schedules];
/// How often everything is judged anew: a restore point gets too old, and a slot comes, by time alone.
const REFRESH: Duration = Duration::from_mins(1);
/// How many objects are written at a time.
const WRITES: usize = 8;
/// Pause before failed writes are tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// What the inventory needs.
#[derive(Clone)]
pub struct InventoryContext {
    pub client: Client,
    pub namespace: String,
    pub fleet: Arc<Fleet>,
    /// What is published already.
    pub published: Published,
    /// What the deployment of Medusa has come to.
    pub deployed: watch::Receiver<Reports>,
    /// Age above which the newest complete restore point no longer protects.
    pub recovery_point_objective: SignedDuration,
    pub expectations: Expectations,
    pub events: Events,
    /// Where the metrics find what was found out.
    pub figures: Figures,
    /// Told when the first inventory stands.
    pub readiness: Readiness,
}

/// Runs for ever.
pub async fn run(context: InventoryContext) {
    let mut changes = context.fleet.changes();
    let Published { backups, clusters: known } = &context.published;
    if !backups.listed().await || !known.listed().await {
        return;
    }
    let mut deployed = context.deployed.clone();
    let (mut inventory, narrow) = (Inventory::default(), Narrow::default());
    let mut at = Instant::now();
    loop {
        sleep_until(at).await;
        at = Instant::now() + REFRESH;
        if !context.fleet.is_enrolled() {
            at = Instant::now() + GATHER.0;
            continue;
        }
        let began = Instant::now();
        let wrote = guard::work("inventory", write(&context, backups, known, &mut inventory, &narrow)).await;
        let written = wrote.unwrap_or_else(|panic| {
            tracing::error!("the inventory: {panic}");
            inventory = Inventory::default();
            Written::Failed
        });
        // Who denies one object must not keep the controller from being ready for all others.
        if written != Written::Failed {
            context.readiness.ready("inventory");
        }
        if written != Written::Done {
            at = Instant::now() + AGAIN;
            continue;
        }
        let gather = (began.elapsed() * 2).clamp(GATHER.0, GATHER.1);
        // Wait for news, or for the ages to grow.
        loop {
            tokio::select! {
                () = sleep_until(at) => break,
                changed = deployed.changed() => match changed {
                    Ok(()) => at = at.min(Instant::now() + gather),
                    Err(_) => return,
                },
                change = changes.recv() => match change {
                    Ok(change) if change.is_contact_or(FOLLOWED) => at = at.min(Instant::now() + gather),
                    Err(RecvError::Lagged(_)) => at = at.min(Instant::now() + gather),
                    Ok(_) => {}
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }
}

/// Computes and writes; says what came of it.
async fn write(
    context: &InventoryContext,
    backups: &Cache<FleetBackup>,
    known: &Cache<FleetCluster>,
    inventory: &mut Inventory,
    narrow: &Narrow,
) -> Written {
    let planes: Vec<Snapshot> =
        context.fleet.snapshot().into_iter().filter(|p| !is_duplicate(p) && !p.unregistering).collect();
    let now = context.fleet.now();
    let (points, published) = (by_name(backups.state()), by_name(known.state()));
    let look = inventory.look(&planes, &points, &published, context.expectations.by_cluster(), now);
    let old_clusters: BTreeMap<String, FleetClusterStatus> =
        published.iter().map(|(name, c)| (name.clone(), c.status.clone().unwrap_or_default())).collect();
    let reports = context.deployed.borrow().clone();
    let findings = Findings {
        not_found: not_found(&reports),
        digests: &look.digests,
        expected: &look.expected,
        objective: context.recovery_point_objective,
    };
    let mut clusters = clusters(&planes, &findings, &old_clusters, now);
    describe(&mut clusters, &reports, &old_clusters, now);
    *lock(&context.figures) =
        clusters.iter().map(|(name, status)| figures(name, status, look.digests.get(name))).collect();
    // Clusters first: who waits for a restore point finds its cluster protected already.
    let told = each(clusters.iter(), async |(name, status): (&String, &FleetClusterStatus)| {
        let old = old_clusters.get(name);
        let fitted = |budget| fit_cluster(status.clone(), budget);
        if !old.is_none_or(|old| *old != fitted(narrow.of::<FleetCluster>(name))) {
            return Written::Done;
        }
        let written = put::<FleetCluster>(context, name, fitted, narrow, old.is_none()).await;
        if written == Written::Done
            && let Some(cluster) = published.get(name)
        {
            tell(context, cluster, &status.conditions);
        }
        written
    })
    .await;
    let pointed = each(look.unwritten.iter(), async |(name, status): &(&str, &FleetBackupStatus)| {
        let old = points.get(*name);
        let fitted = |budget| fit_backup((*status).clone(), budget);
        let known = old.and_then(|point| point.status.as_ref());
        if known == Some(&fitted(narrow.of::<FleetBackup>(name))) {
            return Written::Done;
        }
        put::<FleetBackup>(context, name, fitted, narrow, old.is_none()).await
    })
    .await;
    let gone = look.gone.iter().filter(|name| {
        let status = points.get(**name).and_then(|point| point.status.as_ref());
        let entries = status.into_iter().flat_map(|s| &s.datacenters);
        may_go(entries.map(|d| d.data_plane.as_str()), &planes)
    });
    let points_gone = each(gone, async |name: &&str| remove::<FleetBackup>(context, name).await).await;
    let gone = old_clusters.iter().filter(|(name, status)| {
        let entries = status.datacenters.iter().map(|d| d.data_plane.as_str());
        !clusters.contains_key(*name) && may_go(entries, &planes)
    });
    let clusters_gone =
        each(gone, async |(name, _): (&String, _)| remove::<FleetCluster>(context, name).await).await;
    told.max(pointed).max(points_gone).max(clusters_gone)
}

/// Does `work` for every item, [`WRITES`] of them at a time; returns the worst outcome.
async fn each<T>(items: impl Iterator<Item = T>, work: impl AsyncFn(T) -> Written) -> Written {
    let done = stream::iter(items).map(|item| work(item)).buffer_unordered(WRITES);
    done.fold(Written::Done, |worst, one| std::future::ready(worst.max(one))).await
}

fn figures(name: &str, status: &FleetClusterStatus, digest: Option<&Digest>) -> ClusterFigures {
    let newest = digest.into_iter().flat_map(|digest| &digest.newest);
    ClusterFigures {
        cluster: name.to_owned(),
        recovery_point: status.recovery_point_time.as_ref().map(|t| t.0),
        expected_interval: status.expected_interval_seconds,
        datacenters: newest
            .map(|((plane, namespace, datacenter), newest)| DatacenterFigures {
                data_plane: plane.clone(),
                namespace: namespace.clone(),
                datacenter: datacenter.clone(),
                duration: newest.duration.map(|d| d.as_secs()),
                size: newest.size,
            })
            .collect(),
    }
}

fn is_duplicate(plane: &Snapshot) -> bool {
    matches!(&plane.usable, Usable::NotReady { reason: Reason::DuplicateCluster, .. })
}

/// Whether an object that is not computed any more may be deleted: every data plane it speaks of has
/// answered and does not have it, or is not registered any more.
fn may_go<'a>(mut of: impl Iterator<Item = &'a str>, planes: &[Snapshot]) -> bool {
    let silent: BTreeSet<&str> =
        planes.iter().filter(|p| !p.view.is_live()).map(|p| p.name.as_str()).collect();
    !of.any(|name| silent.contains(name))
}

/// What came of a write, from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Written {
    Done,
    /// A policy or quota denies it.
    Denied,
    Failed,
}

/// Budgets of objects that the API server did not take at their full size, by kind and name: they are not tried at that
/// again.
#[derive(Default)]
struct Narrow(Mutex<BTreeMap<String, usize>>);

impl Narrow {
    fn key<K: Followed>(name: &str) -> String {
        format!("{}/{name}", K::kind(&()))
    }

    fn of<K: Followed>(&self, name: &str) -> usize {
        lock(&self.0).get(&Self::key::<K>(name)).copied().unwrap_or(BUDGETS[0])
    }

    fn set<K: Followed>(&self, name: &str, budget: usize) {
        lock(&self.0).insert(Self::key::<K>(name), budget);
    }
}

/// Writes a status as large as the API server takes it. A verdict that cannot be written with all there is to say is
/// written without, so that the one before does not stand for ever.
async fn put<K: Followed + HasStatus<Status: Serialize>>(
    context: &InventoryContext,
    name: &str,
    fitted: impl Fn(usize) -> K::Status,
    narrow: &Narrow,
    new: bool,
) -> Written {
    let first = narrow.of::<K>(name);
    for budget in BUDGETS.into_iter().filter(|budget| *budget <= first) {
        let Err(error) = put_status::<K>(context, name, &fitted(budget), new).await else {
            if budget < first {
                narrow.set::<K>(name, budget);
            }
            return Written::Done;
        };
        tracing::warn!(kind = %K::kind(&()), name, %error, "write inventory");
        if is_denied(&error) {
            return Written::Denied;
        }
        if !is_refused(&error) {
            return Written::Failed;
        }
    }
    Written::Failed
}

/// Whether somebody denies this object. Without the permission for it nothing of its kind can be written.
fn is_denied(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    cause::denied(status).is_some_and(|(denier, _)| denier != Denier::Permissions)
}

/// Whether the API server or etcd does not take an object as it is: too large, or not valid.
fn is_refused(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    matches!(status.code, 400 | 422) || cause::is_too_large(status)
}

/// Objects of a kind without their fields: an answer is taken although what is stored there cannot be read as `K`.
fn whatever<K: Followed>(context: &InventoryContext) -> Api<DynamicObject> {
    Api::namespaced_with(context.client.clone(), &context.namespace, &ApiResource::erase::<K>(&()))
}

async fn put_status<K: Followed>(
    context: &InventoryContext,
    name: &str,
    status: &impl Serialize,
    new: bool,
) -> Result<(), kube::Error> {
    let api = whatever::<K>(context);
    let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE).force();
    let (version, kind) = (K::api_version(&()), K::kind(&()));
    let head = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": {}});
    let body = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "status": status});
    if new {
        api.patch(name, &params, &Patch::Apply(&head)).await?;
    }
    api.patch_status(name, &params, &Patch::Apply(&body)).await.map(drop)
}

async fn remove<K: Followed>(context: &InventoryContext, name: &str) -> Written {
    match whatever::<K>(context).delete(name, &DeleteParams::default()).await {
        Ok(_) => Written::Done,
        Err(kube::Error::Api(status)) if status.code == 404 => Written::Done,
        Err(error) => {
            tracing::warn!(kind = %K::kind(&()), name, %error, "remove from inventory");
            if is_denied(&error) { Written::Denied } else { Written::Failed }
        }
    }
}

/// An Event when a cluster's protection, or the agreement about its restore points, begins or ends. `cluster` is as it
/// was before.
fn tell(context: &InventoryContext, cluster: &FleetCluster, new: &[Condition]) {
    let old = cluster.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    for type_ in ["Protected", "InventoryConsistent"] {
        let Some(now) = new.of_type(type_) else { continue };
        let before = old.of_type(type_).map(|c| c.status.as_str());
        let Some(reason) = Reason::of(&now.reason).filter(|_| before != Some(now.status.as_str())) else {
            continue;
        };
        let (about, note) = (cluster.object_ref(&()), now.message.clone());
        match (type_, now.status.as_str(), before) {
            // That all is as it should be is worth an Event only when it was not.
            ("InventoryConsistent", "True", None) | ("InventoryConsistent", "Unknown", _) => {}
            (_, "True", _) => context.events.normal(about, reason, "Protect", note),
            _ => context.events.warning(about, reason, "Protect", note),
        }
    }
}
