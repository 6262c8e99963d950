//! Objects that cannot be read, in a cluster whose definitions have lost their types, and objects that are made again under
//! their names: each is what it would be alone.

use medusa_fleet::api::medusa::{
    MedusaBackup, MedusaBackupJob, MedusaBackupSchedule, MedusaRestoreJob, MedusaTask,
};
use serde_json::{Value, json};

use crate::{
    fake_medusa::Script,
    medusa_tasks::told,
    scripted_datacenter::ScriptedDatacenter,
    shared_cluster::Definitions,
    support::{eventually, like, loosened::create_whole},
};

/// Places of another type in every kind: a kind, its spec and its status.
fn odd_ones() -> Vec<(&'static str, Value, Value)> {
    let of_dc1 = json!({"cassandraDatacenter": "dc1"});
    vec![
        ("MedusaBackupJob", json!(5), Value::Null),
        ("MedusaBackupJob", json!({"cassandraDatacenter": {}}), Value::Null),
        ("MedusaBackupJob", of_dc1.clone(), json!({"finished": 7})),
        ("MedusaBackup", json!([]), Value::Null),
        ("MedusaBackup", of_dc1.clone(), json!({"nodes": {}})),
        ("MedusaTask", json!("purge"), Value::Null),
        ("MedusaTask", json!({"cassandraDatacenter": "dc1", "operation": ["purge"]}), Value::Null),
        ("MedusaBackupSchedule", json!({"cronSchedule": 5}), Value::Null),
        ("MedusaRestoreJob", json!({"cassandraDatacenter": "dc1", "backup": []}), Value::Null),
        ("MedusaConfiguration", json!({"storageProperties": [1]}), Value::Null),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_hides_and_fails_nothing_else_of_its_namespace() {
    let dc = ScriptedDatacenter::under(Definitions::Loose, 2, Script::default()).await;
    for name in ["b0", "odd-3", "odd-4"] {
        dc.stored(name);
    }
    for (number, (kind, spec, status)) in odd_ones().into_iter().enumerate() {
        let mut object = json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": kind,
            "metadata": {"name": format!("odd-{number}"), "namespace": dc.ns}, "spec": spec,
        });
        if !status.is_null() {
            object["status"] = status;
        }
        create_whole(&dc.cluster, &object).await;
    }
    let _data_plane = dc.data_plane().await;
    dc.job("b1", "dc1").await;
    assert!(dc.finished("b1").await.failed.is_empty());
    // A sync writes what can be written, and leaves alone and names what stands under names that cannot be read.
    let status = dc.sync("s").await;
    let told = told(&status);
    assert!(
        told.contains("1 created") && told.contains("odd-3, odd-4") && told.contains("cannot be read"),
        "{told}"
    );
    assert!(dc.backup("b0").await.is_some());
    // A restore looks at what else is at work before it looks for its backup.
    let template = json!({"spec": {"podTemplateSpec": {"spec": {
        "containers": [{"name": "cassandra"}], "initContainers": [{"name": "medusa-restore"}],
    }}}});
    dc.patch_datacenter(template).await;
    dc.create::<MedusaRestoreJob>(json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaRestoreJob", "metadata": {"name": "r"},
        "spec": {"cassandraDatacenter": "dc1", "backup": "none-such"},
    }))
    .await;
    eventually("the restore says what it lacks", async || {
        let job = dc.get::<MedusaRestoreJob>("r").await;
        let said = serde_json::to_string(&job.status).unwrap();
        like(said, |said| said.contains("none-such"))
    })
    .await;
    dc
        .create::<MedusaBackupSchedule>(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackupSchedule", "metadata": {"name": "nightly"},
            "spec": {"cronSchedule": "0 1 1 1 *", "backupSpec": {"cassandraDatacenter": "dc1"}},
        }))
        .await;
    eventually("the schedule is followed", async || {
        let schedule = dc.get::<MedusaBackupSchedule>("nightly").await;
        like(schedule.status.unwrap_or_default(), |status| status.next_schedule.is_some())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_again_under_its_name_is_another_also_when_nobody_saw_it() {
    let dc = ScriptedDatacenter::new(2, Script::default()).await;
    let mut data_plane = Some(dc.data_plane().await);
    dc.job("b1", "dc1").await;
    dc.finished("b1").await;
    let first = dc.sync("s").await;
    let starts = dc.starts();
    for is_down in [false, true] {
        if is_down {
            data_plane.take().unwrap().kill();
        }
        dc.delete::<MedusaBackupJob>("b1").await;
        dc.delete::<MedusaTask>("s").await;
        dc.job("b1", "dc1").await;
        dc.task("s", "sync", json!({})).await;
        if is_down {
            data_plane = Some(dc.data_plane().await);
        }
        // Medusa has a backup of that name, and is never sent one twice.
        dc.finished("b1").await;
        dc.reason("b1", "NameConflict").await;
        assert_eq!(dc.starts(), starts);
        let again = dc.task_finished("s").await;
        assert!(again.start_time >= first.start_time && again.failed.is_empty(), "{again:?}");
        assert!(dc.find::<MedusaBackup>("b1").await.is_some(), "down: {is_down}");
    }
    drop(data_plane);
}
