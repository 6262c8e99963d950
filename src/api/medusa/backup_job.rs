//! `MedusaBackupJob`: one backup run of one datacenter (upstream: Medusa kinds).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::BackupType;
use crate::api::schema;

/// What to back up: every node of one `CassandraDatacenter` in the job's namespace. The backup's name
/// is the job's name.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "medusa.k8ssandra.io",
    version = "v1alpha1",
    kind = "MedusaBackupJob",
    plural = "medusabackupjobs",
    namespaced,
    status = "MedusaBackupJobStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Started","type":"date","jsonPath":".status.startTime"}"#,
    printcolumn = r#"{"name":"Finished","type":"date","jsonPath":".status.finishTime"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct MedusaBackupJobSpec {
    /// Name of the CassandraDatacenter object, in this namespace, to back up.
    #[schemars(length(min = 1))]
    pub cassandra_datacenter: String,
    /// Whether to upload everything (`full`) or only what no earlier backup holds (`differential`).
    #[serde(default)]
    pub backup_type: BackupType,
    /// Seconds after which a finished job is deleted; the MedusaBackup and the data stay. Absent: it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub ttl_seconds_after_finished: Option<i64>,
}

/// How far the run is, by pod name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MedusaBackupJobStatus {
    /// When the backup was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the run ended, well or badly; read `failed` and the MedusaBackup for the verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,
    /// Pods whose backup is not decided yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_progress: Vec<String>,
    /// Pods whose backup succeeded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finished: Vec<String>,
    /// Pods whose backup failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
    /// What happened, in one sentence, when the run did not go well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Standard conditions; `Complete` and `Failed` say how the run ended and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
