//! A status that fits into what etcd stores (ADR 12). Pure.
//!
//! What a later pass decides by is never dropped: which datacenters there are, the phase of each, its attempts, its
//! size and when its attempt was made. Everything else is told at length while there is room, and briefly when not.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;

use super::kind::Fanned;
use crate::api::fleet::{DatacenterRun, Phase};

/// Bytes a status may have as JSON. etcd takes 1.5 MiB for the whole object; the rest is for the spec, the metadata
/// and what clients put there.
pub const BUDGET: usize = 1_300_000;
/// Longest message of one datacenter.
const MAX_MESSAGE: usize = 512;
/// What an entry takes beside its four names when it says no more than it must, with its comma.
const ENTRY: usize = 140;
/// What a status takes beside its entries: conditions, restore points and a few messages.
const REST: usize = 80_000;
/// Restore points a shortened status names.
pub const RESTORE_POINTS: usize = 100;

/// How much an entry says, from most to least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Everything, with messages of a bounded length.
    Full,
    /// Of those that went as they should only the result; of the others all, the first hundred with a message.
    Brief,
    /// No more than a later pass decides by, and why those that are decided did not succeed, the first twenty with a
    /// message.
    Least,
}

/// Whether a run over these datacenters can be told in `budget` bytes however it goes.
#[must_use]
pub fn fits(entries: &[DatacenterRun], budget: usize) -> bool {
    let names = |e: &DatacenterRun| {
        [&e.data_plane, &e.namespace, &e.datacenter, &e.cluster].into_iter().map(String::len).sum::<usize>()
    };
    entries.iter().map(|e| names(e) + ENTRY).sum::<usize>() + REST <= budget
}

/// `status` of a run of kind `K` with as much detail as there is room for, and its size as JSON.
#[must_use]
pub fn fit<K: Fanned>(status: &K::Status, budget: usize) -> (K::Status, usize) {
    let with = |detail| {
        let mut status = status.clone();
        K::shorten(&mut status, detail);
        let size = size(&status);
        (status, size)
    };
    let full = with(Detail::Full);
    if full.1 <= budget {
        return full;
    }
    let brief = with(Detail::Brief);
    if brief.1 <= budget { brief } else { with(Detail::Least) }
}

/// Size of a status as JSON.
#[must_use]
pub fn size(status: &impl Serialize) -> usize {
    serde_json::to_vec(status).map_or(usize::MAX, |bytes| bytes.len())
}

/// Leaves out of the entries what `detail` does not ask for.
pub fn shorten<'a>(entries: impl Iterator<Item = &'a mut DatacenterRun>, detail: Detail) {
    let (mut messages, longest) = match detail {
        Detail::Full => (usize::MAX, MAX_MESSAGE),
        Detail::Brief => (100, MAX_MESSAGE / 2),
        Detail::Least => (20, MAX_MESSAGE / 2),
    };
    for entry in entries {
        // What may be shortened is cut to whole seconds, as the API server's own times are.
        entry.created_time = entry.created_time.take().map(whole_seconds);
        let went_well = matches!(entry.phase, Phase::Succeeded | Phase::Running);
        let is_brief = detail != Detail::Full;
        if is_brief {
            entry.job = entry.job.take().filter(|_| entry.attempts == 0);
        }
        if is_brief && went_well || detail == Detail::Least {
            entry.start_time = None;
            entry.nodes = None;
            entry.finish_time = entry.finish_time.take().filter(|_| !entry.phase.is_final());
        }
        if is_brief && went_well {
            entry.message = None;
            entry.reason = None;
        }
        if entry.message.is_some() {
            if messages == 0 {
                entry.message = None;
            } else {
                messages -= 1;
            }
        }
        if let Some(message) = &mut entry.message {
            cut(message, longest);
        }
        if detail == Detail::Least && !entry.phase.is_final() && entry.message.is_none() {
            entry.reason = None;
        }
    }
}

fn whole_seconds(time: Time) -> Time {
    jiff::Timestamp::from_second(time.0.as_second()).map_or(time, Time)
}

