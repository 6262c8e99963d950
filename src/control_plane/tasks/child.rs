//! The MedusaTask of one datacenter: its name, its labels, its owner. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource as _, ResourceExt as _, core::ObjectMeta};

use crate::{
    api::{
        cassandra::CassandraDatacenter,
        fleet::{DatacenterRun, FleetTask},
        labels,
        medusa::{MedusaTask, MedusaTaskSpec, TaskOperation},
        names,
    },
    control_plane::view::ObjectKey,
};

/// Where the datacenter of an entry is in its data plane.
#[must_use]
pub fn place(run: &DatacenterRun) -> ObjectKey {
    ObjectKey::new(&run.namespace, &run.datacenter)
}

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

/// The child for one datacenter: owned by the CassandraDatacenter beside it, never by an object of
/// another cluster, which the garbage collector there would not find (upstream §8.K).
#[must_use]
pub fn child(
    task: &FleetTask,
    key: ObjectKey,
    operation: TaskOperation,
    datacenter: &CassandraDatacenter,
    control_plane: &str,
) -> MedusaTask {
    let [cluster, name] = datacenter.datacenter_labels();
    let own = [
        (labels::JOB.to_owned(), names::label_value(&task.name_any())),
        (labels::JOB_UID.to_owned(), task.uid().unwrap_or_default()),
        (labels::CONTROL_PLANE.to_owned(), control_plane.to_owned()),
    ];
    MedusaTask {
        metadata: ObjectMeta {
            name: Some(key.name),
            namespace: Some(key.namespace),
            labels: Some([cluster, name].into_iter().chain(own).filter(|(_, v)| !v.is_empty()).collect()),
            owner_references: Some(vec![OwnerReference {
                api_version: CassandraDatacenter::api_version(&()).into_owned(),
                kind: CassandraDatacenter::kind(&()).into_owned(),
                name: datacenter.name_any(),
                uid: datacenter.uid().unwrap_or_default(),
                controller: None,
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        spec: MedusaTaskSpec {
            cassandra_datacenter: datacenter.name_any(),
            operation,
            backup_name: None,
            restore_key: None,
        },
        status: None,
    }
}
