//! A copy as it was found, and the object that is applied. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta},
};
use serde_json::{Value, json};

use super::desired::{CopyKey, CopyKind};
use crate::{
    api::{labels, names},
    control_plane::{data_planes::view::ObjectKey, identity::Identity, sources::Payload},
};

/// Whether an object says of itself that it is a copy this fleet made: by its label and by every annotation we
/// write with it.
#[must_use]
pub fn is_copy_of_ours(meta: &ObjectMeta, control_plane: &Identity) -> bool {
    let has = |key: &str| meta.annotations.as_ref().is_some_and(|all| all.contains_key(key));
    control_plane.wrote(meta)
        && [labels::SOURCE, labels::SOURCE_UID, labels::CONTENT_HASH].into_iter().all(has)
}

/// Who looks after an object that is not ours, for people.
#[must_use]
pub fn owner(meta: &ObjectMeta) -> String {
    let label = |key: &str| meta.labels.as_ref().and_then(|all| all.get(key));
    if label(labels::REPLICATED_BY).is_some() {
        return "k8ssandra-operator".to_owned();
    }
    if let Some(other) = label(labels::CONTROL_PLANE) {
        return format!("fleet `{}`", names::shown(other, 63));
    }
    let writers = || meta.managed_fields.iter().flatten();
    let holds_data = |entry: &&ManagedFieldsEntry| {
        entry.fields_v1.as_ref().is_some_and(|f| f.0.get("f:data").or_else(|| f.0.get("f:spec")).is_some())
    };
    let writer = writers().find(holds_data).or_else(|| writers().next());
    let name = label(labels::MANAGED_BY).or_else(|| writer.and_then(|entry| entry.manager.as_ref()));
    name.map_or_else(|| "somebody else".to_owned(), |name| format!("`{}`", names::shown(name, 63)))
}

/// Most keys that are named.
const NAMED: usize = 5;

/// What of a Secret is not as in its source: names only.
#[must_use]
pub fn differences(found: &Secret, payload: &Payload) -> String {
    let Payload::Secret { type_, data, .. } = payload else { return "its kind".to_owned() };
    let opaque = |type_: Option<&str>| type_.filter(|t| !t.is_empty()).unwrap_or("Opaque").to_owned();
    let empty = BTreeMap::new();
    let held = found.data.as_ref().unwrap_or(&empty);
    let keys: BTreeSet<&String> =
        held.keys().chain(data.keys()).filter(|key| held.get(*key) != data.get(*key)).collect();
    let mut named: Vec<String> =
        keys.iter().take(NAMED).map(|key| format!("`{}`", names::shown(key, 80))).collect();
    if opaque(found.type_.as_deref()) != opaque(type_.as_deref()) {
        named.push("its type".to_owned());
    }
    let more = keys.len().saturating_sub(NAMED);
    if more > 0 {
        named.push(format!("{more} more keys"));
    }
    named.join(", ")
}

/// Which version of a copy a write is meant for.
pub enum Precondition<'a> {
    /// The copy must not exist yet. The API server refuses an apply that names a resourceVersion the
    /// existing object does not have, and ignores the field when it creates; no object ever has
    /// version 1.
    Absent,
    /// The copy must still be this one.
    Version { uid: &'a str, resource_version: &'a str },
}

/// The object to apply for a copy. `hash` is the payload's.
#[must_use]
pub fn applied(
    key: &CopyKey,
    source: &ObjectKey,
    source_uid: &str,
    control_plane: &Identity,
    payload: &Payload,
    precondition: &Precondition<'_>,
) -> Value {
    let (uid, version) = match precondition {
        Precondition::Absent => (None, "1"),
        Precondition::Version { uid, resource_version } => (Some(*uid), *resource_version),
    };
    let own = [
        (labels::SOURCE.to_owned(), source.to_string()),
        (labels::SOURCE_UID.to_owned(), source_uid.to_owned()),
        (labels::CONTENT_HASH.to_owned(), payload.hash()),
    ];
    let metadata = ObjectMeta {
        name: Some(key.object.name.clone()),
        namespace: Some(key.object.namespace.clone()),
        uid: uid.map(str::to_owned),
        resource_version: Some(version.to_owned()),
        labels: Some([control_plane.label()].into()),
        annotations: Some(own.into_iter().chain(control_plane.mark()).collect()),
        ..ObjectMeta::default()
    };
    match (payload, key.kind) {
        (Payload::Secret { type_, data, .. }, _) => json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": metadata,
            "type": type_.as_deref().unwrap_or("Opaque"), "data": data,
        }),
        (Payload::Configuration(spec), CopyKind::Secret | CopyKind::MedusaConfiguration) => json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaConfiguration",
            "metadata": metadata, "spec": spec,
        }),
    }
}

