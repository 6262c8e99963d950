//! `FleetTask`: one sync or purge over the fleet.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::run::{DatacenterRun, RunSpec, RunStatus, cancelled_once, fixed};
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
    /// Which datacenters, and how.
    #[serde(flatten)]
    pub run: RunSpec,
}

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
    /// How far it is as a run.
    #[serde(flatten)]
    pub run: RunStatus,
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
