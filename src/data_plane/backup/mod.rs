//! MedusaBackupJob: one backup of one datacenter, from the job to the MedusaBackup.
//!
//! ```text
//! inputs ─── admit ──> own, claim ──> run: ask, start, ask … every node ──> closing ──> MedusaBackup ──> end
//!    (reads)  (pure)      (writes)      (gRPC; machine decides, pure)        (gRPC; summary judges)  (writes)
//! ```
//!
//! The claim is one write that holds to the version it was decided on and puts down the start time and
//! every pod at once, before any Medusa is told anything: whoever takes the job over, after a crash or
//! beside us, finds all pods in it. `finishTime` is the last write, after the MedusaBackup is whole.
//!
//! A backup waits for a purge of its datacenter that is at work or was made before it (`turn.rs`).
//!
//! Nothing here may hold a worker for longer than a pass, run outside the reconciler's sight, or take a
//! silence for an answer.

mod admit;
mod closing;
pub mod node;
mod run;
mod status;
mod summary;
mod write;

use std::time::Duration;

use jiff::Timestamp;
use kube::{Api, Resource as _, api::ObjectMeta, runtime::controller::Action};

use self::{closing::Closed, run::Run, summary::Expected};
use super::task::admit::backup_may_begin;
use crate::{
    api::{
        Reason,
        medusa::{MedusaBackup, MedusaBackupJob, MedusaBackupJobStatus, MedusaBackupStatus},
        size,
    },
    data_plane::{
        frame::{
            context::{Context, Reconciler, Tools},
            hold::{Held, given_up, hold},
            objects, outcome,
            problem::{Problem, Waiting},
            progress::is_due,
            timings::{after, since},
        },
        medusa::{
            inputs::{self, Inputs},
            pool::Pool,
        },
    },
};

/// What is remembered of one job between two passes.
pub enum Backup {
    /// Not started.
    Waiting(Waiting),
    /// Under way.
    Running(Box<Run>),
    /// The last write is done; the watch has yet to show it.
    Ended,
}

impl Reconciler for Backup {
    type Object = MedusaBackupJob;
    type Shared = Pool;

    const PART: &'static str = "MedusaBackupJob";

    fn new(now: Timestamp) -> Self {
        Self::Waiting(Waiting::new(now))
    }

    fn is_over(job: &MedusaBackupJob) -> bool {
        let is_kept = job.spec.ttl_seconds_after_finished.is_none();
        job.metadata.deletion_timestamp.is_some() || (finished(job).is_some() && is_kept)
    }

    fn datacenter(job: &MedusaBackupJob) -> Option<&str> {
        let waits = job.status.as_ref().is_none_or(|s| s.start_time.is_none() && s.finish_time.is_none());
        waits.then_some(job.spec.cassandra_datacenter.as_str())
    }

    async fn pass(&mut self, ctx: &Context<Self>, job: &MedusaBackupJob) -> Result<Action, kube::Error> {
        if let Some(end) = finished(job) {
            *self = Self::Ended;
            return expire(&ctx.tools, job, end).await;
        }
        match self {
            Self::Ended => Ok(Action::await_change()),
            Self::Waiting(_) => self.begin(ctx, job).await,
            Self::Running(_) => self.carry_on(&ctx.tools, job).await,
        }
    }

    /// What the job says now counts, and the run goes on from there.
    fn meet(&mut self, fresh: Option<MedusaBackupJob>, now: Timestamp) {
        let Some(fresh) = fresh.filter(|fresh| finished(fresh).is_none()) else {
            *self = Self::Ended;
            return;
        };
        if let Self::Running(run) = self {
            run.resource_version = fresh.metadata.resource_version.unwrap_or_default();
            let theirs = fresh.status.unwrap_or_default();
            run.status.finished = theirs.finished;
            run.status.failed = theirs.failed;
            run.adopt_decisions(now);
        }
    }
}

