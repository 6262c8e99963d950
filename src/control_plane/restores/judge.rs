//! How a MedusaRestoreJob stands, from its own status alone, whichever controller writes it. Pure.

use kube::ResourceExt as _;

use crate::api::{
    Conditions as _, Reason,
    fleet::NodeCounts,
    labels,
    medusa::{MedusaRestoreJob, MedusaRestoreJobStatus},
};

/// How one datacenter's restore stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreVerdict {
    /// It goes on.
    Running(Reason, Option<String>),
    /// The datacenter holds the backup's data, as far as its controller reports; what it does not, for people.
    Succeeded(Option<String>),
    /// It does not, or nobody can say.
    Failed(Reason, String),
}

/// Judges a MedusaRestoreJob.
///
/// The `data-plane` role says how it ended in conditions and, where the cluster's definition drops those, in
/// `message` and the lists of pods. k8ssandra-operator sets `finishTime` when the datacenter is ready again, and
/// `message` only when it refused (upstream: Restores); a good end of its has passed both steps it records.
#[must_use]
pub fn judge(job: &MedusaRestoreJob) -> RestoreVerdict {
    let status = job.status.clone().unwrap_or_default();
    let said = |type_: &str| status.conditions.of_type(type_);
    if status.finish_time.is_none() {
        let step = said("Complete").and_then(|c| Reason::of(&c.reason)).unwrap_or_else(|| step(&status));
        let message = status.message.clone();
        return RestoreVerdict::Running(
            step,
            message.or_else(|| said("Complete").map(|c| c.message.clone())).filter(|m| !m.is_empty()),
        );
    }
    if let Some(failed) = said("Failed").filter(|c| c.status == "True") {
        let reason = Reason::of(&failed.reason).unwrap_or(Reason::Failed);
        return RestoreVerdict::Failed(reason, failed.message.clone());
    }
    if let Some(message) = status.message.clone().filter(|m| !m.is_empty()) {
        return RestoreVerdict::Failed(Reason::Failed, message);
    }
    if !status.failed.is_empty() {
        return RestoreVerdict::Failed(
            Reason::NodesFailed,
            format!("the restore failed on {}", status.failed.join(", ")),
        );
    }
    let lacking: Vec<&str> = pods(&status).filter(|pod| !status.finished.iter().any(|f| f == pod)).collect();
    // k8ssandra-operator lists no pods at all.
    if !status.in_progress.is_empty() || (!status.finished.is_empty() && !lacking.is_empty()) {
        let message = format!(
            "it ended without a word about {}",
            [&status.in_progress.join(", "), &lacking.join(", ")[..]].join(" ")
        );
        return RestoreVerdict::Failed(Reason::RestoreUnconfirmed, message.trim_end().to_owned());
    }
    let complete = said("Complete").is_some_and(|c| c.status == "True");
    let whole = status.restore_prepared == Some(true) && status.datacenter_stopped.is_some();
    if complete || (whole && !status.finished.is_empty()) {
        return RestoreVerdict::Succeeded(None);
    }
    if whole {
        return RestoreVerdict::Succeeded(Some(UNREPORTED.to_owned()));
    }
    let message =
        "it has a finishTime, but never stopped the datacenter; compare the data by hand, or restore again";
    RestoreVerdict::Failed(Reason::RestoreUnconfirmed, message.to_owned())
}

/// What a good end says where nobody reports on the pods.
const UNREPORTED: &str = "the MedusaRestoreJob ended well; k8ssandra-operator does not report its pods, and a restore that \
                          found nothing ends the same way: compare the data";

fn pods(status: &MedusaRestoreJobStatus) -> impl Iterator<Item = &str> {
    status.restore_mapping.iter().flat_map(|m| m.host_map.keys().map(String::as_str))
}

/// The step of a job whose controller names none.
fn step(status: &MedusaRestoreJobStatus) -> Reason {
    match (&status.start_time, status.restore_prepared, &status.datacenter_stopped) {
        (None, ..) => Reason::JobCreated,
        (_, Some(true), Some(_)) => Reason::Restoring,
        (_, Some(true), None) => Reason::Stopping,
        (..) => Reason::Pending,
    }
}

/// Its nodes by state, where anybody reports them.
#[must_use]
pub fn nodes(job: &MedusaRestoreJob) -> Option<NodeCounts> {
    let status = job.status.as_ref()?;
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let total = count(pods(status).count());
    let (finished, failed) = (count(status.finished.len()), count(status.failed.len()));
    let is_reported = finished + failed + count(status.in_progress.len()) > 0 || status.finish_time.is_none();
    (total > 0 && is_reported).then_some(NodeCounts { total, finished, failed })
}

