//! Clears up after schedules that exist no more: MedusaBackupSchedules left in data planes that did not answer when
//! they went, and runs that were still held.

use std::collections::BTreeSet;

use kube::{
    ResourceExt as _,
    api::{ListParams, ObjectMeta},
};

use super::{
    ScheduleContext,
    delegate::{ScheduleWrite, can_write},
    delegated::carry_out,
};
use crate::{
    api::{labels, names},
    control_plane::{
        data_planes::fleet::Snapshot,
        identity::{Identity, uid_in},
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
            known.uids.extend(meta.uid.clone().into_iter().chain(uid_in(meta).map(str::to_owned)));
            known.names.insert(names::label_value(meta.name.as_deref().unwrap_or_default()));
        }
        known
    }
}

/// What belongs to none of the `known` schedules. What an earlier installation made stays until a schedule of its name is
/// there, which has taken over what it could see.
fn orphans(known: &KnownSchedules, planes: &[Snapshot], control_plane: &Identity) -> Vec<ScheduleWrite> {
    let mut orphans = Vec::new();
    for plane in planes.iter().filter(|plane| can_write(plane)) {
        for there in plane.view.schedules.last_known().values() {
            let Some(owner) = there.labels().get(labels::FLEET_SCHEDULE_UID) else { continue };
            let is_back =
                || there.labels().get(labels::FLEET_SCHEDULE).is_some_and(|name| known.names.contains(name));
            let is_free = !control_plane.is_inherited(&there.metadata) || plane.unregistering || is_back();
            if !known.uids.contains(owner) && control_plane.wrote(&there.metadata) && is_free {
                orphans.extend(ExactObject::of(plane, there.as_ref()).map(ScheduleWrite::Delete));
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::control_plane::{
        data_planes::view::ObjectKey, fanout::tests::live, identity::FleetRecord,
        schedules::delegate::tests::open,
    };

    /// How many orphans there are of one MedusaBackupSchedule that this installation made.
    fn orphans_of(installation: &str, known: &[(&str, &str)], change: impl Fn(&mut Snapshot)) -> usize {
        let there = json!({
            "metadata": {"name": "nightly-dc1", "namespace": "ns", "uid": "u", "resourceVersion": "7",
                "labels": {labels::CONTROL_PLANE: "shop", labels::FLEET_SCHEDULE: "nightly",
                    labels::FLEET_SCHEDULE_UID: "old"},
                "annotations": {labels::INSTALLATION: installation}},
            "spec": {"cronSchedule": "@daily", "backupSpec": {"cassandraDatacenter": "dc1"}},
        });
        let mut view = live(&[]);
        view.schedules
            .put(ObjectKey::new("ns", "nightly-dc1"), Arc::new(serde_json::from_value(there).unwrap()));
        let mut plane = open("eu", view);
        change(&mut plane);
        let known: Vec<ObjectMeta> = known
            .iter()
            .map(|(name, uid)| ObjectMeta {
                name: Some((*name).to_owned()),
                uid: Some((*uid).to_owned()),
                ..ObjectMeta::default()
            })
            .collect();
        let shop = FleetRecord { fleet: Some("shop".to_owned()), ..FleetRecord::default() };
        orphans(&KnownSchedules::of(known.iter()), &[plane], &Identity::new(shop, "ns.2")).len()
    }

    #[tokio::test]
    async fn what_an_earlier_installation_made_waits_for_a_schedule_of_its_name() {
        let of = |installation, known: &[_]| orphans_of(installation, known, |_| {});
        assert_eq!(of("ns.2", &[]), 1, "its schedule was deleted here");
        assert_eq!(of("ns.2", &[("nightly", "old")]), 0);
        assert_eq!(of("ns.1", &[]), 0, "its schedule was never here");
        assert_eq!(of("ns.1", &[("weekly", "new")]), 0);
        assert_eq!(of("ns.1", &[("nightly", "new")]), 1, "it is back, and goes on with another");
        assert_eq!(of("ns.1", &[("nightly", "old")]), 0);
        assert_eq!(orphans_of("ns.1", &[], |plane| plane.unregistering = true), 1);
    }
}
