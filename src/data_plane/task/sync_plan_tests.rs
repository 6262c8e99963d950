//! What a listing makes of the MedusaBackups of datacenter `dc1`.

use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::labels::{CASSANDRA_CLUSTER, CASSANDRA_DATACENTER},
    data_plane::medusa::client::proto,
};

fn dc() -> CassandraDatacenter {
    let metadata = json!({"name": "dc1", "namespace": "n"});
    let spec = json!({"clusterName": "Shop", "datacenterName": "Real"});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

/// A complete backup of those nodes of datacenter `Real`, or `Name/node` of another.
fn listed(name: &str, nodes: &[&str]) -> BackupSummary {
    let nodes: Vec<proto::BackupNode> = nodes
        .iter()
        .map(|node| {
            let (datacenter, host) = node.split_once('/').unwrap_or(("Real", node));
            proto::BackupNode {
                host: host.to_owned(),
                tokens: vec![1, 2],
                datacenter: datacenter.to_owned(),
                rack: "r1".to_owned(),
            }
        })
        .collect();
    let count = i32::try_from(nodes.len()).unwrap();
    BackupSummary {
        backup_name: name.to_owned(),
        start_time: 1000,
        finish_time: 1060,
        total_nodes: count,
        finished_nodes: count,
        nodes,
        status: StatusType::Success.into(),
        backup_type: "full".to_owned(),
        total_size: 130_557,
        total_objects: 13,
    }
}

fn object(name: &str, dc: &str, status: &Value) -> MedusaBackup {
    let metadata = json!({"name": name, "uid": format!("{name}-uid"), "resourceVersion": "7"});
    let spec = json!({"cassandraDatacenter": dc});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
}

/// The MedusaBackup that a sync makes of `summary`.
fn made_from(summary: &BackupSummary) -> MedusaBackup {
    let mut made = new(summary, own_nodes(summary, &dc()), &dc());
    made.metadata.uid = Some(format!("{}-uid", summary.backup_name));
    made.metadata.resource_version = Some("7".to_owned());
    made
}

fn job(name: &str, dc: &str, over: bool) -> MedusaBackupJob {
    let finish = over.then_some("2026-01-01T00:00:00Z");
    serde_json::from_value(json!({
        "metadata": {"name": name, "uid": format!("{name}-job"), "resourceVersion": "8"},
        "spec": {"cassandraDatacenter": dc}, "status": {"finishTime": finish}
    }))
    .unwrap()
}

fn planned(listing: &[BackupSummary], backups: Vec<MedusaBackup>, jobs: Vec<MedusaBackupJob>) -> SyncPlan {
    plan(listing, &Known { backups, jobs, ..Known::default() }, &dc())
}

fn names(changes: &[SyncChange]) -> Vec<String> {
    changes
        .iter()
        .map(|change| match change {
            SyncChange::Create(backup) => format!("+{}", backup.metadata.name.as_deref().unwrap()),
            SyncChange::Refresh { name, .. } => format!("~{name}"),
            SyncChange::Remove { name, .. } => format!("-{name}"),
        })
        .collect()
}

#[test]
fn a_listed_backup_becomes_an_object_with_everything_filled_in() {
    let plan = planned(&[listed("b1", &["a", "b"])], vec![], vec![]);
    let [SyncChange::Create(backup)] = plan.changes.as_slice() else { panic!("{plan:?}") };
    assert_eq!(backup.metadata.namespace.as_deref(), Some("n"));
    let labels = backup.metadata.labels.as_ref().unwrap();
    assert_eq!(labels[CASSANDRA_CLUSTER], "Shop");
    assert_eq!(labels[CASSANDRA_DATACENTER], "dc1");
    assert_eq!(backup.spec.cassandra_datacenter, "dc1");
    assert_eq!(backup.spec.backup_type, BackupType::Full);
    let expected = json!({
        "startTime": "1970-01-01T00:16:40Z", "finishTime": "1970-01-01T00:17:40Z",
        "totalNodes": 2, "finishedNodes": 2, "totalFiles": 13, "totalSize": "127.50 KB", "status": "SUCCESS",
        "nodes": [
            {"host": "a", "tokens": [1, 2], "datacenter": "Real", "rack": "r1"},
            {"host": "b", "tokens": [1, 2], "datacenter": "Real", "rack": "r1"},
        ]
    });
    assert_eq!(serde_json::to_value(&backup.status).unwrap(), expected);
    assert_eq!((plan.listed, plan.doubt), (1, None));
}

#[rstest]
#[case::another_datacenters(listed("b1", &["dc1/a"]))]
#[case::under_way(BackupSummary { status: StatusType::InProgress.into(), ..listed("b1", &["a"]) })]
#[case::short_of_a_node(BackupSummary { finished_nodes: 0, ..listed("b1", &["a"]) })]
#[case::without_nodes(listed("b1", &[]))]
#[case::not_a_name(listed("B_1", &["a"]))]
#[case::too_long_a_name(listed(&"x".repeat(254), &["a"]))]
fn what_cannot_be_restored_here_is_not_imported(#[case] summary: BackupSummary) {
    assert_eq!(names(&planned(&[summary], vec![], vec![]).changes), Vec::<String>::new());
}

#[test]
fn a_backup_of_two_datacenters_counts_for_its_own_nodes_only() {
    let plan = planned(&[listed("b1", &["a", "b", "Other/c"])], vec![], vec![]);
    let [SyncChange::Create(backup)] = plan.changes.as_slice() else { panic!("{plan:?}") };
    let status = backup.status.as_ref().unwrap();
    assert_eq!((status.total_nodes, status.finished_nodes, status.nodes.len()), (Some(2), Some(2), 2));
    // Medusa 0.29 counts every node's part, also of nodes it does not name.
    let more = BackupSummary { finished_nodes: 6, ..listed("b2", &["a", "b", "c"]) };
    let plan = planned(&[more], vec![], vec![]);
    let [SyncChange::Create(backup)] = plan.changes.as_slice() else { panic!("{plan:?}") };
    assert_eq!(backup.status.as_ref().unwrap().finished_nodes, Some(3));
}

#[test]
fn an_object_that_says_what_the_storage_says_is_left_alone() {
    let summary = listed("b1", &["a", "b"]);
    let mut known = made_from(&summary);
    let status = known.status.as_mut().unwrap();
    // In another order, and with the times its job knows.
    status.nodes.reverse();
    status.start_time = Some(Time(Timestamp::from_second(990).unwrap()));
    assert_eq!(planned(&[summary], vec![known], vec![]).changes, []);
}

#[test]
fn an_object_that_says_something_else_is_refreshed_but_for_its_times() {
    let began = json!("1970-01-01T00:16:30Z");
    let old = json!({"startTime": began, "status": "SUCCESS", "totalNodes": 2, "finishedNodes": 2});
    let plan = planned(&[listed("b1", &["a", "b"])], vec![object("b1", "dc1", &old)], vec![]);
    let [SyncChange::Refresh { this, status, .. }] = plan.changes.as_slice() else { panic!("{plan:?}") };
    assert_eq!(this.resource_version.as_deref(), Some("7"));
    let status = serde_json::to_value(status).unwrap();
    assert_eq!((&status["startTime"], &status["finishTime"]), (&began, &json!("1970-01-01T00:17:40Z")));
    assert_eq!((&status["totalFiles"], &status["totalSize"]), (&json!(13), &json!("127.50 KB")));
    let half_written = planned(&[listed("b1", &["a"])], vec![object("b1", "dc1", &json!(null))], vec![]);
    assert_eq!(names(&half_written.changes), ["~b1"]);
}

#[test]
fn a_backup_that_has_lost_a_nodes_part_no_longer_says_success() {
    let summary = listed("b1", &["a", "b"]);
    let known = made_from(&summary);
    let purged =
        BackupSummary { status: StatusType::InProgress.into(), finished_nodes: 1, finish_time: 0, ..summary };
    let plan = planned(&[purged], vec![known], vec![]);
    let [SyncChange::Refresh { status, .. }] = plan.changes.as_slice() else { panic!("{plan:?}") };
    assert_eq!(status.status.as_deref(), Some("IN_PROGRESS"));
    assert_eq!((status.total_nodes, status.finished_nodes), (Some(2), Some(1)));
}

#[test]
fn what_is_not_listed_any_more_goes_with_its_finished_job() {
    let kept = listed("kept", &["a"]);
    let backups =
        vec![made_from(&kept), made_from(&listed("gone", &["a"])), object("bare", "dc1", &json!({}))];
    let jobs = vec![job("gone", "dc1", true), job("bare", "dc2", true), job("failed", "dc1", true)];
    let plan = planned(&[kept], backups, jobs);
    let this = |uid: &str, version: &str| Preconditions {
        uid: Some(uid.to_owned()),
        resource_version: Some(version.to_owned()),
    };
    let remove = |name: &str, job| SyncChange::Remove {
        name: name.to_owned(),
        this: this(&format!("{name}-uid"), "7"),
        job,
    };
    assert_eq!(plan.removals, [remove("bare", None), remove("gone", Some(this("gone-job", "8")))]);
    assert_eq!(plan.doubt, None);
}

#[rstest]
#[case::its_job_is_not_over(made_from(&listed("b1", &["a"])), vec![job("b1", "dc1", false)])]
#[case::another_datacenters_object(object("b1", "dc2", &json!(null)), vec![])]
#[case::another_datacenters_nodes(made_from(&listed("b1", &["a"])), vec![])]
fn what_is_not_certainly_ours_and_gone_stays(
    #[case] mut backup: MedusaBackup,
    #[case] jobs: Vec<MedusaBackupJob>,
) {
    if jobs.is_empty() && backup.spec.cassandra_datacenter == "dc1" {
        backup.status.as_mut().unwrap().nodes[0].datacenter = Some("dc1".to_owned());
    }
    let kept = listed("kept", &["a"]);
    let plan = planned(std::slice::from_ref(&kept), vec![made_from(&kept), backup], jobs);
    assert_eq!(plan.removals, []);
    assert_eq!(plan.doubt, None);
}

#[test]
fn a_partial_backup_is_still_there() {
    let partial = BackupSummary { status: StatusType::InProgress.into(), ..listed("b1", &["a"]) };
    let plan = planned(&[partial], vec![made_from(&listed("b1", &["a"]))], vec![]);
    assert_eq!(plan.removals, []);
}

#[rstest]
#[case::empty(&[], "no backup at all")]
#[case::another_prefix(&[listed("other", &["x"])], "1 backups")]
#[case::another_clusters(&[listed("other", &["dc9/x"])], "1 backups")]
fn nothing_goes_where_nothing_that_is_known_is_listed(
    #[case] listing: &[BackupSummary],
    #[case] mentions: &str,
) {
    let known: Vec<MedusaBackup> = (1..=7).map(|n| made_from(&listed(&format!("b{n}"), &["a"]))).collect();
    let plan = planned(listing, known, vec![]);
    assert_eq!(plan.removals, []);
    let doubt = plan.doubt.unwrap();
    for part in [mentions, "b1, b2, b3, b4, b5 and 2 more", "bucket and prefix", "kubectl delete"] {
        assert!(doubt.contains(part), "{doubt}");
    }
}

#[test]
fn an_empty_storage_is_no_trouble_where_nothing_is_known() {
    assert_eq!(planned(&[], vec![object("b", "dc2", &json!(null))], vec![]), SyncPlan::default());
}

#[test]
fn a_name_that_two_datacenters_claim_is_left_alone_and_told() {
    let plan = planned(&[listed("b1", &["a"])], vec![object("b1", "dc2", &json!(null))], vec![]);
    assert_eq!(plan.changes, []);
    assert!(plan.notes[0].contains("b1: the name belongs to another"), "{:?}", plan.notes);
    let plan = planned(&[listed("b1", &["dc2/a"])], vec![made_from(&listed("b1", &["a"]))], vec![]);
    assert_eq!((plan.changes, plan.removals), (vec![], vec![]));
    assert!(plan.notes[0].contains("another datacenter's nodes"), "{:?}", plan.notes);
}

#[test]
fn a_backup_whose_job_is_not_over_is_its_jobs() {
    let plan = planned(&[listed("b1", &["a"])], vec![], vec![job("b1", "dc1", false)]);
    assert_eq!(plan.changes, []);
}

#[test]
fn a_removal_needs_a_second_listing_that_says_the_same() {
    let (kept, back) = (listed("kept", &["a"]), listed("back", &["a"]));
    let known = [&kept, &back, &listed("gone", &["a"])].map(made_from).to_vec();
    let plan = planned(std::slice::from_ref(&kept), known, vec![]);
    assert_eq!(names(&plan.removals), ["-back", "-gone"]);
    let confirmed = plan.clone().confirm("p", Some(&[kept, back]));
    assert_eq!((names(&confirmed.removals), confirmed.doubt), (vec!["-gone".to_owned()], None));
    assert!(confirmed.notes[0].contains("not listed by p"));
    for second in [None, Some([].as_slice())] {
        let doubted = plan.clone().confirm("p", second);
        assert_eq!(doubted.removals, []);
        assert!(doubted.doubt.unwrap().contains("2 MedusaBackups"));
    }
}
