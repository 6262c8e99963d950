//! MedusaBackupJob: one backup of one datacenter, from the job to the MedusaBackup.
//!
//! ```text
//! observe ── admit ──> own, claim ──> run: ask, start, ask … every node ──> closing ──> MedusaBackup ──> end
//!    (reads)  (pure)      (writes)      (gRPC; machine decides, pure)        (gRPC; summary judges)  (writes)
//! ```
//!
//! The claim is one write that holds to the version it was decided on and puts down the start time and
//! every pod at once, before any Medusa is told anything: whoever takes the job over, after a crash or
//! beside us, finds all pods in it. `finishTime` is the last write, after the MedusaBackup is whole.
//!
//! Nothing here may hold a worker for longer than a pass, run outside the reconciler's sight, or take a
//! silence for an answer.

mod admit;
mod closing;
mod observe;
mod run;
mod status;
mod summary;
mod write;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Client, Resource as _, core::DeserializeGuard, runtime::controller::Action};

use self::{admit::Problem, closing::Closed, run::Run, summary::Expected};
use super::{
    metrics::Metrics,
    timings::{Timings, after, since},
};
use crate::{
    api::{
        Reason,
        medusa::{MedusaBackupJob, MedusaBackupStatus},
        size,
    },
    runtime::{
        backoff::{self, Backoff},
        clock,
        events::Events,
    },
};

/// Pause after somebody else has changed the job.
const CONFLICT: Duration = Duration::from_millis(50);

/// What every reconcile shares.
pub struct Ctx {
    /// The data plane's own cluster.
    pub client: Client,
    /// Where Events go.
    pub events: Events,
    /// Deadlines and budgets.
    pub timings: Timings,
    /// Figures for `/metrics`.
    pub metrics: Metrics,
    slots: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<Slot>>>>,
    failures: Mutex<Backoff<Key>>,
}

/// Namespace and name of a job.
type Key = (String, String);

/// What is remembered of one job between two passes.
struct Slot {
    uid: String,
    phase: Phase,
}

enum Phase {
    /// Not started.
    Waiting { since: Timestamp, looks: u32, reported: Option<(Reason, String)> },
    /// Under way.
    Running(Box<Run>),
    /// The last write is done; the watch has yet to show it.
    Ended,
}

impl Ctx {
    /// A context without any job.
    #[must_use]
    pub fn new(client: Client, events: Events, timings: Timings, metrics: Metrics) -> Self {
        let failures = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
        Self { client, events, timings, metrics, slots: Mutex::default(), failures: Mutex::new(failures) }
    }

    fn slot(&self, key: Key, uid: &str, now: Timestamp) -> Arc<tokio::sync::Mutex<Slot>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let phase = Phase::Waiting { since: now, looks: 0, reported: None };
            Arc::new(tokio::sync::Mutex::new(Slot { uid: uid.to_owned(), phase }))
        };
        let slot = slots.entry(key).or_insert_with(new);
        // A job that was deleted and made again is another job. Nobody else holds the slot then: the
        // reconciler works on one object of a name at a time.
        if slot.try_lock().is_ok_and(|slot| slot.uid != uid) {
            *slot = new();
        }
        Arc::clone(slot)
    }

    /// Forgets a job: its connections close.
    pub fn forget(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).succeeded(&key);
        let slot = self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        drop(slot);
    }
}

/// One pass over one job.
///
/// # Errors
/// When the API server cannot be asked or refuses; the caller retries.
pub async fn reconcile(
    guarded: Arc<DeserializeGuard<MedusaBackupJob>>,
    ctx: Arc<Ctx>,
) -> Result<Action, kube::Error> {
    let job = match &guarded.0 {
        Ok(job) => job,
        Err(invalid) => {
            report_invalid(&ctx, guarded.object_ref(&()), &invalid.error);
            return Ok(Action::await_change());
        }
    };
    let key = key_of(&guarded);
    let is_over = job.status.as_ref().is_some_and(|s| s.finish_time.is_some());
    if is_over || job.metadata.deletion_timestamp.is_some() {
        ctx.forget(&key.0, &key.1);
        return Ok(Action::await_change());
    }
    let slot = ctx.slot(key.clone(), job.metadata.uid.as_deref().unwrap_or_default(), clock::now());
    let mut slot = slot.lock().await;
    let done = match &mut slot.phase {
        Phase::Ended => Ok(Action::await_change()),
        Phase::Waiting { .. } => begin(&ctx, job, &mut slot).await,
        Phase::Running(_) => carry_on(&ctx, job, &mut slot).await,
    };
    let action = match done {
        Err(error) if write::is_conflict(&error) => meet(&ctx, job, &mut slot).await?,
        other => other?,
    };
    ctx.failures.lock().unwrap_or_else(PoisonError::into_inner).succeeded(&key);
    Ok(action)
}

