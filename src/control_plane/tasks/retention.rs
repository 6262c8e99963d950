//! Whether a purge of a datacenter leaves its cluster a complete restore point. Pure.
//!
//! The rule: of the complete restore points the newest is looked at; one whose times cannot be is none. What a purge
//! leaves of an older one it leaves of the newest too. The datacenter's part in it must survive Medusa's purge
//! ([`survives`]), counting every backup that anything tells of, whatever became of it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    api::{
        Reason, Why,
        fleet::{FleetBackupDatacenter, FleetBackupStatus},
        retention::{Held, Limits, Loss, survives},
    },
    control_plane::{data_planes::view::ObjectKey, inventory::verdict::is_timeless},
};

/// What the ruling is about.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub cluster: &'a str,
    pub data_plane: &'a str,
    pub datacenter: &'a ObjectKey,
    pub points: &'a BTreeMap<String, FleetBackupStatus>,
    /// Every backup of the datacenter that Kubernetes shows.
    pub held: &'a [Held],
    /// What the purge works by.
    pub limits: Limits,
}

/// Rules on one datacenter at `now`: returns the name of the complete restore point that stays.
///
/// # Errors
/// Why the purge may not start.
pub fn rule(question: &Question<'_>, now: Timestamp) -> Result<String, Why> {
    let refused = |message: String| Err(Why::new(Reason::WouldRemoveLastRestorePoint, message));
    let cluster = question.cluster;
    let newest = question
        .points
        .iter()
        .filter(|(_, point)| point.cluster == cluster && point.complete && !is_timeless(point, now))
        .max_by_key(|(name, point)| (point.start_time.as_ref().map(|t| t.0), *name));
    let Some((name, point)) = newest else {
        return refused(format!(
            "FleetCluster `{cluster}` has no complete restore point, so what a purge removes may be all there is: \
             back the cluster up first"
        ));
    };
    let Some(part) = point.datacenters.iter().find(|part| is_of(part, question)) else {
        // The datacenter came later: nothing of that restore point is on its nodes.
        return Ok(name.clone());
    };
    let Some(start) = part.start_time.as_ref().map(|t| t.0) else {
        return refused(format!(
            "nobody knows when `{name}`, the newest complete restore point, began in this datacenter, so a purge may \
             remove it: back the cluster up first"
        ));
    };
    let backup = part.medusa_backup.as_deref();
    if let Err(loss) = survives(backup, start, question.held, question.limits, now) {
        let what = format!("`{name}`, the newest complete restore point,");
        let fix = match loss {
            Loss::Age(..) => "back the cluster up first",
            Loss::Count(..) => "back the cluster up first, or raise the limit",
        };
        return refused(format!("{}: {fix}", loss.told(&what, question.limits)));
    }
    Ok(name.clone())
}

fn is_of(part: &FleetBackupDatacenter, question: &Question<'_>) -> bool {
    part.data_plane == question.data_plane
        && part.namespace == question.datacenter.namespace
        && part.name == question.datacenter.name
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
