//! MedusaBackupSchedule: a MedusaBackupJob, or a MedusaTask that purges, at each slot of a cron expression.
//!
//! ```text
//! recipe ──> plan: is a slot due? ──> board: may it run? ──> create the slot's job ──> status
//!  (pure)     (pure)                   (memory)               (write, may be repeated)   (write)
//! ```
//!
//! The job comes first and has the slot in its name; the status, which holds to the version it was decided
//! on, says afterwards that the slot ran. So a crash between the two repeats a creation that finds its own
//! work, and neither a second data plane nor a clock that steps back runs a slot twice.
//!
//! Nothing here may list anything for one schedule: two hundred are due in the same minute.

mod board;
mod plan;
mod recipe;
mod runs;
mod status;
mod write;

use std::{collections::BTreeSet, fmt::Debug, sync::Arc, time::Duration};

use futures::{
    StreamExt as _,
    future::join_all,
    stream::{self, BoxStream},
};
use jiff::Timestamp;
use kube::{
    Resource as _,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt as _,
        controller::Action,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use tokio_util::sync::CancellationToken;

use self::{
    board::{Board, Claim, Scope, Source, Wake},
    plan::{Due, Past},
    recipe::Recipe,
    runs::{Run, Work},
    status::{Outcome, Report},
    write::Created,
};
use super::{
    context::{Context, Guarded, Reconciler, Tools},
    controllers::{self, Triggers, scoped},
    objects,
    problem::Problem,
    timings::{after, since},
};
use crate::api::{
    Reason,
    cassandra::CassandraDatacenter,
    medusa::{MedusaBackupJob, MedusaBackupSchedule, MedusaBackupScheduleStatus, MedusaTask},
    names,
};

/// Pause while the cluster is being listed; the end of the listing wakes everyone anyway.
const LISTING: Duration = Duration::from_secs(1);

/// Pause after what was looked at has turned out to be changing.
const AGAIN: Duration = Duration::from_millis(50);

/// What is remembered of one schedule between two passes.
#[derive(Default)]
pub struct Schedule {
    /// The status as it was last written: a cluster may have dropped a part of it.
    told: Option<MedusaBackupScheduleStatus>,
    /// The problem that was last told in an Event.
    warned: Option<(Reason, String)>,
}

impl Reconciler for Schedule {
    type Object = MedusaBackupSchedule;
    type Shared = Arc<Board>;

    fn new(_: Timestamp) -> Self {
        Self::default()
    }

    fn is_over(schedule: &MedusaBackupSchedule) -> bool {
        schedule.metadata.deletion_timestamp.is_some()
    }

    /// The board wakes schedules, after it has taken in what changed.
    fn datacenter(_: &MedusaBackupSchedule) -> Option<&str> {
        None
    }

    async fn pass(
        &mut self,
        ctx: &Context<Self>,
        schedule: &MedusaBackupSchedule,
    ) -> Result<Action, kube::Error> {
        let (tools, board) = (&ctx.tools, &ctx.shared);
        if !board.is_listed(objects::namespace(schedule)) {
            return Ok(Action::requeue(LISTING));
        }
        let now = tools.clock.now();
        let mut schedule = schedule.clone();
        let mut look = Look::at(board, &schedule, now);
        if let Ok(View { datacenter: Ok(datacenter), .. }) = &look
            && schedule.metadata.owner_references.as_ref().is_none_or(Vec::is_empty)
        {
            schedule = objects::own(&tools.client, &schedule, datacenter).await?;
            look = Look::at(board, &schedule, now);
        }
        let wake = match look {
            Ok(view) => self.follow(ctx, &schedule, view, now).await?,
            Err(problem) => {
                let last = last(&schedule);
                let report = Report { next: None, last, ready: Err(problem), outcome: Outcome::Nothing };
                self.tell(tools, &schedule, &report, now).await?;
                None
            }
        };
        let pause = wake.map_or(tools.timings.schedule_check, |wake| since(now, wake));
        Ok(Action::requeue(pause.min(tools.timings.schedule_check)))
    }

    /// The next pass looks at everything anew.
    fn meet(&mut self, _: Option<MedusaBackupSchedule>, _: Timestamp) {}
}

/// What a schedule asks for now.
struct View {
    recipe: Recipe,
    datacenter: Result<CassandraDatacenter, Problem>,
    past: Past,
    due: Due,
}

/// Looking at a schedule.
struct Look;

impl Look {
    /// What `schedule` asks for at `now`, or why it asks for nothing.
    fn at(board: &Board, schedule: &MedusaBackupSchedule, now: Timestamp) -> Result<View, Problem> {
        let recipe = recipe::read(&schedule.spec)?;
        if schedule.spec.disabled == Some(true) {
            return Err(Problem::new(
                Reason::Paused,
                "spec.disabled is true: nothing runs, and what is left out is not caught up with".to_owned(),
            ));
        }
        let (namespace, name) = (objects::namespace(schedule), objects::name(schedule));
        let created = schedule.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
        let runs = board.runs_of(namespace, name);
        let work = schedule.spec.operation_type.into();
        let past = Past {
            created,
            is_unchanged: schedule.metadata.generation.is_none_or(|generation| generation <= 1),
            next: schedule.status.as_ref().and_then(|s| s.next_schedule.as_ref()).map(|time| time.0),
            last: last(schedule).max(runs::latest_slot(&runs, work, name, created)),
        };
        let owners = schedule.metadata.owner_references.clone().unwrap_or_default();
        let wanted = &schedule.spec.backup_spec.cassandra_datacenter;
        let datacenter = board.datacenter(wanted, namespace, &owners);
        let due = plan::due(&recipe, &past, now);
        Ok(View { recipe, datacenter, past, due })
    }
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
            let last = past.last.filter(|_| plan::is_ahead(past.last, now));
            last.map_or_else(|| Ok(purpose(schedule, &recipe, datacenter)), |last| Err(ahead(schedule, last)))
        });
        let (since, slot, missed, next, until) = match due {
            Due::Now { since, slot, missed, next, until } => (since, slot, missed, next, until),
            Due::Later { next, missed } => {
                let outcome = missed.map_or(Outcome::Nothing, |missed| {
                    let deadline = schedule.spec.starting_deadline_seconds.unwrap_or_default();
                    let said = status::missed(missed);
                    Outcome::Missed(format!(
                        "{said}: more than spec.startingDeadlineSeconds ({deadline}) ago"
                    ))
                });
                let ready = if next.is_some() { fine } else { Err(never(&recipe)) };
                let report = Report { next, last: past.last, ready, outcome };
                self.tell(&ctx.tools, schedule, &report, now).await?;
                self.tidy(ctx, schedule, &recipe).await?;
                return Ok(next);
            }
        };
        let waits = |ready| Report { next: Some(since), last: past.last, ready, outcome: Outcome::Nothing };
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
                self.tell(&ctx.tools, schedule, &waits(Err(busy(&other, since))), now).await?;
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
        if let Err(problem) = self.run(ctx, schedule, &datacenter, &run, &replaced).await? {
            self.tell(&ctx.tools, schedule, &waits(Err(problem)), now).await?;
            return Ok(Some(after(now, ctx.tools.timings.input_retry_max)));
        }
        let outcome = missed.map_or(Outcome::OnTime, |missed| {
            Outcome::Missed(format!(
                "{}; only the latest, of {slot}, was caught up with",
                status::missed(missed)
            ))
        });
        let report = Report { next, last: Some(slot), ready: fine, outcome };
        self.tell(&ctx.tools, schedule, &report, now).await?;
        Ok(next)
    }

    /// Makes room for `run`, which is on the board, and creates it. The inner error says what stands in the way.
    async fn run(
        &self,
        ctx: &Context<Self>,
        schedule: &MedusaBackupSchedule,
        datacenter: &CassandraDatacenter,
        run: &Run,
        replaced: &[Run],
    ) -> Result<Result<(), Problem>, kube::Error> {
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
                ctx.shared.settle(Run { is_deleted: true, ..old.clone() });
            }
            write::create(client, schedule, datacenter, run).await
        };
        match work.await {
            Ok(Created::New(made)) => {
                let note = format!("created {} `{}`", made.work.kind(), made.name);
                events.normal(schedule.object_ref(&()), Reason::JobCreated, "CreateRun", note);
                ctx.shared.settle(made);
                Ok(Ok(()))
            }
            Ok(Created::Adopted(there)) => {
                ctx.shared.settle(there);
                Ok(Ok(()))
            }
            Ok(Created::Refused(problem)) => {
                ctx.shared.release(run);
                Ok(Err(problem))
            }
            Err(error) => {
                ctx.shared.release(run);
                Err(error)
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
            objects::patch_status(&tools.client, schedule, &status::patch(&version, &new)).await?;
        }
        self.told = Some(new);
        if let Outcome::Missed(message) = &report.outcome {
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
            ctx.shared.settle(Run { is_deleted: true, ..old });
        }
        Ok(())
    }
}

