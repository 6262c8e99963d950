//! A backup and a purge of one datacenter never run beside each other, and a purge leaves the newest whole backup.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use medusa_fleet::api::{
    Conditions as _,
    cassandra::CassandraDatacenter,
    medusa::{MedusaBackupJob, MedusaBackupSchedule, MedusaTask},
};
use rstest::rstest;
use serde_json::json;

use crate::{
    fake_medusa::{Call, Script},
    scripted_datacenter::ScriptedDatacenter,
    support::{eventually, like},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_waits_for_a_purge_at_work_also_after_a_restart_and_goes_on_once_it_is_gone() {
    let hanging = Call { hangs: usize::MAX, ..Call::default() };
    let dc = ScriptedDatacenter::new(1, Script { purge: hanging, ..Script::default() }).await;
    let first = dc.data_plane().await;
    dc.task("p", "purge", json!({})).await;
    eventually("the pod purges", async || like(dc.called("PurgeBackups"), |n| *n > 0)).await;
    dc.job("b1", "dc1").await;
    let message = dc.reason("b1", "PurgeRunning").await;
    assert!(message.contains("MedusaTask `p`") && message.contains("delete it"), "{message}");
    dc.event("b1", "PurgeRunning").await;
    first.kill();
    let _second = dc.data_plane().await;
    dc.job("b2", "dc1").await;
    dc.reason("b2", "PurgeRunning").await;
    for job in ["b1", "b2"] {
        assert!(dc.status(job).await.start_time.is_none());
    }
    assert!(dc.starts().values().all(|n| *n == 0), "nothing is asked for beside a purge");
    dc.delete::<MedusaTask>("p").await;
    for job in ["b1", "b2"] {
        assert!(dc.finished(job).await.conditions.is_true("Complete"));
    }
}

/// As two schedules of one slot make them.
#[tokio::test(flavor = "multi_thread")]
async fn made_in_one_moment_one_begins_and_the_other_follows() {
    let slow = Call { takes: Duration::from_millis(300), ..Call::default() };
    let script = Script { purge: slow, done_after: Duration::from_millis(300), ..Script::default() };
    let dc = ScriptedDatacenter::new(1, script).await;
    let _data_plane = dc.data_plane().await;
    for round in 0..4 {
        let (backup, purge) = (format!("b{round}"), format!("p{round}"));
        tokio::join!(dc.job(&backup, "dc1"), dc.task(&purge, "purge", json!({})));
        let (job, task) = tokio::join!(dc.finished(&backup), dc.task_finished(&purge));
        assert!(
            job.conditions.is_true("Complete") && task.conditions.is_true("Complete"),
            "{job:?} {task:?}"
        );
        let span = |start: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
                    end: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
            (start.as_ref().unwrap().0, end.as_ref().unwrap().0)
        };
        let (one, other) =
            (span(&job.start_time, &job.finish_time), span(&task.start_time, &task.finish_time));
        assert!(one.1 <= other.0 || other.1 <= one.0, "at once: {job:?} {task:?}");
    }
}

impl ScriptedDatacenter {
    /// Has the pods of dc1 mount a `medusa.ini` with these limits, which is older than the datacenter.
    async fn limits(&self, limits: &str) {
        self.delete::<CassandraDatacenter>("dc1").await;
        self.create::<ConfigMap>(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shop-medusa"},
            "data": {"medusa.ini": format!("[storage]\n{limits}\n")},
        }))
        .await;
        let mut datacenter = self.datacenter("dc1", self.peers.len());
        datacenter["spec"]["podTemplateSpec"] = json!({"spec": {
            "containers": [
                {"name": "cassandra"},
                {"name": "medusa", "volumeMounts": [{"name": "ini", "mountPath": "/etc/medusa"}]},
            ],
            "volumes": [{"name": "ini", "configMap": {"name": "shop-medusa"}}],
        }});
        self.create::<CassandraDatacenter>(datacenter).await;
    }
}