fn finished(job: &MedusaBackupJob) -> Option<Timestamp> {
    job.status.as_ref().and_then(|s| s.finish_time.as_ref()).map(|time| time.0)
}

/// Deletes a job whose time after its end is over. Its MedusaBackup and its data stay.
async fn expire(tools: &Tools, job: &MedusaBackupJob, end: Timestamp) -> Result<Action, kube::Error> {
    let Some(seconds) = job.spec.ttl_seconds_after_finished else { return Ok(Action::await_change()) };
    let until = after(end, Duration::from_secs(u64::try_from(seconds).unwrap_or_default()));
    let now = tools.clock.now();
    if now < until {
        return Ok(Action::requeue(since(now, until)));
    }
    let jobs = Api::<MedusaBackupJob>::namespaced(tools.client.clone(), objects::namespace(job));
    let ObjectMeta { uid, resource_version, .. } = job.metadata.clone();
    objects::delete(&jobs, objects::name(job), uid, resource_version).await?;
    Ok(Action::await_change())
}

impl Backup {
    /// A job that was not started, or was started by a process that is no more.
    async fn begin(&mut self, ctx: &Context<Self>, job: &MedusaBackupJob) -> Result<Action, kube::Error> {
        let tools = &ctx.tools;
        let (namespace, name) = (objects::namespace(job), &job.spec.cassandra_datacenter);
        let inputs = match Inputs::read(&tools.client, &ctx.shared, namespace, name).await? {
            Ok(inputs) => inputs,
            Err(problem) => return self.hold(tools, job, problem).await,
        };
        let now = tools.clock.now();
        if job.status.as_ref().is_some_and(|s| s.start_time.is_some()) {
            tracing::info!(namespace, job = job.metadata.name, "takes over a backup");
            let job = objects::own(&tools.client, job, &inputs.datacenter).await?;
            *self = Self::Running(Box::new(Run::new(&job, inputs, false, now)));
            return self.carry_on(tools, &job).await;
        }
        if let Err(problem) = inputs::check(&inputs.datacenter, &inputs.pods) {
            return self.hold(tools, job, problem).await;
        }
        let backups = Api::<MedusaBackup>::namespaced(tools.client.clone(), namespace);
        if let Some(existing) = backups.get_opt(objects::name(job)).await?
            && let Err(problem) = admit::name_is_free(&existing, name)
        {
            return self.hold(tools, job, problem).await;
        }
        let tasks = objects::all(&tools.client, namespace).await?;
        if let Err(problem) = backup_may_begin(job, &tasks) {
            return self.hold(tools, job, problem).await;
        }
        let job = objects::own(&tools.client, job, &inputs.datacenter).await?;
        let mut status = job.status.clone().unwrap_or_default();
        let pods: Vec<String> = inputs.pods.iter().map(|p| p.name.clone()).collect();
        let note = format!("backup of {} pods of CassandraDatacenter `{name}` started", pods.len());
        status::claim(&mut status, pods, job.metadata.generation, now);
        let version = job.metadata.resource_version.clone().unwrap_or_default();
        let mut claimed =
            objects::patch_status(&tools.client, &job, &status::patch(&version, &status)).await?;
        tools.events.normal(claimed.object_ref(&()), Reason::Running, "StartBackup", note);
        // What was written, should the cluster's definition have dropped a part of it.
        claimed.status = Some(status);
        *self = Self::Running(Box::new(Run::new(&claimed, inputs, true, now)));
        self.carry_on(tools, &claimed).await
    }

