//! Backups of the whole fleet, full and differential, and what lies in the bucket afterwards.

use medusa_fleet::api::{
    Conditions as _,
    fleet::{FleetBackup, FleetBackupJob, FleetCluster, Phase},
    medusa::{MedusaBackup, MedusaBackupJob},
};

use super::{
    cassandra_fleet::CassandraFleet,
    datacenter::Datacenter,
    releases,
    support::{FLEET, eventually},
};

/// A full backup of both datacenters by the command line. While it is under way in the first of them, the leader of each
/// role is killed in each cluster, and all replicas are rolled out anew.
pub async fn full_backup(fleet: &CassandraFleet, datacenters: &[Datacenter<'_>]) {
    let command = fleet.medusa_meanwhile(&["backup", "first", "--type", "full", "--wait", "--timeout", "8m"]);
    eventually("the backup is under way", async || {
        let jobs = jobs(&datacenters[0]).await;
        let has_begun = |job: &MedusaBackupJob| job.status.as_ref().is_some_and(|s| s.start_time.is_some());
        if jobs.iter().any(has_begun) { Ok(()) } else { Err(format!("{jobs:#?}")) }
    })
    .await;
    let killed = releases::disturb(fleet.clusters()).await;
    let interrupted = jobs(&datacenters[0]).await.remove(0);
    assert!(interrupted.status.unwrap().finish_time.is_none(), "its controllers were killed too late");
    let (ok, said) = command.await.unwrap();
    assert!(ok, "{said}");
    releases::settle(fleet.clusters(), &killed).await;
    let job: FleetBackupJob = fleet.home().get(FLEET, "first").await;
    let status = job.status.clone().unwrap();
    assert_eq!(status.run.phase, Some(Phase::Succeeded), "{status:#?}");
    assert_eq!(status.run.done.as_deref(), Some("2/2"));
    assert_eq!(
        status.restore_points.len(),
        1,
        "both datacenters are one cluster: {:?}",
        status.restore_points
    );

    let point = status.restore_points[0].clone();
    let backup = eventually("the restore point is complete", async || {
        let seen = fleet.home().find::<FleetBackup>(FLEET, &point).await.and_then(|b| b.status);
        match seen {
            Some(status) if status.complete && status.restorable => Ok(status),
            other => Err(format!("{other:#?}")),
        }
    })
    .await;
    assert_eq!((backup.done.as_deref(), backup.nodes_done.as_deref()), (Some("2/2"), Some("4/4")));
    assert!(backup.size_bytes.unwrap_or(0) > 0, "{backup:#?}");
    assert_eq!(backup.cluster, "shop");
    let objects = fleet.objects();
    for datacenter in datacenters {
        let entry = backup.datacenters.iter().find(|d| d.name == datacenter.name).unwrap();
        expect_in_the_bucket(&objects, datacenter, entry.medusa_backup.as_deref().unwrap()).await;
    }

    eventually("the cluster is protected", async || {
        let cluster = fleet.home().find::<FleetCluster>(FLEET, "shop").await.and_then(|c| c.status);
        let protected = cluster.as_ref().is_some_and(|s| s.conditions.is_true("Protected"));
        if protected { Ok(()) } else { Err(format!("{cluster:#?}")) }
    })
    .await;
    let (ok, said) = fleet.medusa(&["status"]);
    assert!(ok, "status of a protected fleet: {said}");
}

/// The jobs of a datacenter's first backup.
async fn jobs(datacenter: &Datacenter<'_>) -> Vec<MedusaBackupJob> {
    let mut jobs = datacenter.cluster.list::<MedusaBackupJob>(datacenter.namespace).await;
    jobs.retain(|job| job.metadata.name.as_deref().is_some_and(|name| name.starts_with("first-")));
    jobs
}

/// The bucket itself: one backup; every node's manifest, schema and token map, and data of the table that was written.
async fn expect_in_the_bucket(objects: &[String], datacenter: &Datacenter<'_>, name: &str) {
    let pods = datacenter.pod_names().await;
    let mut stored = 0;
    let backups = datacenter.cluster.list::<MedusaBackup>(datacenter.namespace).await;
    assert_eq!((jobs(datacenter).await.len(), backups.len()), (1, 1), "{backups:#?}");
    for pod in &pods {
        let of_pod = format!("/{pod}/");
        let manifests: Vec<_> = objects
            .iter()
            .filter(|key| key.contains(&of_pod) && key.ends_with("/meta/manifest.json"))
            .collect();
        assert_eq!(manifests.len(), 1, "backed up once: {manifests:?}");
        for file in ["manifest.json", "schema.cql", "tokenmap.json"] {
            let key = format!("{pod}/{name}/meta/{file}");
            assert!(objects.iter().any(|o| o.ends_with(&key)), "no {key} in the bucket: {objects:#?}");
        }
        let data = format!("{pod}/{name}/data/shop/orders");
        assert!(objects.iter().any(|o| o.contains(&data)), "no data under {data}");
        stored += objects.iter().filter(|o| o.contains(&format!("{pod}/{name}/data/"))).count();
    }
    let medusa: MedusaBackup = datacenter.cluster.get(datacenter.namespace, name).await;
    let medusa = medusa.status.unwrap();
    assert_eq!(medusa.status.as_deref(), Some("SUCCESS"));
    let mut hosts: Vec<String> = medusa.nodes.iter().filter_map(|n| n.host.clone()).collect();
    hosts.sort();
    assert_eq!(hosts, pods);
    assert_eq!(medusa.total_files, i64::try_from(stored).ok(), "as many files as the bucket holds");
}

/// A differential backup, by Medusas that have been restarted since the first.
pub async fn differential_backup(fleet: &CassandraFleet) {
    let (ok, said) = fleet.medusa(&["backup", "second", "--wait", "--timeout", "8m"]);
    assert!(ok, "{said}");
    eventually("both restore points are listed", async || {
        let (_, listed) = fleet.medusa(&["backups"]);
        if listed.contains("first-") && listed.contains("second-") { Ok(()) } else { Err(listed) }
    })
    .await;
}