fn just_after(at: Timestamp) -> Timestamp {
    after(at, Duration::from_millis(1))
}

fn purpose(schedule: &MedusaBackupSchedule, recipe: &Recipe, datacenter: &CassandraDatacenter) -> String {
    let work = Work::from(schedule.spec.operation_type);
    format!(
        "creates a {} for CassandraDatacenter `{}` at each slot of {}",
        work.kind(),
        objects::name(datacenter),
        recipe.cron
    )
}

fn busy(other: &Run, since: Timestamp) -> Problem {
    let created = other.created.map(|at| format!(", created {at},")).unwrap_or_default();
    let kind = other.work.kind();
    Problem::new(
        Reason::PreviousRunUnfinished,
        format!(
            "the slot of {since} waits: {kind} `{}`{created} has not finished on CassandraDatacenter `{}`, and \
             spec.concurrencyPolicy is Forbid. It runs when that ends; if it never does, see why and delete it: \
             kubectl describe {} {}",
            other.name,
            other.datacenter,
            kind.to_lowercase(),
            other.name
        ),
    )
}

fn ahead(schedule: &MedusaBackupSchedule, last: Timestamp) -> Problem {
    Problem::new(
        Reason::ClockSteppedBack,
        format!(
            "status.lastExecution ({last}) is in the future, so the clock was wrong then or is wrong now; no slot \
             up to that time runs. If it was wrong then: kubectl patch medusabackupschedule {} --subresource=status \
             --type=merge -p '{{\"status\":{{\"lastExecution\":null}}}}'",
            objects::name(schedule)
        ),
    )
}

