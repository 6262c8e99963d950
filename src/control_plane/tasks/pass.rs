//! One pass over one task: what is seen, what is begun, when to look again.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::{
    Scene,
    advance::{advance, missed_at, withdrawn_at},
    controller::Tasks,
    plan::{Action, Work, load, repairs, starts},
    starts::carry_out,
    summary::summarize,
};
use crate::{
    api::{
        Reason,
        fleet::{DatacenterRun, DatacenterTask, FleetTask, FleetTaskStatus},
        moment::since,
    },
    control_plane::{
        data_planes::{fleet::Snapshot, view::ObjectKey},
        runs::{
            Memory, Noted, Runs,
            buckets::Buckets,
            child::{Child as _, child_key, place},
            desk::UnderWay,
            ending::{end, finish, next_deadline, went_on},
            select::{ClusterLabels, is_lacking, select_fitting},
            verdict::GRACE,
        },
    },
};

/// Pause between two looks while other tasks hold the places.
const FULL: Duration = Duration::from_secs(5);

/// Goes over the task once. Returns when to look again without being woken.
pub(super) fn pass(
    runs: &Runs<Tasks>,
    task: &FleetTask,
    memory: &mut Memory<FleetTaskStatus>,
) -> Option<Duration> {
    let planes = runs.frame.context.fleet.snapshot();
    let now = runs.frame.context.fleet.now();
    let old = std::mem::take(&mut memory.status);
    let scene = Scene {
        task,
        planes: planes.iter().map(|p| (p.name.as_str(), p)).collect(),
        begun: old.run.start_time.as_ref().map_or(now, |t| t.0),
        now,
    };
    let clusters = runs.engine.kit.clusters.state();
    let labels = clusters.iter().map(|c| (c.name_any(), c.labels().clone())).collect();
    let mut entries = match chosen(task, &old, &planes, &labels) {
        Ok(entries) => entries,
        Err(invalid) => {
            memory.status = summarize(&scene, &old, Vec::new(), now, Some(&invalid));
            return None;
        }
    };
    if is_lacking(&entries, &old.datacenters)
        && let Some(wait) = memory.settles_in()
    {
        memory.status = old;
        return Some(wait);
    }
    note_finished(&scene, &entries, &mut memory.noted);
    let since = |plane: &str, key: &ObjectKey| memory.noted.last(&(plane.to_owned(), key.clone())).copied();
    let outcomes = runs.desk.outcomes(&memory.uid);
    let outcome = |plane: &str, key: &ObjectKey| outcomes.get(&(plane.to_owned(), key.clone()));
    let is_moving = |run: &DatacenterRun, attempt: usize| {
        runs.desk.is_under_way(&run.data_plane, &child_key(task, run, attempt))
    };
    for entry in entries.iter_mut().filter(|entry| !entry.run.phase.is_final()) {
        // What is being made or taken back shows in the view, or no longer, before its outcome is known.
        let attempts = entry.run.attempts();
        if is_moving(&entry.run, attempts + 1) || attempts > 0 && is_moving(&entry.run, attempts) {
            continue;
        }
        advance(&scene, entry, &outcome, &since);
        if entry.run.phase.is_final() {
            finish(&mut entry.run, now);
        }
    }
    let last = old.run.last_progress_time.as_ref().map_or(scene.begun, |t| t.0);
    let synced =
        |(before, after): (&DatacenterTask, &DatacenterTask)| before.sync.is_none() && after.sync.is_some();
    let goes_on = went_on(&old.datacenters, &entries) || old.datacenters.iter().zip(&entries).any(synced);
    let progress = if goes_on { now } else { last };
    let terms = scene.terms();
    end(&terms, &mut entries, progress, |run| is_moving(run, run.attempts() + 1));
    let is_busy = |plane: &str, key: &ObjectKey| runs.desk.is_busy(plane, key);
    let buckets = Buckets::of_clusters(clusters.iter().map(AsRef::as_ref));
    let mut actions = repairs(&scene, &entries, since, is_busy);
    let right = runs.desk.plan();
    let mut load = load(&scene, &entries, &buckets, &runs.desk.under_way());
    let plan = starts(&scene, &mut entries, &buckets, &mut load, is_busy);
    actions.extend(plan.actions);
    begin(runs, task, actions);
    drop(right);
    let deadline = next_deadline(&terms, &entries, progress);
    let look = next_look(&scene, &entries, plan.wake.into_iter().chain(deadline));
    let again = runs.desk.again_in(&memory.uid);
    memory.status = summarize(&scene, &old, entries, progress, None);
    look.into_iter().chain(again).min()
}

