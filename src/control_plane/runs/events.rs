//! Events about a run: that it began, which datacenters failed, how it ended.

use std::collections::BTreeSet;

use super::kind::{EventText, Fanned};
use crate::{
    api::{
        Conditions as _, Reason,
        fleet::{DatacenterRun, Phase},
    },
    runtime::events::Events,
};

/// Failed datacenters that get an Event of their own in one write.
const MAX_EVENTS: usize = 20;

/// Tells what is new between two written statuses.
pub(super) fn tell<K: Fanned>(events: &Events, run: &K, old: &K::Status, new: &K::Status) {
    let EventText { action, begun, .. } = run.event_text();
    let about = run.object_ref(&());
    let entries = K::entries(new);
    if let Some(begun) = begun.filter(|_| K::phase(old).is_none() && !entries.is_empty()) {
        let note = format!("{begun} {} datacenters", entries.len());
        events.normal(about.clone(), Reason::Running, action, note);
    }
    let failed = newly_failed(&K::entries(old), &entries);
    for entry in failed.iter().take(MAX_EVENTS) {
        let reason = entry.reason.as_deref().and_then(Reason::of).unwrap_or(Reason::Failed);
        let note = format!("{}: {}", entry.place(), entry.message.as_deref().unwrap_or("failed"));
        events.warning(about.clone(), reason, action, note);
    }
    if let Some(more) = failed.len().checked_sub(MAX_EVENTS).filter(|more| *more > 0) {
        let note = format!("{more} more datacenters failed; see the status");
        events.warning(about.clone(), Reason::Failed, action, note);
    }
    let Some(phase) = K::phase(new).filter(|phase| phase.is_final()) else { return };
    let Some(complete) = K::progress(new).conditions.of_type("Complete") else { return };
    let reason = Reason::of(&complete.reason).unwrap_or(Reason::Failed);
    let went_as_asked = matches!(phase, Phase::Succeeded | Phase::Cancelled) || reason == Reason::DryRun;
    let note = complete.message.clone();
    if went_as_asked {
        events.normal(about, reason, action, note);
    } else {
        events.warning(about, reason, action, note);
    }
}

/// Both lists are in the same order, of the same datacenters or nearly so.
fn newly_failed<'a>(old: &[&DatacenterRun], new: &[&'a DatacenterRun]) -> Vec<&'a DatacenterRun> {
    let place = |e: &DatacenterRun| (e.data_plane.clone(), e.namespace.clone(), e.datacenter.clone());
    let before: BTreeSet<_> = old.iter().filter(|e| e.phase == Phase::Failed).map(|e| place(e)).collect();
    new.iter().filter(|e| e.phase == Phase::Failed && !before.contains(&place(e))).copied().collect()
}
