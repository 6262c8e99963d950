//! One look at a Delegated schedule: `delegate` decides, this writes into the data planes, all of them at once.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use jiff::{SignedDuration, Timestamp};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
};

use super::{
    ScheduleContext,
    by_data_plane::{advance, counted, fit, is_over, of_now, remembered},
    controller::ScheduleMemory,
    coordinated::wind_down,
    delegate::{Delegation, Refusal, ScheduleWrite, can_write, is_in_data_planes, key, plan},
    missed::tally,
    recipe::Recipe,
    results::{active, first_of, goes_on, going, operation, results},
    scope::Scope,
    stale::{Stale, place_of},
    summarize::{self, ScheduleReport},
    taken_back::{InDataPlane, Writes},
};
use crate::{
    api::{
        Reason, Why,
        fleet::{DatacenterRun, FleetBackupSchedule, ScheduledDatacenters, ScheduledRun},
        labels,
        medusa::{MedusaBackupJob, MedusaBackupSchedule, MedusaTask, ScheduledOperation},
    },
    control_plane::{
        data_planes::{
            fleet::Snapshot,
            records::RunRecord,
            remote::{CallError, Remote},
            view::ObjectKey,
            watched::{Schedules, Watched as _},
        },
        runs::{
            child::ExactObject,
            takeover::{OF_SCHEDULES, TakeOver, take_over},
            write::delete,
        },
    },
};

/// How long a data plane that does not answer may delay the deletion of a schedule.
const GRACE: SignedDuration = SignedDuration::from_secs(60);
/// Pause between two looks while MedusaBackupSchedules are being taken back; their end is also announced.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Pause before a write that a data plane refused is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// Looks at `schedule`; returns when to look again, if nothing happens before.
pub(super) async fn look(
    ctx: &ScheduleContext,
    memory: &mut ScheduleMemory,
    schedule: &FleetBackupSchedule,
    recipe: &Recipe,
    scope: &Scope,
    planes: &[Snapshot],
    now: Timestamp,
) -> Result<Option<Duration>, kube::Error> {
    // Before anything is written elsewhere: whoever deletes the schedule then passes through here.
    if !is_in_data_planes(schedule) {
        let there = planes.iter().flat_map(|plane| plane.view.schedules.last_known().values());
        let children = there.map(|there| &there.metadata);
        match take_over(&ctx.shared, schedule, planes, OF_SCHEDULES, children, |_| false).await? {
            TakeOver::Nothing => {}
            TakeOver::Wait(wait) => return Ok(Some(wait)),
            TakeOver::Written => return Ok(None),
        }
        memory.wrote(schedule, ctx.set_finalizer(schedule, true).await?.as_ref());
        return Ok(Some(Duration::ZERO));
    }
    let going = wind_down(ctx, schedule).await?;
    let planned = plan(schedule, Some((recipe, scope)), planes, &ctx.shared.control_plane, now);
    let wanted = scope.datacenters.iter().map(|entry| (entry.data_plane.clone(), key(schedule, entry)));
    let actions = memory.writes.admit(planned.actions, &wanted.collect(), planes, now);
    let carried = carry_out(ctx, actions, planes).await;
    memory.writes.note(&carried.done);
    let (conflicts, decided) = memory.writes.conflicts(now);
    // What was written is in the views by now.
    let planes = ctx.shared.fleet.snapshot();
    let mut delegation = plan(schedule, Some((recipe, scope)), &planes, &ctx.shared.control_plane, now);
    delegation.refused.splice(0..0, conflicts);
    delegation.refused.extend(carried.failed.iter().cloned());
    let ended = ended(ctx, &schedule.status.clone().unwrap_or_default().active, &planes).await;
    let mut told = report(schedule, recipe, &delegation, scope, &planes, &ended, now);
    told.active.extend(going);
    let wait = memory.tell(ctx, schedule, &told, now).await?;
    let retry = (!carried.failed.is_empty()).then_some(RETRY);
    let decided = decided.map(|at| at.duration_since(now).unsigned_abs());
    Ok(wait.into_iter().chain(retry).chain(decided).min())
}

