//! Labels, annotations, finalizers and field managers: every key we read or write, once.

/// Our API group and label domain.
pub const DOMAIN: &str = "fleet.k8ssandra.io";

/// On a Secret in the control plane: `"true"` registers its kubeconfig as a data plane (docs/dataplane.md).
pub const REGISTER: &str = "fleet.k8ssandra.io/register";
/// On a labelled Secret: the control plane renews its token by itself, and asks for one that works so long, as `3600s`.
pub const TOKEN_DURATION: &str = "fleet.k8ssandra.io/token-duration";
/// On a labelled Secret: when the control plane renewed its token last, and a hash of that token: `<time>/<hash>`.
pub const RENEWED_AT: &str = "fleet.k8ssandra.io/renewed-at";
/// On a labelled Secret: any value has its token renewed now, which takes the annotation away.
pub const ROTATE: &str = "fleet.k8ssandra.io/rotate";
/// On a DataPlane the controller made: what it came from, a Secret's name or `ClientConfig/<namespace>/<name>`.
pub const REGISTERED_FROM: &str = "fleet.k8ssandra.io/registered-from";
/// On everything we write into a data plane: the name of the fleet whose control plane wrote it (contract §9).
pub const CONTROL_PLANE: &str = "fleet.k8ssandra.io/control-plane";
/// Annotation of the same: the installation of the control plane that wrote it last.
pub const INSTALLATION: &str = "fleet.k8ssandra.io/installation";
/// On a fleet object: `<name>/<uid>` of the one of an earlier installation whose children are its own now.
pub const CONTINUES: &str = "fleet.k8ssandra.io/continues";
/// On a child job: name of the fleet job.
pub const JOB: &str = "fleet.k8ssandra.io/job";
/// On a child job: uid of the fleet job.
pub const JOB_UID: &str = "fleet.k8ssandra.io/job-uid";
/// On a CassandraDatacenter: the Cassandra cluster it belongs to, over all data planes.
pub const CLUSTER: &str = "fleet.k8ssandra.io/cluster";
/// On a DataPlane: the FleetClusters its datacenters may join by their labels, `*` or a list; without it any that no
/// K8ssandraCluster known here decides about (ADR 19).
pub const MAY_JOIN: &str = "fleet.k8ssandra.io/may-join";
/// On a MedusaBackupJob or MedusaTask: name of the MedusaBackupSchedule that made it.
pub const SCHEDULE: &str = "fleet.k8ssandra.io/medusa-backup-schedule";
/// Annotation of the same: its uid.
pub const SCHEDULE_UID: &str = "fleet.k8ssandra.io/medusa-backup-schedule-uid";
/// On a FleetBackupJob, a FleetTask or a MedusaBackupSchedule: name of the FleetBackupSchedule that made it.
pub const FLEET_SCHEDULE: &str = "fleet.k8ssandra.io/schedule";
/// The same: uid of the FleetBackupSchedule.
pub const FLEET_SCHEDULE_UID: &str = "fleet.k8ssandra.io/schedule-uid";
/// On a MedusaBackupSchedule that a FleetBackupSchedule made: since when it is as it is now.
pub const SCHEDULED_SINCE: &str = "fleet.k8ssandra.io/scheduled-since";
/// Finalizer on a run whose slot is not yet written down by its FleetBackupSchedule: nothing of it starts, and it
/// cannot vanish (ADR 13).
pub const HELD: &str = "fleet.k8ssandra.io/slot";
/// Finalizer on a MedusaRestoreJob whose uid its FleetRestoreJob has not put down yet: it cannot vanish unseen (ADR 14).
pub const UNRECORDED: &str = "fleet.k8ssandra.io/unrecorded";
/// Finalizer on a FleetBackupSchedule: its MedusaBackupSchedules are taken back before it goes.
pub const DELEGATED: &str = "fleet.k8ssandra.io/delegated";

/// On a MedusaConfiguration: where to copy it, `*` or a list of `<dataPlane>/<namespace>`.
pub const TARGETS: &str = "fleet.k8ssandra.io/targets";
/// On a copy: namespace/name of its source in the control plane.
pub const SOURCE: &str = "fleet.k8ssandra.io/source";
/// On a copy: uid of its source.
pub const SOURCE_UID: &str = "fleet.k8ssandra.io/source-uid";
/// On a copy: hash of the content we wrote.
pub const CONTENT_HASH: &str = "fleet.k8ssandra.io/content-hash";

/// On the sync that follows a purge: uid of the MedusaTask it follows.
pub const FOLLOWS: &str = "fleet.k8ssandra.io/follows";
/// On a MedusaTask that purges: the backup that must be there afterwards.
pub const KEEP: &str = "fleet.k8ssandra.io/keep";
/// On a MedusaTask that purges, or a MedusaBackupSchedule that makes such: `"true"` lets the purge remove the datacenter's
/// newest whole backup too.
pub const PURGE_UNCHECKED: &str = "fleet.k8ssandra.io/purge-unchecked";
/// On a CassandraDatacenter: the MedusaRestoreJob at work on it, and what has to be put back (ADR 8).
pub const RESTORE: &str = "fleet.k8ssandra.io/restore";
/// On a MedusaRestoreJob: its datacenter is put back before it goes.
pub const RESTORE_FINALIZER: &str = "fleet.k8ssandra.io/restore";
/// On a Secret with a Cassandra user: makes cass-operator create the user anew (upstream: Labels and annotations).
pub const REFRESH: &str = "k8ssandra.io/refresh";

