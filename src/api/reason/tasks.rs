//! Reasons of purges and syncs, and of what waits for one another.

macro_rules! reasons_of_tasks {
    ($next:ident $($rest:ident)*; $($before:tt)*) => {
        $next! {
            $($rest)*; $($before)*

            /// Medusa answered for five minutes that it cannot; its words are in the message.
            ///
            /// Read the log of container `medusa` in the pods that are named: usually it is the credentials.
            CallRefused: MedusaTask,
            /// There is no such backup: no FleetBackup or MedusaBackup of that name, or the storage does not hold it.
            ///
            /// See what there is: `kubectl medusa backups`. `kubectl medusa sync` brings that up to date; see that
            /// bucket and prefix are those of the backup.
            BackupNotFound: FleetRestoreJob MedusaTask MedusaRestoreJob,
            /// The storage lists none of the MedusaBackups that are known here, or two listings differ, so nothing was
            /// deleted.
            ///
            /// See that bucket and prefix are right. If everything was purged on purpose, delete the MedusaBackups by
            /// hand.
            BackupsNotListed: FleetTask MedusaTask,
            /// A restore of the datacenter is at work, or may be: its object cannot be read.
            ///
            /// Wait for its end. If that will never come, delete the MedusaRestoreJob that the message names.
            RestoreRunning: FleetCluster K8ssandraCluster FleetTask FleetRestoreJob MedusaTask MedusaRestoreJob,
            /// The cluster is being restored, or another restore of it goes first.
            ///
            /// Wait for the restore that the message names. If it will never end, cancel it.
            RestoreInProgress: FleetBackupJob FleetTask FleetRestoreJob,
            /// A backup of the datacenter, or of the cluster, has to end first.
            ///
            /// Wait. If it will never end, cancel or delete the object that the message names.
            BackupRunning: FleetTask FleetRestoreJob MedusaTask MedusaRestoreJob,
            /// A purge has to end first.
            ///
            /// Wait. If it will never end, delete the MedusaTask that the message names.
            PurgeRunning: FleetBackupJob FleetTask FleetRestoreJob MedusaBackupJob MedusaTask MedusaRestoreJob,
            /// A purge has no end for a day, so backups do not wait for it any more.
            ///
            /// Delete the MedusaTask that the message names.
            PurgeAbandoned: FleetBackupJob,
            /// The purge might remove the cluster's last complete restore point, or the datacenter's newest whole
            /// backup; the message says by which limit. Nothing was purged.
            ///
            /// Back it up first: `kubectl medusa backup --cluster NAME`. Or raise `maxBackupAge` or `maxBackupCount`.
            WouldRemoveLastRestorePoint: FleetTask MedusaTask,
            /// Whether the cluster would keep a complete restore point cannot be told, as a data plane of it does not
            /// answer or does not show what it holds.
            ///
            /// See the DataPlane that the message names.
            RestorePointsUnknown: FleetTask,
            /// The MedusaTask ended without the word of every pod.
            ///
            /// `kubectl describe medusatask` in the data plane says more. Then run it again.
            TaskIncomplete: FleetTask,
            /// The purge is done and its sync is not, or a sync ended without being whole and another follows.
            ///
            /// Wait.
            AwaitingSync: FleetTask,
            /// A sync failed: after a purge, or before a restore that needs it.
            ///
            /// The message says why. After a purge, `kubectl medusa sync` repeats it.
            SyncFailed: FleetTask FleetRestoreJob,
            /// No controller began with the MedusaTask in time, so it was taken back.
            ///
            /// See that `medusa-fleet data-plane` or k8ssandra-operator runs there. Then run it again.
            NotStarted: FleetTask,
        }
    };
}
