//! `MedusaTask`: sync, purge or `prepare_restore` of one datacenter (upstream: Medusa kinds).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::schema;

/// What to do, where.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "medusa.k8ssandra.io",
    version = "v1alpha1",
    kind = "MedusaTask",
    plural = "medusatasks",
    namespaced,
    status = "MedusaTaskStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Datacenter","type":"string","jsonPath":".spec.cassandraDatacenter"}"#,
    printcolumn = r#"{"name":"Operation","type":"string","jsonPath":".spec.operation"}"#,
    printcolumn = r#"{"name":"Start","type":"date","jsonPath":".status.startTime"}"#,
    printcolumn = r#"{"name":"Finish","type":"date","jsonPath":".status.finishTime"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct MedusaTaskSpec {
    /// Name of the CassandraDatacenter object, in this namespace.
    pub cassandra_datacenter: String,
    /// The operation to run.
    pub operation: TaskOperation,
    /// Backup to prepare; read by `prepare_restore` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_name: Option<String>,
    /// Key to prepare under; read by `prepare_restore` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_key: Option<String>,
}

/// Operations of a MedusaTask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum TaskOperation {
    /// Make the MedusaBackup objects match the storage backend.
    Sync,
    /// Apply Medusa's retention on every pod.
    Purge,
    /// Write a restore mapping on every pod.
    PrepareRestore,
}

/// How far the task is, by pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MedusaTaskStatus {
    /// When the task started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the task ended, well or badly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,
    /// Pods still working.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_progress: Vec<String>,
    /// What each pod did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finished: Vec<TaskPodResult>,
    /// Pods that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
    /// What happened, in one sentence, when the task did not go well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Standard conditions; `Complete` and `Failed` say how the run ended and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// One pod's share of a task; the counters are a purge's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct TaskPodResult {
    /// The pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,
    /// Backups removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::plain_integer")]
    pub nb_backups_purged: Option<i64>,
    /// Objects removed from the storage backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::plain_integer")]
    pub nb_objects_purged: Option<i64>,
    /// Bytes removed from the storage backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::plain_integer")]
    pub total_purged_size: Option<i64>,
    /// Orphaned objects kept because they are younger than the grace period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::plain_integer")]
    pub total_objects_within_gc_grace: Option<i64>,
}
