//! What an earlier installation of the fleet began for a fleet object of this name: the object, created again, goes on
//! with it instead of beginning anew (contract §9).
//!
//! That is decided before anything is made for the object, and put down in its annotation: names and labels of its children
//! follow from that ([`uid_of`]).

use std::time::Duration;

use kube::{
    Api, Resource, ResourceExt as _,
    api::{ObjectMeta, Patch, PatchParams},
    runtime::controller::Action as Next,
};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::Instant;

use super::RunContext;
use crate::{
    api::{Reason, labels, names},
    control_plane::{
        data_planes::fleet::{Snapshot, Usable},
        identity::{Identity, is_uid, uid_of},
    },
};

/// How long after the start of this process an object that is new waits for data planes that are being connected to: they
/// may hold what was begun for it.
const CONNECTS_WITHIN: Duration = Duration::from_secs(30);
/// Pause between two looks meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Labels of a child with name and uid of the object it was made for.
pub type Marks = [&'static str; 2];

/// Marks of what runs make.
pub const OF_RUNS: Marks = [labels::JOB, labels::JOB_UID];
/// Marks of what schedules make.
pub const OF_SCHEDULES: Marks = [labels::FLEET_SCHEDULE, labels::FLEET_SCHEDULE_UID];

/// Uid of the object of that name that the youngest of `children` was made for by an earlier installation.
fn left_by<'a>(
    name: &str,
    [of_name, of_uid]: Marks,
    control_plane: &Identity,
    children: impl Iterator<Item = &'a ObjectMeta>,
) -> Option<String> {
    let name = names::label_value(name);
    let label = |meta: &'a ObjectMeta, key: &str| meta.labels.as_ref().and_then(|all| all.get(key));
    children
        .filter(|meta| control_plane.wrote(meta) && control_plane.is_inherited(meta))
        .filter(|meta| label(meta, of_name) == Some(&name))
        .filter(|meta| label(meta, of_uid).is_some_and(|uid| is_uid(uid)))
        .max_by_key(|meta| meta.creation_timestamp.as_ref().map(|time| time.0))
        .and_then(|meta| label(meta, of_uid).cloned())
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeOver {
    /// There is nothing to go on with.
    Nothing,
    /// Whether there is something is not known yet: look again then.
    Wait(Duration),
    /// The object has been changed.
    Written,
}

impl TakeOver {
    /// What is next for the object, unless it is to be worked on.
    #[must_use]
    pub fn next(self) -> Option<Next> {
        match self {
            Self::Nothing => None,
            Self::Wait(wait) => Some(Next::requeue(wait)),
            Self::Written => Some(Next::await_change()),
        }
    }
}

/// Has `object`, for which nothing was made yet, go on with what an earlier installation began for it. `children` are what
/// the data planes show of the kinds that are made for it. `is_known` says whether an object of its kind has that uid:
/// whoever writes in a data plane may claim anything, and gets nothing of an object that is here.
///
/// # Errors
/// When the annotation cannot be written.
pub async fn take_over<'a, K>(
    context: &RunContext,
    object: &K,
    planes: &[Snapshot],
    marks: Marks,
    children: impl Iterator<Item = &'a ObjectMeta>,
    is_known: impl Fn(&str) -> bool,
) -> Result<TakeOver, kube::Error>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    if object.meta().uid.as_deref() != uid_of(object) {
        return Ok(TakeOver::Nothing);
    }
    let found = left_by(&object.name_any(), marks, &context.control_plane, children);
    let found = found.filter(|uid| !is_known(uid));
    let Some(uid) = found else {
        let connects = planes.iter().any(|plane| plane.usable == Usable::Connecting);
        let is_early = Instant::now().duration_since(context.since) < CONNECTS_WITHIN;
        return Ok(if connects && is_early { TakeOver::Wait(LOOK_AGAIN) } else { TakeOver::Nothing });
    };
    let continues = format!("{}/{uid}", object.name_any());
    let patch = json!({"metadata": {
        "uid": object.uid(), "resourceVersion": object.resource_version(),
        "annotations": {labels::CONTINUES: continues},
    }});
    let api: Api<K> = Api::namespaced(context.client.clone(), &context.namespace);
    let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE);
    match api.patch_metadata(&object.name_any(), &params, &Patch::Merge(patch)).await {
        Ok(_) => {}
        // It was changed, or is gone: the watch says so.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return Ok(TakeOver::Written),
        Err(error) => return Err(error),
    }
    let note = "goes on with what an earlier installation of this fleet began under its name, and begins nothing a second \
                time; for a run of its own, create one of another name";
    context.events.normal(object.object_ref(&()), Reason::TakenOver, "TakeOver", note);
    Ok(TakeOver::Written)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    const A: &str = "0b1c2d3e-0000-0000-0000-00000000000a";
    const B: &str = "0b1c2d3e-0000-0000-0000-00000000000b";

    fn child(of: &str, uid: &str, installation: &str, age: i64) -> ObjectMeta {
        let made = jiff::Timestamp::from_second(1_800_000_000 - age).unwrap();
        ObjectMeta {
            labels: Some(
                [(labels::CONTROL_PLANE, "shop"), (labels::JOB, of), (labels::JOB_UID, uid)]
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
            ),
            annotations: Some([(labels::INSTALLATION.to_owned(), installation.to_owned())].into()),
            creation_timestamp: Some(Time(made)),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn the_youngest_of_an_earlier_installation_and_of_that_name_is_gone_on_with() {
        let shop = crate::control_plane::identity::FleetRecord {
            fleet: Some("shop".to_owned()),
            ..Default::default()
        };
        let identity = Identity::new(shop, "ns.2");
        let left = |children: &[ObjectMeta]| left_by("nightly", OF_RUNS, &identity, children.iter());
        let (old, young) = (child("nightly", A, "ns.1", 9), child("nightly", B, "ns.1", 3));
        assert_eq!(left(&[young, old]).as_deref(), Some(B));
        assert_eq!(left(&[child("weekly", A, "ns.1", 1)]), None);
        assert_eq!(left(&[child("nightly", A, "ns.2", 1)]), None, "this installation made it");
        assert_eq!(left(&[child("nightly", "anything", "ns.1", 1)]), None);
        let mut stranger = child("nightly", A, "ns.1", 1);
        stranger.labels.as_mut().unwrap().insert(labels::CONTROL_PLANE.to_owned(), "mall".to_owned());
        assert_eq!(left(&[stranger]), None);
    }
}
