//! The data-plane role.

use std::{net::SocketAddr, time::Duration};

use tokio_util::sync::CancellationToken;

/// How long the role waits for what.
#[derive(Clone, Debug, Default)]
pub struct Timings {
    /// Placeholder for the role's own figures.
    pub poll: Duration,
}

/// What the role is started with.
#[derive(Clone)]
pub struct Config {
    /// Client for the data plane's cluster.
    pub client: kube::Client,
    /// The controller's own namespace.
    pub namespace: String,
    /// Namespaces to work in; all when empty.
    pub watch_namespaces: Vec<String>,
    /// Whether to start although k8ssandra-operator reconciles the same kinds.
    pub take_over: bool,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub metrics_addr: Option<SocketAddr>,
    /// How long to wait for what.
    pub timings: Timings,
}

/// Runs the role until `shutdown`.
///
/// # Errors
/// When it cannot start.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), std::io::Error> {
    let _ = config;
    shutdown.cancelled().await;
    Ok(())
}
