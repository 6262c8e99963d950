//! The control plane: keeps a client for every data plane, copies configurations and Secrets there, fans
//! backups out, and aggregates what comes back.
//!
//! It speaks to data planes only through Kubernetes objects and never dials a pod.

pub mod data_planes;
pub mod deployment;
mod fanout;
pub mod identity;
pub mod inventory;
mod leaving;
pub mod registry;
mod replication;
mod restores;
pub mod runs;
pub mod schedules;
mod shards;
mod sources;
mod tasks;

use std::{collections::BTreeSet, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use jiff::SignedDuration;
use kube::{Api, Client, api::ListParams};
use thiserror::Error;
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use self::{
    data_planes::{
        fleet::Fleet,
        meters::Meters,
        metrics::{Figures, FleetCollector},
        published::Published,
    },
    identity::{Identity, keep},
    registry::reports::Watchers,
    shards::{Follower, Replicas},
};
use crate::{
    api::{fleet::DataPlane, labels},
    runtime::{
        backoff::Backoff,
        clock::Clock,
        events::Events,
        fence::Fence,
        guard::{self, again},
        http::{self, Readiness},
        lease::{self, Candidate, Leadership},
    },
};

/// Lease the replicas of one control plane compete for.
pub const LEASE: &str = "medusa-fleet-control-plane";
/// Pause before the start is tried again while the API server or a definition is missing.
const START_AGAIN: Duration = Duration::from_secs(2);

/// What has to be there before anything can begin.
const DEFINITIONS: &str =
    "are the definitions of `medusa-fleet crds` installed and does the namespace exist?";
/// What the fleet's name needs.
const IDENTITY: &str = "may it get, list, watch, create and patch ConfigMap `medusa-fleet-identity` there, and get \
                        namespace `kube-system`?";

/// The parts of the control plane.
const PARTS: [&str; 11] = [
    "registry",
    "views of the replicas",
    "local data plane",
    "sources",
    "replication",
    "deployment",
    "fan-out",
    "tasks",
    "schedules",
    "restores",
    "inventory",
];

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
    /// Namespaces whose MedusaConfigurations and K8ssandraClusters are followed; every one when empty.
    pub sources_in: BTreeSet<String>,
    /// Namespaces of its own cluster that are worked in where the DataPlane `local` names none; every one when empty.
    pub local_in: BTreeSet<String>,
    /// Age above which the newest complete restore point no longer protects a cluster.
    pub recovery_point_objective: Duration,
    /// Medusa's image where a K8ssandraCluster names none.
    pub medusa_image: deployment::pod::image::Image,
    /// In how many shards the data planes are spread over the replicas; 0 where the leader watches all.
    pub shards: u32,
    /// Name of the fleet; the one it had where none is given, or else one that is made of where it is installed.
    pub fleet_name: Option<String>,
    /// The time by which it decides.
    pub clock: Clock,
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
    /// Another replica leads now.
    #[error("leadership was lost; another replica goes on")]
    LeadershipLost,
    /// Somebody adopted a fleet, or said what will not come back.
    #[error(
        "the names in ConfigMap `{}` changed; everything is looked at anew with the next start",
        identity::RECORD
    )]
    IdentityChanged,
    /// A part ended that must not.
    #[error("the {0} ended unexpectedly; see the log")]
    PartEnded(&'static str),
}

/// Runs the control plane until `shutdown`.
///
/// # Errors
/// When it cannot start, or a part of it ends.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    if config.shards == 0 {
        return run_replica(config, None, shutdown).await;
    }
    let replicas = Replicas::new(
        config.client.clone(),
        &config.namespace,
        lease::identity(),
        config.shards,
        config.clock.clone(),
    );
    let (replicas, stop) = (Arc::new(replicas), CancellationToken::new());
    // A task of its own: nothing this process does may keep it from saying that it is there.
    let (member, told) = (replicas.clone(), stop.clone());
    let member = tokio::spawn(async move { member.run(told).await });
    let outcome = run_replica(config, Some(replicas), shutdown).await;
    stop.cancel();
    let _ = member.await;
    outcome
}

