//! What is written into a MedusaTask's status.
//!
//! Pure. Clusters with upstream's definitions drop `message` and `conditions`; the lists and times alone must
//! carry a task over a restart, and a reader of the lists alone must see that a task failed.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::pod::Pod;
use crate::{
    api::{
        Reason,
        medusa::{MedusaTaskStatus, TaskPodResult},
    },
    data_plane::{
        frame::{lifecycle::PodsStatus as _, progress},
        medusa::client::proto::PurgeBackupsResponse,
    },
};

/// The lists as `pods` have them now.
pub fn progress(status: &mut MedusaTaskStatus, pods: &BTreeMap<String, Pod<TaskPodResult>>) {
    let names = |wanted: fn(&Pod<TaskPodResult>) -> bool| {
        pods.iter().filter(|(_, pod)| wanted(pod)).map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    status.in_progress = names(|pod| pod.verdict.is_none());
    status.failed = names(|pod| pod.failure().is_some());
    status.finished = pods.values().filter_map(|pod| pod.result().cloned()).collect();
}

/// Why a task with failed pods failed; nothing when none did.
#[must_use]
pub fn verdict<T>(pods: &BTreeMap<String, Pod<T>>) -> Option<(Reason, String)> {
    let failures =
        pods.iter().filter_map(|(name, pod)| pod.failure().map(|(reason, why)| (name.as_str(), reason, why)));
    progress::verdict(failures, pods.len())
}

/// The pods of a task found under way. One with a start time and no lists was left behind by a controller
/// that writes them later: every pod of `all` is in it. Pods that still work are asked at `next`.
#[must_use]
pub fn resumed<'a>(
    status: &MedusaTaskStatus,
    all: impl Iterator<Item = &'a String>,
    next: Timestamp,
    now: Timestamp,
) -> BTreeMap<String, Pod<TaskPodResult>> {
    let names: Vec<&String> =
        if status.counts().total() == 0 { all.collect() } else { status.in_progress.iter().collect() };
    let mut pods = names.into_iter().map(|name| (name.clone(), Pod::new(next))).collect();
    adopt(status, &mut pods, now);
    pods
}

/// Takes over what the object already says is decided, by whoever wrote it.
pub fn adopt(status: &MedusaTaskStatus, pods: &mut BTreeMap<String, Pod<TaskPodResult>>, now: Timestamp) {
    for result in &status.finished {
        let Some(name) = &result.pod_name else { continue };
        pods.insert(name.clone(), Pod::decided(Ok(result.clone()), now));
    }
    for name in &status.failed {
        if pods.get(name).is_none_or(|pod| pod.failure().is_none()) {
            let why = "reported as failed before this controller took the task over".to_owned();
            pods.insert(name.clone(), Pod::decided(Err((Reason::NodesFailed, why)), now));
        }
    }
}

/// A pod that did what was asked.
#[must_use]
pub fn done(pod: &str) -> TaskPodResult {
    TaskPodResult { pod_name: Some(pod.to_owned()), ..TaskPodResult::default() }
}

/// A pod's purge in figures.
#[must_use]
pub fn purged(pod: &str, answer: &PurgeBackupsResponse) -> TaskPodResult {
    TaskPodResult {
        nb_backups_purged: Some(answer.nb_backups_purged.into()),
        nb_objects_purged: Some(answer.nb_objects_purged.into()),
        total_purged_size: Some(answer.total_purged_size),
        total_objects_within_gc_grace: Some(answer.total_objects_within_gc_grace.into()),
        ..done(pod)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::data_plane::frame::lifecycle::patch;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn pods() -> BTreeMap<String, Pod<TaskPodResult>> {
        let purge = PurgeBackupsResponse {
            nb_backups_purged: 3,
            nb_objects_purged: 814,
            total_purged_size: 10_770_961,
            total_objects_within_gc_grace: 5,
        };
        let failed = Err((Reason::PodGone, "gone".to_owned()));
        BTreeMap::from([
            ("a".to_owned(), Pod::decided(Ok(purged("a", &purge)), at(0))),
            ("b".to_owned(), Pod::new(at(0))),
            ("c".to_owned(), Pod::decided(failed, at(0))),
        ])
    }

    #[test]
    fn the_progress_is_written_whole() {
        let mut status = MedusaTaskStatus::default();
        progress(&mut status, &pods());
        let written = patch("8", &status);
        assert_eq!(written["status"]["inProgress"], json!(["b"]));
        assert_eq!(written["status"]["failed"], json!(["c"]));
        let expected = json!([{
            "podName": "a", "nbBackupsPurged": 3, "nbObjectsPurged": 814,
            "totalPurgedSize": 10_770_961, "totalObjectsWithinGcGrace": 5
        }]);
        assert_eq!(written["status"]["finished"], expected);
    }

    #[test]
    fn a_task_taken_over_asks_only_what_is_not_decided() {
        let mut status = MedusaTaskStatus::default();
        progress(&mut status, &pods());
        let all = ["a", "b", "c", "d"].map(str::to_owned);
        let resumed_pods = resumed(&status, all.iter(), at(30), at(0));
        assert_eq!(resumed_pods.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(resumed_pods["a"].result().unwrap().nb_objects_purged, Some(814));
        assert_eq!(resumed_pods["b"].waits_until(), Some(at(30)));
        assert_eq!(verdict(&resumed_pods).unwrap().0, Reason::NodesFailed);
        let left = resumed(&MedusaTaskStatus::default(), all.iter(), at(30), at(0));
        assert_eq!(left.len(), 4, "a task without lists is all pods'");
    }

    #[test]
    fn what_failed_here_keeps_its_reason() {
        let mut known = pods();
        let mut status = MedusaTaskStatus::default();
        progress(&mut status, &known);
        adopt(&status, &mut known, at(0));
        assert_eq!(verdict(&known), Some((Reason::PodGone, "1 of 3 pods failed. c: gone".to_owned())));
        known.remove("c");
        assert_eq!(verdict(&known), None);
    }
}
