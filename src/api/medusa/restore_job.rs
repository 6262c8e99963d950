//! `MedusaRestoreJob`: the restore of one datacenter (upstream: Medusa kinds).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::schema;

/// Which backup to restore into which datacenter.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "medusa.k8ssandra.io",
    version = "v1alpha1",
    kind = "MedusaRestoreJob",
    plural = "medusarestorejobs",
    namespaced,
    status = "MedusaRestoreJobStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Started","type":"date","jsonPath":".status.startTime"}"#,
    printcolumn = r#"{"name":"Finished","type":"date","jsonPath":".status.finishTime"}"#,
    printcolumn = r#"{"name":"Error","type":"string","jsonPath":".status.message"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct MedusaRestoreJobSpec {
    /// Name of the MedusaBackup, in this namespace, to restore.
    pub backup: String,
    /// Name of the CassandraDatacenter object, in this namespace, to restore into.
    pub cassandra_datacenter: String,
}

/// How far the restore is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MedusaRestoreJobStatus {
    /// Identifies this restore to the pods; a pod runs a key once.
    pub restore_key: String,
    /// Whether the host mapping has been computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_prepared: Option<bool>,
    /// Which backed-up host each pod restores from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_mapping: Option<RestoreMapping>,
    /// When the restore started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the restore ended, well or badly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,
    /// When every pod of the datacenter had stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacenter_stopped: Option<Time>,
    /// Pods still restoring.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_progress: Vec<String>,
    /// Pods that restored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finished: Vec<String>,
    /// Pods that did not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
    /// Why the restore was refused or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Standard conditions; `Complete` and `Failed` say how the run ended and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// Host mapping of a restore. The keys are snake_case in upstream's schema too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct RestoreMapping {
    /// Whether every pod restores its own data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_place: Option<bool>,
    /// Pod name to the hosts it restores from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub host_map: BTreeMap<String, MappedHost>,
}

/// Where one pod's data comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct MappedHost {
    /// Backed-up hosts to restore from; one in every mapping made today.
    pub source: Vec<String>,
    /// Whether the pod starts as a seed.
    pub seed: bool,
}
