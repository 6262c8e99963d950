//! Reasons of backups and of the nodes that take part in them.

macro_rules! reasons_of_backups {
    ($next:ident $($rest:ident)*; $($before:tt)*) => {
        $next! {
            $($rest)*; $($before)*

            /// The MedusaBackupJob has ended; its MedusaBackup is awaited, for a minute.
            ///
            /// Wait.
            AwaitingMedusaBackup: FleetBackupJob,
            /// There is no MedusaBackup: of a FleetBackupJob, its MedusaBackupJob ended without one; of a FleetCluster,
            /// other datacenters have that backup.
            ///
            /// If it was backed up there, `kubectl medusa sync --cluster NAME` finds it. Else back up again.
            MedusaBackupMissing: FleetBackupJob FleetCluster,
            /// The backup does not cover every node of the datacenter, or not every datacenter of the cluster.
            ///
            /// Take another backup, and restore a complete one. A node that was added during the backup has no part in
            /// it.
            BackupIncomplete: FleetBackupJob FleetRestoreJob FleetBackup MedusaBackupJob MedusaRestoreJob,
            /// The backup is of another Cassandra datacenter than this one.
            ///
            /// Restore the right one. If two datacenters share bucket and prefix, give each a prefix of its own.
            WrongDatacenter: FleetBackupJob FleetRestoreJob MedusaBackupJob MedusaRestoreJob,
            /// At least one node failed; the message names the pods.
            ///
            /// Read the log of their container `medusa`, of a restore `medusa-restore`. Then run it again under a new
            /// name.
            NodesFailed: FleetBackupJob FleetTask FleetRestoreJob MedusaBackupJob MedusaTask MedusaRestoreJob,
            /// The datacenter has fewer pods than `spec.size`, or none that could be asked.
            ///
            /// See what keeps the pods from being created.
            NoPods: FleetTask MedusaBackupJob MedusaTask,
            /// The pods that the message names have no container `medusa`.
            ///
            /// Deploy Medusa there: `spec.medusa` of the cluster.
            MedusaContainerMissing: FleetTask MedusaBackupJob MedusaTask,
            /// A node was told to start its backup and knows nothing of it after 12 minutes, or could not be told to.
            ///
            /// Read the log of container `medusa` in that pod: Cassandra does not answer Medusa, or the storage refuses
            /// the credentials or has no such bucket.
            BackupNotStarted: MedusaBackupJob,
            /// A node's Medusa gave no usable answer for too long, or no Medusa could be asked.
            ///
            /// Look for network policies on the way to the port named `grpc`, for TLS, and for a storage that hangs.
            NodeUnreachable: FleetRestoreJob MedusaBackupJob MedusaTask MedusaRestoreJob,
            /// A pod went away and did not come back within five minutes.
            ///
            /// Run it again when the datacenter has settled.
            PodGone: MedusaBackupJob MedusaTask,
            /// A node's Medusa restarted during the backup, which cannot be resumed under the same name.
            ///
            /// See why in the last state of container `medusa`, usually its memory. Then back up again.
            MedusaRestarted: MedusaBackupJob,
            /// The Secret with the TLS material for Medusa does not exist, or a key of it cannot be used.
            ///
            /// Correct the key that the message names: `ca.crt`, `tls.crt` and `tls.key`, in PEM.
            InvalidTlsSecret: FleetTask FleetRestoreJob MedusaBackupJob MedusaTask MedusaRestoreJob,
        }
    };
}
