//! Reasons of Medusa's deployment into datacenters.

macro_rules! reasons_of_deployment {
    ($next:ident $($rest:ident)*; $($before:tt)*) => {
        $next! {
            $($rest)*; $($before)*

            /// The MedusaConfiguration that `spec.medusa.medusaConfigurationRef` names does not exist.
            ///
            /// Create it in the K8ssandraCluster's namespace, or correct the name.
            ConfigurationNotFound: FleetCluster K8ssandraCluster,
            /// k8ssandra-operator manages the datacenter and deploys Medusa there; only configurations and Secrets are
            /// copied.
            ///
            /// Nothing to do.
            ManagedElsewhere: FleetCluster K8ssandraCluster,
            /// A trial of the write showed that somebody else would lose a field by it, so nothing was written.
            ///
            /// Take back what the message names, or install cass-operator's definition of CassandraDatacenter.
            UnsafeApply: FleetCluster K8ssandraCluster,
            /// What was asked for is being put into the datacenter.
            ///
            /// Wait. If it takes long, look at the CassandraDatacenter.
            Deploying: FleetCluster K8ssandraCluster,
            /// Medusa is deployed; fields that somebody else set in it are left as they are, and `medusa.kept` of the
            /// FleetCluster lists them.
            ///
            /// Nothing to do. To hand a field back, remove it from the CassandraDatacenter.
            FieldsKept: FleetCluster K8ssandraCluster,
            /// Medusa is deployed for `azure_blobs` with `role-based` and does not know the storage account: it finds its
            /// name in the environment only, and every backup fails unless something else, such as a webhook, sets it there.
            ///
            /// Add variable `AZURE_STORAGE_ACCOUNT` to `env` of the containers `medusa` and `medusa-restore` in the
            /// CassandraDatacenter's `spec.podTemplateSpec`.
            StorageAccountMissing: FleetCluster K8ssandraCluster,
            /// Medusa was taken out of the datacenter, and cass-operator is at work.
            ///
            /// Wait. If it takes long, look at the CassandraDatacenter.
            Removing: FleetCluster K8ssandraCluster,
            /// Medusa is not wanted any more, and the datacenter still refers to what would be deleted with it: its pods
            /// would not start. Either others declare a part of Medusa's containers and volumes, so that nothing is taken out
            /// yet, or Medusa is out, and its ConfigMap and Secrets stay as long as another field refers to one of them.
            /// On a DataPlane it is an Event: a Secret that was copied there and that nobody wants any more stays, as a
            /// datacenter beside it refers to it.
            ///
            /// Take the field that the message names out where its owner keeps it. The rest goes by itself.
            StillInUse: DataPlane FleetCluster K8ssandraCluster,
            /// Medusa with `local` storage was taken out. The volumes with its backups are left where they are.
            ///
            /// Delete their PersistentVolumeClaims by hand when nobody needs the backups any more.
            VolumeKept: K8ssandraCluster,
            /// Medusa runs in every datacenter, as asked for.
            ///
            /// Nothing to do.
            MedusaDeployed: FleetCluster K8ssandraCluster,
            /// The pods of the datacenter have no container `medusa`.
            ///
            /// Deploy Medusa there: `spec.medusa` of its K8ssandraCluster. `kubectl medusa plan deploy` says what that
            /// waits for.
            MedusaNotDeployed: FleetCluster FleetBackupJob FleetTask FleetRestoreJob,
            /// No other cluster has its backups in the same place.
            ///
            /// Nothing to do.
            PrefixUnique: FleetCluster,
            /// Another cluster has its backups under the same prefix of the same bucket: each would see, and purge by,
            /// the other's.
            ///
            /// Give one of the two another `spec.medusa.storageProperties.prefix`.
            PrefixInUse: FleetCluster K8ssandraCluster,
            /// The datacenter is not ready. In a deployment, restarts in other datacenters wait for it; in a restore,
            /// pods restored and Cassandra does not come up.
            ///
            /// Look at the pods that are not ready, and at the log of Cassandra in them.
            DatacenterNotReady: FleetCluster K8ssandraCluster FleetRestoreJob MedusaRestoreJob,
        }
    };
}