/// Whether the job can be deleted without leaving the datacenter stopped or half restored: nothing has been
/// changed, or the one who changed it holds a finalizer and has not got beyond stopping the pods.
#[must_use]
pub fn can_be_called_off(job: &MedusaRestoreJob) -> bool {
    let status = job.status.clone().unwrap_or_default();
    let is_held = job.finalizers().iter().any(|f| f == labels::RESTORE_FINALIZER);
    let is_untouched = status.restore_prepared != Some(true) && status.datacenter_stopped.is_none();
    status.finish_time.is_none() && (is_untouched || (is_held && status.datacenter_stopped.is_none()))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn job(status: Value) -> MedusaRestoreJob {
        serde_json::from_value(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaRestoreJob", "metadata": {"name": "r"},
            "spec": {"backup": "b", "cassandraDatacenter": "dc1"}, "status": status,
        }))
        .unwrap()
    }

    fn condition(type_: &str, status: &str, reason: &str) -> Value {
        json!({"type": type_, "status": status, "reason": reason, "message": "why",
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    fn word(verdict: &RestoreVerdict) -> String {
        match verdict {
            RestoreVerdict::Running(reason, _) => format!("running {reason}"),
            RestoreVerdict::Succeeded(None) => "succeeded".to_owned(),
            RestoreVerdict::Succeeded(Some(_)) => "succeeded, unreported".to_owned(),
            RestoreVerdict::Failed(reason, _) => format!("failed {reason}"),
        }
    }

    const T: &str = "2026-01-01T00:00:00Z";

    #[rstest]
    #[case::new(json!({"restoreKey": ""}), "running JobCreated")]
    #[case::upstream_checks(json!({"restoreKey": "k", "startTime": T}), "running Pending")]
    #[case::upstream_stops(json!({"restoreKey": "k", "startTime": T, "restorePrepared": true}), "running Stopping")]
    #[case::upstream_restores(
        json!({"restoreKey": "k", "startTime": T, "restorePrepared": true, "datacenterStopped": T}), "running Restoring")]
    #[case::upstream_done(
        json!({"restoreKey": "k", "startTime": T, "restorePrepared": true, "datacenterStopped": T, "finishTime": T}),
        "succeeded, unreported")]
    #[case::conditions_dropped_done(
        json!({"restoreKey": "k", "finishTime": T, "finished": ["a"], "restorePrepared": true, "datacenterStopped": T}),
        "succeeded")]
    #[case::upstream_refused(
        json!({"restoreKey": "k", "startTime": T, "finishTime": T, "message": "racks differ"}), "failed Failed")]
    #[case::finished_out_of_nowhere(json!({"restoreKey": "k", "finishTime": T}), "failed RestoreUnconfirmed")]
    #[case::ours_runs(
        json!({"restoreKey": "k", "startTime": T, "conditions": [condition("Complete", "Unknown", "Preparing")]}),
        "running Preparing")]
    #[case::ours_done(
        json!({"restoreKey": "k", "finishTime": T, "conditions": [condition("Complete", "True", "Succeeded")],
            "finished": ["a"], "restoreMapping": {"host_map": {"a": {"source": ["x"], "seed": false}}}}), "succeeded")]
    #[case::ours_failed(
        json!({"restoreKey": "k", "finishTime": T, "conditions": [condition("Failed", "True", "NodesFailed")]}),
        "failed NodesFailed")]
    #[case::a_word_nobody_knows(
        json!({"restoreKey": "k", "finishTime": T, "conditions": [condition("Failed", "True", "Whatever")]}),
        "failed Failed")]
    #[case::conditions_dropped_failed(
        json!({"restoreKey": "k", "finishTime": T, "failed": ["a"], "restorePrepared": true, "datacenterStopped": T}),
        "failed NodesFailed")]
    #[case::complete_but_a_pod_is_missing(
        json!({"restoreKey": "k", "finishTime": T, "conditions": [condition("Complete", "True", "Succeeded")],
            "finished": ["a"], "restoreMapping": {"host_map": {"a": {"source": ["x"], "seed": false},
            "b": {"source": ["y"], "seed": false}}}}), "failed RestoreUnconfirmed")]
    #[case::still_in_progress(
        json!({"restoreKey": "k", "finishTime": T, "inProgress": ["a"], "restorePrepared": true,
            "datacenterStopped": T}), "failed RestoreUnconfirmed")]
    fn the_jobs_own_status_decides(#[case] status: Value, #[case] expected: &str) {
        assert_eq!(word(&judge(&job(status))), expected);
    }

    #[test]
    fn pods_that_nobody_reports_on_are_not_counted_as_undone() {
        let mapping = json!({"host_map": {"a": {"source": ["x"], "seed": false}}});
        let status = |more: Value| {
            let mut status = json!({"restoreKey": "k", "finishTime": T, "restoreMapping": mapping});
            status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            nodes(&job(status))
        };
        assert_eq!(status(json!({})), None, "k8ssandra-operator");
        assert_eq!(status(json!({"finished": ["a"]})), Some(NodeCounts { total: 1, finished: 1, failed: 0 }));
    }

    #[test]
    fn only_what_has_not_stopped_its_datacenter_can_be_called_off() {
        let prepared = json!({"restoreKey": "k", "restorePrepared": true});
        let stopped = json!({"restoreKey": "k", "restorePrepared": true, "datacenterStopped": T});
        let held = |status: Value| {
            let mut job = job(status);
            job.metadata.finalizers = Some(vec![labels::RESTORE_FINALIZER.to_owned()]);
            job
        };
        assert!(can_be_called_off(&job(json!({"restoreKey": "k", "startTime": T}))));
        assert!(!can_be_called_off(&job(prepared.clone())), "upstream would leave it stopped");
        assert!(can_be_called_off(&held(prepared)));
        assert!(!can_be_called_off(&held(stopped.clone())) && !can_be_called_off(&job(stopped)));
        assert!(!can_be_called_off(&job(json!({"restoreKey": "k", "finishTime": T}))));
    }
}
