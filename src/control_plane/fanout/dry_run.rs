//! What a dry run says: what would be done, and when. Pure.

use crate::{
    api::{
        Reason,
        fleet::{DatacenterRun, FleetBackupJob, Phase},
    },
    control_plane::runs::{
        child::child_key, ending::set, engine::RunInputs, rollout::stagger, select::is_placeholder,
    },
};

/// Says what would be done, in entries that nothing else is said about.
pub fn dry_run(inputs: &RunInputs<'_, FleetBackupJob>, entries: &mut [DatacenterRun]) {
    for entry in entries.iter_mut().filter(|e| e.phase == Phase::Pending && !is_placeholder(e)) {
        let waits = entry.reason.as_deref().is_some_and(|reason| reason != Reason::Pending.as_str());
        if waits && entry.reason.as_deref() != Some(Reason::AwaitingTurn.as_str()) {
            continue;
        }
        let key = child_key(inputs.run, entry, 1);
        let seconds =
            stagger(&inputs.terms.rollout, &entry.data_plane, &entry.namespace, &entry.datacenter).as_secs();
        let after = if seconds > 0 { format!(", {seconds} s after the start") } else { String::new() };
        let message = format!("would be backed up as {key}{after}");
        set(entry, Phase::Pending, Reason::DryRun, Some(message));
    }
}
