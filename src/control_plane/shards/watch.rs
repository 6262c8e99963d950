//! One replica's part of the watching: the data planes of the shards it holds.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use kube::Client;
use tokio_util::sync::CancellationToken;

use super::{member::Replicas, publish::Publisher};
use crate::{
    api::labels,
    control_plane::{
        data_planes::{fleet::Fleet, meters::Meters},
        identity::{Identity, keep},
        registry::{
            self, RegistryContext,
            reports::{Share, Watchers},
        },
        sources::Sources,
    },
    runtime::{events::Events, fence::Fence, guard::again},
};

/// Pause before it is looked again who the control plane is: the first leader writes it down.
const AGAIN: Duration = Duration::from_secs(1);

/// What a replica needs to watch its share.
pub struct WatchConfig {
    /// The control plane's own cluster; it passes no fence, as a replica watches that does not lead.
    pub client: Client,
    /// The controller's namespace.
    pub namespace: String,
    /// Name of the fleet, where one was given.
    pub fleet_name: Option<String>,
    /// As the role was started with.
    pub allow_unsafe: BTreeSet<String>,
    /// Likewise.
    pub client_configs_in: BTreeSet<String>,
    /// Likewise.
    pub local_in: BTreeSet<String>,
    /// What is counted.
    pub meters: Arc<Meters>,
    /// The fleet as this replica sees it, which is filled here.
    pub fleet: Arc<Fleet>,
    /// This replica among the others.
    pub replicas: Arc<Replicas>,
}

/// Watches until the control plane is somebody else: then everything begins anew.
pub async fn run(config: WatchConfig) {
    let identity = keep::Start {
        client: &config.client,
        namespace: &config.namespace,
        fleet: config.fleet_name.as_deref(),
    };
    let is = loop {
        match identity.established().await {
            Ok(Some(is)) => break is,
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "cannot read who the control plane is; it is tried again"),
        }
        tokio::time::sleep(AGAIN).await;
    };
    tokio::select! {
        () = identity.changed(&is) => {}
        () = again("share of the data planes", || watch(&config, &is)) => {}
    }
}

async fn watch(config: &WatchConfig, control_plane: &Identity) {
    let fleet = config.fleet.clone();
    let share =
        Share { shards: config.replicas.shards, held: config.replicas.held(), reports: Arc::default() };
    let (client, namespace) = (config.client.clone(), config.namespace.clone());
    // Never filled: whether a ClientConfig lends its Secret the leader judges, and says so on the DataPlane.
    let sources = Sources::new(
        client.clone(),
        fleet.clone(),
        namespace.clone(),
        BTreeSet::new(),
        &config.client_configs_in,
    );
    let publisher = Publisher {
        fleet: fleet.clone(),
        share: share.clone(),
        replicas: config.replicas.clone(),
        client: client.clone(),
        namespace: namespace.clone(),
    };
    let registry = RegistryContext {
        client: client.clone(),
        namespace,
        // Who only watches asks what it may, which is a POST, and writes nothing.
        fence: Fence::open(),
        fleet,
        sources,
        client_configs_in: config.client_configs_in.clone(),
        local_in: config.local_in.clone(),
        control_plane: control_plane.clone(),
        meters: config.meters.clone(),
        allow_unsafe: config.allow_unsafe.clone(),
        events: Events::new(client, labels::MANAGER_CONTROL_PLANE),
        watchers: Watchers::Share(share),
    };
    tokio::select! {
        () = registry::run(registry, CancellationToken::new()) => {}
        () = publisher.run() => {}
    }
}
