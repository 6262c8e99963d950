//! The role that runs beside Cassandra: it carries out the `medusa.k8ssandra.io` kinds of its cluster by
//! talking gRPC to the Medusas in the Cassandra pods.
//!
//! In reading order: `frame` (what all kinds are carried out in) ← `medusa` (the Medusas of a datacenter over gRPC) ← `task`,
//! `backup`, `restore`, `schedule`, `configuration` (one kind each) ← this file (start-up). Nothing here may know of a
//! fleet: other clusters, control planes and the command line are out of sight.

pub mod backup;
pub mod configuration;
pub mod frame;
pub mod medusa;
pub mod restore;
pub mod schedule;
pub mod task;

use std::{net::SocketAddr, sync::Arc};

use futures::{FutureExt as _, future::join_all};
use kube::{Client, Resource as _};
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::{
    frame::{
        context::{Context, Reconciler, Tools},
        controllers::{self, no_triggers, served, unless_shutdown},
        lifecycle::Life,
        metrics::Metrics,
        presence,
    },
    medusa::pool::Pool,
};
use crate::{
    api::{labels, operator},
    runtime::{
        clock::Clock,
        events::Events,
        fence::Fence,
        guard::again,
        http::{self, Readiness},
        lease::{Candidate, Leadership},
    },
};

pub use frame::timings::Timings;

/// Definitions this role cannot work without.
const DEFINITIONS: [&str; 2] = ["medusabackupjobs", "medusabackups"];
/// Readiness gate of the definitions.
const GATE: &str = "medusa.k8ssandra.io definitions";

/// Lease the replicas compete for. It is not the one that tells control planes who is at work here.
pub const LEADER_LEASE: &str = "medusa-fleet-data-plane-leader";

/// Shows which webhooks there are, and in which objects.
const FIND_WEBHOOKS: &str = "kubectl get mutatingwebhookconfigurations,validatingwebhookconfigurations \
     -o custom-columns='KIND:.kind,NAME:.metadata.name,WEBHOOKS:.webhooks[*].name,POLICY:.webhooks[*].failurePolicy'";

/// The parts of a data plane.
const PARTS: [&str; 6] = ["backups", "tasks", "schedules", "restores", "configurations", "lease"];

/// How to run the data plane.
#[derive(Clone)]
pub struct Config {
    /// The cluster to work in.
    pub client: Client,
    /// Where our own Leases live.
    pub namespace: String,
    /// Whether only one of several replicas works at a time.
    pub leader_elect: bool,
    /// Namespaces to work in; empty means all.
    pub watch_namespaces: Vec<String>,
    /// Start although k8ssandra-operator runs here.
    pub take_over: bool,
    /// Where `/livez`, `/readyz` and `/metrics` are served, if anywhere.
    pub metrics_addr: Option<SocketAddr>,
    /// Deadlines and budgets.
    pub timings: Timings,
    /// The time.
    pub clock: Clock,
}

/// Why the data plane does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Somebody else does the same work here.
    #[error(
        "k8ssandra-operator runs in this cluster ({}) and reconciles the same kinds: both would start every \
         backup. Leave this cluster to it, or scale it to zero, or start with --take-over once it no longer \
         handles Medusa. Scaled to zero, it answers its admission webhooks no more, and as long as these are \
         there no Cassandra pod can be created: delete the MutatingWebhookConfiguration and the \
         ValidatingWebhookConfiguration that have webhooks {}, and keep cass-operator's. `{}` \
         shows which have them (docs/migration.md)", .0.join(", "), operator::WEBHOOKS.join(", "), FIND_WEBHOOKS
    )]
    OperatorRuns(Vec<String>),
    /// The address for `/metrics` cannot be bound.
    #[error("cannot serve metrics on {0}: {1}; give another --metrics-addr")]
    Metrics(SocketAddr, #[source] std::io::Error),
    /// Another replica leads now.
    #[error("leadership was lost; another replica goes on")]
    LeadershipLost,
}

