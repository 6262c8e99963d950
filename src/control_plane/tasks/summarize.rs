//! What a FleetTask sums up besides what all runs do: what was purged. Pure.

use crate::api::{
    fleet::{DatacenterTask, FleetTaskStatus, Purged, RunStatus},
    size,
};

/// The status of a task whose part that all kinds share is `run`. `old` is the status before.
#[must_use]
pub(super) fn sum_up(
    old: &FleetTaskStatus,
    run: RunStatus,
    datacenters: Vec<DatacenterTask>,
) -> FleetTaskStatus {
    let purged = total(old, &datacenters);
    FleetTaskStatus { run, freed: purged.map(|p| size::humanize(p.bytes)), purged, datacenters }
}

/// What was purged in all: what the entries say, and what those said whose figures a status that had to be shortened
/// no longer has.
fn total(old: &FleetTaskStatus, entries: &[DatacenterTask]) -> Option<Purged> {
    let sum = |entries: &[DatacenterTask]| entries.iter().filter_map(|e| e.purged).reduce(Purged::plus);
    let told_before = sum(&old.datacenters).unwrap_or_default();
    let no_longer_told =
        old.purged.map(|all| all.minus(told_before)).filter(|rest| *rest != Purged::default());
    no_longer_told.into_iter().chain(sum(entries)).reduce(Purged::plus)
}
