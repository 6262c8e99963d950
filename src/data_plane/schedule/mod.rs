//! MedusaBackupSchedule: a MedusaBackupJob, or a MedusaTask that purges, at each slot of a cron expression.
//!
//! ```text
//! recipe ──> cron: is a slot due? ──> index: may it run? ──> create the slot's job ──> status
//!  (pure)     (pure)                   (memory)               (write, may be repeated)   (write)
//! ```
//!
//! The job comes first and has the slot in its name; the status, which holds to the version it was decided
//! on, says afterwards that the slot ran. So a crash between the two repeats a creation that finds its own
//! work, and neither a second data plane nor a clock that steps back runs a slot twice.
//!
//! Nothing here may list anything for one schedule: two hundred are due in the same minute.

#[cfg(test)]
#[path = "arbitrary_tests.rs"]
pub(super) mod arbitrary;
mod recipe;
mod run_index;
mod runs;
mod status;
mod watches;
mod write;

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;
use kube::{Resource as _, runtime::controller::Action};
use tokio_util::sync::CancellationToken;

use self::{
    recipe::Recipe,
    run_index::{Claim, RunIndex, Scope},
    runs::ScheduleRun,
    status::{Report, SlotOutcome},
    write::Created,
};
use crate::{
    api::{
        Reason,
        cassandra::CassandraDatacenter,
        cron::{self, Due, Past},
        medusa::{MedusaBackupSchedule, MedusaBackupScheduleStatus},
    },
    data_plane::frame::{
        context::{Context, Reconciler, Tools},
        controllers, objects,
        problem::{Obstacle, Problem},
        timings::{after, since},
    },
    runtime::written::Written,
};

/// Pause while the cluster is being listed; the end of the listing wakes everyone anyway.
const LISTING: Duration = Duration::from_secs(1);

/// Pause after something changed while it was looked at.
const AGAIN: Duration = Duration::from_millis(50);

/// What is remembered of one schedule between two passes.
#[derive(Default)]
pub struct Schedule {
    /// The status as it was last written: a cluster may have dropped a part of it.
    told: Option<MedusaBackupScheduleStatus>,
    /// The problem that was last told in an Event.
    warned: Option<(Reason, String)>,
    /// What we last wrote of the object.
    written: Written<MedusaBackupSchedule>,
}

impl Reconciler for Schedule {
    type Object = MedusaBackupSchedule;
    type Shared = Arc<RunIndex>;

    const PART: &'static str = "MedusaBackupSchedule";
    const CONDITION: &'static str = "Ready";

    /// Fewer than usual: at full hours all are due, and each pass at work is a connection of its own to the API
    /// server, whose making costs more than a request.
    const WORKERS: u16 = 32;

    fn new(_: Timestamp) -> Self {
        Self::default()
    }

    fn is_over(schedule: &MedusaBackupSchedule) -> bool {
        schedule.metadata.deletion_timestamp.is_some()
    }

    /// The index wakes schedules, after it has taken in what changed.
    fn datacenter(_: &MedusaBackupSchedule) -> Option<&str> {
        None
    }

    async fn pass(
        &mut self,
        ctx: &Context<Self>,
        schedule: &MedusaBackupSchedule,
    ) -> Result<Action, kube::Error> {
        let (tools, run_index) = (&ctx.tools, &ctx.shared);
        if !run_index.is_listed(objects::namespace(schedule)) {
            return Ok(Action::requeue(LISTING));
        }
        let now = tools.clock.now();
        let mut schedule = self.written.newest(schedule);
        let mut view = look(run_index, &schedule, now);
        if let Ok(View { datacenter: Ok(datacenter), .. }) = &view
            && schedule.metadata.owner_references.as_ref().is_none_or(Vec::is_empty)
        {
            let before = schedule.metadata.resource_version.clone();
            schedule = objects::own(&tools.client, &schedule, datacenter).await?;
            self.written.note(before, &schedule);
            view = look(run_index, &schedule, now);
        }
        let wake = match view {
            Ok(view) => self.follow(ctx, &schedule, view, now).await?,
            Err(problem) => {
                let last = last(&schedule);
                let report = Report { next: None, last, ready: Err(problem), outcome: SlotOutcome::Nothing };
                self.tell(tools, &schedule, &report, now).await?;
                None
            }
        };
        let pause = wake.map_or(tools.timings.schedule_check, |wake| since(now, wake));
        Ok(Action::requeue(pause.min(tools.timings.schedule_check)))
    }

    /// The next pass looks at everything anew.
    fn meet(&mut self, _: Option<MedusaBackupSchedule>, _: Timestamp) {
        self.written.forget();
    }
}

/// What a schedule asks for now.
struct View {
    recipe: Recipe,
    datacenter: Result<CassandraDatacenter, Problem>,
    past: Past,
    due: Due,
}

