//! What has to be written into the data planes now: children to make, children to take back, and when to look again.
//! Pure. A data plane that does not answer is waited for, and nothing is made from what it last said.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;

use super::{
    FirstSeen, RunInputs,
    adapter::{Adapter, ObservedChild},
    advance::finished_since,
};
use crate::{
    api::{
        Reason, Seen,
        fleet::{DatacenterRun, Phase},
        time::since,
    },
    control_plane::{
        data_planes::{
            fleet::{Snapshot, Usable},
            view::ObjectKey,
        },
        runs::{
            child::{Child as _, ExactObject, child_key, is_of, place},
            ending::{not_before, set},
            in_flight::Outcomes,
            rollout::{Limit, Load, Turn, Waiting, turns},
            select::is_placeholder,
        },
    },
};

/// Pause between two looks at what is seen by looking only: what a finished child leaves, a missing child, the end of a
/// restore or a purge.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Pause between two looks while other runs hold the places.
const FULL: Duration = Duration::from_secs(1);

/// One thing to do for one datacenter.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    pub entry: DatacenterRun,
    /// The object it is about.
    pub key: ObjectKey,
    pub work: Work,
}

/// What to do about an object in a data plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Make the child, when it may be.
    Start,
    /// Make the sync after a purge.
    FollowUp,
    /// Delete it.
    Withdraw(ExactObject),
}

/// What is to be done, and when to look again for what waits for its time.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Writes, none of them for something that is being written already.
    pub actions: Vec<Action>,
    /// When the next datacenter's time comes.
    pub wake: Option<Timestamp>,
    /// Whether a limit that other runs share holds something back.
    pub is_full: bool,
    /// Whether a restore or a purge does.
    pub is_held: bool,
}

/// Plans the children whose turn has come, and says in the entries why the others wait. `is_busy` says whether a
/// write is under way for a child or pauses after it was refused.
pub fn plan<R: Adapter>(
    inputs: &RunInputs<'_, R>,
    entries: &mut [R::Entry],
    load: &mut Load,
    is_busy: impl Fn(&str, &ObjectKey) -> bool,
) -> Plan {
    let mut plan = Plan::default();
    let mut candidates: Vec<(usize, &Snapshot, ObjectKey, String, Timestamp)> = Vec::new();
    for (number, entry) in entries.iter_mut().map(AsMut::as_mut).enumerate() {
        let Some((plane, key)) = startable(inputs, entry) else { continue };
        if is_busy(&plane.name, &key) {
            continue;
        }
        if let Some((reason, why)) = inputs.holds.of(&entry.cluster, &entry.data_plane) {
            wait(entry, *reason, why.clone());
            plan.is_held = true;
            continue;
        }
        candidates.push((number, plane, key, inputs.buckets.of(entry), not_before(&inputs.terms, entry)));
    }
    let waiting: Vec<Waiting<'_>> = candidates
        .iter()
        .map(|(_, plane, _, bucket, at)| Waiting { data_plane: &plane.name, bucket, not_before: *at })
        .collect();
    let turns = turns(&inputs.terms.rollout, &inputs.own_limits, load, &waiting, inputs.now());
    for ((number, _, key, _, _), turn) in candidates.into_iter().zip(turns) {
        let Some(entry) = entries.get_mut(number).map(AsMut::as_mut) else { continue };
        match turn {
            Turn::Now => plan.actions.push(Action { entry: entry.clone(), key, work: Work::Start }),
            Turn::NotBefore(at) => {
                plan.wake = Some(plan.wake.map_or(at, |wake| wake.min(at)));
                let message = format!("starts at {at:.0}, its place in the stagger window");
                wait(entry, Reason::AwaitingTurn, message);
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
        set(entry, Phase::Pending, reason, Some(message));
    }
}

/// The data plane and the child's name of an entry that may start as far as the data plane is concerned.
fn startable<'a, R: Adapter>(
    inputs: &RunInputs<'a, R>,
    entry: &DatacenterRun,
) -> Option<(&'a Snapshot, ObjectKey)> {
    // A dry run has looked at it.
    let is_planned = entry.has_reason(Reason::DryRun);
    if inputs.terms.is_cancelled || entry.phase != Phase::Pending || is_placeholder(entry) || is_planned {
        return None;
    }
    let is_named = |named: &BTreeSet<_>| named.contains(&(entry.data_plane.clone(), place(entry)));
    if !inputs.named.as_ref().is_none_or(is_named) {
        return None;
    }
    let plane = usable(inputs, entry)?;
    let key = child_key(inputs.run, entry, entry.attempts() + 1);
    let is_unmade = matches!(plane.view.seen(R::Child::section(&plane.view), &key), Seen::Absent);
    let datacenter = plane.view.seen(&plane.view.datacenters, &place(entry));
    (is_unmade && datacenter.known().is_some()).then_some((plane, key))
}

fn usable<'a, R: Adapter>(inputs: &RunInputs<'a, R>, entry: &DatacenterRun) -> Option<&'a Snapshot> {
    inputs.planes.get(entry.data_plane.as_str()).copied().filter(|plane| plane.usable == Usable::Ready)
}

