//! The life of an object that is carried out by the pods of a datacenter: it waits until it can begin, is claimed, goes on
//! and ends. Backups and tasks have it in common.
//!
//! ```text
//! begin ──> claim ──> go_on … go_on ──> end
//!   └ held: says why, and fails when its time is up
//! ```
//!
//! The claim is one write that holds to the version it was decided on and puts down the start time and every pod at once,
//! before any Medusa is told anything: whoever takes the object over, after a crash or beside us, finds all pods in it.
//! `finishTime` is the last write. Nothing here may know what a kind asks the pods.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource as _, core::object::HasStatus, runtime::controller::Action};
use serde::Serialize;

use super::{
    context::{Context, Reconciler, Tools},
    objects,
    outcome::{self, RunStatus},
    problem::{Obstacle, Problem, Waiting},
    progress::{Counts, is_due},
    timings::{after, since},
};
use crate::{
    api::{
        Reason,
        medusa::{MedusaBackupJobStatus, MedusaTaskStatus},
    },
    runtime::follow::Followed,
};

/// Fields of such a status that are written whole.
const FIELDS: [&str; 7] =
    ["startTime", "finishTime", "inProgress", "finished", "failed", "message", "conditions"];

/// The status of a run over pods: when it began, and which pod is in which list.
pub trait PodsStatus: RunStatus + Serialize + Clone + PartialEq + Default + Send + Sync {
    /// How many pods are in which list.
    fn counts(&self) -> Counts;
    /// The run is claimed: started then, with these pods in progress.
    fn start(&mut self, pods: Vec<String>, now: Timestamp);
    /// The run ends before its time: the pods that `problem` is about have failed, or all that were not done where it is about
    /// none.
    fn give_up(&mut self, problem: &Problem);
    /// Somebody else has written the lists of what is done.
    fn take_decisions(&mut self, theirs: Self);
}

macro_rules! pods_status {
    ($($status:ty),+) => {
        $(impl PodsStatus for $status {
            fn counts(&self) -> Counts {
                Counts {
                    in_progress: self.in_progress.len(),
                    finished: self.finished.len(),
                    failed: self.failed.len(),
                }
            }

            fn start(&mut self, pods: Vec<String>, now: Timestamp) {
                self.start_time = Some(Time(now));
                self.in_progress = pods;
            }

            fn give_up(&mut self, problem: &Problem) {
                self.failed = if problem.pods.is_empty() {
                    [self.failed.as_slice(), self.in_progress.as_slice()].concat()
                } else {
                    problem.pods.clone()
                };
                self.in_progress.clear();
            }

            fn take_decisions(&mut self, theirs: Self) {
                self.finished = theirs.finished;
                self.failed = theirs.failed;
            }
        })+
    };
}

pods_status!(MedusaBackupJobStatus, MedusaTaskStatus);

/// The status of a run as it stands in the object.
#[derive(Clone, Debug)]
pub struct Stored<S> {
    /// As last written or read.
    pub status: S,
    /// The version that it has.
    pub resource_version: String,
    /// When it was last written.
    pub at: Timestamp,
}

/// What came of looking whether a run can begin.
pub enum Begun<R> {
    /// Nothing is in its way, and it is to be looked at again after this long.
    Later(Duration),
    /// It is under way.
    Running(Box<R>),
}

/// What came of a pass over a run under way.
pub enum Progress {
    /// It goes on after this long.
    Later(Duration),
    /// Every pod is done, so their lists need no further write; what is left to do goes on after this long.
    Closing(Duration),
    /// It is over: what it did, or why it failed.
    Over(Result<String, (Reason, String)>),
}

/// What a kind adds to the life that all have in common. The value is a run under way.
pub trait PodsRun: Send + Sized + 'static {
    /// The kind.
    type Object: Followed + Serialize + HasStatus<Status: PodsStatus>;
    /// What its runs share.
    type Shared: Send + Sync + 'static;
    /// What is remembered of an object before it begins, beside for how long it waits.
    type Before: Send;

    /// Its kind, in the log and in metrics.
    const PART: &'static str;
    /// What Events say is done when it begins, and when it ends.
    const ACTIONS: (&'static str, &'static str);

    /// What is remembered of an object that is seen for the first time.
    fn before() -> Self::Before;

    /// The CassandraDatacenter that it is about.
    fn datacenter(object: &Self::Object) -> &str;

    /// For how long an object is kept after its end; nothing when nobody has said that.
    fn kept_for(_: &Self::Object) -> Option<Duration> {
        None
    }

    /// Begins, or takes over what was begun: see [`is_started`]. It is called again after each pause, and while a problem
    /// is in its way.
    fn begin(
        ctx: &Context<Life<Self>>,
        object: &Self::Object,
        before: &mut Self::Before,
    ) -> impl Future<Output = Result<Begun<Self>, Obstacle>> + Send;

    /// What stands in the object.
    fn stored(&mut self) -> &mut Stored<StatusOf<Self>>;

    /// Puts the pods into the lists of `status`, as they are now.
    fn list(&self, status: &mut StatusOf<Self>);

    /// Takes over what the object says is decided, by whoever wrote it.
    fn adopt(&mut self, now: Timestamp);

    /// One pass.
    fn go_on(
        &mut self,
        tools: &Tools,
        object: &Self::Object,
    ) -> impl Future<Output = Result<Progress, kube::Error>> + Send;

    /// Counts an end; there is no run where it never began.
    fn count(run: Option<&Self>, tools: &Tools, object: &Self::Object, is_good: bool);
}

