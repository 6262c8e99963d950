//! A data plane speaks for its own datacenters only, whatever it writes.

use kube::ResourceExt as _;
use medusa_fleet::api::{
    fleet::{FleetBackup, FleetCluster, FleetClusterStatus, Phase},
    medusa::MedusaBackupJob,
};
use serde_json::{Value, json};

use crate::support::{
    CASS, Cluster, ControlPlane, FLEET, Fleet, condition, datacenter, eventually, finish, write_backup,
};

/// A datacenter with k8ssandra-operator's labels for a K8ssandraCluster.
fn of_k8ssandra(name: &str, cluster: &str) -> Value {
    let mut object = datacenter(name, "shop", 1);
    object["metadata"]["labels"] =
        json!({"k8ssandra.io/cluster-name": cluster, "k8ssandra.io/cluster-namespace": FLEET});
    object
}

/// What a data plane can write to hold up a cluster: a datacenter that says it is of it, and is being restored.
async fn intrude(cluster: &Cluster, mut claiming: Value) {
    claiming["metadata"]["annotations"] = json!({"fleet.k8ssandra.io/restore": "{}"});
    let name = claiming["metadata"]["name"].clone();
    cluster.create(claiming).await;
    cluster
        .create(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaRestoreJob",
            "metadata": {"name": "forever", "namespace": CASS},
            "spec": {"backup": "some", "cassandraDatacenter": name},
        }))
        .await;
    cluster
        .create(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaTask",
            "metadata": {"name": "forever", "namespace": CASS, "labels": {"fleet.k8ssandra.io/job-uid": "any"}},
            "spec": {"cassandraDatacenter": name, "operation": "purge"},
        }))
        .await;
}

async fn expect_cluster(
    fleet: &Fleet,
    name: &str,
    what: &str,
    wanted: impl Fn(&FleetClusterStatus) -> bool,
) -> FleetClusterStatus {
    eventually(format!("FleetCluster {name}: {what}"), async || {
        let cluster = fleet.home().find::<FleetCluster>(FLEET, name).await.ok_or("it is not there")?;
        let status = cluster.status.unwrap_or_default();
        if wanted(&status) { Ok(status) } else { Err(format!("{status:#?}")) }
    })
    .await
}

/// Ends the only backup of a cluster.
async fn finish_one(cluster: &Cluster, begins: &str) {
    let job = eventually(format!("a backup {begins}… has begun"), async || {
        let jobs = cluster.list::<MedusaBackupJob>(CASS).await;
        jobs.into_iter().find(|job| job.name_any().starts_with(begins)).ok_or("none")
    })
    .await;
    finish(cluster, &job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_claims_a_cluster_that_is_known_holds_up_fails_and_spoils_nothing_of_it() {
    let fleet = Fleet::start(2).await;
    let (home, victim, hostile) = (fleet.home(), fleet.dp(1), fleet.dp(2));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    home.create(json!({
        "apiVersion": "k8ssandra.io/v1alpha1", "kind": "K8ssandraCluster",
        "metadata": {"name": "shop", "namespace": FLEET},
        "spec": {"cassandra": {"datacenters": [
            {"metadata": {"name": "dc1", "namespace": CASS}, "k8sContext": "dp-1", "size": 1}]}},
    }))
    .await;
    victim.create(of_k8ssandra("dc1", "shop")).await;
    intrude(hostile, of_k8ssandra("x", "shop")).await;
    let (cluster, claiming) = (format!("shop.{FLEET}"), format!("shop.{CASS}.dp-2"));
    let status = expect_cluster(&fleet, &claiming, "says what it claims", |status| {
        condition(&status.conditions, "ClusterClaimed").1 == "ClusterClaimed"
    })
    .await;
    let message = condition(&status.conditions, "ClusterClaimed").2;
    assert!(message.contains("dp-2/cass/x") && message.contains(&cluster), "{message}");

    // Its backup neither waits nor ends for the other's sake, under any name of the cluster.
    home.create(json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetBackupJob",
        "metadata": {"name": "nightly", "namespace": FLEET},
        "spec": {"selector": {"clusters": ["shop"]}, "rollout": {"maxFailures": 1}},
    }))
    .await;
    finish_one(victim, "nightly-dc1-").await;
    let job = fleet.expect_phase("nightly", Phase::Succeeded).await.status.unwrap();
    assert_eq!(job.datacenters.len(), 1, "{:#?}", job.datacenters);
    let point = job.restore_points[0].clone();
    eventually(format!("FleetBackup {point} is whole"), async || {
        let found = home.find::<FleetBackup>(FLEET, &point).await.and_then(|point| point.status);
        let is_whole = found.as_ref().is_some_and(|s| s.complete && s.done.as_deref() == Some("1/1"));
        if is_whole { Ok(()) } else { Err(format!("{found:#?}")) }
    })
    .await;
    let status = expect_cluster(&fleet, &cluster, "is protected", |status| {
        condition(&status.conditions, "Protected").0 == "True"
    })
    .await;
    assert_eq!((status.size, status.datacenters[0].data_plane.as_str()), (1, "dp-1"));
    assert!(status.drift.is_empty());

    // What it has of its own counts for itself, also after it fell silent.
    write_backup(hostile, "theirs", "x", 1, "SUCCESS").await;
    expect_cluster(&fleet, &claiming, "has its own", |status| status.restore_points == 1).await;
    fleet.pause("dp-2");
    fleet.expect_data_plane("dp-2", "Ready", "False", "TimedOut").await;
    home.create(crate::support::backup_job("again", json!({"clusters": [cluster]}))).await;
    finish_one(victim, "again-dc1-").await;
    fleet.expect_phase("again", Phase::Succeeded).await;
    fleet.resume("dp-2");
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_labels_make_a_cluster_a_data_plane_holds_up_only_itself_and_a_person_may_keep_it_out() {
    let fleet = Fleet::start(2).await;
    let (home, victim, hostile) = (fleet.home(), fleet.dp(1), fleet.dp(2));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    victim.create(datacenter("dc1", "shop", 1)).await;
    intrude(hostile, datacenter("x", "shop", 1)).await;
    expect_cluster(&fleet, "shop", "has both", |status| status.size == 2).await;
    home.create(crate::support::backup_job("nightly", json!({"clusters": ["shop"]}))).await;
    finish_one(victim, "nightly-dc1-").await;
    eventually("dc1 is backed up, x waits for its own restore".to_owned(), async || {
        let entries = fleet.job("nightly").await.status.unwrap_or_default().datacenters;
        let seen: Vec<_> =
            entries.iter().map(|e| (e.datacenter.as_str(), e.phase, e.reason.as_deref())).collect();
        let wanted =
            [("dc1", Phase::Succeeded, Some("Succeeded")), ("x", Phase::Pending, Some("RestoreInProgress"))];
        if seen.len() == 2 && seen[0].1 == wanted[0].1 && seen[1] == wanted[1] {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    })
    .await;

    let none = json!({"metadata": {"annotations": {"fleet.k8ssandra.io/may-join": ""}}});
    home.patch::<medusa_fleet::api::fleet::DataPlane>(FLEET, "dp-2", none).await;
    expect_cluster(&fleet, "shop", "is dp-1's alone, and protected", |status| {
        status.size == 1 && condition(&status.conditions, "Protected").0 == "True"
    })
    .await;
    expect_cluster(&fleet, &format!("shop.{CASS}.dp-2"), "stands for itself", |status| {
        condition(&status.conditions, "ClusterClaimed").0 == "True"
    })
    .await;
    controller.assert_running();
}
