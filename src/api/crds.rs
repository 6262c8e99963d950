//! The CustomResourceDefinitions, generated from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use serde_json::{Map, Value, json};

use super::{fleet, k8ssandra, medusa};

/// Every definition we own, in the order they should be applied: the Medusa kinds, the fleet kinds, and
/// K8ssandraCluster (to be installed only where k8ssandra-operator's is absent).
///
/// # Errors
/// When a generated definition cannot be turned into JSON and back, which a test rules out.
pub fn all() -> Result<Vec<CustomResourceDefinition>, serde_json::Error> {
    [
        medusa::MedusaConfiguration::crd(),
        medusa::MedusaBackup::crd(),
        medusa::MedusaBackupJob::crd(),
        medusa::MedusaBackupSchedule::crd(),
        medusa::MedusaRestoreJob::crd(),
        medusa::MedusaTask::crd(),
        fleet::DataPlane::crd(),
        fleet::DataPlaneView::crd(),
        fleet::FleetBackupJob::crd(),
        fleet::FleetBackupSchedule::crd(),
        fleet::FleetTask::crd(),
        fleet::FleetRestoreJob::crd(),
        fleet::FleetBackup::crd(),
        fleet::FleetCluster::crd(),
        k8ssandra::K8ssandraCluster::crd(),
    ]
    .into_iter()
    .map(tidy)
    .collect()
}

/// Makes the generator's output equal to what controller-gen writes for upstream, without `nullable` and
/// titles, with the list kind and the type's standard properties, and in the Medusa group without the
/// requirement that `spec` be there. K8ssandraCluster has no defaults: what is there, a person wrote (ADR 9).
fn tidy(crd: CustomResourceDefinition) -> Result<CustomResourceDefinition, serde_json::Error> {
    let upstream = crd.spec.group == medusa::GROUP;
    let undefaulted = crd.spec.group == k8ssandra::GROUP;
    let mut value = serde_json::to_value(crd)?;
    if let Some(names) = value.pointer_mut("/spec/names").and_then(Value::as_object_mut)
        && let Some(kind) = names.get("kind").and_then(Value::as_str)
    {
        let list_kind = format!("{kind}List");
        names.insert("listKind".to_owned(), list_kind.into());
    }
    if let Some(versions) = value.pointer_mut("/spec/versions").and_then(Value::as_array_mut) {
        for version in versions {
            if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
                each_map(schema, &strip);
                if undefaulted {
                    each_map(schema, &|map| drop(map.remove("default")));
                }
                if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
                    properties.insert("apiVersion".to_owned(), json!({"type": "string"}));
                    properties.insert("kind".to_owned(), json!({"type": "string"}));
                    properties.insert("metadata".to_owned(), json!({"type": "object"}));
                }
                if upstream && let Some(root) = schema.as_object_mut() {
                    root.remove("required");
                }
            }
        }
    }
    serde_json::from_value(value)
}

/// Drops `nullable`, `title` and the null alternative of optional enums, and spells out
/// int-or-string.
fn strip(map: &mut Map<String, Value>) {
    map.remove("nullable");
    if map.get("title").is_some_and(Value::is_string) {
        map.remove("title");
    }
    if let Some(choices) = map.get_mut("enum").and_then(Value::as_array_mut) {
        choices.retain(|choice| !choice.is_null());
    }
    if map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        map.insert("anyOf".to_owned(), json!([{"type": "integer"}, {"type": "string"}]));
    }
}

/// Changes every map of `value`, the outer ones first.
fn each_map(value: &mut Value, change: &impl Fn(&mut Map<String, Value>)) {
    match value {
        Value::Object(map) => {
            change(map);
            map.values_mut().for_each(|value| each_map(value, change));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_map(item, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
