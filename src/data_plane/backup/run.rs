//! A run under way: its nodes and what they are asked.
//!
//! Nothing here may write to the API server.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;

use super::closing::Closing;
use crate::{
    api::medusa::{BackupType, MedusaBackupJob, MedusaBackupJobStatus},
    data_plane::{
        context::Tools,
        machine::{Answer, Node, Step, Verdict},
        medusa::Medusa,
        pods::PodView,
        round::{Need, Part, Round},
        scene::Scene,
        timings::Timings,
    },
};

/// Most calls one run has in flight. Each node has at most one.
const MAX_CALLS: usize = 64;

/// One run of one job, in memory.
pub struct Run {
    /// The backup's name, which is the job's.
    pub name: String,
    /// Every node of the run, by pod name, and what they are asked.
    pub round: Round<Node>,
    /// The status as last written or read.
    pub status: MedusaBackupJobStatus,
    /// The version that status has.
    pub resource_version: String,
    /// When the status was last written.
    pub written: Timestamp,
    /// The end of a run whose nodes all succeeded.
    pub closing: Closing,
    kind: BackupType,
}

impl Run {
    /// The run of `job`, whose status holds a start time. `claimed` says that this process has just put it
    /// there, so that no node was asked yet.
    #[must_use]
    pub fn new(job: &MedusaBackupJob, scene: Scene, claimed: bool, now: Timestamp) -> Self {
        let status = job.status.clone().unwrap_or_default();
        let mut run = Self {
            name: job.metadata.name.clone().unwrap_or_default(),
            round: Round::new(scene, status.start_time.as_ref().map_or(now, |t| t.0), MAX_CALLS, now),
            status,
            resource_version: job.metadata.resource_version.clone().unwrap_or_default(),
            written: now,
            closing: Closing::default(),
            kind: job.spec.backup_type,
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
                self.round.peers.pods.keys().collect()
            } else {
                status.in_progress.iter().collect()
            };
        for pod in all {
            let node = if claimed {
                Node::claimed(pod, now)
            } else {
                Node::resumed(pod, self.round.peers.pods.get(pod), now)
            };
            self.round.parts.insert(pod.clone(), node);
        }
        self.adopt_decisions(now);
    }

    /// Takes over what the object already says is decided, by whoever wrote it.
    pub fn adopt_decisions(&mut self, now: Timestamp) {
        for pod in &self.status.finished {
            self.round.parts.insert(pod.clone(), Node::decided(pod, Verdict::Finished, now));
        }
        for pod in &self.status.failed {
            let known =
                self.round.parts.get(pod).is_some_and(|n| matches!(n.verdict, Some(Verdict::Failed(..))));
            if !known {
                let why = "reported as failed before this controller took the job over".to_owned();
                let verdict = Verdict::Failed(crate::api::Reason::NodesFailed, why);
                self.round.parts.insert(pod.clone(), Node::decided(pod, verdict, now));
            }
        }
    }

    /// Whether a node failed.
    #[must_use]
    pub fn has_failures(&self) -> bool {
        self.round.parts.values().any(|n| matches!(n.verdict, Some(Verdict::Failed(..))))
    }

    /// The nodes' Medusas in order of their names, for questions any of them can answer.
    #[must_use]
    pub fn medusas(&mut self) -> Vec<Arc<Medusa>> {
        let Round { parts, peers, .. } = &mut self.round;
        parts.keys().filter_map(|pod| peers.medusa(pod)).collect()
    }

    /// Asks the nodes for at most one pass's time. Returns how long to wait for the next pass, or nothing
    /// once every node is decided.
    pub async fn gather(&mut self, tools: &Tools) -> Option<Duration> {
        let (backup, kind) = (&self.name, self.kind);
        let call = |_: &str, medusa: Arc<Medusa>, question: Step| -> BoxFuture<'static, Answer> {
            let backup = backup.clone();
            Box::pin(async move {
                if question == Step::Send {
                    medusa.start(&backup, kind).await
                } else {
                    medusa.backup_status(&backup).await
                }
            })
        };
        self.round.gather(tools, call, Round::is_decided).await
    }
}

impl Part for Node {
    type Question = Step;
    type Answer = Answer;

    fn look(&mut self, pod: Option<&PodView>, started: Timestamp, timings: &Timings, now: Timestamp) {
        self.look(pod, started, timings, now);
    }

    fn need(&self, pod: Option<&PodView>, timings: &Timings, now: Timestamp) -> Need<Step> {
        match self.step(pod, timings, now) {
            Step::Decided => Need::Nothing,
            Step::Wait(until) => Need::Wait(until),
            step @ (Step::Ask | Step::Send) => Need::Call(step),
        }
    }

    fn learn(
        &mut self,
        answer: Answer,
        asked: Timestamp,
        pod: Option<&PodView>,
        started: Timestamp,
        timings: &Timings,
        now: Timestamp,
    ) {
        self.learn(answer, asked, pod, started, timings, now);
    }

    fn is_decided(&self) -> bool {
        self.verdict.is_some()
    }

    fn is_in_doubt(&self) -> bool {
        self.is_in_doubt()
    }

    /// Whether a node failed or was restarted stands in its pod.
    fn is_surprising(answer: &Answer) -> bool {
        matches!(answer, Answer::Failed { .. })
    }
}
