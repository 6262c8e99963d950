//! What is kept of those objects of a data plane that are not kept as they are: there may be many of them, or a Secret in
//! them. Pure; it must not decide anything by what they say.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use crate::api::{
    Conditions as _,
    medusa::{MedusaBackup, MedusaBackupJob, MedusaTask},
};

/// What is kept of a MedusaBackup. Tokens are dropped: they are most of its size and no decision
/// here needs them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRecord {
    /// Name of the CassandraDatacenter object.
    pub datacenter: String,
    /// When the object was made.
    pub created: Option<Timestamp>,
    /// Medusa's status word; empty when the object has no status.
    pub status: String,
    /// When it started.
    pub start_time: Option<Timestamp>,
    /// When it finished.
    pub finish_time: Option<Timestamp>,
    /// Nodes of the datacenter at the time.
    pub total_nodes: i64,
    /// Nodes in the backup.
    pub finished_nodes: i64,
    /// Objects stored.
    pub files: Option<i64>,
    /// Bytes stored, as exact as upstream's human size allows.
    pub size_bytes: Option<i64>,
    /// Cassandra's datacenter names of its nodes.
    pub node_datacenters: Vec<String>,
    /// Number of nodes per rack.
    pub racks: BTreeMap<String, i64>,
    /// What its nodes' StatefulSets are called, each once; empty where a node is not called after a pod.
    pub stateful_sets: Vec<String>,
}

impl From<&MedusaBackup> for BackupRecord {
    fn from(backup: &MedusaBackup) -> Self {
        let status = backup.status.clone().unwrap_or_default();
        let mut node_datacenters: Vec<String> =
            status.nodes.iter().filter_map(|n| n.datacenter.clone()).collect();
        node_datacenters.sort();
        node_datacenters.dedup();
        let mut racks = BTreeMap::new();
        for node in &status.nodes {
            *racks.entry(node.rack.clone().unwrap_or_default()).or_insert(0) += 1;
        }
        let set = |host: &str| host.split_once("-sts-").map(|(set, _)| set.to_owned());
        let sets: Option<BTreeSet<String>> =
            status.nodes.iter().map(|node| set(node.host.as_deref().unwrap_or_default())).collect();
        let instant = |time: &Option<Time>| time.as_ref().map(|t| t.0);
        Self {
            datacenter: backup.spec.cassandra_datacenter.clone(),
            created: instant(&backup.metadata.creation_timestamp),
            status: status.status.unwrap_or_default(),
            start_time: instant(&status.start_time),
            finish_time: instant(&status.finish_time),
            // Somebody may have written a negative count, which the definitions of our own statuses refuse.
            total_nodes: i64::from(status.total_nodes.unwrap_or(0)).max(0),
            finished_nodes: i64::from(status.finished_nodes.unwrap_or(0)).max(0),
            files: status.total_files.map(|files| files.max(0)),
            size_bytes: status.total_size.as_deref().and_then(crate::api::size::parse),
            node_datacenters,
            racks,
            stateful_sets: sets.unwrap_or_default().into_iter().collect(),
        }
    }
}

/// What is kept of a run of a delegated schedule, a MedusaBackupJob or a MedusaTask: there may be thousands that are
/// over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Its uid.
    pub uid: String,
    /// Name of its CassandraDatacenter object.
    pub datacenter: String,
    /// When it ended.
    pub finish_time: Option<Timestamp>,
    /// Why it did not go well, once it has ended; a MedusaBackupJob without may still lack its MedusaBackup.
    pub failure: Option<String>,
    /// Whether it is being deleted: nobody works on it any more.
    pub is_deleted: bool,
}

impl RunRecord {
    /// Longest failure that is kept.
    const MAX_FAILURE: usize = 200;

    fn new(
        object: &impl ResourceExt,
        finish: Option<&Time>,
        finished: usize,
        failed: &[String],
        message: Option<&str>,
        conditions: &[Condition],
    ) -> Self {
        let condition = conditions.of_type(FAILED).filter(|c| c.status == "True");
        let done = if condition.is_some() { 0 } else { finished };
        let said = message.or(condition.map(|c| c.message.as_str()));
        let said = || said.filter(|text| !text.is_empty()).map(str::to_owned);
        let failure = match (failed, done) {
            ([], 0) => {
                Some(said().unwrap_or_else(|| "it ended without any pod having done its part".to_owned()))
            }
            ([], _) => None,
            (pods, _) => Some(said().unwrap_or_else(|| format!("it failed on {}", pods.join(", ")))),
        };
        Self {
            uid: object.uid().unwrap_or_default(),
            datacenter: String::new(),
            finish_time: finish.map(|time| time.0),
            failure: failure
                .filter(|_| finish.is_some())
                .map(|text| text.chars().take(Self::MAX_FAILURE).collect()),
            is_deleted: object.meta().deletion_timestamp.is_some(),
        }
    }

    /// Whether it goes on, or will.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.finish_time.is_none() && !self.is_deleted
    }
}

impl From<&MedusaBackupJob> for RunRecord {
    fn from(job: &MedusaBackupJob) -> Self {
        let status = job.status.clone().unwrap_or_default();
        let (end, done, said) = (&status.finish_time, status.finished.len(), &status.message);
        let record = Self::new(job, end.as_ref(), done, &status.failed, said.as_deref(), &status.conditions);
        Self { datacenter: job.spec.cassandra_datacenter.clone(), ..record }
    }
}

impl From<&MedusaTask> for RunRecord {
    fn from(task: &MedusaTask) -> Self {
        let status = task.status.clone().unwrap_or_default();
        let (end, done, said) = (&status.finish_time, status.finished.len(), &status.message);
        let record = Self::new(task, end.as_ref(), done, &status.failed, said.as_deref(), &status.conditions);
        Self { datacenter: task.spec.cassandra_datacenter.clone(), ..record }
    }
}

/// Condition of jobs and tasks of our data planes: they ended badly.
const FAILED: &str = "Failed";

/// What is kept of a copy we wrote: never its content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRecord {
    /// Its uid.
    pub uid: String,
    /// Its resourceVersion.
    pub resource_version: String,
    /// Namespace/name of its source, from our annotation.
    pub source: String,
    /// Uid of its source, from our annotation.
    pub source_uid: String,
    /// Hash of what we meant to write, from our annotation.
    pub declared_hash: String,
    /// Hash of what it holds, computed when it was delivered.
    pub content_hash: String,
    /// Whether the API server refuses changes to it.
    pub immutable: bool,
    /// Field manager of the last change that is not ours; empty when there is none.
    pub changed_by: String,
    /// The fleet it says it is of, from our label.
    pub fleet: String,
    /// The installation that wrote it.
    pub installation: String,
}
