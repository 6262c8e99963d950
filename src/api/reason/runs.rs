//! Reasons of whatever is done over datacenters: how it goes, what it waits for, and how it ended.

macro_rules! reasons_of_runs {
    ($next:ident $($rest:ident)*; $($before:tt)*) => {
        $next! {
            $($rest)*; $($before)*

            /// Not started, or not known yet. Of a MedusaRestoreJob: its checks go on, and nothing was touched.
            ///
            /// Wait. The message says what it waits for, if for anything.
            Pending: DataPlane FleetCluster FleetBackupJob FleetTask FleetRestoreJob MedusaRestoreJob,
            /// It goes on.
            ///
            /// Nothing to do.
            Running: FleetBackupJob FleetTask FleetRestoreJob FleetBackup MedusaBackupJob MedusaTask MedusaRestoreJob,
            /// It ended well.
            ///
            /// Nothing to do.
            Succeeded:
                FleetBackupJob FleetTask FleetRestoreJob FleetBackupSchedule FleetBackup MedusaBackupJob MedusaTask
                MedusaRestoreJob,
            /// It ended badly. Of a run: in every datacenter.
            ///
            /// The message, and the entries in `status.datacenters`, say why. `kubectl medusa describe` shows them.
            Failed: FleetBackupJob FleetTask FleetRestoreJob FleetBackupSchedule MedusaRestoreJob,
            /// It ended well in some datacenters only. After a restore, the datacenters do not hold the same data.
            ///
            /// The entries in `status.datacenters` say why. After a restore, write nothing and restore again.
            PartiallyFailed: FleetBackupJob FleetTask FleetRestoreJob,
            /// Somebody cancelled it, or deleted the MedusaRestoreJob. What Medusa had begun goes on to its end.
            ///
            /// Nothing to do. If a restore was cut off, the message says so: write nothing and restore again.
            Cancelled: FleetBackupJob FleetTask FleetRestoreJob MedusaRestoreJob,
            /// Only the plan was asked for; nothing was done.
            ///
            /// Nothing to do. The message and the entries say what would be done, and what would stand in its way.
            DryRun: FleetBackupJob FleetTask FleetRestoreJob,
            /// The selector matches no datacenter that runs Medusa.
            ///
            /// Correct the selector; `kubectl medusa clusters` shows what there is. A run cannot be changed: create a
            /// new one.
            NoDatacenters: FleetBackupJob FleetTask FleetBackupSchedule,
            /// A name or label in the selector cannot be used; the message quotes it.
            ///
            /// Correct it. A run cannot be changed: create a new one.
            InvalidSelector: FleetBackupJob FleetTask FleetBackupSchedule,
            /// A field asks for something that cannot be. The message names the field and what is allowed.
            ///
            /// Correct the field. A run cannot be changed: create a new one.
            InvalidSpec:
                DataPlane MedusaConfiguration FleetCluster K8ssandraCluster FleetBackupJob FleetTask FleetRestoreJob
                FleetBackupSchedule MedusaBackupJob MedusaTask MedusaRestoreJob MedusaBackupSchedule ClientConfig,
            /// A field does not have the type that its kind asks for, as older or loosened definitions let through. The
            /// message names it. Nothing works on the object until that is corrected.
            ///
            /// Correct that field. A run may be deleted instead.
            InvalidObject:
                MedusaConfiguration FleetCluster K8ssandraCluster FleetBackupJob FleetTask FleetRestoreJob
                FleetBackupSchedule MedusaBackupJob MedusaTask MedusaRestoreJob MedusaBackupSchedule ClientConfig,
            /// A data plane does not answer. What was begun there goes on without the control plane, and nothing is
            /// concluded from its silence.
            ///
            /// See the conditions of the DataPlane: `kubectl medusa describe dataplane/NAME`.
            DataPlaneUnreachable:
                MedusaConfiguration FleetCluster K8ssandraCluster FleetBackupJob FleetTask FleetRestoreJob
                FleetBackupSchedule FleetBackup,
            /// A data plane answers and cannot be used; the message has its reason.
            ///
            /// See the conditions of the DataPlane: `kubectl medusa describe dataplane/NAME`.
            DataPlaneNotReady: FleetBackupJob FleetTask FleetRestoreJob,
            /// The datacenter is stopped, so that no Medusa runs there.
            ///
            /// Start it: `spec.stopped: false`.
            DatacenterStopped: FleetBackupJob FleetTask FleetRestoreJob MedusaBackupJob MedusaTask,
            /// There is no CassandraDatacenter of that name there, or not any more.
            ///
            /// Correct the name: the object's, not the one that Cassandra uses. What the datacenter backed up stays in
            /// its storage.
            DatacenterNotFound:
                FleetCluster K8ssandraCluster FleetBackupJob FleetTask FleetRestoreJob FleetBackup MedusaBackupJob
                MedusaTask MedusaRestoreJob MedusaBackupSchedule,
            /// The CassandraDatacenter is there and cannot be read. It is left out, and nothing is concluded about it.
            ///
            /// Correct the object; condition `Synced` of its DataPlane says what is wrong.
            DatacenterUnreadable: FleetBackupJob FleetTask FleetBackupSchedule FleetBackup,
            /// The object that does the work in the data plane was made, and nobody has begun with it yet.
            ///
            /// Wait a moment. If it stays, see that `medusa-fleet data-plane` or k8ssandra-operator runs there.
            JobCreated: FleetBackupJob FleetTask FleetRestoreJob FleetBackupSchedule MedusaBackupSchedule,
            /// Somebody deleted the object that did the work in the data plane before it ended. Medusa may go on all
            /// the same.
            ///
            /// Run it again. After a restore look at the datacenter first.
            JobDeleted: FleetBackupJob FleetTask FleetRestoreJob,
            /// Nobody has begun with the object in the data plane for ten minutes, or it was begun with and has no end
            /// for a day.
            ///
            /// See that `medusa-fleet data-plane` or k8ssandra-operator runs there. `spec.cancel` takes back what
            /// nobody began with and lets go of the rest; delete the object there if nobody is at work on it.
            Stalled: FleetBackupJob FleetTask,
            /// As many datacenters are at work as may be, or its place in the stagger window has not come. The message
            /// says which.
            ///
            /// Wait. The limits are those of `spec.rollout` and of the DataPlane.
            AwaitingTurn: FleetBackupJob FleetTask,
            /// An attempt failed; another follows at the time in the message.
            ///
            /// Wait. The message says why the attempt failed.
            AwaitingRetry: FleetBackupJob FleetTask,
            /// As many datacenters failed as `spec.rollout.maxFailures` says, so nothing more was started.
            ///
            /// See why they failed, and run the rest again.
            FailureBudgetSpent: FleetBackupJob FleetTask,
            /// It took longer than it may, or could not begin in time. The message says which limit. Of what had begun,
            /// Medusa may still be at work.
            ///
            /// See why it takes so long. If that is as it should be, raise the limit that the message names.
            DeadlineExceeded: FleetBackupJob FleetTask FleetRestoreJob MedusaBackupJob MedusaTask MedusaRestoreJob,
            /// For as long as `spec.rollout.progressDeadlineSeconds` says nothing went on, so what was not decided was
            /// given up.
            ///
            /// The entries in `status.datacenters` say what they waited for.
            ProgressDeadlineExceeded: FleetBackupJob FleetTask,
            /// The run is over more datacenters than its status could tell about. As the reason of an entry: that data
            /// plane alone has so many that it was left out.
            ///
            /// Make several runs that select by data plane, cluster or label.
            TooManyDatacenters: FleetBackupJob FleetTask,
            /// An internal error ended the work on this object. Other objects are not affected. It is tried again with
            /// growing pauses.
            ///
            /// Please report it, with the place that the message names.
            InternalError:
                DataPlane MedusaConfiguration FleetCluster K8ssandraCluster FleetBackupJob FleetTask FleetRestoreJob
                FleetBackupSchedule MedusaBackupJob MedusaTask MedusaRestoreJob MedusaBackupSchedule,
        }
    };
}
