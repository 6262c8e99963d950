//! The role that runs beside Cassandra: it carries out the `medusa.k8ssandra.io` kinds of its cluster by
//! talking gRPC to the Medusas in the Cassandra pods.
//!
//! In reading order: `timings`, `pods`, `machine` (pure) ← `tls`, `medusa` (one Medusa over gRPC) ← `backup`
//! (MedusaBackupJob) ← this file (start-up and controllers). Nothing here may know of a fleet: other
//! clusters, control planes and the command line are out of sight.

pub mod backup;
pub mod machine;
pub mod medusa;
pub mod metrics;
pub mod pods;
pub mod presence;
pub mod timings;
pub mod tls;

use std::{net::SocketAddr, sync::Arc};

use futures::{StreamExt as _, future::join_all, stream};
use kube::{
    Api, Client, Resource,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        Controller, WatchStreamExt as _,
        controller::{Config as ControllerConfig, Error as ControllerError},
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::{
    api::{
        cassandra::CassandraDatacenter,
        labels,
        medusa::{GROUP, MedusaBackupJob},
    },
    runtime::{
        events::Events,
        http::{self, Readiness},
    },
};

pub use timings::Timings;

/// Passes at a time. A pass holds its worker for at most [`Timings::pass`].
const WORKERS: u16 = 64;
/// Definitions this role cannot work without.
const DEFINITIONS: [&str; 2] = ["medusabackupjobs", "medusabackups"];
/// Readiness gate of the definitions.
const GATE: &str = "medusa.k8ssandra.io definitions";

/// A job as it is watched: one that cannot be read must not hide the others.
type Guarded = DeserializeGuard<MedusaBackupJob>;

/// How to run the data plane.
#[derive(Clone)]
pub struct Config {
    /// The cluster to work in.
    pub client: Client,
    /// Where our own Lease lives.
    pub namespace: String,
    /// Namespaces to work in; empty means all.
    pub watch_namespaces: Vec<String>,
    /// Start although k8ssandra-operator runs here.
    pub take_over: bool,
    /// Where `/livez`, `/readyz` and `/metrics` are served, if anywhere.
    pub metrics_addr: Option<SocketAddr>,
    /// Deadlines and budgets.
    pub timings: Timings,
}

/// Why the data plane does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Somebody else does the same work here.
    #[error(
        "k8ssandra-operator runs in this cluster ({}) and reconciles the same kinds: both would start every \
         backup. Scale it to zero, or leave this cluster to it, or start with --take-over once it no longer \
         handles Medusa", .0.join(", ")
    )]
    OperatorRuns(Vec<String>),
    /// The address for `/metrics` cannot be bound.
    #[error("cannot serve metrics on {0}: {1}; give another --metrics-addr")]
    Metrics(SocketAddr, #[source] std::io::Error),
}

/// Runs until `shutdown`. An API server that does not answer is waited for.
///
/// # Errors
/// When the role must not or cannot start.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    let Config { client, namespace, watch_namespaces, take_over, metrics_addr, timings } = config;
    let mut registry = Registry::default();
    let metrics = metrics::Metrics::register(&mut registry);
    let readiness = Readiness::default();
    readiness.expect(GATE);
    if let Some(address) = metrics_addr {
        let bound = http::serve(address, readiness.clone(), Arc::new(registry), shutdown.clone())
            .await
            .map_err(|error| RunError::Metrics(address, error))?;
        tracing::info!(%bound, "serves /livez, /readyz and /metrics");
    }
    if !take_over {
        let found = unless_shutdown(&shutdown, &timings, || presence::operators(&client)).await;
        match found {
            Some(running) if !running.is_empty() => return Err(RunError::OperatorRuns(running)),
            Some(_) => {}
            None => return Ok(()),
        }
    }
    let work = async {
        if !definitions_served(&client, &timings, &shutdown).await {
            return;
        }
        readiness.ready(GATE);
        let events = Events::new(client.clone(), labels::MANAGER_DATA_PLANE);
        let ctx = Arc::new(backup::Ctx::new(client.clone(), events, timings, metrics));
        let scopes: Vec<Option<String>> = if watch_namespaces.is_empty() {
            vec![None]
        } else {
            watch_namespaces.into_iter().map(Some).collect()
        };
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "data plane runs");
        join_all(scopes.into_iter().map(|scope| backups(&client, scope, Arc::clone(&ctx), &shutdown))).await;
    };
    let lease = presence::publish(client.clone(), namespace, timings.lease, shutdown.clone());
    futures::join!(work, lease);
    Ok(())
}