    /// A job that cannot begin says why, and is looked at again until the budget is spent.
    async fn hold(
        &mut self,
        tools: &Tools,
        job: &MedusaBackupJob,
        problem: Problem,
    ) -> Result<Action, kube::Error> {
        let Self::Waiting(waiting) = self else { return Ok(Action::await_change()) };
        let give_up = |status: &mut MedusaBackupJobStatus| {
            status.failed = given_up(&problem, &status.failed, &status.in_progress);
            status.in_progress.clear();
        };
        let status = job.status.clone().unwrap_or_default();
        match hold(tools, job, status, (waiting, &problem), "StartBackup", give_up, status::patch).await? {
            Held::Later(pause) => Ok(Action::requeue(pause)),
            Held::Ended => {
                tools.metrics.ended(job, None);
                *self = Self::Ended;
                Ok(Action::await_change())
            }
        }
    }

    /// A run under way: ask the nodes, and when all are decided, end it.
    async fn carry_on(&mut self, tools: &Tools, job: &MedusaBackupJob) -> Result<Action, kube::Error> {
        let Self::Running(run) = self else { return Ok(Action::await_change()) };
        if let Some(pause) = run.gather(tools).await {
            let now = tools.clock.now();
            let mut status = run.status.clone();
            status::progress(&mut status, &run.calls.states);
            if is_due(status::counts(&run.status), status::counts(&status), run.written, now) {
                let written =
                    objects::patch_status(&tools.client, job, &status::patch(&run.resource_version, &status))
                        .await?;
                run.resource_version = written.metadata.resource_version.unwrap_or_default();
                run.status = status;
                run.written = now;
            }
            return Ok(Action::requeue(pause));
        }
        let whole = if run.has_failures() {
            Err(status::verdict(&run.calls.states))
        } else {
            let medusas = run.medusas();
            let datacenter = run.calls.medusas.datacenter.clone();
            let expected = Expected {
                datacenter: &datacenter,
                pods: run.calls.states.len(),
                started: run.calls.started,
            };
            match run.closing.pass(tools, &run.name, &medusas, expected).await {
                Closed::Whole(backup) => Ok(backup),
                Closed::Short(reason, message) => Err((reason, message)),
                Closed::Later(pause) => return Ok(Action::requeue(pause)),
            }
        };
        end(tools, job, run, whole).await?;
        *self = Self::Ended;
        Ok(Action::await_change())
    }
}

/// The MedusaBackup, then `finishTime`, which says that all is said.
async fn end(
    tools: &Tools,
    job: &MedusaBackupJob,
    run: &mut Run,
    whole: Result<Box<MedusaBackupStatus>, (Reason, String)>,
) -> Result<(), kube::Error> {
    let whole = match whole {
        Ok(backup) => write::backup(&tools.client, job, &run.calls.medusas.datacenter, &backup)
            .await?
            .map(|()| backup)
            .map_err(|problem| (problem.reason, problem.message)),
        Err(failure) => Err(failure),
    };
    let now = tools.clock.now();
    let mut status = run.status.clone();
    status::progress(&mut status, &run.calls.states);
    let generation = job.metadata.generation;
    let message = match &whole {
        Ok(backup) => {
            let message = format!(
                "{} nodes, {} files, {}",
                backup.total_nodes.unwrap_or_default(),
                backup.total_files.unwrap_or_default(),
                backup.total_size.as_deref().unwrap_or_default()
            );
            outcome::succeed(&mut status, &message, generation, now);
            message
        }
        Err((reason, message)) => {
            outcome::fail(&mut status, *reason, message, generation, now);
            message.clone()
        }
    };
    objects::patch_status(&tools.client, job, &status::patch(&run.resource_version, &status)).await?;
    let seconds = since(run.calls.started, now).as_secs_f64();
    match whole {
        Ok(backup) => {
            let bytes = backup.total_size.as_deref().and_then(size::parse).unwrap_or_default();
            tools.metrics.ended(job, Some((seconds, bytes)));
            tools.events.normal(job.object_ref(&()), Reason::Succeeded, "FinishBackup", message);
        }
        Err((reason, message)) => {
            tools.metrics.ended(job, None);
            tools.events.warning(job.object_ref(&()), reason, "FinishBackup", message);
        }
    }
    Ok(())
}
