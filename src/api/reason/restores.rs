//! Reasons of restores, of one datacenter and of whole clusters.

macro_rules! reasons_of_restores {
    ($next:ident $($rest:ident)*; $($before:tt)*) => {
        $next! {
            $($rest)*; $($before)*

            /// The racks of the backup, or their numbers of nodes, are not the datacenter's.
            ///
            /// Scale the datacenter to the size of the backup first, or restore another one.
            TopologyMismatch: FleetRestoreJob FleetBackup MedusaRestoreJob,
            /// The datacenter's pods have no init container `medusa-restore`.
            ///
            /// Deploy Medusa there: `spec.medusa` of the cluster.
            RestoreContainerMissing: FleetRestoreJob MedusaRestoreJob,
            /// The datacenter is being stopped; it waits until no pod is left.
            ///
            /// Wait. Where `medusa-fleet data-plane` runs, it is given up after an hour.
            Stopping: FleetRestoreJob MedusaRestoreJob,
            /// The datacenter is stopped, and its StatefulSets learn what to restore.
            ///
            /// Wait. Where `medusa-fleet data-plane` runs, it is given up after 15 minutes.
            Preparing: FleetRestoreJob MedusaRestoreJob,
            /// The pods restore their data and start.
            ///
            /// Wait. `kubectl logs POD -c medusa-restore -f` shows what a pod does.
            Restoring: FleetRestoreJob MedusaRestoreJob,
            /// The datacenter gets its pod template and `stopped` back, by a rolling restart. The data is there
            /// already, if the restore went well.
            ///
            /// Wait.
            PuttingBack: FleetRestoreJob MedusaRestoreJob,
            /// The datacenter did not stop in time. Nothing was restored, and it is started again.
            ///
            /// See what keeps the pods that the message names.
            StopTimedOut: FleetRestoreJob MedusaRestoreJob,
            /// The StatefulSets did not take over the pod template in time. Nothing was restored.
            ///
            /// See that cass-operator runs.
            UpdateTimedOut: FleetRestoreJob MedusaRestoreJob,
            /// At least one pod found nothing to restore; the message says why.
            ///
            /// Usually the backup was purged meanwhile: write nothing, and restore another one.
            RestoreSkipped: FleetRestoreJob MedusaRestoreJob,
            /// Cassandra runs, and nobody can say with which data: the log of `medusa-restore` could not be read, or
            /// does not say.
            ///
            /// Permit `get` on `pods/log` if the message asks for it. Compare the data by hand, or restore again.
            RestoreUnconfirmed: FleetRestoreJob MedusaRestoreJob,
            /// Somebody else changed the datacenter in the middle of a restore.
            ///
            /// Find out who: usually a changed K8ssandraCluster. Look at the data, and restore again if the restore
            /// failed.
            DatacenterChanged: FleetRestoreJob MedusaRestoreJob,
            /// The Secret of a Cassandra user does not exist, so its password cannot be set anew after the restore.
            ///
            /// Create the Secret that the message names. Restored tables may hold an older password.
            UserSecretNotFound: MedusaRestoreJob,
            /// There is no such Cassandra cluster, or several of that name.
            ///
            /// `kubectl medusa clusters` lists them; give the FleetCluster's name.
            UnknownCluster: FleetRestoreJob,
            /// Every check has passed; nothing stands in the way of the restore.
            ///
            /// Nothing to do.
            ChecksPassed: FleetRestoreJob,
            /// A datacenter does not know its MedusaBackup; a sync has to look for it in the storage.
            ///
            /// Wait: it is made by itself, except in a dry run.
            SyncNeeded: FleetRestoreJob,
            /// A sync looks for the backup in the storage.
            ///
            /// Wait.
            Syncing: FleetRestoreJob,
            /// It is this datacenter's turn; its MedusaRestoreJob is about to be made.
            ///
            /// Wait a moment.
            Starting: FleetRestoreJob,
            /// The restore is being called off; the message says what still has to end.
            ///
            /// Wait.
            Cancelling: FleetRestoreJob,
            /// With `order: Serial`, a datacenter before this one was not restored, so this one was not touched.
            ///
            /// See why the one before failed, and restore again.
            PreviousFailed: FleetRestoreJob,
        }
    };
}
