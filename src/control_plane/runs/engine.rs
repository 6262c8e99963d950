//! Runs with one child per datacenter: what is remembered of each between two passes, when its status is written, what
//! becomes of it after its end. What a pass does is the kind's own.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use kube::{ResourceExt as _, core::object::HasStatus, runtime::controller::Action as Next};
use tokio::{task::JoinHandle, time::Instant};

use super::{
    compact,
    controller::{About, Driver, Frame, RunError},
    desk::{Desk, Key, Outcome, UnderWay},
    expiry,
    kind::{Fanned, Run},
    lock,
    publish::{pace, publish},
    telling::tell,
};
use crate::{api::fleet::Phase, control_plane::fleet::Change, runtime::clock};

/// Since when a child has been seen finished, or has been missing, by our own clock: the data planes' clocks may
/// differ from it.
pub type Noted = HashMap<Key, Timestamp>;

/// How long a run waits for what its selector does not find: a watch that broke starts anew within two seconds.
const SETTLES: Duration = Duration::from_secs(5);

/// Least pause between two looks: a moment that has come is acted on by the next one, not in a loop.
const LEAST: Duration = Duration::from_millis(200);

/// The status of a kind.
type StatusOf<K> = <K as HasStatus>::Status;

/// What is remembered of a run between two passes.
#[derive(Clone, Debug)]
pub struct Memory<S> {
    /// Uid of the run.
    pub uid: String,
    /// The status as it is, written or not.
    pub status: S,
    /// Children that were seen finished, or missing, and since when.
    pub noted: Noted,
    /// When this control plane saw it first.
    seen: Instant,
    /// The status as it was last written.
    written: S,
    /// When that was, and its size.
    paced: Option<(Instant, usize)>,
}

impl<S> Memory<S> {
    /// How long what its selector does not find may still be on its way here. A datacenter that was made a moment before
    /// the run, in another cluster, is brought by another watch, and that may just be starting anew.
    pub fn settles_in(&self) -> Option<Duration> {
        SETTLES.checked_sub(self.seen.elapsed())
    }
}

/// What a run's Events say.
pub struct Words {
    /// What it does, in one word.
    pub action: &'static str,
    /// What it begins with, before the number of datacenters; nothing is said when there is none.
    pub begun: Option<&'static str>,
}

/// A kind's own part.
pub trait Engine: Send + Sync + Sized + 'static {
    /// The kind.
    type Run: Fanned;
    /// What becomes of its writes.
    type Outcome: Outcome;

    /// Which runs a change in a data plane is about.
    fn about(change: Change) -> About;

    /// What Events say of a run.
    fn words(run: &Self::Run) -> Words;

    /// Goes over a run once: changes the status in the memory, and says when to look again without being woken.
    fn pass(
        runs: &Runs<Self>,
        run: &Self::Run,
        memory: &mut Memory<StatusOf<Self::Run>>,
    ) -> impl Future<Output = Option<Duration>> + Send;
}

/// All runs of a kind.
pub struct Runs<E: Engine> {
    /// What they work in.
    pub frame: Frame<E::Run>,
    /// Their writes.
    pub desk: Arc<Desk<E::Outcome>>,
    /// The kind's own part.
    pub engine: E,
    /// What is remembered of the runs that go on, by name.
    memories: Mutex<BTreeMap<String, Memory<StatusOf<E::Run>>>>,
}

impl<E: Engine> Runs<E> {
    /// Nothing is remembered yet.
    #[must_use]
    pub fn new(frame: Frame<E::Run>, engine: E) -> Self {
        Self { frame, desk: Arc::default(), engine, memories: Mutex::default() }
    }

