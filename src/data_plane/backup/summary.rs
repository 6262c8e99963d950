//! Whether Medusa's summary of a backup is what the nodes promised, and the MedusaBackup's status from it.
//!
//! Pure. A summary that falls short may only lag behind, so the caller asks again within a budget.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{Reason, cassandra::CassandraDatacenter, medusa::MedusaBackupStatus, size},
    data_plane::{
        frame::timings::{Timings, since},
        medusa::{
            client::proto::{BackupSummary, StatusType},
            summary::{fitting, own_nodes},
        },
    },
};

/// The run a summary has to fit.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Its datacenter.
    pub datacenter: &'a CassandraDatacenter,
    /// How many pods were backed up.
    pub pods: usize,
    /// `status.startTime` of the job.
    pub started: Timestamp,
}

/// Why a summary is not the end of a good run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// For machines.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// Whether a later summary may be better.
    pub may_heal: bool,
}

/// The status of the MedusaBackup that `summary` describes.
///
/// # Errors
/// When the summary does not cover every node of this run's datacenter, or is about an older backup.
pub fn judge(
    summary: &BackupSummary,
    expected: Expected<'_>,
    timings: &Timings,
    now: Timestamp,
) -> Result<MedusaBackupStatus, Shortfall> {
    let short = |reason, message| Shortfall { reason, message, may_heal: true };
    let begun = Timestamp::from_second(summary.start_time).unwrap_or(Timestamp::UNIX_EPOCH);
    if summary.start_time > 0 && since(begun, expected.started) > timings.skew {
        return Err(Shortfall {
            reason: Reason::NameConflict,
            message: format!(
                "the storage holds a backup of this name that began {begun}, before this job; a name can be \
                 used only once: create a job with a new one"
            ),
            may_heal: false,
        });
    }
    let nodes = own_nodes(summary, expected.datacenter);
    if let (true, Some(other)) = (nodes.is_empty(), summary.nodes.first()) {
        return Err(short(
            Reason::WrongDatacenter,
            format!(
                "the storage's backup of this name is of Cassandra datacenter `{}`, not `{}`: two datacenters \
                 share bucket and prefix and used one name; give jobs names of their own",
                other.datacenter,
                expected.datacenter.display_name()
            ),
        ));
    }
    let total = i32::try_from(nodes.len()).unwrap_or(i32::MAX);
    let pods = i32::try_from(expected.pods).unwrap_or(i32::MAX);
    let whole = summary.status() == StatusType::Success
        && summary.finished_nodes == summary.total_nodes
        && summary.total_nodes >= total
        && total > 0;
    if !whole {
        return Err(short(
            Reason::BackupIncomplete,
            format!(
                "Medusa's summary says {} with {} of {} nodes, though each of {pods} pods reported success",
                summary.status().as_str_name(),
                summary.finished_nodes,
                summary.total_nodes
            ),
        ));
    }
    if total < pods {
        return Err(short(
            Reason::BackupIncomplete,
            format!("Medusa's summary covers {total} nodes of this datacenter, {pods} pods were backed up"),
        ));
    }
    let ended = Timestamp::from_second(summary.finish_time)
        .ok()
        .filter(|end| *end >= expected.started && *end <= now)
        .unwrap_or(now);
    Ok(MedusaBackupStatus {
        start_time: Some(Time(expected.started)),
        finish_time: Some(Time(ended)),
        total_nodes: Some(total),
        finished_nodes: Some(total),
        nodes: fitting(nodes),
        total_files: Some(summary.total_objects),
        total_size: Some(size::humanize(summary.total_size)),
        status: Some(summary.status().as_str_name().to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::data_plane::medusa::client::proto;

    fn summary(dc: &str) -> BackupSummary {
        BackupSummary {
            backup_name: "b1".to_owned(),
            start_time: 10_001,
            finish_time: 10_009,
            total_nodes: 3,
            finished_nodes: 3,
            nodes: (0..3)
                .map(|i| proto::BackupNode {
                    host: format!("dc1-{i}"),
                    tokens: vec![i],
                    datacenter: dc.to_owned(),
                    rack: "default".to_owned(),
                })
                .collect(),
            status: StatusType::Success.into(),
            backup_type: "full".to_owned(),
            total_size: 130_557,
            total_objects: 13,
        }
    }

    fn judged(summary: &BackupSummary, dc_name: Option<&str>) -> Result<MedusaBackupStatus, Shortfall> {
        let dc = serde_json::from_value(json!({
            "metadata": {"name": "dc1"}, "spec": {"datacenterName": dc_name}
        }))
        .unwrap();
        let started = Timestamp::from_second(10_000).unwrap();
        let expected = Expected { datacenter: &dc, pods: 3, started };
        judge(summary, expected, &Timings::default(), Timestamp::from_second(10_020).unwrap())
    }

    #[test]
    fn a_whole_summary_becomes_the_status() {
        let status = judged(&summary("dc1"), None).unwrap();
        assert_eq!(status.total_nodes, Some(3));
        assert_eq!(status.finished_nodes, Some(3));
        assert_eq!(status.total_files, Some(13));
        assert_eq!(status.total_size.as_deref(), Some("127.50 KB"));
        assert_eq!(status.status.as_deref(), Some("SUCCESS"));
        assert_eq!(status.start_time.unwrap().0.as_second(), 10_000);
        assert_eq!(status.finish_time.unwrap().0.as_second(), 10_009);
        assert_eq!(status.nodes[2].tokens, [2]);
    }

    #[test]
    fn the_datacenters_own_name_decides_whose_backup_it_is() {
        assert!(judged(&summary("Real DC"), Some("Real DC")).is_ok());
        assert_eq!(judged(&summary("dc1"), Some("Real DC")).unwrap_err().reason, Reason::WrongDatacenter);
        assert_eq!(judged(&summary("dc2"), None).unwrap_err().reason, Reason::WrongDatacenter);
    }

    #[rstest]
    #[case::unfinished(BackupSummary { status: StatusType::InProgress.into(), ..summary("dc1") })]
    #[case::a_node_short(BackupSummary { finished_nodes: 2, ..summary("dc1") })]
    #[case::too_many(BackupSummary { finished_nodes: 6, ..summary("dc1") })]
    #[case::empty(BackupSummary::default())]
    #[case::no_nodes(BackupSummary { nodes: Vec::new(), ..summary("dc1") })]
    fn anything_less_is_incomplete_and_may_only_lag(#[case] summary: BackupSummary) {
        let short = judged(&summary, None).unwrap_err();
        assert_eq!((short.reason, short.may_heal), (Reason::BackupIncomplete, true));
    }

    #[test]
    fn a_summary_of_fewer_nodes_than_pods_is_incomplete() {
        let mut two = BackupSummary { total_nodes: 2, finished_nodes: 2, ..summary("dc1") };
        two.nodes.truncate(2);
        assert_eq!(judged(&two, None).unwrap_err().reason, Reason::BackupIncomplete);
    }

    #[test]
    fn a_backup_older_than_its_job_is_somebody_elses() {
        let old = BackupSummary { start_time: 1, ..summary("dc1") };
        let short = judged(&old, None).unwrap_err();
        assert_eq!((short.reason, short.may_heal), (Reason::NameConflict, false));
        let skewed = BackupSummary { start_time: 9_950, ..summary("dc1") };
        assert!(judged(&skewed, None).is_ok());
    }

    #[rstest]
    #[case(0)]
    #[case(9_999)]
    #[case(50_000)]
    fn a_finish_time_outside_the_run_is_replaced_by_now(#[case] finish_time: i64) {
        let status = judged(&BackupSummary { finish_time, ..summary("dc1") }, None).unwrap();
        assert_eq!(status.finish_time.unwrap().0.as_second(), 10_020);
    }
}
