//! Reasons of copies, of the Secrets behind them, and of writes that are refused.

macro_rules! reasons_of_copies {
    ($next:ident $($rest:ident)*; $($before:tt)*) => {
        $next! {
            $($rest)*; $($before)*

            /// Every copy is in place, or shared with somebody who keeps the same.
            ///
            /// Nothing to do.
            Replicated: MedusaConfiguration,
            /// Copies are on their way into data planes.
            ///
            /// Wait. If it stays, see the conditions of the DataPlane that the message names.
            Replicating: MedusaConfiguration FleetCluster K8ssandraCluster,
            /// Nothing asks for copies of it.
            ///
            /// Nothing to do. To have it copied, name it in a K8ssandraCluster's `spec.medusa`, or give it annotation
            /// `fleet.k8ssandra.io/targets`.
            NoTargets: MedusaConfiguration,
            /// A word in annotation `fleet.k8ssandra.io/targets` cannot be followed; the message quotes it.
            ///
            /// Correct the word: a data plane and a namespace, such as `eu-1/cassandra` or `us-1/*`, or `*` for
            /// everywhere.
            InvalidTargets: MedusaConfiguration,
            /// A data plane of that name is not registered, or not any more.
            ///
            /// Register it, or correct its name: `k8sContext` of a K8ssandraCluster, annotation
            /// `fleet.k8ssandra.io/targets`, or the run's selector.
            UnknownDataPlane:
                MedusaConfiguration FleetCluster K8ssandraCluster FleetBackupJob FleetTask FleetRestoreJob,
            /// The namespace of the copy does not exist in the data plane.
            ///
            /// Create it there, or take it out of the targets.
            NamespaceMissing: MedusaConfiguration FleetCluster K8ssandraCluster,
            /// An object of that name is there and is somebody else's, or the name was used before. It is left alone.
            ///
            /// Use another name, or rename or delete the other object, which the message names. If another fleet made
            /// it and its control plane is gone for good, `kubectl medusa adopt --from NAME` takes it over.
            NameConflict:
                DataPlane MedusaConfiguration FleetCluster K8ssandraCluster FleetBackupJob FleetTask FleetRestoreJob
                FleetBackupSchedule MedusaBackupJob MedusaTask MedusaBackupSchedule ClientConfig,
            /// Somebody takes back what is written, each time. The message names the field manager and the field. What
            /// restarts pods is not written a third time; the rest is, with pauses that grow to ten minutes.
            ///
            /// Let only one of the two write it: in Argo CD `ignoreDifferences` with `RespectIgnoreDifferences=true`.
            /// Where it is about Medusa in a datacenter, afterwards give annotation `fleet.k8ssandra.io/apply-again` of
            /// the K8ssandraCluster another value.
            Conflict: MedusaConfiguration FleetCluster K8ssandraCluster FleetBackupSchedule,
            /// The API server refuses the write; the message has its words.
            ///
            /// Correct what the message names: usually an admission policy, a quota or a missing permission. Most
            /// writes are tried again by themselves.
            WriteRefused:
                DataPlane MedusaConfiguration FleetCluster K8ssandraCluster FleetBackupJob FleetTask FleetRestoreJob
                FleetBackupSchedule MedusaBackupJob MedusaTask MedusaBackupSchedule ClientConfig,
            /// An admission policy or webhook, which the message names, denies it, or cannot be asked.
            ///
            /// Exempt the object or our account from it, or see why the webhook does not answer. It is tried again by
            /// itself.
            DeniedByPolicy:
                DataPlane MedusaConfiguration FleetCluster K8ssandraCluster FleetBackupJob FleetTask FleetRestoreJob,
            /// A quota of the namespace is used up; the message names it.
            ///
            /// Raise the quota, or make room. It is tried again by itself.
            QuotaExceeded: MedusaConfiguration FleetCluster K8ssandraCluster FleetBackupJob FleetTask FleetRestoreJob,
            /// The namespace is being deleted, so nothing can be made in it.
            ///
            /// Wait until it is gone, or take it out of what is asked for.
            NamespaceTerminating:
                MedusaConfiguration FleetCluster K8ssandraCluster FleetBackupJob FleetTask FleetRestoreJob,
            /// The Secrets with credentials are there and have the keys that Medusa reads.
            ///
            /// Nothing to do.
            SecretAvailable: MedusaConfiguration FleetCluster,
            /// The Secret lacks a key that Medusa reads; the message names both.
            ///
            /// Add the key. Medusa's credentials file is expected in key `credentials`.
            SecretKeyMissing: MedusaConfiguration FleetCluster K8ssandraCluster FleetRestoreJob MedusaRestoreJob,
            /// The credentials come from the pods' cloud identity; no Secret is needed.
            ///
            /// Nothing to do.
            RoleBased: MedusaConfiguration,
            /// The configuration refers to no Secret.
            ///
            /// Nothing to do.
            NoSecretNeeded: MedusaConfiguration,
            /// The copy in the data plane is marked immutable, so it cannot follow its source.
            ///
            /// Delete that copy; it is made again.
            Immutable: MedusaConfiguration FleetCluster K8ssandraCluster,
            /// The Secret opens a cluster, or is of a type that is never copied.
            ///
            /// Name another Secret, or make this one by hand where it is needed.
            SecretRefused: MedusaConfiguration FleetCluster K8ssandraCluster,
            /// A ClientConfig that cannot be read mentions the Secret, so it may open a cluster. It is neither copied
            /// nor taken back before that is known.
            ///
            /// Correct or delete the ClientConfig that the message names.
            SecretInDoubt: MedusaConfiguration FleetCluster K8ssandraCluster,
            /// Nothing is copied into that namespace: it is `kube-system`, `kube-public`, `kube-node-lease`,
            /// `medusa-fleet` or the control plane's own, or none of those in `spec.namespaces` of the DataPlane.
            ///
            /// In the latter case add it there, and grant the rights in it. Else put the datacenter into another
            /// namespace, or take this one out of the targets.
            TargetRefused: MedusaConfiguration FleetCluster K8ssandraCluster,
            /// With it the object would be larger than the API server takes.
            ///
            /// Make the object that the message names smaller: its source, its annotations, or its `spec`.
            TooLarge: MedusaConfiguration FleetCluster K8ssandraCluster FleetBackupJob FleetTask FleetRestoreJob,
        }
    };
}
