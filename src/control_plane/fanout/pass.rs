//! One pass over one run: what is seen, what is started, what is remembered.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use tokio::{task::JoinHandle, time::Instant};

use super::{
    Scene, child, compact,
    controller::Fanout,
    ending,
    load::load,
    plan::{self, Plan},
    rollout::{Load, is_limited},
    rollup::{self, Noted},
    select::{InvalidSelector, select},
    summary::summarize,
};
use crate::{
    api::{
        Reason,
        fleet::{DatacenterRun, FleetBackupJob, FleetBackupJobStatus, Phase},
    },
    control_plane::fleet::{Snapshot, Usable},
    runtime::clock,
};

/// Pause between two looks at what is seen by looking only: a finished child's MedusaBackup, a missing child.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Longest pause between two looks at a run that goes on, whatever woke nobody.
const REPAIR: Duration = Duration::from_secs(30);
/// Pause between two looks while other runs hold the places.
const FULL: Duration = Duration::from_secs(1);

/// What is remembered of a run between two passes.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// Uid of the run.
    pub(super) uid: String,
    /// The status as it is, written or not.
    pub(super) status: FleetBackupJobStatus,
    /// The status as it was last written.
    pub(super) written: FleetBackupJobStatus,
    /// When that was, and its size.
    pub(super) paced: Option<(Instant, usize)>,
    /// Children that were seen finished, or missing, and since when.
    pub(super) noted: Noted,
}

/// Goes over the run once. Returns what to remember and when to look again without being woken.
pub(super) async fn pass(
    fanout: &Fanout,
    job: &FleetBackupJob,
    mut memory: Memory,
) -> (Memory, Option<Duration>) {
    if memory.status.phase.is_some_and(Phase::is_final) {
        return (memory, None); // Decided; its writing is tried again.
    }
    let planes = fanout.context.fleet.snapshot();
    let entries = match chosen(fanout, job, &planes, &memory.status.datacenters) {
        Ok(entries) => entries,
        Err(invalid) => {
            memory.status = summarize(job, &memory.status, Vec::new(), Some(&invalid), false, clock::now());
            return (memory, None);
        }
    };
    let begun = memory.status.start_time.as_ref().map(|t| t.0);
    let (entries, plan, writes) = start(fanout, job, &planes, &memory, entries, begun);
    fanout.desk.wait_shortly(writes).await;
    // What was written shows in the views by now.
    let planes = fanout.context.fleet.snapshot();
    finish(fanout, job, &planes, memory, &entries, &plan)
}

fn chosen(
    fanout: &Fanout,
    job: &FleetBackupJob,
    planes: &[Snapshot],
    known: &[DatacenterRun],
) -> Result<Vec<DatacenterRun>, (Reason, String)> {
    let selector = job.spec.selector.clone().unwrap_or_default();
    let entries = select(&selector, planes, &fanout.cluster_labels(), known)
        .map_err(|InvalidSelector(why)| (Reason::InvalidSelector, why))?;
    if compact::fits(&entries, compact::BUDGET) {
        return Ok(entries);
    }
    let message = format!(
        "`spec.selector` matches {} datacenters, more than one job's status can tell about; make several jobs that \
         select by `dataPlanes`, `clusters` or labels",
        entries.len()
    );
    Err((Reason::TooManyDatacenters, message))
}

/// The first half, in one go: judge what is there, decide what starts, begin the writes.
fn start(
    fanout: &Fanout,
    job: &FleetBackupJob,
    planes: &[Snapshot],
    memory: &Memory,
    entries: Vec<DatacenterRun>,
    begun: Option<Timestamp>,
) -> (Vec<DatacenterRun>, Plan, Vec<JoinHandle<()>>) {
    let (now, buckets) = (clock::now(), fanout.buckets());
    let control_plane = &fanout.context.control_plane;
    let mut scene = Scene::new(job, planes, &buckets, control_plane, begun.unwrap_or(now), now);
    scene.restoring.extend(fanout.restoring());
    let outcomes = fanout.desk.outcomes(&memory.uid);
    let mut entries = rollup::advance(&scene, &entries, &outcomes, &memory.noted);
    ending::end(&scene, &mut entries, progress(&memory.status, now));
    if job.spec.is_dry_run() {
        ending::rehearse(&scene, &mut entries);
        return (entries, Plan::default(), Vec::new());
    }
    let is_busy = |plane: &str, key: &_| fanout.desk.is_busy(plane, key);
    if job.spec.is_cancelled() {
        let actions = plan::withdraw(&scene, &entries, is_busy);
        let writes = fanout.desk.begin(job, actions);
        return (entries, Plan::default(), writes);
    }
    let right = fanout.desk.plan();
    let mut load = if is_limited(&job.spec.rollout(), &scene.own_limits) {
        let others = others(fanout, job);
        let others: Vec<&FleetBackupJob> = others.iter().filter_map(|other| other.0.as_ref().ok()).collect();
        load(&scene, &entries, &others, &fanout.desk.under_way())
    } else {
        Load::default()
    };
    let mut plan = plan::plan(&scene, &mut entries, &mut load, is_busy);
    let writes = fanout.desk.begin(job, std::mem::take(&mut plan.actions));
    drop(right);
    (entries, plan, writes)
}