/// Takes back what a schedule has in data planes that is Coordinated by now. Says whether all of it is gone.
pub(super) async fn withdraw(
    ctx: &ScheduleContext,
    memory: &mut ScheduleMemory,
    schedule: &FleetBackupSchedule,
    planes: &[Snapshot],
) -> Result<bool, kube::Error> {
    let delegation = take_all(ctx, schedule, planes, ctx.clock.now()).await;
    let is_gone = delegation.is_gone();
    if is_gone {
        // We took them back ourselves.
        memory.writes = Writes::default();
        memory.wrote(schedule, ctx.set_finalizer(schedule, false).await?.as_ref());
    }
    Ok(is_gone)
}

/// One look at a schedule that is being deleted.
pub(super) async fn take_back(
    ctx: &ScheduleContext,
    schedule: &FleetBackupSchedule,
    planes: &[Snapshot],
    is_enrolled: bool,
    now: Timestamp,
) -> Result<Option<Duration>, kube::Error> {
    if !is_in_data_planes(schedule) {
        return Ok(None);
    }
    if !is_enrolled {
        return Ok(Some(LOOK_AGAIN));
    }
    let delegation = take_all(ctx, schedule, planes, now).await;
    let asked = schedule.metadata.deletion_timestamp.as_ref().map_or(now, |time| time.0);
    let is_gone = delegation.is_gone();
    if !is_gone && now.duration_since(asked) < GRACE {
        return Ok(Some(LOOK_AGAIN));
    }
    if !is_gone {
        let kinds = delegation.left.iter().map(|place| format!("MedusaBackupSchedule {place}"));
        let unknown =
            delegation.unknown.iter().map(|plane| format!("whatever it has in data plane `{plane}`"));
        let left: Vec<String> = kinds.chain(unknown).collect();
        let note = format!(
            "not every data plane can be asked; left behind there: {}. What is left is taken back when they answer",
            first_of(&left)
        );
        ctx.shared.events.warning(schedule.object_ref(&()), Reason::LeftBehind, "Withdraw", note);
    }
    let written = ctx.set_finalizer(schedule, false).await?;
    Ok(written.is_none().then_some(LOOK_AGAIN))
}

async fn take_all(
    ctx: &ScheduleContext,
    schedule: &FleetBackupSchedule,
    planes: &[Snapshot],
    now: Timestamp,
) -> Delegation {
    let planned = plan(schedule, None, planes, &ctx.shared.control_plane, now);
    carry_out(ctx, planned.actions, planes).await;
    plan(schedule, None, &ctx.shared.fleet.snapshot(), &ctx.shared.control_plane, now)
}

/// What came of writes in data planes.
#[derive(Default)]
pub(super) struct Carried {
    /// What was written or deleted.
    done: BTreeSet<InDataPlane>,
    /// What could not be.
    failed: Vec<Refusal>,
}

/// Carries out `actions`. What was written is put into the views at once.
pub(super) async fn carry_out(
    ctx: &ScheduleContext,
    actions: Vec<ScheduleWrite>,
    planes: &[Snapshot],
) -> Carried {
    let mut writes: FuturesUnordered<_> = actions
        .into_iter()
        .filter_map(|action| {
            let (ScheduleWrite::Apply { data_plane, .. }
            | ScheduleWrite::Delete(ExactObject { data_plane, .. })) = &action;
            let remote = planes.iter().find(|p| p.name == *data_plane)?.remote.clone()?;
            Some(async move { write(ctx, action, &remote).await })
        })
        .collect();
    let mut carried = Carried::default();
    while let Some(outcome) = writes.next().await {
        match outcome {
            Ok(done) => carried.done.extend(done),
            Err(refusal) => carried.failed.push(refusal),
        }
    }
    carried
}