/// How long to wait after an error: longer each time, per job.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "the controller's signature")]
pub fn on_error(
    guarded: Arc<DeserializeGuard<MedusaBackupJob>>,
    error: &kube::Error,
    ctx: Arc<Ctx>,
) -> Action {
    let key = key_of(&guarded);
    tracing::warn!(namespace = key.0, job = key.1, %error, "reconcile MedusaBackupJob");
    Action::requeue(ctx.failures.lock().unwrap_or_else(PoisonError::into_inner).failed(&key))
}

fn key_of(guarded: &DeserializeGuard<MedusaBackupJob>) -> Key {
    let meta = guarded.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// A job that was not started, or was started by a process that is no more.
async fn begin(ctx: &Ctx, job: &MedusaBackupJob, slot: &mut Slot) -> Result<Action, kube::Error> {
    let scene = match observe::scene(&ctx.client, job).await? {
        Ok(scene) => scene,
        Err(problem) => return hold(ctx, job, slot, problem).await,
    };
    let now = clock::now();
    if job.status.as_ref().is_some_and(|s| s.start_time.is_some()) {
        tracing::info!(namespace = job.metadata.namespace, job = job.metadata.name, "takes over a backup");
        let job = write::own(&ctx.client, job, &scene.datacenter).await?;
        slot.phase = Phase::Running(Box::new(Run::new(&job, scene, false, now)));
        return carry_on(ctx, &job, slot).await;
    }
    if let Some(existing) = observe::backup(&ctx.client, job).await?
        && let Err(problem) = admit::name_is_free(&existing, &job.spec.cassandra_datacenter)
    {
        return hold(ctx, job, slot, problem).await;
    }
    let job = write::own(&ctx.client, job, &scene.datacenter).await?;
    let mut status = job.status.clone().unwrap_or_default();
    let pods: Vec<String> = scene.pods.iter().map(|p| p.name.clone()).collect();
    let note = format!(
        "backup of {} pods of CassandraDatacenter `{}` started",
        pods.len(),
        job.spec.cassandra_datacenter
    );
    status::claim(&mut status, pods, job.metadata.generation, now);
    let version = job.metadata.resource_version.clone().unwrap_or_default();
    let mut claimed = write::job_status(&ctx.client, &job, &status::patch(&version, &status)).await?;
    ctx.events.normal(claimed.object_ref(&()), Reason::Running, "StartBackup", note);
    // What was written, should the cluster's definition have dropped a part of it.
    claimed.status = Some(status);
    slot.phase = Phase::Running(Box::new(Run::new(&claimed, scene, true, now)));
    carry_on(ctx, &claimed, slot).await
}

/// A job that cannot begin says why, and is looked at again until the budget is spent.
async fn hold(
    ctx: &Ctx,
    job: &MedusaBackupJob,
    slot: &mut Slot,
    problem: Problem,
) -> Result<Action, kube::Error> {
    let Phase::Waiting { since: begun, looks, reported } = &mut slot.phase else {
        return Ok(Action::await_change());
    };
    let now = clock::now();
    let version = job.metadata.resource_version.clone().unwrap_or_default();
    let mut status = job.status.clone().unwrap_or_default();
    if !problem.may_heal || since(*begun, now) >= ctx.timings.input {
        status.failed = if problem.pods.is_empty() {
            [status.failed.clone(), status.in_progress.clone()].concat()
        } else {
            problem.pods.clone()
        };
        status.in_progress.clear();
        status::fail(&mut status, problem.reason, &problem.message, job.metadata.generation, now);
        write::job_status(&ctx.client, job, &status::patch(&version, &status)).await?;
        ctx.events.warning(job.object_ref(&()), problem.reason, "StartBackup", &problem.message);
        ctx.metrics.ended(job, None);
        slot.phase = Phase::Ended;
        return Ok(Action::await_change());
    }
    let news = Some((problem.reason, problem.message.clone()));
    if *reported != news {
        status::wait(&mut status, &problem, job.metadata.generation, now);
        if job.status.as_ref() != Some(&status) {
            write::job_status(&ctx.client, job, &status::patch(&version, &status)).await?;
        }
        ctx.events.warning(job.object_ref(&()), problem.reason, "StartBackup", &problem.message);
        *reported = news;
    }
    let wait = backoff::delay(*looks, Duration::from_secs(1), ctx.timings.input_retry_max);
    *looks = looks.saturating_add(1);
    Ok(Action::requeue(wait.min(since(now, after(*begun, ctx.timings.input)))))
}

/// A run under way: ask the nodes, and when all are decided, end it.
async fn carry_on(ctx: &Ctx, job: &MedusaBackupJob, slot: &mut Slot) -> Result<Action, kube::Error> {
    let Phase::Running(run) = &mut slot.phase else { return Ok(Action::await_change()) };
    if let Some(pause) = run.gather(ctx).await {
        let now = clock::now();
        let mut status = run.status.clone();
        status::progress(&mut status, &run.nodes);
        if status::is_due(&run.status, &status, run.written, now) {
            let written =
                write::job_status(&ctx.client, job, &status::patch(&run.resource_version, &status)).await?;
            run.resource_version = written.metadata.resource_version.unwrap_or_default();
            run.status = status;
            run.written = now;
        }
        return Ok(Action::requeue(pause));
    }
    let whole = if run.has_failures() {
        Err(status::verdict(&run.nodes))
    } else {
        let medusas = run.medusas(ctx);
        let datacenter = run.datacenter.clone();
        let expected = Expected { datacenter: &datacenter, pods: run.nodes.len(), started: run.started };
        match run.closing.pass(ctx, &run.name, &medusas, expected).await {
            Closed::Whole(backup) => Ok(backup),
            Closed::Short(reason, message) => Err((reason, message)),
            Closed::Later(pause) => return Ok(Action::requeue(pause)),
        }
    };
    end(ctx, job, run, whole).await?;
    slot.phase = Phase::Ended;
    Ok(Action::await_change())
}

/// The MedusaBackup, then `finishTime`, which says that all is said.
async fn end(
    ctx: &Ctx,
    job: &MedusaBackupJob,
    run: &mut Run,
    whole: Result<Box<MedusaBackupStatus>, (Reason, String)>,
) -> Result<(), kube::Error> {
    let whole = match whole {
        Ok(backup) => write::backup(&ctx.client, job, &run.datacenter, &backup)
            .await?
            .map(|()| backup)
            .map_err(|problem| (problem.reason, problem.message)),
        Err(failure) => Err(failure),
    };
    let now = clock::now();
    let mut status = run.status.clone();
    status::progress(&mut status, &run.nodes);
    let generation = job.metadata.generation;
    let message = match &whole {
        Ok(backup) => {
            let message = format!(
                "{} nodes, {} files, {}",
                backup.total_nodes.unwrap_or_default(),
                backup.total_files.unwrap_or_default(),
                backup.total_size.as_deref().unwrap_or_default()
            );
            status::succeed(&mut status, &message, generation, now);
            message
        }
        Err((reason, message)) => {
            status::fail(&mut status, *reason, message, generation, now);
            message.clone()
        }
    };
    write::job_status(&ctx.client, job, &status::patch(&run.resource_version, &status)).await?;
    let seconds = since(run.started, now).as_secs_f64();
    match whole {
        Ok(backup) => {
            let bytes = backup.total_size.as_deref().and_then(size::parse).unwrap_or_default();
            ctx.metrics.ended(job, Some((seconds, bytes)));
            ctx.events.normal(job.object_ref(&()), Reason::Succeeded, "FinishBackup", message);
        }
        Err((reason, message)) => {
            ctx.metrics.ended(job, None);
            ctx.events.warning(job.object_ref(&()), reason, "FinishBackup", message);
        }
    }
    Ok(())
}

/// Somebody changed the job under us: what it says now counts, and the run goes on from there.
async fn meet(ctx: &Ctx, job: &MedusaBackupJob, slot: &mut Slot) -> Result<Action, kube::Error> {
    let fresh = write::reread(&ctx.client, job).await?;
    let Some(fresh) = fresh.filter(|f| f.status.as_ref().is_none_or(|s| s.finish_time.is_none())) else {
        slot.phase = Phase::Ended;
        return Ok(Action::await_change());
    };
    if let Phase::Running(run) = &mut slot.phase {
        run.resource_version = fresh.metadata.resource_version.clone().unwrap_or_default();
        let theirs = fresh.status.unwrap_or_default();
        run.status.finished = theirs.finished;
        run.status.failed = theirs.failed;
        run.adopt_decisions(clock::now());
    }
    Ok(Action::requeue(CONFLICT))
}

fn report_invalid(ctx: &Ctx, about: ObjectReference, error: &str) {
    let note = format!("the object cannot be read and is left alone: {error}");
    tracing::warn!(namespace = about.namespace, job = about.name, error, "MedusaBackupJob cannot be read");
    ctx.events.warning(about, Reason::InvalidObject, "ReadJob", note);
}
