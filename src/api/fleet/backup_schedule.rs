//! `FleetBackupSchedule`: backups, purges or syncs over the fleet, by the clock.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    FleetBackupJobSpec, FleetOperation, FleetTaskSpec, Rollout, RunSpec, Selector, UnreachablePolicy,
    run::is_zero,
};
use crate::api::{medusa::BackupType, schema};

/// When to run what over which datacenters.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "fleet.k8ssandra.io",
    version = "v1alpha1",
    kind = "FleetBackupSchedule",
    plural = "fleetbackupschedules",
    shortname = "fbs",
    namespaced,
    status = "FleetBackupScheduleStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Schedule","type":"string","jsonPath":".spec.schedule"}"#,
    printcolumn = r#"{"name":"Operation","type":"string","jsonPath":".spec.operation"}"#,
    printcolumn = r#"{"name":"Execution","type":"string","jsonPath":".spec.execution"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"Last","type":"date","jsonPath":".status.lastScheduleTime"}"#,
    printcolumn = r#"{"name":"Last Successful","type":"date","jsonPath":".status.lastSuccessfulTime"}"#,
    printcolumn = r#"{"name":"Next","type":"string","jsonPath":".status.nextScheduleTime"}"#,
    printcolumn = r#"{"name":"Missed","type":"integer","jsonPath":".status.missedSlots"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        r"self.schedule.matches(r'^\s*((CRON_)?TZ=\S+\s+)?(@[a-z]+(\s+\S+)?|(\S+\s+){4}\S+)\s*$')",
        "schedule: give five fields (minute, hour, day of month, month, day of week) or a descriptor such as `@daily` or `@every 6h`"
    ),
    validation = (
        "!has(self.timeZone) || !self.schedule.contains('TZ=')",
        "timeZone: a time zone is given twice, here and in schedule; give it once"
    ),
    validation = (
        "!has(self.template) || !has(self.template.operation) || self.template.operation == self.operation",
        "template.operation: it is not the schedule's operation; leave it out"
    ),
    validation = (
        "!has(self.template) || !has(self.template.backupType) || self.operation == 'backup'",
        "template.backupType: only operation `backup` has one; leave it out"
    ),
    validation = (
        "self.execution == 'Coordinated' || self.operation != 'sync'",
        "execution: a MedusaBackupSchedule cannot sync, so operation `sync` needs execution `Coordinated`"
    ),
    validation = (
        "self.execution == 'Coordinated' || !has(self.template) || (!has(self.template.rollout) && !has(self.template.unreachablePolicy))",
        "template: with execution `Delegated` each data plane runs its own; leave out rollout and unreachablePolicy, and spread with windowSeconds"
    )
)]
pub struct FleetBackupScheduleSpec {
    /// When: minute, hour, day of month, month and day of week (Sunday is 0), or `@yearly`, `@monthly`, `@weekly`,
    /// `@daily`, `@hourly` or `@every <length>`.
    #[schemars(length(min = 1))]
    pub schedule: String,
    /// IANA time zone the expression is read in, such as `Europe/Berlin`. Absent: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Pauses the schedule: nothing runs, and what is left out is not caught up with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// What to run: `backup` (default), `purge` or `sync`.
    #[serde(default)]
    pub operation: ScheduleOperation,
    /// Who watches the clock: the control plane (`Coordinated`, the default), or each data plane for its own
    /// datacenters (`Delegated`), which goes on while the control plane is away.
    #[serde(default)]
    pub execution: Execution,
    /// What to do when this schedule's last run is still going: wait for its end (`Forbid`, the default), run beside it
    /// (`Allow`), or cancel it first (`Replace`).
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// How many seconds late a slot may still run. Absent: as late as need be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub starting_deadline_seconds: Option<i64>,
    /// What to do about slots that passed while nothing could run: run the `Latest` of them once (the default), or
    /// `None`; then a slot runs within a minute or not at all.
    #[serde(default)]
    pub catch_up: CatchUp,
    /// Seconds over which the datacenters' starts are spread. `Coordinated`: the run's `staggerWindowSeconds`, unless the
    /// template gives it. `Delegated`: each cluster's minute is moved inside the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub window_seconds: Option<i32>,
    /// The run to make at each slot: the spec of a FleetBackupJob, or of a FleetTask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<ScheduleTemplate>,
    /// How many runs that succeeded are kept. Absent: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub successful_jobs_history_limit: Option<i64>,
    /// How many runs that did not succeed are kept. Absent: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub failed_jobs_history_limit: Option<i64>,
}

