//! The parts of other operators' kinds that we read: `CassandraDatacenter` (cass-operator) and
//! `K8ssandraCluster` (k8ssandra-operator).
//!
//! Every field is optional on the way in, so that an object of an older or newer operator never fails
//! to decode; nothing here is ever written back.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    labels,
    medusa::{SecretRef, Storage},
};

/// What we read of a CassandraDatacenter's spec (upstream §1.13).
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "cassandra.datastax.com",
    version = "v1beta1",
    kind = "CassandraDatacenter",
    plural = "cassandradatacenters",
    namespaced,
    status = "CassandraDatacenterStatus",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", default)]
pub struct CassandraDatacenterSpec {
    /// Name of the Cassandra cluster.
    pub cluster_name: String,
    /// Cassandra's own name of the datacenter, when it differs from the object's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datacenter_name: Option<String>,
    /// Number of nodes.
    pub size: i32,
    /// Whether the datacenter is scaled to zero on purpose.
    pub stopped: bool,
    /// Racks, in order; empty means one rack called `default`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub racks: Vec<Rack>,
    /// Secret with the superuser; empty means cass-operator's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub superuser_secret_name: Option<String>,
    /// Users that cass-operator creates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
    /// The pods' template: we only look at its containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_template_spec: Option<PodTemplateSpec>,
}

/// One rack of a datacenter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rack {
    /// The rack's name.
    pub name: String,
}

/// A Cassandra user that cass-operator creates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    /// Secret with its name and password.
    pub secret_name: String,
}

/// The part of a pod template we look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodTemplateSpec {
    /// The pod's spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<PodSpec>,
}

/// The part of a pod spec we look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodSpec {
    /// Its containers.
    pub containers: Vec<Container>,
}

/// The part of a container we look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Container {
    /// The container's name.
    pub name: String,
    /// Its image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// What we read of a CassandraDatacenter's status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CassandraDatacenterStatus {
    /// Name cass-operator settled on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datacenter_name: Option<String>,
    /// `Updating` or `Ready`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cassandra_operator_progress: Option<String>,
    /// cass-operator's conditions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<DatacenterCondition>,
    /// The generation cass-operator has finished with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// One of cass-operator's conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DatacenterCondition {
    /// Its type, such as `Ready`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
}

/// Name of the container that runs Medusa beside Cassandra (upstream §2.4).
pub const MEDUSA_CONTAINER: &str = "medusa";
/// The rack every node is in when a datacenter names none (upstream §1.13).
pub const DEFAULT_RACK: &str = "default";

impl CassandraDatacenter {
    /// The name Cassandra itself uses for the datacenter; it is what Medusa writes into backups.
    #[must_use]
    pub fn display_name(&self) -> String {
        self.spec
            .datacenter_name
            .clone()
            .filter(|n| !n.is_empty())
            .or_else(|| self.metadata.name.clone())
            .unwrap_or_default()
    }

    /// The Medusa container of the pod template, when there is one.
    #[must_use]
    pub fn medusa_container(&self) -> Option<&Container> {
        let pod = self.spec.pod_template_spec.as_ref()?.spec.as_ref()?;
        pod.containers.iter().find(|c| c.name == MEDUSA_CONTAINER)
    }

    /// Whether cass-operator says the datacenter is ready to serve.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.status
            .as_ref()
            .is_some_and(|s| s.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
    }

    /// Rack names; the one default rack when none is named.
    #[must_use]
    pub fn rack_names(&self) -> Vec<String> {
        if self.spec.racks.is_empty() {
            return vec![DEFAULT_RACK.to_owned()];
        }
        self.spec.racks.iter().map(|r| r.name.clone()).collect()
    }

    /// The two labels cass-operator puts on everything of this datacenter (upstream §0.1). k8ssandra's
    /// `Forbid` rule counts only jobs that carry both (upstream §8.K).
    #[must_use]
    pub fn datacenter_labels(&self) -> [(String, String); 2] {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        [
            (labels::CASSANDRA_CLUSTER.to_owned(), labels::clean_value(&self.spec.cluster_name)),
            (labels::CASSANDRA_DATACENTER.to_owned(), labels::clean_value(name)),
        ]
    }
}

