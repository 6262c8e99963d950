//! Runs with one child per datacenter: what is remembered of each between two passes, what a pass does, when its status is
//! written, what becomes of it after its end. What a child is and comes to is the kind's own ([`adapter::Adapter`]).

pub mod adapter;
pub mod advance;
mod apply;
mod inputs;
pub mod load;
mod pass;
pub mod plan;
#[cfg(test)]
mod scenarios;
pub mod summarize;

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use kube::{
    Api, Resource as _, ResourceExt as _, core::object::HasStatus, runtime::controller::Action as Next,
};
use serde::Serialize;
use tokio::time::Instant;

pub use inputs::RunInputs;

use self::{
    adapter::{Adapter, Admitted},
    plan::Action,
};
use super::{
    buckets::Buckets,
    child::Child as _,
    claims::Claim,
    compact,
    controller::{AdvanceError, Driver, Frame, RunContext},
    events::tell,
    expiry,
    holds::Holds,
    in_flight::{InFlightWrites, Key},
    kind::{Fanned, Run as _},
    outcome::Outcome,
    publish::{pace, publish},
    takeover::{OF_RUNS, take_over},
};
use crate::{
    api::fleet::Phase,
    control_plane::data_planes::{fleet::Snapshot, meters::Meters, remote::Remote, watched::Kind},
    runtime::{remembered::Remembered, sync::lock, written::Written},
};

/// Since when a child has been seen finished, or has been [`MISSING`], by our own clock: the data planes' clocks may differ
/// from it.
pub type FirstSeen = Remembered<Key, Timestamp>;

/// The uid by which it is noted that a child is missing.
pub const MISSING: &str = "";

/// How long a run waits for what its selector does not find: a watch that broke starts anew within two seconds.
const SETTLES: Duration = Duration::from_secs(5);

/// Shortest pause between two passes over one run: without it a deadline that has just passed would be looked at in a
/// busy loop.
const LEAST: Duration = Duration::from_millis(200);

/// How many times as long as a pass took a run is left alone after it, and how long at most; and what is too short to matter.
/// Each of a thousand children is news several times, and looking at all of them each time would take the time of making
/// them.
const REST: u32 = 3;
const RESTS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// The status of a kind.
pub type StatusOf<K> = <K as HasStatus>::Status;

/// The entry of a datacenter in it.
type EntryOf<E> = <<E as Engine>::Run as Fanned>::Entry;

/// What is remembered of a run between two passes.
#[derive(Clone, Debug)]
pub struct Memory<S> {
    pub uid: String,
    /// The status as it is, written or not.
    pub status: S,
    /// Children that were seen finished, or missing, and since when.
    pub first_seen: FirstSeen,
    /// When this control plane saw it first.
    seen: Instant,
    /// The status as it was last written.
    written: S,
    /// [`digest`] of the status as the API server returned it then.
    stored: u64,
    /// When it was last written, and its size.
    paced: Option<(Instant, usize)>,
    /// Until when the run is left alone.
    rests: Option<Instant>,
}

impl<S> Memory<S> {
    /// How long what its selector does not find may still be on its way here. A datacenter that was made a moment before
    /// the run, in another cluster, is brought by another watch, and that may just be starting anew.
    pub fn settles_in(&self) -> Option<Duration> {
        SETTLES.checked_sub(self.seen.elapsed())
    }

    /// Lets the run rest after a pass that kept a processor busy for so long.
    fn rest(&mut self, took: Duration) {
        self.rests = rest_after(took).map(|rest| Instant::now() + rest);
    }
}

fn rest_after(took: Duration) -> Option<Duration> {
    Some((took * REST).min(RESTS.1)).filter(|rest| *rest >= RESTS.0)
}

/// What a kind of run reads and claims besides what its [`Adapter`] decides.
pub trait Engine: Send + Sync + Sized + 'static {
    type Run: Adapter;

    /// The kind of what its runs make in data planes.
    const CHILDREN: Kind;

    /// The other kinds that concern all its runs.
    const FOLLOWED: &'static [Kind];

    /// Waits, for a bounded time, until what a pass reads besides the data planes has been listed.
    fn ready(&self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// What waits for a restore or a purge.
    fn holds(&self, _context: &RunContext, _planes: &[Snapshot], _now: Timestamp) -> Holds {
        Holds::default()
    }

    /// Claims the clusters of what is to be made, and leaves out what must not begin now.
    fn claim(
        &self,
        _context: &RunContext,
        _run: &Self::Run,
        _planes: &[Snapshot],
        actions: Vec<Action>,
    ) -> Vec<(Action, Option<Claim>)> {
        actions.into_iter().map(|action| (action, None)).collect()
    }

    /// Whether a child may be made, by what has to be asked of the data planes in that moment; else what became of the
    /// write: [`Outcome::NotNow`] or [`Outcome::Refused`].
    fn admit(
        &self,
        _run: &Self::Run,
        _action: &Action,
        _remote: &Remote,
    ) -> impl Future<Output = Result<Admitted, Outcome>> + Send {
        async { Ok(Admitted::default()) }
    }

    /// Counts how long it took until every datacenter of a run was begun.
    fn fanned_out(_meters: &Meters, _took: Duration) {}

    /// Goes over a run once: changes the status in the memory, and says when to look again without being woken.
    fn pass(
        runs: &Runs<Self>,
        run: &Self::Run,
        memory: &mut Memory<StatusOf<Self::Run>>,
    ) -> impl Future<Output = Option<Duration>> + Send {
        pass::pass(runs, run, memory)
    }
}