/// The status of the objects of such a kind.
pub type StatusOf<R> = <<R as PodsRun>::Object as HasStatus>::Status;

/// What is remembered of one object between two passes.
pub enum Life<R: PodsRun> {
    /// Not started, or to be taken over.
    Waiting(Waiting, R::Before),
    /// Under way.
    Running(Box<R>),
    /// The last write is done; the watch has yet to show it.
    Ended,
}

/// Whether the object was begun, by this process or another.
#[must_use]
pub fn is_started<R: PodsRun>(object: &R::Object) -> bool {
    object.status().is_some_and(|status| status.times().0.is_some())
}

fn finished<R: PodsRun>(object: &R::Object) -> Option<Timestamp> {
    object.status().and_then(|status| status.times().1)
}

/// Starts `object`: one write, that only the first of two controllers gets through. `message` stands in its status, `note` in
/// an Event. Returns the object as it is then.
///
/// # Errors
/// When the API server refuses, among others because the object has changed.
pub async fn claim<R: PodsRun>(
    tools: &Tools,
    object: &R::Object,
    pods: Vec<String>,
    (message, note): (&str, &str),
    now: Timestamp,
) -> Result<R::Object, kube::Error> {
    let mut status = object.status().cloned().unwrap_or_default();
    status.start(pods, now);
    outcome::step(&mut status, Reason::Running, message, object.meta().generation, now);
    let mut claimed = objects::patch_status(&tools.client, object, &patch(version(object), &status)).await?;
    tools.events.normal(claimed.object_ref(&()), Reason::Running, R::ACTIONS.0, note);
    // What was written, should the cluster's definition have dropped a part of it.
    *claimed.status_mut() = Some(status);
    Ok(claimed)
}

/// The status of `object` as it was read at `now`.
#[must_use]
pub fn stored<R: PodsRun>(object: &R::Object, now: Timestamp) -> Stored<StatusOf<R>> {
    let status = object.status().cloned().unwrap_or_default();
    Stored { status, resource_version: version(object).to_owned(), at: now }
}

fn version(object: &impl kube::Resource) -> &str {
    object.meta().resource_version.as_deref().unwrap_or_default()
}

/// The status as a merge patch that only applies to `resource_version`.
#[must_use]
pub fn patch(resource_version: &str, status: &impl PodsStatus) -> serde_json::Value {
    outcome::patch(resource_version, status, &FIELDS)
}

impl<R: PodsRun> Reconciler for Life<R> {
    type Object = R::Object;
    type Shared = R::Shared;

    const PART: &'static str = R::PART;

    fn new(now: Timestamp) -> Self {
        Self::Waiting(Waiting::new(now), R::before())
    }

    fn is_over(object: &R::Object) -> bool {
        let stays = R::kept_for(object).is_none();
        object.meta().deletion_timestamp.is_some() || (finished::<R>(object).is_some() && stays)
    }

    fn datacenter(object: &R::Object) -> Option<&str> {
        let waits = !is_started::<R>(object) && finished::<R>(object).is_none();
        waits.then(|| R::datacenter(object))
    }

    async fn pass(&mut self, ctx: &Context<Self>, object: &R::Object) -> Result<Action, kube::Error> {
        let tools = &ctx.tools;
        if let Some(end) = finished::<R>(object) {
            *self = Self::Ended;
            return expire::<R>(tools, object, end).await;
        }
        match self {
            Self::Ended => Ok(Action::await_change()),
            Self::Running(_) => self.go_on(tools, object).await,
            Self::Waiting(_, before) => match R::begin(ctx, object, before).await {
                Err(obstacle) => self.hold(tools, object, obstacle.problem()?).await,
                Ok(Begun::Later(pause)) => Ok(Action::requeue(pause)),
                Ok(Begun::Running(run)) => {
                    *self = Self::Running(run);
                    self.go_on(tools, object).await
                }
            },
        }
    }

