//! MedusaTask: one sync, purge or `prepare_restore` of one datacenter.
//!
//! ```text
//! inputs ─── admit, guard ──> own, claim ─┬─> sync: list, plan, write ─────────────────────────────────────────┬─> end
//!  (reads)     (pure)          (writes)   └─> every pod: PurgeBackups or PrepareRestore ─> a purge's follow-up ─┘
//! ```
//!
//! The claim is one write that holds to the version it was decided on and puts down the start time and
//! every pod at once. `finishTime` is the last write; a task that has it is never looked at again.

pub(super) mod admit;
mod apply;
#[cfg(test)]
mod arbitrary_tests;
mod follow_up;
mod guard;
mod listing;
mod pod;
mod status;
mod sync;
mod sync_plan;
mod turn;

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::{Client, Resource as _, runtime::controller::Action};
use tokio::time::Instant;

use self::{
    admit::{Elsewhere, Preparation},
    follow_up::FollowUp,
    guard::Guard,
    listing::Listing,
    pod::{Pod, Trouble, about_backup},
    sync::{Sync, Synced},
    turn::SECOND,
};
use crate::{
    api::{
        Reason,
        medusa::{MedusaTask, MedusaTaskStatus, TaskOperation, TaskPodResult},
    },
    data_plane::{
        frame::{
            context::{Context, Reconciler, Tools},
            hold::{Held, given_up, hold},
            objects, outcome,
            problem::{Problem, Waiting},
            progress::is_due,
            timings::{MAX_PURGES, after},
        },
        medusa::{
            calls::PodCalls,
            client::Medusa,
            inputs::{self, Inputs},
            pool::Pool,
        },
    },
};

/// Pause before an older sync is looked at again that stands where the follow-up should.
const FOLLOW_UP_AGAIN: Duration = Duration::from_secs(1);

/// What is remembered of one task between two passes.
pub enum Task {
    /// Not started, or to be taken over; and since when that is known.
    Waiting(Waiting, Instant),
    /// A purge that has not started: the storage is listed, to know what it would leave.
    Checking(Box<Checking>),
    /// Under way.
    Running(Box<Run>),
    /// The last write is done; the watch has yet to show it.
    Ended,
}

/// A purge that is being looked at.
pub struct Checking {
    waiting: Waiting,
    seen: Instant,
    guard: Guard,
    listing: Listing,
}

/// A task under way.
pub struct Run {
    /// The status as last written or read.
    status: MedusaTaskStatus,
    /// The version that status has.
    resource_version: String,
    /// When the status was last written.
    written: Timestamp,
    work: Work,
}

enum Work {
    Sync(Box<Sync>),
    Pods(Box<Pods>),
}

/// One question to every pod. It is that of the spec when the run began: what it became since is not followed.
struct Pods {
    calls: PodCalls<Pod<TaskPodResult>>,
    /// What to prepare; nothing where the pods purge.
    preparation: Option<Preparation>,
}

impl Reconciler for Task {
    type Object = MedusaTask;
    type Shared = Pool;

    const PART: &'static str = "MedusaTask";

    fn new(now: Timestamp) -> Self {
        Self::Waiting(Waiting::new(now), Instant::now())
    }

    fn is_over(task: &MedusaTask) -> bool {
        task.metadata.deletion_timestamp.is_some()
            || task.status.as_ref().is_some_and(|s| s.finish_time.is_some())
    }

    fn datacenter(task: &MedusaTask) -> Option<&str> {
        (!is_started(task)).then_some(task.spec.cassandra_datacenter.as_str())
    }

    async fn pass(&mut self, ctx: &Context<Self>, task: &MedusaTask) -> Result<Action, kube::Error> {
        match self {
            Self::Ended => Ok(Action::await_change()),
            Self::Waiting(_, seen) => {
                let seen = seen.elapsed();
                self.begin(ctx, task, seen, false).await
            }
            Self::Checking(_) => self.look(ctx, task).await,
            Self::Running(_) => self.carry_on(&ctx.tools, task).await,
        }
    }

    /// What the task says now counts, and the run goes on from there.
    fn meet(&mut self, fresh: Option<MedusaTask>, now: Timestamp) {
        let Some(fresh) = fresh.filter(|fresh| !Self::is_over(fresh)) else {
            *self = Self::Ended;
            return;
        };
        if let Self::Running(run) = self {
            run.resource_version = fresh.metadata.resource_version.unwrap_or_default();
            let theirs = fresh.status.unwrap_or_default();
            run.status.finished = theirs.finished;
            run.status.failed = theirs.failed;
            if let Work::Pods(pods) = &mut run.work {
                status::adopt(&run.status, &mut pods.calls.states, now);
            }
        }
    }
}

