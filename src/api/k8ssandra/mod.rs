//! `K8ssandraCluster` (`k8ssandra.io/v1alpha1`): the part of k8ssandra-operator's kind that we read. Beside it, the
//! `ClientConfig` by which it knows other clusters.
//!
//! Every field is optional on the way in and unknown ones are kept, so that a manifest or an object of any release of
//! k8ssandra-operator decodes; nothing of the spec is ever written back. Our definition is installed only where
//! upstream's is absent. It has no defaults: what is there, a person wrote (ADR 9).

mod cassandra;
mod client_config;
mod medusa;
mod rules;
mod schema;

pub use cassandra::{
    CassandraConfig, CassandraTemplate, DatacenterTemplate, EmbeddedMetadata, ManagementApiAuth,
    ManualManagementApiAuth,
};
pub use client_config::{ClientConfig, ClientConfigSpec, KubeConfigSecret};
use kube::{CustomResource, KubeSchema};
pub use medusa::{
    ConfigurationRef, ContainerImage, EncryptionStores, MedusaTemplate, Probe, RawObject, SecretKey,
    ServiceEncryption, ServiceProperties,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operator_names;

/// API group of K8ssandraCluster.
pub const GROUP: &str = "k8ssandra.io";

/// What we read of a K8ssandraCluster: where its datacenters are and how it uses Medusa.
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
    /// The Cassandra part: where the datacenters are, and what of them concerns Medusa.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cassandra: Option<CassandraTemplate>,
    /// The Medusa part; without it Medusa is not deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medusa: Option<MedusaTemplate>,
    /// Who makes the secrets of Cassandra users: `internal` (default) or `external`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets_provider: Option<SecretsProvider>,
}

/// Who makes the secrets of Cassandra users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum SecretsProvider {
    /// The operators, as Secrets.
    #[default]
    Internal,
    /// Something else, such as Vault: no user secret is made, and no user is given to Medusa.
    External,
}

impl K8ssandraCluster {
    /// Cassandra's name of the cluster: `spec.cassandra.clusterName`, else the object's name.
    #[must_use]
    pub fn cassandra_name(&self) -> &str {
        let named = self.spec.cassandra.as_ref().and_then(|c| c.cluster_name.as_deref());
        named.filter(|n| !n.is_empty()).or(self.metadata.name.as_deref()).unwrap_or_default()
    }

    /// [`Self::cassandra_name`] as k8ssandra-operator writes it into the names of what it makes (upstream: Names).
    #[must_use]
    pub fn sanitized_name(&self) -> String {
        operator_names::label(self.cassandra_name())
    }

    /// The datacenters it lists, in order.
    pub fn datacenters(&self) -> impl Iterator<Item = &DatacenterTemplate> {
        self.spec.cassandra.iter().flat_map(|c| &c.datacenters)
    }

    /// Whether somebody else hands out the secrets of Cassandra users.
    #[must_use]
    pub fn secrets_are_external(&self) -> bool {
        self.spec.secrets_provider == Some(SecretsProvider::External)
    }

    /// Whether clients of `datacenter` must speak TLS to Cassandra.
    #[must_use]
    pub fn requires_client_encryption(&self, datacenter: &DatacenterTemplate) -> bool {
        let cluster = self.spec.cassandra.as_ref().and_then(|c| c.config.as_ref());
        let own = datacenter.config.as_ref().and_then(CassandraConfig::client_encryption_enabled);
        own.or_else(|| cluster.and_then(CassandraConfig::client_encryption_enabled)).unwrap_or_default()
    }

    /// How callers authenticate to the management API of `datacenter`, where they must: the datacenter's own
    /// setting, else the cluster's.
    #[must_use]
    pub fn management_api_auth<'a>(
        &'a self,
        datacenter: &'a DatacenterTemplate,
    ) -> Option<&'a ManualManagementApiAuth> {
        let cluster = self.spec.cassandra.as_ref().and_then(|c| c.management_api_auth.as_ref());
        datacenter.management_api_auth.as_ref().or(cluster)?.manual.as_ref()
    }
}

#[cfg(test)]
mod tests;