    /// What the object says now counts, and the run goes on from there.
    fn meet(&mut self, fresh: Option<R::Object>, now: Timestamp) {
        let is_over = |object: &R::Object| {
            object.meta().deletion_timestamp.is_some() || finished::<R>(object).is_some()
        };
        let Some(fresh) = fresh.filter(|fresh| !is_over(fresh)) else {
            *self = Self::Ended;
            return;
        };
        if let Self::Running(run) = self {
            let stored = run.stored();
            version(&fresh).clone_into(&mut stored.resource_version);
            stored.status.take_decisions(fresh.status().cloned().unwrap_or_default());
            run.adopt(now);
        }
    }
}

impl<R: PodsRun> Life<R> {
    /// An object that cannot begin says why, and is looked at again until its time is up.
    async fn hold(
        &mut self,
        tools: &Tools,
        object: &R::Object,
        problem: Problem,
    ) -> Result<Action, kube::Error> {
        let Self::Waiting(waiting, _) = self else { return Ok(Action::await_change()) };
        let (now, generation) = (tools.clock.now(), object.meta().generation);
        let before = object.status().cloned().unwrap_or_default();
        let mut status = before.clone();
        let tell =
            || tools.events.warning(object.object_ref(&()), problem.reason, R::ACTIONS.0, &problem.message);
        if waiting.is_over(&problem, &tools.timings, now) {
            status.give_up(&problem);
            outcome::fail(&mut status, problem.reason, &problem.message, generation, now);
            objects::patch_status(&tools.client, object, &patch(version(object), &status)).await?;
            tell();
            R::count(None, tools, object, false);
            *self = Self::Ended;
            return Ok(Action::await_change());
        }
        if waiting.is_news(&problem) {
            outcome::wait(&mut status, &problem, generation, now);
            if before != status {
                objects::patch_status(&tools.client, object, &patch(version(object), &status)).await?;
            }
            tell();
            waiting.reported(&problem);
        }
        Ok(Action::requeue(waiting.pause(&problem, &tools.timings, now)))
    }

    async fn go_on(&mut self, tools: &Tools, object: &R::Object) -> Result<Action, kube::Error> {
        let Self::Running(run) = self else { return Ok(Action::await_change()) };
        match run.go_on(tools, object).await? {
            Progress::Later(pause) => {
                tell_progress(&mut **run, tools, object).await?;
                Ok(Action::requeue(pause))
            }
            Progress::Closing(pause) => Ok(Action::requeue(pause)),
            Progress::Over(end) => {
                finish(&mut **run, tools, object, end).await?;
                *self = Self::Ended;
                Ok(Action::await_change())
            }
        }
    }
}

/// Writes how far the pods are, when that is worth a write.
async fn tell_progress<R: PodsRun>(
    run: &mut R,
    tools: &Tools,
    object: &R::Object,
) -> Result<(), kube::Error> {
    let now = tools.clock.now();
    let mut status = run.stored().status.clone();
    run.list(&mut status);
    let stored = run.stored();
    if is_due(stored.status.counts(), status.counts(), stored.at, now) {
        let patch = patch(&stored.resource_version, &status);
        let object = objects::patch_status(&tools.client, object, &patch).await?;
        *stored = Stored { status, resource_version: version(&object).to_owned(), at: now };
    }
    Ok(())
}

/// Writes how the run ended, with `finishTime` as the last word, then counts it and tells it in an Event.
async fn finish<R: PodsRun>(
    run: &mut R,
    tools: &Tools,
    object: &R::Object,
    end: Result<String, (Reason, String)>,
) -> Result<(), kube::Error> {
    let (now, generation) = (tools.clock.now(), object.meta().generation);
    let mut status = run.stored().status.clone();
    run.list(&mut status);
    match &end {
        Ok(told) => outcome::succeed(&mut status, told, generation, now),
        Err((reason, why)) => outcome::fail(&mut status, *reason, why, generation, now),
    }
    let patch = patch(&run.stored().resource_version, &status);
    objects::patch_status(&tools.client, object, &patch).await?;
    R::count(Some(run), tools, object, end.is_ok());
    let about = object.object_ref(&());
    match end {
        Ok(told) => tools.events.normal(about, Reason::Succeeded, R::ACTIONS.1, told),
        Err((reason, why)) => tools.events.warning(about, reason, R::ACTIONS.1, why),
    }
    Ok(())
}

/// Deletes an object whose time after its end is over. What it made stays.
async fn expire<R: PodsRun>(
    tools: &Tools,
    object: &R::Object,
    end: Timestamp,
) -> Result<Action, kube::Error> {
    let Some(kept) = R::kept_for(object) else { return Ok(Action::await_change()) };
    let (now, until) = (tools.clock.now(), after(end, kept));
    if now < until {
        return Ok(Action::requeue(since(now, until)));
    }
    let all = kube::Api::<R::Object>::namespaced(tools.client.clone(), objects::namespace(object));
    objects::delete(&all, objects::name(object), objects::this_version(object.meta())).await?;
    Ok(Action::await_change())
}

#[cfg(test)]
#[path = "lifecycle_tests.rs"]
mod tests;
