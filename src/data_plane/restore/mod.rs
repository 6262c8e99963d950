//! MedusaRestoreJob: the restore of one backup into one datacenter.
//!
//! ```text
//! claim ── checks, mapping ──> finalizer ──> machine: stop, prepare, start, put back ──> users ──> end
//! (write)  (reads, Medusa; pure)  (write)    (reads; judge and machine decide, pure; writes)     (write)
//! ```
//!
//! Nothing stops before every check has passed and the whole plan is in the job's status. From then on the
//! datacenter's annotation says where the restore stands and what has to be put back; it changes in the same
//! write as the datacenter. `finishTime` is written when the datacenter is as it was, and a job that has one
//! is never looked at again but to take off annotation and finalizer.
//!
//! Nothing here may hold a worker for longer than a pass, or take an exit code for a restore.

#[cfg(test)]
#[path = "arbitrary_tests.rs"]
pub(super) mod arbitrary;
mod checking;
mod ending;
mod hostmap;
mod judge;
mod lock;
mod machine;
#[cfg(test)]
mod machine_tests;
mod names;
mod observe;
mod preflight;
#[cfg(test)]
mod preflight_tests;
mod record;
mod template;
mod view;
mod write;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource as _, runtime::controller::Action};

use self::{
    checking::Checks,
    ending::{finish, let_go, note, put},
    judge::{Readings, Report, judge},
    lock::{Lock, LockHolder, Step},
    machine::{Change, Next},
    observe::Seen,
    view::{Restore, RestorePod},
};
use crate::{
    api::{Reason, labels, medusa::MedusaRestoreJob},
    data_plane::{
        frame::{
            context::{Context, Reconciler, Tools},
            objects, outcome,
            problem::{self, Problem, Waiting},
            timings::since,
        },
        medusa::pool::Pool,
    },
};

/// Shortest time between two writes that only say what is waited for.
const QUIET: Duration = Duration::from_secs(30);
/// Pause before the next step of a restore that has just made one.
const NEXT: Duration = Duration::from_millis(1);
/// Pause before looking again whether Medusa has answered.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What is remembered of one job between two passes.
#[derive(Default)]
pub struct Restoration {
    waiting: Option<Waiting>,
    checks: Checks,
    readings: Readings,
    asked: BTreeMap<String, Timestamp>,
    told: Option<Told>,
    is_ended: bool,
}

/// What was last said of a wait.
struct Told {
    reason: Reason,
    is_troubled: bool,
    message: String,
    at: Timestamp,
}

impl Reconciler for Restoration {
    type Object = MedusaRestoreJob;
    type Shared = Pool;

    const PART: &'static str = "MedusaRestoreJob";

    fn new(_: Timestamp) -> Self {
        Self::default()
    }

    /// A finished job is over for ever, whatever becomes of its backup and its datacenter.
    fn is_over(job: &MedusaRestoreJob) -> bool {
        !is_held(job) && (is_finished(job) || is_deleted(job))
    }

    fn datacenter(job: &MedusaRestoreJob) -> Option<&str> {
        Some(&job.spec.cassandra_datacenter)
    }

    async fn pass(&mut self, ctx: &Context<Self>, job: &MedusaRestoreJob) -> Result<Action, kube::Error> {
        let tools = &ctx.tools;
        if self.is_ended && !is_finished(job) && !is_deleted(job) {
            return Ok(Action::await_change());
        }
        let seen = observe::see(&tools.client, job, &key_of(job)).await?;
        if is_finished(job) && !is_busy(&seen) {
            return let_go(tools, job, &seen).await;
        }
        let is_prepared = job.status.as_ref().is_some_and(|s| s.restore_prepared == Some(true));
        if is_held(job) && (is_prepared || is_deleted(job)) {
            return self.go_on(tools, job, seen).await;
        }
        self.begin(ctx, job, seen).await
    }

    /// What the job says now counts; the next pass begins with it.
    fn meet(&mut self, fresh: Option<MedusaRestoreJob>, _: Timestamp) {
        self.is_ended = fresh.is_none();
    }
}

