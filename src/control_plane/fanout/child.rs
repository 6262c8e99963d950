//! The MedusaBackupJob of one datacenter in a run. Pure.

use kube::ResourceExt as _;

use crate::{
    api::{
        cassandra::CassandraDatacenter,
        fleet::FleetBackupJob,
        medusa::{MedusaBackupJob, MedusaBackupJobSpec},
    },
    control_plane::{data_planes::view::ObjectKey, runs::child::metadata},
};

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
    use crate::{
        api::labels,
        control_plane::{
            fanout::tests::{datacenter, fleet_job, pending},
            runs::child::{child_key, is_of},
        },
    };

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
