//! What has to be written into the data planes now: children to make, and, once a run was cancelled, children to
//! withdraw that nobody has begun with. Pure.

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::{
    Scene,
    child::child,
    write::{Action, Work},
};
use crate::{
    api::{
        Reason,
        fleet::{DatacenterRun, Phase},
    },
    control_plane::{
        fleet::{Snapshot, Usable},
        runs::{
            child::{Child as _, child_key, is_of, place},
            ending::not_before,
            rollout::{Limit, Load, Turn, Waiting, turns},
            select::is_placeholder,
        },
        view::ObjectKey,
    },
};

/// What is to be done, and when to look again for what waits for its time.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Writes, none of them for something that is being written already.
    pub actions: Vec<Action>,
    /// When the next datacenter's time comes.
    pub wake: Option<Timestamp>,
    /// Whether a limit that other runs share holds something back.
    pub is_full: bool,
}

/// Plans the children whose turn has come, and says in the entries why the others wait. `is_busy` says whether a
/// write is under way for a child or pauses after it was refused.
///
/// A data plane that does not answer is waited for, and nothing is made from what it last said.
pub fn plan(
    scene: &Scene<'_>,
    entries: &mut [DatacenterRun],
    load: &mut Load,
    is_busy: impl Fn(&str, &ObjectKey) -> bool,
) -> Plan {
    let terms = scene.terms();
    let mut plan = Plan::default();
    let mut candidates: Vec<(usize, &Snapshot, ObjectKey, String, Timestamp)> = Vec::new();
    for (number, entry) in entries.iter_mut().enumerate() {
        let Some((plane, key)) = startable(scene, entry) else { continue };
        if is_busy(&plane.name, &key) {
            continue;
        }
        if let Some((reason, why)) = scene.holds.get(&entry.cluster) {
            wait(entry, *reason, why.clone());
            continue;
        }
        let not_before = not_before(&terms, entry);
        candidates.push((number, plane, key, scene.buckets.of(entry), not_before));
    }
    let waiting: Vec<Waiting<'_>> = candidates
        .iter()
        .map(|(_, plane, _, bucket, at)| Waiting { data_plane: &plane.name, bucket, not_before: *at })
        .collect();
    let turns = turns(&terms.rollout, &scene.own_limits, load, &waiting, scene.now);
    for ((number, plane, key, _, _), turn) in candidates.iter().zip(turns) {
        let Some(entry) = entries.get_mut(*number) else { continue };
        match turn {
            Turn::Now => {
                let Some(datacenter) = plane.view.datacenters.items.get(&place(entry)) else { continue };
                let made = child(scene.job, key.clone(), datacenter, scene.control_plane);
                plan.actions.push(Action::new(plane, entry, key, Work::Make(Box::new(made))));
            }
            Turn::NotBefore(at) => {
                plan.wake = Some(plan.wake.map_or(at, |wake| wake.min(at)));
                if entry.attempts() == 0 {
                    wait(
                        entry,
                        Reason::AwaitingTurn,
                        format!("starts at {at:.0}, its place in the stagger window"),
                    );
                }
            }
            Turn::Full(limit) => {
                plan.is_full |= !matches!(limit, Limit::Run(_));
                wait(entry, Reason::AwaitingTurn, limit.to_string());
            }
        }
    }
    plan
}

/// Why a pending entry does not start. What the attempt before came to stays readable.
fn wait(entry: &mut DatacenterRun, reason: Reason, message: String) {
    if entry.attempts() == 0 {
        entry.reason = Some(reason.as_str().to_owned());
        entry.message = Some(message);
    }
}

/// The data plane and the child's name of an entry that may start as far as the data plane is concerned.
fn startable<'a>(scene: &Scene<'a>, entry: &DatacenterRun) -> Option<(&'a Snapshot, ObjectKey)> {
    if entry.phase != Phase::Pending || is_placeholder(entry) {
        return None;
    }
    let plane = scene.planes.get(entry.data_plane.as_str()).filter(|p| p.usable == Usable::Ready)?;
    let key = child_key(scene.job, entry, entry.attempts() + 1);
    let made = plane.view.jobs.items.contains_key(&key);
    (!made && plane.view.datacenters.items.contains_key(&place(entry))).then_some((*plane, key))
}

/// Children of a cancelled run that no data plane has begun with. They are deleted in exactly the version that was
/// seen, so that one that is begun with in this moment stays.
pub fn withdraw(
    scene: &Scene<'_>,
    entries: &[DatacenterRun],
    is_busy: impl Fn(&str, &ObjectKey) -> bool,
) -> Vec<Action> {
    entries
        .iter()
        .filter(|entry| entry.phase == Phase::Running && entry.attempts() > 0)
        .filter_map(|entry| {
            let plane = scene.planes.get(entry.data_plane.as_str()).filter(|p| p.usable == Usable::Ready)?;
            let key = child_key(scene.job, entry, entry.attempts());
            let child = plane.view.jobs.items.get(&key)?;
            let untouched = is_of(child.as_ref(), scene.job) && !child.is_started() && !child.is_finished();
            let work = Work::Withdraw { uid: child.uid()?, resource_version: child.resource_version()? };
            (untouched && !is_busy(&plane.name, &key)).then(|| Action::new(plane, entry, &key, work))
        })
        .collect()
}