fn is_finished(job: &MedusaRestoreJob) -> bool {
    job.status.as_ref().is_some_and(|s| s.finish_time.is_some())
}

fn is_deleted(job: &MedusaRestoreJob) -> bool {
    job.metadata.deletion_timestamp.is_some()
}

/// Whether the job bears our finalizer: it may have changed its datacenter.
fn is_held(job: &MedusaRestoreJob) -> bool {
    job.metadata.finalizers.iter().flatten().any(|name| name == labels::RESTORE_FINALIZER)
}

/// The restore's key: what the status holds, else the job's uid. So a crash before the first write cannot
/// lead to a second key.
fn key_of(job: &MedusaRestoreJob) -> String {
    job.status
        .as_ref()
        .map(|s| s.restore_key.clone())
        .filter(|key| !key.is_empty())
        .or_else(|| job.metadata.uid.clone())
        .unwrap_or_default()
}

/// The lock, when it is ours.
fn lock_of(seen: &Seen) -> Option<&Lock> {
    match &seen.view.datacenter.as_ref()?.claim {
        LockHolder::Ours(lock) => Some(lock),
        LockHolder::Free | LockHolder::Other(_) | LockHolder::Orphan(_) | LockHolder::Unreadable => None,
    }
}

/// Whether our annotation says that the datacenter is not as it was.
fn is_busy(seen: &Seen) -> bool {
    lock_of(seen).is_some_and(|lock| lock.step != Step::Returned)
}

impl Restoration {
    /// A job that has changed nothing yet: claims it, checks, and writes down the plan.
    async fn begin(
        &mut self,
        ctx: &Context<Self>,
        job: &MedusaRestoreJob,
        seen: Seen,
    ) -> Result<Action, kube::Error> {
        let tools = &ctx.tools;
        if let Err(problem) = problem::named("spec.cassandraDatacenter", &job.spec.cassandra_datacenter)
            .and_then(|()| problem::named("spec.backup", &job.spec.backup))
            && !is_held(job)
        {
            return self.hold(tools, job, problem).await;
        }
        let mut job = match &seen.typed {
            Some(datacenter) => objects::own(&tools.client, job, datacenter).await?,
            None => job.clone(),
        };
        let now = tools.clock.now();
        if job.status.as_ref().is_none_or(|s| s.start_time.is_none()) {
            let mut status = job.status.clone().unwrap_or_default();
            status.restore_key = key_of(&job);
            status.start_time = Some(Time(now));
            let message = "checks backup and datacenter; nothing has stopped yet";
            outcome::step(&mut status, Reason::Pending, message, job.metadata.generation, now);
            job = put(tools, &job, status).await?;
        }
        let prepared = job.status.as_ref().filter(|s| s.restore_prepared == Some(true));
        let mapping = match prepared.and_then(|s| s.restore_mapping.clone()) {
            // Prepared by k8ssandra-operator, which may have gone further.
            Some(mapping) => mapping,
            None => match self.checks.pass(ctx, &job, &seen).await {
                Ok(Some(mapping)) => mapping,
                Ok(None) => return Ok(Action::requeue(LOOK_AGAIN)),
                Err(obstacle) => return self.hold(tools, &job, obstacle.problem()?).await,
            },
        };
        if !is_held(&job) {
            job = write::finalizer(&tools.client, &job, true).await?;
        }
        let mut status = job.status.clone().unwrap_or_default();
        status.in_progress = mapping.host_map.keys().cloned().collect();
        status.in_progress.retain(|pod| !status.finished.contains(pod) && !status.failed.contains(pod));
        status.restore_prepared = Some(true);
        let note = format!(
            "restore of backup `{}` into {} pods of CassandraDatacenter `{}`, {}",
            job.spec.backup,
            mapping.host_map.len(),
            job.spec.cassandra_datacenter,
            if mapping.in_place == Some(true) { "each its own data" } else { "from other hosts" }
        );
        status.restore_mapping = Some(mapping);
        outcome::step(&mut status, Reason::Stopping, "every check passed", job.metadata.generation, now);
        let job = put(tools, &job, status).await?;
        tools.events.normal(job.object_ref(&()), Reason::Running, "StartRestore", note);
        Ok(Action::requeue(NEXT))
    }

