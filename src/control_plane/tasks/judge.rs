//! Whether a datacenter's task succeeded. `finishTime` alone says nothing: upstream sets it although every pod failed
//! (upstream: Tasks). Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::{
    api::{
        Conditions as _, Reason,
        cassandra::CassandraDatacenter,
        fleet::{NodeCounts, Purged},
        medusa::{MedusaTask, MedusaTaskStatus, TaskOperation},
    },
    control_plane::runs::{
        imports::Wordless,
        verdict::{GRACE, Verdict},
    },
};

/// Everything the verdict is made of.
pub struct Evidence<'a> {
    pub child: &'a MedusaTask,
    /// The sync that follows it, if it is a purge.
    pub sync: Option<&'a MedusaTask>,
    /// The datacenter as it is now.
    pub datacenter: Option<&'a CassandraDatacenter>,
    /// Since when the MedusaTask has been seen finished.
    pub finished_since: Option<Timestamp>,
    /// What became of the sync, the MedusaTask's own or the one that follows, should it have ended without the word of a
    /// pod.
    pub wordless: Option<Wordless>,
}

/// Pods that say they are done.
fn pods(status: &MedusaTaskStatus) -> usize {
    status.finished.iter().filter_map(|pod| pod.pod_name.as_ref()).collect::<BTreeSet<_>>().len()
}

/// Pods of the task by state. A sync asks one pod, whichever answers.
#[must_use]
pub fn nodes(child: &MedusaTask, datacenter: Option<&CassandraDatacenter>) -> NodeCounts {
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let status = child.status.clone().unwrap_or_default();
    let (finished, failed) = (count(pods(&status)), count(status.failed.len()));
    let listed = finished + failed + count(status.in_progress.len());
    let size = if child.spec.operation == TaskOperation::Sync {
        1
    } else {
        datacenter.map_or(0, |dc| i64::from(dc.spec.size))
    };
    NodeCounts { total: listed.max(size), finished, failed }
}

/// What the pods of a purge did; `None` before any did anything.
#[must_use]
pub fn purged(child: &MedusaTask) -> Option<Purged> {
    let status = child.status.as_ref().filter(|_| child.spec.operation == TaskOperation::Purge)?;
    let figures = |n: Option<i64>| n.unwrap_or(0).max(0);
    let each = status.finished.iter().map(|pod| Purged {
        backups: figures(pod.nb_backups_purged),
        objects: figures(pod.nb_objects_purged),
        bytes: figures(pod.total_purged_size),
        objects_within_grace: figures(pod.total_objects_within_gc_grace),
    });
    each.reduce(Purged::plus)
}

/// Judges one datacenter at `now`.
#[must_use]
pub fn judge(evidence: &Evidence<'_>, now: Timestamp) -> Verdict {
    let own = match is_unwhole(evidence) {
        // The sync after a purge is made again under its name ([`super::adapter`]).
        Some(message) if evidence.child.spec.operation == TaskOperation::Sync => {
            let reason = Reason::AwaitingSync;
            return if evidence.wordless.as_ref().is_some_and(Wordless::is_unwhole) {
                Verdict::Again { reason, message }
            } else {
                Verdict::Running { reason, message: Some(message) }
            };
        }
        Some(_) | None => judge_one(evidence.child, evidence.datacenter),
    };
    if own != Verdict::Succeeded || evidence.child.spec.operation != TaskOperation::Purge {
        return own;
    }
    let Some(sync) = evidence.sync else {
        let late = lacks_sync(evidence, now);
        let message =
            if late { "makes the sync after the purge" } else { "waits for the sync after the purge" };
        return Verdict::Running { reason: Reason::AwaitingSync, message: Some(message.to_owned()) };
    };
    if let Some(message) = is_unwhole(evidence) {
        return Verdict::Running { reason: Reason::AwaitingSync, message: Some(message) };
    }
    match judge_one(sync, evidence.datacenter) {
        Verdict::Succeeded => Verdict::Succeeded,
        Verdict::Again { message, .. } => {
            Verdict::Running { reason: Reason::AwaitingSync, message: Some(message) }
        }
        Verdict::Running { message, .. } => {
            let message = message.unwrap_or_else(|| "waits for the sync after the purge".to_owned());
            Verdict::Running { reason: Reason::AwaitingSync, message: Some(message) }
        }
        Verdict::Failed { message, .. } => Verdict::Failed {
            reason: Reason::SyncFailed,
            message: format!("the purge is done, but the sync after it failed: {message}"),
        },
    }
}

