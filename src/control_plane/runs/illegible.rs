//! A run or a schedule that cannot be read: its condition says which field is at fault, by a write that needs no reading.
//! It waits for whoever corrects or deletes it, and holds up nobody else.

use jiff::Timestamp;
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{ApiResource, DynamicObject, ObjectMeta, Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{
    api::{Conditions as _, Reason, condition::set_condition, labels},
    control_plane::sources::Guarded,
    runtime::events::Events,
};

/// Says so on the object that `meta` is of, in the condition `type_`, and once in an Event.
///
/// # Errors
/// When the API server refuses or does not answer.
pub async fn say<K>(
    client: &Client,
    events: &Events,
    meta: &ObjectMeta,
    type_: &str,
    now: Timestamp,
) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + DeserializeOwned,
{
    let (name, namespace) =
        (meta.name.clone().unwrap_or_default(), meta.namespace.clone().unwrap_or_default());
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), &namespace, &ApiResource::erase::<K>(&()));
    let Some(object) = api.get_opt(&name).await?.filter(|object| object.uid() == meta.uid) else {
        return Ok(());
    };
    let read = serde_json::to_value(&object).and_then(serde_json::from_value::<Guarded<K>>);
    let Ok(Guarded(Err(spoilt))) = read else { return Ok(()) };
    let message = format!("it cannot be read: {}; correct that field, or delete it", spoilt.why);
    let (mut conditions, generation) = (spoilt.conditions.clone(), object.metadata.generation);
    set_condition(
        &mut conditions,
        type_,
        Some(false),
        Reason::InvalidObject,
        message.clone(),
        generation,
        now,
    );
    if conditions == spoilt.conditions {
        return Ok(());
    }
    let is_news = spoilt.conditions.of_type(type_).is_none_or(|before| before.message != message);
    let patch = json!({
        "metadata": {"uid": object.uid(), "resourceVersion": object.resource_version()},
        "status": {"conditions": conditions},
    });
    let params = PatchParams {
        field_manager: Some(labels::MANAGER_CONTROL_PLANE.to_owned()),
        ..PatchParams::default()
    };
    match api.patch_status(&name, &params, &Patch::Merge(&patch)).await {
        Ok(_) => {}
        // It changed meanwhile, and is looked at again for that.
        Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => return Ok(()),
        Err(error) => return Err(error),
    }
    if is_news {
        let about = object.object_ref(&ApiResource::erase::<K>(&()));
        events.warning(about, Reason::InvalidObject, "Read", message);
    }
    Ok(())
}
