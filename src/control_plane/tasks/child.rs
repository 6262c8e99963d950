//! The MedusaTask of one datacenter, and the sync after it. Pure.

use kube::ResourceExt as _;

use crate::{
    api::{
        cassandra::CassandraDatacenter,
        fleet::FleetTask,
        labels,
        medusa::{MedusaTask, MedusaTaskSpec, TaskOperation},
        names,
    },
    control_plane::{data_planes::view::ObjectKey, runs::child::metadata},
};

/// Name of the sync that follows the purge `child`.
#[must_use]
pub fn sync_key(child: &ObjectKey) -> ObjectKey {
    ObjectKey::new(&child.namespace, names::sync_after(&child.name))
}

/// `child` with the word that the MedusaBackup `backup` must be there when it has purged. The data plane's controller
/// looks at what the storage holds before it begins; k8ssandra-operator does not know the word.
#[must_use]
pub fn keeping(mut child: MedusaTask, backup: Option<String>) -> MedusaTask {
    if let Some(backup) = backup {
        child.annotations_mut().insert(labels::KEEP.to_owned(), backup);
    }
    child
}

/// The child for one datacenter.
#[must_use]
pub fn child(
    task: &FleetTask,
    key: ObjectKey,
    operation: TaskOperation,
    datacenter: &CassandraDatacenter,
    control_plane: &str,
) -> MedusaTask {
    MedusaTask {
        metadata: metadata(task, key, datacenter, control_plane),
        spec: MedusaTaskSpec {
            cassandra_datacenter: datacenter.name_any(),
            operation,
            backup_name: None,
            restore_key: None,
        },
        status: None,
    }
}
