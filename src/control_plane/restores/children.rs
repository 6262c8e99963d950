//! The objects a restore makes in data planes. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource as _, ResourceExt as _, core::ObjectMeta};

use crate::api::{
    cassandra::CassandraDatacenter,
    fleet::{FleetRestoreJob, RestorePlan},
    labels,
    medusa::{MedusaRestoreJob, MedusaRestoreJobSpec, MedusaTask, MedusaTaskSpec, TaskOperation},
    names,
};

/// Name, labels and the local owner both kinds share (upstream §8.K).
fn metadata(
    job: &FleetRestoreJob,
    entry: &RestorePlan,
    datacenter: &CassandraDatacenter,
    control_plane: &str,
) -> ObjectMeta {
    let [cluster, name] = datacenter.datacenter_labels();
    let own = [
        (labels::JOB.to_owned(), names::label_value(&job.name_any())),
        (labels::JOB_UID.to_owned(), job.uid().unwrap_or_default()),
        (labels::CONTROL_PLANE.to_owned(), control_plane.to_owned()),
    ];
    ObjectMeta {
        name: Some(entry.job.clone()),
        namespace: Some(entry.namespace.clone()),
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
    }
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
            ..metadata(job, entry, datacenter, control_plane)
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
        metadata: metadata(job, entry, datacenter, control_plane),
        spec: MedusaTaskSpec {
            cassandra_datacenter: entry.datacenter.clone(),
            operation: TaskOperation::Sync,
            backup_name: None,
            restore_key: None,
        },
        status: None,
    }
}
