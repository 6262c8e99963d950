//! `spec.cassandra` of a K8ssandraCluster (upstream: K8ssandraCluster).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    medusa::{EncryptionStores, RawObject},
    rules, schema,
};

/// `spec.cassandra` of a K8ssandraCluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(
    inline,
    extend("x-kubernetes-preserve-unknown-fields" = true, "x-kubernetes-validations" = rules::cassandra())
)]
pub struct CassandraTemplate {
    /// Cassandra's cluster name, when it differs from the object's. It cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,
    /// `cassandra` (default), `dse` or `hcd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::server_type")]
    pub server_type: Option<String>,
    /// Cassandra's configuration files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<CassandraConfig>,
    /// Stores with which Cassandra speaks TLS to its clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_encryption_stores: Option<EncryptionStores>,
    /// How callers authenticate to the management API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub management_api_auth: Option<ManagementApiAuth>,
    /// The datacenters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub datacenters: Vec<DatacenterTemplate>,
}

/// One datacenter of a K8ssandraCluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline, extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct DatacenterTemplate {
    /// Name and namespace of the CassandraDatacenter.
    pub metadata: EmbeddedMetadata,
    /// Name of the data plane; empty is the control plane's own cluster.
    #[serde(rename = "k8sContext", skip_serializing_if = "Option::is_none")]
    pub k8s_context: Option<String>,
    /// Cassandra's own name of the datacenter, when it differs from the object's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datacenter_name: Option<String>,
    /// Cassandra's configuration files, over the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<CassandraConfig>,
    /// How callers authenticate to the management API here, instead of the cluster's way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub management_api_auth: Option<ManagementApiAuth>,
}

impl DatacenterTemplate {
    /// The name Cassandra itself uses: `datacenterName`, else the object's name.
    #[must_use]
    pub fn display_name(&self) -> &str {
        self.datacenter_name.as_deref().filter(|n| !n.is_empty()).unwrap_or(&self.metadata.name)
    }
}

/// Metadata embedded in a template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(inline, extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct EmbeddedMetadata {
    /// Object name.
    pub name: String,
    /// Namespace; empty is the K8ssandraCluster's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// `config`: Cassandra's configuration files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline, extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct CassandraConfig {
    /// Lines of cassandra.yaml.
    #[serde(skip_serializing_if = "RawObject::is_empty")]
    #[schemars(schema_with = "schema::any_object")]
    pub cassandra_yaml: RawObject,
}

impl CassandraConfig {
    /// What it says about TLS towards clients, when it says anything.
    #[must_use]
    pub fn client_encryption_enabled(&self) -> Option<bool> {
        self.cassandra_yaml.get("client_encryption_options")?.get("enabled")?.as_bool()
    }
}

/// `managementApiAuth`: how callers authenticate to the management API.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(inline, extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct ManagementApiAuth {
    /// Not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_object")]
    pub insecure: Option<RawObject>,
    /// With certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manual: Option<ManualManagementApiAuth>,
}

/// `managementApiAuth.manual`: certificates for the management API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(
    inline,
    extend("x-kubernetes-preserve-unknown-fields" = true, "required" = ["clientSecretName", "serverSecretName"])
)]
pub struct ManualManagementApiAuth {
    /// Secret a caller authenticates with; Medusa gets it.
    pub client_secret_name: String,
    /// Secret the management API authenticates with.
    pub server_secret_name: String,
}
