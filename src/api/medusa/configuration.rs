//! `MedusaConfiguration`: storage settings that several clusters share (upstream §1.6).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Storage;
use crate::api::schema;

/// Shared storage settings.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "medusa.k8ssandra.io",
    version = "v1alpha1",
    kind = "MedusaConfiguration",
    plural = "medusaconfigurations",
    namespaced,
    status = "MedusaConfigurationStatus",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase")]
pub struct MedusaConfigurationSpec {
    /// The storage backend and how to reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_properties: Option<Storage>,
}

/// Whether the configuration can be used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MedusaConfigurationStatus {
    /// `SecretAvailable`, `Ready`, and in the control plane `Replicated`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