/// All runs of a kind.
pub struct Runs<E: Engine> {
    pub frame: Frame<E::Run>,
    pub in_flight: Arc<InFlightWrites>,
    /// The kind's own part.
    pub engine: Arc<E>,
    /// What is remembered of the runs that go on.
    memories: Mutex<Remembered<String, Memory<StatusOf<E::Run>>>>,
    /// What was last written of them: the watch may still show what was before.
    written: Mutex<Remembered<String, Written<E::Run>>>,
}

/// A hash of a status, by which it is told whether somebody else wrote it.
fn digest(status: Option<&impl Serialize>) -> u64 {
    let mut hasher = DefaultHasher::new();
    status.and_then(|status| serde_json::to_vec(status).ok()).hash(&mut hasher);
    hasher.finish()
}

impl<E: Engine> Runs<E> {
    /// Without any memory of runs.
    #[must_use]
    pub fn new(frame: Frame<E::Run>, engine: E) -> Self {
        Self {
            frame,
            in_flight: Arc::default(),
            engine: Arc::new(engine),
            memories: Mutex::default(),
            written: Mutex::default(),
        }
    }

    /// Where the clusters' backups go, as far as that is published.
    fn buckets(&self) -> Buckets {
        Buckets::of_clusters(self.frame.context.published.clusters.state().iter().map(AsRef::as_ref))
    }

    /// What is known about a run: from its last pass, or from its status when this process has not seen it.
    fn recall(&self, run: &E::Run) -> Memory<StatusOf<E::Run>> {
        let uid = run.uid().unwrap_or_default();
        let remembered = lock(&self.memories).forget(&run.name_any());
        match remembered {
            Some((of, memory)) if of == uid => return memory,
            Some((of, _)) => self.in_flight.forget(&of),
            None => {}
        }
        let status = run.status().cloned().unwrap_or_default();
        Memory {
            uid,
            written: status.clone(),
            stored: digest(run.status()),
            status,
            first_seen: FirstSeen::default(),
            seen: Instant::now(),
            paced: None,
            rests: None,
        }
    }

    fn keep(&self, run: &E::Run, memory: Memory<StatusOf<E::Run>>) {
        let is_over = E::Run::phase(&memory.status).is_some_and(Phase::is_final);
        let (meters, name) = (&self.frame.context.meters, run.name_any());
        if is_over || run.run().is_dry_run() {
            meters.ended(E::Run::KIND, &name);
        } else {
            meters.goes_on(E::Run::KIND, &name, E::Run::progress(&memory.status).counts.unwrap_or_default());
        }
        let uid = memory.uid.clone();
        lock(&self.memories).set(name, &uid, memory);
    }

    /// Calls `then` with what this process last wrote of a run.
    fn written<R>(&self, run: &E::Run, then: impl FnOnce(&mut Written<E::Run>) -> R) -> R {
        let uid = run.uid().unwrap_or_default();
        then(lock(&self.written).entry(run.name_any(), &uid, Written::default))
    }

    /// Writes the status when it says something new and its time has come, and keeps what has to be remembered.
    async fn publish(
        &self,
        run: &E::Run,
        mut memory: Memory<StatusOf<E::Run>>,
        wake: Option<Duration>,
    ) -> Result<Next, AdvanceError> {
        let name = run.name_any();
        let next = |wake: Option<Duration>| wake.map_or_else(Next::await_change, Next::requeue);
        if memory.status == memory.written {
            self.keep(run, memory);
            return Ok(next(wake));
        }
        let is_final = E::Run::phase(&memory.status).is_some_and(Phase::is_final);
        if let Some((at, bytes)) = memory.paced.filter(|_| !is_final) {
            let wait = pace(bytes).saturating_sub(at.elapsed());
            if !wait.is_zero() {
                self.keep(run, memory);
                return Ok(next(Some(wake.map_or(wait, |wake| wake.min(wait)))));
            }
        }
        let (status, bytes) = compact::fit::<E::Run>(&memory.status, compact::BUDGET);
        let context = &self.frame.context;
        match publish(&context.client, run, &status).await {
            Ok(Some(now)) => {
                tell(&context.events, run, &memory.written, &memory.status);
                memory.written = memory.status.clone();
                memory.stored = digest(now.status());
                memory.paced = Some((Instant::now(), bytes));
                self.written(run, |written| written.note(run.resource_version(), &now));
                self.frame.succeeded(&name);
                self.keep(run, memory);
                Ok(next(wake))
            }
            Ok(None) => self.meet(run, memory).await,
            Err(error) => {
                self.keep(run, memory);
                Err(AdvanceError::Publish(error))
            }
        }
    }