/// What a fleet schedule runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ScheduleOperation {
    /// A FleetBackupJob at each slot.
    #[default]
    Backup,
    /// A FleetTask of operation `purge`.
    Purge,
    /// A FleetTask of operation `sync`.
    Sync,
}

impl ScheduleOperation {
    /// The operation of its FleetTask; a backup has none.
    #[must_use]
    pub fn task(self) -> Option<FleetOperation> {
        match self {
            Self::Backup => None,
            Self::Purge => Some(FleetOperation::Purge),
            Self::Sync => Some(FleetOperation::Sync),
        }
    }

    /// The word as it appears in objects.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Purge => "purge",
            Self::Sync => "sync",
        }
    }
}

/// Who watches the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Execution {
    /// The control plane.
    #[default]
    Coordinated,
    /// Each data plane.
    Delegated,
}

impl Execution {
    /// The word as it appears in objects.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Coordinated => "Coordinated",
            Self::Delegated => "Delegated",
        }
    }
}

/// What to do when the last run is still going.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum ConcurrencyPolicy {
    /// Wait for its end.
    #[default]
    Forbid,
    /// Run beside it.
    Allow,
    /// Cancel it first.
    Replace,
}

impl ConcurrencyPolicy {
    /// The word as it appears in objects.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forbid => "Forbid",
            Self::Allow => "Allow",
            Self::Replace => "Replace",
        }
    }
}

/// What to do about slots that passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum CatchUp {
    /// Nothing.
    None,
    /// Run the latest, once.
    #[default]
    Latest,
}

/// The run of each slot: what a FleetBackupJob's and a FleetTask's spec have in common, and what either has alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct ScheduleTemplate {
    /// Which datacenters; empty means every datacenter that runs Medusa.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// Of a FleetTask; the schedule's own, if it is given at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<ScheduleOperation>,
    /// Of a FleetBackupJob. Absent: `differential`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_type: Option<BackupType>,
    /// How many datacenters are at work at a time, and what happens when some fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// What to do about a data plane that does not answer. Absent: `Wait`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable_policy: Option<UnreachablePolicy>,
    /// How many seconds after its end (`status.finishTime`) each run is deleted, and with it the MedusaBackupJobs or
    /// MedusaTasks that it made in data planes. Absent: only the history limits delete runs. With `Delegated` it has
    /// no effect: the history limits alone hold there. Backups are never deleted by it: their data in the storage,
    /// MedusaBackups and FleetBackups stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub ttl_seconds_after_finished: Option<i32>,
}

impl ScheduleTemplate {
    /// The spec of a FleetBackupJob whose starts are spread over `window` seconds, unless the template says over how
    /// many.
    #[must_use]
    pub fn backup_job(&self, window: Option<i32>) -> FleetBackupJobSpec {
        FleetBackupJobSpec { backup_type: self.backup_type.unwrap_or_default(), run: self.run(window) }
    }

    /// The spec of a FleetTask, spread likewise.
    #[must_use]
    pub fn task(&self, operation: FleetOperation, window: Option<i32>) -> FleetTaskSpec {
        FleetTaskSpec { operation, run: self.run(window) }
    }

