//! MedusaTask: one sync, purge or `prepare_restore` of one datacenter.
//!
//! ```text
//! inputs ─── admit, guard ──> own, claim ─┬─> sync: list, plan, write ─────────────────────────────────────────┬─> end
//!  (reads)     (pure)          (writes)   └─> every pod: PurgeBackups or PrepareRestore ─> a purge's follow-up ─┘
//! ```
//!
//! Claim and end are those of every kind (`frame/lifecycle.rs`).

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
use kube::Client;
use tokio::time::Instant;

use self::{
    admit::{Elsewhere, Preparation},
    guard::Guard,
    listing::Listing,
    pod::{Pod, Trouble, about_backup},
    sync::Sync,
    turn::SECOND,
};
use crate::{
    api::medusa::{MedusaTask, MedusaTaskStatus, TaskOperation, TaskPodResult},
    data_plane::{
        frame::{
            context::{Context, Tools},
            lifecycle::{Begun, Life, PodsRun, Progress, Stored, claim, is_started, stored},
            objects,
            problem::{Obstacle, Problem},
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

/// What is remembered of a task before it begins.
pub struct Before {
    /// Since when it is known.
    seen: Instant,
    /// Of a purge: the storage is listed, to know what it would leave.
    checking: Option<Checking>,
}

/// A purge that is being looked at.
struct Checking {
    guard: Guard,
    listing: Listing,
}

/// A task under way.
pub struct TaskRun {
    stored: Stored<MedusaTaskStatus>,
    work: TaskWork,
}

enum TaskWork {
    Sync(Box<Sync>),
    Pods(Box<Pods>),
}

/// One question to every pod. It is that of the spec when the run began: what it became since is not followed.
struct Pods {
    calls: PodCalls<Pod<TaskPodResult>>,
    /// What to prepare; nothing where the pods purge.
    preparation: Option<Preparation>,
}

impl PodsRun for TaskRun {
    type Object = MedusaTask;
    type Shared = Pool;
    type Before = Before;

    const PART: &'static str = "MedusaTask";
    const ACTIONS: (&'static str, &'static str) = ("StartTask", "FinishTask");

    fn before() -> Before {
        Before { seen: Instant::now(), checking: None }
    }

    fn datacenter(task: &MedusaTask) -> &str {
        &task.spec.cassandra_datacenter
    }

    async fn begin(
        ctx: &Context<Life<Self>>,
        task: &MedusaTask,
        before: &mut Before,
    ) -> Result<Begun<Self>, Obstacle> {
        let tools = &ctx.tools;
        let (namespace, dc) = (objects::namespace(task), &task.spec.cassandra_datacenter);
        // What is at work is looked for once more after the check: the listing may have taken minutes.
        let is_checked = before.checking.is_some();
        if let Some(checking) = &mut before.checking {
            if let Some(pause) = checking.listing.ask(tools).await {
                return Ok(Begun::Later(pause));
            }
            let found = checking.found(tools.clock.now());
            before.checking = None;
            found?;
        }
        let preparation = admit::preparation(task)?;
        let is_taken_over = is_started::<Self>(task);
        let operation = task.spec.operation;
        if operation == TaskOperation::Purge && !is_taken_over {
            let elsewhere = elsewhere(&tools.client, namespace).await?;
            admit::purge_may_begin(task, &elsewhere)?;
            // Then it is looked once more: see [`SECOND`].
            if let Some(rest) = SECOND.checked_sub(before.seen.elapsed()).filter(|rest| !rest.is_zero()) {
                return Ok(Begun::Later(rest));
            }
        }
        let inputs = Inputs::read(&tools.client, &ctx.shared, namespace, dc).await?;
        // A sync that is taken over begins anew; what became of a purge's pods is the run's affair.
        if operation == TaskOperation::Sync || !is_taken_over {
            admit::check(operation, &inputs.datacenter, &inputs.pods)?;
        }
        let now = tools.clock.now();
        if !is_taken_over
            && !is_checked
            && operation == TaskOperation::Purge
            && let Some(guard) =
                Guard::of(task, inputs::limits(&tools.client, &inputs.datacenter, now).await?)
        {
            let mut listing = Listing::new(inputs, now, now);
            listing.ask_all(None, &tools.timings, now);
            before.checking = Some(Checking { guard, listing });
            return Ok(Begun::Later(Duration::ZERO));
        }
        let task = objects::own(&tools.client, task, &inputs.datacenter).await?;
        let task = if is_taken_over {
            tracing::info!(namespace, task = task.metadata.name, "takes over a task");
            task
        } else {
            let (pods, what) = asked(operation, &inputs);
            let note = format!("{what} of CassandraDatacenter `{dc}`");
            claim::<Self>(tools, &task, pods, (&what, &note), now).await?
        };
        // The process before us may have asked a pod just now.
        let next = if is_taken_over { after(now, tools.timings.hung_first) } else { now };
        Ok(Begun::Running(Box::new(Self::new(&task, inputs, preparation, next, now))))
    }

    fn stored(&mut self) -> &mut Stored<MedusaTaskStatus> {
        &mut self.stored
    }

    fn list(&self, status: &mut MedusaTaskStatus) {
        if let TaskWork::Pods(pods) = &self.work {
            status::progress(status, &pods.calls.states);
        }
    }

    fn adopt(&mut self, now: Timestamp) {
        if let TaskWork::Pods(pods) = &mut self.work {
            status::adopt(&self.stored.status, &mut pods.calls.states, now);
        }
    }

    async fn go_on(&mut self, tools: &Tools, task: &MedusaTask) -> Result<Progress, kube::Error> {
        let pods = match &mut self.work {
            TaskWork::Pods(pods) => pods,
            TaskWork::Sync(sync) => return sync.pass(tools, &mut self.stored.status).await,
        };
        if let Some(pause) = pods.ask(tools).await {
            return Ok(Progress::Later(pause));
        }
        let followed = match pods.preparation {
            Some(_) => Ok(String::new()),
            // Also where every pod failed: a call that was not answered may have been carried out,
            // and to look does no harm.
            None => match follow_up::ensure(&tools.client, task, &pods.calls.medusas.datacenter).await {
                Ok(None) => return Ok(Progress::Closing(FOLLOW_UP_AGAIN)),
                Ok(Some(name)) => Ok(name),
                Err(obstacle) => {
                    let problem = obstacle.problem()?;
                    Err((problem.reason, problem.message))
                }
            },
        };
        Ok(Progress::Over(match status::verdict(&pods.calls.states) {
            Some(failure) => Err(failure),
            None => followed.map(|name| pods.told(&name)),
        }))
    }

    fn count(_: Option<&Self>, tools: &Tools, task: &MedusaTask, is_good: bool) {
        tools.metrics.task_ended(task, is_good);
    }
}

/// The pods that are asked from the beginning, and what is asked of them.
fn asked(operation: TaskOperation, inputs: &Inputs) -> (Vec<String>, String) {
    let verb = match operation {
        TaskOperation::Sync => return (Vec::new(), "lists the storage".to_owned()),
        TaskOperation::Purge => "purges",
        TaskOperation::PrepareRestore => "prepares",
    };
    let pods: Vec<String> = inputs.pods.iter().map(|pod| pod.name.clone()).collect();
    let what = format!("{verb} {} pods", pods.len());
    (pods, what)
}

impl Checking {
    /// Whether the purge leaves what it must, as the storage was listed.
    fn found(&self, now: Timestamp) -> Result<(), Problem> {
        if let Some((_, listing)) = self.listing.answer() {
            return self.guard.check(&listing, self.listing.datacenter(), now);
        }
        let (pods, reason, why) = self.listing.silence();
        let message = format!("nothing was purged, as nobody knows what a purge would leave: {why}");
        Err(Problem { pods, ..Problem::for_good(reason, message) })
    }
}

impl TaskRun {
    /// The run of `task`, whose status holds a start time; pods are asked at `next`.
    fn new(
        task: &MedusaTask,
        inputs: Inputs,
        preparation: Option<Preparation>,
        next: Timestamp,
        now: Timestamp,
    ) -> Self {
        let stored = stored::<Self>(task, now);
        let started = stored.status.start_time.as_ref().map_or(now, |time| time.0);
        let work = if task.spec.operation == TaskOperation::Sync {
            TaskWork::Sync(Box::new(Sync::new(inputs, started, now)))
        } else {
            let mut calls = PodCalls::new(inputs, started, MAX_PURGES, now);
            calls.states = status::resumed(&stored.status, calls.medusas.pods.keys(), next, now);
            TaskWork::Pods(Box::new(Pods { calls, preparation }))
        };
        Self { stored, work }
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
