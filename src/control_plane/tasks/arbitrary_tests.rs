//! Brings any FleetTask further over any data planes, for the tests that make such.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use kube::core::DeserializeGuard;

use super::{
    Outcome, Scene,
    advance::{advance, missed_at, withdrawn_at},
    gate::{self, Facts},
    limits::Limits,
    plan::{load, repairs, starts},
    retention,
    summary::summarize,
    sweep::leftovers,
    traces::outlived,
};
use crate::{
    api::fleet::{DatacenterRun, DatacenterTask, FleetBackupJob, FleetTask},
    control_plane::{
        data_planes::{fleet::Snapshot, view::ObjectKey},
        inventory::survey::{PublishedClusters, PublishedPoints},
        runs::{
            buckets::Buckets,
            child::place,
            ending,
            select::{ClusterLabels, select_fitting},
        },
    },
};

/// Every judge once, over what is there; `times` are when the task began and now.
pub(in crate::control_plane) fn bring_further(
    task: &FleetTask,
    planes: &[Snapshot],
    published: &PublishedPoints,
    jobs: Vec<FleetBackupJob>,
    times: (Timestamp, Timestamp),
) {
    let (begun, now) = times;
    let by_name = planes.iter().map(|plane| (plane.name.as_str(), plane)).collect();
    let scene = Scene { task, planes: by_name, begun, now };
    let (old, buckets) = (task.status.clone().unwrap_or_default(), Buckets::default());
    let selector = task.spec.run.selector.clone().unwrap_or_default();
    let known = old.datacenters.clone();
    let runs: Vec<DatacenterRun> = known.iter().map(|entry| entry.run.clone()).collect();
    let chosen = select_fitting(&selector, planes, &ClusterLabels::new(), &runs).unwrap_or_default();
    let chosen = chosen.into_iter().map(|run| DatacenterTask { run, ..DatacenterTask::default() }).collect();
    let since = |_: &str, _: &ObjectKey| Some(begun);
    for mut entries in [chosen, known.clone()] {
        for entry in entries.iter_mut().filter(|entry| !entry.run.phase.is_final()) {
            advance(&scene, entry, &|_, _| None::<&Outcome>, &since);
            let _ = (missed_at(&scene, &entry.run), withdrawn_at(&scene, &entry.run));
        }
        ending::end(&scene.terms(), &mut entries, begun, |_| false);
        let mut at_work = load(&scene, &entries, &buckets, &[]);
        let _ = starts(&scene, &mut entries, &buckets, &mut at_work, |_, _| false);
        let _ = repairs(&scene, &entries, since, |_, _| false);
        let status = summarize(&scene, &old, entries, begun, None);
        assert!(status.run.phase.is_some());
    }
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
    let _ = leftovers(planes, [&guard], "cp", now);
    let points: Vec<_> = published.values().filter_map(|point| point.status.as_ref()).collect();
    let _ = outlived(planes, &BTreeSet::new(), &points, "cp");
}
