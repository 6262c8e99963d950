//! What is at work in the fleet now, over all runs: limits hold for all of them together. Pure.

use std::collections::BTreeSet;

use kube::ResourceExt as _;

use super::{RunInputs, adapter::Adapter};
use crate::{
    api::{
        fleet::{DatacenterRun, Phase},
        labels,
    },
    control_plane::{
        data_planes::view::ObjectKey,
        identity::uid_of,
        runs::{
            child::{Child as _, child_key},
            in_flight::UnderWay,
            rollout::Load,
        },
    },
};

/// Counts what is at work: children that are not finished, whoever's run made them, writes under way, and what the
/// statuses of the other runs that go on say is running where nobody can look.
///
/// A child nobody has begun with counts only while its run goes on.
#[must_use]
pub fn load<R: Adapter>(
    inputs: &RunInputs<'_, R>,
    entries: &[R::Entry],
    others: &[&R],
    under_way: &[UnderWay],
) -> Load {
    let mut load = Load::default();
    let mut counted: BTreeSet<(String, ObjectKey)> = BTreeSet::new();
    let own = inputs.run.meta().uid.as_deref();
    let known_as = uid_of(inputs.run);
    let active: BTreeSet<&str> =
        others.iter().copied().chain([inputs.run]).filter_map(|run| uid_of(run)).collect();
    let bucket_at = |plane: &str, place: &ObjectKey| inputs.buckets.at(&inputs.planes, plane, place);
    for (name, plane) in &inputs.planes {
        for (key, child) in
            R::Child::section(&plane.view).last_known().iter().filter(|(_, child)| !child.is_finished())
        {
            let uid = child.labels().get(labels::JOB_UID).map(String::as_str);
            if R::COUNTS_UNTIL_JUDGED && uid.is_some() && uid == known_as {
                continue;
            }
            if !child.is_started() && !uid.is_some_and(|uid| active.contains(uid)) {
                continue;
            }
            let place = ObjectKey::new(&key.namespace, child.datacenter());
            counted.insert(((*name).to_owned(), key.clone()));
            load.add(uid.is_some() && uid == known_as, name, &bucket_at(name, &place));
        }
    }
    for UnderWay { data_plane, key, place, run_uid, .. } in under_way {
        if counted.insert((data_plane.clone(), key.clone())) {
            load.add(own == Some(run_uid), data_plane, &bucket_at(data_plane, place));
        }
    }
    let own_run = entries.iter().map(|entry| (inputs.run, entry.as_ref()));
    let known = others.iter().flat_map(|run| {
        let entries: Vec<&DatacenterRun> = run.status().map(R::entries).unwrap_or_default();
        entries.into_iter().map(move |entry| (*run, entry))
    });
    for (run, entry) in own_run.chain(known).filter(|(_, e)| e.phase == Phase::Running) {
        let key = child_key(run, entry, entry.attempts());
        let plane = inputs.planes.get(entry.data_plane.as_str());
        let listed = plane.is_some_and(|p| p.view.listing(R::Child::section(&p.view)).known().is_some());
        let is_judged_later = R::COUNTS_UNTIL_JUDGED && run.meta().uid.as_deref() == own;
        // Where the children are listed, one that is not there or is finished is no load.
        if (!listed || is_judged_later) && counted.insert((entry.data_plane.clone(), key)) {
            load.add(run.meta().uid.as_deref() == own, &entry.data_plane, &inputs.buckets.of(entry));
        }
    }
    load
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use serde_json::json;

    use super::*;
    use crate::{
        api::fleet::{DatacenterTask, FleetBackupJob, FleetTask, Rollout},
        control_plane::{
            fanout::tests::{datacenter, fleet_job, inputs, live, made, pending, plane, silent},
            runs::{
                buckets::Buckets,
                rollout::{Limit, Turn, Waiting, turns},
            },
        },
    };

    /// Whether one more may start in `eu` where two may be at work.
    fn is_full(load: &Load) -> bool {
        let rollout = Rollout { max_concurrent_per_data_plane: Some(2), ..Rollout::default() };
        let waiting = Waiting { data_plane: "eu", bucket: "x", not_before: jiff::Timestamp::UNIX_EPOCH };
        let mut load = load.clone();
        let turns = turns(&rollout, &BTreeMap::new(), &mut load, &[waiting], jiff::Timestamp::UNIX_EPOCH);
        turns == [Turn::Full(Limit::PerDataPlane(2))]
    }

    fn other(name: &str) -> FleetBackupJob {
        let mut job = fleet_job(name);
        job.metadata.uid = Some("ffffffff-0000-0000-0000-000000000000".to_owned());
        job
    }

    #[test]
    fn children_count_until_they_are_finished_whoever_made_them() {
        let (job, other) = (fleet_job("nightly"), other("weekly"));
        for (first, second, full) in [
            (json!({"startTime": "2026-01-01T00:00:00Z"}), json!({}), true),
            (
                json!({"startTime": "2026-01-01T00:00:00Z", "finishTime": "2026-01-01T00:00:01Z"}),
                json!({}),
                false,
            ),
        ] {
            let mut view = live(&[datacenter("dc1", 1), datacenter("dc2", 1)]);
            view.jobs.items_mut().extend([
                made(&job, &pending("eu", "dc1"), 1, first),
                made(&other, &pending("eu", "dc2"), 1, second),
            ]);
            let planes = [plane("eu", view)];
            assert_eq!(is_full(&load(&inputs(&job, &planes, 0), &[], &[&other], &[])), full);
            assert!(
                !is_full(&load(&inputs(&job, &planes, 0), &[], &[], &[])),
                "nobody will begin with a child whose run is over"
            );
        }
    }

    #[test]
    fn what_is_being_made_counts_once() {
        let job = fleet_job("nightly");
        let entry = pending("eu", "dc1");
        let under_way = |dc: &str| UnderWay {
            data_plane: "eu".to_owned(),
            key: child_key(&job, &pending("eu", dc), 1),
            place: ObjectKey::new("ns", dc),
            run_uid: job.metadata.uid.clone().unwrap(),
            makes: true,
        };
        let mut view = live(&[datacenter("dc1", 1), datacenter("dc2", 1)]);
        let (key, child) = made(&job, &entry, 1, json!({}));
        view.jobs.put(key, child);
        let planes = [plane("eu", view)];
        let inputs = inputs(&job, &planes, 0);
        assert!(!is_full(&load(&inputs, &[], &[], &[under_way("dc1")])), "it is there and being made: one");
        assert!(is_full(&load(&inputs, &[], &[], &[under_way("dc1"), under_way("dc2")])));
    }

    #[test]
    fn where_nobody_can_look_the_statuses_count() {
        let (job, mut other) = (fleet_job("nightly"), other("weekly"));
        let running = |dc: &str| DatacenterRun { phase: Phase::Running, attempts: 1, ..pending("eu", dc) };
        other.status = serde_json::from_value(json!({"datacenters": [running("dc2")]})).unwrap();
        let planes = [plane("eu", silent())];
        let scene_silent = inputs(&job, &planes, 0);
        assert!(is_full(&load(&scene_silent, &[running("dc1")], &[&other], &[])));
        let listed = [plane("eu", live(&[]))];
        assert!(!is_full(&load(&inputs(&job, &listed, 0), &[running("dc1")], &[&other], &[])));
    }
    #[test]
    fn a_datacenter_of_a_task_counts_until_it_is_judged_and_no_longer() {
        let task: FleetTask = serde_json::from_value(json!({
            "metadata": {"name": "weekly", "uid": "u"}, "spec": {"operation": "purge"},
        }))
        .unwrap();
        let purge = |dc: &str, status: serde_json::Value| {
            let key = child_key(&task, &pending("eu", dc), 1);
            let object = json!({
                "metadata": {"name": key.name, "namespace": "ns", "labels": {labels::JOB_UID: "u"}},
                "spec": {"cassandraDatacenter": dc, "operation": "purge"}, "status": status,
            });
            (key, serde_json::from_value(object).map(Arc::new).unwrap())
        };
        let mut view = live(&[datacenter("dc1", 1), datacenter("dc2", 1)]);
        let (begun, ended) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z");
        view.tasks.items_mut().extend([
            purge("dc1", json!({"startTime": begun, "finishTime": ended})),
            purge("dc2", json!({"startTime": begun})),
        ]);
        let planes = [plane("eu", view)];
        let buckets = Buckets::default();
        let inputs = RunInputs::new(
            &task,
            &planes,
            &buckets,
            jiff::Timestamp::UNIX_EPOCH,
            jiff::Timestamp::UNIX_EPOCH,
        );
        let entry = |dc: &str, phase: Phase| DatacenterTask {
            run: DatacenterRun { phase, attempts: 1, ..pending("eu", dc) },
            ..DatacenterTask::default()
        };
        let at_work = |first: Phase, second: Phase| {
            is_full(&load(&inputs, &[entry("dc1", first), entry("dc2", second)], &[], &[]))
        };
        assert!(at_work(Phase::Running, Phase::Running), "the sync after the purge of dc1 is still to come");
        assert!(!at_work(Phase::Running, Phase::Failed), "dc2 was given up");
    }
}
