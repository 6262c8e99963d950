//! `MedusaBackupSchedule`: recurring backups or purges of one datacenter (upstream: Medusa kinds).

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
// The shape only, so that no object that upstream's webhook let through is refused; the rest is for a condition.
#[x_kube(
    validation = (
        r"self.cronSchedule.matches(r'^\s*((CRON_)?TZ=\S+\s+)?(@[a-z]+(\s+\S+)?|(\S+\s+){4}\S+)\s*$')",
        "cronSchedule: give five fields (minute, hour, day of month, month, day of week) or a descriptor such as `@daily` or `@every 6h`"
    ),
    validation = (
        "!has(self.timeZone) || !self.cronSchedule.contains('TZ=')",
        "timeZone: a time zone is given twice, here and in cronSchedule; give it once"
    )
)]
pub struct MedusaBackupScheduleSpec {
    /// When: minute, hour, day of month, month and day of week (Sunday is 0), or `@yearly`, `@monthly`, `@weekly`,
    /// `@daily`, `@hourly` or `@every <length>`; a prefix `TZ=<zone> ` names a time zone.
    #[schemars(length(min = 1))]
    pub cron_schedule: String,
    /// Pauses the schedule: nothing runs, and what is left out is not caught up with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// The job to create at each slot; a purge looks at its datacenter only.
    pub backup_spec: MedusaBackupJobSpec,
    /// What to do when a run of the same kind on the same datacenter is still going: wait for its end (`Forbid`, the
    /// default), run beside it (`Allow`), or delete the schedule's own unfinished run first (`Replace`).
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
    /// How many runs that ended well are kept. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub successful_jobs_history_limit: Option<i64>,
    /// How many runs that ended badly are kept. Absent: all.
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
    /// The earliest slot that is not dealt with; empty while nothing will run. One in the past waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_schedule: Option<Time>,
    /// The last slot that ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_execution: Option<Time>,
    /// Why the schedule does not run, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Standard conditions; `Ready` says whether the next slot will run, `Missed` whether the last ones passed without
    /// a run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