fn is_started(task: &MedusaTask) -> bool {
    task.status.as_ref().is_some_and(|s| s.start_time.is_some())
}

impl Task {
    /// A task that was not started, or was started by a process that is no more.
    async fn begin(
        &mut self,
        ctx: &Context<Self>,
        task: &MedusaTask,
        seen: Duration,
        is_checked: bool,
    ) -> Result<Action, kube::Error> {
        let tools = &ctx.tools;
        let (namespace, dc) = (objects::namespace(task), &task.spec.cassandra_datacenter);
        let preparation = match admit::preparation(task) {
            Ok(preparation) => preparation,
            Err(problem) => return self.hold(tools, task, problem).await,
        };
        let is_taken_over = is_started(task);
        let operation = task.spec.operation;
        if operation == TaskOperation::Purge && !is_taken_over {
            let elsewhere = elsewhere(&tools.client, namespace).await?;
            if let Err(problem) = admit::purge_may_begin(task, &elsewhere) {
                return self.hold(tools, task, problem).await;
            }
            // Then it is looked once more: see [`SECOND`].
            if let Some(rest) = SECOND.checked_sub(seen).filter(|rest| !rest.is_zero()) {
                return Ok(Action::requeue(rest));
            }
        }
        let inputs = match Inputs::read(&tools.client, &ctx.shared, namespace, dc).await? {
            Ok(inputs) => inputs,
            Err(problem) => return self.hold(tools, task, problem).await,
        };
        // A sync that is taken over begins anew; what became of a purge's pods is the run's affair.
        if (operation == TaskOperation::Sync || !is_taken_over)
            && let Err(problem) = admit::check(operation, &inputs.datacenter, &inputs.pods)
        {
            return self.hold(tools, task, problem).await;
        }
        let now = tools.clock.now();
        if !is_taken_over
            && !is_checked
            && operation == TaskOperation::Purge
            && let Self::Waiting(waiting, seen) = self
            && let Some(guard) =
                Guard::of(task, inputs::limits(&tools.client, &inputs.datacenter, now).await?)
        {
            let mut listing = Listing::new(inputs, now, now);
            listing.ask_all(None, &tools.timings, now);
            let (waiting, seen) = (waiting.clone(), *seen);
            *self = Self::Checking(Box::new(Checking { waiting, seen, guard, listing }));
            return self.look(ctx, task).await;
        }
        let task = objects::own(&tools.client, task, &inputs.datacenter).await?;
        let task = if is_taken_over {
            tracing::info!(namespace, task = task.metadata.name, "takes over a task");
            task
        } else {
            claim(tools, task, &inputs, now).await?
        };
        // The process before us may have asked a pod just now.
        let next = if is_taken_over { after(now, tools.timings.hung_first) } else { now };
        *self = Self::Running(Box::new(Run::new(&task, inputs, preparation, next, now)));
        self.carry_on(tools, &task).await
    }

    /// Lists the storage, and lets a purge begin that leaves what it must.
    async fn look(&mut self, ctx: &Context<Self>, task: &MedusaTask) -> Result<Action, kube::Error> {
        let tools = &ctx.tools;
        let Self::Checking(checking) = self else { return Ok(Action::await_change()) };
        if let Some(pause) = checking.listing.ask(tools).await {
            return Ok(Action::requeue(pause));
        }
        let found = if let Some((_, listing)) = checking.listing.answer() {
            checking.guard.check(&listing, checking.listing.datacenter(), tools.clock.now())
        } else {
            let (pods, reason, why) = checking.listing.silence();
            let message = format!("nothing was purged, as nobody knows what a purge would leave: {why}");
            Err(Problem { pods, ..Problem::for_good(reason, message) })
        };
        let seen = checking.seen;
        *self = Self::Waiting(checking.waiting.clone(), seen);
        match found {
            // What is at work is looked for once more: the listing may have taken minutes.
            Ok(()) => Box::pin(self.begin(ctx, task, seen.elapsed(), true)).await,
            Err(problem) => self.hold(tools, task, problem).await,
        }
    }