/// What is to be done for children that are there: those of a cancelled run that no data plane has begun with are taken
/// back; the rest is the kind's own ([`Adapter::repair`]).
pub fn repairs<R: Adapter>(
    inputs: &RunInputs<'_, R>,
    entries: &[R::Entry],
    outcomes: &Outcomes,
    first_seen: &FirstSeen,
    is_busy: impl Fn(&str, &ObjectKey) -> bool,
) -> Vec<Action> {
    let running = entries.iter().map(AsRef::as_ref).filter(|e| e.phase == Phase::Running && e.attempts() > 0);
    running
        .filter_map(|entry| {
            let plane = usable(inputs, entry)?;
            let key = child_key(inputs.run, entry, entry.attempts());
            let child = R::Child::section(&plane.view).last(&key)?.as_ref();
            let finished_since = finished_since(first_seen, plane, &key, child);
            let found = ObservedChild { plane, key: &key, child, finished_since, outcomes };
            let is_untouched = is_of(child, inputs.run) && !child.is_started() && !child.is_finished();
            let (key, work) = if is_untouched && inputs.terms.is_cancelled {
                (key, Work::Withdraw(ExactObject::of(plane, child)?))
            } else {
                R::repair(inputs, entry, &found)?
            };
            (!is_busy(&plane.name, &key)).then(|| Action { entry: entry.clone(), key, work })
        })
        .collect()
}

/// Pause until the next look for what wakes nobody. `is_noted` says whether a child was seen finished, or missing;
/// `deadline` is the next of the run's. A pause before another attempt counts until it is over: then the plan says what
/// else the attempt waits for.
#[must_use]
pub fn next_look<R: Adapter>(
    inputs: &RunInputs<'_, R>,
    entries: &[R::Entry],
    plan: &Plan,
    is_noted: bool,
    deadline: Option<Timestamp>,
) -> Option<Duration> {
    let open = || entries.iter().map(AsRef::as_ref).filter(|e| !e.phase.is_final());
    let now = inputs.now();
    let retries = open()
        .filter(|e| e.phase == Phase::Pending && e.attempts() > 0)
        .map(|e| not_before(&inputs.terms, e))
        .filter(|at| *at > now);
    let own = open().filter_map(|entry| R::due_at(inputs, entry));
    let moments = retries.chain(own).chain(plan.wake).chain(deadline);
    let full = plan.is_full.then_some(FULL);
    let seen = (is_noted || plan.is_held).then_some(LOOK_AGAIN);
    // A little more than none, so that the moment has come when the pause is over. What should have happened by now and
    // did not waits for something that nobody can tell the time of.
    let until = |at| if at <= now { LOOK_AGAIN } else { since(now, at) + Duration::from_millis(10) };
    moments.map(until).chain(full).chain(seen).min()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::{
        api::fleet::Rollout,
        control_plane::fanout::tests::{datacenter, fleet_job, inputs, live, pending, plane},
    };

    /// Seconds until the next look at a run whose only datacenter failed once at second 0, planned at `second`.
    fn looks_again_in(second: i64, held: bool, full: bool) -> Option<u64> {
        let mut job = fleet_job("nightly");
        job.spec.run.rollout = Some(Rollout { max_concurrent_per_data_plane: Some(1), ..Rollout::default() });
        let planes = [plane("eu", live(&[datacenter("dc1", 1)]))];
        let mut inputs = inputs(&job, &planes, second);
        let mut entry = pending("eu", "dc1");
        entry.attempts = 1;
        entry.finish_time = Some(Time(Timestamp::UNIX_EPOCH));
        entry.reason = Some(Reason::AwaitingRetry.as_str().to_owned());
        if held {
            inputs.holds.insert(entry.cluster.clone(), (Reason::PurgeRunning, "it is purged".to_owned()));
        }
        let (mut load, mut entries) = (Load::default(), [entry]);
        if full {
            load.add(false, "eu", "b");
        }
        let plan = plan(&inputs, &mut entries, &mut load, |_, _| false);
        assert_eq!(entries[0].reason.as_deref(), Some("AwaitingRetry"), "why it failed stays readable");
        assert_eq!(plan.actions.len(), usize::from(second >= 10 && !held && !full));
        next_look(&inputs, &entries, &plan, false, None).map(|wait| wait.as_secs())
    }

    #[test]
    fn another_attempt_that_is_held_or_has_no_place_wakes_nobody_once_its_pause_is_over() {
        assert_eq!(looks_again_in(3, false, false), Some(7), "the end of its pause");
        assert_eq!(looks_again_in(3, true, false), Some(LOOK_AGAIN.as_secs()));
        for second in [10, 11, 3_600] {
            assert_eq!(looks_again_in(second, true, false), Some(LOOK_AGAIN.as_secs()));
            assert_eq!(looks_again_in(second, false, true), Some(FULL.as_secs()));
            assert_eq!(looks_again_in(second, false, false), None, "it starts");
        }
    }
    #[test]
    fn where_the_published_status_has_to_name_a_datacenter_nothing_is_made_before_it_does() {
        let job = fleet_job("nightly");
        let planes = [plane("eu", live(&[datacenter("dc1", 1), datacenter("dc2", 1)]))];
        let mut inputs = inputs(&job, &planes, 0);
        inputs.named = Some(BTreeSet::from([("eu".to_owned(), ObjectKey::new("ns", "dc2"))]));
        let mut entries = [pending("eu", "dc1"), pending("eu", "dc2")];
        let plan = plan(&inputs, &mut entries, &mut Load::default(), |_, _| false);
        let made: Vec<&str> = plan.actions.iter().map(|a| a.entry.datacenter.as_str()).collect();
        assert_eq!(made, ["dc2"]);
    }
}
