//! IO: one pass over one run: what is seen, what is started, what is remembered.
//!
//! ```text
//! select ─> advance ─> end ─> repairs, load, plan ─> apply ─> advance ─> summarize ─> fit, publish
//! (pure)    (pure)   (pure)        (pure)           (in_flight)     (pure)     (pure)     (engine)
//! ```
//!
//! One data plane's failure is a value in the status; it never hides the others, and a write that hangs is not
//! waited for.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{ResourceExt as _, core::DeserializeGuard};
use tokio::{task::JoinHandle, time::Instant};

use super::{
    Engine, EntryOf, Memory, RunInputs, Runs, SETTLES, StatusOf,
    adapter::Adapter,
    advance::{advance, note, waiting_stays},
    apply,
    load::load,
    plan::{self, Plan},
};
use crate::{
    api::{
        Reason,
        fleet::{DatacenterRun, Phase},
        time::since,
    },
    control_plane::{
        data_planes::{fleet::Snapshot, view::ObjectKey},
        runs::{
            Fanned as _, Run as _,
            buckets::Buckets,
            child::{child_key, place},
            ending::{end, next_deadline, went_on},
            in_flight::wait_shortly,
            rollout::{Load, is_limited},
            select::{fixed, is_lacking, select_fitting},
        },
    },
};

/// Longest pause between two looks at a run that goes on, whatever woke nobody.
const REPAIR: Duration = Duration::from_secs(30);

/// Goes over the run once. Returns when to look again without being woken.
pub(super) async fn pass<E: Engine>(
    runs: &Runs<E>,
    run: &E::Run,
    memory: &mut Memory<StatusOf<E::Run>>,
) -> Option<Duration> {
    runs.engine.ready().await;
    let began = Instant::now();
    let fleet = &runs.frame.context.fleet;
    let (planes, buckets) = (fleet.snapshot(), runs.buckets());
    // By the run's own age: after a restart it is new to this process only.
    let now = fleet.now();
    let settles = since(begun::<E>(memory, now), now) < SETTLES;
    let known = fixed(E::Run::datacenters(&memory.status), &planes, settles);
    let entries = match chosen(runs, run, known, &planes) {
        Ok(entries) => entries,
        Err(invalid) => {
            let now = fleet.now();
            let inputs = RunInputs::new(run, &[], &buckets, begun::<E>(memory, now), now);
            memory.status = E::Run::summarize(&inputs, &memory.status, Vec::new(), Some(&invalid), now);
            return None;
        }
    };
    if is_lacking(&entries, known)
        && let Some(wait) = memory.settles_in()
    {
        return Some(wait);
    }
    let (entries, plan, writes) = start(runs, run, &planes, &buckets, memory, &entries);
    let first = began.elapsed();
    wait_shortly(writes).await;
    let began = Instant::now();
    // What was written shows in the views by now.
    let wake = finish(runs, run, &fleet.snapshot(), &buckets, memory, (&entries, &plan));
    memory.rest(first + began.elapsed());
    wake
}

/// The datacenters of the run: what is selected, with what was known of it.
fn chosen<E: Engine>(
    runs: &Runs<E>,
    run: &E::Run,
    known: &[EntryOf<E>],
    planes: &[Snapshot],
) -> Result<Vec<EntryOf<E>>, (Reason, String)> {
    let clusters = runs.frame.context.published.clusters.state();
    let labels = clusters.iter().map(|c| (c.name_any(), c.labels().clone())).collect();
    let selector = run.run().selector.clone().unwrap_or_default();
    let before: Vec<DatacenterRun> = known.iter().map(|entry| entry.as_ref().clone()).collect();
    let chosen = select_fitting(&selector, planes, &labels, &before)?;
    let at = |run: &DatacenterRun| (run.data_plane.clone(), place(run));
    let mut before: BTreeMap<_, &EntryOf<E>> =
        known.iter().map(|entry| (at(entry.as_ref()), entry)).collect();
    let entries = chosen.into_iter().map(|run| {
        let known = before.remove(&at(&run));
        E::Run::entry(run, known)
    });
    Ok(entries.collect())
}

/// When the run began: now, when this is the first look.
fn begun<E: Engine>(memory: &Memory<StatusOf<E::Run>>, now: Timestamp) -> Timestamp {
    E::Run::progress(&memory.status).start_time.as_ref().map_or(now, |t| t.0)
}

/// When something last went on: now, where `entries` say more than the status.
fn progress<E: Engine>(
    memory: &Memory<StatusOf<E::Run>>,
    entries: &[EntryOf<E>],
    now: Timestamp,
) -> Timestamp {
    let before = E::Run::datacenters(&memory.status);
    let own = || before.iter().zip(entries).any(|(before, after)| E::Run::went_on(before, after));
    if went_on(before, entries) || own() {
        return now;
    }
    let last = E::Run::progress(&memory.status).last_progress_time.as_ref();
    last.map_or_else(|| begun::<E>(memory, now), |t| t.0)
}

