//! The MedusaBackupJob of one datacenter in a run: its name, its labels, its owner. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource as _, ResourceExt, core::ObjectMeta};

use crate::{
    api::{
        cassandra::CassandraDatacenter,
        fleet::{DatacenterRun, FleetBackupJob},
        labels,
        medusa::{MedusaBackupJob, MedusaBackupJobSpec},
        names,
    },
    control_plane::view::ObjectKey,
};

/// Where the datacenter of an entry is in its data plane.
#[must_use]
pub fn place(entry: &DatacenterRun) -> ObjectKey {
    ObjectKey::new(&entry.namespace, &entry.datacenter)
}

/// Name of the child of `job` for attempt number `attempt`, from 1, at an entry.
#[must_use]
pub fn child_key(job: &FleetBackupJob, entry: &DatacenterRun, attempt: usize) -> ObjectKey {
    let uid = job.meta().uid.as_deref().unwrap_or_default();
    let name = job.meta().name.as_deref().unwrap_or_default();
    ObjectKey::new(&entry.namespace, names::attempt(name, &entry.datacenter, uid, attempt))
}

/// Whether `child` was made for `job`.
#[must_use]
pub fn is_of(child: &MedusaBackupJob, job: &FleetBackupJob) -> bool {
    job.meta().uid.is_some() && child.labels().get(labels::JOB_UID) == job.meta().uid.as_ref()
}

/// Whether the data plane is done with it.
#[must_use]
pub fn is_finished(child: &MedusaBackupJob) -> bool {
    child.status.as_ref().is_some_and(|status| status.finish_time.is_some())
}

/// Whether the data plane has begun with it.
#[must_use]
pub fn is_started(child: &MedusaBackupJob) -> bool {
    child.status.as_ref().is_some_and(|status| status.start_time.is_some())
}

/// Metadata of the child of `run` for one datacenter: owned by the CassandraDatacenter beside it, never by an object
/// of another cluster, which the garbage collector there would not find (upstream §8.K).
#[must_use]
pub fn metadata(
    run: &impl ResourceExt,
    key: ObjectKey,
    datacenter: &CassandraDatacenter,
    control_plane: &str,
) -> ObjectMeta {
    let [cluster, name] = datacenter.datacenter_labels();
    let own = [
        (labels::JOB.to_owned(), names::label_value(&run.name_any())),
        (labels::JOB_UID.to_owned(), run.uid().unwrap_or_default()),
        (labels::CONTROL_PLANE.to_owned(), control_plane.to_owned()),
    ];
    ObjectMeta {
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
    }
}

/// The child for one datacenter.
#[must_use]
pub fn child(
    job: &FleetBackupJob,
    key: ObjectKey,
    datacenter: &CassandraDatacenter,
    control_plane: &str,
) -> MedusaBackupJob {
    MedusaBackupJob {
        metadata: metadata(job, key, datacenter, control_plane),
        spec: MedusaBackupJobSpec {
            cassandra_datacenter: datacenter.name_any(),
            backup_type: job.spec.backup_type,
            // The run deletes it: it may still have to be judged when its own time would be over.
            ttl_seconds_after_finished: None,
        },
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_plane::fanout::tests::{datacenter, fleet_job, pending};

    #[test]
    fn a_child_carries_name_labels_and_a_local_owner() {
        let job = fleet_job("nightly");
        let child = child(&job, child_key(&job, &pending("eu", "dc1"), 1), &datacenter("dc1", 3), "cp");
        assert_eq!(child.name_any(), "nightly-dc1-0b1c2d3e");
        assert_eq!(child.namespace().unwrap(), "ns");
        let labels = child.labels();
        assert_eq!(labels[labels::JOB], "nightly");
        assert_eq!(labels[labels::CONTROL_PLANE], "cp");
        assert_eq!(labels[labels::CASSANDRA_CLUSTER], "shop");
        assert_eq!(labels[labels::CASSANDRA_DATACENTER], "dc1");
        let owner = &child.owner_references()[0];
        assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("CassandraDatacenter", "uid-dc1"));
        assert_eq!((owner.controller, owner.block_owner_deletion), (None, None));
        assert!(is_of(&child, &job) && !is_of(&child, &FleetBackupJob::default()));
    }
}
