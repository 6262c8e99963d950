//! Whether a datacenter's backup succeeded. `finishTime` alone says nothing (docs/fleetbackupjob.md, upstream: Backups). Pure.

use jiff::Timestamp;

use crate::{
    api::{Reason, Seen, cassandra::CassandraDatacenter, fleet::NodeCounts, medusa::MedusaBackupJob},
    control_plane::{
        data_planes::records::BackupRecord,
        runs::verdict::{GRACE, Verdict},
    },
};

/// Everything the verdict is made of.
pub struct Evidence<'a> {
    pub job: &'a MedusaBackupJob,
    /// The MedusaBackup of the same name.
    pub backup: Seen<&'a BackupRecord>,
    /// The datacenter as it is now.
    pub datacenter: Option<&'a CassandraDatacenter>,
    /// Since when the job has been seen finished.
    pub finished_since: Option<Timestamp>,
}

/// Nodes of the run by state.
#[must_use]
pub fn nodes(evidence: &Evidence<'_>) -> NodeCounts {
    let count = |list: &[String]| i64::try_from(list.len()).unwrap_or(i64::MAX);
    let status = evidence.job.status.clone().unwrap_or_default();
    let (finished, failed) = (count(&status.finished), count(&status.failed));
    let listed = finished + failed + count(&status.in_progress);
    let size = evidence.datacenter.map_or(0, |dc| i64::from(dc.spec.size));
    // A controller that was killed while it started nodes lists none.
    let total = if status.start_time.is_some() && listed > 0 { listed } else { size };
    NodeCounts { total, finished, failed }
}

