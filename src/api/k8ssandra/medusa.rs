//! `spec.medusa` of a K8ssandraCluster (upstream: spec.medusa).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{rules, schema};
use crate::api::medusa::{SecretRef, Storage};

/// A piece of somebody else's API that is passed on as it is, such as `resources` of a container. The API server of
/// the datacenter is the judge of it.
pub type RawObject = Map<String, Value>;

/// `spec.medusa` of a K8ssandraCluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(
    inline,
    extend("x-kubernetes-preserve-unknown-fields" = true, "x-kubernetes-validations" = rules::medusa())
)]
pub struct MedusaTemplate {
    /// Shared configuration, in the K8ssandraCluster's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub medusa_configuration_ref: Option<ConfigurationRef>,
    /// The cluster's own storage properties; what is written here wins over the shared configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::storage_properties")]
    pub storage_properties: Option<Storage>,
    /// Medusa's image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_image: Option<ContainerImage>,
    /// `securityContext` of both containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_object")]
    pub security_context: Option<RawObject>,
    /// Secret with Medusa's CQL user, keys `username` and `password`; one is made when none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cassandra_user_secret_ref: Option<SecretRef>,
    /// Port and TLS of Medusa's gRPC service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_properties: Option<ServiceProperties>,
    /// Secret with the certificates Medusa presents to Cassandra: keys `rootca.crt`, `client.crt_signed` and
    /// `client.key`. It wins over `clientEncryptionStores`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificates_secret_ref: Option<SecretRef>,
    /// The same certificates, file by file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_encryption_stores: Option<EncryptionStores>,
    /// `resources` of the container `medusa`, instead of the defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_object")]
    pub container_resources: Option<RawObject>,
    /// `resources` of the init container `medusa-restore`, instead of the defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_object")]
    pub init_container_resources: Option<RawObject>,
    /// Numbers of the readiness probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Probe>,
    /// Numbers of the liveness probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Probe>,
    /// Whether each datacenter gets a schedule that purges its backups every night. Absent: yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purge_backups: Option<bool>,
}

/// `medusaConfigurationRef`. Only `name` may be set; the others are upstream's, and told of when they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(
    inline,
    extend("x-kubernetes-map-type" = "atomic", "x-kubernetes-validations" = rules::configuration_ref())
)]
pub struct ConfigurationRef {
    /// Name of the MedusaConfiguration.
    pub name: String,
    /// Must be empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Must be empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// Must be empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Must be empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_path: Option<String>,
    /// Must be empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Must be empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// `containerImage`: the parts of an image's name; what is absent is the default image's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline, extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct ContainerImage {
    /// Such as `docker.io`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// Such as `k8ssandra`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Such as `medusa`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Such as `0.29.1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// `Always`, `IfNotPresent` or `Never`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::pull_policy")]
    pub pull_policy: Option<String>,
    /// Secret to pull the image with, in the datacenter's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_secret_ref: Option<SecretRef>,
}

/// `serviceProperties`: Medusa's gRPC service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline, extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct ServiceProperties {
    /// Port it listens on; absent or 0 is 50051.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::api::schema::plain_integer")]
    pub grpc_port: Option<i64>,
    /// Mutual TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<ServiceEncryption>,
}

/// `serviceProperties.encryption`: both Secrets hold `ca.crt`, `tls.crt` and `tls.key`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(
    inline,
    extend("x-kubernetes-preserve-unknown-fields" = true, "required" = ["clientSecretName", "serverSecretName"])
)]
pub struct ServiceEncryption {
    /// Secret the caller authenticates with.
    pub client_secret_name: String,
    /// Secret the Medusa server authenticates with.
    pub server_secret_name: String,
}

/// `clientEncryptionStores`. In `spec.medusa` upstream's type holds PEM files under other names: the keystore is the
/// certificate of Cassandra's authority, the truststore Medusa's certificate, the truststore's password Medusa's key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(
    inline,
    extend("x-kubernetes-preserve-unknown-fields" = true, "required" = ["keystoreSecretRef", "truststoreSecretRef"])
)]
pub struct EncryptionStores {
    /// Keystore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keystore_secret_ref: Option<SecretKey>,
    /// Keystore password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keystore_password_secret_ref: Option<SecretKey>,
    /// Truststore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truststore_secret_ref: Option<SecretKey>,
    /// Truststore password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truststore_password_secret_ref: Option<SecretKey>,
}

