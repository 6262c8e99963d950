//! `FleetCluster`: one Cassandra cluster found in the fleet.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::schema;

/// Empty: the controller writes FleetClusters, and everything is in the status.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "fleet.k8ssandra.io",
    version = "v1alpha1",
    kind = "FleetCluster",
    plural = "fleetclusters",
    shortname = "fc",
    namespaced,
    status = "FleetClusterStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"DCs","type":"integer","jsonPath":".status.size"}"#,
    printcolumn = r#"{"name":"Medusa","type":"string","jsonPath":".status.conditions[?(@.type==\"MedusaDeployed\")].status"}"#,
    printcolumn = r#"{"name":"Protected","type":"string","jsonPath":".status.conditions[?(@.type==\"Protected\")].status"}"#,
    printcolumn = r#"{"name":"Last Backup","type":"string","jsonPath":".status.lastCompleteBackup"}"#,
    printcolumn = r#"{"name":"RPO","type":"date","jsonPath":".status.recoveryPointTime"}"#,
    printcolumn = r#"{"name":"Restore Points","type":"integer","jsonPath":".status.restorePoints"}"#,
    printcolumn = r#"{"name":"Next","type":"string","jsonPath":".status.nextScheduledBackup"}"#
)]
pub struct FleetClusterSpec {}

/// The cluster as found in the data planes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetClusterStatus {
    /// Generation of the object this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The K8ssandraCluster that owns the datacenters, when one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k8ssandra_cluster: Option<K8ssandraClusterRef>,
    /// Number of datacenters.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub size: i64,
    /// Its datacenters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datacenters: Vec<ClusterDatacenter>,
    /// How many datacenters are not listed, as there are too many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub more_datacenters: Option<i64>,
    /// Name of the newest complete FleetBackup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_complete_backup: Option<String>,
    /// What the newest complete FleetBackup restores to: the moment its first datacenter started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_point_time: Option<Time>,
    /// The latest that any complete FleetBackup restored to, also after that is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_recovery_point_time: Option<Time>,
    /// Number of complete FleetBackups.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub restore_points: i64,
    /// Number of MedusaBackups of other clusters' datacenters that its datacenters show, as they share their storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub foreign_backups: Option<i64>,
    /// When the next scheduled backup of one of its datacenters starts, as far as schedules are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_scheduled_backup: Option<Time>,
    /// Age above which the newest complete restore point no longer protects: from the shortest interval of the
    /// schedules that cover the cluster, else the controller's objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub expected_interval_seconds: Option<i64>,
    /// What the data planes do not agree about: at most 20 differences, the newest restore points first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<InventoryDrift>,
    /// `MedusaDeployed`, `CredentialsInSync`, `PrefixUnique`, `Protected` and `InventoryConsistent`; `ClusterClaimed` where
    /// a datacenter says that it belongs to another cluster and does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// A datacenter that does not agree with the others about a restore point.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct InventoryDrift {
    /// Name of the FleetBackup.
    pub restore_point: String,
    /// The data plane.
    pub data_plane: String,
    /// The datacenter's namespace there.
    pub namespace: String,
    /// Name of the CassandraDatacenter.
    pub datacenter: String,
    /// Why, for machines: `MedusaBackupMissing`, `NotSynced` or `DatacenterNotFound`.
    pub reason: String,
    /// Why, for people.
    pub message: String,
}

/// The K8ssandraCluster behind a FleetCluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct K8ssandraClusterRef {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

/// One datacenter of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct ClusterDatacenter {
    /// The data plane it is in.
    pub data_plane: String,
    /// Its namespace there.
    pub namespace: String,
    /// Name of the CassandraDatacenter.
    pub name: String,
    /// Number of nodes.
    #[schemars(schema_with = "schema::count")]
    pub size: i64,
    /// Whether cass-operator says it is ready; absent while its data plane does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// Medusa beside Cassandra.
    pub medusa: MedusaState,
    /// Where its backups go, as far as a K8ssandraCluster says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageState>,
    /// The Secrets its Medusa needs, as far as a K8ssandraCluster says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsState>,
    /// Name of its newest successful MedusaBackup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<String>,
    /// When that one finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup_time: Option<Time>,
}

/// Medusa in a datacenter, and what deploying it has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct MedusaState {
    /// Whether the pod template has a `medusa` container.
    pub deployed: bool,
    /// Its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// How far the deployment is; absent where no K8ssandraCluster asks for Medusa.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<DeploymentState>,
    /// Why it is no further, for machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it is no further, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What will be changed in the CassandraDatacenter; the first few fields when there are many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<MedusaChange>,
    /// How many changes are not listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub more_changes: Option<i64>,
    /// Whether these changes restart pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts_pods: Option<bool>,
    /// Fields that are left as somebody else set them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<KeptField>,
    /// What of ours somebody took back, when somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone: Option<Undone>,
}

/// A write of Medusa's part that somebody took back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Undone {
    /// How often in a row.
    #[schemars(schema_with = "schema::count")]
    pub times: i64,
    /// The field manager that wrote last; empty when it is not known.
    #[serde(default)]
    pub manager: String,
    /// The first field that differed.
    #[serde(default)]
    pub field: String,
    /// Uid of the CassandraDatacenter.
    pub uid: String,
    /// What was asked for: the count begins anew when that changes.
    pub decision: String,
    /// When we wrote last, RFC 3339.
    pub written_at: String,
}

/// How far the deployment of Medusa into a datacenter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum DeploymentState {
    /// As asked for, and the datacenter is settled.
    Deployed,
    /// Changed; cass-operator is at work.
    Progressing,
    /// Held back until something else has happened.
    Waiting,
    /// The K8ssandraCluster is paused.
    Paused,
    /// A person has to mend something first.
    Refused,
    /// Somebody else deploys Medusa here.
    HandsOff,
    /// There is no such datacenter.
    NotFound,
    /// The data plane does not answer.
    Unknown,
}

/// A change of one field of a CassandraDatacenter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct MedusaChange {
    /// The field.
    pub path: String,
    /// What it holds now, as JSON; absent when it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What it will hold, as JSON; absent when it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// A field of Medusa's that somebody else has set.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct KeptField {
    /// The field.
    pub path: String,
    /// The field manager that set it.
    pub manager: String,
}

/// Where a datacenter's backups go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct StorageState {
    /// Kind of storage backend.
    pub provider: String,
    /// Bucket.
    pub bucket: String,
    /// Prefix in the bucket.
    pub prefix: String,
}

/// Whether a datacenter has the Secrets its Medusa needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct CredentialsState {
    /// Whether all are in place, as they are in the control plane.
    pub synced: bool,
    /// First digits of a hash over them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}