/// What we read of a K8ssandraCluster: where its datacenters are and how it uses Medusa. Installed only
/// where k8ssandra-operator's own definition is absent; unknown fields are kept.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "k8ssandra.io",
    version = "v1alpha1",
    kind = "K8ssandraCluster",
    plural = "k8ssandraclusters",
    shortname = "k8c",
    shortname = "k8cs",
    namespaced,
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct K8ssandraClusterSpec {
    /// The Cassandra part: we read where the datacenters are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cassandra: Option<CassandraTemplate>,
    /// The Medusa part: we read which configuration and secrets it refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medusa: Option<MedusaTemplate>,
}

/// `spec.cassandra` of a K8ssandraCluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline, extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct CassandraTemplate {
    /// Cassandra's cluster name, when it differs from the object's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,
    /// The datacenters.
    pub datacenters: Vec<DatacenterTemplate>,
}

/// One datacenter of a K8ssandraCluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline, extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct DatacenterTemplate {
    /// Name and namespace of the CassandraDatacenter.
    pub metadata: EmbeddedMetadata,
    /// Name of the data plane; empty is the control plane's own cluster.
    #[serde(rename = "k8sContext", skip_serializing_if = "Option::is_none")]
    pub k8s_context: Option<String>,
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

/// `spec.medusa` of a K8ssandraCluster (upstream §1.7): the references we follow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline, extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct MedusaTemplate {
    /// Shared configuration, in the K8ssandraCluster's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub medusa_configuration_ref: Option<SecretRef>,
    /// The cluster's own storage properties.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_properties: Option<Storage>,
    /// Secret with Medusa's CQL user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cassandra_user_secret_ref: Option<SecretRef>,
    /// Secret with client certificates (deprecated upstream).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificates_secret_ref: Option<SecretRef>,
    /// How the gRPC service is exposed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_properties: Option<ServiceProperties>,
    /// Client certificates, store by store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_encryption_stores: Option<EncryptionStores>,
}

/// `spec.medusa.serviceProperties`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline, extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct ServiceProperties {
    /// mTLS material.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<ServiceEncryption>,
}

/// `spec.medusa.serviceProperties.encryption`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline, extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct ServiceEncryption {
    /// Secret the caller authenticates with.
    pub client_secret_name: String,
    /// Secret the Medusa server authenticates with.
    pub server_secret_name: String,
}

/// `spec.medusa.clientEncryptionStores`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline, extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct EncryptionStores {
    /// Keystore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keystore_secret_ref: Option<SecretRef>,
    /// Keystore password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keystore_password_secret_ref: Option<SecretRef>,
    /// Truststore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truststore_secret_ref: Option<SecretRef>,
    /// Truststore password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truststore_password_secret_ref: Option<SecretRef>,
}

impl MedusaTemplate {
    /// Names of every Secret the template refers to, sorted, each once.
    #[must_use]
    pub fn secret_names(&self) -> Vec<String> {
        let stores = self.client_encryption_stores.as_ref();
        let encryption = self.service_properties.as_ref().and_then(|s| s.encryption.as_ref());
        let refs = [
            self.storage_properties.as_ref().and_then(|s| s.storage_secret_ref.as_ref()),
            self.cassandra_user_secret_ref.as_ref(),
            self.certificates_secret_ref.as_ref(),
            stores.and_then(|s| s.keystore_secret_ref.as_ref()),
            stores.and_then(|s| s.keystore_password_secret_ref.as_ref()),
            stores.and_then(|s| s.truststore_secret_ref.as_ref()),
            stores.and_then(|s| s.truststore_password_secret_ref.as_ref()),
        ];
        let mut names: Vec<String> = refs
            .into_iter()
            .flatten()
            .map(|r| r.name.clone())
            .chain(
                encryption
                    .into_iter()
                    .flat_map(|e| [e.client_secret_name.clone(), e.server_secret_name.clone()]),
            )
            .filter(|n| !n.is_empty())
            .collect();
        names.sort();
        names.dedup();
        names
    }
}
