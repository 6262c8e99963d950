//! `FleetBackupJob`: one backup run over the fleet.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::run::{DatacenterRun, RunSpec, RunStatus, cancelled_once, fixed};
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
    /// Which datacenters, and how.
    #[serde(flatten)]
    pub run: RunSpec,
    /// Whether to upload everything (`full`) or only what no earlier backup holds (`differential`).
    #[serde(default)]
    pub backup_type: BackupType,
}

/// How far the run is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetBackupJobStatus {
    /// How far it is as a run.
    #[serde(flatten)]
    pub run: RunStatus,
    /// Seconds between the first and the last datacenter's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub start_skew_seconds: Option<i64>,
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
}