/// Cuts `text` to `longest` bytes and an ellipsis, where it is longer.
pub fn cut(text: &mut String, longest: usize) {
    if text.len() > longest {
        let end = (0..=longest).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::api::fleet::{
        DatacenterTask, FleetBackupJob, FleetBackupJobStatus, FleetTask, FleetTaskStatus, Purged,
    };

    /// An entry with everything said about it, at length.
    fn entry(number: usize, phase: &str, reason: &str) -> DatacenterRun {
        let mut entry: DatacenterRun = serde_json::from_value(json!({
            "dataPlane": format!("eu-central-1-prod-{}", number % 50), "namespace": "cassandra",
            "datacenter": format!("dc-eu-central-{number}"), "cluster": format!("shop-{}.cassandra", number / 3),
            "job": format!("{}-dc-eu-central-{number}-r2x0b1c2d3e", "n".repeat(170)), "attempts": 2, "phase": phase,
            "reason": reason, "message": format!("node {number} said: {}", "é\"\\".repeat(500)),
            "createdTime": "2026-11-02T03:00:00.123456Z", "startTime": "2026-11-02T03:00:01Z",
            "finishTime": "2026-11-02T03:10:01Z", "nodes": {"total": 99, "finished": 98, "failed": 1},
            "sizeBytes": 1_099_511_627_776_i64,
        }))
        .unwrap();
        entry.created_time.take_if(|_| phase != "Running");
        entry.size_bytes.take_if(|_| phase != "Succeeded");
        let is_tried_again = matches!(reason, "AwaitingRetry" | "NodesFailed");
        entry.finish_time.take_if(|_| !entry.phase.is_final() && !is_tried_again);
        entry
    }

    fn status(count: usize, phase: &str, reason: &str) -> FleetBackupJobStatus {
        let entries: Vec<DatacenterRun> = (0..count).map(|n| entry(n, phase, reason)).collect();
        let mut status: FleetBackupJobStatus = serde_json::from_value(json!({
            "phase": "Running", "startTime": "2026-11-02T03:00:00Z", "done": "0/5000",
            "restorePoints": (0..500).map(|n| format!("{}-0b1c2d3e.shop-{n}.cassandra", "n".repeat(170))).collect::<Vec<_>>(),
            "conditions": [{"type": "Complete", "status": "Unknown", "reason": "Running", "message": "m".repeat(1024),
                "lastTransitionTime": "2026-11-02T03:00:00Z"}],
        }))
        .unwrap();
        status.datacenters = entries;
        status
    }

    #[rstest]
    #[case("Pending", "AwaitingTurn")]
    #[case("Pending", "AwaitingRetry")]
    #[case("Running", "AwaitingMedusaBackup")]
    #[case("Succeeded", "Succeeded")]
    #[case("Failed", "ProgressDeadlineExceeded")]
    #[case("Skipped", "FailureBudgetSpent")]
    #[case("Cancelled", "Cancelled")]
    fn five_thousand_datacenters_fit_however_they_go(#[case] phase: &str, #[case] reason: &str) {
        let status = status(5_000, phase, reason);
        assert!(fits(&status.datacenters, BUDGET));
        assert!(size(&status) > 3 * BUDGET, "too small to prove anything");
        let (fitted, bytes) = fit::<FleetBackupJob>(&status, BUDGET);
        assert!(bytes <= BUDGET, "{bytes} bytes");
        assert_eq!(bytes, size(&fitted));
        for (before, after) in status.datacenters.iter().zip(&fitted.datacenters) {
            let kept = |e: &DatacenterRun| {
                let created = e.created_time.as_ref().map(|t| t.0.as_second());
                let place =
                    (e.data_plane.clone(), e.namespace.clone(), e.datacenter.clone(), e.cluster.clone());
                (place, e.phase, e.attempts(), e.size_bytes, created)
            };
            assert_eq!(kept(before), kept(after), "what decides is never dropped");
        }
        if phase == "Failed" {
            let told = fitted.datacenters.iter().filter(|e| e.message.is_some()).count();
            assert!(told >= 20, "{told} messages");
            assert!(fitted.datacenters.iter().all(|e| e.reason.as_deref() == Some(reason)));
        }
        if reason == "AwaitingRetry" {
            assert!(
                fitted.datacenters.iter().all(|e| e.finish_time.is_some()),
                "the pause is counted from it"
            );
        }
    }

    #[test]
    fn a_small_status_loses_nothing_but_very_long_messages() {
        let mut small = status(3, "Failed", "NodesFailed");
        let (fitted, _) = fit::<FleetBackupJob>(&small, BUDGET);
        for (entry, fitted) in small.datacenters.iter_mut().zip(&fitted.datacenters) {
            assert!(fitted.message.as_ref().unwrap().len() <= MAX_MESSAGE + 3);
            entry.message.clone_from(&fitted.message);
            entry.created_time.clone_from(&fitted.created_time);
        }
        assert_eq!(small, fitted);
        assert_eq!(fit::<FleetBackupJob>(&fitted, BUDGET).0, fitted, "what fits is left alone");
    }

    #[test]
    fn a_run_that_could_not_be_told_is_known_beforehand() {
        let long: Vec<DatacenterRun> = (0..5_000)
            .map(|n| DatacenterRun {
                namespace: "n".repeat(63),
                cluster: "c".repeat(200),
                ..entry(n, "Pending", "Pending")
            })
            .collect();
        assert!(!fits(&long, BUDGET));
        assert!(!fits(&status(9_000, "Pending", "Pending").datacenters, BUDGET));
    }

    #[test]
    fn the_least_an_entry_says_is_what_is_reckoned_with() {
        let status = status(1_000, "Failed", "ProgressDeadlineExceeded");
        let mut least = status.clone();
        FleetBackupJob::shorten(&mut least, Detail::Least);
        for entry in least.datacenters.iter().skip(20) {
            let value: Value = serde_json::to_value(entry).unwrap();
            let names: usize = ["dataPlane", "namespace", "datacenter", "cluster"]
                .iter()
                .map(|key| value[key].as_str().unwrap().len())
                .sum();
            let bytes = value.to_string().len() + 1;
            assert!(bytes <= names + ENTRY, "{bytes}: {value}");
        }
    }

    const EACH: Purged =
        Purged { backups: 99, objects: 12_345_678, bytes: 1_099_511_627_776, objects_within_grace: 123_456 };

    /// A task of which every datacenter has everything said about it.
    fn task_status(count: usize, phase: &str, reason: &str) -> FleetTaskStatus {
        let FleetBackupJobStatus { run, datacenters, .. } = status(count, phase, reason);
        let part = |run: DatacenterRun| DatacenterTask {
            sync: run.job.as_ref().map(|job| format!("{job}-sync")),
            keeps: Some(format!("{}-0b1c2d3e.{}", "n".repeat(170), run.cluster)),
            purged: Some(EACH),
            run: DatacenterRun { size_bytes: None, ..run },
        };
        FleetTaskStatus {
            run,
            purged: (0..count).map(|_| EACH).reduce(Purged::plus),
            freed: Some("4.88 PB".to_owned()),
            datacenters: datacenters.into_iter().map(part).collect(),
        }
    }

    #[rstest]
    #[case("Pending", "AwaitingTurn")]
    #[case("Pending", "NodesFailed")]
    #[case("Running", "AwaitingSync")]
    #[case("Succeeded", "Succeeded")]
    #[case("Failed", "ProgressDeadlineExceeded")]
    #[case("Skipped", "FailureBudgetSpent")]
    #[case("Cancelled", "Cancelled")]
    fn so_does_a_task_and_what_was_purged_is_counted_once(#[case] phase: &str, #[case] reason: &str) {
        let status = task_status(5_000, phase, reason);
        let runs: Vec<DatacenterRun> = status.datacenters.iter().map(|e| e.run.clone()).collect();
        assert!(fits(&runs, BUDGET) && size(&status) > 3 * BUDGET, "too small to prove anything");
        let (fitted, bytes) = fit::<FleetTask>(&status, BUDGET);
        assert!(bytes <= BUDGET, "{bytes} bytes");
        for (before, after) in status.datacenters.iter().zip(&fitted.datacenters) {
            let kept = |e: &DatacenterTask| (e.run.datacenter.clone(), e.run.phase, e.run.attempts());
            assert_eq!(kept(before), kept(after), "what decides is never dropped");
        }
        let decided = status.datacenters.iter().filter(|e| e.run.phase.is_final()).filter_map(|e| e.purged);
        let told = fitted.datacenters.iter().filter(|e| !e.run.phase.is_final()).filter_map(|e| e.purged);
        let sum = decided.chain(told).reduce(Purged::plus).unwrap_or_default();
        assert_eq!(fitted.purged, Some(sum), "what is left out and read again is not in the sum");
    }
}
