//! `DataPlane`: one registered Kubernetes cluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::schema;

/// A cluster that hosts Cassandra datacenters, and how to reach it. Its name is what
/// `K8ssandraCluster` datacenters call `k8sContext`.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "fleet.k8ssandra.io",
    version = "v1alpha1",
    kind = "DataPlane",
    plural = "dataplanes",
    shortname = "dp",
    namespaced,
    status = "DataPlaneStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"Version","type":"string","jsonPath":".status.kubernetesVersion"}"#,
    printcolumn = r#"{"name":"DCs","type":"integer","jsonPath":".status.datacenters"}"#,
    printcolumn = r#"{"name":"Expires","type":"string","jsonPath":".status.credential.expiresAt"}"#,
    printcolumn = r#"{"name":"Last Contact","type":"date","jsonPath":".status.lastContactTime"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("(has(self.local) && self.local) != has(self.kubeconfigSecretRef)", "set exactly one of `kubeconfigSecretRef` and `local: true`")
)]
pub struct DataPlaneSpec {
    /// The Secret that holds the kubeconfig.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig_secret_ref: Option<KubeconfigSecretRef>,
    /// Context of the kubeconfig to use; its `current-context` when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Whether this is the control plane's own cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<bool>,
    /// Stops all writes to the cluster; it is still watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Namespaces of the cluster that are worked in; every one when empty. What is in another is not seen, nothing is
    /// written there, and no rights are needed there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub namespaces: Vec<String>,
    /// How hard the cluster's API server may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// What becomes of the copies when the DataPlane is deleted: `Delete` (default) takes them back,
    /// `Retain` leaves them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// Uses the cluster although another DataPlane says it is the same one: two clusters that were cloned from one image
    /// are two. Never set it for one cluster that is registered twice: each backup would be made twice there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_duplicate_cluster_id: Option<bool>,
}

/// Where a kubeconfig is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[schemars(inline)]
pub struct KubeconfigSecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its namespace; the DataPlane's own when empty. Another is used only while a ClientConfig there names the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Key in the Secret; `kubeconfig`, then `value`, when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// Client limits for one data plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Limits {
    /// Sustained requests per second; 0 or empty means 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub qps: Option<i32>,
    /// Requests that may be sent at once after a quiet time; 0 or empty means 400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub burst: Option<i32>,
    /// Requests in flight; 0 or empty means 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000))]
    pub max_in_flight: Option<i32>,
    /// Datacenters backed up at a time, over all fleet jobs; 0 or empty means no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_concurrent_backups: Option<i32>,
}

/// What becomes of copies in a cluster that is unregistered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum DeletionPolicy {
    /// Leave them.
    Retain,
    /// Remove them where the cluster answers.
    #[default]
    Delete,
}

/// What is known about the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataPlaneStatus {
    /// Generation of the spec this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Uid of the cluster's kube-system namespace: the cluster's identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// Version of the API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
    /// Who reconciles the Medusa kinds there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medusa_controller: Option<MedusaController>,
    /// The credential in use, without its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialStatus>,
    /// CassandraDatacenters found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub datacenters: Option<i64>,
    /// When the API server last answered. While nothing else changes it is written about every 20 minutes, and every minute for
    /// the control plane's own cluster; the metric `medusa_fleet_dataplane_last_contact_timestamp_seconds` is exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_contact_time: Option<Time>,
    /// Since when the API server does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disconnected_since: Option<Time>,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Time>,
    /// `Accepted`, `Reachable`, `Authenticated`, `Authorized`, `Served`, `Synced`, `Unique`, and the
    /// summary `Ready`; `RegistrationsAccepted` while a Secret or ClientConfig asks for a name that is taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// Who reconciles the Medusa kinds in a data plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct MedusaController {
    /// `medusa-fleet` or `k8ssandra-operator`.
    pub name: String,
    /// Its version, when it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl MedusaController {
    /// Name of the `data-plane` role.
    pub const OURS: &str = "medusa-fleet";
    /// Name of k8ssandra-operator.
    pub const UPSTREAM: &str = "k8ssandra-operator";
}

/// A credential, without its value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct CredentialStatus {
    /// First 16 hex digits of the kubeconfig's SHA-256: changes when the credential does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// When the token or client certificate stops working, when it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// When the control plane renewed it last by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed_at: Option<Time>,
    /// When the control plane renews it by itself; absent when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_renewal_time: Option<Time>,
    /// When this credential was first read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<Time>,
}
