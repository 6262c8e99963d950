//! One look at a Coordinated schedule: `tick` decides, this carries it out.

use std::time::Duration;

use jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _};

use super::{
    ScheduleContext,
    apply::CreatedRun,
    by_data_plane::only_counted,
    controller::ScheduleMemory,
    delegate::is_in_data_planes,
    delegated::ended,
    recipe::Recipe,
    runs::{Run, RunKind, surplus},
    summarize::{self, ScheduleReport, SlotOutcome},
    tick::{Next, tick},
};
use crate::{
    api::{
        Reason, cron,
        fleet::{ConcurrencyPolicy, FleetBackupSchedule, ScheduledDatacenters, ScheduledRun},
        time::{after, since},
    },
    control_plane::data_planes::fleet::Snapshot,
};

/// Pause after what was looked at has turned out to be old.
const AGAIN: Duration = Duration::from_millis(100);
/// Pause before a run that was refused is tried again.
const REFUSED: Duration = Duration::from_secs(30);

/// Looks at `schedule` at `now`; returns when to look again, if nothing happens before.
pub(super) async fn look(
    ctx: &ScheduleContext,
    memory: &mut ScheduleMemory,
    schedule: &FleetBackupSchedule,
    recipe: &Recipe,
    datacenters: Option<ScheduledDatacenters>,
    planes: &[Snapshot],
    now: Timestamp,
) -> Result<Option<Duration>, kube::Error> {
    let uid = schedule.uid().unwrap_or_default();
    let old = schedule.status.clone().unwrap_or_default();
    let runs = ctx.children.of(&uid);
    let mut gone = ended(ctx, &old.active, planes).await;
    gone.extend(ctx.gone(&old.active, &runs).await?);
    let runs = ctx.children.of(&uid);
    let decided = tick(schedule, recipe, &runs, &gone, now);
    for run in &decided.discard {
        ctx.discard(run).await?;
    }
    for run in &decided.release {
        ctx.release(run).await?;
    }
    let (succeeded, success) = summarize::results(&old, &runs);
    let kind = RunKind::from(schedule.spec.operation).as_str();
    let fine = decided.last.filter(|_| cron::is_ahead(decided.last, now)).map_or_else(
        || Ok(summarize::purpose(schedule, kind, recipe)),
        |last| Err(summarize::ahead(&schedule.name_any(), last)),
    );
    let report = ScheduleReport {
        last: decided.last,
        active: decided.active.clone(),
        succeeded,
        success,
        datacenters,
        // Data planes that do not answer still have theirs, and are counted on from there.
        data_planes: if is_in_data_planes(schedule) { only_counted(&old) } else { Vec::new() },
        ..ScheduleReport::unchanged(&old, fine)
    };
    if let (Some(slot), Next::Later { next, .. }, false) =
        (decided.last, &decided.next, decided.adopt.is_empty())
    {
        let outcome = summarize::caught_up(decided.skipped, slot);
        let is_written =
            memory.commit(ctx, schedule, &ScheduleReport { next: *next, outcome, ..report }, now).await?;
        return Ok(Some(if is_written { Duration::ZERO } else { AGAIN }));
    }
    if schedule.spec.suspend == Some(true) {
        let report = ScheduleReport { next: None, ready: Err(summarize::suspended()), ..report };
        return memory.tell(ctx, schedule, &report, now).await;
    }
    match decided.next {
        Next::Later { next, missed } => {
            let ready = if next.is_some() { report.ready } else { Err(summarize::never(recipe)) };
            let outcome = missed.map_or(SlotOutcome::Nothing, |missed| summarize::too_late(missed, recipe));
            let wait =
                memory.tell(ctx, schedule, &ScheduleReport { next, ready, outcome, ..report }, now).await?;
            // How a run ended is written down before it goes.
            if wait.is_none() {
                for run in surplus(&runs, recipe.keep_good, recipe.keep_bad) {
                    ctx.retire(&run, now).await?;
                }
            }
            Ok(sooner(wait, next.map(|next| since(now, next))))
        }
        Next::Busy { since: waits, until } => {
            let ready = Err(summarize::busy(&report.active, waits));
            let wait = memory
                .tell(ctx, schedule, &ScheduleReport { next: Some(waits), ready, ..report }, now)
                .await?;
            let until = until.map(|until| since(now, after(until, Duration::from_millis(1))));
            Ok(sooner(wait, until))
        }
        Next::Start { slot, since: waits, missed, next, cancel } => {
            for run in &cancel {
                ctx.cancel(run).await?;
            }
            let (run, is_new) = match ctx.make(schedule, slot).await? {
                CreatedRun::New(run) => (run, true),
                CreatedRun::Adopted(run) => (run, false),
                CreatedRun::Begun => {
                    memory.written.forget();
                    return Ok(Some(AGAIN));
                }
                CreatedRun::Refused(problem) => {
                    let report = ScheduleReport { next: Some(waits), ready: Err(problem), ..report };
                    memory.tell(ctx, schedule, &report, now).await?;
                    return Ok(Some(REFUSED));
                }
            };
            ctx.children.put(run.clone());
            let mut active = report.active.clone();
            if run.is_active() && !active.iter().any(|active| active.uid == run.uid) {
                active.push(run.named());
            }
            let outcome = summarize::caught_up(missed, slot);
            let report = ScheduleReport { next, last: Some(slot), active, outcome, ..report };
            if !memory.commit(ctx, schedule, &report, now).await? {
                return Ok(Some(AGAIN));
            }
            ctx.release(&run).await?;
            say(ctx, schedule, &run, is_new, cancel.len());
            Ok(next.map(|next| since(now, next)))
        }
    }
}

/// The runs a schedule that is Delegated by now has left: those whose slot was not written down never start, and the
/// others go on to their end. Returns these.
pub(super) async fn wind_down(
    ctx: &ScheduleContext,
    schedule: &FleetBackupSchedule,
) -> Result<Vec<ScheduledRun>, kube::Error> {
    let old = schedule.status.clone().unwrap_or_default();
    let is_named = |uid: &str| old.active.iter().any(|active| active.uid == uid);
    if ![RunKind::Backup, RunKind::Task].into_iter().all(|kind| ctx.children.is_listed(kind)) {
        return Ok(old.active.into_iter().filter(|run| run.data_plane.is_none()).collect());
    }
    let runs = ctx.children.of(&schedule.uid().unwrap_or_default());
    for run in runs.iter().filter(|run| run.is_held()) {
        if is_named(&run.uid) {
            ctx.release(run).await?;
        } else {
            ctx.discard(run).await?;
        }
    }
    let goes_on = |run: &&Run| run.is_active() && (!run.is_held() || is_named(&run.uid));
    Ok(runs.iter().filter(goes_on).map(Run::named).collect())
}

/// Events come last: many schedules are due together, and none of them waits for one.
fn say(ctx: &ScheduleContext, schedule: &FleetBackupSchedule, run: &Run, is_new: bool, cancelled: usize) {
    let about = schedule.object_ref(&());
    if cancelled > 0 && schedule.spec.concurrency_policy == ConcurrencyPolicy::Replace {
        let note = format!(
            "cancelled {cancelled} unfinished before `{}` (concurrencyPolicy Replace); what Medusa has begun goes on in the \
             pods",
            run.name
        );
        ctx.shared.events.normal(about.clone(), Reason::RunReplaced, "CancelRun", note);
    }
    if is_new {
        let note = format!("created {} `{}`", run.kind.as_str(), run.name);
        ctx.shared.events.normal(about, Reason::JobCreated, "CreateRun", note);
    }
}

fn sooner(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}
