//! Storage properties, shared by MedusaConfiguration and K8ssandraCluster (upstream: Storage).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::schema;

/// A storage backend and how Medusa uses it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Storage {
    /// Kind of storage backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_provider: Option<StorageProvider>,
    /// `role-based` needs no secret; `credential-based` reads `storageSecretRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_type: Option<CredentialsType>,
    /// Secret whose key `credentials` holds the credentials file Medusa expects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_secret_ref: Option<SecretRef>,
    /// Bucket (container) name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket_name: Option<String>,
    /// Top-level folder of one Cassandra cluster in the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Days after which a purge removes a backup; 0 keeps all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::integer_default_0")]
    pub max_backup_age: Option<i64>,
    /// Backups a purge keeps; 0 keeps all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::integer_default_0")]
    pub max_backup_count: Option<i64>,
    /// AWS profile to use from the credentials file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_profile: Option<String>,
    /// Upload limit per node, such as `50MB/s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::bandwidth")]
    pub transfer_max_bandwidth: Option<String>,
    /// Concurrent uploads per node; 0 means 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::integer_default_0")]
    pub concurrent_transfers: Option<i64>,
    /// File size in bytes from which uploads are split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::multipart_threshold")]
    pub multi_part_upload_threshold: Option<i64>,
    /// Host of the storage backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Region of the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Port of the storage backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::plain_integer")]
    pub port: Option<i64>,
    /// Whether to use TLS towards the storage backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure: Option<bool>,
    /// Whether to verify the storage backend's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssl_verify: Option<bool>,
    /// Days for which a purge spares files no backup refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::plain_integer")]
    pub backup_grace_period_in_days: Option<i64>,
    /// Volume for the `local` provider; kept for compatibility.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_storage: Option<PodStorage>,
}

/// Storage backends Medusa knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum StorageProvider {
    /// Google Cloud Storage.
    GoogleStorage,
    /// Azure Blob Storage.
    AzureBlobs,
    /// AWS S3.
    S3,
    /// Anything that speaks S3, such as MinIO.
    S3Compatible,
    /// Ceph RADOS Gateway.
    S3Rgw,
    /// IBM Cloud Object Storage.
    IbmStorage,
    /// A volume of the pod, for tests. Only a K8ssandraCluster may ask for it: upstream's MedusaConfiguration
    /// does not know it (upstream: Storage).
    #[schemars(skip)]
    Local,
}

/// What Medusa makes of a provider.
struct Provided {
    /// The word in objects and in medusa.ini.
    word: &'static str,
    /// Whether its backups are in a bucket, or container, of a service.
    has_bucket: bool,
    /// Whether its host has to be named: the provider does not imply one.
    needs_host: bool,
    /// Whether Medusa takes it for AWS unless a region and an endpoint are named.
    is_taken_for_aws: bool,
}

impl StorageProvider {
    /// All of them. Schema, messages and checks are made from this list and the table below it.
    pub const ALL: [Self; 7] = [
        Self::GoogleStorage,
        Self::AzureBlobs,
        Self::S3,
        Self::S3Compatible,
        Self::S3Rgw,
        Self::IbmStorage,
        Self::Local,
    ];

    fn provided(self) -> Provided {
        let (word, has_bucket, needs_host, is_taken_for_aws) = match self {
            Self::GoogleStorage => ("google_storage", true, false, false),
            Self::AzureBlobs => ("azure_blobs", true, false, false),
            Self::S3 => ("s3", true, false, false),
            Self::S3Compatible => ("s3_compatible", true, true, false),
            Self::S3Rgw => ("s3_rgw", true, true, true),
            Self::IbmStorage => ("ibm_storage", true, true, true),
            Self::Local => ("local", false, false, false),
        };
        Provided { word, has_bucket, needs_host, is_taken_for_aws }
    }

    /// The word in objects and in medusa.ini.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.provided().word
    }

    /// Whether its backups are in a bucket of a service; those of `local` are on a volume of the pod.
    #[must_use]
    pub fn has_bucket(self) -> bool {
        self.provided().has_bucket
    }

    /// Whether its host has to be named.
    #[must_use]
    pub fn needs_host(self) -> bool {
        self.provided().needs_host
    }

    /// Whether Medusa takes it for AWS unless a region and an endpoint are named.
    #[must_use]
    pub fn is_taken_for_aws(self) -> bool {
        self.provided().is_taken_for_aws
    }
}

/// Where Medusa's credentials come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum CredentialsType {
    /// From the pod's cloud identity; no secret.
    RoleBased,
    /// From the storage secret.
    CredentialBased,
}

/// Reference to a Secret in the same namespace; an empty name means none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRef {
    /// Name of the Secret.
    #[serde(default)]
    pub name: String,
}

impl JsonSchema for SecretRef {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SecretRef".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schema::local_object_reference()
    }
}

/// Volume for the `local` provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct PodStorage {
    /// Storage class of the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// Size of the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantity_default_10gi")]
    pub size: Option<k8s_openapi::apimachinery::pkg::util::intstr::IntOrString>,
    /// Access modes of the volume.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access_modes: Vec<String>,
}

impl Storage {
    /// Name of the storage secret, when one is named.
    #[must_use]
    pub fn secret_name(&self) -> Option<&str> {
        self.storage_secret_ref.as_ref().map(|r| r.name.as_str()).filter(|n| !n.is_empty())
    }

    /// Whether Medusa uses the pod's cloud identity instead of a secret.
    #[must_use]
    pub fn is_role_based(&self) -> bool {
        self.credentials_type == Some(CredentialsType::RoleBased)
    }
}

#[cfg(test)]
mod tests {
    use schemars::SchemaGenerator;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn every_provider_is_in_the_list_under_the_word_it_is_read_by() {
        for provider in StorageProvider::ALL {
            assert_eq!(serde_json::to_value(provider).unwrap(), json!(provider.as_str()));
        }
        let schema = StorageProvider::json_schema(&mut SchemaGenerator::default()).to_value();
        let words = |value: &Value| value.as_str().map(str::to_owned);
        let each = [&schema["oneOf"], &schema["enum"]].into_iter().filter_map(Value::as_array).flatten();
        let derived: Vec<String> =
            each.filter_map(|one| words(&one["const"]).or_else(|| words(one))).collect();
        let listed = StorageProvider::ALL.iter().filter(|p| **p != StorageProvider::Local);
        assert_eq!(derived, listed.map(|p| p.as_str().to_owned()).collect::<Vec<_>>());
    }
}
