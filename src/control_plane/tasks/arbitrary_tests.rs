//! Asks what only FleetTasks ask, of any data planes, for the tests that make such.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use kube::core::DeserializeGuard;

use super::{
    gate::{self, Facts},
    retention,
    sweep::leftovers,
    traces::outlived,
};
use crate::control_plane::identity::Identity;
use crate::{
    api::{
        fleet::{FleetBackupJob, FleetTask},
        retention::Limits,
    },
    control_plane::{
        data_planes::fleet::Snapshot,
        inventory::observe::{PublishedClusters, PublishedPoints},
        runs::child::place,
    },
};

/// Every judge once that only tasks have, over what is there.
pub(in crate::control_plane) fn ask(
    task: &FleetTask,
    planes: &[Snapshot],
    published: &PublishedPoints,
    jobs: Vec<FleetBackupJob>,
    now: Timestamp,
) {
    let known = task.status.clone().unwrap_or_default().datacenters;
    let guards: Vec<_> = jobs.into_iter().map(|job| Arc::new(DeserializeGuard(Ok(job)))).collect();
    let limits = Limits { age_days: Some(1), count: Some(1), ..Limits::default() };
    let clusters = PublishedClusters::new();
    for entry in &known {
        let cluster = &entry.run.cluster;
        let points = gate::points(cluster, planes, published, &clusters, now);
        let facts = Facts { planes, cluster: None, points: &points, runs: &guards, jobs: &[], limits };
        let _ = gate::decide(&entry.run, &facts, now);
        let question = retention::Question {
            cluster,
            data_plane: &entry.run.data_plane,
            datacenter: &place(&entry.run),
            points: &points,
            held: &[],
            limits,
        };
        let _ = retention::rule(&question, now);
    }
    let guard = DeserializeGuard(Ok(task.clone()));
    let _ = leftovers(planes, [&guard], &Identity::named("cp"), now);
    let points: Vec<_> = published.values().filter_map(|point| point.status.as_ref()).collect();
    let _ = outlived(planes, &BTreeSet::new(), &points, &Identity::named("cp"));
}