/// What `schedule` asks for at `now`, or why it asks for nothing.
fn look(run_index: &RunIndex, schedule: &MedusaBackupSchedule, now: Timestamp) -> Result<View, Problem> {
    let recipe = recipe::read(&schedule.spec)?;
    if schedule.spec.disabled == Some(true) {
        return Err(Problem::new(
            Reason::Paused,
            "spec.disabled is true: nothing runs, and what is left out is not caught up with".to_owned(),
        ));
    }
    let (namespace, name) = (objects::namespace(schedule), objects::name(schedule));
    let created = schedule.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let runs = run_index.runs_of(namespace, name);
    let work = schedule.spec.operation_type.into();
    let past = Past {
        created,
        is_unchanged: schedule.metadata.generation.is_none_or(|generation| generation <= 1),
        next: schedule.status.as_ref().and_then(|s| s.next_schedule.as_ref()).map(|time| time.0),
        last: last(schedule).max(runs::latest_slot(
            &runs,
            work,
            (name, schedule.metadata.uid.as_deref()),
            created,
        )),
    };
    let owners = schedule.metadata.owner_references.clone().unwrap_or_default();
    let wanted = &schedule.spec.backup_spec.cassandra_datacenter;
    let datacenter = run_index.datacenter(wanted, namespace, &owners);
    let due = cron::due(&recipe.cron, recipe.deadline, &past, now);
    Ok(View { recipe, datacenter, past, due })
}

fn last(schedule: &MedusaBackupSchedule) -> Option<Timestamp> {
    schedule.status.as_ref().and_then(|s| s.last_execution.as_ref()).map(|time| time.0)
}

