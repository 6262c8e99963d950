//! What is kept of a copy that is seen in a data plane, and the hash of what it holds. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use sha2::{Digest as _, Sha256};

use super::records::CopyRecord;
use crate::api::{
    labels,
    medusa::{MedusaConfiguration, MedusaConfigurationSpec},
    names,
};
use crate::control_plane::identity::{maker, writer};

fn record(meta: &ObjectMeta, content_hash: String) -> CopyRecord {
    let annotation =
        |key: &str| meta.annotations.as_ref().and_then(|a| a.get(key)).cloned().unwrap_or_default();
    CopyRecord {
        uid: meta.uid.clone().unwrap_or_default(),
        resource_version: meta.resource_version.clone().unwrap_or_default(),
        source: annotation(labels::SOURCE),
        source_uid: annotation(labels::SOURCE_UID),
        declared_hash: annotation(labels::CONTENT_HASH),
        content_hash,
        immutable: false,
        changed_by: changed_by(meta, labels::MANAGER_CONTROL_PLANE).unwrap_or_default().to_owned(),
        fleet: writer(meta).unwrap_or_default().to_owned(),
        installation: maker(meta).unwrap_or_default().to_owned(),
    }
}

/// Field manager of the last change to an object that is not `ours`; a status is no part of it.
#[must_use]
pub fn changed_by<'a>(meta: &'a ObjectMeta, ours: &str) -> Option<&'a str> {
    let entries = meta.managed_fields.iter().flatten();
    let theirs = entries.filter(|entry| entry.subresource.as_deref().unwrap_or_default().is_empty());
    let theirs = theirs.filter(|entry| entry.manager.as_deref() != Some(ours));
    theirs
        .max_by_key(|entry| entry.time.as_ref().map(|time| time.0))
        .and_then(|entry| entry.manager.as_deref())
}

/// What is kept of a Secret copy.
#[must_use]
pub fn secret_record(secret: &Secret) -> CopyRecord {
    let empty = BTreeMap::new();
    let hash = hash_data(secret.type_.as_deref(), secret.data.as_ref().unwrap_or(&empty));
    CopyRecord { immutable: secret.immutable == Some(true), ..record(&secret.metadata, hash) }
}

/// What is kept of a MedusaConfiguration copy.
#[must_use]
pub fn configuration_record(configuration: &MedusaConfiguration) -> CopyRecord {
    record(&configuration.metadata, hash_configuration(&configuration.spec))
}

/// What is kept of a ConfigMap we wrote; the hash is over its `data`, keys and values.
#[must_use]
pub fn config_map_record(map: &ConfigMap) -> CopyRecord {
    record(&map.metadata, hash_config_map(map.data.as_ref().unwrap_or(&BTreeMap::new())))
}

#[must_use]
pub fn hash_config_map(data: &BTreeMap<String, String>) -> String {
    names::sha256_hex(serde_json::to_string(data).unwrap_or_default().as_bytes())
}

/// SHA-256 over type, keys and values, each with its length so that no two contents read the same.
pub(crate) fn hash_data(type_: Option<&str>, data: &BTreeMap<String, ByteString>) -> String {
    let mut hasher = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hasher.update(bytes.len().to_be_bytes());
        hasher.update(bytes);
    };
    add(type_.filter(|t| !t.is_empty()).unwrap_or("Opaque").as_bytes());
    for (key, value) in data {
        add(key.as_bytes());
        add(&value.0);
    }
    format!("{:x}", hasher.finalize())
}

#[must_use]
pub fn hash_configuration(spec: &MedusaConfigurationSpec) -> String {
    names::sha256_hex(serde_json::to_string(spec).unwrap_or_default().as_bytes())
}