fn never(recipe: &Recipe) -> Problem {
    Problem::new(
        Reason::NeverFires,
        format!("spec.cronSchedule: {} does not come in the next ten years", recipe.cron),
    )
}

/// Runs the schedules of `scopes` until `shutdown`, once the cluster serves their definition. That of
/// MedusaTasks may be missing: then there are none.
pub async fn run(tools: &Tools, scopes: &[Scope], shutdown: &CancellationToken) {
    let definition = ["medusabackupschedules"];
    if !controllers::served(&tools.client, &definition, tools.timings.definition, shutdown).await {
        return;
    }
    let board = Arc::new(Board::default());
    let ctx = Arc::new(Context::<Schedule>::new(tools.clone(), Arc::clone(&board)));
    join_all(scopes.iter().map(|scope| {
        let (tools, board, wanted) = (tools.clone(), Arc::clone(&board), scope.clone());
        let triggers = move |store| changes(&tools, &board, &wanted, store);
        controllers::run(Arc::clone(&ctx), scope.as_deref(), triggers, shutdown.clone())
    }))
    .await;
}

/// Keeps the board, and wakes those whom a change concerns.
fn changes(
    tools: &Tools,
    board: &Arc<Board>,
    scope: &Scope,
    schedules: Store<Guarded<Schedule>>,
) -> Triggers<Schedule> {
    let datacenters = watch::<CassandraDatacenter>(tools, scope, {
        let (board, scope) = (Arc::clone(board), scope.clone());
        move |event| board.note_datacenter(&scope, event, |guarded| guarded.0.as_ref().ok().cloned())
    });
    let jobs = watch::<MedusaBackupJob>(tools, scope, {
        let (board, scope) = (Arc::clone(board), scope.clone());
        move |event| board.note_run(&scope, Source::Jobs, event, |job| job.0.as_ref().ok().map(Run::of_job))
    });
    let tasks = watch::<MedusaTask>(tools, scope, {
        let (board, scope) = (Arc::clone(board), scope.clone());
        move |event| {
            board.note_run(&scope, Source::Tasks, event, |task| task.0.as_ref().ok().map(Run::of_task))
        }
    });
    stream::select_all([datacenters, jobs, tasks])
        .flat_map(move |wake| stream::iter(concerned(&wake, &schedules)))
        .boxed()
}

/// One watch, made into whom its events concern.
fn watch<K>(
    tools: &Tools,
    scope: &Scope,
    mut note: impl FnMut(Result<watcher::Event<DeserializeGuard<K>>, watcher::Error>) -> Wake + Send + 'static,
) -> BoxStream<'static, Wake>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + serde::de::DeserializeOwned
        + Send
        + 'static,
{
    let api = scoped::<DeserializeGuard<K>>(&tools.client, scope.as_deref());
    watcher(api, watcher::Config::default()).default_backoff().map(move |event| note(event)).boxed()
}

/// The schedules in the store that `wake` means.
fn concerned(wake: &Wake, schedules: &Store<Guarded<Schedule>>) -> Vec<ObjectRef<Guarded<Schedule>>> {
    let of = |namespace: &str, named: &BTreeSet<String>, label: Option<&String>| {
        let is_meant = |ns: &str, name: &str| {
            ns == namespace
                && (named.contains(name) || label.is_some_and(|label| *label == names::label_value(name)))
        };
        let all = schedules.state();
        let meant =
            all.iter().filter(|s| is_meant(objects::namespace(s.as_ref()), objects::name(s.as_ref())));
        meant.map(|s| ObjectRef::from_obj(s.as_ref())).collect()
    };
    match wake {
        Wake::Nobody => Vec::new(),
        Wake::Some(namespace, named, label) => of(namespace, named, label.as_ref()),
        Wake::All(scope) => {
            let all = schedules.state();
            let here = all
                .iter()
                .filter(|s| scope.as_ref().is_none_or(|scope| scope == objects::namespace(s.as_ref())));
            here.map(|s| ObjectRef::from_obj(s.as_ref())).collect()
        }
    }
}
