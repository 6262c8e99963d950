//! What is to be done now: children to make, syncs to make after purges, children to take back. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::{
    Scene,
    advance::is_to_withdraw,
    child::sync_key,
    judge::{Evidence, lacks_sync},
};
use crate::{
    api::{
        Reason, Seen,
        fleet::{DatacenterRun, DatacenterTask, Phase},
    },
    control_plane::{
        data_planes::{
            fleet::{Snapshot, Usable},
            view::ObjectKey,
        },
        runs::{
            buckets::Buckets,
            child::{Child as _, child_key, is_of, place},
            desk::UnderWay,
            ending::{not_before, set},
            imports::Wordless,
            rollout::{Load, Turn, Waiting, turns},
            select::is_placeholder,
        },
    },
};

/// One thing to do for one datacenter.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Action {
    /// The datacenter's entry.
    pub run: DatacenterRun,
    /// The MedusaTask it is about.
    pub key: ObjectKey,
    /// What to do.
    pub work: Work,
}

/// What to do about a MedusaTask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Make the child, when it may be.
    Start,
    /// Make the sync after a purge.
    FollowUp,
    /// Delete exactly this version of it.
    Withdraw { uid: String, resource_version: String },
}

/// What is to be done, and when to look again for what waits for its time.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub actions: Vec<Action>,
    pub wake: Option<Timestamp>,
}

/// Counts what is at work, over all tasks of the fleet.
#[must_use]
pub(super) fn load(
    scene: &Scene<'_>,
    entries: &[DatacenterTask],
    buckets: &Buckets,
    under_way: &[UnderWay],
) -> Load {
    let mut load = Load::default();
    for run in entries.iter().map(|e| &e.run).filter(|run| run.phase == Phase::Running) {
        load.add(true, &run.data_plane, &buckets.of(run));
    }
    let bucket_at = |plane: &str, place: &ObjectKey| buckets.at(&scene.planes, plane, place);
    for UnderWay { data_plane, place, run_uid, .. } in under_way {
        let own = scene.task.metadata.uid.as_ref() == Some(run_uid);
        load.add(own, data_plane, &bucket_at(data_plane, place));
    }
    for (name, plane) in &scene.planes {
        for (key, child) in plane.view.tasks.last_known().iter().filter(|(_, child)| !child.is_finished()) {
            if !is_of(child.as_ref(), scene.task) {
                let place = ObjectKey::new(&key.namespace, &child.spec.cassandra_datacenter);
                load.add(false, name, &bucket_at(name, &place));
            }
        }
    }
    load
}

/// Plans the children whose turn has come, and says in the entries why the others wait. `is_busy` says whether work
/// on a child is under way or pauses.
pub(super) fn starts(
    scene: &Scene<'_>,
    entries: &mut [DatacenterTask],
    buckets: &Buckets,
    load: &mut Load,
    is_busy: impl Fn(&str, &ObjectKey) -> bool,
) -> Plan {
    let (terms, mut plan) = (scene.terms(), Plan::default());
    let candidates: Vec<(usize, ObjectKey, String, Timestamp)> = entries
        .iter()
        .enumerate()
        .filter_map(|(number, entry)| {
            let run = &entry.run;
            let key = startable(scene, run)?;
            let idle = !is_busy(&run.data_plane, &key);
            idle.then(|| (number, key, buckets.of(run), not_before(&terms, run)))
        })
        .collect();
    let waiting: Vec<Waiting<'_>> = candidates
        .iter()
        .filter_map(|(number, _, bucket, at)| {
            let data_plane = &entries.get(*number)?.run.data_plane;
            Some(Waiting { data_plane, bucket, not_before: *at })
        })
        .collect();
    let turns = turns(&terms.rollout, &BTreeMap::new(), load, &waiting, scene.now);
    for ((number, key, _, _), turn) in candidates.into_iter().zip(turns) {
        let Some(run) = entries.get_mut(number).map(|entry| &mut entry.run) else { continue };
        let mut wait = |message: String| {
            if run.attempts() == 0 {
                set(run, Phase::Pending, Reason::AwaitingTurn, Some(message));
            }
        };
        match turn {
            Turn::Now => plan.actions.push(Action { run: run.clone(), key, work: Work::Start }),
            Turn::NotBefore(at) => {
                plan.wake = Some(plan.wake.map_or(at, |wake| wake.min(at)));
                wait(format!("starts at {at:.0}, its place in the stagger window"));
            }
            Turn::Full(limit) => wait(limit.to_string()),
        }
    }
    plan
}

/// The child's name of an entry that may start as far as its data plane is concerned.
fn startable(scene: &Scene<'_>, run: &DatacenterRun) -> Option<ObjectKey> {
    if run.phase != Phase::Pending || is_placeholder(run) {
        return None;
    }
    let rehearsed =
        scene.task.spec.run.is_dry_run() && run.reason.as_deref() == Some(Reason::DryRun.as_str());
    let plane = usable(scene, run).filter(|_| !rehearsed)?;
    let key = child_key(scene.task, run, run.attempts() + 1);
    (plane.view.seen(&plane.view.tasks, &key) == Seen::Absent).then_some(key)
}

fn usable<'a>(scene: &Scene<'a>, run: &DatacenterRun) -> Option<&'a Snapshot> {
    let plane = *scene.planes.get(run.data_plane.as_str())?;
    (plane.usable == Usable::Ready).then_some(plane)
}

/// What is to be done for children that are there: syncs nobody else makes, and children to take back. A child is
/// taken back in exactly the version that was seen, so that one that is begun with in this moment stays.
pub(super) fn repairs(
    scene: &Scene<'_>,
    entries: &[DatacenterTask],
    finished_since: impl Fn(&str, &ObjectKey) -> Option<Timestamp>,
    is_busy: impl Fn(&str, &ObjectKey) -> bool,
) -> Vec<Action> {
    let running = entries.iter().map(|e| &e.run).filter(|run| run.phase == Phase::Running);
    running
        .filter_map(|run| {
            let plane = usable(scene, run)?;
            let key = child_key(scene.task, run, run.attempts());
            let child = plane.view.tasks.last(&key)?;
            let follow_up = sync_key(&key);
            let sync = plane.view.tasks.last(&follow_up).map(AsRef::as_ref);
            let wordless = sync.and_then(|sync| Wordless::of(sync, &plane.view, scene.now));
            // Deleted, it is missed, and made again.
            let unwhole = sync.filter(|sync| {
                wordless.as_ref().is_some_and(Wordless::is_unwhole) && is_of(*sync, scene.task)
            });
            let evidence = Evidence {
                child,
                sync,
                wordless,
                datacenter: plane.view.datacenters.last(&place(run)).map(AsRef::as_ref),
                finished_since: finished_since(&plane.name, &key),
            };
            let action = if lacks_sync(&evidence, scene.now) {
                Action { run: run.clone(), key: follow_up, work: Work::FollowUp }
            } else if let Some(sync) = unwhole {
                let work = Work::Withdraw { uid: sync.uid()?, resource_version: sync.resource_version()? };
                Action { run: run.clone(), key: follow_up, work }
            } else if is_to_withdraw(scene, run, child) {
                let work = Work::Withdraw { uid: child.uid()?, resource_version: child.resource_version()? };
                Action { run: run.clone(), key, work }
            } else {
                return None;
            };
            (!is_busy(&plane.name, &action.key)).then_some(action)
        })
        .collect()
}
