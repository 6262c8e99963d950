//! `MedusaBackup`: one finished backup of one datacenter, as an object (upstream: Medusa kinds).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::BackupType;

/// Which datacenter was backed up, and how.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "medusa.k8ssandra.io",
    version = "v1alpha1",
    kind = "MedusaBackup",
    plural = "medusabackups",
    namespaced,
    status = "MedusaBackupStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Started","type":"date","jsonPath":".status.startTime"}"#,
    printcolumn = r#"{"name":"Finished","type":"date","jsonPath":".status.finishTime"}"#,
    printcolumn = r#"{"name":"Nodes","type":"string","jsonPath":".status.totalNodes"}"#,
    printcolumn = r#"{"name":"Files","type":"integer","jsonPath":".status.totalFiles"}"#,
    printcolumn = r#"{"name":"Size","type":"string","jsonPath":".status.totalSize"}"#,
    printcolumn = r#"{"name":"Completed","type":"string","jsonPath":".status.finishedNodes"}"#,
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.status"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct MedusaBackupSpec {
    /// Name of the CassandraDatacenter object the backup belongs to.
    pub cassandra_datacenter: String,
    /// How the backup was taken.
    #[serde(default)]
    pub backup_type: BackupType,
}

/// What Medusa reports about the backup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MedusaBackupStatus {
    /// When the backup started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the last node finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,
    /// Nodes of the datacenter at the time of the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_nodes: Option<i32>,
    /// Nodes whose backup is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_nodes: Option<i32>,
    /// The topology at the time of the backup.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<BackupNode>,
    /// Objects in the storage backend that make up the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_files: Option<i64>,
    /// Their size, for people: `127.67 KB` (1024-based).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_size: Option<String>,
    /// Medusa's word for the state: `SUCCESS`, `IN_PROGRESS`, `FAILED` or `UNKNOWN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// One node of a backup's topology.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct BackupNode {
    /// The node's name as Medusa knows it: the pod name in Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The token ranges it owned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<i64>,
    /// Its Cassandra datacenter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<String>,
    /// Its rack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
}
