//! Why something is as it is: one word list for conditions, Events and metrics.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// A machine-readable reason. The same word is a condition's reason, an Event's reason and a
        /// status entry's reason.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[$doc])+ $name,)+ }

        impl Reason {
            /// The word as it appears in objects.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// The reason that word stands for, if it is one of ours.
            #[must_use]
            pub fn of(word: &str) -> Option<Self> {
                $(if word == stringify!($name) { return Some(Self::$name); })+
                None
            }
        }
    };
}

reasons! {
    // Data planes.
    /// Everything asked for holds.
    Ready,
    /// The kubeconfig was read and is safe.
    KubeconfigAccepted,
    /// The Secret the DataPlane names does not exist.
    SecretNotFound,
    /// The Secret the DataPlane names cannot be read: forbidden, or no answer.
    SecretUnreadable,
    /// The Secret has none of the keys we look for.
    KubeconfigKeyMissing,
    /// The kubeconfig is not YAML of that shape, or names a context it does not have.
    InvalidKubeconfig,
    /// The kubeconfig would run programs, read files or trust anyone.
    UnsafeKubeconfig,
    /// The name is reserved for the control plane's own cluster.
    ReservedName,
    /// Not known yet.
    Connecting,
    /// The API server answered.
    Answered,
    /// The API server did not answer, or cannot be asked.
    Unreachable,
    /// The API server's host name is not found.
    NameNotFound,
    /// Nothing accepts connections at the API server's address.
    ConnectionRefused,
    /// No connection to the API server, or no answer of it, in time.
    TimedOut,
    /// The API server's certificate is not one we trust: its authority, its name, its time or its key.
    CertificateRejected,
    /// The proxy on the way to the API server does not let us through.
    ProxyFailed,
    /// What answers is no Kubernetes API server.
    NotKubernetes,
    /// The API server answers more than can be read, or does not come to an end.
    AnswerUnbounded,
    /// The API server asks to come back later.
    RateLimited,
    /// The API server says that it cannot do its work.
    ApiServerFailing,
    /// The API server knows who we are.
    CredentialAccepted,
    /// The API server rejected the credential.
    CredentialRejected,
    /// The credential's time is over.
    CredentialExpired,
    /// The control plane renewed the credential by itself.
    Renewed,
    /// The control plane was to renew the credential, and could not.
    RenewalFailed,
    /// Every verb we need is allowed.
    PermissionsGranted,
    /// A verb we need is not allowed.
    PermissionsMissing,
    /// Every definition we need is served.
    DefinitionsServed,
    /// A definition we need is not served.
    DefinitionMissing,
    /// The data plane does not serve a definition that this needs.
    NotServed,
    /// The data plane does not permit a verb that this needs.
    NotAuthorized,
    /// The cluster hosts no datacenters.
    HostsNoDatacenters,
    /// Watches are live.
    WatchesLive,
    /// A watch has not caught up or has broken.
    WatchesStale,
    /// No other DataPlane is this cluster.
    UniqueCluster,
    /// Which cluster it is may not be asked.
    IdentityUnknown,
    /// Another DataPlane is the same cluster.
    DuplicateCluster,
    /// Another DataPlane says it is the same cluster, and a person says that it is not.
    DuplicateAllowed,
    /// The user paused it.
    Paused,
    /// Being unregistered.
    Unregistering,
    /// Something was left behind in a cluster that did not answer.
    LeftBehind,
    /// Registered from a labelled Secret.
    Registered,
    /// Its Secret is gone or no longer labelled.
    Unregistered,

    /// An earlier installation of the fleet wrote it, and what it was made from is not here.
    Inherited,
    /// It goes on with what an earlier installation of the fleet began under its name.
    TakenOver,

    // Replication.
    /// Every copy is in place.
    Replicated,
    /// Copies are on their way.
    Replicating,
    /// At least one copy could not be written.
    ReplicationFailed,
    /// Nothing asks for copies.
    NoTargets,
    /// The `targets` annotation cannot be read.
    InvalidTargets,
    /// A target names a data plane nobody registered.
    UnknownDataPlane,
    /// The target namespace does not exist.
    NamespaceMissing,
    /// An object of that name exists and is not ours.
    NameConflict,
    /// Somebody else takes back what we write.
    Conflict,
    /// The API server refused the write.
    WriteRefused,
    /// An admission policy or webhook denies it.
    DeniedByPolicy,
    /// A quota of the namespace is exceeded.
    QuotaExceeded,
    /// The namespace is being deleted.
    NamespaceTerminating,
    /// The storage secret exists and has its key.
    SecretAvailable,
    /// The storage secret lacks the key Medusa reads.
    SecretKeyMissing,
    /// Credentials come from the pod's identity.
    RoleBased,
    /// No secret is referred to.
    NoSecretNeeded,
    /// A copied Secret cannot be changed because it is marked immutable.
    Immutable,
    /// The Secret is of a kind that is never copied.
    SecretRefused,
    /// The Secret may be a way into a cluster: an object that cannot be read mentions it.
    SecretInDoubt,
    /// No copy may be made in that namespace.
    TargetRefused,
    /// The object is larger than the API server takes.
    TooLarge,

    // Deployment.
    /// The MedusaConfiguration a K8ssandraCluster names does not exist.
    ConfigurationNotFound,

    // Backups.
    /// Not started.
    Pending,
    /// Going on.
    Running,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Ended well in some datacenters only.
    PartiallyFailed,
    /// The selector matches no datacenter.
    NoDatacenters,
    /// A name or label in the selector cannot be read.
    InvalidSelector,
    /// The data plane does not answer; its datacenters wait.
    DataPlaneUnreachable,
    /// The data plane cannot be used for another reason.
    DataPlaneNotReady,
    /// The datacenter runs no Medusa container.
    MedusaNotDeployed,
    /// The datacenter is stopped.
    DatacenterStopped,
    /// The datacenter does not exist (any more).
    DatacenterNotFound,
    /// The CassandraDatacenter is there and cannot be read.
    DatacenterUnreadable,
    /// The child job was created.
    JobCreated,
    /// The child job vanished before it finished.
    JobDeleted,
    /// The child job finished; its MedusaBackup is awaited.
    AwaitingMedusaBackup,
    /// The child job finished without a MedusaBackup.
    MedusaBackupMissing,
    /// The MedusaBackup does not cover every node.
    BackupIncomplete,
    /// The MedusaBackup belongs to another Cassandra datacenter.
    WrongDatacenter,
    /// At least one node failed.
    NodesFailed,
    /// No pods to back up.
    NoPods,
    /// A pod has no Medusa container.
    MedusaContainerMissing,
    /// A node did not start its backup in time.
    BackupNotStarted,
    /// A node's Medusa could not be asked in time.
    NodeUnreachable,
    /// A pod went away during the backup.
    PodGone,
    /// A node's Medusa restarted during the backup.
    MedusaRestarted,
    /// The TLS material for Medusa cannot be used.
    InvalidTlsSecret,
    /// The spec asks for something that cannot be; the message names the field.
    InvalidSpec,
    /// The object does not have the shape its kind asks for.
    InvalidObject,
    /// The whole run took longer than allowed.
    DeadlineExceeded,

    // Rollouts.
    /// Its time in the stagger window has not come, or as many are at work as may be.
    AwaitingTurn,
    /// An attempt failed; the next one follows after a pause.
    AwaitingRetry,
    /// Too many datacenters failed; nothing more is started.
    FailureBudgetSpent,
    /// Nothing went on for longer than allowed.
    ProgressDeadlineExceeded,
    /// Nobody has begun with what was made in a data plane, or it has no end, for long.
    Stalled,
    /// The cluster is being restored; its backup waits.
    RestoreInProgress,
    /// The controller failed at this by a fault of its own.
    InternalError,
    /// Only the plan was asked for.
    DryRun,
    /// So many datacenters that their status could not be stored.
    TooManyDatacenters,

    // Tasks.
    /// A node's Medusa answered that it cannot.
    CallRefused,
    /// There is no MedusaBackup of that name, or the storage no longer holds the backup.
    BackupNotFound,
    /// The storage lists none of the MedusaBackups that are known here.
    BackupsNotListed,
    /// A restore of the datacenter has to end first.
    RestoreRunning,
    /// A backup of the datacenter has to end first.
    BackupRunning,
    /// A purge has to end first.
    PurgeRunning,
    /// A purge has gone so long without an end that nothing waits for it any more.
    PurgeAbandoned,
    /// A purge could leave the cluster without a complete restore point.
    WouldRemoveLastRestorePoint,
    /// Whether the cluster keeps a complete restore point cannot be told while a data plane does not answer.
    RestorePointsUnknown,
    /// The child task ended without every pod having done its part.
    TaskIncomplete,
    /// The purge is done; the sync after it is awaited.
    AwaitingSync,
    /// A sync did not work.
    SyncFailed,
    /// The child task did not begin in time and was taken back.
    NotStarted,

    // Schedules.
    /// The next slot will run.
    Scheduled,
    /// The cron expression names no moment that ever comes.
    NeverFires,
    /// A slot waits until a run that goes on has ended.
    PreviousRunUnfinished,
    /// Slots passed without a run.
    SlotsMissed,
    /// A run that went on made way for the next.
    RunReplaced,
    /// The last execution lies in the future.
    ClockSteppedBack,
    /// A data plane's own schedule, which a fleet schedule relies on, does not run.
    DelegatedNotReady,

    // Restores.
    /// The backup's racks or their numbers of nodes are not the datacenter's.
    TopologyMismatch,
    /// The pod template has no init container `medusa-restore`.
    RestoreContainerMissing,
    /// The datacenter is being stopped.
    Stopping,
    /// The datacenter is stopped, and its StatefulSets learn what to restore.
    Preparing,
    /// The pods restore their data and start.
    Restoring,
    /// The datacenter gets its pod template and `stopped` back.
    PuttingBack,
    /// The datacenter did not stop in time.
    StopTimedOut,
    /// The StatefulSets did not take over the pod template in time.
    UpdateTimedOut,
    /// At least one pod found nothing to restore.
    RestoreSkipped,
    /// Nobody can say whether at least one pod restored its data.
    RestoreUnconfirmed,
    /// The datacenter did not become ready in time.
    DatacenterNotReady,
    /// Somebody else changed the datacenter in the middle of a restore.
    DatacenterChanged,
    /// Ended because its job was deleted.
    Cancelled,
    /// A Secret of a Cassandra user could not be marked for renewal.
    UserSecretNotFound,

    // Restores of whole clusters.
    /// There is no such cluster, or several of that name.
    UnknownCluster,
    /// Every check has passed.
    ChecksPassed,
    /// A sync has to look for the backup in the storage.
    SyncNeeded,
    /// A sync looks for the backup in the storage.
    Syncing,
    /// It is this datacenter's turn; its job is about to be made.
    Starting,
    /// Being called off.
    Cancelling,
    /// Not begun, because one before it failed.
    PreviousFailed,

    // Inventory.
    /// A complete restore point is young enough.
    RecoveryPointFresh,
    /// The newest complete restore point is too old.
    RecoveryPointStale,
    /// There never was a complete restore point.
    NeverBackedUp,
    /// There was a complete restore point, and there is none any more.
    NoCompleteRestorePoint,
    /// A datacenter says that it belongs to a cluster it is not part of.
    ClusterClaimed,
    /// The backup is of a datacenter that is not in the cluster.
    ForeignBackup,
    /// Nobody knows whether a complete restore point is young enough.
    RecoveryPointUnknown,
    /// The data planes agree about every restore point.
    InventoryConsistent,
    /// The data planes do not agree about a restore point.
    InventoryDrifted,
    /// The storage holds a backup that has no MedusaBackup.
    NotSynced,
    /// Medusa runs in every datacenter.
    MedusaDeployed,
    /// No other cluster has its backups in the same place.
    PrefixUnique,
    /// Another cluster has its backups under the same prefix of the same bucket.
    PrefixInUse,

    // Deployment of Medusa.
    /// k8ssandra-operator manages the datacenter.
    ManagedElsewhere,
    /// Applying would cost somebody else a field.
    UnsafeApply,
    /// What was asked for is being put into the datacenter.
    Deploying,
    /// Fields are left as somebody else set them.
    FieldsKept,
    /// Medusa is being taken out of the datacenter.
    Removing,
    /// A volume with backups is left where it is.
    VolumeKept,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
