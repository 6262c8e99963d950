//! `FleetTask`: one sync or purge over the fleet.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    DatacenterCounts, DatacenterRun, Phase, Rollout, Selector, UnreachablePolicy,
    run_spec::{cancelled_once, fixed, run_spec},
};
use crate::api::{medusa::TaskOperation, schema};

/// What to do in which datacenters. Only `cancel` can be changed: make a new task instead.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "fleet.k8ssandra.io",
    version = "v1alpha1",
    kind = "FleetTask",
    plural = "fleettasks",
    shortname = "ft",
    namespaced,
    status = "FleetTaskStatus",
    derive = "PartialEq",
    derive = "Default",
    validation = ("self.spec.operation == oldSelf.spec.operation", "spec.operation: a FleetTask cannot be changed, only cancelled; create a new one"),
    validation = fixed("FleetTask", "selector"),
    validation = fixed("FleetTask", "rollout"),
    validation = fixed("FleetTask", "unreachablePolicy"),
    validation = fixed("FleetTask", "ttlSecondsAfterFinished"),
    validation = fixed("FleetTask", "dryRun"),
    validation = cancelled_once("FleetTask"),
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Operation","type":"string","jsonPath":".spec.operation"}"#,
    printcolumn = r#"{"name":"Done","type":"string","jsonPath":".status.done"}"#,
    printcolumn = r#"{"name":"Failed","type":"integer","jsonPath":".status.counts.failed"}"#,
    printcolumn = r#"{"name":"Purged","type":"integer","jsonPath":".status.purged.backups"}"#,
    printcolumn = r#"{"name":"Freed","type":"string","jsonPath":".status.freed"}"#,
    printcolumn = r#"{"name":"Started","type":"date","jsonPath":".status.startTime"}"#,
    printcolumn = r#"{"name":"Finished","type":"date","jsonPath":".status.finishTime"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct FleetTaskSpec {
    /// `sync` makes the MedusaBackups say what the storage holds; `purge` deletes backups by Medusa's retention,
    /// and then syncs.
    pub operation: FleetOperation,
    /// Which datacenters; empty means every datacenter that runs Medusa.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// How many datacenters are at work at a time, and what happens when some fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// What to do about a data plane that does not answer: wait for it, skip its datacenters, or fail
    /// them.
    #[serde(default)]
    pub unreachable_policy: UnreachablePolicy,
    /// The task and its MedusaTasks are deleted that many seconds after its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub ttl_seconds_after_finished: Option<i32>,
    /// Starts nothing more. What runs in a datacenter goes on to its end: Medusa cannot stop a purge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
    /// Only says in the status what would be done and what would be refused, and ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

run_spec!(FleetTaskSpec);

/// What a FleetTask does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum FleetOperation {
    /// Make the MedusaBackups say what the storage holds.
    #[default]
    Sync,
    /// Apply Medusa's retention on every pod.
    Purge,
}

impl FleetOperation {
    /// The word as it appears in objects.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Purge => "purge",
        }
    }
}

impl From<FleetOperation> for TaskOperation {
    fn from(operation: FleetOperation) -> Self {
        match operation {
            FleetOperation::Sync => Self::Sync,
            FleetOperation::Purge => Self::Purge,
        }
    }
}

/// How far the task is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetTaskStatus {
    /// Generation of the spec this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The verdict so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// When the task started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the last datacenter was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,
    /// When a datacenter last started or ended, or a node last ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_progress_time: Option<Time>,
    /// Datacenters by state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<DatacenterCounts>,
    /// Decided datacenters of all, for people: `7/9`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<String>,
    /// What was purged, over all datacenters and attempts that are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purged: Option<Purged>,
    /// Bytes purged, for people: `1.25 GB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freed: Option<String>,
    /// One entry per datacenter; an entry without a datacenter stands for a data plane whose
    /// datacenters are not known yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datacenters: Vec<DatacenterTask>,
    /// `Complete` and what stands in its way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// One datacenter's part of a task; `job` is the name of its MedusaTask.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct DatacenterTask {
    /// Where, and how far.
    #[serde(flatten)]
    pub run: DatacenterRun,
    /// Name of the MedusaTask that syncs after a purge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<String>,
    /// The complete FleetBackup that the purge leaves in place whatever else it removes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeps: Option<String>,
    /// What its pods purged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purged: Option<Purged>,
}

impl AsRef<DatacenterRun> for DatacenterTask {
    fn as_ref(&self) -> &DatacenterRun {
        &self.run
    }
}

impl AsMut<DatacenterRun> for DatacenterTask {
    fn as_mut(&mut self) -> &mut DatacenterRun {
        &mut self.run
    }
}

/// What a purge did, summed over pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Purged {
    /// Backups removed: each node's part of a backup counts.
    #[schemars(schema_with = "schema::count")]
    pub backups: i64,
    /// Objects removed from the storage.
    #[schemars(schema_with = "schema::count")]
    pub objects: i64,
    /// Bytes removed from the storage.
    #[schemars(schema_with = "schema::count")]
    pub bytes: i64,
    /// Objects no backup needs that are kept until Medusa's grace period is over.
    #[schemars(schema_with = "schema::count")]
    pub objects_within_grace: i64,
}

impl Purged {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            backups: self.backups.saturating_add(other.backups),
            objects: self.objects.saturating_add(other.objects),
            bytes: self.bytes.saturating_add(other.bytes),
            objects_within_grace: self.objects_within_grace.saturating_add(other.objects_within_grace),
        }
    }

    /// What is left of it without a part.
    #[must_use]
    pub fn minus(self, part: Self) -> Self {
        let left = |all: i64, part: i64| all.saturating_sub(part).max(0);
        Self {
            backups: left(self.backups, part.backups),
            objects: left(self.objects, part.objects),
            bytes: left(self.bytes, part.bytes),
            objects_within_grace: left(self.objects_within_grace, part.objects_within_grace),
        }
    }
}
