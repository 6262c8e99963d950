//! Where the data planes do not agree about a restore point. Pure.

use std::collections::BTreeSet;

use super::{
    observe::{Group, Place, Planes},
    points::{MISSING, place},
    verdict::has_left,
};
use crate::api::{
    Reason,
    fleet::{FleetBackupStatus, InventoryDrift},
};

/// What does not agree about the restore point `name`. One that is not finished, or not known, is in no
/// disagreement yet. `stored` are the datacenters whose backup the storage is seen to hold.
pub(super) fn drift(
    name: &str,
    status: &FleetBackupStatus,
    stored: &BTreeSet<Place<'_>>,
    group: &Group<'_>,
    planes: &Planes<'_>,
) -> Vec<InventoryDrift> {
    if !matches!(status.phase.as_str(), "Complete" | "Incomplete") {
        return Vec::new();
    }
    let differences = status.datacenters.iter().filter_map(|entry| {
        let (reason, message) = if has_left(entry, group, planes) {
            let message = if planes.has(&entry.data_plane) {
                "the datacenter is gone; its part can be restored into another one only"
            } else {
                "its data plane is not registered any more; what it held is shown as it was last seen"
            };
            (Reason::DatacenterNotFound, message)
        } else if entry.status != MISSING {
            return None;
        } else if stored.contains(&place(entry)) {
            let message =
                "the storage holds its backup and there is no MedusaBackup; run `kubectl medusa sync`";
            (Reason::NotSynced, message)
        } else {
            (Reason::MedusaBackupMissing, "other datacenters have this backup and this one does not")
        };
        Some(InventoryDrift {
            restore_point: name.to_owned(),
            data_plane: entry.data_plane.clone(),
            namespace: entry.namespace.clone(),
            datacenter: entry.name.clone(),
            reason: reason.as_str().to_owned(),
            message: message.to_owned(),
        })
    });
    differences.collect()
}
