//! What is at work in the fleet now, over all runs: limits hold for all of them together. Pure.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt as _;

use super::{
    Scene,
    child::{child_key, is_finished, is_started},
    rollout::Load,
};
use crate::{
    api::{
        fleet::{DatacenterRun, FleetBackupJob, FleetCluster, Phase},
        labels,
    },
    control_plane::{inventory::grouping::cluster_of, view::ObjectKey},
};

/// Buckets of the Cassandra clusters, as far as they are known.
#[derive(Clone, Debug, Default)]
pub struct Buckets(BTreeMap<String, String>);

impl Buckets {
    /// From the FleetClusters.
    pub fn of_clusters<'a>(clusters: impl IntoIterator<Item = &'a FleetCluster>) -> Self {
        Self(clusters.into_iter().filter_map(|c| Some((c.name_any(), bucket(c)?))).collect())
    }

    /// Identity of the bucket an entry's datacenter writes to.
    #[must_use]
    pub fn of(&self, entry: &DatacenterRun) -> String {
        self.of_cluster(&entry.cluster)
    }

    /// Identity of a cluster's bucket: its datacenters share one by design. An unknown one is taken for the cluster's
    /// own.
    #[must_use]
    pub fn of_cluster(&self, cluster: &str) -> String {
        self.0.get(cluster).cloned().unwrap_or_else(|| format!("unknown, of cluster {cluster}"))
    }
}

fn bucket(_cluster: &FleetCluster) -> Option<String> {
    None
}

/// A child that is being made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnderWay {
    /// The data plane.
    pub data_plane: String,
    /// The child.
    pub key: ObjectKey,
    /// Its datacenter.
    pub place: ObjectKey,
    /// Uid of the run it is for.
    pub job_uid: String,
}

/// Counts what is at work: children that are not finished, whoever's run made them, writes under way, and what the
/// statuses of the other runs that go on say is running where nobody can look.
///
/// A child nobody has begun with counts only while its run goes on.
#[must_use]
pub fn load(
    scene: &Scene<'_>,
    entries: &[DatacenterRun],
    others: &[&FleetBackupJob],
    under_way: &[UnderWay],
) -> Load {
    let mut load = Load::default();
    let mut counted: BTreeSet<(String, ObjectKey)> = BTreeSet::new();
    let own = scene.job.metadata.uid.as_deref();
    let active: BTreeSet<&str> =
        others.iter().copied().chain([scene.job]).filter_map(|j| j.metadata.uid.as_deref()).collect();
    let bucket_at = |plane: &str, place: &ObjectKey| {
        let datacenter =
            scene.planes.get(plane).and_then(|snapshot| snapshot.view.datacenters.items.get(place));
        let cluster = datacenter.map_or_else(|| place.to_string(), |dc| cluster_of(plane, dc).name);
        scene.buckets.of_cluster(&cluster)
    };
    for (name, plane) in &scene.planes {
        for (key, child) in plane.view.jobs.items.iter().filter(|(_, child)| !is_finished(child)) {
            let uid = child.labels().get(labels::JOB_UID).map(String::as_str);
            if !is_started(child) && !uid.is_some_and(|uid| active.contains(uid)) {
                continue;
            }
            let place = ObjectKey::new(&key.namespace, &child.spec.cassandra_datacenter);
            counted.insert(((*name).to_owned(), key.clone()));
            load.add(uid.is_some() && uid == own, name, &bucket_at(name, &place));
        }
    }
    for UnderWay { data_plane, key, place, job_uid } in under_way {
        if counted.insert((data_plane.clone(), key.clone())) {
            load.add(own == Some(job_uid), data_plane, &bucket_at(data_plane, place));
        }
    }
    let own_run = entries.iter().map(|entry| (scene.job, entry));
    let known = others
        .iter()
        .flat_map(|job| job.status.iter().flat_map(|s| &s.datacenters).map(move |entry| (*job, entry)));
    for (job, entry) in own_run.chain(known).filter(|(_, e)| e.phase == Phase::Running) {
        let key = child_key(job, entry, entry.attempts());
        let listed = scene.planes.get(entry.data_plane.as_str()).is_some_and(|p| p.view.jobs.synced);
        // Where the children are listed, one that is not there or is finished is no load.
        if !listed && counted.insert((entry.data_plane.clone(), key)) {
            load.add(job.metadata.uid.as_deref() == own, &entry.data_plane, &scene.buckets.of(entry));
        }
    }
    load
}