/// Runs until `shutdown`. An API server that does not answer is waited for, but by a leader for 10 s only (ADR 21):
/// another may lead by then.
///
/// # Errors
/// When the role must not or cannot start.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    let Config {
        client: home,
        namespace,
        leader_elect,
        watch_namespaces,
        take_over,
        metrics_addr,
        timings,
        clock,
    } = config;
    // The Lease of the election alone is written past the fence.
    let fence = if leader_elect { Fence::down() } else { Fence::open() };
    let client = fence.guard(home.clone());
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry, &PARTS);
    let readiness = Readiness::default();
    readiness.expect(GATE);
    if let Some(address) = metrics_addr {
        let bound = http::serve(address, readiness.clone(), Arc::new(registry), shutdown.clone())
            .await
            .map_err(|error| RunError::Metrics(address, error))?;
        tracing::info!(%bound, "serves /livez, /readyz and /metrics");
    }
    let mut beside = JoinSet::new();
    beside.spawn(http::ask(home.clone(), readiness.clone()));
    if !take_over {
        let look = || presence::operators(&client, &watch_namespaces, clock.now());
        let found = unless_shutdown(&shutdown, timings.definition, look).await;
        match found {
            Some(running) if !running.is_empty() => return Err(RunError::OperatorRuns(running)),
            Some(_) => {}
            None => return Ok(()),
        }
    }
    let events = Events::new(client.clone(), labels::MANAGER_DATA_PLANE);
    let medusas = Pool::new(timings, metrics.medusa_connections.clone(), fence.clone());
    let tools = Tools { client: client.clone(), events, timings, metrics, clock };
    let scopes: Vec<Option<String>> = if watch_namespaces.is_empty() {
        vec![None]
    } else {
        watch_namespaces.into_iter().map(Some).collect()
    };
    // Also a replica that stands by is not ready without them.
    let definitions = {
        let (client, readiness, shutdown) = (client.clone(), readiness.clone(), shutdown.clone());
        async move {
            let are_served = served(&client, &DEFINITIONS, timings.definition, &shutdown).await;
            if are_served {
                readiness.ready(GATE);
            }
            are_served
        }
    }
    .boxed()
    .shared();
    beside.spawn(definitions.clone().map(drop));
    let mut leadership = None;
    if leader_elect {
        let candidate = Candidate::new(home, (&namespace, LEADER_LEASE), false, fence, readiness);
        match candidate.lead(&shutdown).await {
            Some(won) => leadership = Some(won),
            None => return Ok(()),
        }
    }
    let work = async {
        if !definitions.await {
            return;
        }
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "data plane runs");
        let (tools, scopes, shutdown) = (&tools, &scopes, &shutdown);
        // A panic in here ends the work for one object; one outside all those edges begins its kind anew.
        futures::join!(
            again("backups", || kind::<Life<backup::BackupRun>>(tools, medusas.clone(), scopes, shutdown)),
            again("tasks", || later::<Life<task::TaskRun>>(tools, medusas.clone(), scopes, shutdown)),
            again("schedules", || schedule::run(tools, scopes, shutdown)),
            again("restores", || later::<restore::Restoration>(tools, medusas.clone(), scopes, shutdown)),
            again("configurations", || later::<configuration::Configuration>(tools, (), scopes, shutdown)),
        );
    };
    let lease = again("lease", || {
        presence::publish(
            client.clone(),
            namespace.clone(),
            timings.lease,
            tools.clock.clone(),
            shutdown.clone(),
        )
    });
    tokio::select! {
        _ = futures::future::join(work, lease) => {}
        () = Leadership::lost_of(leadership.as_ref()) => return Err(RunError::LeadershipLost),
    }
    if let Some(leadership) = leadership {
        leadership.release().await;
    }
    Ok(())
}

/// Reconciles one kind in each of `scopes`.
async fn kind<R: Reconciler>(
    tools: &Tools,
    shared: R::Shared,
    scopes: &[Option<String>],
    shutdown: &CancellationToken,
) {
    let ctx = Arc::new(Context::<R>::new(tools.clone(), shared));
    join_all(scopes.iter().map(|scope| {
        controllers::run(Arc::clone(&ctx), scope.as_deref(), no_triggers::<R>, shutdown.clone())
    }))
    .await;
}

/// As [`kind`], once the cluster serves the kind's definition: older ones lack some.
async fn later<R: Reconciler>(
    tools: &Tools,
    shared: R::Shared,
    scopes: &[Option<String>],
    shutdown: &CancellationToken,
) {
    let definition = R::Object::plural(&());
    if served(&tools.client, &[&definition], tools.timings.definition, shutdown).await {
        kind::<R>(tools, shared, scopes, shutdown).await;
    }
}

#[cfg(test)]
mod arbitrary_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_to_scale_the_operator_to_zero_is_told_of_its_webhooks() {
        let message = RunError::OperatorRuns(vec!["ops/operator".to_owned()]).to_string();
        for word in
            ["ops/operator", "--take-over", "mpod.kb.io", "vmedusabackupschedule.kb.io", FIND_WEBHOOKS]
        {
            assert!(message.contains(word), "{word}: {message}");
        }
        assert!(!message.contains("  "), "{message}");
    }
}