    /// A task that cannot begin says why, and is looked at again until the budget is spent.
    async fn hold(
        &mut self,
        tools: &Tools,
        task: &MedusaTask,
        problem: Problem,
    ) -> Result<Action, kube::Error> {
        let Self::Waiting(waiting, _) = self else { return Ok(Action::await_change()) };
        let give_up = |status: &mut MedusaTaskStatus| {
            status.failed = given_up(&problem, &status.failed, &status.in_progress);
            status.in_progress.clear();
        };
        let status = task.status.clone().unwrap_or_default();
        match hold(tools, task, status, (waiting, &problem), "StartTask", give_up, status::patch).await? {
            Held::Later(pause) => Ok(Action::requeue(pause)),
            Held::Ended => {
                tools.metrics.task_ended(task, false);
                *self = Self::Ended;
                Ok(Action::await_change())
            }
        }
    }

    async fn carry_on(&mut self, tools: &Tools, task: &MedusaTask) -> Result<Action, kube::Error> {
        let Self::Running(run) = self else { return Ok(Action::await_change()) };
        let end = match &mut run.work {
            Work::Sync(sync) => match sync.pass(tools).await? {
                Synced::Later(pause) => return Ok(Action::requeue(pause)),
                Synced::Done(pod, told) => {
                    run.status.finished = vec![status::done(&pod)];
                    Ok(told)
                }
                Synced::Failed(pods, reason, told) => {
                    run.status.failed = pods;
                    Err((reason, told))
                }
            },
            Work::Pods(pods) => {
                if let Some(pause) = pods.ask(tools).await {
                    run.tell(tools, task).await?;
                    return Ok(Action::requeue(pause));
                }
                let followed = match pods.preparation {
                    Some(_) => Ok(String::new()),
                    // Also where every pod failed: a call that was not answered may have been carried out,
                    // and to look does no harm.
                    None => {
                        match follow_up::ensure(&tools.client, task, &pods.calls.medusas.datacenter).await? {
                            FollowUp::Later => return Ok(Action::requeue(FOLLOW_UP_AGAIN)),
                            FollowUp::There(name) => Ok(name),
                            FollowUp::Impossible(problem) => Err((problem.reason, problem.message)),
                        }
                    }
                };
                status::progress(&mut run.status, &pods.calls.states);
                match status::verdict(&pods.calls.states) {
                    Some(failure) => Err(failure),
                    None => followed.map(|name| pods.told(&name)),
                }
            }
        };
        run.end(tools, task, end).await?;
        *self = Self::Ended;
        Ok(Action::await_change())
    }
}

/// Starts the task: one write, that only the first of two controllers gets through.
async fn claim(
    tools: &Tools,
    task: MedusaTask,
    inputs: &Inputs,
    now: Timestamp,
) -> Result<MedusaTask, kube::Error> {
    let mut status = task.status.clone().unwrap_or_default();
    let dc = &task.spec.cassandra_datacenter;
    let (pods, what) = match task.spec.operation {
        TaskOperation::Sync => (Vec::new(), "lists the storage".to_owned()),
        operation @ (TaskOperation::Purge | TaskOperation::PrepareRestore) => {
            let pods: Vec<String> = inputs.pods.iter().map(|pod| pod.name.clone()).collect();
            let verb = if operation == TaskOperation::Purge { "purges" } else { "prepares" };
            let what = format!("{verb} {} pods", pods.len());
            (pods, what)
        }
    };
    status::claim(&mut status, pods, &what, task.metadata.generation, now);
    let version = task.metadata.resource_version.clone().unwrap_or_default();
    let mut claimed = objects::patch_status(&tools.client, &task, &status::patch(&version, &status)).await?;
    let note = format!("{what} of CassandraDatacenter `{dc}`");
    tools.events.normal(claimed.object_ref(&()), Reason::Running, "StartTask", note);
    // What was written, should the cluster's definition have dropped a part of it.
    claimed.status = Some(status);
    Ok(claimed)
}