/// Merge patch that takes away what `held` has and `wanted` has not; `None` when that is nothing.
#[must_use]
pub fn surplus(held: &Value, wanted: &Value) -> Option<Value> {
    let (Value::Object(held), Value::Object(wanted)) = (held, wanted) else { return None };
    let patch: serde_json::Map<String, Value> = held
        .iter()
        .filter_map(|(key, value)| {
            let change = match wanted.get(key) {
                None => Value::Null,
                Some(wanted) => surplus(value, wanted)?,
            };
            Some((key.clone(), change))
        })
        .collect();
    (!patch.is_empty()).then(|| patch.into())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;
    use crate::control_plane::data_planes::copies::secret_record;

    fn secret(entries: &[(&str, &str)]) -> Payload {
        let data = entries.iter().map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec())));
        Payload::Secret { type_: None, data: data.collect(), never: None }
    }

    #[test]
    fn the_hash_follows_the_content_and_nothing_else() {
        assert_eq!(secret(&[("a", "1")]).hash(), secret(&[("a", "1")]).hash());
        assert_ne!(secret(&[("a", "1")]).hash(), secret(&[("a", "2")]).hash());
        assert_ne!(secret(&[("a", "bc")]).hash(), secret(&[("ab", "c")]).hash());
        let opaque = Payload::Secret { type_: Some("Opaque".to_owned()), data: BTreeMap::new(), never: None };
        assert_eq!(secret(&[]).hash(), opaque.hash());
    }

    #[test]
    fn surplus_is_what_the_source_does_not_have_at_any_depth() {
        let wanted = json!({"a": 1, "b": {"c": 2}, "list": [1]});
        assert_eq!(surplus(&json!({"a": 7, "b": {"c": 3}, "list": [1, 2]}), &wanted), None);
        let held = json!({"a": 1, "x": 1, "b": {"c": 2, "y": {}}});
        assert_eq!(surplus(&held, &wanted), Some(json!({"x": null, "b": {"y": null}})));
    }

    #[test]
    fn a_copy_read_back_has_the_hash_that_was_applied() {
        let payload = secret(&[("credentials", "x")]);
        let key = CopyKey { kind: CopyKind::Secret, object: ObjectKey::new("ns", "s") };
        let object = applied(
            &key,
            &ObjectKey::new("src", "s"),
            "uid",
            &Identity::named("cp"),
            &payload,
            &Precondition::Absent,
        );
        let read: Secret = serde_json::from_value(object).unwrap();
        let record = secret_record(&read);
        assert_eq!(record.content_hash, payload.hash());
        assert_eq!(record.declared_hash, payload.hash());
        assert_eq!(record.source_uid, "uid");
    }

    fn meta(value: Value) -> ObjectMeta {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_object_is_a_copy_of_ours_by_label_and_every_annotation() {
        let annotations = json!({labels::SOURCE: "a/b", labels::SOURCE_UID: "u", labels::CONTENT_HASH: "h"});
        let with = |label: &str, annotations: &Value| {
            let meta = meta(json!({"labels": {labels::CONTROL_PLANE: label}, "annotations": annotations}));
            is_copy_of_ours(&meta, &Identity::named("cp"))
        };
        assert!(with("cp", &annotations));
        assert!(!with("other", &annotations));
        for taken in [labels::SOURCE, labels::SOURCE_UID, labels::CONTENT_HASH] {
            let mut fewer = annotations.clone();
            fewer.as_object_mut().unwrap().remove(taken);
            assert!(!with("cp", &fewer), "{taken}");
        }
        assert!(!is_copy_of_ours(&ObjectMeta::default(), &Identity::named("cp")));
    }

    #[test]
    fn who_looks_after_an_object_is_read_from_it() {
        let of = |value| owner(&meta(value));
        let replicated = json!({labels::REPLICATED_BY: "k8ssandracluster-controller"});
        assert_eq!(of(json!({"labels": replicated})), "k8ssandra-operator");
        assert_eq!(of(json!({"labels": {labels::CONTROL_PLANE: "x.1"}})), "fleet `x.1`");
        assert_eq!(of(json!({"labels": {labels::MANAGED_BY: "Helm"}})), "`Helm`");
        let fields = json!([
            {"manager": "labeller", "fieldsV1": {"f:metadata": {}}}, {"manager": "vault", "fieldsV1": {"f:data": {}}},
        ]);
        assert_eq!(of(json!({"managedFields": fields})), "`vault`");
        assert_eq!(of(json!({})), "somebody else");
    }

    #[test]
    fn what_differs_is_named_by_its_keys_only() {
        let found =
            json!({"metadata": {}, "type": "kubernetes.io/tls", "data": {"a": "Y2FuYXJ5", "b": "eA=="}});
        let found: Secret = serde_json::from_value(found).unwrap();
        let said = differences(&found, &secret(&[("b", "x"), ("c", "canary")]));
        assert_eq!(said, "`a`, `c`, its type");
        let many = (0..9).map(|n| (n.to_string(), ByteString(Vec::new()))).collect();
        let many = Payload::Secret { type_: found.type_.clone(), data: many, never: None };
        assert_eq!(differences(&found, &many), "`0`, `1`, `2`, `3`, `4`, 6 more keys");
    }
}
