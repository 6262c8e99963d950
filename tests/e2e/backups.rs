//! Backups of the whole fleet, full and differential, and what lies in the bucket afterwards.

use medusa_fleet::api::{
    Conditions as _,
    fleet::{FleetBackup, FleetBackupJob, FleetCluster, Phase},
    medusa::MedusaBackup,
};

use super::{
    cassandra_fleet::CassandraFleet,
    datacenter::Datacenter,
    support::{FLEET, eventually},
};

/// A full backup of both datacenters by the command line.
pub async fn full_backup(fleet: &CassandraFleet, datacenters: &[Datacenter<'_>]) {
    let (ok, said) = fleet.medusa(&["backup", "first", "--type", "full", "--wait", "--timeout", "8m"]);
    assert!(ok, "{said}");
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

/// The bucket itself: every node's manifest, schema and token map, and data of the table that was written.
async fn expect_in_the_bucket(objects: &[String], datacenter: &Datacenter<'_>, name: &str) {
    let pods = datacenter.pod_names().await;
    let mut stored = 0;
    for pod in &pods {
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
