//! Which FleetRestoreJobs are at work on which cluster: one at a time, and no backup meanwhile. Pure.

use std::collections::BTreeMap;

use kube::ResourceExt as _;

use super::kind::Run as _;
use crate::api::fleet::FleetRestoreJob;

/// Whether the job is to restore something and has not ended: no backup of its cluster starts until then. A job
/// that still waits counts, so that it gets its turn.
#[must_use]
pub fn is_active(job: &FleetRestoreJob) -> bool {
    !job.spec.dry_run && job.metadata.deletion_timestamp.is_none() && !job.is_over()
}

/// The FleetCluster a job restores into: as its checks found out, else as its spec names it.
#[must_use]
pub fn cluster_of_job(job: &FleetRestoreJob) -> Option<&str> {
    job.status.as_ref().and_then(|s| s.cluster.as_deref()).or(job.spec.cluster.as_deref())
}

/// Clusters with an active FleetRestoreJob, each with the name of one.
#[must_use]
pub fn active_clusters<'a>(jobs: impl IntoIterator<Item = &'a FleetRestoreJob>) -> BTreeMap<String, String> {
    jobs.into_iter()
        .filter(|job| is_active(job))
        .filter_map(|job| Some((cluster_of_job(job)?.to_owned(), job.name_any())))
        .collect()
}

/// Whether `other` has to end before `job` begins: its checks have passed, or it is older.
#[must_use]
pub fn goes_first(other: &FleetRestoreJob, job: &FleetRestoreJob) -> bool {
    let order = |j: &FleetRestoreJob| (j.creation_timestamp().map(|t| t.0), j.uid());
    let is_committed = |j: &FleetRestoreJob| j.status.as_ref().is_some_and(|s| s.checked_time.is_some());
    other.uid() != job.uid() && is_active(other) && (is_committed(other) || order(other) < order(job))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::fleet::Phase, control_plane::restores::tests::restore_job};

    #[test]
    fn the_older_goes_first_unless_the_younger_has_begun() {
        let (mut old, mut young) = (restore_job("old", "b1"), restore_job("young", "b1"));
        (old.metadata.uid, young.metadata.uid) = (Some("1".into()), Some("2".into()));
        assert!(goes_first(&old, &young) && !goes_first(&young, &old));
        young.status.get_or_insert_default().checked_time = old.metadata.creation_timestamp.clone();
        assert!(goes_first(&young, &old));
        young.status.get_or_insert_default().phase = Some(Phase::Failed);
        assert!(!goes_first(&young, &old), "one that has ended holds nobody up");
    }

    #[test]
    fn a_waiting_restore_holds_backups_up_and_a_dry_run_does_not() {
        let mut job = restore_job("r", "b1");
        job.spec.cluster = Some("shop".into());
        assert_eq!(active_clusters([&job]).get("shop").map(String::as_str), Some("r"));
        job.spec.dry_run = true;
        assert!(active_clusters([&job]).is_empty());
    }
}
