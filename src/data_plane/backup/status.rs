//! What is written into a MedusaBackupJob's status, and when.
//!
//! Pure. Clusters with upstream's definitions drop `message` and `conditions`; nothing here may be needed
//! to go on, only to explain. The lists and times alone must carry a run over a restart.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::node::{Node, Verdict};
use crate::{
    api::{Reason, medusa::MedusaBackupJobStatus},
    data_plane::frame::{
        outcome,
        progress::{self, Counts},
    },
};

/// The status as a merge patch that only applies to `resource_version`.
#[must_use]
pub fn patch(resource_version: &str, status: &MedusaBackupJobStatus) -> Value {
    let fields = ["startTime", "finishTime", "inProgress", "finished", "failed", "message", "conditions"];
    outcome::patch(resource_version, status, &fields)
}

/// The job is claimed: started now, with every pod in progress.
pub fn claim(status: &mut MedusaBackupJobStatus, pods: Vec<String>, generation: Option<i64>, now: Timestamp) {
    let message = format!("backing up {} pods", pods.len());
    status.start_time = Some(Time(now));
    status.in_progress = pods;
    outcome::go_on(status, &message, generation, now);
}

/// The lists as `nodes` have them now.
pub fn progress(status: &mut MedusaBackupJobStatus, nodes: &BTreeMap<String, Node>) {
    let of = |wanted: fn(Option<&Verdict>) -> bool| {
        nodes.values().filter(|n| wanted(n.verdict.as_ref())).map(|n| n.pod.clone()).collect::<Vec<_>>()
    };
    status.in_progress = of(|v| v.is_none());
    status.finished = of(|v| matches!(v, Some(Verdict::Finished)));
    status.failed = of(|v| matches!(v, Some(Verdict::Failed(..))));
}

/// How many pods are in which list.
#[must_use]
pub fn counts(status: &MedusaBackupJobStatus) -> Counts {
    Counts {
        in_progress: status.in_progress.len(),
        finished: status.finished.len(),
        failed: status.failed.len(),
    }
}

/// Why a run with failed nodes failed.
#[must_use]
pub fn verdict(nodes: &BTreeMap<String, Node>) -> (Reason, String) {
    let failures = nodes.values().filter_map(|node| match &node.verdict {
        Some(Verdict::Failed(reason, why)) => Some((node.pod.as_str(), *reason, why.as_str())),
        _ => None,
    });
    progress::verdict(failures, nodes.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        api::Conditions as _,
        data_plane::frame::{
            outcome::{COMPLETE, FAILED, fail, succeed, wait},
            problem::Problem,
        },
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn node(pod: &str, verdict: Option<Verdict>) -> (String, Node) {
        let mut node = Node::claimed(pod, at(0));
        node.verdict = verdict;
        (pod.to_owned(), node)
    }

    #[test]
    fn the_patch_empties_lists_and_holds_to_the_version_it_was_made_from() {
        let mut status = MedusaBackupJobStatus::default();
        claim(&mut status, vec!["a".to_owned()], Some(1), at(5));
        let claimed = patch("7", &status);
        assert_eq!(claimed["metadata"]["resourceVersion"], "7");
        assert_eq!(claimed["status"]["inProgress"], json!(["a"]));
        assert_eq!(claimed["status"]["startTime"], "1970-01-01T00:00:05Z");
        assert!(claimed["status"]["finishTime"].is_null());
        progress(&mut status, &BTreeMap::from([node("a", Some(Verdict::Finished))]));
        assert!(patch("8", &status)["status"]["inProgress"].is_null());
    }

    #[test]
    fn conditions_say_unknown_until_the_end() {
        let mut status = MedusaBackupJobStatus::default();
        wait(&mut status, &Problem::new(Reason::NoPods, "none".to_owned()), None, at(1));
        assert_eq!(status.conditions.of_type(COMPLETE).unwrap().status, "Unknown");
        assert_eq!(status.message.as_deref(), Some("none"));
        claim(&mut status, vec!["a".to_owned()], None, at(2));
        assert_eq!(status.conditions.of_type(COMPLETE).unwrap().status, "Unknown");
        assert_eq!(status.message, None);
        let mut bad = status.clone();
        succeed(&mut status, "done", None, at(3));
        assert!(status.conditions.is_true(COMPLETE) && !status.conditions.is_true(FAILED));
        fail(&mut bad, Reason::PodGone, "gone", None, at(3));
        assert!(bad.conditions.is_true(FAILED) && !bad.conditions.is_true(COMPLETE));
        assert_eq!(bad.finish_time, Some(Time(at(3))));
    }
}
