//! A run or a schedule that cannot be read: its condition says which field is at fault, by a write that needs no reading.
//! It waits for whoever corrects or deletes it, and holds up nobody else.

use jiff::Timestamp;
use kube::{
    Api, Client, Resource as _,
    api::{ObjectMeta, Patch, PatchParams},
};
use serde_json::json;

use super::publish::unless_stale;
use crate::{
    api::{Conditions as _, Reason, condition::set_condition, guarded::Guarded, labels},
    control_plane::sources::Malformed,
    runtime::{events::Events, follow::Followed},
};

/// Says so on the object that `meta` is of, in the condition `type_`, and once in an Event.
pub async fn say<K: Followed>(
    client: &Client,
    events: &Events,
    meta: &ObjectMeta,
    type_: &str,
    now: Timestamp,
) -> Result<(), kube::Error> {
    let name = meta.name.as_deref().unwrap_or_default();
    let api: Api<Guarded<K, Malformed>> =
        Api::namespaced(client.clone(), meta.namespace.as_deref().unwrap_or_default());
    let Some(Guarded(Err(malformed))) = api.get_opt(name).await? else { return Ok(()) };
    if malformed.metadata.uid != meta.uid {
        return Ok(());
    }
    let message = format!("it cannot be read: {}; correct that field, or delete it", malformed.why);
    let before = malformed.conditions.of_type(type_).map(|condition| condition.message.clone());
    let (mut conditions, generation) = (malformed.conditions.clone(), malformed.metadata.generation);
    let reason = Reason::InvalidObject;
    set_condition(&mut conditions, type_, Some(false), reason, message.clone(), generation, now);
    if conditions == malformed.conditions {
        return Ok(());
    }
    let version =
        json!({"uid": malformed.metadata.uid, "resourceVersion": malformed.metadata.resource_version});
    let patch = json!({"metadata": version, "status": {"conditions": conditions}});
    let params = PatchParams {
        field_manager: Some(labels::MANAGER_CONTROL_PLANE.to_owned()),
        ..PatchParams::default()
    };
    let written = unless_stale(api.patch_status(name, &params, &Patch::Merge(&patch)).await)?;
    if written.is_some() && before.as_ref() != Some(&message) {
        events.warning(Guarded::<K, Malformed>(Err(malformed)).object_ref(&()), reason, "Read", message);
    }
    Ok(())
}
