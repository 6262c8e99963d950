//! What is written into a MedusaBackupJob's status, and when.
//!
//! Pure. Clusters with upstream's definitions drop `message` and `conditions`; nothing here may be needed
//! to go on, only to explain. The lists and times alone must carry a run over a restart.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use crate::{
    api::{Reason, medusa::MedusaBackupJobStatus},
    data_plane::{
        machine::{Node, Verdict},
        outcome,
        timings::since,
    },
};

/// Longest time a change of the lists goes unwritten.
const STALE: Duration = Duration::from_mins(5);
/// Shortest time between two writes of progress.
const QUICK: Duration = Duration::from_secs(1);

/// The status as a merge patch that only applies to `resource_version`.
#[must_use]
pub fn patch(resource_version: &str, status: &MedusaBackupJobStatus) -> Value {
    // An empty list has to be written as null: left out, the old list would stay.
    let list = |names: &[String]| if names.is_empty() { Value::Null } else { json!(names) };
    json!({
        "metadata": {"resourceVersion": resource_version},
        "status": {
            "startTime": status.start_time,
            "finishTime": status.finish_time,
            "inProgress": list(&status.in_progress),
            "finished": list(&status.finished),
            "failed": list(&status.failed),
            "message": status.message,
            "conditions": status.conditions,
        }
    })
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

/// Whether `new` should be written though the run goes on: at the first failure, at each quarter of the
/// nodes, and when the change has gone unwritten for long. So a backup of any size costs at most three such
/// writes in its first minutes.
#[must_use]
pub fn is_due(
    written: &MedusaBackupJobStatus,
    new: &MedusaBackupJobStatus,
    last: Timestamp,
    now: Timestamp,
) -> bool {
    let lists = |s: &MedusaBackupJobStatus| (s.finished.len(), s.failed.len());
    let total = new.in_progress.len() + new.finished.len() + new.failed.len();
    let quarter = |s: &MedusaBackupJobStatus| {
        (s.finished.len() + s.failed.len()).saturating_mul(4).checked_div(total).unwrap_or_default()
    };
    let waited = since(last, now);
    lists(written) != lists(new)
        && (waited >= STALE
            || (waited >= QUICK
                && (quarter(written) < quarter(new)
                    || (written.failed.is_empty() && !new.failed.is_empty()))))
}

/// Why a run with failed nodes failed: the reason they share, and each of them by name.
#[must_use]
pub fn verdict(nodes: &BTreeMap<String, Node>) -> (Reason, String) {
    let mut reasons = Vec::new();
    let mut whys: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in nodes.values() {
        if let Some(Verdict::Failed(reason, why)) = &node.verdict {
            reasons.push(*reason);
            whys.entry(why).or_default().push(&node.pod);
        }
    }
    reasons.sort();
    reasons.dedup();
    let reason = match reasons.as_slice() {
        [one] => *one,
        _ => Reason::NodesFailed,
    };
    let failed: usize = whys.values().map(Vec::len).sum();
    let list: Vec<String> =
        whys.into_iter().map(|(why, pods)| format!("{}: {why}", pods.join(", "))).collect();
    (reason, format!("{failed} of {} pods failed. {}", nodes.len(), list.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::Conditions as _,
        data_plane::{
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

    fn failed(reason: Reason, why: &str) -> Verdict {
        Verdict::Failed(reason, why.to_owned())
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

    #[test]
    fn the_message_names_the_failed_pods_and_why() {
        let (reason, message) = verdict(&BTreeMap::from([
            node("a", Some(failed(Reason::PodGone, "gone"))),
            node("b", Some(Verdict::Finished)),
            node("c", Some(failed(Reason::PodGone, "gone"))),
        ]));
        assert_eq!(reason, Reason::PodGone);
        assert_eq!(message, "2 of 3 pods failed. a, c: gone");
        let (reason, _) = verdict(&BTreeMap::from([
            node("a", Some(failed(Reason::PodGone, "gone"))),
            node("b", Some(failed(Reason::MedusaRestarted, "again"))),
        ]));
        assert_eq!(reason, Reason::NodesFailed);
    }

    #[test]
    fn progress_is_written_at_quarters_at_the_first_failure_and_when_stale() {
        let of = |finished: usize, failed: usize| {
            let names = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>();
            MedusaBackupJobStatus {
                in_progress: names(30 - finished - failed),
                finished: names(finished),
                failed: names(failed),
                ..MedusaBackupJobStatus::default()
            }
        };
        let due = |old: (usize, usize), new: (usize, usize), seconds| {
            is_due(&of(old.0, old.1), &of(new.0, new.1), at(0), at(seconds))
        };
        assert!(!due((0, 0), (7, 0), 100));
        assert!(due((0, 0), (8, 0), 1));
        assert!(!due((0, 0), (8, 0), 0));
        assert!(due((0, 0), (0, 1), 1));
        assert!(!due((0, 1), (0, 2), 1));
        assert!(due((0, 0), (1, 0), 300));
        assert!(!due((1, 0), (1, 0), 3000));
    }
}