impl Schedule {
    /// Does what is due. Returns when to look again, if that is known.
    async fn follow(
        &mut self,
        ctx: &Context<Self>,
        schedule: &MedusaBackupSchedule,
        view: View,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, kube::Error> {
        let View { recipe, datacenter, past, due } = view;
        let fine = datacenter.as_ref().map_err(Clone::clone).and_then(|datacenter| {
            let last = past.last.filter(|_| cron::is_ahead(past.last, now));
            last.map_or_else(
                || Ok(status::purpose(schedule, &recipe, datacenter)),
                |last| Err(status::ahead(schedule, last)),
            )
        });
        let (since, slot, missed, next, until) = match due {
            Due::Now { since, slot, missed, next, until } => (since, slot, missed, next, until),
            Due::Later { next, missed } => {
                let outcome = missed.map_or(SlotOutcome::Nothing, |missed| {
                    let deadline = schedule.spec.starting_deadline_seconds.unwrap_or_default();
                    SlotOutcome::Missed(format!(
                        "{missed}: more than spec.startingDeadlineSeconds ({deadline}) ago"
                    ))
                });
                let ready = if next.is_some() { fine } else { Err(status::never(&recipe)) };
                let report = Report { next, last: past.last, ready, outcome };
                self.tell(&ctx.tools, schedule, &report, now).await?;
                self.tidy(ctx, schedule, &recipe).await?;
                return Ok(next);
            }
        };
        let waits =
            |ready| Report { next: Some(since), last: past.last, ready, outcome: SlotOutcome::Nothing };
        let datacenter = match datacenter {
            Ok(datacenter) => datacenter,
            Err(problem) => {
                self.tell(&ctx.tools, schedule, &waits(Err(problem)), now).await?;
                return Ok(until);
            }
        };
        let run = write::planned(schedule, &datacenter, slot, now);
        let replaced = match ctx.shared.claim(&run, objects::name(schedule), recipe.policy) {
            Claim::Free(replaced) => replaced,
            Claim::Busy(other) if other.uid.is_empty() => return Ok(Some(after(now, AGAIN))),
            Claim::Busy(other) => {
                self.tell(&ctx.tools, schedule, &waits(Err(status::busy(&other, since))), now).await?;
                return Ok(until.map(just_after));
            }
        };
        // What the watch shows may be older than a run of this slot that is over and deleted.
        match objects::reread(&ctx.tools.client, schedule).await {
            Ok(Some(fresh)) if fresh.metadata.resource_version == schedule.metadata.resource_version => {}
            other => {
                ctx.shared.release(&run);
                return other.map(|_| Some(after(now, AGAIN)));
            }
        }
        let made = match self.run(ctx, schedule, &datacenter, &run, &replaced).await {
            Ok(made) => made,
            Err(obstacle) => {
                let problem = obstacle.problem()?;
                self.tell(&ctx.tools, schedule, &waits(Err(problem)), now).await?;
                return Ok(Some(after(now, ctx.tools.timings.input_retry_max)));
            }
        };
        let outcome = missed.map_or(SlotOutcome::OnTime, |missed| {
            SlotOutcome::Missed(format!("{missed}; only the latest, of {slot}, was caught up with"))
        });
        let report = Report { next, last: Some(slot), ready: fine, outcome };
        let told = self.tell(&ctx.tools, schedule, &report, now).await;
        // Last: many schedules are due in the same minute, and none of them is to wait for another's Event.
        if let Some(note) = made {
            ctx.tools.events.normal(schedule.object_ref(&()), Reason::JobCreated, "CreateRun", note);
        }
        told.map(|()| next)
    }

    /// Deletes the runs that `run` replaces, and creates it. Returns a note for an Event, unless it was there already.
    async fn run(
        &self,
        ctx: &Context<Self>,
        schedule: &MedusaBackupSchedule,
        datacenter: &CassandraDatacenter,
        run: &ScheduleRun,
        replaced: &[ScheduleRun],
    ) -> Result<Option<String>, Obstacle> {
        let Tools { client, events, .. } = &ctx.tools;
        let work = async {
            for old in replaced {
                write::delete(client, old).await?;
                let note = format!(
                    "deleted unfinished {} `{}` (concurrencyPolicy Replace); Medusa cannot be stopped, so what it has \
                     begun goes on in the pods, and its data stays until a purge",
                    old.work.kind(),
                    old.name
                );
                events.normal(schedule.object_ref(&()), Reason::RunReplaced, "DeleteRun", note);
                ctx.shared.settle(ScheduleRun { is_deleted: true, ..old.clone() });
            }
            write::create(client, schedule, datacenter, run).await
        };
        match work.await {
            Ok(Created::New(made)) => {
                let note = format!("created {} `{}`", made.work.kind(), made.name);
                ctx.shared.settle(made);
                Ok(Some(note))
            }
            Ok(Created::Adopted(there)) => {
                ctx.shared.settle(there);
                Ok(None)
            }
            Err(obstacle) => {
                ctx.shared.release(run);
                Err(obstacle)
            }
        }
    }

    /// Writes the status, if it says something new, and tells problems in Events.
    async fn tell(
        &mut self,
        tools: &Tools,
        schedule: &MedusaBackupSchedule,
        report: &Report,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        let there = schedule.status.clone().unwrap_or_default();
        let mut base = there.clone();
        // A definition of upstream's drops conditions: then ours are what was told.
        if let Some(told) = self.told.as_ref().filter(|_| base.conditions.is_empty()) {
            base.conditions.clone_from(&told.conditions);
        }
        let new = status::status(&base, report, schedule.metadata.generation, now);
        let times = |s: &MedusaBackupScheduleStatus| (s.next_schedule.clone(), s.last_execution.clone());
        let is_told = self.told.as_ref() == Some(&new) && times(&there) == times(&new);
        if there != new && !is_told {
            let version = schedule.metadata.resource_version.clone().unwrap_or_default();
            let written =
                objects::patch_status(&tools.client, schedule, &status::patch(&version, &new)).await?;
            self.written.note(Some(version), &written);
        }
        self.told = Some(new);
        if let SlotOutcome::Missed(message) = &report.outcome {
            tools.events.warning(schedule.object_ref(&()), Reason::SlotsMissed, "Schedule", message);
        }
        let problem = report.ready.as_ref().err().map(|p| (p.reason, p.message.clone()));
        if let Some((reason, message)) = problem.as_ref().filter(|_| self.warned != problem) {
            if *reason == Reason::Paused {
                tools.events.normal(schedule.object_ref(&()), *reason, "Schedule", message);
            } else {
                tools.events.warning(schedule.object_ref(&()), *reason, "Schedule", message);
            }
        }
        self.warned = problem;
        Ok(())
    }

    /// Deletes ended runs beyond the history limits. MedusaBackups stay.
    async fn tidy(
        &self,
        ctx: &Context<Self>,
        schedule: &MedusaBackupSchedule,
        recipe: &Recipe,
    ) -> Result<(), kube::Error> {
        if recipe.keep_good.is_none() && recipe.keep_bad.is_none() {
            return Ok(());
        }
        let name = objects::name(schedule);
        let runs = ctx.shared.runs_of(objects::namespace(schedule), name);
        let work = schedule.spec.operation_type.into();
        for old in runs::surplus(&runs, work, name, recipe.keep_good, recipe.keep_bad) {
            write::delete(&ctx.tools.client, &old).await?;
            ctx.shared.settle(ScheduleRun { is_deleted: true, ..old });
        }
        Ok(())
    }
}

fn just_after(at: Timestamp) -> Timestamp {
    after(at, Duration::from_millis(1))
}

/// Runs the schedules of `scopes` until `shutdown`, once the cluster serves their definition. That of
/// MedusaTasks may be missing: then there are none.
pub async fn run(tools: &Tools, scopes: &[Scope], shutdown: &CancellationToken) {
    let definition = MedusaBackupSchedule::plural(&());
    if !controllers::served(&tools.client, &[&definition], tools.timings.definition, shutdown).await {
        return;
    }
    let run_index = Arc::new(RunIndex::default());
    let ctx = Arc::new(Context::<Schedule>::new(tools.clone(), Arc::clone(&run_index)));
    join_all(scopes.iter().map(|scope| {
        let (tools, run_index, wanted) = (tools.clone(), Arc::clone(&run_index), scope.clone());
        let triggers = move |store| watches::changes(&tools, &run_index, &wanted, store);
        controllers::run(Arc::clone(&ctx), scope.as_deref(), triggers, shutdown.clone())
    }))
    .await;
}
