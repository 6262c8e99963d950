//! Clears up after schedules that exist no more: MedusaBackupSchedules left in data planes that did not answer when
//! they went, and runs that were still held.

use std::collections::BTreeSet;

use kube::{ResourceExt as _, api::ListParams};

use super::{
    ScheduleContext,
    delegate::{Action, can_write, is_ours},
    delegated::carry_out,
};
use crate::{
    api::labels,
    control_plane::{data_planes::fleet::Snapshot, runs::child::ExactObject},
};

/// What belongs to none of the schedules with these uids.
fn orphans(known: &BTreeSet<String>, planes: &[Snapshot], control_plane: &str) -> Vec<Action> {
    let mut orphans = Vec::new();
    for plane in planes.iter().filter(|plane| can_write(plane)) {
        for there in plane.view.schedules.last_known().values() {
            let Some(owner) = there.labels().get(labels::FLEET_SCHEDULE_UID) else { continue };
            if !known.contains(owner) && is_ours(there, owner, control_plane) {
                orphans.extend(ExactObject::of(plane, there.as_ref()).map(Action::Delete));
            }
        }
    }
    orphans
}

/// Clears up. `known` are the uids of the schedules a watch shows; what they do not explain is asked about, as a watch
/// may be behind another control plane.
pub(super) async fn sweep(ctx: &ScheduleContext, known: &BTreeSet<String>) -> Result<(), kube::Error> {
    let planes = ctx.shared.fleet.snapshot();
    let is_orphan = |known: &BTreeSet<String>, uid: &String| !known.contains(uid);
    let held = ctx.children.held();
    if orphans(known, &planes, &ctx.shared.control_plane).is_empty()
        && !held.iter().any(|run| is_orphan(known, &run.schedule.1))
    {
        return Ok(());
    }
    let listed = ctx.schedules().list_metadata(&ListParams::default()).await?;
    let known: BTreeSet<String> = listed.items.iter().filter_map(kube::ResourceExt::uid).collect();
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
