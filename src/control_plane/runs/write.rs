//! Single writes into a data plane for a run. Every one may be repeated: what is there already is adopted, what is gone
//! already is gone.

use std::sync::Arc;

use kube::{
    Api, ResourceExt as _,
    api::{ObjectMeta, PostParams},
};

use super::child::{Child, ExactObject};
use crate::{
    api::{Reason, labels},
    control_plane::data_planes::{
        fleet::Fleet,
        remote::{CallError, Remote},
        view::ObjectKey,
    },
    runtime::{cause, follow::Followed},
};

/// What came of making a child.
pub enum CreatedChild<C> {
    /// It is there, and ours.
    Ours(Box<C>),
    /// An object of that name is there and is not ours.
    Foreign,
    /// It could not be made for now.
    NotNow(Reason, String),
}

/// Makes a child, or adopts it: its name may be in use by itself, made before a crash or by another leader.
pub async fn make<C: Child>(remote: &Remote, child: &C) -> CreatedChild<C> {
    let namespace = child.namespace().unwrap_or_default();
    let params =
        PostParams { field_manager: Some(labels::MANAGER_CONTROL_PLANE.to_owned()), ..PostParams::default() };
    let made = remote
        .call(|client| async { Api::<C>::namespaced(client, &namespace).create(&params, child).await })
        .await;
    let refused = |error: &CallError| {
        let (reason, message) = not_now(error);
        CreatedChild::NotNow(reason, message)
    };
    match made {
        Ok(made) => return CreatedChild::Ours(Box::new(made)),
        Err(error) if error.code() == Some(409) => {}
        Err(error) => return refused(&error),
    }
    let found = remote
        .call(|client| async { Api::<C>::namespaced(client, &namespace).get_opt(&child.name_any()).await })
        .await;
    match found {
        Ok(Some(found)) if found.stands_for(child) => CreatedChild::Ours(Box::new(found)),
        Ok(Some(_)) => CreatedChild::Foreign,
        Ok(None) => CreatedChild::NotNow(Reason::Pending, "the name was in use a moment ago".to_owned()),
        Err(error) => refused(&error),
    }
}

/// Deletes an object in exactly the version in which it was seen to be ours: whoever takes our label off it, or does
/// anything else with it, keeps it. That it is gone is no error.
pub async fn delete<C: Followed>(remote: &Remote, object: &ExactObject) -> Result<(), CallError> {
    let (uid, resource_version) = (Some(object.uid.clone()), Some(object.version.clone()));
    remote.delete::<C>(&object.key, ObjectMeta { uid, resource_version, ..ObjectMeta::default() }).await
}

/// Puts a child that was just made into the view of its data plane, unless its watch was faster.
pub fn show<C: Child>(fleet: &Fleet, data_plane: &str, child: C) {
    if let Some(member) = fleet.member(data_plane) {
        let now = fleet.now();
        member.view.update(|view| {
            let (section, key) = (C::section_mut(view), ObjectKey::of(&child));
            if section.last(&key).is_none() {
                let version = child.resource_version().and_then(|version| version.parse().ok());
                section.show(key, version.unwrap_or_default(), Arc::new(child), now);
            }
        });
    }
}

/// Why a write could not be done, for machines and for people.
#[must_use]
pub fn not_now(error: &CallError) -> (Reason, String) {
    let refused = |status| cause::denied(status).map_or(Reason::WriteRefused, |(denier, _)| denier.reason());
    (error.status().map_or(Reason::DataPlaneUnreachable, refused), error.to_string())
}