/// The first half, in one go: judge what is there, decide what starts, begin the writes.
fn start<E: Engine>(
    runs: &Runs<E>,
    run: &E::Run,
    planes: &[Snapshot],
    buckets: &Buckets,
    memory: &Memory<StatusOf<E::Run>>,
    entries: &[EntryOf<E>],
) -> (Vec<EntryOf<E>>, Plan, Vec<JoinHandle<()>>) {
    let (context, in_flight) = (&runs.frame.context, &runs.in_flight);
    let now = context.fleet.now();
    let mut inputs = RunInputs::new(run, planes, buckets, begun::<E>(memory, now), now);
    inputs.holds = runs.engine.holds(context, planes, now);
    // A dry run makes nothing.
    inputs.named = (E::Run::NAMED_FIRST && !run.run().is_dry_run()).then(|| {
        let named = E::Run::datacenters(&memory.written).iter().map(AsRef::as_ref);
        named.map(|entry| (entry.data_plane.clone(), place(entry))).collect()
    });
    let outcomes = in_flight.outcomes(&memory.uid);
    let mut entries = advance(&inputs, entries, &outcomes, &memory.first_seen);
    let progress = progress::<E>(memory, &entries, now);
    end(&inputs.terms, &mut entries, progress, is_starting(runs, run));
    if run.run().is_dry_run() {
        E::Run::say_plan(&inputs, &mut entries);
    }
    let is_busy = |plane: &str, key: &ObjectKey| in_flight.is_busy(plane, key);
    let repairs = plan::repairs(&inputs, &entries, &outcomes, &memory.first_seen, is_busy);
    let planning = in_flight.lock_planning();
    let mut load = if is_limited(&inputs.terms.rollout, &inputs.own_limits) {
        let others = others(runs, run);
        let others: Vec<&E::Run> = others.iter().filter_map(|other| other.0.as_ref().ok()).collect();
        load(&inputs, &entries, &others, &in_flight.under_way())
    } else {
        Load::default()
    };
    let mut plan = plan::plan(&inputs, &mut entries, &mut load, is_busy);
    let starts = std::mem::take(&mut plan.actions);
    let planned = starts.len();
    let claimed = runs.engine.claim(context, run, planes, starts);
    // What was not claimed is looked at again soon.
    plan.is_full |= claimed.len() < planned;
    let repairs = repairs.into_iter().map(|action| (action, None));
    let writes = apply::begin(runs, run, repairs.chain(claimed).collect());
    drop(planning);
    (entries, plan, writes)
}

/// Whether the next child of an entry is being made.
fn is_starting<E: Engine>(runs: &Runs<E>, run: &E::Run) -> impl Fn(&DatacenterRun) -> bool {
    |entry| {
        let next = child_key(run, entry, entry.attempts() + 1);
        runs.in_flight.is_under_way(&entry.data_plane, &next)
    }
}

/// The other runs of the kind that go on, as their statuses tell.
fn others<E: Engine>(runs: &Runs<E>, run: &E::Run) -> Vec<Arc<DeserializeGuard<E::Run>>> {
    let goes_on = |other: &E::Run| !other.run().is_dry_run() && !other.is_over();
    runs.frame.objects.state_filter(|other| other.uid() != run.uid() && other.0.as_ref().is_ok_and(goes_on))
}

/// The second half: take in what became of the writes, and sum up.
fn finish<E: Engine>(
    runs: &Runs<E>,
    run: &E::Run,
    planes: &[Snapshot],
    buckets: &Buckets,
    memory: &mut Memory<StatusOf<E::Run>>,
    (entries, plan): (&[EntryOf<E>], &Plan),
) -> Option<Duration> {
    let (context, in_flight) = (&runs.frame.context, &runs.in_flight);
    let now = context.fleet.now();
    let begun = begun::<E>(memory, now);
    let inputs = RunInputs::new(run, planes, buckets, begun, now);
    note(&inputs, entries, &mut memory.first_seen, |plane, key| in_flight.is_under_way(plane, key));
    // What came due since the plan is tried in the next pass, and not forgotten with its outcome.
    let due = in_flight.again_in(&memory.uid);
    let outcomes = in_flight.outcomes(&memory.uid);
    let mut entries =
        waiting_stays::<E::Run>(entries, advance(&inputs, entries, &outcomes, &memory.first_seen));
    let before = E::Run::datacenters(&memory.status);
    let progress = progress::<E>(memory, &entries, now);
    end(&inputs.terms, &mut entries, progress, is_starting(runs, run));
    let deadline = next_deadline(&inputs.terms, &entries, progress);
    let look = plan::next_look(&inputs, &entries, plan, !memory.first_seen.is_empty(), deadline);
    let wake = look.into_iter().chain(due).chain(in_flight.again_in(&memory.uid)).chain([REPAIR]).min();
    let waited = before.is_empty() || before.iter().any(is_waiting);
    if waited && !entries.is_empty() && !entries.iter().any(is_waiting) && !run.run().is_dry_run() {
        let took = Duration::try_from(now.duration_since(begun)).unwrap_or_default();
        E::fanned_out(&context.meters, took);
    }
    memory.status = E::Run::summarize(&inputs, &memory.status, entries, None, progress);
    let is_final = E::Run::phase(&memory.status).is_some_and(Phase::is_final);
    wake.filter(|_| !is_final)
}

/// Whether an entry's first child is still to be made.
fn is_waiting<T: AsRef<DatacenterRun>>(entry: &T) -> bool {
    entry.as_ref().phase == Phase::Pending && entry.as_ref().attempts() == 0
}
