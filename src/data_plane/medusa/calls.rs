//! Asking every pod of a run, each in its own time: the calls in flight and the passes over them.
//!
//! Everything that goes on in the background lives in the value of [`PodCalls`] and moves only while the reconciler looks at
//! it: dropping it closes the connections and forgets the calls. Nothing here may write to the API server, or
//! decide what an answer means: a [`PodState`] does.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Debug,
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use tokio::time::Instant;

use super::{client::Medusa, inputs::Inputs, medusa_pods::MedusaPods, pods::PodView};
use crate::data_plane::frame::{
    context::Tools,
    timings::{Timings, since},
};

/// Pause before a pass that only looks whether calls have been answered.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What one pod needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need<Q> {
    /// An answer to this.
    Call(Q),
    /// Nothing before this time.
    Wait(Timestamp),
    /// Nothing any more.
    Nothing,
}

/// What is known of one pod of a run, and what it needs. Implementations decide and are pure.
pub trait PodState: Send + 'static {
    /// What it can be asked.
    type Question: Send + 'static;
    /// What it can say.
    type Answer: Debug + Send + 'static;

    /// Time has passed, or the pods were listed; `pod` is nothing when it is gone.
    fn on_time(&mut self, pod: Option<&PodView>, started: Timestamp, timings: &Timings, now: Timestamp);

    /// What it needs now. It is not asked for while a call is under way.
    fn need(&self, pod: Option<&PodView>, timings: &Timings, now: Timestamp) -> Need<Self::Question>;

    /// It was asked at `asked` and has answered.
    fn on_answer(
        &mut self,
        answer: Self::Answer,
        asked: Timestamp,
        pod: Option<&PodView>,
        started: Timestamp,
        timings: &Timings,
        now: Timestamp,
    );

    /// Whether nothing will change any more.
    fn is_decided(&self) -> bool;

    /// Whether another look at the pods may explain what it says.
    fn is_in_doubt(&self) -> bool;

    /// Whether the pods should be looked at before this answer is judged.
    fn is_surprising(answer: &Self::Answer) -> bool {
        let _ = answer;
        false
    }
}

/// A run over the pods of one datacenter, in memory.
pub struct PodCalls<P: PodState> {
    /// What is known of each pod, by its name.
    pub states: BTreeMap<String, P>,
    /// The datacenter, its pods and their Medusas.
    pub medusas: MedusaPods,
    /// When the run began.
    pub started: Timestamp,
    in_flight: FuturesUnordered<BoxFuture<'static, (String, Timestamp, P::Answer)>>,
    busy: HashSet<String>,
    limit: usize,
}

impl<P: PodState> PodCalls<P> {
    /// Nobody is asked yet. At most `limit` calls are under way at a time, one for each pod.
    #[must_use]
    pub fn new(inputs: Inputs, started: Timestamp, limit: usize, now: Timestamp) -> Self {
        Self {
            states: BTreeMap::new(),
            medusas: MedusaPods::new(inputs, now),
            started,
            in_flight: FuturesUnordered::new(),
            busy: HashSet::new(),
            limit,
        }
    }

    /// Drops the calls under way and forgets whom they asked. Medusa may still carry out what they asked for.
    pub fn hang_up(&mut self) {
        self.in_flight = FuturesUnordered::new();
        self.busy.clear();
    }

    /// Whether nobody is being asked.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Whether every pod is decided.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.states.values().all(P::is_decided)
    }

    /// Asks the pods, with `call`, for at most one pass's time. Returns how long to wait for the next pass,
    /// or nothing once it `is_over`.
    pub async fn gather(
        &mut self,
        tools: &Tools,
        call: impl Fn(&str, Arc<Medusa>, P::Question) -> BoxFuture<'static, P::Answer>,
        is_over: impl Fn(&Self) -> bool,
    ) -> Option<Duration> {
        // Calls left over from an earlier pass are slow ones: a short look at them is enough, and the worker is free again.
        let pass = if self.in_flight.is_empty() { tools.timings.pass } else { tools.timings.pass / 10 };
        let end = Instant::now() + pass;
        loop {
            let now = tools.clock.now();
            if self.states.values().any(P::is_in_doubt)
                && since(self.medusas.listed, now) >= tools.timings.pods
            {
                self.medusas.look(tools).await;
            }
            let wake = self.advance(tools, &call, tools.clock.now());
            if is_over(self) {
                return None;
            }
            let pause = wake.map_or(tools.timings.pass, |at| since(now, at));
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || (self.in_flight.is_empty() && pause > left) {
                return Some(if self.in_flight.is_empty() { pause } else { pause.min(LOOK_AGAIN) });
            }
            tokio::select! {
                Some((pod, asked, answer)) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    self.take_answer(tools, &pod, asked, answer).await;
                }
                () = tokio::time::sleep(pause.min(left)) => {}
            }
        }
    }

    /// Starts every call that is due and returns when the next one will be.
    fn advance(
        &mut self,
        tools: &Tools,
        call: impl Fn(&str, Arc<Medusa>, P::Question) -> BoxFuture<'static, P::Answer>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let mut wake: Option<Timestamp> = None;
        let mut due = Vec::new();
        for (name, state) in &mut self.states {
            let pod = self.medusas.pods.get(name);
            state.on_time(pod, self.started, &tools.timings, now);
            if self.busy.contains(name) {
                continue;
            }
            match state.need(pod, &tools.timings, now) {
                Need::Nothing => {}
                Need::Wait(until) => wake = Some(wake.map_or(until, |w| w.min(until))),
                Need::Call(question) => due.push((name.clone(), question)),
            }
        }
        for (pod, question) in due {
            if self.in_flight.len() >= self.limit {
                break;
            }
            let Some(medusa) = self.medusas.medusa(&pod) else { continue };
            self.busy.insert(pod.clone());
            let answer = call(&pod, medusa, question);
            self.in_flight.push(Box::pin(async move { (pod, now, answer.await) }));
        }
        wake
    }

    async fn take_answer(&mut self, tools: &Tools, pod: &str, asked: Timestamp, answer: P::Answer) {
        self.busy.remove(pod);
        let now = tools.clock.now();
        let namespace = self.medusas.datacenter.metadata.namespace.as_deref();
        tracing::debug!(namespace, pod, ?answer, "Medusa answered");
        if P::is_surprising(&answer) && since(self.medusas.listed, now) >= tools.timings.pass {
            self.medusas.look(tools).await;
        }
        if let Some(state) = self.states.get_mut(pod) {
            state.on_answer(answer, asked, self.medusas.pods.get(pod), self.started, &tools.timings, now);
        }
    }
}