/// Returns what was written or deleted; nothing when the object has changed in the meantime, which a watch will show.
async fn write(
    ctx: &ScheduleContext,
    action: ScheduleWrite,
    remote: &Remote,
) -> Result<Option<InDataPlane>, Refusal> {
    let (data_plane, key, written) = match action {
        ScheduleWrite::Apply { data_plane, key, object } => {
            let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE).force();
            let applied = remote
                .call(|client| async {
                    let api: Api<MedusaBackupSchedule> = Api::namespaced(client, &key.namespace);
                    api.patch(&key.name, &params, &Patch::Apply(&object)).await
                })
                .await;
            (data_plane, key, applied.map(Some))
        }
        ScheduleWrite::Delete(object) => {
            let deleted = delete::<MedusaBackupSchedule>(remote, &object).await;
            (object.data_plane, object.key, deleted.map(|()| None))
        }
    };
    match written {
        Ok(written) => {
            remember(ctx, &data_plane, &key, written.as_ref());
            Ok(Some((data_plane, key)))
        }
        Err(error) if error.code() == Some(409) => Ok(None),
        Err(error) => Err(refused(&data_plane, &key, &error)),
    }
}

/// Puts our own write into the view, unless the watch already delivered something newer.
fn remember(ctx: &ScheduleContext, plane: &str, key: &ObjectKey, written: Option<&MedusaBackupSchedule>) {
    let version = |object: &MedusaBackupSchedule| {
        object.resource_version().and_then(|version| version.parse::<u64>().ok()).unwrap_or_default()
    };
    let Some(member) = ctx.shared.fleet.member(plane) else { return };
    let now = ctx.shared.fleet.now();
    member.view.update(|view| {
        let items = &mut view.schedules;
        match written {
            Some(written) if items.last(key).is_none_or(|known| version(known) <= version(written)) => {
                if let Some(kept) = Schedules::keep(written) {
                    items.show(key.clone(), version(written), Arc::new(kept), now);
                }
            }
            Some(_) => {}
            None => {
                items.remove(key);
            }
        }
    });
}

fn refused(plane: &str, key: &ObjectKey, error: &CallError) -> Refusal {
    let problem = match error.status() {
        Some(status) => {
            Why::new(Reason::WriteRefused, format!("the API server answered: {}", status.message))
        }
        None => Why::new(Reason::DataPlaneUnreachable, error.to_string()),
    };
    Refusal { place: format!("{plane}/{key}"), problem }
}

/// The uids of those of the runs a status `named` that have certainly ended in their data planes. These are asked only
/// about runs that no watch shows: the MedusaBackupSchedule that made them may be gone.
pub(super) async fn ended(
    ctx: &ScheduleContext,
    named: &[ScheduledRun],
    planes: &[Snapshot],
) -> BTreeSet<String> {
    if !ctx.shared.fleet.is_enrolled() {
        return BTreeSet::new();
    }
    let looks = named.iter().filter(|run| run.data_plane.is_some()).map(|run| async move {
        let seen = goes_on(run, planes);
        let goes_on = if seen.is_some() { seen } else { ask(run, planes).await };
        (goes_on == Some(false)).then(|| run.uid.clone())
    });
    let looks: FuturesUnordered<_> = looks.collect();
    looks.filter_map(std::future::ready).collect().await
}

/// Asks its data plane whether a run goes on; `None` when that does not say, and while a watch is about to.
async fn ask(run: &ScheduledRun, planes: &[Snapshot]) -> Option<bool> {
    let is_its = |plane: &&Snapshot| run.data_plane.as_ref() == Some(&plane.name);
    let plane = planes.iter().find(is_its).filter(|plane| can_write(plane))?;
    let remote = plane.remote.as_ref().filter(|_| !plane.view.delegates(operation(run)))?;
    let (namespace, name) = (run.namespace.as_deref().unwrap_or_default(), &run.name);
    let found = match operation(run) {
        ScheduledOperation::Backup => {
            let get =
                async |client| Api::<MedusaBackupJob>::namespaced(client, namespace).get_opt(name).await;
            remote.call(get).await.map(|found| found.as_ref().map(RunRecord::from))
        }
        ScheduledOperation::Purge => {
            let get = async |client| Api::<MedusaTask>::namespaced(client, namespace).get_opt(name).await;
            remote.call(get).await.map(|found| found.as_ref().map(RunRecord::from))
        }
    };
    Some(found.ok()?.is_some_and(|there| there.uid == run.uid && there.is_active()))
}