/// Whether a purge that went well has had no sync for so long that the data plane makes none.
#[must_use]
pub fn lacks_sync(evidence: &Evidence<'_>, now: Timestamp) -> bool {
    evidence.child.spec.operation == TaskOperation::Purge
        && evidence.sync.is_none()
        && evidence.finished_since.is_some_and(|since| now.duration_since(since) >= GRACE)
        && judge_one(evidence.child, evidence.datacenter) == Verdict::Succeeded
}

/// What is said of a sync that is not whole, if it is not.
fn is_unwhole(evidence: &Evidence<'_>) -> Option<String> {
    evidence.wordless.as_ref().and_then(Wordless::says)
}

fn judge_one(task: &MedusaTask, datacenter: Option<&CassandraDatacenter>) -> Verdict {
    let status = task.status.clone().unwrap_or_default();
    if status.finish_time.is_none() {
        let reason = if status.start_time.is_some() { Reason::Running } else { Reason::JobCreated };
        return Verdict::Running { reason, message: status.message };
    }
    if !status.failed.is_empty() {
        let named = status.failed.join(", ");
        let message = status.message.unwrap_or_else(|| format!("it failed on {named}"));
        return Verdict::Failed { reason: Reason::NodesFailed, message };
    }
    if let Some(failed) = status.conditions.of_type("Failed").filter(|c| c.status == "True") {
        let reason = Reason::of(&failed.reason).unwrap_or(Reason::Failed);
        return Verdict::Failed { reason, message: failed.message.clone() };
    }
    let done = pods(&status);
    let expected = match (task.spec.operation, datacenter) {
        (TaskOperation::Sync, _) | (_, None) => 1,
        (_, Some(dc)) => usize::try_from(dc.spec.size).unwrap_or(0).max(1),
    };
    if done < expected {
        let said = status.message.map(|m| format!(": {m}")).unwrap_or_default();
        let message = format!("it finished with the results of {done} of {expected} pods{said}");
        return Verdict::Failed { reason: Reason::TaskIncomplete, message };
    }
    Verdict::Succeeded
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::control_plane::fanout::tests::datacenter;

    fn task(operation: &str, status: &Value) -> MedusaTask {
        serde_json::from_value(json!({
            "metadata": {"name": "t"}, "spec": {"cassandraDatacenter": "dc1", "operation": operation}, "status": status,
        }))
        .unwrap()
    }

    fn ended(finished: &[&str], failed: &[&str]) -> Value {
        let finished: Vec<Value> = finished.iter().map(|pod| json!({"podName": pod})).collect();
        json!({"startTime": "2026-01-01T00:00:00Z", "finishTime": "2026-01-01T00:01:00Z",
            "finished": finished, "failed": failed})
    }

    fn verdict(child: &MedusaTask, sync: Option<&MedusaTask>, waited: i64) -> String {
        let dc = datacenter("dc1", 2);
        judged(
            &Evidence {
                child,
                sync,
                datacenter: Some(&dc),
                finished_since: Some(Timestamp::UNIX_EPOCH),
                wordless: None,
            },
            waited,
        )
    }

    fn judged(evidence: &Evidence<'_>, waited: i64) -> String {
        match judge(evidence, Timestamp::from_second(waited).unwrap()) {
            Verdict::Running { reason, .. } => format!("running {reason}"),
            Verdict::Again { reason, .. } => format!("again {reason}"),
            Verdict::Succeeded => "succeeded".into(),
            Verdict::Failed { reason, .. } => format!("failed {reason}"),
        }
    }

    #[rstest]
    #[case::not_begun(json!(null), "running JobCreated")]
    #[case::under_way(json!({"startTime": "2026-01-01T00:00:00Z"}), "running Running")]
    #[case::one_pod_answered(ended(&["a"], &[]), "succeeded")]
    #[case::nobody_answered(ended(&[], &[]), "failed TaskIncomplete")]
    #[case::a_pod_failed(ended(&["a"], &["b"]), "failed NodesFailed")]
    fn a_sync_succeeds_when_a_pod_answered(#[case] status: Value, #[case] expected: &str) {
        assert_eq!(verdict(&task("sync", &status), None, 999), expected);
    }

    #[rstest]
    #[case::all_failed_upstream(ended(&[], &["a", "b"]), "failed NodesFailed")]
    #[case::one_failed(ended(&["a"], &["b"]), "failed NodesFailed")]
    #[case::a_pod_is_missing(ended(&["a"], &[]), "failed TaskIncomplete")]
    #[case::a_pod_twice_is_one(ended(&["a", "a"], &[]), "failed TaskIncomplete")]
    #[case::every_pod(ended(&["a", "b"], &[]), "running AwaitingSync")]
    fn a_purge_needs_every_pod(#[case] status: Value, #[case] expected: &str) {
        assert_eq!(verdict(&task("purge", &status), None, 0), expected);
    }

    #[rstest]
    #[case::not_begun(json!(null), "running AwaitingSync")]
    #[case::under_way(json!({"startTime": "2026-01-01T00:00:00Z"}), "running AwaitingSync")]
    #[case::well(ended(&["b"], &[]), "succeeded")]
    #[case::nobody_answered(ended(&[], &[]), "failed SyncFailed")]
    fn the_sync_after_a_purge_is_part_of_its_verdict(#[case] status: Value, #[case] expected: &str) {
        let purge = task("purge", &ended(&["a", "b"], &[]));
        assert_eq!(verdict(&purge, Some(&task("sync", &status)), 0), expected);
    }

    #[rstest]
    #[case::imported(Wordless::Imported(1), ["again AwaitingSync", "running AwaitingSync"])]
    #[case::not_known(Wordless::Open("403".to_owned()), ["running AwaitingSync", "running AwaitingSync"])]
    #[case::nothing(Wordless::Nothing, ["failed TaskIncomplete", "failed SyncFailed"])]
    fn a_sync_without_a_word_is_judged_by_what_it_left(#[case] left: Wordless, #[case] expected: [&str; 2]) {
        let sync = task("sync", &ended(&[], &[]));
        let purge = task("purge", &ended(&["a", "b"], &[]));
        let dc = datacenter("dc1", 2);
        let evidence = |child, sync| Evidence {
            child,
            sync,
            datacenter: Some(&dc),
            finished_since: None,
            wordless: Some(left.clone()),
        };
        let alone = judged(&evidence(&sync, None), 0);
        assert_eq!([alone, judged(&evidence(&purge, Some(&sync)), 0)], expected);
        let bad = task("purge", &ended(&["a"], &["b"]));
        assert_eq!(judged(&evidence(&bad, Some(&sync)), 0), "failed NodesFailed", "the purge itself");
    }

    #[test]
    fn what_the_data_plane_calls_failed_is() {
        let mut status = ended(&["a", "b"], &[]);
        status["conditions"] = json!([{"type": "Failed", "status": "True", "reason": "NameConflict",
            "message": "taken", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        assert_eq!(verdict(&task("purge", &status), None, 0), "failed NameConflict");
    }

    #[test]
    fn a_sync_nobody_makes_is_missed_after_a_while_only() {
        let (good, bad) = (task("purge", &ended(&["a", "b"], &[])), task("purge", &ended(&["a"], &["b"])));
        let dc = datacenter("dc1", 2);
        let lacks = |child: &MedusaTask, sync: Option<&MedusaTask>, waited: i64| {
            let finished_since = Some(Timestamp::UNIX_EPOCH);
            let evidence = Evidence { child, sync, datacenter: Some(&dc), finished_since, wordless: None };
            lacks_sync(&evidence, Timestamp::from_second(waited).unwrap())
        };
        assert!(!lacks(&good, None, 59) && lacks(&good, None, 60));
        assert!(!lacks(&bad, None, 60) && !lacks(&good, Some(&task("sync", &json!(null))), 60));
    }

    #[test]
    fn the_figures_of_all_pods_are_summed() {
        let pod = |n: i64| {
            json!({"podName": format!("p{n}"), "nbBackupsPurged": n, "nbObjectsPurged": 10 * n,
            "totalPurgedSize": 100 * n, "totalObjectsWithinGcGrace": 1000 * n})
        };
        let child = task("purge", &json!({"finished": [pod(1), pod(2), {"podName": "p3"}]}));
        let sum = Purged { backups: 3, objects: 30, bytes: 300, objects_within_grace: 3000 };
        assert_eq!(purged(&child), Some(sum));
        assert_eq!(purged(&task("purge", &json!({"inProgress": ["a"]}))), None);
        assert_eq!(
            nodes(&child, Some(&datacenter("dc1", 4))),
            NodeCounts { total: 4, finished: 3, failed: 0 }
        );
    }
}
