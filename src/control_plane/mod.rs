//! The control plane: keeps a client for every data plane, copies configurations and Secrets there, fans
//! backups out, and aggregates what comes back.
//!
//! It speaks to data planes only through Kubernetes objects and never dials a pod (contract §1).

pub mod capabilities;
pub mod deployment;
pub mod fanout;
pub mod fleet;
pub mod inventory;
pub mod meters;
pub mod metrics;
pub mod registry;
pub mod replication;
pub mod restores;
pub mod runs;
pub mod schedules;
pub mod sources;
pub mod tasks;
pub mod undone;
pub mod view;

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    api::{labels, names},
    runtime::{
        events::Events,
        http::{self, Readiness},
        lease::{self, Leadership},
    },
};

/// Lease the replicas of one control plane compete for.
pub const LEASE: &str = "medusa-fleet-control-plane";
/// Pause before the start is tried again while the API server or a definition is missing.
const START_AGAIN: Duration = Duration::from_secs(2);

/// What the role is started with.
pub struct Config {
    /// Client for the cluster it runs in.
    pub client: Client,
    /// Namespace of the fleet objects.
    pub namespace: String,
    /// Where `/livez`, `/readyz` and `/metrics` are served; nowhere when absent.
    pub metrics_addr: Option<SocketAddr>,
    /// Whether only one of several replicas works at a time.
    pub leader_elect: bool,
    /// Kubeconfig fields that are accepted although they are unsafe.
    pub allow_unsafe: BTreeSet<String>,
    /// Namespaces whose ClientConfigs register clusters; every one when empty.
    pub client_configs_in: BTreeSet<String>,
    /// Age above which the newest complete restore point no longer protects a cluster.
    pub recovery_point_objective: Duration,
    /// Medusa's image where a K8ssandraCluster names none.
    pub medusa_image: deployment::image::Image,
}

/// Why the role ended.
#[derive(Debug, Error)]
pub enum RunError {
    /// The address for metrics cannot be bound.
    #[error("cannot listen on `{address}` for metrics; choose another with --metrics-addr: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The leader election does not work.
    #[error("cannot take part in the election of Lease `{name}`; grant `leases` in the namespace: {error}")]
    Election {
        /// Name of the Lease.
        name: &'static str,
        /// Why.
        error: String,
    },
    /// Another replica leads now.
    #[error("leadership was lost; another replica goes on")]
    LeadershipLost,
    /// A part ended that must not.
    #[error("the {0} ended unexpectedly; see the log")]
    PartEnded(&'static str),
}

/// Runs the control plane until `shutdown`.
///
/// # Errors
/// When it cannot start, or a part of it ends.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    let readiness = Readiness::default();
    let fleet = Arc::new(fleet::Fleet::default());
    let figures = metrics::Figures::default();
    let meters = Arc::new(meters::Meters::default());
    readiness.expect("registry");
    readiness.expect("inventory");
    if let Some(address) = config.metrics_addr {
        let collector = metrics::FleetCollector {
            fleet: fleet.clone(),
            figures: figures.clone(),
            meters: meters.clone(),
        };
        let registry = collector.registry();
        let bound = http::serve(address, readiness.clone(), Arc::new(registry), shutdown.clone())
            .await
            .map_err(|error| RunError::Listen { address, error })?;
        tracing::info!(%bound, "serving /livez, /readyz and /metrics");
    }
    let Some(control_plane) = start(&config, &shutdown).await else { return Ok(()) };
    readiness.ready("registry");
    let mut leadership = None;
    if config.leader_elect {
        // A replica that waits is as ready as it can be: it must not hold up a roll-out.
        readiness.ready("inventory");
        let won = lease::lead(
            config.client.clone(),
            &config.namespace,
            LEASE,
            labels::MANAGER_CONTROL_PLANE,
            &shutdown,
        )
        .await;
        match won.map_err(|error| RunError::Election { name: LEASE, error: error.to_string() })? {
            Some(won) => leadership = Some(won),
            None => return Ok(()),
        }
    }
    meters.set_leads(true);
    let ended = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        () = lost(&mut leadership) => return Err(RunError::LeadershipLost),
        part = work(config, control_plane, fleet, figures, meters, readiness, shutdown.clone()) => part,
    };
    if shutdown.is_cancelled() { Ok(()) } else { Err(RunError::PartEnded(ended)) }
}

