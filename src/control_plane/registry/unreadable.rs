//! A DataPlane that cannot be read: its status says which field is wrong, by a write that needs no reading, and it can be
//! deleted like any other.

use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::DeserializeGuard,
    runtime::controller::Action,
};
use serde_json::{Map, Value, json};

use super::{
    controller::{LOOK_EVERY, Registry, RegistryError},
    health::{self, Health},
    unregister::{self, WayThere},
};
use crate::{
    api::{
        Reason, Why,
        fleet::{DataPlane, DataPlaneSpec, DataPlaneStatus},
        labels,
    },
    control_plane::data_planes::view::View,
};

pub(super) async fn look(
    plane: &DeserializeGuard<DataPlane>,
    error: &str,
    registry: &Registry,
) -> Result<Action, RegistryError> {
    let name = plane.name_any();
    // What can be read of it.
    let stand_in = DataPlane { metadata: plane.meta().clone(), ..DataPlane::default() };
    registry.disconnect(&stand_in.uid().unwrap_or_default());
    if stand_in.metadata.deletion_timestamp.is_some() {
        return unregister::step(&stand_in, WayThere::No, registry).await;
    }
    let failed = |error| RegistryError { name: name.clone(), error };
    let resource = ApiResource::erase::<DataPlane>(&());
    let context = &registry.context;
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &context.namespace, &resource);
    let Some(raw) = api.get_opt(&name).await.map_err(failed)? else { return Ok(Action::await_change()) };
    if raw.uid() != plane.uid() {
        return Ok(Action::await_change());
    }
    let culprit = culprit(&raw.data);
    let field = culprit.as_ref().map_or_else(|| "the object".to_owned(), |field| format!("`{field}`"));
    let message = format!("{field} cannot be read ({error}); correct it, or delete the DataPlane");
    let refusal = Why::new(Reason::InvalidSpec, message);
    registry.block(&stand_in, &refusal);
    let old = DataPlaneStatus { conditions: conditions(&raw.data), ..DataPlaneStatus::default() };
    let (health, view) = (Health::default(), View::unknown());
    let facts = health::Facts {
        refusal: Some(&refusal),
        stale: None,
        twin: None,
        rejected: None,
        inherited: None,
        paused: false,
        expires_at: None,
        not_renewed: None,
        health: &health,
        view: &view,
    };
    let mut new = old.clone();
    health::conditions(
        &mut new.conditions,
        &facts,
        stand_in.metadata.generation,
        registry.context.fleet.now(),
    );
    // Who it was stays known: it may be that cluster's only DataPlane, and keeps it.
    new.conditions.retain(|condition| condition.type_ != "Unique");
    new.conditions.extend(old.conditions.iter().filter(|condition| condition.type_ == "Unique").cloned());
    if new.conditions.iter().all(|condition| old.conditions.contains(condition)) {
        return Ok(Action::requeue(LOOK_EVERY));
    }
    let mut status = Map::from_iter([
        ("observedGeneration".to_owned(), json!(stand_in.metadata.generation)),
        ("conditions".to_owned(), json!(new.conditions)),
    ]);
    if let Some(field) = culprit.as_deref().and_then(|field| field.strip_prefix("status.")) {
        // That one is ours to mend.
        status.insert(field.to_owned(), Value::Null);
    }
    let patch =
        json!({"metadata": {"uid": raw.uid(), "resourceVersion": raw.resource_version()}, "status": status});
    let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE);
    match api.patch_status(&name, &params, &Patch::Merge(&patch)).await {
        Ok(_) => {}
        // It changed meanwhile, and is looked at again for that.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
            return Ok(Action::await_change());
        }
        Err(error) => return Err(failed(error)),
    }
    registry.tell(&stand_in, &old, &new);
    Ok(Action::requeue(LOOK_EVERY))
}

/// The conditions of an object as far as they can be read.
fn conditions(raw: &Value) -> Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    let all = raw.pointer("/status/conditions").and_then(Value::as_array);
    all.into_iter().flatten().filter_map(|one| serde_json::from_value(one.clone()).ok()).collect()
}

/// The first field that cannot be read, as a path.
fn culprit(raw: &Value) -> Option<String> {
    let is_bad_spec = |probe: Value| serde_json::from_value::<DataPlaneSpec>(probe).is_err();
    let Some(Value::Object(spec)) = raw.get("spec") else { return Some("spec".to_owned()) };
    if let Some((key, value)) = spec.iter().find(|(key, value)| is_bad_spec(json!({*key: *value}))) {
        let mut parts = value.as_object().into_iter().flatten();
        let is_bad = |part: &str, value: &Value| {
            let mut probe = json!({part: value});
            if let Some(probe) = probe.as_object_mut()
                && key == "kubeconfigSecretRef"
            {
                probe.entry("name").or_insert_with(|| json!("name")); // Without it nothing of it can be read.
            }
            is_bad_spec(json!({key: probe}))
        };
        let part = parts.find(|(part, value)| is_bad(part, value)).map(|(part, _)| part);
        return Some(part.map_or_else(|| format!("spec.{key}"), |part| format!("spec.{key}.{part}")));
    }
    let status = raw.get("status").filter(|status| !status.is_null())?;
    let Value::Object(status) = status else { return Some("status".to_owned()) };
    let is_bad =
        |key: &String, value: &Value| serde_json::from_value::<DataPlaneStatus>(json!({key: value})).is_err();
    status.iter().find(|(key, value)| is_bad(key, value)).map(|(key, _)| format!("status.{key}"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(json!({"spec": {"local": "yes"}}), Some("spec.local"))]
    #[case(json!({"spec": {"local": true, "limits": {"qps": 1, "burst": "many"}}}), Some("spec.limits.burst"))]
    #[case(json!({"spec": {"limits": "few"}}), Some("spec.limits"))]
    #[case(json!({"spec": {"kubeconfigSecretRef": {"key": "x"}}}), Some("spec.kubeconfigSecretRef"))]
    #[case(json!({"spec": {"kubeconfigSecretRef": {"name": 7, "key": "x"}}}), Some("spec.kubeconfigSecretRef.name"))]
    #[case(json!({"spec": {"kubeconfigSecretRef": {"name": "eu", "key": 7}}}), Some("spec.kubeconfigSecretRef.key"))]
    #[case(json!({"spec": "eu"}), Some("spec"))]
    #[case(json!({}), Some("spec"))]
    #[case(json!({"spec": {}, "status": {"datacenters": "three"}}), Some("status.datacenters"))]
    #[case(json!({"spec": {}, "status": {"conditions": [{"type": 1}]}}), Some("status.conditions"))]
    #[case(json!({"spec": {"local": true}}), None)]
    fn the_field_that_cannot_be_read_is_named(#[case] raw: Value, #[case] expected: Option<&str>) {
        assert_eq!(culprit(&raw).as_deref(), expected);
    }

    #[test]
    fn conditions_that_can_be_read_are_kept() {
        let good = json!({
            "type": "Ready", "status": "True", "reason": "Ready", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let raw = json!({"status": {"conditions": [good, {"type": 7}]}});
        assert_eq!(conditions(&raw).len(), 1);
    }
}