/// One key of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(inline, extend("x-kubernetes-map-type" = "atomic"))]
pub struct SecretKey {
    /// Name of the Secret.
    pub name: String,
    /// The key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// A probe of the container `medusa`: its numbers may be changed, what it does may not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline, extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct Probe {
    /// Seconds before the first probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int32")]
    pub initial_delay_seconds: Option<i64>,
    /// Seconds a probe may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int32")]
    pub timeout_seconds: Option<i64>,
    /// Seconds between probes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int32")]
    pub period_seconds: Option<i64>,
    /// Successes in a row until it counts as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int32")]
    pub success_threshold: Option<i64>,
    /// Failures in a row until it counts as ill.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int32")]
    pub failure_threshold: Option<i64>,
    /// Seconds the container has to end when the probe failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub termination_grace_period_seconds: Option<i64>,
    /// May not be set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_object")]
    pub exec: Option<RawObject>,
    /// May not be set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_object")]
    pub http_get: Option<RawObject>,
    /// May not be set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_object")]
    pub tcp_socket: Option<RawObject>,
    /// May not be set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_object")]
    pub grpc: Option<RawObject>,
}

impl Probe {
    /// The field that would change what the probe does, when one is set.
    #[must_use]
    pub fn handler(&self) -> Option<&'static str> {
        let handlers = [
            ("exec", &self.exec),
            ("httpGet", &self.http_get),
            ("tcpSocket", &self.tcp_socket),
            ("grpc", &self.grpc),
        ];
        handlers.into_iter().find(|(_, handler)| handler.is_some()).map(|(name, _)| name)
    }
}

impl MedusaTemplate {
    /// Name of the shared configuration, when one is named.
    #[must_use]
    pub fn configuration(&self) -> Option<&str> {
        self.medusa_configuration_ref.as_ref().map(|r| r.name.as_str()).filter(|n| !n.is_empty())
    }

    /// How Medusa's gRPC service is encrypted, where it is.
    #[must_use]
    pub fn encryption(&self) -> Option<&ServiceEncryption> {
        self.service_properties.as_ref()?.encryption.as_ref()
    }

    /// The port of Medusa's gRPC service, when it is not the default.
    #[must_use]
    pub fn grpc_port(&self) -> Option<i64> {
        self.service_properties.as_ref()?.grpc_port.filter(|port| *port != 0)
    }

    /// Names of every Secret the template refers to, sorted, each once.
    #[must_use]
    pub fn secret_names(&self) -> Vec<String> {
        let name = |r: &SecretRef| r.name.clone();
        let image = self.container_image.as_ref();
        let refs = [
            self.storage_properties.as_ref().and_then(|s| s.storage_secret_ref.as_ref()),
            self.cassandra_user_secret_ref.as_ref(),
            self.certificates_secret_ref.as_ref(),
            image.and_then(|i| i.pull_secret_ref.as_ref()),
        ];
        let stores = self.client_encryption_stores.iter().flat_map(EncryptionStores::keys);
        let encryption = self.encryption();
        let mut names: Vec<String> = refs
            .into_iter()
            .flatten()
            .map(name)
            .chain(stores.map(|(_, key)| key.name.clone()))
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

impl EncryptionStores {
    /// The keys it names, each with its field.
    pub fn keys(&self) -> impl Iterator<Item = (&'static str, &SecretKey)> {
        [
            ("keystoreSecretRef", &self.keystore_secret_ref),
            ("keystorePasswordSecretRef", &self.keystore_password_secret_ref),
            ("truststoreSecretRef", &self.truststore_secret_ref),
            ("truststorePasswordSecretRef", &self.truststore_password_secret_ref),
        ]
        .into_iter()
        .filter_map(|(field, key)| key.as_ref().map(|key| (field, key)))
    }
}
