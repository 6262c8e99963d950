//! A run under way: its nodes and what they are asked.
//!
//! Nothing here may write to the API server.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;

use super::{
    closing::Closing,
    node::{Node, Question, Verdict},
};
use crate::{
    api::medusa::{BackupType, MedusaBackupJob, MedusaBackupJobStatus},
    data_plane::{
        frame::{
            context::Tools,
            lifecycle::{PodsStatus as _, Stored, stored},
        },
        medusa::{
            calls::PodCalls,
            client::{Answer, Medusa},
            inputs::Inputs,
        },
    },
};

/// Most calls one run has in flight. Each node has at most one.
const MAX_CALLS: usize = 64;

/// One run of one job, in memory.
pub struct BackupRun {
    /// The backup's name, which is the job's.
    pub name: String,
    /// Every node of the run, by pod name, and what they are asked.
    pub calls: PodCalls<Node>,
    /// What stands in the job.
    pub stored: Stored<MedusaBackupJobStatus>,
    /// How large the backup is, once it is whole.
    pub size: i64,
    /// The end of a run whose nodes all succeeded.
    pub closing: Closing,
    kind: BackupType,
}

impl BackupRun {
    /// The run of `job`, whose status holds a start time. `claimed` says that this process has just put it
    /// there, so that no node was asked yet.
    #[must_use]
    pub fn new(job: &MedusaBackupJob, inputs: Inputs, claimed: bool, now: Timestamp) -> Self {
        let stored = stored::<Self>(job, now);
        let started = stored.status.start_time.as_ref().map_or(now, |time| time.0);
        let mut run = Self {
            name: job.metadata.name.clone().unwrap_or_default(),
            calls: PodCalls::new(inputs, started, MAX_CALLS, now),
            stored,
            size: 0,
            closing: Closing::default(),
            kind: job.spec.backup_type,
        };
        run.adopt_lists(claimed, now);
        run
    }

    /// Makes nodes of the status's lists. A job with a start time and no lists at all was left behind by a
    /// controller that writes them later: all pods are in it.
    fn adopt_lists(&mut self, claimed: bool, now: Timestamp) {
        let status = &self.stored.status;
        let all: Vec<&String> = if status.counts().total() == 0 {
            self.calls.medusas.pods.keys().collect()
        } else {
            status.in_progress.iter().collect()
        };
        for pod in all {
            let node = if claimed {
                Node::claimed(pod, now)
            } else {
                Node::resumed(pod, self.calls.medusas.pods.get(pod), now)
            };
            self.calls.states.insert(pod.clone(), node);
        }
        self.adopt_decisions(now);
    }

    /// Takes over what the object already says is decided, by whoever wrote it.
    pub fn adopt_decisions(&mut self, now: Timestamp) {
        for pod in &self.stored.status.finished {
            self.calls.states.insert(pod.clone(), Node::decided(pod, Verdict::Finished, now));
        }
        for pod in &self.stored.status.failed {
            let known =
                self.calls.states.get(pod).is_some_and(|n| matches!(n.verdict, Some(Verdict::Failed(..))));
            if !known {
                let why = "reported as failed before this controller took the job over".to_owned();
                let verdict = Verdict::Failed(crate::api::Reason::NodesFailed, why);
                self.calls.states.insert(pod.clone(), Node::decided(pod, verdict, now));
            }
        }
    }

    /// The nodes' Medusas in order of their names, for questions any of them can answer.
    #[must_use]
    pub fn medusas(&mut self) -> Vec<Arc<Medusa>> {
        let PodCalls { states, medusas, .. } = &mut self.calls;
        states.keys().filter_map(|pod| medusas.medusa(pod)).collect()
    }

    /// Asks the nodes for at most one pass's time. Returns how long to wait for the next pass, or nothing
    /// once every node is decided.
    pub async fn gather(&mut self, tools: &Tools) -> Option<Duration> {
        let (backup, kind) = (&self.name, self.kind);
        let call = |_: &str, medusa: Arc<Medusa>, question: Question| -> BoxFuture<'static, Answer> {
            let backup = backup.clone();
            Box::pin(async move {
                if question == Question::Start {
                    medusa.start(&backup, kind).await
                } else {
                    medusa.backup_status(&backup).await
                }
            })
        };
        self.calls.gather(tools, call, PodCalls::is_decided).await
    }
}