/// Judges one datacenter at `now`.
#[must_use]
pub fn judge(evidence: &Evidence<'_>, now: Timestamp) -> Verdict {
    let status = evidence.job.status.clone().unwrap_or_default();
    if status.finish_time.is_none() {
        let reason = if status.start_time.is_some() { Reason::Running } else { Reason::JobCreated };
        return Verdict::Running { reason, message: status.message };
    }
    if !status.failed.is_empty() {
        let named = status.failed.join(", ");
        let message = status.message.unwrap_or_else(|| format!("the backup failed on {named}"));
        return Verdict::Failed { reason: Reason::NodesFailed, message };
    }
    let in_grace = evidence.finished_since.is_none_or(|since| now.duration_since(since) < GRACE);
    let lacking = |reason: Reason, message: String| {
        if in_grace {
            Verdict::Running { reason: Reason::AwaitingMedusaBackup, message: Some(message) }
        } else {
            Verdict::Failed { reason, message }
        }
    };
    let backup = match &evidence.backup {
        Seen::Known(backup) => backup,
        Seen::Absent => {
            let said = status.message.map(|m| format!(": {m}")).unwrap_or_default();
            let message = format!("the job finished without a MedusaBackup{said}");
            return lacking(Reason::MedusaBackupMissing, message);
        }
        Seen::Unknown { why, .. } => {
            let message = format!("whether the job left a MedusaBackup cannot be told: {why}");
            return Verdict::Running { reason: Reason::AwaitingMedusaBackup, message: Some(message) };
        }
    };
    if backup.status != "SUCCESS" {
        let word = if backup.status.is_empty() { "no status" } else { &backup.status };
        return lacking(Reason::BackupIncomplete, format!("the MedusaBackup says {word}"));
    }
    let expected = evidence.datacenter.map_or(backup.total_nodes, |dc| i64::from(dc.spec.size));
    let finished = i64::try_from(status.finished.len()).unwrap_or(i64::MAX);
    if backup.finished_nodes != backup.total_nodes || backup.total_nodes != expected || finished < expected {
        return Verdict::Failed {
            reason: Reason::BackupIncomplete,
            message: format!(
                "the MedusaBackup covers {} of {} nodes, the job {finished}, and the datacenter has {expected}",
                backup.finished_nodes, backup.total_nodes
            ),
        };
    }
    let name = evidence.datacenter.map(CassandraDatacenter::display_name);
    if let (Some(name), [first, ..]) = (name, backup.node_datacenters.as_slice())
        && (*first != name || backup.node_datacenters.len() > 1)
    {
        return Verdict::Failed {
            reason: Reason::WrongDatacenter,
            message: format!(
                "the MedusaBackup holds nodes of {}, not only of `{name}`; does another datacenter share its prefix?",
                backup.node_datacenters.join(", ")
            ),
        };
    }
    Verdict::Succeeded
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::control_plane::fanout::tests::datacenter;

    fn job(status: Value) -> MedusaBackupJob {
        serde_json::from_value(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackupJob", "metadata": {"name": "j"},
            "spec": {"cassandraDatacenter": "dc1"}, "status": status
        }))
        .unwrap()
    }

    fn finished(pods: &[&str], failed: &[&str]) -> MedusaBackupJob {
        job(json!({"startTime": "2026-01-01T00:00:00Z", "finishTime": "2026-01-01T00:01:00Z",
            "finished": pods, "failed": failed}))
    }

    fn backup(status: &str, total: i64, done: i64, dcs: &[&str]) -> BackupRecord {
        BackupRecord {
            status: status.into(),
            total_nodes: total,
            finished_nodes: done,
            node_datacenters: dcs.iter().map(|d| (*d).to_owned()).collect(),
            ..BackupRecord::default()
        }
    }

    fn verdict(job: &MedusaBackupJob, backup: Option<&BackupRecord>, waited: i64) -> String {
        let dc = datacenter("dc1", 2);
        let backup = backup.map_or(Seen::Absent, Seen::Known);
        verdict_on(
            &Evidence { job, backup, datacenter: Some(&dc), finished_since: Some(Timestamp::UNIX_EPOCH) },
            waited,
        )
    }

    fn verdict_on(evidence: &Evidence<'_>, waited: i64) -> String {
        match judge(evidence, Timestamp::from_second(waited).unwrap()) {
            Verdict::Running { reason, .. } => format!("running {reason}"),
            Verdict::Again { reason, .. } => format!("again {reason}"),
            Verdict::Succeeded => "succeeded".into(),
            Verdict::Failed { reason, .. } => format!("failed {reason}"),
        }
    }

    #[rstest]
    #[case(Some(backup("SUCCESS", 2, 2, &["dc1"])), "succeeded")]
    #[case(Some(backup("SUCCESS", 2, 2, &[])), "succeeded")]
    #[case(Some(backup("SUCCESS", 2, 1, &["dc1"])), "failed BackupIncomplete")]
    #[case(Some(backup("SUCCESS", 3, 3, &["dc1"])), "failed BackupIncomplete")]
    #[case(Some(backup("SUCCESS", 2, 2, &["dc1", "dc2"])), "failed WrongDatacenter")]
    #[case(Some(backup("SUCCESS", 2, 2, &["dc2"])), "failed WrongDatacenter")]
    #[case(Some(backup("IN_PROGRESS", 2, 1, &["dc1"])), "failed BackupIncomplete")]
    #[case(Some(backup("", 0, 0, &[])), "failed BackupIncomplete")]
    #[case(None, "failed MedusaBackupMissing")]
    fn only_a_complete_backup_of_this_datacenter_counts(
        #[case] backup: Option<BackupRecord>,
        #[case] expected: &str,
    ) {
        assert_eq!(verdict(&finished(&["a", "b"], &[]), backup.as_ref(), 61), expected);
    }

    #[test]
    fn a_finished_job_waits_for_its_backup_before_it_fails() {
        assert_eq!(verdict(&finished(&["a", "b"], &[]), None, 5), "running AwaitingMedusaBackup");
        let half = backup("IN_PROGRESS", 2, 1, &["dc1"]);
        assert_eq!(verdict(&finished(&["a", "b"], &[]), Some(&half), 5), "running AwaitingMedusaBackup");
    }

    #[test]
    fn a_backup_that_nobody_can_look_for_is_not_missing_however_long_it_takes() {
        let job = finished(&["a", "b"], &[]);
        let unknown = Seen::Unknown { since: None, why: "403".to_owned() };
        let evidence = Evidence {
            job: &job,
            backup: unknown,
            datacenter: None,
            finished_since: Some(Timestamp::UNIX_EPOCH),
        };
        assert_eq!(verdict_on(&evidence, 1_000_000), "running AwaitingMedusaBackup");
        let failed = finished(&["a"], &["b"]);
        assert_eq!(verdict_on(&Evidence { job: &failed, ..evidence }, 0), "failed NodesFailed");
    }

    #[test]
    fn a_failed_node_fails_the_datacenter_and_a_lost_one_is_noticed() {
        let good = backup("SUCCESS", 2, 2, &["dc1"]);
        assert_eq!(verdict(&finished(&["a"], &["b"]), Some(&good), 0), "failed NodesFailed");
        assert_eq!(verdict(&finished(&["a"], &[]), Some(&good), 0), "failed BackupIncomplete");
        assert_eq!(verdict(&finished(&[], &[]), None, 61), "failed MedusaBackupMissing");
    }

    #[test]
    fn a_job_that_lists_no_nodes_is_about_those_of_its_datacenter() {
        let dc = datacenter("dc1", 3);
        let total = |status: Value| {
            let job = job(status);
            let evidence =
                Evidence { job: &job, backup: Seen::Absent, datacenter: Some(&dc), finished_since: None };
            nodes(&evidence).total
        };
        let ended = json!({"startTime": "2026-01-01T00:00:00Z", "finishTime": "2026-01-01T00:01:00Z"});
        assert_eq!(total(ended), 3);
        assert_eq!(total(json!({"startTime": "2026-01-01T00:00:00Z", "inProgress": ["a", "b"]})), 2);
    }

    #[test]
    fn before_finish_time_nothing_is_decided() {
        assert_eq!(verdict(&job(json!({})), None, 0), "running JobCreated");
        let started = job(json!({"startTime": "2026-01-01T00:00:00Z", "inProgress": ["a", "b"]}));
        assert_eq!(verdict(&started, Some(&backup("SUCCESS", 2, 2, &["dc1"])), 999), "running Running");
    }
}
