//! The control-plane role.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use tokio_util::sync::CancellationToken;

/// What the role is started with.
#[derive(Clone)]
pub struct Config {
    /// Client for the control-plane cluster.
    pub client: kube::Client,
    /// What `client` was made from, for the data plane called `local`.
    pub kube_config: Option<kube::Config>,
    /// The controller's own namespace.
    pub namespace: String,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub metrics_addr: Option<SocketAddr>,
    /// Whether to hold a Lease while working.
    pub leader_elect: bool,
    /// Kubeconfig fields that are accepted although unsafe.
    pub allow_unsafe: BTreeSet<String>,
    /// Age from which a restore point no longer protects.
    pub recovery_point_objective: Duration,
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