/// On a Lease of the control plane's replicas: `replica`, or `shard` where it says who watches a part of the data planes.
pub const REPLICATION_LEASE: &str = "fleet.k8ssandra.io/lease";

/// On the Lease of a replica: the data planes, by commas, or `*`, of which it could not publish what it sees.
pub const UNPUBLISHED: &str = "fleet.k8ssandra.io/unpublished";

/// On a DataPlane: copies are taken back before it goes.
pub const FINALIZER: &str = "fleet.k8ssandra.io/unregister";

/// cass-operator's label for the Cassandra cluster.
pub const CASSANDRA_CLUSTER: &str = "cassandra.datastax.com/cluster";
/// cass-operator's label for the datacenter (the object's name, not Cassandra's).
pub const CASSANDRA_DATACENTER: &str = "cassandra.datastax.com/datacenter";
/// k8ssandra-operator's label for the K8ssandraCluster's name.
pub const K8SSANDRA_CLUSTER_NAME: &str = "k8ssandra.io/cluster-name";
/// k8ssandra-operator's label for the K8ssandraCluster's namespace.
pub const K8SSANDRA_CLUSTER_NAMESPACE: &str = "k8ssandra.io/cluster-namespace";
/// On a Secret that k8ssandra-operator copies into other clusters, and on its copies: by which controller.
pub const REPLICATED_BY: &str = "k8ssandra.io/replicated-by";
/// Well-known label for the tool that looks after an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// What kubectl notes on an object of its last client-side apply.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Well-known label for who made an object; on a CassandraDatacenter of an older k8ssandra-operator, its controller.
pub const CREATED_BY: &str = "app.kubernetes.io/created-by";
/// On what k8ssandra-operator makes: the controller that deletes it again.
pub const CLEANED_UP_BY: &str = "k8ssandra.io/cleaned-up-by";
/// Finalizer of k8ssandra-operator on the CassandraDatacenters it made.
pub const UPSTREAM_FINALIZER: &str = "k8ssandracluster.k8ssandra.io/finalizer";
/// Well-known name label.
pub const APP_NAME: &str = "app.kubernetes.io/name";
/// Well-known version label.
pub const APP_VERSION: &str = "app.kubernetes.io/version";
/// On the Lease of the control plane: who wrote it, as in `spec.holderIdentity`, and after a space the version that one is.
/// Whoever leads without writing this leaves it as it was: it is of the holder that it names.
pub const LEADER: &str = "fleet.k8ssandra.io/leader";

/// Well-known label for the part of an application.
pub const APP_COMPONENT: &str = "app.kubernetes.io/component";
/// On a CassandraDatacenter: the Secret a caller of its Medusa authenticates with (upstream: Labels and annotations).
pub const GRPC_CLIENT_SECRET: &str = "medusa.k8ssandra.io/grpc-client-secret-name";

/// On a CassandraDatacenter: port of its Medusas' gRPC service, where it is not the usual one (upstream: Labels and annotations).
pub const GRPC_PORT: &str = "medusa.k8ssandra.io/grpc-port";
/// On a CassandraDatacenter: namespace/name of the K8ssandraCluster we deploy Medusa for.
pub const MEDUSA_FOR: &str = "fleet.k8ssandra.io/medusa-for";
/// On a CassandraDatacenter: the fleet whose control plane deploys Medusa there.
pub const MEDUSA_FOR_CONTROL_PLANE: &str = "fleet.k8ssandra.io/medusa-for-control-plane";
/// On a CassandraDatacenter: Secret of the user we added to `spec.users`.
pub const MEDUSA_USER: &str = "fleet.k8ssandra.io/medusa-user";
/// On the pods of a CassandraDatacenter: hash of the Secrets they read only when they start.
pub const MEDUSA_SECRETS: &str = "fleet.k8ssandra.io/medusa-secrets";
/// On a K8ssandraCluster: `"true"` shows what deploying Medusa would change, and changes nothing.
pub const PAUSED: &str = "fleet.k8ssandra.io/paused";
/// On a K8ssandraCluster: any other value than before has Medusa applied again where somebody took it back.
pub const APPLY_AGAIN: &str = "fleet.k8ssandra.io/apply-again";

/// Field manager of the control plane's writes.
pub const MANAGER_CONTROL_PLANE: &str = "medusa-fleet/control-plane";
/// Field manager of Medusa's part of a CassandraDatacenter: what it no longer applies goes.
pub const MANAGER_DEPLOYMENT: &str = "medusa-fleet/deployment";
/// Field manager of the data plane's writes.
pub const MANAGER_DATA_PLANE: &str = "medusa-fleet/data-plane";
/// Field manager of the command line's writes.
pub const MANAGER_CLI: &str = "medusa-fleet/cli";

/// cass-operator's cleaning of a label value (upstream: Names): case stays, everything a label value may
/// not hold is dropped, the ends are alphanumeric, 63 characters at most.
#[must_use]
pub fn clean_value(value: &str) -> String {
    let kept: String = value
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        .take(63)
        .collect();
    kept.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

/// Whether an object with these finalizers may not start yet: see [`HELD`].
#[must_use]
pub fn is_held(finalizers: &[String]) -> bool {
    finalizers.iter().any(|finalizer| finalizer == HELD)
}

#[cfg(test)]
mod tests {
    use super::clean_value;

    #[test]
    fn label_values_are_cleaned_as_cass_operator_does() {
        assert_eq!(clean_value("First Cluster"), "FirstCluster");
        assert_eq!(clean_value("-a_b.c-"), "a_b.c");
        assert_eq!(clean_value(&"x".repeat(80)).len(), 63);
    }
}
