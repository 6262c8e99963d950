//! Whatever an API server lets through and a Medusa answers, what is decided about tasks is decided without a panic.

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    admit::{Elsewhere, backup_may_begin, preparation, purge_may_begin},
    guard::Guard,
    sync_plan::{Known, plan},
};
use crate::{
    api::{
        cassandra::CassandraDatacenter,
        guarded::{Guarded, readable},
        labels,
        medusa::{MedusaBackup, MedusaBackupJob, MedusaRestoreJob, MedusaTask},
        retention::{in_force, parse},
        unreadable::UnreadableWork,
    },
    data_plane::{
        frame::problem,
        medusa::client::proto::{BackupNode, BackupSummary},
    },
};

/// Texts with a chance of meaning something.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["dc[12]", "b[12]", "\\PC{0,12}", ".{0,12}", Just(String::new()), "[a-z.?%#/-]{0,300}"]
}

fn time() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        Just(json!("2026-01-01T00:00:00Z")),
        Just(json!("9999-12-30T22:00:00Z")),
        Just(json!("0001-01-01T00:00:00Z")),
    ]
}

fn object() -> impl Strategy<Value = Value> {
    let names = (text(), text(), text(), text());
    let operation = prop_oneof![Just("sync"), Just("purge"), Just("prepare_restore"), Just("x")];
    let status = (
        time(),
        time(),
        any::<i32>(),
        any::<i32>(),
        text(),
        prop::collection::vec((text(), any::<i64>()), 0..3),
    );
    (names, operation, time(), status).prop_map(|((name, dc, backup, keep), operation, created, status)| {
        let (start, finish, total, finished, word, nodes) = status;
        let nodes: Vec<Value> =
            nodes.iter().map(|(host, token)| json!({"host": host, "tokens": [token], "datacenter": host})).collect();
        json!({
            "metadata": {"name": name, "uid": name, "creationTimestamp": created, "annotations": {labels::KEEP: keep}},
            "spec": {"cassandraDatacenter": dc, "backup": backup, "operation": operation, "backupName": backup,
                "restoreKey": backup, "backupType": "full"},
            "status": {"startTime": start, "finishTime": finish, "totalNodes": total, "finishedNodes": finished,
                "status": word, "nodes": nodes, "restoreKey": backup},
        })
    })
}

fn summary() -> impl Strategy<Value = BackupSummary> {
    let numbers =
        (any::<i64>(), any::<i64>(), any::<i32>(), any::<i32>(), any::<i32>(), any::<i64>(), any::<i64>());
    (text(), text(), numbers, prop::collection::vec((text(), text()), 0..4)).prop_map(
        |(backup_name, backup_type, numbers, nodes)| BackupSummary {
            backup_name,
            start_time: numbers.0,
            finish_time: numbers.1,
            total_nodes: numbers.2,
            finished_nodes: numbers.3,
            nodes: nodes
                .into_iter()
                .map(|(host, datacenter)| BackupNode {
                    host,
                    datacenter,
                    tokens: vec![numbers.0],
                    rack: String::new(),
                })
                .collect(),
            status: numbers.4 % 5,
            backup_type,
            total_size: numbers.5,
            total_objects: numbers.6,
        },
    )
}

fn all<K: serde::de::DeserializeOwned>(objects: &[Value]) -> Vec<K> {
    objects.iter().filter_map(|object| serde_json::from_value(object.clone()).ok()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_that_can_be_written_or_answered_panics(
        objects in prop::collection::vec(object(), 1..5),
        listing in prop::collection::vec(summary(), 0..4),
        ini in ".{0,80}|\\[storage\\]\nmax_backup_(age|count) ?[=:] ?.{0,24}\n",
        now in prop_oneof![Just(Timestamp::MIN), Just(Timestamp::MAX), (0_i64..4_000_000_000)
            .prop_map(|second| Timestamp::from_second(second).unwrap())],
        size in any::<i32>(),
    ) {
        let dc: CassandraDatacenter =
            serde_json::from_value(json!({"metadata": {"name": "dc1"}, "spec": {"size": size}})).unwrap();
        let tasks: Vec<MedusaTask> = all(&objects);
        let jobs: Vec<MedusaBackupJob> = all(&objects);
        let mut others = Vec::new();
        let elsewhere = Elsewhere {
            restores: readable(all::<Guarded<MedusaRestoreJob, UnreadableWork>>(&objects), &mut others),
            backups: all(&objects),
            tasks: all(&objects),
            unreadable: others,
        };
        for task in &tasks {
            let _ = (preparation(task), purge_may_begin(task, &elsewhere));
            if let Some(guard) = Guard::of(task, parse(&ini)) {
                let _ = guard.check(&listing, &dc, now);
            }
            if let Err(problem) = problem::named("spec.cassandraDatacenter", &task.spec.cassandra_datacenter) {
                prop_assert!(problem.message.len() < 500 && !problem.message.contains(char::is_control));
            }
        }
        for job in &jobs {
            let _ = backup_may_begin(job, &elsewhere.tasks);
        }
        let known = Known { backups: all::<MedusaBackup>(&objects), jobs, ..Known::default() };
        let _ = plan(&listing, &known, &dc).confirm("p", Some(&listing));
        for object in &objects {
            let _ = in_force(object, None, now);
        }
    }
}