    /// The run was changed, or is gone, since its status was decided: it is read, and decided again. Whoever wrote the
    /// status meanwhile is believed: what is over stays over.
    async fn meet(&self, run: &E::Run, mut memory: Memory<StatusOf<E::Run>>) -> Result<Next, AdvanceError> {
        let name = run.name_any();
        let api: Api<E::Run> =
            Api::namespaced(self.frame.context.client.clone(), &self.frame.context.namespace);
        let fresh = match api.get_opt(&name).await {
            Ok(fresh) => fresh.filter(|fresh| fresh.uid() == run.uid()),
            Err(error) => {
                self.keep(run, memory);
                return Err(AdvanceError::Publish(error));
            }
        };
        // Deleted, or deleted and made anew: the next event says which.
        let Some(fresh) = fresh else { return Ok(Next::await_change()) };
        let stored = digest(fresh.status());
        if stored != memory.stored {
            tracing::info!(kind = E::Run::KIND, name, "somebody else wrote the status; it is taken as it is");
            let status = fresh.status().cloned().unwrap_or_default();
            memory = Memory { written: status.clone(), status, stored, ..memory };
        }
        self.written(run, |written| written.note(run.resource_version(), &fresh));
        self.keep(&fresh, memory);
        Ok(Next::requeue(LEAST))
    }
}

impl<E: Engine> Driver for Runs<E> {
    type Run = E::Run;

    fn frame(&self) -> &Frame<E::Run> {
        &self.frame
    }

    const CHILDREN: Option<Kind> = Some(E::CHILDREN);
    const FOLLOWED: &'static [Kind] = E::FOLLOWED;

    async fn look(&self, run: &E::Run) -> Result<Next, AdvanceError> {
        let run = &self.written(run, |written| written.newest(run));
        if run.is_over() {
            return Ok(Next::await_change()); // The watch says so in a moment.
        }
        if run.status().is_none() && !run.run().is_dry_run() {
            let planes = self.frame.context.fleet.snapshot();
            let sections = planes.iter().map(|plane| <E::Run as Fanned>::Child::section(&plane.view));
            let children =
                sections.flat_map(|section| section.last_known().values()).map(|child| child.meta());
            let is_known = |uid: &str| self.frame.knows(uid);
            let taken = take_over(&self.frame.context, run, &planes, OF_RUNS, children, is_known).await;
            if let Some(next) = taken.map_err(AdvanceError::TakeOver)?.next() {
                return Ok(next);
            }
        }
        let mut memory = self.recall(run);
        // One that is decided is written again until that is done.
        let is_decided = E::Run::phase(&memory.status).is_some_and(Phase::is_final);
        let rests = memory.rests.map(|until| until.saturating_duration_since(Instant::now()));
        if let Some(rest) = rests.filter(|rest| !rest.is_zero() && !is_decided) {
            self.keep(run, memory);
            return Ok(Next::requeue(rest));
        }
        let wake = if is_decided { None } else { E::pass(self, run, &mut memory).await };
        self.publish(run, memory, wake.map(|wake| wake.max(LEAST))).await
    }

    async fn look_after(&self, run: &E::Run) -> Result<Next, AdvanceError> {
        let status = run.status().cloned().unwrap_or_default();
        let Some(at) = expiry::expires_at(run, &status) else { return Ok(Next::await_change()) };
        let overdue = self.frame.context.fleet.now().duration_since(at);
        if let Ok(wait @ 1..) = u64::try_from(-overdue.as_millis()) {
            return Ok(Next::requeue(Duration::from_millis(wait)));
        }
        let context = &self.frame.context;
        let planes = context.fleet.snapshot();
        let again = expiry::expire(&context.client, &context.events, run, &status, &planes, overdue).await;
        Ok(again.map_err(AdvanceError::Expire)?.map_or_else(Next::await_change, Next::requeue))
    }

    fn forget(&self, name: &str) {
        self.frame.context.meters.ended(E::Run::KIND, name);
        let name = name.to_owned();
        lock(&self.written).forget(&name);
        let remembered = lock(&self.memories).forget(&name);
        if let Some((uid, _)) = remembered {
            self.in_flight.forget(&uid);
        }
    }
}

#[cfg(test)]
#[path = "again_tests.rs"]
mod tests;
