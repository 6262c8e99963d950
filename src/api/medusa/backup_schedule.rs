//! `MedusaBackupSchedule`: recurring backups or purges of one datacenter (upstream §1.3).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::MedusaBackupJobSpec;
use crate::api::schema;

/// When to run what.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "medusa.k8ssandra.io",
    version = "v1alpha1",
    kind = "MedusaBackupSchedule",
    plural = "medusabackupschedules",
    namespaced,
    status = "MedusaBackupScheduleStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Datacenter","type":"string","jsonPath":".spec.backupSpec.cassandraDatacenter"}"#,
    printcolumn = r#"{"name":"ScheduledExecution","type":"date","jsonPath":".status.nextSchedule"}"#,
    printcolumn = r#"{"name":"LastExecution","type":"date","jsonPath":".status.lastExecution"}"#,
    printcolumn = r#"{"name":"OperationType","type":"string","jsonPath":".spec.operationType"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct MedusaBackupScheduleSpec {
    /// Cron expression of five fields, or a descriptor such as `@daily`.
    #[schemars(length(min = 1))]
    pub cron_schedule: String,
    /// Pauses the schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// The job to create at each slot.
    pub backup_spec: MedusaBackupJobSpec,
    /// What to do when the previous run is still going: `Forbid` (default), `Allow` or `Replace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_policy: Option<String>,
    /// What to run: `backup` (default) or `purge`.
    #[serde(default)]
    pub operation_type: ScheduledOperation,
    /// IANA time zone the expression is read in, such as `Europe/Berlin`. Absent: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// How many seconds late a slot may still run. Absent: as late as need be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub starting_deadline_seconds: Option<i64>,
    /// How many jobs that ended well are kept. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub successful_jobs_history_limit: Option<i64>,
    /// How many jobs that ended badly are kept. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub failed_jobs_history_limit: Option<i64>,
}

/// What a schedule runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ScheduledOperation {
    /// Create a MedusaBackupJob at each slot.
    #[default]
    Backup,
    /// Create a MedusaTask of operation `purge` at each slot.
    Purge,
}

/// When the schedule ran and will run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MedusaBackupScheduleStatus {
    /// The next slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_schedule: Option<Time>,
    /// The last slot that ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_execution: Option<Time>,
    /// Why the schedule does not run, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Standard conditions; `Ready` says whether the next slot will run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
