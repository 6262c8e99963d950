//! A small fleet for the tests of the views: one data plane fine, one unreachable, one brand-new.

use jiff::Timestamp;
use kube::ResourceExt as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api::{
    fleet::{
        DataPlane, FleetBackup, FleetBackupJob, FleetBackupJobStatus, FleetBackupSchedule, FleetCluster,
        FleetRestoreJob,
    },
    labels,
};

/// The moment the tests happen at.
pub fn now() -> Timestamp {
    "2026-11-02T12:00:00Z".parse().unwrap()
}

fn object<K: DeserializeOwned>(kind: &str, name: &str, created: &str, status: &Value) -> K {
    serde_json::from_value(json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "medusa-fleet", "creationTimestamp": created},
        "spec": {},
        "status": status,
    }))
    .unwrap()
}

fn condition(type_: &str, status: &str, reason: &str, message: &str, since: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": since})
}

pub fn ready_data_plane() -> DataPlane {
    let status = json!({
        "clusterId": "0d9c1f5e-6f7a-4c44-9d0e-5d7e7a1b2c3d",
        "kubernetesVersion": "v1.37.1",
        "medusaController": {"name": "medusa-fleet", "version": "0.1.0"},
        "credential": {"hash": "00112233aabbccdd", "expiresAt": "2027-11-01T12:00:00Z"},
        "datacenters": 1,
        "lastContactTime": "2026-11-02T11:59:30Z",
        "conditions": [condition("Ready", "True", "Ready", "all checks passed", "2026-11-01T12:00:00Z")],
    });
    object("DataPlane", "eu-1", "2026-11-01T12:00:00Z", &status)
}

pub fn data_planes() -> Vec<DataPlane> {
    let unreachable = json!({
        "clusterId": "7b0e2a58-5a0c-4d35-8a3e-2f8f5e0b9c11",
        "kubernetesVersion": "v1.36.4",
        "medusaController": {"name": "k8ssandra-operator"},
        "credential": {"expiresAt": "2026-11-09T12:00:00Z"},
        "datacenters": 2,
        "lastContactTime": "2026-11-02T11:48:00Z",
        "disconnectedSince": "2026-11-02T11:48:10Z",
        "conditions": [condition(
            "Ready", "False", "Unreachable", "https://10.0.0.7:6443 does not answer:\nconnection refused",
            "2026-11-02T11:48:10Z",
        )],
    });
    let mut us: DataPlane = object("DataPlane", "us-1", "2026-10-01T12:00:00Z", &unreachable);
    us.annotations_mut().insert(labels::REGISTERED_FROM.to_owned(), "us-1".to_owned());
    vec![ready_data_plane(), object("DataPlane", "local", "2026-11-02T11:59:58Z", &json!({})), us]
}

fn datacenter(data_plane: &str, name: &str, medusa: bool) -> Value {
    json!({
        "dataPlane": data_plane, "namespace": "shop", "name": name, "size": 3, "ready": true,
        "medusa": {"deployed": medusa},
    })
}

pub fn protected_cluster() -> FleetCluster {
    let status = json!({
        "size": 2,
        "datacenters": [datacenter("eu-1", "dc1", true), datacenter("us-1", "dc2", true)],
        "lastCompleteBackup": "nightly-0b1c2d3e.shop",
        "recoveryPointTime": "2026-11-02T03:00:00Z",
        "restorePoints": 7,
        "nextScheduledBackup": "2026-11-03T03:00:00Z",
        "expectedIntervalSeconds": 111_600,
        "drift": [{
            "restorePoint": "nightly-99887766.shop", "dataPlane": "us-1", "namespace": "shop", "datacenter": "dc2",
            "reason": "MedusaBackupMissing", "message": "other datacenters have this backup and this one does not",
        }],
        "conditions": [condition(
            "Protected", "True", "RecoveryPointFresh", "nightly-0b1c2d3e.shop is 9h old", "2026-10-26T03:00:00Z",
        )],
    });
    object("FleetCluster", "shop", "2026-10-01T12:00:00Z", &status)
}

