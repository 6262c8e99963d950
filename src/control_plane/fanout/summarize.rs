//! What a FleetBackupJob sums up besides what all runs do: restore points, size and skew. Pure: the order of the
//! datacenters does not matter.

use crate::{
    api::{
        fleet::{DatacenterRun, FleetBackupJob, FleetBackupJobStatus, Phase, RunStatus},
        names, size,
    },
    control_plane::runs::child::child_key,
};

/// Restore points a status names at most: it is read by people, and the inventory knows all.
const MAX_RESTORE_POINTS: usize = 500;

/// The status of `job`, whose part that all kinds share is `run`. `old` is the status before.
#[must_use]
pub fn sum_up(
    job: &FleetBackupJob,
    old: &FleetBackupJobStatus,
    run: RunStatus,
    entries: Vec<DatacenterRun>,
) -> FleetBackupJobStatus {
    let starts = || entries.iter().filter_map(|e| e.start_time.as_ref()).map(|t| t.0);
    let skew = starts().max().zip(starts().min()).map(|(last, first)| last.duration_since(first).as_secs());
    // Whoever is not done has no size to miss.
    let counted = entries.iter().filter(|e| e.size_bytes.is_some() || e.phase == Phase::Succeeded);
    let sizes: Vec<Option<i64>> = counted.map(|e| e.size_bytes).collect();
    FleetBackupJobStatus {
        run,
        // A status that had to be shortened no longer has every start.
        start_skew_seconds: skew.max(old.start_skew_seconds),
        size: size::of_known(&sizes),
        restore_points: restore_points(job, &entries),
        datacenters: entries,
    }
}

fn restore_points(job: &FleetBackupJob, entries: &[DatacenterRun]) -> Vec<String> {
    let succeeded = entries.iter().filter(|e| e.phase == Phase::Succeeded && e.attempts() > 0);
    let mut points: Vec<String> = succeeded
        .map(|e| {
            let (point, _) = names::restore_point(&child_key(job, e, e.attempts()).name, &e.datacenter);
            names::fleet_backup(&point, &e.cluster)
        })
        .collect();
    points.sort();
    points.dedup();
    points.truncate(MAX_RESTORE_POINTS);
    points
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::control_plane::{
        fanout::tests::{fleet_job, inputs, pending},
        runs::engine::adapter::Adapter as _,
    };

    fn entry(number: i64, phase: Phase) -> DatacenterRun {
        DatacenterRun {
            phase,
            attempts: 1,
            start_time: Timestamp::from_second(number * 10).ok().map(Time),
            size_bytes: (phase == Phase::Succeeded).then_some(1024),
            ..pending("eu", &format!("dc{number}"))
        }
    }

    #[test]
    fn a_run_names_its_restore_points_size_and_skew() {
        let entries = vec![entry(0, Phase::Succeeded), entry(1, Phase::Succeeded), entry(2, Phase::Failed)];
        let turned: Vec<DatacenterRun> = entries.iter().rev().cloned().collect();
        for entries in [entries, turned] {
            let now = Timestamp::from_second(1_000_000).unwrap();
            let old = FleetBackupJobStatus::default();
            let job = fleet_job("nightly");
            let status = FleetBackupJob::summarize(&inputs(&job, &[], 1_000_000), &old, entries, None, now);
            assert_eq!(status.run.done.as_deref(), Some("3/3"));
            assert_eq!(status.size.as_deref(), Some("2.00 KB"));
            assert_eq!(status.restore_points, ["nightly-0b1c2d3e.shop.ns.eu"]);
            assert_eq!(status.start_skew_seconds, Some(20));
        }
    }
}