    /// Begins writes for a run. Each wakes it when it is done.
    pub fn begin<F>(
        &self,
        run: &E::Run,
        writes: impl IntoIterator<Item = (UnderWay, F)>,
    ) -> Vec<JoinHandle<()>>
    where
        F: Future<Output = E::Outcome> + Send + 'static,
    {
        let name = run.name_any();
        self.desk.begin(writes, || {
            let (waker, name) = (self.frame.waker.clone(), name.clone());
            async move { waker.wake(&name).await }
        })
    }

    /// What is known about a run: from its last pass, or from its status when this process has not seen it.
    fn recall(&self, run: &E::Run) -> Memory<StatusOf<E::Run>> {
        let uid = run.uid().unwrap_or_default();
        let remembered = lock(&self.memories).remove(&run.name_any());
        remembered.filter(|memory| memory.uid == uid).unwrap_or_else(|| {
            let status = run.status().cloned().unwrap_or_default();
            Memory {
                uid,
                written: status.clone(),
                status,
                noted: Noted::new(),
                seen: Instant::now(),
                paced: None,
            }
        })
    }

    fn keep(&self, run: &E::Run, memory: Memory<StatusOf<E::Run>>) {
        let is_over = E::Run::phase(&memory.status).is_some_and(Phase::is_final);
        let (meters, name) = (&self.frame.context.meters, run.name_any());
        if is_over || run.is_dry_run() {
            meters.ended(E::Run::KIND, &name);
        } else {
            meters.goes_on(E::Run::KIND, &name, E::Run::counts(&memory.status));
        }
        lock(&self.memories).insert(name, memory);
    }

    /// Writes the status when it says something new and its time has come, and keeps what has to be remembered.
    async fn publish(
        &self,
        run: &E::Run,
        mut memory: Memory<StatusOf<E::Run>>,
        wake: Option<Duration>,
    ) -> Result<Next, RunError> {
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
        let written = publish(&context.client, run, None, &status).await;
        if matches!(written, Ok(true)) {
            let words = E::words(run);
            tell(&context.events, run, words.action, words.begun, &memory.written, &memory.status);
            memory.written = memory.status.clone();
            memory.paced = Some((Instant::now(), bytes));
            self.frame.succeeded(&name);
        }
        // Deleted, or deleted and made anew, while it was written: the next event says which.
        if !matches!(written, Ok(false)) {
            self.keep(run, memory);
        }
        written.map(|_| next(wake)).map_err(RunError::Publish)
    }
}

impl<E: Engine> Driver for Runs<E> {
    type Run = E::Run;

    fn frame(&self) -> &Frame<E::Run> {
        &self.frame
    }

    fn about(change: Change) -> About {
        E::about(change)
    }

    async fn look(&self, run: &E::Run) -> Result<Next, RunError> {
        let mut memory = self.recall(run);
        // One that is decided is written again until that is done.
        let is_decided = E::Run::phase(&memory.status).is_some_and(Phase::is_final);
        let wake = if is_decided { None } else { E::pass(self, run, &mut memory).await };
        self.publish(run, memory, wake.map(|wake| wake.max(LEAST))).await
    }

    async fn look_after(&self, run: &E::Run) -> Result<Next, RunError> {
        let status = run.status().cloned().unwrap_or_default();
        let Some(at) = expiry::expires_at(run, &status) else { return Ok(Next::await_change()) };
        let overdue = clock::now().duration_since(at);
        if let Ok(wait @ 1..) = u64::try_from(-overdue.as_millis()) {
            return Ok(Next::requeue(Duration::from_millis(wait)));
        }
        let context = &self.frame.context;
        let planes = context.fleet.snapshot();
        let again = expiry::expire(&context.client, &context.events, run, &status, &planes, overdue).await;
        Ok(again.map_err(RunError::Expire)?.map_or_else(Next::await_change, Next::requeue))
    }

    fn forget(&self, name: &str) {
        self.frame.context.meters.ended(E::Run::KIND, name);
        let memory = lock(&self.memories).remove(name);
        if let Some(memory) = memory {
            self.desk.forget(&memory.uid);
        }
    }
}