impl Run {
    /// The run of `task`, whose status holds a start time; pods are asked at `next`.
    fn new(
        task: &MedusaTask,
        inputs: Inputs,
        preparation: Option<Preparation>,
        next: Timestamp,
        now: Timestamp,
    ) -> Self {
        let status = task.status.clone().unwrap_or_default();
        let started = status.start_time.as_ref().map_or(now, |time| time.0);
        let work = if task.spec.operation == TaskOperation::Sync {
            Work::Sync(Box::new(Sync::new(inputs, started, now)))
        } else {
            let mut calls = PodCalls::new(inputs, started, MAX_PURGES, now);
            calls.states = status::resumed(&status, calls.medusas.pods.keys(), next, now);
            Work::Pods(Box::new(Pods { calls, preparation }))
        };
        let resource_version = task.metadata.resource_version.clone().unwrap_or_default();
        Self { status, resource_version, written: now, work }
    }

    /// Writes how far the pods are, when that is worth a write.
    async fn tell(&mut self, tools: &Tools, task: &MedusaTask) -> Result<(), kube::Error> {
        let Work::Pods(pods) = &self.work else { return Ok(()) };
        let now = tools.clock.now();
        let mut status = self.status.clone();
        status::progress(&mut status, &pods.calls.states);
        if is_due(status::counts(&self.status), status::counts(&status), self.written, now) {
            let patch = status::patch(&self.resource_version, &status);
            let written = objects::patch_status(&tools.client, task, &patch).await?;
            self.resource_version = written.metadata.resource_version.unwrap_or_default();
            self.status = status;
            self.written = now;
        }
        Ok(())
    }

    /// `finishTime`, which says that all is said.
    async fn end(
        &mut self,
        tools: &Tools,
        task: &MedusaTask,
        end: Result<String, (Reason, String)>,
    ) -> Result<(), kube::Error> {
        let now = tools.clock.now();
        let mut status = self.status.clone();
        let generation = task.metadata.generation;
        match &end {
            Ok(told) => outcome::succeed(&mut status, told, generation, now),
            Err((reason, why)) => outcome::fail(&mut status, *reason, why, generation, now),
        }
        let patch = status::patch(&self.resource_version, &status);
        objects::patch_status(&tools.client, task, &patch).await?;
        tools.metrics.task_ended(task, end.is_ok());
        match end {
            Ok(told) => tools.events.normal(task.object_ref(&()), Reason::Succeeded, "FinishTask", told),
            Err((reason, why)) => tools.events.warning(task.object_ref(&()), reason, "FinishTask", why),
        }
        Ok(())
    }
}

impl Pods {
    /// Asks the pods. Returns how long to wait, or nothing once all are decided.
    async fn ask(&mut self, tools: &Tools) -> Option<Duration> {
        type Call = BoxFuture<'static, Result<TaskPodResult, Trouble>>;
        // Medusa knows a datacenter by Cassandra's own name.
        let name = self.calls.medusas.datacenter.display_name();
        let call = |pod: &str, medusa: Arc<Medusa>, (): ()| -> Call {
            let (pod, dc, preparation) = (pod.to_owned(), name.clone(), self.preparation.clone());
            Box::pin(async move {
                match preparation {
                    None => Ok(status::purged(&pod, &medusa.purge().await?)),
                    Some(wanted) => medusa
                        .prepare_restore(&wanted.backup, &dc, &wanted.key)
                        .await
                        .map(|()| status::done(&pod))
                        .map_err(about_backup),
                }
            })
        };
        self.calls.gather(tools, call, PodCalls::is_decided).await
    }

    /// What a task that went well did; a purge's follow-up is called `sync`.
    fn told(&self, sync: &str) -> String {
        let pods = self.calls.states.len();
        if let Some(preparation) = &self.preparation {
            return format!("{pods} pods are prepared to restore backup `{}`", preparation.backup);
        }
        let sum = |figure: fn(&TaskPodResult) -> Option<i64>| -> i64 {
            self.calls
                .states
                .values()
                .filter_map(|pod| pod.result().and_then(figure))
                .fold(0, i64::saturating_add)
        };
        format!(
            "{pods} pods purged their parts of backups, {} in all, and {} objects; MedusaTask `{sync}` removes \
             the MedusaBackups whose data is gone",
            sum(|result| result.nb_backups_purged),
            sum(|result| result.nb_objects_purged)
        )
    }
}

/// What else goes on in the namespace. A kind that the cluster does not have has no objects.
async fn elsewhere(client: &Client, namespace: &str) -> Result<Elsewhere, kube::Error> {
    let mut unreadable = Vec::new();
    Ok(Elsewhere {
        restores: objects::readable(client, namespace, &mut unreadable).await?,
        unreadable,
        backups: objects::all(client, namespace).await?,
        tasks: objects::all(client, namespace).await?,
    })
}