/// The entries of the task: what is selected, with what was known of it.
fn chosen(
    task: &FleetTask,
    old: &FleetTaskStatus,
    planes: &[Snapshot],
    labels: &ClusterLabels,
) -> Result<Vec<DatacenterTask>, (Reason, String)> {
    let selector = task.spec.run.selector.clone().unwrap_or_default();
    let known: Vec<DatacenterRun> = old.datacenters.iter().map(|e| e.run.clone()).collect();
    let chosen = select_fitting(&selector, planes, labels, &known)?;
    let at = |run: &DatacenterRun| (run.data_plane.clone(), place(run));
    let mut before: BTreeMap<_, &DatacenterTask> =
        old.datacenters.iter().map(|entry| (at(&entry.run), entry)).collect();
    let entries = chosen.into_iter().map(|run| {
        let known = before.remove(&at(&run)).cloned().unwrap_or_default();
        DatacenterTask { run, ..known }
    });
    Ok(entries.collect())
}

/// Begins the reads and writes.
fn begin(runs: &Runs<Tasks>, task: &FleetTask, actions: Vec<Action>) {
    let writes = actions.into_iter().map(|action| {
        let what = UnderWay {
            data_plane: action.run.data_plane.clone(),
            key: action.key.clone(),
            place: place(&action.run),
            run_uid: task.uid().unwrap_or_default(),
            makes: action.work == Work::Start,
        };
        let (kit, task) = (runs.engine.kit.clone(), task.clone());
        (what, async move { carry_out(&kit, &task, &action).await })
    });
    runs.begin(task, writes);
}

/// Notes since when children are finished. One that was made again under its name is another.
fn note_finished(scene: &Scene<'_>, entries: &[DatacenterTask], noted: &mut Noted) {
    for run in entries.iter().map(|e| &e.run).filter(|run| run.attempts() > 0) {
        let key = child_key(scene.task, run, run.attempts());
        let plane = scene.planes.get(run.data_plane.as_str());
        let child = plane.and_then(|plane| plane.view.tasks.last(&key));
        if let Some(child) = child.filter(|child| child.is_finished()) {
            let uid = child.uid().unwrap_or_default();
            noted.entry((run.data_plane.clone(), key), &uid, || scene.now);
        }
    }
}

/// When to look again without being woken, for what comes by time; `moments` are those of the run.
fn next_look(
    scene: &Scene<'_>,
    entries: &[DatacenterTask],
    moments: impl Iterator<Item = Timestamp>,
) -> Option<Duration> {
    let open = || entries.iter().map(|e| &e.run).filter(|run| !run.phase.is_final());
    let until = |at| since(scene.now, at);
    let own = open().flat_map(|run| [withdrawn_at(scene, run), missed_at(scene, run)]).flatten();
    let is_for = |reason: Reason| open().any(|run| run.reason.as_deref() == Some(reason.as_str()));
    // By our own clock: it was seen finished in this moment at the latest.
    let sync = is_for(Reason::AwaitingSync).then(|| Duration::try_from(GRACE).unwrap_or_default());
    let turn = is_for(Reason::AwaitingTurn).then_some(FULL);
    own.chain(moments).map(until).chain(sync).chain(turn).min()
}
