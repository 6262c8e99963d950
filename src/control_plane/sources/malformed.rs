//! An object of the control plane's cluster as it was read: also one that has not the shape of its kind. Pure.
//!
//! Of such an object nobody knows what it asks for. What it mentions is kept, so that what it may still want stays
//! where it is, while everything else goes on.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::{guarded::Unreadable, names, operator_names};

/// Most names that are kept of an object.
const MENTIONS: usize = 10_000;
/// Most tries to find the field at fault.
const TRIES: usize = 2_000;
/// Longest message about it.
const MESSAGE: usize = 400;

/// An object that has not the shape of its kind.
#[derive(Clone, Debug, Default)]
pub struct Malformed {
    pub metadata: ObjectMeta,
    /// The field at fault and what is wrong with it, for people.
    pub why: String,
    /// Every name in its spec, and its own.
    pub mentions: BTreeSet<String>,
    /// Its conditions, when these can be read.
    pub conditions: Vec<Condition>,
}

impl Malformed {
    /// Whether it may mean the object `name` beside it; of one that mentions too much nobody knows.
    #[must_use]
    pub fn may_mention(&self, name: &str) -> bool {
        self.mentions.contains(name) || self.mentions.len() >= MENTIONS
    }
}

impl<K: DeserializeOwned> Unreadable<K> for Malformed {
    fn of(object: Value, metadata: ObjectMeta, error: &str) -> Result<Self, String> {
        Ok(malformed::<K>(object, metadata, error))
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

fn malformed<K: DeserializeOwned>(mut value: Value, metadata: ObjectMeta, error: &str) -> Malformed {
    let mut mentions = BTreeSet::new();
    collect(value.get("spec").unwrap_or(&Value::Null), &mut mentions);
    let own = metadata.name.clone().unwrap_or_default();
    // The Secret of Medusa's user is called after the Cassandra cluster, unless another is named.
    let cluster = value.pointer("/spec/cassandra/clusterName").and_then(Value::as_str);
    for name in [Some(own.as_str()), cluster].into_iter().flatten() {
        mentions.insert(format!("{}-medusa", operator_names::label(name)));
    }
    mentions.insert(own);
    let conditions = value.pointer("/status/conditions").cloned().unwrap_or_default();
    let conditions = serde_json::from_value(conditions).unwrap_or_default();
    let field = culprit::<K>(&mut value, error);
    let why = if field.is_empty() { error.to_owned() } else { format!("{field}: {error}") };
    Malformed { metadata, why: names::shown(&why, MESSAGE), mentions, conditions }
}

/// Every string that can be the name of an object.
fn collect(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if into.len() < MENTIONS && names::is_object_name(text) => {
            into.insert(text.clone());
        }
        Value::Array(list) => list.iter().for_each(|one| collect(one, into)),
        Value::Object(map) => map.values().for_each(|one| collect(one, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The innermost field without which the object could be read, or would be wrong for another reason.
fn culprit<K: DeserializeOwned>(value: &mut Value, error: &str) -> String {
    let (mut pointer, mut path, mut tries) = (String::new(), String::new(), 0);
    let fails_alike = |value: &Value| K::deserialize(value).is_err_and(|now| now.to_string() == error);
    loop {
        let steps: Vec<(String, String)> = match value.pointer(&pointer) {
            Some(Value::Object(map)) => {
                let step = |key: &String| {
                    let dot = if path.is_empty() { "" } else { "." };
                    (key.replace('~', "~0").replace('/', "~1"), format!("{dot}{key}"))
                };
                map.keys().map(step).collect()
            }
            Some(Value::Array(list)) => {
                (0..list.len()).map(|at| (at.to_string(), format!("[{at}]"))).collect()
            }
            Some(_) | None => return path,
        };
        let mut found = None;
        for (token, name) in steps {
            tries += 1;
            let child = format!("{pointer}/{token}");
            if tries > TRIES {
                return path;
            }
            let Some(taken) = take(value, &pointer, &token) else { continue };
            let guilty = !fails_alike(value);
            put_back(value, &pointer, &token, taken);
            if guilty {
                found = Some((child, name));
                break;
            }
        }
        match found {
            Some((child, name)) => {
                pointer = child;
                path.push_str(&name);
            }
            None => return path,
        }
    }
}

fn take(value: &mut Value, pointer: &str, token: &str) -> Option<Value> {
    match value.pointer_mut(pointer)? {
        Value::Object(map) => map.remove(&token.replace("~1", "/").replace("~0", "~")),
        Value::Array(list) => {
            let at: usize = token.parse().ok()?;
            (at < list.len()).then(|| list.remove(at))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

fn put_back(value: &mut Value, pointer: &str, token: &str, taken: Value) {
    match value.pointer_mut(pointer) {
        Some(Value::Object(map)) => drop(map.insert(token.replace("~1", "/").replace("~0", "~"), taken)),
        Some(Value::Array(list)) => list.insert(token.parse().unwrap_or_default(), taken),
        Some(_) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::api::{guarded::Guarded, k8ssandra::K8ssandraCluster, medusa::MedusaConfiguration};

    fn read<K: DeserializeOwned>(spec: Value) -> Guarded<K, Malformed> {
        let object = json!({"metadata": {"name": "my.Name", "namespace": "src", "uid": "u"}, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn the_field_at_fault_is_named_wherever_it_is() {
        let why = |spec| read::<MedusaConfiguration>(spec).0.unwrap_err().why;
        let size = why(
            json!({"storageProperties": {"bucketName": "b", "podStorage": {"size": 10_737_418_240_u64}, "prefix": "p"}}),
        );
        assert!(size.starts_with("spec.storageProperties.podStorage.size: "), "{size}");
        let provider = why(json!({"storageProperties": {"storageProvider": "tape\u{1b}"}}));
        assert!(provider.starts_with("spec.storageProperties.storageProvider: "), "{provider}");
        assert!(!provider.contains('\u{1b}') && provider.contains("tape"), "{provider}");
        let cluster = read::<K8ssandraCluster>(json!({"cassandra": {"datacenters": [
            {"metadata": {"name": "dc1"}}, {"metadata": {"name": "dc2", "namespace": 7}},
        ]}}));
        let why = cluster.0.unwrap_err().why;
        assert!(why.starts_with("spec.cassandra.datacenters[1].metadata.namespace: "), "{why}");
    }

    #[test]
    fn what_it_mentions_is_kept() {
        let cluster = read::<K8ssandraCluster>(json!({
            "cassandra": {"clusterName": "My Shop", "datacenters": [{"k8sContext": 7}]},
            "medusa": {"medusaConfigurationRef": {"name": "shared"}, "cassandraUserSecretRef": {"name": "cql"},
                       "storageProperties": {"prefix": "no name"}},
        }));
        let malformed = cluster.0.unwrap_err();
        let names: Vec<&str> = malformed.mentions.iter().map(String::as_str).collect();
        assert_eq!(names, ["cql", "my.Name", "myname-medusa", "myshop-medusa", "shared"]);
        assert_eq!(malformed.metadata.uid.as_deref(), Some("u"));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
        ];
        let key = prop_oneof![
            Just("storageProperties".to_owned()),
            Just("podStorage".to_owned()),
            Just("size".to_owned()),
            Just("storageSecretRef".to_owned()),
            Just("name".to_owned()),
            Just("cassandra".to_owned()),
            Just("medusa".to_owned()),
            Just("datacenters".to_owned()),
            Just("metadata".to_owned()),
            Just("readinessProbe".to_owned()),
            "[a-z~/]{1,6}",
        ];
        leaf.prop_recursive(5, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(key.clone(), inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn whatever_an_object_holds_it_is_read_or_named(spec in any_json()) {
            for why in [
                read::<MedusaConfiguration>(spec.clone()).0.err().map(|s| s.why),
                read::<K8ssandraCluster>(spec.clone()).0.err().map(|s| s.why),
            ].into_iter().flatten() {
                prop_assert!(why.starts_with("spec"), "{}", why);
                prop_assert!(why.len() <= MESSAGE && !why.chars().any(char::is_control));
            }
        }
    }
}