async fn run_replica(
    mut config: Config,
    replicas: Option<Arc<Replicas>>,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let readiness = Readiness::default();
    let fleet = Arc::new(Fleet::by(config.clock.clone()));
    let is_alone = replicas.is_none();
    let watched = if is_alone { fleet.clone() } else { Arc::new(Fleet::by(config.clock.clone())) };
    let figures = Figures::default();
    let meters = Arc::new(Meters::default());
    readiness.expect("registry");
    readiness.expect("inventory");
    if let Some(address) = config.metrics_addr {
        let collector = FleetCollector {
            fleet: fleet.clone(),
            watched: watched.clone(),
            figures: figures.clone(),
            meters: meters.clone(),
        };
        let registry = collector.registry(&PARTS);
        let bound = http::serve(address, readiness.clone(), Arc::new(registry), shutdown.clone())
            .await
            .map_err(|error| RunError::Listen { address, error })?;
        tracing::info!(%bound, "serving /livez, /readyz and /metrics");
    }
    // The Lease alone is written past the fence.
    let home = config.client.clone();
    let fence = if config.leader_elect { Fence::down() } else { Fence::open() };
    config.client = fence.guard(home.clone());
    let planes: Api<DataPlane> = Api::namespaced(config.client.clone(), &config.namespace);
    // Each makes a DataPlane first of all.
    let is_first = async || Ok(planes.list_metadata(&ListParams::default().limit(1)).await?.items.is_empty());
    let Some(is_first) = start(is_first, DEFINITIONS, &config, &readiness, &shutdown).await else {
        return Ok(());
    };
    readiness.ready("registry");
    let mut asking = JoinSet::new();
    asking.spawn(leaving::run(home.clone(), config.namespace.clone()));
    let mut watching = JoinSet::new();
    if let Some(replicas) = &replicas {
        let share = share(&config, home.clone(), replicas.clone(), watched, meters.clone());
        watching.spawn(shards::watch(share));
    }
    let mut leadership = None;
    if config.leader_elect {
        // A replica that waits is as ready as it can be: it must not hold up a roll-out.
        readiness.ready("inventory");
        let candidate =
            Candidate::new(home, (&config.namespace, LEASE), is_first, fence.clone(), readiness.clone());
        let won = tokio::select! {
            won = candidate.lead(&shutdown) => won,
            Some(ended) = watching.join_next() => return Err(watch_ended(ended)),
        };
        match won {
            Some(won) => leadership = Some(won),
            None => return Ok(()),
        }
        readiness.expect("inventory");
    } else {
        asking.spawn(http::ask(home, readiness.clone()));
    }
    // Only the leader: it is written down, and may have been changed while another led.
    let (client, namespace, name) =
        (config.client.clone(), config.namespace.clone(), config.fleet_name.clone());
    let identity = keep::Start { client: &client, namespace: &namespace, fleet: name.as_deref() };
    let control_plane = tokio::select! {
        found = start(async || identity.establish().await, IDENTITY, &config, &readiness, &shutdown) => found,
        () = Leadership::lost_of(leadership.as_ref()) => return Err(RunError::LeadershipLost),
    };
    let Some(control_plane) = control_plane else { return Ok(()) };
    meters.set_leads(true);
    tracing::info!(fleet = control_plane.fleet(), installation = control_plane.installation(), "at work");
    let is = control_plane.clone();
    // It is not told of the shutdown: it goes on until what it writes is answered, and then is gone.
    let shared = SharedParts { fence, fleet, figures, meters, readiness, replicas };
    let mut work = pin!(work(config, control_plane, shared));
    let mut outcome = Ok(());
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = identity.changed(&is) => outcome = Err(RunError::IdentityChanged),
        Some(ended) = watching.join_next() => outcome = Err(watch_ended(ended)),
        () = Leadership::lost_of(leadership.as_ref()) => return Err(RunError::LeadershipLost),
        part = work.as_mut() => return Err(RunError::PartEnded(part)),
    }
    if let Some(leadership) = leadership {
        tokio::select! {
            () = leadership.release() => {}
            part = work.as_mut() => return Err(RunError::PartEnded(part)),
        }
    }
    outcome
}

/// Why the watching of a share ended: by itself only when the control plane is somebody else.
fn watch_ended(ended: Result<(), JoinError>) -> RunError {
    ended.map_or(RunError::PartEnded("watch of the share"), |()| RunError::IdentityChanged)
}

/// What a replica watches its share with.
fn share(
    config: &Config,
    home: Client,
    replicas: Arc<Replicas>,
    fleet: Arc<Fleet>,
    meters: Arc<Meters>,
) -> shards::WatchConfig {
    shards::WatchConfig {
        client: home,
        namespace: config.namespace.clone(),
        fleet_name: config.fleet_name.clone(),
        allow_unsafe: config.allow_unsafe.clone(),
        client_configs_in: config.client_configs_in.clone(),
        local_in: config.local_in.clone(),
        meters,
        fleet,
        replicas,
    }
}

/// What the parts share with each other, and with who waits for them.
struct SharedParts {
    fence: Fence,
    fleet: Arc<Fleet>,
    figures: Figures,
    meters: Arc<Meters>,
    readiness: Readiness,
    replicas: Option<Arc<Replicas>>,
}

