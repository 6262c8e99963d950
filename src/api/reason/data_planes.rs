//! Reasons of data planes: whether they are reached, permit and show what is needed.

macro_rules! reasons_of_data_planes {
    ($next:ident $($rest:ident)*; $($before:tt)*) => {
        $next! {
            $($rest)*; $($before)*

            /// The data plane, or the configuration, can be used.
            ///
            /// Nothing to do.
            Ready: DataPlane MedusaConfiguration,
            /// The kubeconfig was read and is safe. Where the message says that an earlier one stays in use, the Secret
            /// could not be read just now.
            ///
            /// Nothing to do; with such a message, see to what it names.
            KubeconfigAccepted: DataPlane,
            /// A Secret that is needed does not exist. The message names it and where it is looked for.
            ///
            /// Create it there. For a DataPlane, `kubectl medusa register NAME --from-kubeconfig FILE` does so.
            SecretNotFound:
                DataPlane MedusaConfiguration FleetCluster K8ssandraCluster FleetRestoreJob MedusaRestoreJob,
            /// The control plane's own API server does not give the Secret out, or does not answer. What was read
            /// before stays in use.
            ///
            /// Let the control plane's ServiceAccount `get` that Secret. It is asked again by itself.
            SecretUnreadable: DataPlane,
            /// The Secret has none of the keys that are looked for; the message names them.
            ///
            /// Put the kubeconfig into one of them, or name its key in `spec.kubeconfigSecretRef.key`.
            KubeconfigKeyMissing: DataPlane,
            /// The kubeconfig cannot be used: it is not readable, names a context that it does not have, or lacks
            /// something. The message names the field.
            ///
            /// Correct the field in the Secret, or register the cluster again.
            InvalidKubeconfig: DataPlane,
            /// The kubeconfig would run a program, read a file or trust anybody. The message names the field.
            ///
            /// Write the certificate and the credential into the kubeconfig. One that runs a program can be given to
            /// `kubectl medusa register` once.
            UnsafeKubeconfig: DataPlane,
            /// `local` is the name of the control plane's own cluster; no other can have it.
            ///
            /// Register the cluster under another name.
            ReservedName: DataPlane ClientConfig,
            /// Not known yet: the control plane has just started, or a data plane was just registered.
            ///
            /// Wait a moment. If it stays, `kubectl medusa describe dataplane/NAME` says what is not known.
            Connecting:
                DataPlane MedusaConfiguration FleetCluster K8ssandraCluster FleetBackupJob FleetTask FleetRestoreJob
                FleetBackupSchedule,
            /// The API server answers.
            ///
            /// Nothing to do.
            Answered: DataPlane,
            /// The API server does not answer, for a cause without a reason of its own; the message has it. On a
            /// condition other than `Reachable`: it could not be asked.
            ///
            /// See that it runs and can be reached from the control plane. It is tried again by itself.
            Unreachable: DataPlane,
            /// The host in the kubeconfig's `server` has no address.
            ///
            /// Check its spelling, and the DNS of the control plane's cluster.
            NameNotFound: DataPlane,
            /// Nothing accepts connections at the address and port in the kubeconfig's `server`.
            ///
            /// See that the API server runs, and that `server` is right.
            ConnectionRefused: DataPlane,
            /// No connection to the API server, or no answer, in time.
            ///
            /// Look for firewalls and network policies on the way, and for an API server that hangs. It is tried again
            /// by itself.
            TimedOut: DataPlane,
            /// TLS does not trust the API server's certificate: its authority, name, time or key. The message has the
            /// word of the TLS library.
            ///
            /// The page of DataPlane explains each word. If the authority was renewed, register the cluster again.
            CertificateRejected: DataPlane,
            /// The proxy on the way to the API server does not let the control plane through; the message names it.
            ///
            /// See to the proxy, or exempt the address in `NO_PROXY`.
            ProxyFailed: DataPlane,
            /// What answers at the kubeconfig's `server` is not a Kubernetes API server; the message says what came.
            ///
            /// Look for a load balancer whose API servers are down, a login page, or a wrong port.
            NotKubernetes: DataPlane,
            /// An answer of the API server is larger than any that is read, or does not end.
            ///
            /// See what answers there, and how slow the line is.
            AnswerUnbounded: DataPlane,
            /// The API server answers 429 before it was ever connected.
            ///
            /// See its priority levels and flow schemas. It is tried again by itself.
            RateLimited: DataPlane,
            /// The API server answers that it cannot work; its words are in the message.
            ///
            /// See to the API server and its etcd.
            ApiServerFailing: DataPlane,
            /// The API server accepts the credential.
            ///
            /// Nothing to do.
            CredentialAccepted: DataPlane,
            /// The API server rejects the credential.
            ///
            /// Register the cluster again: `kubectl medusa register NAME --from-kubeconfig FILE`. Where a ClientConfig
            /// or a person made the DataPlane, put another kubeconfig into its Secret.
            CredentialRejected: DataPlane,
            /// The credential has expired and is rejected.
            ///
            /// Register the cluster again: `kubectl medusa register NAME --from-kubeconfig FILE`. Where a ClientConfig
            /// or a person made the DataPlane, put another kubeconfig into its Secret.
            CredentialExpired: DataPlane,
            /// The control plane has renewed the credential.
            ///
            /// Nothing to do.
            Renewed: DataPlane,
            /// The control plane was to renew the credential and could not. The message says why, and until when the
            /// old one works. It is tried again, every five minutes at the latest.
            ///
            /// Correct what the message names; `kubectl medusa register NAME --rotate` tries at once. For an older
            /// role, apply `kubeconfigs/data-plane-rbac.yaml` there, or with `spec.namespaces`
            /// `data-plane-rbac-namespaced.yaml`.
            RenewalFailed: DataPlane,
            /// What backups need is permitted. What else is not stands after `; not permitted:`.
            ///
            /// Nothing to do for backups. For the rest, apply `kubeconfigs/data-plane-rbac.yaml` there, or with
            /// `spec.namespaces` `data-plane-rbac-namespaced.yaml`, and bind its roles to the account of the kubeconfig.
            PermissionsGranted: DataPlane,
            /// What is needed is not permitted; the message lists it.
            ///
            /// In the data plane, apply `kubeconfigs/data-plane-rbac.yaml`, or with `spec.namespaces`
            /// `data-plane-rbac-namespaced.yaml`, and bind its roles to the account of the kubeconfig. For a
            /// MedusaConfiguration, let the controller `get` Secrets in its namespace.
            PermissionsMissing: DataPlane MedusaConfiguration,
            /// The definitions that backups need are there. What else is not stands after `; not served:`.
            ///
            /// Nothing to do for backups. For the rest, install newer definitions.
            DefinitionsServed: DataPlane,
            /// A definition that is needed is not there. `doctor` also says so of the control plane's own cluster.
            ///
            /// Install cass-operator, and our definitions:
            /// `medusa-fleet crds --group GROUP | kubectl apply --server-side -f -`.
            DefinitionMissing: DataPlane,
            /// The data plane does not serve a definition, or a field of one, that this needs. The rest of the fleet
            /// goes on.
            ///
            /// Install newer definitions there: upgrade the Helm release that brought them, or where none did, apply what
            /// `medusa-fleet crds --group medusa.k8ssandra.io` prints; beside k8ssandra-operator, upgrade that.
            NotServed: DataPlane FleetCluster K8ssandraCluster FleetTask FleetRestoreJob FleetBackupSchedule,
            /// An API server denies us a verb that this needs; the message names it.
            ///
            /// In the data plane, apply `kubeconfigs/data-plane-rbac.yaml`, or with `spec.namespaces`
            /// `data-plane-rbac-namespaced.yaml`, and bind its roles to the account of the kubeconfig.
            NotAuthorized:
                DataPlane MedusaConfiguration FleetCluster K8ssandraCluster FleetBackupJob FleetTask FleetRestoreJob
                FleetBackupSchedule,
            /// The control plane's own cluster has no CassandraDatacenters, and need not have any.
            ///
            /// Nothing to do.
            HostsNoDatacenters: DataPlane,
            /// Everything in the data plane is known. Objects that cannot be used stand in the message and count as
            /// unknown.
            ///
            /// Correct or delete the objects that the message names, if it names some.
            WatchesLive: DataPlane,
            /// The data plane answers and does not show all that has to be known: a kind is not listed yet, or its
            /// watch fails or is refused. Nothing is concluded from what is not shown.
            ///
            /// Wait a minute. If it stays, permit `list` and `watch` on the kind that the message names.
            WatchesStale: DataPlane MedusaConfiguration FleetBackupJob FleetTask FleetRestoreJob FleetBackupSchedule,
            /// No other DataPlane is this cluster.
            ///
            /// Nothing to do.
            UniqueCluster: DataPlane,
            /// The account may not read the uid of namespace `kube-system`. The data plane is used; but nobody can tell
            /// whether it is registered twice, and would be backed up twice.
            ///
            /// Let it `get` that Namespace, as both `kubeconfigs/data-plane-rbac.yaml` and
            /// `data-plane-rbac-namespaced.yaml` do.
            IdentityUnknown: DataPlane,
            /// The DataPlane that the message names is the same cluster and came first, so this one is not used.
            ///
            /// Unregister one of the two: `kubectl medusa unregister NAME`. If they are two clusters made from one
            /// image, set `spec.allowDuplicateClusterId: true`.
            DuplicateCluster: DataPlane MedusaConfiguration FleetBackupJob FleetTask FleetBackupSchedule,
            /// Another DataPlane has the same uid of `kube-system`, and `spec.allowDuplicateClusterId` says that the
            /// two are two clusters.
            ///
            /// Nothing to do.
            DuplicateAllowed: DataPlane,
            /// Somebody paused it; nothing is written, or nothing runs, until somebody lets it go on.
            ///
            /// Take the pause off when its time has come: `spec.paused` of a DataPlane,
            /// `kubectl medusa schedule resume NAME`, `spec.disabled` of a MedusaBackupSchedule, or annotation
            /// `fleet.k8ssandra.io/paused` of a K8ssandraCluster.
            Paused:
                DataPlane MedusaConfiguration FleetCluster K8ssandraCluster FleetBackupSchedule MedusaBackupSchedule,
            /// The data plane is being unregistered, and what was written there is taken back.
            ///
            /// Wait. What cannot be taken back is named in an Event `LeftBehind`.
            Unregistering: DataPlane MedusaConfiguration FleetBackupSchedule,
            /// Something of ours is left in a data plane that did not answer, or did not let it be deleted.
            ///
            /// Delete what the message names, when that data plane answers. What a schedule left is taken back by
            /// itself then.
            LeftBehind: DataPlane FleetBackupJob FleetTask FleetBackupSchedule,
            /// An earlier installation of this fleet left the objects that the message names, and what they were made
            /// from is not here. They stay as they are.
            ///
            /// Create the missing objects again; `kubectl medusa adopt` lists them. If they will not come back,
            /// `kubectl medusa adopt --forget INSTALLATION`.
            Inherited: DataPlane FleetCluster K8ssandraCluster,
            /// It goes on with what an earlier installation of this fleet began under its name.
            ///
            /// Nothing to do. For a run of its own, create one under another name.
            TakenOver: FleetBackupJob FleetTask FleetRestoreJob,
        }
    };
}
