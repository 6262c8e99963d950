//! Fragments of the K8ssandraCluster's schema that its Rust types cannot say by themselves.

use schemars::{JsonSchema as _, Schema, SchemaGenerator, json_schema};
use serde_json::json;

use super::rules;
use crate::api::medusa::{Storage, StorageProvider};

/// Any object, kept as it is.
pub fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// A number as upstream's definition says; a definition's format is no bound, so it is read as wider.
pub fn int32(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "format": "int32"})
}

/// `serverType`.
pub fn server_type(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["cassandra", "dse", "hcd"]})
}

/// `pullPolicy`.
pub fn pull_policy(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["Always", "IfNotPresent", "Never"]})
}

/// `storageProperties`: MedusaConfiguration's, and `local` among the providers. That it has no defaults is seen to
/// by [`crate::api::crds`].
pub fn storage_properties(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = Storage::json_schema(generator);
    schema.insert("x-kubernetes-preserve-unknown-fields".to_owned(), json!(true));
    schema.insert("x-kubernetes-validations".to_owned(), rules::storage());
    if let Some(provider) = schema.pointer_mut("/properties/storageProvider") {
        *provider = json!({
            "type": "string",
            "description": "Kind of storage backend; `local` is a volume of the pod, for tests.",
            "enum": StorageProvider::ALL.map(StorageProvider::as_str),
        });
    }
    schema
}
