//! Which storage properties of a K8ssandraCluster a person wrote (ADR 9). Pure.
//!
//! Our definition has no defaults: what is there was written. Upstream's fills some fields as soon as
//! `storageProperties` is there; then a value that equals the default needs evidence that it was asked for.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::api::{k8ssandra::K8ssandraCluster, labels, medusa::Storage};

/// What upstream's definition fills into `storageProperties` (upstream: Storage).
pub mod defaults {
    /// `maxBackupAge`, `maxBackupCount` and `concurrentTransfers`.
    pub const COUNT: i64 = 0;
    /// `transferMaxBandwidth`.
    pub const BANDWIDTH: &str = "50MB/s";
    /// `multiPartUploadThreshold`: 100 MiB.
    pub const MULTIPART: i64 = 104_857_600;
    /// `podStorage.size`.
    pub const SIZE: &str = "10Gi";
}

/// What is known about who wrote the storage properties of one K8ssandraCluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WrittenStorage {
    /// Everything that is there.
    Everything,
    /// What differs from a default, and these fields.
    Only(BTreeSet<String>),
}

impl WrittenStorage {
    /// Looks at what the API server keeps of how `cluster` was written. A default counts as written when
    /// - a server-side apply holds it: an apply owns only what it sent;
    /// - kubectl's record of the last client-side apply has it;
    /// - an update changed this field alone. Who creates an object owns the defaults in it too, together with the
    ///   map around them (`.`), so a field beside a `.` proves nothing.
    #[must_use]
    pub fn of(cluster: &K8ssandraCluster) -> Self {
        let own = cluster.spec.medusa.as_ref().and_then(|m| m.storage_properties.as_ref());
        let managers = cluster.metadata.managed_fields.as_deref().unwrap_or_default();
        if managers.is_empty() || !own.is_some_and(|own| is_defaulted(cluster, own)) {
            return Self::Everything;
        }
        let mut fields = BTreeSet::new();
        for entry in managers {
            let applied = entry.operation.as_deref() == Some("Apply");
            if let Some(storage) =
                entry.fields_v1.as_ref().and_then(|f| f.0.pointer("/f:spec/f:medusa/f:storageProperties"))
            {
                held(storage, "", applied, &mut fields);
            }
        }
        let annotations = cluster.metadata.annotations.as_ref();
        if let Some(last) = annotations.and_then(|a| a.get(labels::LAST_APPLIED))
            && let Ok(last) = serde_json::from_str::<Value>(last)
            && let Some(storage) = last.pointer("/spec/medusa/storageProperties")
        {
            listed(storage, "", &mut fields);
        }
        Self::Only(fields)
    }

    /// Whether a person wrote `field`, which is there; `is_default` says that its value is upstream's default.
    #[must_use]
    pub fn has(&self, field: &str, is_default: bool) -> bool {
        match self {
            Self::Everything => true,
            Self::Only(fields) => !is_default || fields.contains(field),
        }
    }
}

/// Whether a definition with upstream's defaults has stored this object: then all of them are there.
fn is_defaulted(cluster: &K8ssandraCluster, own: &Storage) -> bool {
    let medusa = cluster.spec.medusa.as_ref();
    own.max_backup_age.is_some()
        && own.max_backup_count.is_some()
        && own.transfer_max_bandwidth.is_some()
        && own.concurrent_transfers.is_some()
        && own.multi_part_upload_threshold.is_some()
        && own.pod_storage.as_ref().is_none_or(|pod| pod.size.is_some())
        && cluster.spec.secrets_provider.is_some()
        && medusa.is_some_and(|m| m.purge_backups.is_some())
}

/// The fields below `node` of a `fieldsV1` that its manager wrote.
fn held(node: &Value, path: &str, applied: bool, fields: &mut BTreeSet<String>) {
    let Some(map) = node.as_object() else { return };
    for (key, child) in map {
        let Some(name) = key.strip_prefix("f:") else { continue };
        let field = format!("{path}{name}");
        held(child, &format!("{field}."), applied, fields);
        if applied || !map.contains_key(".") {
            fields.insert(field);
        }
    }
}

/// The fields of an object, those of objects within it as `a.b`.
fn listed(node: &Value, path: &str, fields: &mut BTreeSet<String>) {
    for (name, child) in node.as_object().into_iter().flatten() {
        let field = format!("{path}{name}");
        listed(child, &format!("{field}."), fields);
        fields.insert(field);
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn cluster(defaulted: bool, metadata: Value) -> K8ssandraCluster {
        let mut spec = json!({"medusa": {"storageProperties": {
            "prefix": "p", "maxBackupAge": 0, "maxBackupCount": 3, "transferMaxBandwidth": "50MB/s",
            "concurrentTransfers": 0, "multiPartUploadThreshold": 104_857_600, "podStorage": {"size": "10Gi"},
        }}});
        if defaulted {
            spec["secretsProvider"] = json!("internal");
            spec["medusa"]["purgeBackups"] = json!(true);
        }
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn managed(operation: &str, storage: Value) -> Value {
        let fields = json!({"f:spec": {"f:medusa": {".": {}, "f:storageProperties": storage}}});
        json!({"managedFields": [
            {"manager": "m", "operation": operation, "fieldsType": "FieldsV1", "fieldsV1": fields},
        ]})
    }

    #[rstest]
    #[case::no_record_at_all(true, json!({}), true)]
    #[case::our_definition(false, managed("Update", json!({".": {}, "f:maxBackupAge": {}})), true)]
    #[case::created_with_the_defaults(true, managed("Update", json!({".": {}, "f:maxBackupAge": {}})), false)]
    #[case::applied_without_it(true, managed("Apply", json!({"f:prefix": {}})), false)]
    #[case::applied(true, managed("Apply", json!({".": {}, "f:maxBackupAge": {}})), true)]
    #[case::changed_alone(true, managed("Update", json!({"f:maxBackupAge": {}})), true)]
    #[case::an_empty_map_was_applied(true, managed("Apply", json!({})), false)]
    #[case::another_shape(true, managed("Apply", json!("what")), false)]
    fn a_default_needs_evidence(#[case] defaulted: bool, #[case] metadata: Value, #[case] expected: bool) {
        let written = WrittenStorage::of(&cluster(defaulted, metadata));
        assert_eq!(written.has("maxBackupAge", true), expected);
        assert!(written.has("maxBackupCount", false), "no default is 3, so somebody wrote it");
    }

    #[test]
    fn a_field_within_a_field_is_told_apart() {
        let applied = managed("Apply", json!({"f:podStorage": {"f:storageClassName": {}}}));
        assert!(!WrittenStorage::of(&cluster(true, applied)).has("podStorage.size", true));
        let applied = managed("Apply", json!({"f:podStorage": {"f:size": {}}}));
        assert!(WrittenStorage::of(&cluster(true, applied)).has("podStorage.size", true));
    }

    #[test]
    fn kubectls_record_of_an_apply_is_evidence() {
        let mut metadata =
            managed("Update", json!({".": {}, "f:maxBackupAge": {}, "f:concurrentTransfers": {}}));
        let last = json!({"spec": {"medusa": {"storageProperties": {"maxBackupAge": 0}}}}).to_string();
        metadata["annotations"] = json!({labels::LAST_APPLIED: last});
        let written = WrittenStorage::of(&cluster(true, metadata.clone()));
        assert!(written.has("maxBackupAge", true) && !written.has("concurrentTransfers", true));
        metadata["annotations"] = json!({labels::LAST_APPLIED: "{"});
        assert!(!WrittenStorage::of(&cluster(true, metadata)).has("maxBackupAge", true));
    }
}