/// What a Delegated schedule's status says.
fn report(
    schedule: &FleetBackupSchedule,
    recipe: &Recipe,
    delegation: &Delegation,
    scope: &Scope,
    planes: &[Snapshot],
    ended: &BTreeSet<String>,
    now: Timestamp,
) -> ScheduleReport {
    let old = schedule.status.clone().unwrap_or_default();
    let before = of_now(remembered(&old), planes);
    let found = results(&delegation.there, planes, now);
    // What a datacenter has that cannot be read goes on there.
    let meant: Vec<DatacenterRun> = scope.datacenters.iter().chain(&scope.unreadable).cloned().collect();
    let stale = Stale::of(&meant, &delegation.there, planes);
    let tally = tally(counted(&before), &delegation.there, &stale, planes, now);
    let there = delegation.there.iter().map(|(entry, _)| place_of(entry)).collect();
    let data_planes = of_now(advance(&before, &there, &found, &tally, &stale), planes);
    // What is said of every datacenter needs to be known of every one.
    let is_whole = delegation.there.len() == delegation.total && scope.unlisted.is_empty();
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let ready = ready(schedule, recipe, delegation, scope, &found.unready);
    let operation = schedule.spec.operation.as_str();
    let succeeded = summarize::succeeded_there(&data_planes, found.is_good && is_whole, operation);
    ScheduleReport {
        next: found.next.filter(|_| schedule.spec.suspend != Some(true)),
        last: found.last.max(old.last_schedule_time.as_ref().map(|time| time.0)),
        active: active(going(&delegation.ours, planes), &old.active, ended),
        succeeded,
        success: found.success.filter(|_| is_whole),
        datacenters: Some(ScheduledDatacenters {
            total: count(delegation.total),
            scheduled: count(delegation.there.len()),
        }),
        outcome: summarize::missed_there(
            &old,
            &data_planes,
            tally.missed(),
            is_over(&data_planes, &tally, &stale),
        ),
        data_planes: fit(data_planes),
        ..ScheduleReport::unchanged(&old, ready)
    }
}

fn ready(
    schedule: &FleetBackupSchedule,
    recipe: &Recipe,
    delegation: &Delegation,
    scope: &Scope,
    unready: &[String],
) -> Result<String, Why> {
    if let Some(first) = delegation.refused.first() {
        let all: Vec<String> =
            delegation.refused.iter().map(|r| format!("{}: {}", r.place, r.problem.message)).collect();
        return Err(Why::new(first.problem.reason, first_of(&all)));
    }
    if let Some(first) = scope.unmatched.first() {
        return Err(Why::new(Reason::InvalidSelector, first.clone()));
    }
    if delegation.total == 0 {
        return Err(Why::new(
            Reason::NoDatacenters,
            "spec.template.selector matches no datacenter with Medusa",
        ));
    }
    if schedule.spec.suspend == Some(true) {
        return Err(summarize::suspended());
    }
    if !unready.is_empty() {
        return Err(Why::new(Reason::DelegatedNotReady, first_of(unready)));
    }
    let spread = match (&delegation.unspread, schedule.spec.window_seconds) {
        (Some(why), _) => format!("; not spread over windowSeconds: {why}"),
        (None, Some(window)) if window >= 60 => format!(", spread over {window} s"),
        (None, _) => String::new(),
    };
    Ok(format!(
        "{} data planes' own schedules run at each slot of {}{spread}",
        delegation.there.len(),
        recipe.cron
    ))
}
