//! The MedusaTask of one datacenter, and the sync after it. Pure.

use kube::{Resource as _, ResourceExt as _};

use crate::{
    api::{
        cassandra::CassandraDatacenter,
        fleet::{DatacenterRun, FleetTask},
        labels,
        medusa::{MedusaTask, MedusaTaskSpec, TaskOperation},
        names,
    },
    control_plane::{fanout::child::metadata, view::ObjectKey},
};

/// Name of the child of `task` for attempt number `attempt`, from 1, at an entry.
#[must_use]
pub fn child_key(task: &FleetTask, run: &DatacenterRun, attempt: usize) -> ObjectKey {
    let uid = task.meta().uid.as_deref().unwrap_or_default();
    let name = task.meta().name.as_deref().unwrap_or_default();
    ObjectKey::new(&run.namespace, names::attempt(name, &run.datacenter, uid, attempt))
}

/// Name of the sync that follows the purge `child`.
#[must_use]
pub fn sync_key(child: &ObjectKey) -> ObjectKey {
    ObjectKey::new(&child.namespace, names::sync_after(&child.name))
}

/// Whether `child` was made for `task`, by us or as a follow-up with the same labels.
#[must_use]
pub fn is_of(child: &MedusaTask, task: &FleetTask) -> bool {
    task.meta().uid.is_some() && child.labels().get(labels::JOB_UID) == task.meta().uid.as_ref()
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