    /// A job that cannot begin says why, and is looked at again until the budget is spent.
    async fn hold(
        &mut self,
        tools: &Tools,
        job: &MedusaRestoreJob,
        problem: Problem,
    ) -> Result<Action, kube::Error> {
        let now = tools.clock.now();
        let mut status = job.status.clone().unwrap_or_default();
        let begun = status.start_time.as_ref().map_or(now, |time| time.0);
        let waiting = self.waiting.get_or_insert_with(|| Waiting::new(begun));
        if waiting.is_over(&problem, &tools.timings, now) {
            let message = format!("{}. Nothing was changed", problem.message);
            outcome::fail(&mut status, problem.reason, &message, job.metadata.generation, now);
            let job = put(tools, job, status).await?;
            tools.events.warning(job.object_ref(&()), problem.reason, "StartRestore", message);
            self.is_ended = true;
            if is_held(&job) {
                write::finalizer(&tools.client, &job, false).await?;
            }
            return Ok(Action::await_change());
        }
        if waiting.is_news(&problem) {
            outcome::wait(&mut status, &problem, job.metadata.generation, now);
            if job.status.as_ref() != Some(&status) {
                put(tools, job, status).await?;
            }
            tools.events.warning(job.object_ref(&()), problem.reason, "StartRestore", &problem.message);
            waiting.reported(&problem);
        }
        Ok(Action::requeue(waiting.pause(&problem, &tools.timings, now)))
    }

    /// A job whose plan is written: one step of the machine.
    async fn go_on(
        &mut self,
        tools: &Tools,
        job: &MedusaRestoreJob,
        seen: Seen,
    ) -> Result<Action, kube::Error> {
        let mut job = job.clone();
        let mut report = Report::default();
        if lock_of(&seen).is_some_and(|lock| lock.step == Step::Starting) {
            report = self.look(tools, &job, &seen).await;
            job = note(tools, &job, &report).await?;
        }
        let status = job.status.clone().unwrap_or_default();
        let sets: Vec<String> =
            seen.typed.iter().flat_map(|dc| names::racks(dc, 0)).map(|rack| rack.set).collect();
        let case = machine::Case {
            job: objects::name(&job),
            uid: job.metadata.uid.as_deref().unwrap_or_default(),
            status: &status,
            is_deleted: is_deleted(&job) || is_finished(&job),
            view: &seen.view,
            sets: &sets,
            report: &report,
            timings: &tools.timings,
            now: tools.clock.now(),
        };
        match machine::next(case) {
            Next::Wait(reason, message) => {
                self.tell(tools, &job, reason, &message, report.is_troubled).await?;
                let is_reading = seen
                    .view
                    .pods
                    .iter()
                    .any(|pod| report.unread.contains(&pod.name) && !self.asked.contains_key(&pod.uid));
                Ok(Action::requeue(if is_reading { NEXT } else { tools.timings.restore_poll }))
            }
            Next::Change(change) => self.change(tools, &job, &seen, &change).await,
            Next::Stopped => {
                let mut status = status.clone();
                status.datacenter_stopped = Some(Time(tools.clock.now()));
                put(tools, &job, status).await?;
                Ok(Action::requeue(NEXT))
            }
            Next::Finish(verdict) => {
                self.is_ended = true;
                finish(tools, &job, &seen, &verdict).await
            }
            Next::LetGo => let_go(tools, &job, &seen).await,
        }
    }