pub fn clusters() -> Vec<FleetCluster> {
    let never = json!({
        "size": 1,
        "datacenters": [datacenter("us-1", "dc9", false)],
        "restorePoints": 0,
        "conditions": [condition(
            "Protected", "False", "NeverBackedUp", "no complete restore point exists", "2026-10-26T03:00:00Z",
        )],
    });
    vec![object("FleetCluster", "payments", "2026-10-01T12:00:00Z", &never), protected_cluster()]
}

pub fn backups() -> Vec<FleetBackup> {
    let status = |started: &str, phase: &str, done: &str, nodes: &str, complete: bool| {
        json!({
            "cluster": "shop", "phase": phase, "complete": complete, "restorable": complete,
            "startTime": started, "sizeBytes": 1_342_177_280, "size": "1.25 GB", "done": done,
            "nodesDone": nodes, "origin": {"job": "nightly"},
            "conditions": [condition(
                "Complete", if complete { "True" } else { "False" },
                if complete { "Succeeded" } else { "BackupIncomplete" }, "2 of 3 nodes of us-1/shop/dc2", started,
            )],
        })
    };
    vec![
        object(
            "FleetBackup",
            "nightly-99887766.shop",
            "2026-11-02T11:00:00Z",
            &status("2026-11-01T03:00:00Z", "Incomplete", "1/2", "5/6", false),
        ),
        object(
            "FleetBackup",
            "nightly-0b1c2d3e.shop",
            "2026-11-02T03:00:30Z",
            &status("2026-11-02T03:00:00Z", "Complete", "2/2", "6/6", true),
        ),
        object("FleetBackup", "new.shop", "2026-11-02T11:59:59Z", &json!({"cluster": "shop"})),
    ]
}

fn run_status(value: Value) -> FleetBackupJobStatus {
    serde_json::from_value(value).unwrap()
}

fn counts(pending: i64, running: i64, succeeded: i64, failed: i64) -> Value {
    json!({
        "total": 2, "pending": pending, "running": running, "succeeded": succeeded, "failed": failed, "skipped": 0,
    })
}

pub fn running_run() -> FleetBackupJobStatus {
    run_status(json!({
        "phase": "Running", "startTime": "2026-11-02T11:57:00Z", "counts": counts(1, 1, 0, 0), "done": "0/2",
        "datacenters": [
            {"dataPlane": "eu-1", "namespace": "shop", "datacenter": "dc1", "cluster": "shop", "phase": "Running",
             "reason": "Running", "nodes": {"total": 3, "finished": 1}},
            {"dataPlane": "us-1", "namespace": "shop", "datacenter": "dc2", "cluster": "shop", "phase": "Pending",
             "reason": "DataPlaneUnreachable", "message": "no answer for 2m"},
        ],
    }))
}

pub fn finished_run() -> FleetBackupJobStatus {
    run_status(json!({
        "phase": "Succeeded", "startTime": "2026-11-02T11:57:00Z", "finishTime": "2026-11-02T11:59:00Z",
        "counts": counts(0, 0, 2, 0), "done": "2/2", "size": "1.25 GB",
        "restorePoints": ["nightly-0b1c2d3e.shop"],
        "datacenters": [
            {"dataPlane": "eu-1", "namespace": "shop", "datacenter": "dc1", "cluster": "shop", "phase": "Succeeded",
             "reason": "Succeeded", "nodes": {"total": 3, "finished": 3}, "sizeBytes": 1_073_741_824},
            {"dataPlane": "us-1", "namespace": "shop", "datacenter": "dc2", "cluster": "shop", "phase": "Succeeded",
             "message": "all 3 nodes", "nodes": {"total": 3, "finished": 3}, "sizeBytes": 268_435_456},
        ],
    }))
}

pub fn half_failed_run() -> FleetBackupJobStatus {
    run_status(json!({
        "phase": "PartiallyFailed", "counts": counts(0, 0, 1, 1), "done": "2/2", "size": "1.00 GB",
        "conditions": [condition(
            "Complete", "False", "NodesFailed", "us-1/shop/dc2: node dc2-r1-sts-0 failed", "2026-11-02T11:59:00Z",
        )],
        "datacenters": [
            {"dataPlane": "eu-1", "namespace": "shop", "datacenter": "dc1", "phase": "Succeeded",
             "nodes": {"total": 3, "finished": 3}},
            {"dataPlane": "us-1", "namespace": "shop", "datacenter": "dc2", "phase": "Failed",
             "reason": "NodesFailed", "nodes": {"total": 3, "finished": 2, "failed": 1}},
        ],
    }))
}

