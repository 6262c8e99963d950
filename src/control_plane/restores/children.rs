//! The objects a restore makes in data planes. Pure.

use kube::core::ObjectMeta;

use crate::{
    api::{
        cassandra::CassandraDatacenter,
        fleet::{FleetRestoreJob, RestorePlan},
        labels,
        medusa::{MedusaRestoreJob, MedusaRestoreJobSpec, MedusaTask, MedusaTaskSpec, TaskOperation},
    },
    control_plane::{data_planes::view::ObjectKey, runs::child::metadata},
};

fn key(entry: &RestorePlan) -> ObjectKey {
    ObjectKey::new(&entry.namespace, &entry.job)
}

/// The restore of one datacenter. Its finalizer stays until the published status has its uid.
#[must_use]
pub fn restore(
    job: &FleetRestoreJob,
    entry: &RestorePlan,
    datacenter: &CassandraDatacenter,
    control_plane: &str,
) -> MedusaRestoreJob {
    MedusaRestoreJob {
        metadata: ObjectMeta {
            finalizers: Some(vec![labels::UNRECORDED.to_owned()]),
            ..metadata(job, key(entry), datacenter, control_plane)
        },
        spec: MedusaRestoreJobSpec {
            backup: entry.medusa_backup.clone(),
            cassandra_datacenter: entry.datacenter.clone(),
        },
        status: None,
    }
}

/// The sync that looks for the backup in the datacenter's storage.
#[must_use]
pub fn sync(
    job: &FleetRestoreJob,
    entry: &RestorePlan,
    datacenter: &CassandraDatacenter,
    control_plane: &str,
) -> MedusaTask {
    MedusaTask {
        metadata: metadata(job, key(entry), datacenter, control_plane),
        spec: MedusaTaskSpec {
            cassandra_datacenter: entry.datacenter.clone(),
            operation: TaskOperation::Sync,
            backup_name: None,
            restore_key: None,
        },
        status: None,
    }
}
