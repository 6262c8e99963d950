//! Cases of the checks before a restore.

use rstest::rstest;
use serde_json::{Value, json};

use super::{
    lock::{Lock, LockHolder, Step},
    names,
    preflight::*,
};
use crate::{
    api::{
        Reason,
        cassandra::CassandraDatacenter,
        medusa::{MedusaBackup, MedusaRestoreJob, MedusaTask, TaskOperation},
    },
    data_plane::medusa::client::{
        CallError,
        proto::{self, BackupSummary, StatusType},
    },
};

fn dc(spec: &Value) -> CassandraDatacenter {
    let mut object = json!({"metadata": {"name": "dc1"}, "spec": {"clusterName": "shop", "size": 2}});
    for (field, value) in spec.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

fn backup(status: &Value) -> MedusaBackup {
    let node = |i: i32| json!({"host": format!("h-{i}"), "datacenter": "dc1", "rack": "default"});
    let mut object = json!({
        "metadata": {"name": "b1"},
        "spec": {"cassandraDatacenter": "elsewhere"},
        "status": {
            "status": "SUCCESS", "startTime": "2026-01-01T00:00:00Z", "finishTime": "2026-01-01T00:00:09Z",
            "totalNodes": 2, "finishedNodes": 2, "nodes": [node(0), node(1)]
        }
    });
    for (field, value) in status.as_object().into_iter().flatten() {
        object["status"][field] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

#[rstest]
#[case::whole(json!({}), json!({}), None)]
#[case::unfinished_node(json!({"finishedNodes": 1}), json!({}), Some(Reason::BackupIncomplete))]
#[case::no_finish_time(json!({"finishTime": null}), json!({}), Some(Reason::BackupIncomplete))]
#[case::in_progress(json!({"status": "IN_PROGRESS"}), json!({}), Some(Reason::BackupIncomplete))]
#[case::no_status(json!({"status": null}), json!({}), Some(Reason::BackupIncomplete))]
#[case::no_counts(json!({"totalNodes": null, "finishedNodes": null}), json!({}), Some(Reason::BackupIncomplete))]
#[case::zero_nodes(json!({"totalNodes": 0, "finishedNodes": 0, "nodes": []}), json!({}), Some(Reason::BackupIncomplete))]
#[case::wrong_name(json!({}), json!({"datacenterName": "other"}), Some(Reason::WrongDatacenter))]
#[case::too_small(json!({}), json!({"size": 3}), Some(Reason::TopologyMismatch))]
#[case::too_large(json!({}), json!({"size": 1}), Some(Reason::TopologyMismatch))]
#[case::nodes_missing(json!({"nodes": []}), json!({}), Some(Reason::TopologyMismatch))]
#[case::racks_removed(json!({}), json!({"racks": [{"name": "r1"}, {"name": "r2"}]}), Some(Reason::TopologyMismatch))]
fn only_a_whole_backup_of_this_topology_is_restored(
    #[case] status: Value,
    #[case] spec: Value,
    #[case] expected: Option<Reason>,
) {
    let dc = dc(&spec);
    let result =
        of_object(&backup(&status), &dc).and_then(|nodes| mapping(&nodes, &names::racks(&dc, nodes.len())));
    let problem = result.err();
    assert_eq!(problem.as_ref().map(|p| p.reason), expected);
    assert!(problem.is_none_or(|p| !p.may_heal && p.message.starts_with("spec.backup")));
}

#[test]
fn the_number_of_nodes_in_each_rack_counts() {
    let node = |host: &str, rack: &str| json!({"host": host, "datacenter": "dc1", "rack": rack});
    let nodes = json!([node("a", "r1"), node("b", "r1"), node("c", "r1"), node("d", "r2")]);
    let backup = backup(&json!({"totalNodes": 4, "finishedNodes": 4, "nodes": nodes}));
    let dc = dc(&json!({"size": 4, "racks": [{"name": "r1"}, {"name": "r2"}]}));
    let nodes = of_object(&backup, &dc).unwrap();
    assert_eq!(
        mapping(&nodes, &names::racks(&dc, nodes.len())).unwrap_err().reason,
        Reason::TopologyMismatch
    );
}

#[test]
fn medusa_itself_has_the_last_word() {
    let summary = |status: StatusType, finished| BackupSummary {
        backup_name: "b1".to_owned(),
        finish_time: 9,
        total_nodes: 2,
        finished_nodes: finished,
        nodes: (0..2)
            .map(|i| proto::BackupNode {
                host: format!("h-{i}"),
                datacenter: "dc1".to_owned(),
                rack: "default".to_owned(),
                ..proto::BackupNode::default()
            })
            .collect(),
        status: status.into(),
        ..BackupSummary::default()
    };
    let dc = dc(&json!({}));
    assert_eq!(of_summary(&summary(StatusType::Success, 2), &dc).unwrap().len(), 2);
    let purged = of_summary(&summary(StatusType::InProgress, 1), &dc).unwrap_err();
    assert_eq!(purged.reason, Reason::BackupIncomplete);
    assert!(of_summary(&BackupSummary::default(), &dc).is_err(), "an empty message is not a whole backup");
}

#[test]
fn a_backup_that_the_storage_does_not_have_is_not_waited_for() {
    let gone =
        unanswered("b1", CallError::Refused("gRPC Internal: 'The backup b1 does not exist'".to_owned()));
    assert_eq!((gone.reason, gone.may_heal), (Reason::BackupNotFound, false));
    assert!(unanswered("b1", CallError::Refused("gRPC Internal: no credentials".to_owned())).may_heal);
}

fn restore(name: &str, created: i64, more: &Value) -> MedusaRestoreJob {
    let mut object = json!({
        "metadata": {"name": name, "uid": name, "creationTimestamp": format!("2026-01-01T00:00:{created:02}Z")},
        "spec": {"backup": "b1", "cassandraDatacenter": "dc1"}
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        for (inner, value) in value.as_object().into_iter().flatten() {
            object[field][inner] = value.clone();
        }
    }
    serde_json::from_value(object).unwrap()
}

#[rstest]
#[case::older(restore("a", 1, &json!({})), true)]
#[case::younger(restore("c", 9, &json!({})), false)]
#[case::same_age_by_name(restore("a", 5, &json!({})), true)]
#[case::finished(restore("a", 1, &json!({"status": {"restoreKey": "k", "finishTime": "2026-01-01T00:00:00Z"}})), false)]
#[case::elsewhere(restore("a", 1, &json!({"spec": {"cassandraDatacenter": "dc2"}})), false)]
#[case::waiting_for_something(restore("a", 1, &json!({"status": {"restoreKey": "k", "message": "no backup"}})), false)]
#[case::under_way(restore("a", 1, &json!({"status": {"restoreKey": "k", "restorePrepared": true}})), true)]
#[case::younger_under_way(restore("c", 9, &json!({"status": {"restoreKey": "k", "restorePrepared": true}})), true)]
#[case::deleted(restore("a", 1, &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})), false)]
fn of_two_restores_the_older_one_goes_first(#[case] other: MedusaRestoreJob, #[case] blocks: bool) {
    let ours = restore("b", 5, &json!({}));
    let elsewhere = Elsewhere { restores: vec![ours.clone(), other], ..Elsewhere::default() };
    let alone = is_alone(&ours, &LockHolder::Free, &elsewhere);
    assert_eq!(alone.is_err(), blocks);
}

#[rstest]
#[case("dc1", json!({"startTime": "2026-01-01T00:00:00Z"}), true)]
#[case("dc2", json!({"startTime": "2026-01-01T00:00:00Z"}), false)]
#[case("dc1", json!({}), false)]
#[case("dc1", json!({"startTime": "2026-01-01T00:00:00Z", "finishTime": "2026-01-01T00:00:00Z"}), false)]
fn running_work_is_waited_for(#[case] datacenter: &str, #[case] status: Value, #[case] blocks: bool) {
    let object = json!({
        "metadata": {"name": "n"}, "status": status,
        "spec": {"cassandraDatacenter": datacenter, "operation": "purge"}
    });
    let backup = serde_json::from_value(object.clone()).unwrap();
    let purge: MedusaTask = serde_json::from_value(object).unwrap();
    let mut sync = purge.clone();
    sync.spec.operation = TaskOperation::Sync;
    for (elsewhere, reason) in [
        (Elsewhere { backups: vec![backup], ..Elsewhere::default() }, Some(Reason::BackupRunning)),
        (Elsewhere { tasks: vec![purge], ..Elsewhere::default() }, Some(Reason::PurgeRunning)),
        (Elsewhere { tasks: vec![sync], ..Elsewhere::default() }, None),
    ] {
        let alone = is_alone(&restore("a", 1, &json!({})), &LockHolder::Free, &elsewhere);
        assert_eq!(alone.err().map(|p| (p.reason, p.may_heal)), reason.filter(|_| blocks).map(|r| (r, true)));
    }
}

#[test]
fn the_datacenters_annotation_says_who_is_at_work() {
    let lock = Lock {
        job: "other".to_owned(),
        uid: "u".to_owned(),
        stopped: false,
        step: Step::Starting,
        since: jiff::Timestamp::UNIX_EPOCH,
        verdict: None,
    };
    let check = |claim: LockHolder| is_alone(&restore("a", 1, &json!({})), &claim, &Elsewhere::default());
    assert!(check(LockHolder::Other(lock.clone())).unwrap_err().message.contains("`other`"));
    assert!(check(LockHolder::Unreadable).is_err());
    assert!(check(LockHolder::Orphan(lock)).is_ok());
}

#[rstest]
#[case(None, Some(Reason::SecretNotFound))]
#[case(Some(&["other"][..]), Some(Reason::SecretKeyMissing))]
#[case(Some(&["credentials"][..]), None)]
fn the_storages_credentials_have_to_be_there(
    #[case] keys: Option<&[&str]>,
    #[case] expected: Option<Reason>,
) {
    let keys = keys.map(|keys| keys.iter().map(|k| (*k).to_owned()).collect());
    assert_eq!(has_credentials("bucket", keys.as_ref()).err().map(|p| p.reason), expected);
}
