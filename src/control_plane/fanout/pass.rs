//! One pass over one run: what is seen, what is started, what is remembered.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _, core::DeserializeGuard};
use tokio::task::JoinHandle;

use super::{
    Scene,
    controller::{Fanout, carry_out},
    holds::abandoned,
    load::load,
    plan::{self, Plan},
    rehearsal::rehearse,
    rollup,
    summary::summarize,
    write::{Action, Work},
};
use crate::{
    api::{
        Reason, Seen,
        fleet::{DatacenterRun, FleetBackupJob, FleetBackupJobStatus, Phase},
    },
    control_plane::{
        data_planes::fleet::{Snapshot, Usable},
        runs::{
            MISSING, Memory, Noted, Run as _, Runs,
            child::{Child as _, child_key},
            claims::{self, Claim},
            desk::{UnderWay, wait_shortly},
            ending,
            rollout::{Load, is_limited},
            select::{is_lacking, select_fitting},
        },
    },
};

/// Longest pause between two looks at a run that goes on, whatever woke nobody.
const REPAIR: Duration = Duration::from_secs(30);

/// Goes over the run once. Returns when to look again without being woken.
pub(super) async fn pass(
    runs: &Runs<Fanout>,
    job: &FleetBackupJob,
    memory: &mut Memory<FleetBackupJobStatus>,
) -> Option<Duration> {
    let planes = runs.frame.context.fleet.snapshot();
    let selector = job.spec.run.selector.clone().unwrap_or_default();
    let labels = runs.engine.cluster_labels();
    let entries = match select_fitting(&selector, &planes, &labels, &memory.status.datacenters) {
        Ok(entries) => entries,
        Err(invalid) => {
            let now = runs.frame.context.fleet.now();
            memory.status = summarize(job, &memory.status, Vec::new(), Some(&invalid), now, now);
            return None;
        }
    };
    if is_lacking(&entries, &memory.status.datacenters)
        && let Some(wait) = memory.settles_in()
    {
        return Some(wait);
    }
    let begun = memory.status.run.start_time.as_ref().map(|t| t.0);
    let (entries, plan, writes) = start(runs, job, &planes, memory, entries, begun);
    wait_shortly(writes).await;
    // What was written shows in the views by now.
    let planes = runs.frame.context.fleet.snapshot();
    finish(runs, job, &planes, memory, &entries, &plan)
}

/// The first half, in one go: judge what is there, decide what starts, begin the writes.
fn start(
    runs: &Runs<Fanout>,
    job: &FleetBackupJob,
    planes: &[Snapshot],
    memory: &Memory<FleetBackupJobStatus>,
    entries: Vec<DatacenterRun>,
    begun: Option<Timestamp>,
) -> (Vec<DatacenterRun>, Plan, Vec<JoinHandle<()>>) {
    let (now, buckets) = (runs.frame.context.fleet.now(), runs.engine.buckets());
    let control_plane = &runs.frame.context.control_plane;
    let mut scene = Scene::new(job, planes, &buckets, control_plane, begun.unwrap_or(now), now);
    scene.holds = runs.engine.holds(planes, now);
    let terms = scene.terms();
    let outcomes = runs.desk.outcomes(&memory.uid);
    let mut entries = rollup::advance(&scene, &entries, &outcomes, &memory.noted);
    ending::end(&terms, &mut entries, progress(&memory.status, now), is_starting(runs, job));
    if job.spec.run.is_dry_run() {
        rehearse(&scene, &mut entries);
        return (entries, Plan::default(), Vec::new());
    }
    let is_busy = |plane: &str, key: &_| runs.desk.is_busy(plane, key);
    if job.spec.run.is_cancelled() {
        let actions = plan::withdraw(&scene, &entries, is_busy);
        let writes = begin(runs, job, actions.into_iter().map(|action| (action, None)).collect());
        return (entries, Plan::default(), writes);
    }
    let right = runs.desk.plan();
    let mut load = if is_limited(&terms.rollout, &scene.own_limits) {
        let others = others(runs, job);
        let others: Vec<&FleetBackupJob> = others.iter().filter_map(|other| other.0.as_ref().ok()).collect();
        load(&scene, &entries, &others, &runs.desk.under_way())
    } else {
        Load::default()
    };
    let mut plan = plan::plan(&scene, &mut entries, &mut load, is_busy);
    let actions = std::mem::take(&mut plan.actions);
    let planned = actions.len();
    let claimed = claim(runs, actions);
    plan.is_full |= claimed.len() < planned;
    tell_abandoned(runs, job, planes, &claimed);
    let writes = begin(runs, job, claimed);
    drop(right);
    (entries, plan, writes)
}

