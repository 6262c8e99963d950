//! What the control plane has published about the whole fleet, read back: one copy of it, which every part reads.
//!
//! There may be a hundred thousand restore points: each part that watched them by itself would keep them once more. Decides
//! nothing.

use kube::Client;

use crate::{
    api::fleet::{FleetBackup, FleetCluster},
    runtime::follow::{Cache, follow_own},
};

/// The objects that the inventory publishes, as the control plane's own cluster has them.
#[derive(Clone)]
pub struct Published {
    /// The FleetClusters.
    pub clusters: Cache<FleetCluster>,
    /// The FleetBackups: the restore points.
    pub backups: Cache<FleetBackup>,
}

impl Published {
    /// Those in `namespace`, and the task that keeps them current for as long as it is polled. It never ends.
    pub fn follow(client: &Client, namespace: &str) -> (Self, impl Future<Output = ()> + use<>) {
        let (clusters, keep_clusters) = follow_own(client.clone(), namespace);
        let (backups, keep_backups) = follow_own(client.clone(), namespace);
        let keep = async move {
            tokio::select! {
                () = keep_clusters => {}
                () = keep_backups => {}
            }
        };
        (Self { clusters, backups }, keep)
    }
}
