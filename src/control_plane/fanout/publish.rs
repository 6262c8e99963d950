//! Writes a run's status, at a pace that follows the time and the status's size and never the number of news, and
//! tells people what they should know in Events.

use std::time::Duration;

use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::compact;
use crate::{
    api::{
        Conditions as _, Reason,
        fleet::{DatacenterRun, FleetBackupJob, FleetBackupJobStatus, Phase},
        labels,
    },
    runtime::events::Events,
};

/// Least time between two writes of the status of a run that goes on.
const PUBLISH_EVERY: Duration = Duration::from_millis(500);
/// Bytes of status per second that one run may write: a status of a megabyte is written every five seconds.
const BYTES_PER_SECOND: usize = 200_000;
/// Failed datacenters that get an Event of their own in one write.
const MAX_EVENTS: usize = 20;

/// Least time between a status write of so many bytes and the next.
pub(super) fn pace(bytes: usize) -> Duration {
    let millis = bytes.saturating_mul(1_000) / BYTES_PER_SECOND;
    PUBLISH_EVERY.max(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
}

/// Writes the status as far as it fits; says how many bytes it was, or `None` when the job is not there any more.
pub(super) async fn write(
    client: &Client,
    job: &FleetBackupJob,
    status: &FleetBackupJobStatus,
) -> Result<Option<usize>, kube::Error> {
    let (status, bytes) = compact::fit(status, compact::BUDGET);
    let name = job.name_any();
    let api: Api<FleetBackupJob> = Api::namespaced(client.clone(), &job.namespace().unwrap_or_default());
    let body = json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetBackupJob",
        "metadata": {"name": name, "uid": job.uid()}, "status": status,
    });
    let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE).force();
    match api.patch_status(&name, &params, &Patch::Apply(&body)).await {
        Ok(_) => Ok(Some(bytes)),
        // Deleted, or deleted and made anew: the next event says which.
        Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Events about what changed between two written statuses.
pub(super) fn tell(
    events: &Events,
    job: &FleetBackupJob,
    old: &FleetBackupJobStatus,
    new: &FleetBackupJobStatus,
) {
    let about = job.object_ref(&());
    let is_dry_run = job.spec.is_dry_run();
    if old.start_time.is_none() && !new.datacenters.is_empty() && !is_dry_run {
        let note = format!("backing up {} datacenters", new.datacenters.len());
        events.normal(about.clone(), Reason::Running, "Backup", note);
    }
    let failed = newly_failed(&old.datacenters, &new.datacenters);
    for entry in failed.iter().take(MAX_EVENTS) {
        let place = format!("{}/{}/{}", entry.data_plane, entry.namespace, entry.datacenter);
        let note = format!("{place}: {}", entry.message.as_deref().unwrap_or("failed"));
        events.warning(about.clone(), Reason::Failed, "Backup", note);
    }
    if let Some(more) = failed.len().checked_sub(MAX_EVENTS).filter(|more| *more > 0) {
        let note = format!("{more} more datacenters failed; see the status");
        events.warning(about.clone(), Reason::Failed, "Backup", note);
    }
    let Some(phase) = new.phase.filter(|p| p.is_final()) else { return };
    let note = new.conditions.of_type("Complete").map(|c| c.message.clone()).unwrap_or_default();
    match phase {
        _ if is_dry_run => events.normal(about, Reason::DryRun, "Plan", note),
        Phase::Succeeded => events.normal(about, Reason::Succeeded, "Backup", note),
        Phase::Cancelled => events.normal(about, Reason::Cancelled, "Backup", note),
        Phase::PartiallyFailed => events.warning(about, Reason::PartiallyFailed, "Backup", note),
        Phase::Failed | Phase::Skipped | Phase::Pending | Phase::Running => {
            events.warning(about, Reason::Failed, "Backup", note);
        }
    }
}

/// Both lists are in the same order, of the same datacenters or nearly so.
fn newly_failed<'a>(old: &[DatacenterRun], new: &'a [DatacenterRun]) -> Vec<&'a DatacenterRun> {
    let place = |e: &DatacenterRun| (e.data_plane.clone(), e.namespace.clone(), e.datacenter.clone());
    let before: std::collections::BTreeSet<_> =
        old.iter().filter(|e| e.phase == Phase::Failed).map(place).collect();
    new.iter().filter(|e| e.phase == Phase::Failed && !before.contains(&place(e))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_follows_the_size() {
        assert_eq!(pace(2_000), Duration::from_millis(500));
        assert_eq!(pace(1_000_000), Duration::from_secs(5));
    }
}
