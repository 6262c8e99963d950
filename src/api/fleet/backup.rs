//! `FleetBackup`: one restore point of one Cassandra cluster, over all its datacenters.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NodeCounts;
use crate::api::schema;

/// Empty: the controller writes FleetBackups, and everything is in the status.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "fleet.k8ssandra.io",
    version = "v1alpha1",
    kind = "FleetBackup",
    plural = "fleetbackups",
    shortname = "fb",
    namespaced,
    status = "FleetBackupStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Cluster","type":"string","jsonPath":".status.cluster"}"#,
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"DCs","type":"string","jsonPath":".status.done"}"#,
    printcolumn = r#"{"name":"Nodes","type":"string","jsonPath":".status.nodesDone"}"#,
    printcolumn = r#"{"name":"Size","type":"string","jsonPath":".status.size"}"#,
    printcolumn = r#"{"name":"Started","type":"date","jsonPath":".status.startTime"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
pub struct FleetBackupSpec {}

/// The restore point as found in the data planes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetBackupStatus {
    /// Generation of the object this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The FleetCluster.
    #[serde(default)]
    pub cluster: String,
    /// `Complete`, `InProgress`, `Incomplete`, `Unknown` (a data plane does not answer) or `Foreign` (of a datacenter that
    /// is not in the cluster).
    #[serde(default)]
    pub phase: String,
    /// One entry per datacenter the cluster had at the time of the backup.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datacenters: Vec<FleetBackupDatacenter>,
    /// How many of them are not listed, as there are too many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub more_datacenters: Option<i64>,
    /// Whether every node of every datacenter is in it.
    #[serde(default)]
    pub complete: bool,
    /// Whether it is complete and the datacenters still have the topology it was taken from.
    #[serde(default)]
    pub restorable: bool,
    /// When the first datacenter started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the last datacenter finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,
    /// Bytes of all datacenters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub size_bytes: Option<i64>,
    /// The same for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Complete datacenters of all, for people: `3/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<String>,
    /// Complete nodes of all, for people: `18/18`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes_done: Option<String>,
    /// What it came from: a fleet job, a schedule, or both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<BackupOrigin>,
    /// `Complete` and `Restorable`, with reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// What made a restore point.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct BackupOrigin {
    /// Name of the FleetBackupJob, as far as the backups' names tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Name of the FleetBackupSchedule, or of the MedusaBackupSchedules, as far as the backups' names tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
}

/// One datacenter's part of a restore point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct FleetBackupDatacenter {
    /// Name of the CassandraDatacenter.
    pub name: String,
    /// The data plane it is in.
    pub data_plane: String,
    /// Its namespace there.
    pub namespace: String,
    /// Name of the MedusaBackup; empty when the datacenter has none in this restore point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medusa_backup: Option<String>,
    /// The MedusaBackup's status word; `MISSING` when the datacenter has none, `UNKNOWN` when nobody knows, `FOREIGN` when
    /// the datacenter is not in the cluster.
    #[serde(default)]
    pub status: String,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,
    /// Nodes in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeCounts>,
    /// Objects in the storage backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub files: Option<i64>,
    /// Bytes in the storage backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub size_bytes: Option<i64>,
    /// Whether the backup's racks and size are those the datacenter has now.
    #[serde(default)]
    pub topology_matches: bool,
}