/// The other runs that go on, as their statuses tell.
fn others(
    fanout: &Fanout,
    job: &FleetBackupJob,
) -> Vec<std::sync::Arc<kube::core::DeserializeGuard<FleetBackupJob>>> {
    fanout.jobs.state_filter(|other| {
        let goes_on = |other: &FleetBackupJob| {
            let phase = other.status.as_ref().and_then(|s| s.phase);
            !other.spec.is_dry_run() && !phase.is_some_and(Phase::is_final)
        };
        other.uid() != job.uid() && other.0.as_ref().is_ok_and(goes_on)
    })
}

fn progress(status: &FleetBackupJobStatus, now: Timestamp) -> Timestamp {
    status.last_progress_time.as_ref().or(status.start_time.as_ref()).map_or(now, |t| t.0)
}

/// The second half: take in what became of the writes, and sum up.
fn finish(
    fanout: &Fanout,
    job: &FleetBackupJob,
    planes: &[Snapshot],
    mut memory: Memory,
    entries: &[DatacenterRun],
    plan: &Plan,
) -> (Memory, Option<Duration>) {
    let (now, buckets) = (clock::now(), fanout.buckets());
    let begun = memory.status.start_time.as_ref().map_or(now, |t| t.0);
    let scene = Scene::new(job, planes, &buckets, &fanout.context.control_plane, begun, now);
    note(&scene, entries, &mut memory.noted);
    let outcomes = fanout.desk.outcomes(&memory.uid);
    let mut entries = if job.spec.is_dry_run() {
        entries.to_vec()
    } else {
        waiting_stays(entries, rollup::advance(&scene, entries, &outcomes, &memory.noted))
    };
    if ending::went_on(&memory.status.datacenters, &entries) {
        memory.status.last_progress_time = Some(Time(now));
    }
    let progress = progress(&memory.status, now);
    ending::end(&scene, &mut entries, progress);
    let connecting = |e: &DatacenterRun| {
        let plane = scene.planes.get(e.data_plane.as_str());
        !e.phase.is_final() && plane.is_some_and(|p| p.usable == Usable::Connecting)
    };
    let rehearsed = job.spec.is_dry_run()
        && !job.spec.is_cancelled()
        && !entries.is_empty()
        && !entries.iter().any(connecting);
    let mut wakes: Vec<Duration> = fanout.desk.again_in(&memory.uid).into_iter().collect();
    let moments = plan.wake.into_iter().chain(ending::next_deadline(&scene, &entries, progress));
    wakes.extend(moments.map(|at| until(now, at)));
    if plan.is_full {
        wakes.push(FULL);
    }
    if !memory.noted.is_empty() || entries.iter().any(|e| is_for(e, Reason::RestoreInProgress)) {
        wakes.push(LOOK_AGAIN);
    }
    let retries = entries.iter().filter(|e| is_for(e, Reason::AwaitingRetry));
    let retries = retries.filter_map(|e| {
        let pause = super::rollout::retry_pause(e.attempts());
        e.finish_time.as_ref()?.0.checked_add(pause).ok()
    });
    wakes.extend(retries.min().map(|at| until(now, at)));
    memory.status = summarize(job, &memory.status, entries, None, rehearsed, now);
    let is_final = memory.status.phase.is_some_and(Phase::is_final);
    (memory, wakes.into_iter().chain([REPAIR]).min().filter(|_| !is_final))
}

fn is_for(entry: &DatacenterRun, reason: Reason) -> bool {
    !entry.phase.is_final() && entry.reason.as_deref() == Some(reason.as_str())
}

/// Time from `now` to `at`, a little more than none so that the moment has come when it is over.
fn until(now: Timestamp, at: Timestamp) -> Duration {
    let wait = at.duration_since(now).max(SignedDuration::ZERO);
    Duration::try_from(wait).unwrap_or_default() + Duration::from_millis(10)
}

/// Why something waits was found out by the plan, which the views know nothing of.
fn waiting_stays(before: &[DatacenterRun], after: Vec<DatacenterRun>) -> Vec<DatacenterRun> {
    let keep = |(old, new): (&DatacenterRun, DatacenterRun)| {
        let waits = is_for(old, Reason::AwaitingTurn) || is_for(old, Reason::RestoreInProgress);
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
        let key = child::child_key(scene.job, entry, entry.attempts());
        let goes_on = plane.view.jobs.items.get(&key).is_some_and(|child| !child::is_finished(child));
        let key = (plane.name.clone(), key);
        if goes_on || entry.phase != Phase::Running {
            noted.remove(&key);
        } else {
            noted.entry(key).or_insert(scene.now);
        }
    }
}
