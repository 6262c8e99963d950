//! Which MedusaBackupJobs have to be made now. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource as _, ResourceExt as _, core::ObjectMeta};

use super::select::is_placeholder;
use crate::{
    api::{
        cassandra::CassandraDatacenter,
        fleet::{DatacenterRun, FleetBackupJob, Phase},
        labels,
        medusa::{MedusaBackupJob, MedusaBackupJobSpec},
        names,
    },
    control_plane::{
        fleet::{Snapshot, Usable},
        view::ObjectKey,
    },
};

/// One child to make.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// The data plane.
    pub data_plane: String,
    /// The job to make there.
    pub child: MedusaBackupJob,
}

/// Name of the child of `job` for an entry.
#[must_use]
pub fn child_key(job: &FleetBackupJob, entry: &DatacenterRun) -> ObjectKey {
    let uid = job.uid().unwrap_or_default();
    ObjectKey::new(&entry.namespace, names::child(&job.name_any(), &entry.datacenter, &uid))
}

/// Plans the children that do not exist yet, in data planes that answer. A data plane that does not is
/// waited for, and nothing is made from what it last said.
#[must_use]
pub fn plan(
    job: &FleetBackupJob,
    entries: &[DatacenterRun],
    planes: &[Snapshot],
    control_plane: &str,
) -> Vec<Action> {
    let planes: BTreeMap<&str, &Snapshot> =
        planes.iter().filter(|p| p.usable == Usable::Ready).map(|p| (p.name.as_str(), p)).collect();
    entries
        .iter()
        .filter(|e| e.phase == Phase::Pending && e.job.is_none() && !is_placeholder(e))
        .filter_map(|entry| {
            let plane = planes.get(entry.data_plane.as_str())?;
            let place = ObjectKey::new(&entry.namespace, &entry.datacenter);
            let datacenter = plane.view.datacenters.items.get(&place)?;
            if plane.view.jobs.items.contains_key(&child_key(job, entry)) {
                return None; // Made before a crash: it is adopted.
            }
            Some(Action {
                data_plane: entry.data_plane.clone(),
                child: child(job, entry, datacenter, control_plane),
            })
        })
        .collect()
}

/// The child for one datacenter: owned by the CassandraDatacenter beside it, never by an object of
/// another cluster, which the garbage collector there would not find (upstream §8.K).
fn child(
    job: &FleetBackupJob,
    entry: &DatacenterRun,
    datacenter: &CassandraDatacenter,
    control_plane: &str,
) -> MedusaBackupJob {
    let key = child_key(job, entry);
    let [cluster, name] = datacenter.datacenter_labels();
    let own = [
        (labels::JOB.to_owned(), names::label_value(&job.name_any())),
        (labels::JOB_UID.to_owned(), job.uid().unwrap_or_default()),
        (labels::CONTROL_PLANE.to_owned(), control_plane.to_owned()),
    ];
    MedusaBackupJob {
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
        spec: MedusaBackupJobSpec {
            cassandra_datacenter: datacenter.name_any(),
            backup_type: job.spec.backup_type,
            ttl_seconds_after_finished: None,
        },
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::control_plane::fanout::tests::{datacenter, fleet_job, live, pending, plane, silent};

    #[test]
    fn a_child_carries_name_labels_and_a_local_owner() {
        let planes = [plane("eu", live(&[datacenter("dc1", 3)]))];
        let actions = plan(&fleet_job("nightly"), &[pending("eu", "dc1")], &planes, "cp");
        let child = &actions[0].child;
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
    }

    #[test]
    fn nothing_is_made_where_the_cluster_is_silent_or_the_child_is_there() {
        let job = fleet_job("nightly");
        assert!(plan(&job, &[pending("eu", "dc1")], &[plane("eu", silent())], "cp").is_empty());
        let mut view = live(&[datacenter("dc1", 3)]);
        let entry = pending("eu", "dc1");
        view.jobs.items.insert(child_key(&job, &entry), Arc::new(MedusaBackupJob::default()));
        assert!(plan(&job, &[entry], &[plane("eu", view)], "cp").is_empty());
    }
}
