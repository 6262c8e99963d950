//! Restores: what people write, and what the data planes' controllers would answer.

use medusa_fleet::api::{
    fleet::{FleetBackup, FleetRestoreJob, Phase},
    medusa::MedusaRestoreJob,
    names,
};
use serde_json::{Value, json};

use super::{CASS, Cluster, FLEET, Fleet, datacenter, eventually, node_names, write_backup};

/// A datacenter of `cluster` that can be restored.
pub fn restorable(name: &str, cluster: &str, size: i32) -> Value {
    let mut object = datacenter(name, cluster, size);
    object["spec"]["podTemplateSpec"]["spec"]["initContainers"] =
        json!([{"name": "server-config-init"}, {"name": "medusa-restore"}]);
    object
}

/// A FleetRestoreJob.
pub fn restore_job(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetRestoreJob",
        "metadata": {"name": name, "namespace": FLEET}, "spec": spec,
    })
}

/// Cluster `shop`: `dc1` in dp-1 and `dc2` in dp-2, backed up as FleetBackup `b-0a0a0a0a.shop`.
pub async fn backed_up(fleet: &Fleet) {
    for number in [1, 2] {
        let (cluster, dc) = (fleet.dp(number), format!("dc{number}"));
        cluster.create(restorable(&dc, "shop", 2)).await;
        write_backup(cluster, &format!("b-{dc}-0a0a0a0a"), &dc, 2, "SUCCESS").await;
    }
    eventually("the FleetBackup is complete", async || {
        let backup = fleet.home().find::<FleetBackup>(FLEET, "b-0a0a0a0a.shop").await.and_then(|b| b.status);
        let complete = backup.as_ref().is_some_and(|b| b.complete && b.datacenters.len() == 2);
        if complete { Ok(()) } else { Err(format!("{backup:?}")) }
    })
    .await;
}

/// A FleetRestoreJob as it is.
pub async fn restore(fleet: &Fleet, name: &str) -> FleetRestoreJob {
    fleet.home().get(FLEET, name).await
}

/// Waits until `look` finds what it wants in a FleetRestoreJob.
pub async fn expect_restore(
    fleet: &Fleet,
    name: &str,
    what: &str,
    look: impl Fn(&FleetRestoreJob) -> bool,
) -> FleetRestoreJob {
    eventually(format!("FleetRestoreJob {name}: {what}"), async || {
        let job = restore(fleet, name).await;
        if look(&job) { Ok(job) } else { Err(format!("{:#?}", job.status)) }
    })
    .await
}

/// Waits until it is over, which must be in `phase`.
pub async fn expect_end(fleet: &Fleet, name: &str, phase: Phase) -> FleetRestoreJob {
    let job = expect_restore(fleet, name, "it is over", |job| {
        job.status.as_ref().is_some_and(|s| s.phase.is_some_and(Phase::is_final))
    })
    .await;
    let status = job.status.clone().unwrap();
    assert_eq!(status.phase, Some(phase), "{status:#?}");
    job
}

/// Waits until an open check has this reason.
pub async fn expect_wait(fleet: &Fleet, name: &str, reason: &str) -> FleetRestoreJob {
    expect_restore(fleet, name, &format!("it waits: {reason}"), |job| {
        let status = job.status.clone().unwrap_or_default();
        let mut checks = status.checks.iter().chain(status.plan.iter().flat_map(|e| &e.checks));
        checks.any(|c| c.reason.as_deref() == Some(reason))
    })
    .await
}

/// Name of the MedusaRestoreJob, and of the MedusaTask, of a FleetRestoreJob in a datacenter.
pub fn child_of(job: &impl kube::ResourceExt, datacenter: &str) -> String {
    names::child(&job.name_any(), datacenter, &job.uid().unwrap())
}

/// A status as `medusa-fleet data-plane` ends with.
pub fn ours(datacenter: &str, size: i32, good: bool) -> Value {
    let pods = node_names(datacenter, size);
    let map: serde_json::Map<String, Value> =
        pods.iter().map(|pod| (pod.clone(), json!({"source": [pod], "seed": false}))).collect();
    let at = "2026-01-01T00:00:00Z";
    let condition = |type_: &str, is: bool, reason: &str| {
        json!({"type": type_, "status": if is { "True" } else { "False" }, "reason": reason,
            "message": "2 pods restored", "lastTransitionTime": at})
    };
    let reason = if good { "Succeeded" } else { "NodesFailed" };
    json!({
        "restoreKey": "k", "restorePrepared": true, "startTime": at, "datacenterStopped": at, "finishTime": at,
        "restoreMapping": {"in_place": true, "host_map": map},
        "finished": if good { pods.clone() } else { Vec::new() }, "failed": if good { Vec::new() } else { pods },
        "conditions": [condition("Complete", good, reason), condition("Failed", !good, reason)],
    })
}

/// The statuses k8ssandra-operator goes through, in their order.
pub fn upstreams() -> [Value; 4] {
    let at = "2026-01-01T00:00:00Z";
    [
        json!({"restoreKey": "k", "startTime": at}),
        json!({"restoreKey": "k", "startTime": at, "restorePrepared": true}),
        json!({"restoreKey": "k", "startTime": at, "restorePrepared": true, "datacenterStopped": at}),
        json!({"restoreKey": "k", "startTime": at, "restorePrepared": true, "datacenterStopped": at, "finishTime": at}),
    ]
}

/// Writes a status of a MedusaRestoreJob, as its data plane would.
pub async fn work(cluster: &Cluster, name: &str, status: Value) {
    cluster.patch_status::<MedusaRestoreJob>(CASS, name, status).await;
}