/// Nothing in Kubernetes tells of the failed backups: their jobs were deleted long ago.
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_would_remove_the_newest_whole_backup_is_refused_unless_that_is_asked_for() {
    let dc = ScriptedDatacenter::new(2, Script::default()).await;
    dc.limits("max_backup_age = 0\nmax_backup_count = 3").await;
    dc.storage.lag(3 * 24 * 3600);
    dc.stored("good");
    let healthy = &dc.peers[0].node;
    for failed in ["f1", "f2", "f3"] {
        dc.storage.begin(healthy, failed);
        dc.storage.finish(healthy, failed);
    }
    dc.storage.keep(3);
    let _data_plane = dc.data_plane().await;
    dc.task("p", "purge", json!({})).await;
    let status = dc.assert_task_failed("p", "WouldRemoveLastRestorePoint").await;
    let message = status.message.unwrap();
    assert!(message.contains("`good`") && message.contains("leaves 3 backups"), "{message}");
    assert_eq!((status.start_time, dc.called("PurgeBackups")), (None, 0));
    assert!(dc.storage.has(healthy, "good"));
    dc.create::<MedusaTask>(json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaTask",
        "metadata": {"name": "anyway", "annotations": {"fleet.k8ssandra.io/purge-unchecked": "true"}},
        "spec": {"cassandraDatacenter": "dc1", "operation": "purge"},
    }))
    .await;
    dc.assert_task_succeeded("anyway").await;
    assert!(!dc.storage.has(healthy, "good"));
    dc.storage.lag(0);
    dc.stored("better");
    dc.task("q", "purge", json!({})).await;
    dc.assert_task_succeeded("q").await;
    assert!(dc.storage.has(healthy, "better"));
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_were_changed_a_moment_ago_may_not_be_in_force() {
    let dc = ScriptedDatacenter::new(1, Script::default()).await;
    dc.limits("max_backup_age = 0\nmax_backup_count = 9").await;
    dc.stored("good");
    dc.storage.begin(&dc.peers[0].node, "failed");
    let born = dc.get::<CassandraDatacenter>("dc1").await.metadata.creation_timestamp.unwrap();
    let mut count = 90;
    eventually("it is changed in a later second than the datacenter was made", async || {
        count += 1;
        let raised = json!({"data": {"medusa.ini": format!("[storage]\nmax_backup_count = {count}\n")}});
        let map = dc.patch::<ConfigMap>("shop-medusa", raised).await;
        let writes = map.metadata.managed_fields.unwrap_or_default();
        like(writes, |writes| writes.iter().any(|entry| entry.time.as_ref().is_some_and(|at| at.0 > born.0)))
    })
    .await;
    let _data_plane = dc.data_plane().await;
    dc.task("p", "purge", json!({})).await;
    let status = dc.assert_task_failed("p", "WouldRemoveLastRestorePoint").await;
    let message = status.message.unwrap();
    assert!(message.contains("changed less than 5 min ago"), "{message}");
    assert_eq!(dc.called("PurgeBackups"), 0);
}

#[rstest]
#[case("dc 1")]
#[case("dc1?x")]
#[case("dc%31")]
#[case("dc1#x")]
#[case("..")]
#[case("DC1")]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_objects_name_is_refused_at_once_and_never_taken_for_another(#[case] name: &str) {
    let dc = ScriptedDatacenter::new(1, Script::default()).await;
    dc.stored("b1");
    let _data_plane = dc.data_plane().await;
    dc.job("job", name).await;
    for operation in ["sync", "purge"] {
        dc.task_of(name, operation, operation, json!({})).await;
    }
    dc.create::<MedusaBackupSchedule>(json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackupSchedule",
        "metadata": {"name": "schedule"},
        "spec": {"cronSchedule": "@yearly", "backupSpec": {"cassandraDatacenter": name}},
    }))
    .await;
    let restores = [("into", name, "b1"), ("from", "dc1", name)];
    for (restore, of, backup) in restores {
        dc.create::<medusa_fleet::api::medusa::MedusaRestoreJob>(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaRestoreJob",
            "metadata": {"name": restore}, "spec": {"cassandraDatacenter": of, "backup": backup},
        }))
        .await;
    }
    let failed = |conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition], field: &str| {
        let failed = conditions.iter().find(|c| c.type_ == "Failed").unwrap();
        assert_eq!((failed.status.as_str(), failed.reason.as_str()), ("True", "InvalidSpec"), "{failed:?}");
        assert!(failed.message.contains(field) && failed.message.contains(name), "{failed:?}");
    };
    failed(&dc.finished("job").await.conditions, "spec.cassandraDatacenter");
    for operation in ["sync", "purge"] {
        dc.assert_task_failed(operation, "InvalidSpec").await;
    }
    for (restore, field) in [("into", "spec.cassandraDatacenter"), ("from", "spec.backup")] {
        let conditions = eventually("the restore is refused", async || {
            let job = dc.get::<medusa_fleet::api::medusa::MedusaRestoreJob>(restore).await;
            let status = job.status.unwrap_or_default();
            like(status, |status| status.finish_time.is_some()).map(|status| status.conditions)
        })
        .await;
        failed(&conditions, field);
    }
    for object in ["job", "sync", "purge", "into", "from", "schedule"] {
        dc.event(object, "InvalidSpec").await;
    }
    assert_eq!(dc.called("GetBackups") + dc.called("PurgeBackups"), 0);
    assert!(dc.starts().values().all(|n| *n == 0));
    dc.get::<MedusaBackupJob>("job").await;
}