pub fn jobs() -> Vec<FleetBackupJob> {
    let job = |name: &str, status: &FleetBackupJobStatus| {
        object("FleetBackupJob", name, "2026-11-02T11:57:00Z", &serde_json::to_value(status).unwrap())
    };
    vec![job("done", &finished_run()), job("nightly", &running_run())]
}

/// One that runs, one that waits for its last run, and one nobody has looked at.
pub fn schedules() -> Vec<FleetBackupSchedule> {
    let schedule = |name: &str, spec: Value, status: &Value| -> FleetBackupSchedule {
        let mut whole: FleetBackupSchedule =
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap();
        whole.status = serde_json::from_value(status.clone()).unwrap();
        whole
    };
    let fine = json!({
        "lastScheduleTime": "2026-11-02T01:30:00Z", "nextScheduleTime": "2026-11-03T01:30:00Z",
        "lastSuccessfulTime": "2026-11-02T01:52:00Z", "missedSlots": 2, "datacenters": {"total": 3, "scheduled": 2},
        "active": [{"kind": "FleetBackupJob", "name": "nightly-1793583000", "uid": "u"}],
        "conditions": [condition("Ready", "True", "Scheduled", "creates a FleetBackupJob", "2026-10-26T03:00:00Z")],
    });
    let waits = json!({
        "lastScheduleTime": "2026-11-02T10:00:00Z", "nextScheduleTime": "2026-11-02T11:00:00Z", "missedSlots": 0,
        "conditions": [condition(
            "Ready", "False", "PreviousRunUnfinished", "the slot waits: `hourly-1793613600` has not ended",
            "2026-11-02T11:00:00Z",
        )],
    });
    let berlin = json!({"schedule": "30 2 * * *", "timeZone": "Europe/Berlin", "windowSeconds": 1800});
    vec![
        schedule("nightly", berlin, &fine),
        schedule(
            "tidy",
            json!({"schedule": "@hourly", "operation": "purge", "execution": "Delegated"}),
            &waits,
        ),
        schedule("new", json!({"schedule": "@daily"}), &Value::Null),
    ]
}

/// A restore of two datacenters, one of them done.
pub fn restore() -> FleetRestoreJob {
    serde_json::from_value(json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetRestoreJob",
        "metadata": {"name": "back"}, "spec": {"backup": "nightly.shop"},
        "status": {
            "phase": "Running", "cluster": "shop", "done": "1/2", "startTime": "2026-11-02T11:00:00Z",
            "checkedTime": "2026-11-02T11:00:10Z",
            "plan": [
                {"dataPlane": "eu-1", "namespace": "shop", "datacenter": "dc1", "medusaBackup": "nightly-dc1",
                 "job": "back-dc1", "checks": [{"name": "Idle", "state": "Passed"}]},
                {"dataPlane": "us-1", "namespace": "shop", "datacenter": "dc2", "medusaBackup": "nightly-dc2",
                 "job": "back-dc2", "checks": [{"name": "Idle", "state": "Passed"}]},
            ],
            "datacenters": [
                {"dataPlane": "eu-1", "namespace": "shop", "datacenter": "dc1", "job": "back-dc1",
                 "phase": "Succeeded", "reason": "Succeeded", "startTime": "2026-11-02T11:00:11Z",
                 "stoppedTime": "2026-11-02T11:01:00Z", "finishTime": "2026-11-02T11:30:00Z",
                 "nodes": {"total": 3, "finished": 3}},
                {"dataPlane": "us-1", "namespace": "shop", "datacenter": "dc2", "job": "back-dc2",
                 "phase": "Running", "reason": "Restoring", "message": "1 pods restored",
                 "startTime": "2026-11-02T11:00:11Z", "nodes": {"total": 3, "finished": 1}},
            ],
            "conditions": [{"type": "Complete", "status": "Unknown", "reason": "Running",
                "message": "us-1/shop/dc2: Restoring", "lastTransitionTime": "2026-11-02T11:00:00Z"}],
        },
    }))
    .unwrap()
}
