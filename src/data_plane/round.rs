//! Asking every pod of a run, each in its own time: the calls in flight and the passes over them.
//!
//! Everything a round does in the background lives in its value and moves only while the reconciler looks at
//! it: dropping it closes the connections and forgets the calls. Nothing here may write to the API server, or
//! decide what an answer means: a [`Part`] does.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Debug,
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    context::Tools,
    medusa::Medusa,
    peers::Peers,
    pods::PodView,
    scene::Scene,
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

/// One pod's part in a round. Implementations decide and are pure.
pub trait Part: Send + 'static {
    /// What it can be asked.
    type Question: Send + 'static;
    /// What it can say.
    type Answer: Debug + Send + 'static;

    /// Time has passed, or the pods were listed; `pod` is nothing when it is gone.
    fn look(&mut self, pod: Option<&PodView>, started: Timestamp, timings: &Timings, now: Timestamp);

    /// What it needs now. It is not asked for while a call is under way.
    fn need(&self, pod: Option<&PodView>, timings: &Timings, now: Timestamp) -> Need<Self::Question>;

    /// It was asked at `asked` and has answered.
    fn learn(
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
pub struct Round<P: Part> {
    /// Each pod's part, by its name.
    pub parts: BTreeMap<String, P>,
    /// The datacenter, its pods and their Medusas.
    pub peers: Peers,
    /// When the run began.
    pub started: Timestamp,
    calls: FuturesUnordered<BoxFuture<'static, (String, Timestamp, P::Answer)>>,
    busy: HashSet<String>,
    limit: usize,
}

impl<P: Part> Round<P> {
    /// A round without parts, in which at most `limit` calls are under way at a time, one for each pod.
    #[must_use]
    pub fn new(scene: Scene, started: Timestamp, limit: usize, now: Timestamp) -> Self {
        Self {
            parts: BTreeMap::new(),
            peers: Peers::new(scene, now),
            started,
            calls: FuturesUnordered::new(),
            busy: HashSet::new(),
            limit,
        }
    }

    /// Forgets the calls under way. What they asked for may still be carried out.
    pub fn hang_up(&mut self) {
        self.calls = FuturesUnordered::new();
        self.busy.clear();
    }

    /// Whether nobody is being asked.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty()
    }

    /// Whether every part is decided.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.parts.values().all(P::is_decided)
    }

    /// Asks the pods, with `call`, for at most one pass's time. Returns how long to wait for the next pass,
    /// or nothing once the round `is_over`.
    pub async fn gather(
        &mut self,
        tools: &Tools,
        call: impl Fn(&str, Arc<Medusa>, P::Question) -> BoxFuture<'static, P::Answer>,
        is_over: impl Fn(&Self) -> bool,
    ) -> Option<Duration> {
        // Calls left over from an earlier pass are slow ones: they are looked after, not waited for.
        let pass = if self.calls.is_empty() { tools.timings.pass } else { tools.timings.pass / 10 };
        let end = Instant::now() + pass;
        loop {
            let now = tools.clock.now();
            if self.parts.values().any(P::is_in_doubt) && since(self.peers.listed, now) >= tools.timings.pods
            {
                self.peers.look(tools).await;
            }
            let wake = self.advance(tools, &call, tools.clock.now());
            if is_over(self) {
                return None;
            }
            let pause = wake.map_or(tools.timings.pass, |at| since(now, at));
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || (self.calls.is_empty() && pause > left) {
                return Some(if self.calls.is_empty() { pause } else { pause.min(LOOK_AGAIN) });
            }
            tokio::select! {
                Some((pod, asked, answer)) = self.calls.next(), if !self.calls.is_empty() => {
                    self.hear(tools, &pod, asked, answer).await;
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
        for (name, part) in &mut self.parts {
            let pod = self.peers.pods.get(name);
            part.look(pod, self.started, &tools.timings, now);
            if self.busy.contains(name) {
                continue;
            }
            match part.need(pod, &tools.timings, now) {
                Need::Nothing => {}
                Need::Wait(until) => wake = Some(wake.map_or(until, |w| w.min(until))),
                Need::Call(question) => due.push((name.clone(), question)),
            }
        }
        for (pod, question) in due {
            if self.calls.len() >= self.limit {
                break;
            }
            let Some(medusa) = self.peers.medusa(&pod) else { continue };
            self.busy.insert(pod.clone());
            let answer = call(&pod, medusa, question);
            self.calls.push(Box::pin(async move { (pod, now, answer.await) }));
        }
        wake
    }

    async fn hear(&mut self, tools: &Tools, pod: &str, asked: Timestamp, answer: P::Answer) {
        self.busy.remove(pod);
        let now = tools.clock.now();
        let namespace = self.peers.datacenter.metadata.namespace.as_deref();
        tracing::debug!(namespace, pod, ?answer, "answer");
        if P::is_surprising(&answer) && since(self.peers.listed, now) >= tools.timings.pass {
            self.peers.look(tools).await;
        }
        if let Some(part) = self.parts.get_mut(pod) {
            part.learn(answer, asked, self.peers.pods.get(pod), self.started, &tools.timings, now);
        }
    }
}
