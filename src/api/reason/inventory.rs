//! Reasons of what is found in all data planes: restore points, and whether clusters are protected.

macro_rules! reasons_of_inventory {
    ($next:ident $($rest:ident)*; $($before:tt)*) => {
        $next! {
            $($rest)*; $($before)*

            /// The newest complete restore point is young enough.
            ///
            /// Nothing to do.
            RecoveryPointFresh: FleetCluster,
            /// The newest complete restore point is too old.
            ///
            /// `kubectl medusa backups --cluster NAME` shows whether the younger ones are incomplete or missing. Then
            /// `kubectl medusa backup --cluster NAME`.
            RecoveryPointStale: FleetCluster,
            /// There never was a complete restore point.
            ///
            /// Make one: `kubectl medusa backup --cluster NAME`.
            NeverBackedUp: FleetCluster,
            /// There was a complete restore point, and there is none any more.
            ///
            /// See whether `kubectl medusa sync --cluster NAME` brings one back. If they were purged, make one:
            /// `kubectl medusa backup --cluster NAME`.
            NoCompleteRestorePoint: FleetCluster,
            /// A data plane does not answer, and what is known is too old.
            ///
            /// See its DataPlane: `kubectl medusa describe dataplane/NAME`.
            RecoveryPointUnknown: FleetCluster,
            /// A datacenter of this cluster says by its labels that it belongs to another one, which is not its data
            /// plane's to say.
            ///
            /// Take the label away, list the datacenter in the K8ssandraCluster, or permit it with annotation
            /// `fleet.k8ssandra.io/may-join` of the DataPlane.
            ClusterClaimed: FleetCluster,
            /// The backup is of a datacenter that is not in the cluster, which shares its storage. It protects nobody
            /// here.
            ///
            /// Nothing to do. To keep the two apart, give every cluster a prefix of its own.
            ForeignBackup: FleetBackup,
            /// The data planes agree about every restore point.
            ///
            /// Nothing to do.
            InventoryConsistent: FleetCluster,
            /// The data planes do not agree about a restore point; `status.drift` lists where.
            ///
            /// See the reason of each entry. Usually `kubectl medusa sync --cluster NAME` helps.
            InventoryDrifted: FleetCluster,
            /// The storage holds a backup of the datacenter that has no MedusaBackup there.
            ///
            /// `kubectl medusa sync --cluster NAME`.
            NotSynced: FleetCluster,
        }
    };
}
