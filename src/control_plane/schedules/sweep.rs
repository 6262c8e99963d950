//! Clears up after schedules that exist no more: MedusaBackupSchedules left in data planes that did not answer when
//! they went, and runs that were still held.

use std::collections::BTreeSet;

use kube::{
    ResourceExt as _,
    api::{ListParams, ObjectMeta, PartialObjectMeta},
};

use super::{
    ScheduleContext,
    delegate::{Action, can_write},
    delegated::carry_out,
};
use crate::{
    api::{fleet::FleetBackupSchedule, labels, names},
    control_plane::{
        data_planes::fleet::Snapshot,
        identity::{Identity, uid_of},
        runs::child::ExactObject,
    },
};

/// The schedules there are.
#[derive(Debug, Default)]
pub(super) struct KnownSchedules {
    /// Their uids, and those by which their children know them.
    uids: BTreeSet<String>,
    /// Their names, as they stand in labels.
    names: BTreeSet<String>,
}

impl KnownSchedules {
    pub(super) fn of<'a>(schedules: impl Iterator<Item = &'a ObjectMeta>) -> Self {
        let mut known = Self::default();
        for meta in schedules {
            let object = PartialObjectMeta::<FleetBackupSchedule> {
                metadata: meta.clone(),
                ..PartialObjectMeta::default()
            };
            known.uids.extend(object.uid().into_iter().chain(uid_of(&object).map(str::to_owned)));
            known.names.insert(names::label_value(&object.name_any()));
        }
        known
    }
}

/// What belongs to none of the `known` schedules. What an earlier installation made stays until a schedule of its name is there,
/// which has taken over what it could see.
fn orphans(known: &KnownSchedules, planes: &[Snapshot], control_plane: &Identity) -> Vec<Action> {
    let mut orphans = Vec::new();
    for plane in planes.iter().filter(|plane| can_write(plane)) {
        for there in plane.view.schedules.last_known().values() {
            let Some(owner) = there.labels().get(labels::FLEET_SCHEDULE_UID) else { continue };
            let is_back =
                || there.labels().get(labels::FLEET_SCHEDULE).is_some_and(|name| known.names.contains(name));
            let is_free = !control_plane.is_inherited(&there.metadata) || plane.unregistering || is_back();
            if !known.uids.contains(owner) && control_plane.wrote(&there.metadata) && is_free {
                orphans.extend(ExactObject::of(plane, there.as_ref()).map(Action::Delete));
            }
        }
    }
    orphans
}

/// Clears up. `known` are the schedules a watch shows; what they do not explain is asked about, as a watch
/// may be behind another control plane.
pub(super) async fn sweep(ctx: &ScheduleContext, known: &KnownSchedules) -> Result<(), kube::Error> {
    let planes = ctx.shared.fleet.snapshot();
    let is_orphan = |known: &KnownSchedules, uid: &String| !known.uids.contains(uid);
    let held = ctx.children.held();
    if orphans(known, &planes, &ctx.shared.control_plane).is_empty()
        && !held.iter().any(|run| is_orphan(known, &run.schedule.1))
    {
        return Ok(());
    }
    let listed = ctx.schedules().list_metadata(&ListParams::default()).await?;
    let known = KnownSchedules::of(listed.items.iter().map(|schedule| &schedule.metadata));
    for run in held.iter().filter(|run| is_orphan(&known, &run.schedule.1)) {
        ctx.discard(run).await?;
    }
    let actions = orphans(&known, &planes, &ctx.shared.control_plane);
    if !actions.is_empty() {
        tracing::info!(
            count = actions.len(),
            "taking back MedusaBackupSchedules whose FleetBackupSchedule is gone"
        );
        carry_out(ctx, actions, &planes).await;
    }
    Ok(())
}
