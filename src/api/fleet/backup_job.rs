//! `FleetBackupJob`: one backup run over the fleet.

use std::ops::RangeInclusive;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Rollout, Selector,
    run_spec::{cancelled_once, fixed, run_spec},
};
use crate::api::{medusa::BackupType, schema};

/// Which datacenters to back up, and how. Only `cancel` can be changed: make a new job instead.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "fleet.k8ssandra.io",
    version = "v1alpha1",
    kind = "FleetBackupJob",
    plural = "fleetbackupjobs",
    shortname = "fbj",
    namespaced,
    status = "FleetBackupJobStatus",
    derive = "PartialEq",
    derive = "Default",
    validation = fixed("FleetBackupJob", "selector"),
    validation = fixed("FleetBackupJob", "backupType"),
    validation = fixed("FleetBackupJob", "rollout"),
    validation = fixed("FleetBackupJob", "unreachablePolicy"),
    validation = fixed("FleetBackupJob", "ttlSecondsAfterFinished"),
    validation = fixed("FleetBackupJob", "dryRun"),
    validation = cancelled_once("FleetBackupJob"),
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Type","type":"string","jsonPath":".spec.backupType"}"#,
    printcolumn = r#"{"name":"Done","type":"string","jsonPath":".status.done"}"#,
    printcolumn = r#"{"name":"Failed","type":"integer","jsonPath":".status.counts.failed"}"#,
    printcolumn = r#"{"name":"Size","type":"string","jsonPath":".status.size"}"#,
    printcolumn = r#"{"name":"Started","type":"date","jsonPath":".status.startTime"}"#,
    printcolumn = r#"{"name":"Finished","type":"date","jsonPath":".status.finishTime"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct FleetBackupJobSpec {
    /// Which datacenters; empty means every datacenter that runs Medusa.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// Whether to upload everything (`full`) or only what no earlier backup holds (`differential`).
    #[serde(default)]
    pub backup_type: BackupType,
    /// How many datacenters are at work at a time, and what happens when some fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// What to do about a data plane that does not answer: wait for it, skip its datacenters, or fail
    /// them.
    #[serde(default)]
    pub unreachable_policy: UnreachablePolicy,
    /// The job and its MedusaBackupJobs are deleted that many seconds after its end; backups stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub ttl_seconds_after_finished: Option<i32>,
    /// Starts nothing more. What runs in a datacenter goes on to its end: Medusa cannot stop a backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
    /// Only says in the status what would be done, and ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

run_spec!(FleetBackupJobSpec);

/// What to do about a data plane that does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum UnreachablePolicy {
    /// Wait until it answers.
    #[default]
    Wait,
    /// Leave its datacenters out.
    Skip,
    /// Count its datacenters as failed.
    Fail,
}

/// How far the run is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetBackupJobStatus {
    /// Generation of the spec this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The verdict so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// When the run started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the last datacenter was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,
    /// When a datacenter last started or ended, or a node last ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_progress_time: Option<Time>,
    /// Seconds between the first and the last datacenter's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub start_skew_seconds: Option<i64>,
    /// Datacenters by state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<DatacenterCounts>,
    /// Decided datacenters of all, for people: `7/9`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<String>,
    /// Size of everything backed up, for people: `1.25 GB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// One entry per datacenter; an entry without a datacenter stands for a data plane whose
    /// datacenters are not known yet. A status that would outgrow what the API server stores says less about
    /// each, beginning with those that succeeded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datacenters: Vec<DatacenterRun>,
    /// FleetBackups this run made, one per Cassandra cluster; of very many the first ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restore_points: Vec<String>,
    /// `Complete` and what stands in its way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// State of a run, or of one datacenter in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Phase {
    /// Nothing has started.
    #[default]
    Pending,
    /// Going on.
    Running,
    /// Every datacenter was backed up.
    Succeeded,
    /// Some were, some were not.
    PartiallyFailed,
    /// None was.
    Failed,
    /// Left out on purpose; a datacenter only.
    Skipped,
    /// Cancelled before everything had started.
    Cancelled,
}