/// Runs every part for ever; returns the name of one that ends all the same.
async fn work(
    config: Config,
    control_plane: String,
    fleet: Arc<fleet::Fleet>,
    figures: metrics::Figures,
    meters: Arc<meters::Meters>,
    readiness: Readiness,
    shutdown: CancellationToken,
) -> &'static str {
    let events = Events::new(config.client.clone(), labels::MANAGER_CONTROL_PLANE);
    let sources = sources::Sources::new(config.client.clone(), fleet.clone());
    let registry = registry::RegistryContext {
        client: config.client.clone(),
        namespace: config.namespace.clone(),
        fleet: fleet.clone(),
        sources: sources.clone(),
        client_configs_in: config.client_configs_in,
        control_plane: control_plane.clone(),
        meters: meters.clone(),
        allow_unsafe: config.allow_unsafe,
        events: events.clone(),
    };
    let (reports, deployed) = watch::channel(deployment::report::Reports::default());
    let replication = replication::ReplicationContext {
        client: config.client.clone(),
        fleet: fleet.clone(),
        sources: sources.clone(),
        deployed: deployed.clone(),
        control_plane: control_plane.clone(),
        events: events.clone(),
    };
    let deployment = deployment::DeploymentContext {
        client: config.client.clone(),
        namespace: config.namespace.clone(),
        fleet: fleet.clone(),
        sources: sources.clone(),
        control_plane: control_plane.clone(),
        image: config.medusa_image,
        events: events.clone(),
        reports,
        datacenters_written: undone::Memory::default(),
        objects_written: undone::Memory::default(),
    };
    let runs = runs::RunContext {
        client: config.client.clone(),
        namespace: config.namespace.clone(),
        fleet: fleet.clone(),
        control_plane: control_plane.clone(),
        events: events.clone(),
        claims: Arc::default(),
        meters,
    };
    let expectations = schedules::expectation::Expectations::default();
    let schedules = schedules::ScheduleContext::new(runs.clone(), expectations.clone());
    let inventory = inventory::InventoryContext {
        client: config.client.clone(),
        namespace: config.namespace.clone(),
        fleet,
        deployed,
        recovery_point_objective: SignedDuration::try_from(config.recovery_point_objective)
            .unwrap_or(SignedDuration::MAX),
        expectations,
        events,
        figures,
        readiness,
    };
    tokio::select! {
        () = registry::run(registry, shutdown.clone()) => "registry",
        () = sources.watch() => "watch of the sources",
        () = replication::run(replication) => "replication",
        () = deployment::run(deployment) => "deployment",
        () = fanout::run(runs.clone(), shutdown.clone()) => "fan-out",
        () = tasks::run(runs.clone(), shutdown.clone()) => "tasks",
        () = schedules::run(schedules, shutdown.clone()) => "schedules",
        () = restores::run(runs, shutdown) => "restores",
        () = inventory::run(inventory) => "inventory",
    }
}

async fn lost(leadership: &mut Option<Leadership>) {
    match leadership {
        Some(leadership) => leadership.lost().await,
        None => std::future::pending().await,
    }
}

/// Waits until the cluster answers and the definitions are there. Returns the value of the label on
/// everything this control plane writes: it must survive restarts and tell two control planes apart.
async fn start(config: &Config, shutdown: &CancellationToken) -> Option<String> {
    loop {
        match identity(config).await {
            Ok(id) => return Some(id),
            Err(error) => tracing::warn!(
                %error, namespace = config.namespace,
                "cannot start yet; are the definitions of `medusa-fleet crds` installed and does the namespace exist?"
            ),
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(START_AGAIN) => {}
        }
    }
}

async fn identity(config: &Config) -> Result<String, kube::Error> {
    let kube_system = Api::<Namespace>::all(config.client.clone()).get_metadata("kube-system").await?;
    registry::ensure_local(config.client.clone(), &config.namespace).await?;
    let uid = kube_system.metadata.uid.unwrap_or_default();
    Ok(names::label_value(&format!("{}.{uid}", config.namespace)))
}
