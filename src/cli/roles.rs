//! The two controllers as started from the command line.

use tokio_util::sync::CancellationToken;

use super::{
    args::{ControlPlane, Controller, DataPlane, Global},
    failure::{Failure, Outcome},
    home::ControlPlaneClient,
};
use crate::{
    control_plane, data_plane,
    runtime::{clock::Clock, guard, shutdown, telemetry},
};

/// Threads of a controller: it waits for networks, not for processors.
const WORKERS: usize = 2;

/// Runs the control plane's controller until it is told to stop.
///
/// # Errors
/// When it cannot start, or ends by itself.
pub fn control_plane(global: &Global, args: &ControlPlane) -> Outcome {
    if args.shards > 0 && !args.controller.leader_elect {
        let why = "--shards needs --leader-elect: one of the replicas decides what the others watch";
        return Err(Failure::CouldNotAsk(why.to_owned()));
    }
    start(&args.controller, async |shutdown| {
        let config = control_plane::Config {
            client: connect(global)?,
            namespace: global.namespace.clone(),
            metrics_addr: args.controller.metrics_addr.0,
            leader_elect: args.controller.leader_elect,
            allow_unsafe: filled(&args.allow_unsafe_kubeconfig).collect(),
            client_configs_in: filled(&args.client_config_namespaces).collect(),
            sources_in: filled(&args.source_namespaces).collect(),
            local_in: filled(&args.local_namespaces).collect(),
            recovery_point_objective: args.recovery_point_objective,
            medusa_image: args.medusa_image.clone(),
            shards: args.shards,
            fleet_name: args.fleet_name.clone().filter(|name| !name.is_empty()),
            clock: Clock::system(),
        };
        Box::pin(control_plane::run(config, shutdown)).await.map_err(|error| ended("control-plane", &error))
    })
}

/// Runs a data plane's controller until it is told to stop.
///
/// # Errors
/// When it cannot start, or ends by itself.
pub fn data_plane(global: &Global, args: &DataPlane) -> Outcome {
    start(&args.controller, async |shutdown| {
        let config = data_plane::Config {
            client: connect(global)?,
            namespace: global.namespace.clone(),
            watch_namespaces: filled(&args.watch_namespace).collect(),
            take_over: args.take_over,
            metrics_addr: args.controller.metrics_addr.0,
            leader_elect: args.controller.leader_elect,
            timings: data_plane::Timings::default(),
            clock: Clock::system(),
        };
        data_plane::run(config, shutdown).await.map_err(|error| ended("data-plane", &error))
    })
}

/// What is listed: an empty variable lists nothing.
fn filled(list: &[String]) -> impl Iterator<Item = String> {
    list.iter().filter(|item| !item.is_empty()).cloned()
}

/// Logging, threads and signals, then the role.
fn start(args: &Controller, role: impl AsyncFnOnce(CancellationToken) -> Outcome) -> Outcome {
    guard::log_panics();
    telemetry::init(args.log_format, &args.log_filter).map_err(|error| {
        Failure::CouldNotAsk(format!("cannot use --log-filter `{}`: {error}", args.log_filter))
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(|error| Failure::CouldNotAsk(format!("cannot start threads: {error}")))?;
    runtime.block_on(async {
        let shutdown = shutdown::on_signals()
            .map_err(|error| Failure::CouldNotAsk(format!("cannot listen for signals: {error}")))?;
        role(shutdown).await
    })
}

fn connect(global: &Global) -> Outcome<kube::Client> {
    ControlPlaneClient::connect(global, global.context.as_deref()).map(|home| home.client)
}

fn ended(role: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::Failed(format!("{role} ended: {error}"))
}