    fn run(&self, window: Option<i32>) -> RunSpec {
        RunSpec {
            selector: self.selector.clone(),
            rollout: self.rollout_over(window),
            unreachable_policy: self.unreachable_policy.unwrap_or_default(),
            ttl_seconds_after_finished: self.ttl_seconds_after_finished,
            cancel: None,
            dry_run: None,
        }
    }

    fn rollout_over(&self, window: Option<i32>) -> Option<Rollout> {
        let Some(window) = window else { return self.rollout.clone() };
        let mut rollout = self.rollout.clone().unwrap_or_default();
        rollout.stagger_window_seconds.get_or_insert(window);
        Some(rollout)
    }
}

/// When the schedule ran and will run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetBackupScheduleStatus {
    /// Generation of the spec this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The latest slot that ran. It never runs again, and none before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// The earliest slot that is not dealt with; empty while nothing will run. One in the past waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<Time>,
    /// When the last run that succeeded ended; with execution `Delegated`, since when every datacenter has a
    /// successful run of this schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<Time>,
    /// Runs that have not ended; with execution `Delegated` those in the data planes, at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub active: Vec<ScheduledRun>,
    /// Slots that passed without a run, since the schedule exists; with execution `Delegated` each datacenter's count
    /// for themselves.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub missed_slots: i64,
    /// With execution `Delegated`: what is known of each data plane. What is known of one that does not answer stands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data_planes: Vec<ScheduledDataPlane>,
    /// Where `dataPlanes[].countedUntil` stood in earlier statuses; read once, and not written any more.
    #[serde(default, skip_serializing)]
    pub counted: Vec<CountedSlots>,
    /// Datacenters the schedule is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacenters: Option<ScheduledDatacenters>,
    /// Standard conditions: `Ready` says whether the next slot will run, `Missed` whether the last ones passed without
    /// a run, `Succeeded` how the last run ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// What is known of a Delegated schedule in one data plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct ScheduledDataPlane {
    /// Its name.
    pub name: String,
    /// Uid of its DataPlane: nothing that is known here is of another one under its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The latest slot that `missedSlots` has counted if it was missed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_until: Option<Time>,
    /// Datacenters whose last slots passed without a run, or whose last run went wrong: at most 5,000 in all data
    /// planes, of which a hundred say why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datacenters: Vec<ScheduledDatacenter>,
}

/// What is wrong with a Delegated schedule in one datacenter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct ScheduledDatacenter {
    /// Namespace of the CassandraDatacenter.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Slots that passed without a run since the last that ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<MissedSlots>,
    /// Why the last run that ended went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// Slots of one datacenter that passed without a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct MissedSlots {
    /// How many of them `missedSlots` has counted; none while only the data plane says so.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(schema_with = "schema::count")]
    pub count: i64,
    /// The first of those that are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Time>,
    /// What the MedusaBackupSchedule there says of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Up to where earlier statuses had counted missed slots in a data plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct CountedSlots {
    /// The data plane.
    pub data_plane: String,
    /// The latest slot that is counted.
    pub until: Time,
}

/// A run of a schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct ScheduledRun {
    /// `FleetBackupJob` or `FleetTask`; with execution `Delegated`, `MedusaBackupJob` or `MedusaTask`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The data plane it is in; absent in the control plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_plane: Option<String>,
    /// Its namespace there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

impl ScheduledRun {
    /// Where it is, for people: its name, and in a data plane `dataPlane/namespace/name`.
    #[must_use]
    pub fn place(&self) -> String {
        let parts = [self.data_plane.as_deref(), self.namespace.as_deref(), Some(&self.name)];
        parts.into_iter().flatten().collect::<Vec<_>>().join("/")
    }
}

/// Datacenters of a schedule by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct ScheduledDatacenters {
    /// All that the template selects, as far as they are known.
    #[schemars(schema_with = "schema::count")]
    pub total: i64,
    /// Those the next slot reaches: with execution `Delegated`, those that have their MedusaBackupSchedule.
    #[schemars(schema_with = "schema::count")]
    pub scheduled: i64,
}