    /// How the pods stand, after reading the records that have to be read.
    async fn look(&mut self, tools: &Tools, job: &MedusaRestoreJob, seen: &Seen) -> Report {
        let status = job.status.clone().unwrap_or_default();
        let pods = &seen.view.pods;
        self.readings.retain(|uid, _| pods.iter().any(|pod| pod.uid == *uid));
        self.asked.retain(|uid, _| pods.iter().any(|pod| pod.uid == *uid));
        let judged = |readings: &Readings| {
            let (timings, now) = (&tools.timings, tools.clock.now());
            judge(judge::Case { status: &status, pods, readings, timings, now })
        };
        let first = judged(&self.readings);
        let mut asked: Vec<RestorePod> = pods
            .iter()
            .filter(|pod| {
                let is_failing = matches!(pod.restore, Restore::Failing { .. });
                first.unread.contains(&pod.name) || (is_failing && first.in_progress.contains(&pod.name))
            })
            .cloned()
            .collect();
        // Those that have waited longest come first; the others follow in the next passes.
        asked.sort_by_key(|pod| self.asked.get(&pod.uid).copied());
        asked.truncate(observe::AT_ONCE);
        let now = tools.clock.now();
        self.asked.extend(asked.iter().map(|pod| (pod.uid.clone(), now)));
        if asked.is_empty() {
            return first;
        }
        let namespace = objects::namespace(job);
        let read =
            observe::records(&tools.client, namespace, &job.spec.backup, asked, tools.timings.call).await;
        self.readings.extend(read);
        judged(&self.readings)
    }

    async fn change(
        &mut self,
        tools: &Tools,
        job: &MedusaRestoreJob,
        seen: &Seen,
        change: &Change,
    ) -> Result<Action, kube::Error> {
        let before = lock_of(seen);
        let is_again = before == Some(&change.lock);
        write::datacenter(&tools.client, job, &seen.raw, change).await?;
        let step = change.lock.step;
        tracing::info!(namespace = job.metadata.namespace, job = job.metadata.name, ?step, "restore");
        if is_again {
            let note = format!(
                "somebody else changed CassandraDatacenter `{}` during the restore; it was changed back",
                job.spec.cassandra_datacenter
            );
            tools.events.warning(job.object_ref(&()), Reason::DatacenterChanged, "RepeatStep", note);
            // Whoever it was may do it again at once.
            return Ok(Action::requeue(tools.timings.restore_poll));
        }
        if let Some(verdict) = &change.lock.verdict
            && before.is_none_or(|lock| lock.verdict.is_none())
        {
            let note = format!("{}; puts the datacenter back as it was", verdict.message);
            if verdict.is_good() {
                tools.events.normal(job.object_ref(&()), Reason::PuttingBack, "PutBack", note);
            } else {
                tools.events.warning(job.object_ref(&()), verdict.reason(), "PutBack", note);
            }
        }
        Ok(Action::requeue(NEXT))
    }

    /// Says what is waited for: at once when that is something else than before, else now and then.
    async fn tell(
        &mut self,
        tools: &Tools,
        job: &MedusaRestoreJob,
        reason: Reason,
        message: &str,
        is_troubled: bool,
    ) -> Result<(), kube::Error> {
        let now = tools.clock.now();
        let is_new = self.told.as_ref().is_none_or(|t| (t.reason, t.is_troubled) != (reason, is_troubled));
        let is_due = self
            .told
            .as_ref()
            .is_none_or(|told| is_new || (told.message != message && since(told.at, now) >= QUIET));
        if !is_due || is_finished(job) {
            return Ok(());
        }
        let mut status = job.status.clone().unwrap_or_default();
        let generation = job.metadata.generation;
        if is_troubled {
            let problem = Problem::new(reason, message.to_owned());
            outcome::wait(&mut status, &problem, generation, now);
            tools.events.warning(job.object_ref(&()), reason, "Restore", message);
        } else {
            outcome::step(&mut status, reason, message, generation, now);
            if is_new {
                tools.events.normal(job.object_ref(&()), reason, "Restore", message);
            }
        }
        if job.status.as_ref() != Some(&status) {
            put(tools, job, status).await?;
        }
        self.told = Some(Told { reason, is_troubled, message: message.to_owned(), at: now });
        Ok(())
    }
}
