//! What a FleetTask sums up besides what all runs do: what was purged. Pure.

use jiff::Timestamp;

use crate::{
    api::{
        fleet::{DatacenterTask, FleetTask, FleetTaskStatus, Purged},
        size,
    },
    control_plane::runs::engine::{
        RunInputs,
        summarize::{Invalid, Summary},
    },
};

/// The status. `old` is the status before, `invalid` why the task cannot be done at all.
#[must_use]
pub(super) fn summarize(
    inputs: &RunInputs<'_, FleetTask>,
    old: &FleetTaskStatus,
    entries: Vec<DatacenterTask>,
    invalid: Option<&Invalid>,
    progress: Timestamp,
) -> FleetTaskStatus {
    let purged = total(old, &entries);
    let summary = Summary {
        run: inputs.run,
        old: &old.run,
        entries: entries.iter().map(AsRef::as_ref).collect(),
        invalid,
        progress,
        now: inputs.now(),
    };
    FleetTaskStatus {
        run: summary.status(),
        freed: purged.map(|p| size::humanize(p.bytes)),
        purged,
        datacenters: entries,
    }
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