/// Claims the clusters of what is to be made, and leaves out what a purge was quicker with: it may have been made
/// since the plan looked.
fn claim(runs: &Runs<Fanout>, actions: Vec<Action>) -> Vec<(Action, Option<Claim>)> {
    let context = &runs.frame.context;
    let claimed: Vec<(Action, Option<Claim>)> = actions
        .into_iter()
        .filter_map(|action| {
            let claim = context.claims.claim(claims::Work::Backup, &action.cluster)?;
            Some((action, Some(claim)))
        })
        .collect();
    let holds = runs.engine.holds(&context.fleet.snapshot(), context.fleet.now());
    let is_free = |action: &Action| holds.of(&action.cluster, &action.data_plane).is_none();
    claimed.into_iter().filter(|(action, _)| is_free(action)).collect()
}

/// Says which purges a run does not wait for any more, when it begins in their clusters.
fn tell_abandoned(
    runs: &Runs<Fanout>,
    job: &FleetBackupJob,
    planes: &[Snapshot],
    begun: &[(Action, Option<Claim>)],
) {
    let abandoned = abandoned(planes, runs.frame.context.fleet.now());
    let clusters: BTreeSet<&String> = begun.iter().map(|(action, _)| &action.cluster).collect();
    for why in clusters.into_iter().filter_map(|cluster| abandoned.get(cluster)) {
        runs.frame.context.events.warning(job.object_ref(&()), Reason::PurgeAbandoned, "Backup", why);
    }
}

/// Begins the writes. A claim is let go when its write is done.
fn begin(
    runs: &Runs<Fanout>,
    job: &FleetBackupJob,
    actions: Vec<(Action, Option<Claim>)>,
) -> Vec<JoinHandle<()>> {
    let fleet = &runs.frame.context.fleet;
    let writes = actions.into_iter().map(|(action, claim)| {
        let what = UnderWay {
            data_plane: action.data_plane.clone(),
            key: action.key.clone(),
            place: action.place.clone(),
            run_uid: job.uid().unwrap_or_default(),
            makes: matches!(action.work, Work::Make(_)),
        };
        let write = carry_out(fleet.clone(), action);
        let write = async move {
            let outcome = write.await;
            drop(claim);
            outcome
        };
        (what, write)
    });
    runs.begin(job, writes)
}

/// Whether the next child of an entry is being made.
fn is_starting(runs: &Runs<Fanout>, job: &FleetBackupJob) -> impl Fn(&DatacenterRun) -> bool {
    |entry| {
        let next = child_key(job, entry, entry.attempts() + 1);
        runs.desk.is_under_way(&entry.data_plane, &next)
    }
}

/// The other runs that go on, as their statuses tell.
fn others(runs: &Runs<Fanout>, job: &FleetBackupJob) -> Vec<Arc<DeserializeGuard<FleetBackupJob>>> {
    runs.frame.objects.state_filter(|other| {
        let goes_on = |other: &FleetBackupJob| !other.spec.run.is_dry_run() && !other.is_over();
        other.uid() != job.uid() && other.0.as_ref().is_ok_and(goes_on)
    })
}

fn progress(status: &FleetBackupJobStatus, now: Timestamp) -> Timestamp {
    status.run.last_progress_time.as_ref().or(status.run.start_time.as_ref()).map_or(now, |t| t.0)
}