/// The MedusaBackupJobs of one namespace, or of all.
async fn backups(
    client: &Client,
    scope: Option<String>,
    ctx: Arc<backup::Ctx>,
    shutdown: &CancellationToken,
) {
    let jobs: Api<Guarded> = scoped(client, scope.as_deref());
    let controller = Controller::new(jobs, watcher::Config::default())
        .with_config(ControllerConfig::default().concurrency(WORKERS));
    let datacenters = datacenter_changes(scoped(client, scope.as_deref()), controller.store());
    controller
        .reconcile_on(datacenters)
        .graceful_shutdown_on(shutdown.clone().cancelled_owned())
        .run(backup::reconcile, backup::on_error, Arc::clone(&ctx))
        .for_each(|done| {
            match done {
                Ok(_) | Err(ControllerError::ReconcilerFailed(..)) => {}
                Err(ControllerError::ObjectNotFound(gone)) => {
                    ctx.forget(gone.namespace.as_deref().unwrap_or_default(), &gone.name);
                }
                Err(error) => tracing::warn!(%error, "watch MedusaBackupJobs"),
            }
            std::future::ready(())
        })
        .await;
}

/// Jobs that have not started and whose datacenter has just changed: it may be what they wait for. Only
/// metadata is watched. A stream of its own, as an error in one of a controller's own triggers slows all of
/// them down, and a cluster may lack the definition.
fn datacenter_changes(
    api: Api<PartialObjectMeta<CassandraDatacenter>>,
    jobs: Store<Guarded>,
) -> impl stream::Stream<Item = ObjectRef<Guarded>> + Send + 'static {
    watcher(api, watcher::Config::default())
        .default_backoff()
        .touched_objects()
        .filter_map(|datacenter| std::future::ready(datacenter.ok()))
        .flat_map(move |datacenter| stream::iter(waiting_for(&datacenter, &jobs)))
}

fn waiting_for(
    datacenter: &PartialObjectMeta<CassandraDatacenter>,
    jobs: &Store<Guarded>,
) -> Vec<ObjectRef<Guarded>> {
    let waits = |job: &MedusaBackupJob| {
        job.metadata.namespace == datacenter.metadata.namespace
            && Some(&job.spec.cassandra_datacenter) == datacenter.metadata.name.as_ref()
            && job.status.as_ref().is_none_or(|s| s.start_time.is_none() && s.finish_time.is_none())
    };
    jobs.state()
        .iter()
        .filter(|guarded| guarded.0.as_ref().is_ok_and(waits))
        .map(|guarded| ObjectRef::from_obj(guarded.as_ref()))
        .collect()
}

fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Waits until the API server serves our kinds. Returns false on shutdown.
async fn definitions_served(client: &Client, timings: &Timings, shutdown: &CancellationToken) -> bool {
    let version = format!("{GROUP}/v1alpha1");
    let mut told = false;
    loop {
        let served = unless_shutdown(shutdown, timings, || async {
            match client.list_api_group_resources(&version).await {
                Ok(list) => Ok(list.resources.into_iter().map(|r| r.name).collect::<Vec<_>>()),
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Vec::new()),
                Err(error) => Err(error),
            }
        });
        let Some(served) = served.await else { return false };
        let missing: Vec<&str> =
            DEFINITIONS.into_iter().filter(|name| !served.iter().any(|s| s == name)).collect();
        if missing.is_empty() {
            return true;
        }
        if !told {
            tracing::warn!(?missing, "waits for definitions of {GROUP}; install them (medusa-fleet crds)");
            told = true;
        }
        tokio::select! {
            () = tokio::time::sleep(timings.definition) => {}
            () = shutdown.cancelled() => return false,
        }
    }
}

/// Repeats `ask` until it is answered; nothing on shutdown.
async fn unless_shutdown<T, F>(
    shutdown: &CancellationToken,
    timings: &Timings,
    mut ask: impl FnMut() -> F,
) -> Option<T>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    loop {
        tokio::select! {
            answer = ask() => match answer {
                Ok(value) => return Some(value),
                Err(error) => tracing::warn!(%error, "the API server cannot be asked; trying again"),
            },
            () = shutdown.cancelled() => return None,
        }
        tokio::select! {
            () = tokio::time::sleep(timings.definition) => {}
            () = shutdown.cancelled() => return None,
        }
    }
}
