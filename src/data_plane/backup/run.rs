//! A run under way: its nodes, its connections and the calls in flight.
//!
//! Everything a run does in the background lives in this value and moves only while the reconciler looks at
//! it: dropping it closes the connections and forgets the calls. Nothing here may write to the API server.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use tokio::time::Instant;

use super::closing::Closing;
use crate::{
    api::medusa::{BackupType, MedusaBackupJob, MedusaBackupJobStatus},
    data_plane::{
        context::Tools,
        machine::{Answer, Node, Step, Verdict},
        medusa::Medusa,
        peers::Peers,
        scene::Scene,
        timings::since,
    },
    runtime::clock,
};

/// Most calls one run has in flight. Each node has at most one.
const MAX_CALLS: usize = 64;
/// Pause before a pass that only looks whether calls have been answered.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// One run of one job, in memory.
pub struct Run {
    /// The backup's name, which is the job's.
    pub name: String,
    /// The job's namespace.
    pub namespace: String,
    /// The datacenter, its pods and their Medusas.
    pub peers: Peers,
    /// `status.startTime`.
    pub started: Timestamp,
    /// The status as last written or read.
    pub status: MedusaBackupJobStatus,
    /// The version that status has.
    pub resource_version: String,
    /// When the status was last written.
    pub written: Timestamp,
    /// Every node of the run, by pod name.
    pub nodes: BTreeMap<String, Node>,
    /// The end of a run whose nodes all succeeded.
    pub closing: Closing,
    kind: BackupType,
    calls: FuturesUnordered<BoxFuture<'static, (String, Timestamp, Answer)>>,
    busy: HashSet<String>,
}

impl Run {
    /// The run of `job`, whose status holds a start time. `claimed` says that this process has just put it
    /// there, so that no node was asked yet.
    #[must_use]
    pub fn new(job: &MedusaBackupJob, scene: Scene, claimed: bool, now: Timestamp) -> Self {
        let status = job.status.clone().unwrap_or_default();
        let mut run = Self {
            name: job.metadata.name.clone().unwrap_or_default(),
            namespace: job.metadata.namespace.clone().unwrap_or_default(),
            peers: Peers::new(scene, now),
            started: status.start_time.as_ref().map_or(now, |t| t.0),
            status,
            resource_version: job.metadata.resource_version.clone().unwrap_or_default(),
            written: now,
            nodes: BTreeMap::new(),
            closing: Closing::default(),
            kind: job.spec.backup_type,
            calls: FuturesUnordered::new(),
            busy: HashSet::new(),
        };
        run.adopt_lists(claimed, now);
        run
    }

    /// Makes nodes of the status's lists. A job with a start time and no lists at all was left behind by a
    /// controller that writes them later: all pods are in it.
    fn adopt_lists(&mut self, claimed: bool, now: Timestamp) {
        let status = &self.status;
        let all: Vec<&String> =
            if status.in_progress.is_empty() && status.finished.is_empty() && status.failed.is_empty() {
                self.peers.pods.keys().collect()
            } else {
                status.in_progress.iter().collect()
            };
        for pod in all {
            let node = if claimed {
                Node::claimed(pod, now)
            } else {
                Node::resumed(pod, self.peers.pods.get(pod), now)
            };
            self.nodes.insert(pod.clone(), node);
        }
        self.adopt_decisions(now);
    }

    /// Takes over what the object already says is decided, by whoever wrote it.
    pub fn adopt_decisions(&mut self, now: Timestamp) {
        for pod in &self.status.finished {
            self.nodes.insert(pod.clone(), Node::decided(pod, Verdict::Finished, now));
        }
        for pod in &self.status.failed {
            let known = self.nodes.get(pod).is_some_and(|n| matches!(n.verdict, Some(Verdict::Failed(..))));
            if !known {
                let why = "reported as failed before this controller took the job over".to_owned();
                let verdict = Verdict::Failed(crate::api::Reason::NodesFailed, why);
                self.nodes.insert(pod.clone(), Node::decided(pod, verdict, now));
            }
        }
    }

    /// Whether every node is decided.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.nodes.values().all(|n| n.verdict.is_some())
    }

    /// Whether a node failed.
    #[must_use]
    pub fn has_failures(&self) -> bool {
        self.nodes.values().any(|n| matches!(n.verdict, Some(Verdict::Failed(..))))
    }

    /// The nodes' Medusas in order of their names, for questions any of them can answer.
    #[must_use]
    pub fn medusas(&mut self, tools: &Tools) -> Vec<Arc<Medusa>> {
        let Self { nodes, peers, .. } = self;
        nodes.keys().filter_map(|pod| peers.medusa(tools, pod)).collect()
    }

    /// Asks the nodes for at most one pass's time. Returns how long to wait for the next pass, or nothing
    /// once every node is decided.
    pub async fn gather(&mut self, tools: &Tools) -> Option<Duration> {
        // Calls left over from an earlier pass are slow ones: they are looked after, not waited for.
        let pass = if self.calls.is_empty() { tools.timings.pass } else { tools.timings.pass / 10 };
        let end = Instant::now() + pass;
        loop {
            let now = clock::now();
            if self.nodes.values().any(Node::is_in_doubt)
                && since(self.peers.listed, now) >= tools.timings.pods
            {
                self.peers.look(tools).await;
            }
            let wake = self.advance(tools, clock::now());
            if self.is_decided() {
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
    fn advance(&mut self, tools: &Tools, now: Timestamp) -> Option<Timestamp> {
        let mut wake: Option<Timestamp> = None;
        let mut due = Vec::new();
        for (pod, node) in &mut self.nodes {
            let view = self.peers.pods.get(pod);
            node.look(view, self.started, &tools.timings, now);
            if self.busy.contains(pod) {
                continue;
            }
            match node.step(view, &tools.timings, now) {
                Step::Decided => {}
                Step::Wait(until) => wake = Some(wake.map_or(until, |w| w.min(until))),
                step @ (Step::Ask | Step::Send) => due.push((pod.clone(), step)),
            }
        }
        for (pod, step) in due {
            if self.calls.len() >= MAX_CALLS {
                break;
            }
            let Some(medusa) = self.peers.medusa(tools, &pod) else { continue };
            let (backup, kind) = (self.name.clone(), self.kind);
            self.busy.insert(pod.clone());
            self.calls.push(Box::pin(async move {
                let answer = if step == Step::Send {
                    medusa.start(&backup, kind).await
                } else {
                    medusa.backup_status(&backup).await
                };
                (pod, now, answer)
            }));
        }
        wake
    }

    async fn hear(&mut self, tools: &Tools, pod: &str, asked: Timestamp, answer: Answer) {
        self.busy.remove(pod);
        let now = clock::now();
        tracing::debug!(namespace = self.namespace, backup = self.name, pod, ?answer, "answer");
        // Whether a node failed or was restarted stands in its pod.
        if matches!(answer, Answer::Failed { .. }) && since(self.peers.listed, now) >= tools.timings.pass {
            self.peers.look(tools).await;
        }
        if let Some(node) = self.nodes.get_mut(pod) {
            node.learn(answer, asked, self.peers.pods.get(pod), self.started, &tools.timings, now);
        }
    }
}