/// The second half: take in what became of the writes, and sum up.
fn finish(
    runs: &Runs<Fanout>,
    job: &FleetBackupJob,
    planes: &[Snapshot],
    memory: &mut Memory<FleetBackupJobStatus>,
    entries: &[DatacenterRun],
    plan: &Plan,
) -> Option<Duration> {
    let (now, buckets) = (runs.frame.context.fleet.now(), runs.engine.buckets());
    let begun = memory.status.run.start_time.as_ref().map_or(now, |t| t.0);
    let scene = Scene::new(job, planes, &buckets, &runs.frame.context.control_plane, begun, now);
    let terms = scene.terms();
    note(&scene, entries, &mut memory.noted);
    let outcomes = runs.desk.outcomes(&memory.uid);
    let mut entries = if job.spec.run.is_dry_run() {
        entries.to_vec()
    } else {
        waiting_stays(entries, rollup::advance(&scene, entries, &outcomes, &memory.noted))
    };
    let went_on = ending::went_on(&memory.status.datacenters, &entries);
    let progress = if went_on { now } else { progress(&memory.status, now) };
    ending::end(&terms, &mut entries, progress, is_starting(runs, job));
    let deadline = ending::next_deadline(&terms, &entries, progress);
    let look = plan::next_look(&terms, &entries, plan, !memory.noted.is_empty(), deadline);
    let wake = look.into_iter().chain(runs.desk.again_in(&memory.uid)).chain([REPAIR]).min();
    let waited = memory.status.datacenters.is_empty() || memory.status.datacenters.iter().any(is_waiting);
    if waited && !entries.is_empty() && !entries.iter().any(is_waiting) && !job.spec.run.is_dry_run() {
        let took = Duration::try_from(now.duration_since(begun)).unwrap_or_default();
        runs.frame.context.meters.fanned_out(took);
    }
    memory.status = summarize(job, &memory.status, entries, None, progress, now);
    let is_final = memory.status.run.phase.is_some_and(Phase::is_final);
    wake.filter(|_| !is_final)
}

/// Whether an entry's first child is still to be made.
fn is_waiting(entry: &DatacenterRun) -> bool {
    entry.phase == Phase::Pending && entry.attempts() == 0
}

fn is_for(entry: &DatacenterRun, reason: Reason) -> bool {
    !entry.phase.is_final() && entry.reason.as_deref() == Some(reason.as_str())
}

/// Why something waits was found out by the plan, which the views know nothing of.
fn waiting_stays(before: &[DatacenterRun], after: Vec<DatacenterRun>) -> Vec<DatacenterRun> {
    let keep = |(old, new): (&DatacenterRun, DatacenterRun)| {
        let reasons = [Reason::AwaitingTurn, Reason::RestoreInProgress, Reason::PurgeRunning];
        let waits = reasons.into_iter().any(|reason| is_for(old, reason));
        if waits && is_for(&new, Reason::Pending) { old.clone() } else { new }
    };
    before.iter().zip(after).map(keep).collect()
}

/// Notes since when children are finished, or missing.
fn note(scene: &Scene<'_>, entries: &[DatacenterRun], noted: &mut Noted) {
    for entry in entries.iter().filter(|e| e.attempts() > 0) {
        let Some(plane) = scene.planes.get(entry.data_plane.as_str()) else { continue };
        if plane.usable != Usable::Ready {
            continue;
        }
        let key = child_key(scene.job, entry, entry.attempts());
        let (goes_on, uid) = match plane.view.seen(&plane.view.jobs, &key) {
            Seen::Known(child) => (!child.is_finished(), child.uid().unwrap_or_default()),
            Seen::Absent => (false, MISSING.to_owned()),
            Seen::Unknown { .. } => (true, MISSING.to_owned()),
        };
        // What is awaited of it is awaited from when it can be seen.
        let is_blind = matches!(plane.view.seen(&plane.view.backups, &key), Seen::Unknown { .. });
        let key = (plane.name.clone(), key);
        if goes_on || is_blind || entry.phase != Phase::Running {
            noted.forget(&key);
        } else {
            noted.entry(key, &uid, || scene.now);
        }
    }
}