impl Phase {
    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }

    /// The word as it appears in objects.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::PartiallyFailed => "PartiallyFailed",
            Self::Failed => "Failed",
            Self::Skipped => "Skipped",
            Self::Cancelled => "Cancelled",
        }
    }
}

/// Datacenters of a run by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct DatacenterCounts {
    /// All of them.
    #[schemars(schema_with = "schema::count")]
    pub total: i64,
    /// Not started.
    #[schemars(schema_with = "schema::count")]
    pub pending: i64,
    /// Going on.
    #[schemars(schema_with = "schema::count")]
    pub running: i64,
    /// Backed up.
    #[schemars(schema_with = "schema::count")]
    pub succeeded: i64,
    /// Not backed up.
    #[schemars(schema_with = "schema::count")]
    pub failed: i64,
    /// Left out, or cancelled before they started.
    #[schemars(schema_with = "schema::count")]
    pub skipped: i64,
}

impl DatacenterCounts {
    /// Datacenters by state.
    #[must_use]
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a DatacenterRun>) -> Self {
        let mut counts = Self::default();
        for entry in entries {
            counts.total += 1;
            *match entry.phase {
                Phase::Pending => &mut counts.pending,
                Phase::Running => &mut counts.running,
                Phase::Succeeded => &mut counts.succeeded,
                Phase::Failed | Phase::PartiallyFailed => &mut counts.failed,
                Phase::Skipped | Phase::Cancelled => &mut counts.skipped,
            } += 1;
        }
        counts
    }
}

/// One datacenter's part of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct DatacenterRun {
    /// The data plane it is in.
    pub data_plane: String,
    /// Its namespace there.
    #[serde(default)]
    pub namespace: String,
    /// Name of the CassandraDatacenter; empty while the data plane's datacenters are not known.
    #[serde(default)]
    pub datacenter: String,
    /// The FleetCluster it belongs to.
    #[serde(default)]
    pub cluster: String,
    /// Name of the MedusaBackupJob made for it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// MedusaBackupJobs made for it so far.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(schema_with = "schema::count")]
    pub attempts: i64,
    /// Its state.
    #[serde(default)]
    pub phase: Phase,
    /// Why, for machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When that MedusaBackupJob was made, by the control plane's clock; kept until it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_time: Option<Time>,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it was decided, or its last attempt ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,
    /// Its nodes by state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeCounts>,
    /// Bytes backed up; upstream prints sizes with two decimals, which limits the precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub size_bytes: Option<i64>,
}

impl DatacenterRun {
    /// Attempts made; a status of an earlier version names the object only.
    #[must_use]
    pub fn attempts(&self) -> usize {
        usize::try_from(self.attempts).unwrap_or(0).max(usize::from(self.job.is_some()))
    }

    /// The numbers of its attempts so far, the latest thousand at most: a status may hold any number.
    #[must_use]
    pub fn latest_attempts(&self) -> RangeInclusive<usize> {
        let latest = self.attempts();
        latest.saturating_sub(999).max(1)..=latest
    }

    /// `dataPlane/namespace/datacenter`, or what of it is known, for people.
    #[must_use]
    pub fn place(&self) -> String {
        place([&self.data_plane, &self.namespace, &self.datacenter])
    }
}

/// `dataPlane/namespace/name`, or what of it is known, for people.
#[must_use]
pub fn place(parts: [&str; 3]) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl AsRef<DatacenterRun> for DatacenterRun {
    fn as_ref(&self) -> &DatacenterRun {
        self
    }
}

impl AsMut<DatacenterRun> for DatacenterRun {
    fn as_mut(&mut self) -> &mut DatacenterRun {
        self
    }
}

/// Nodes of one datacenter by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct NodeCounts {
    /// All of them.
    #[schemars(schema_with = "schema::count")]
    pub total: i64,
    /// Backed up.
    #[schemars(schema_with = "schema::count")]
    pub finished: i64,
    /// Not backed up.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub failed: i64,
}