/// Runs every part for ever; returns the name of one that ends all the same.
async fn work(config: Config, control_plane: Identity, shared: SharedParts) -> &'static str {
    let SharedParts { fence, fleet, figures, meters, readiness, replicas } = shared;
    let never = CancellationToken::new();
    let local = (config.client.clone(), config.namespace.clone());
    let events = Events::new(config.client.clone(), labels::MANAGER_CONTROL_PLANE);
    let sources = sources::Sources::new(
        config.client.clone(),
        fleet.clone(),
        config.namespace.clone(),
        config.sources_in,
        &config.client_configs_in,
    );
    let follower = replicas.map(|replicas| Follower {
        fleet: fleet.clone(),
        reports: Arc::default(),
        replicas,
        client: config.client.clone(),
        namespace: config.namespace.clone(),
    });
    let watchers =
        follower.as_ref().map_or(Watchers::Alone, |follower| Watchers::Replicas(follower.reports.clone()));
    let registry = registry::RegistryContext {
        client: config.client.clone(),
        namespace: config.namespace.clone(),
        fence,
        fleet: fleet.clone(),
        sources: sources.clone(),
        client_configs_in: config.client_configs_in,
        local_in: config.local_in,
        control_plane: control_plane.clone(),
        meters: meters.clone(),
        allow_unsafe: config.allow_unsafe,
        events: events.clone(),
        watchers,
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
        reconciles: meters.reconciles.clone(),
        reports,
        datacenters_written: data_planes::undone::WriteMemory::default(),
        objects_written: data_planes::undone::WriteMemory::default(),
    };
    let (published, keep_published) = Published::follow(&config.client, &config.namespace);
    let runs = runs::RunContext {
        client: config.client.clone(),
        namespace: config.namespace.clone(),
        fleet: fleet.clone(),
        control_plane: control_plane.clone(),
        events: events.clone(),
        published: published.clone(),
        claims: Arc::default(),
        meters,
        since: tokio::time::Instant::now(),
    };
    let expectations = inventory::expectation::Expectations::default();
    let inventory = inventory::InventoryContext {
        client: config.client.clone(),
        namespace: config.namespace.clone(),
        fleet,
        published,
        deployed,
        recovery_point_objective: SignedDuration::try_from(config.recovery_point_objective)
            .unwrap_or(SignedDuration::MAX),
        expectations: expectations.clone(),
        events,
        figures,
        readiness,
    };
    let schedules = || schedules::ScheduleContext::new(runs.clone(), expectations.clone());
    // A panic in here ends the work for one object or one data plane; one outside all those edges begins its part anew.
    tokio::select! {
        () = again("registry", || registry::run(registry.clone(), never.clone())) => "registry",
        () = again("views of the replicas", || follow(follower.as_ref())) => "views of the replicas",
        // What it keeps is lent to the others: nothing of it can begin anew by itself.
        _ = guard::keep("published", keep_published) => "watch of what is published",
        () = again("local data plane", || keep_local(&local.0, &local.1)) => "local data plane",
        () = again("sources", || sources.clone().watch()) => "watch of the sources",
        () = again("replication", || replication::run(replication.clone())) => "replication",
        () = again("deployment", || deployment::run(deployment.clone())) => "deployment",
        () = again("fan-out", || fanout::run(runs.clone(), never.clone())) => "fan-out",
        () = again("tasks", || tasks::run(runs.clone(), never.clone())) => "tasks",
        () = again("schedules", || schedules::run(schedules(), never.clone())) => "schedules",
        () = again("restores", || restores::run(runs.clone(), never.clone())) => "restores",
        () = again("inventory", || inventory::run(inventory.clone())) => "inventory",
    }
}

/// Follows what the replicas see, where there are several.
async fn follow(follower: Option<&Follower>) {
    match follower {
        Some(follower) => follower.run().await,
        None => std::future::pending().await,
    }
}

/// Makes the DataPlane of this cluster, for as long as that fails: whatever is in its way is in no other's.
async fn keep_local(client: &Client, namespace: &str) {
    let mut pauses = Backoff::new(START_AGAIN, Duration::from_mins(1));
    while let Err(error) = registry::ensure_local(client.clone(), namespace).await {
        tracing::warn!(%error, namespace, "cannot make the DataPlane of this cluster; does the namespace exist?");
        tokio::time::sleep(pauses.failed(&())).await;
    }
    std::future::pending::<()>().await;
}

/// Waits until the cluster answers; returns what `ask` reads. `needs` says what that needs, for people.
async fn start<T>(
    ask: impl AsyncFn() -> Result<T, kube::Error>,
    needs: &str,
    config: &Config,
    readiness: &Readiness,
    shutdown: &CancellationToken,
) -> Option<T> {
    loop {
        match ask().await {
            Ok(found) => {
                readiness.answered();
                return Some(found);
            }
            Err(error) => tracing::warn!(
                %error, namespace = config.namespace, "cannot start yet; {needs}"
            ),
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(START_AGAIN) => {}
        }
    }
}

#[cfg(test)]
mod arbitrary_tests;
#[cfg(test)]
mod judges_tests;
