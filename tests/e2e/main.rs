//! One backup of a fleet that really happens: two data planes, a Cassandra datacenter in each, Medusa beside every
//! Cassandra, one S3 store; the bucket is read afterwards.
//!
//! Needs what `make testbed` builds and installs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that cannot go on should say so and end"
)]

#[allow(dead_code, unused_imports, reason = "each test binary uses its part of the support")]
#[path = "../support/mod.rs"]
mod support;

mod stage;

use medusa_fleet::api::{
    Conditions as _,
    fleet::{FleetBackup, FleetBackupJob, FleetCluster, Phase},
    medusa::MedusaBackup,
};
use stage::{NAMESPACE, Stage};
use support::{FLEET, eventually};

const ROWS: usize = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_backup_of_real_cassandra_lies_in_the_bucket() {
    let mut stage = Stage::open().await;
    stage.start_controllers();
    stage.register_with_the_command_line();
    stage.write_configuration().await;
    stage.await_datacenters();
    let pods = stage.pods().await;
    for (_, address) in &pods {
        Stage::cql(address, &["load", &ROWS.to_string()]);
        let count = Stage::cql(address, &["count"]);
        assert!(count.contains(&ROWS.to_string()), "rows at {address}: {count}");
    }

    let (ok, said) = stage.medusa(&["backup", "first", "--type", "full", "--wait", "--timeout", "8m"]);
    assert!(ok, "{said}");
    let job: FleetBackupJob = stage.home().get(FLEET, "first").await;
    let status = job.status.clone().unwrap();
    assert_eq!(status.phase, Some(Phase::Succeeded), "{status:#?}");
    assert_eq!(status.done.as_deref(), Some("2/2"));
    assert_eq!(
        status.restore_points.len(),
        1,
        "both datacenters are one cluster: {:?}",
        status.restore_points
    );

    let point = status.restore_points[0].clone();
    let backup = eventually("the restore point is complete", async || {
        let seen = stage.home().find::<FleetBackup>(FLEET, &point).await.and_then(|b| b.status);
        match seen {
            Some(status) if status.complete && status.restorable => Ok(status),
            other => Err(format!("{other:#?}")),
        }
    })
    .await;
    assert_eq!((backup.done.as_deref(), backup.nodes_done.as_deref()), (Some("2/2"), Some("2/2")));
    assert!(backup.size_bytes.unwrap_or(0) > 0, "{backup:#?}");
    assert_eq!(backup.cluster, "shop");

    // The bucket itself: every node's manifest, schema and token map, and data of the table that was written.
    let objects = stage.objects();
    for (number, (pod, _)) in pods.iter().enumerate() {
        let entry = &backup.datacenters[number];
        let name = entry.medusa_backup.clone().unwrap();
        for file in ["manifest.json", "schema.cql", "tokenmap.json"] {
            let key = format!("{pod}/{name}/meta/{file}");
            assert!(objects.iter().any(|o| o.ends_with(&key)), "no {key} in the bucket: {objects:#?}");
        }
        let data = format!("{pod}/{name}/data/shop/orders");
        assert!(objects.iter().any(|o| o.contains(&data)), "no data under {data}");
        let stored = objects.iter().filter(|o| o.contains(&format!("{pod}/{name}/data/"))).count();
        let medusa: MedusaBackup = stage.data_plane(number).get(NAMESPACE, &name).await;
        let medusa = medusa.status.unwrap();
        assert_eq!(medusa.status.as_deref(), Some("SUCCESS"));
        assert_eq!(medusa.nodes.first().and_then(|n| n.host.as_deref()), Some(pod.as_str()));
        assert_eq!(medusa.total_files, i64::try_from(stored).ok(), "as many files as the bucket holds");
    }

    eventually("the cluster is protected", async || {
        let cluster = stage.home().find::<FleetCluster>(FLEET, "shop").await.and_then(|c| c.status);
        let protected = cluster.as_ref().is_some_and(|s| s.conditions.is_true("Protected"));
        if protected { Ok(()) } else { Err(format!("{cluster:#?}")) }
    })
    .await;
    let (ok, said) = stage.medusa(&["status"]);
    assert!(ok, "status of a protected fleet: {said}");

    // Again, differential, with every Medusa killed between the two: what the pod runner restarts must be used.
    stage.kill_medusas().await;
    let (ok, said) = stage.medusa(&["backup", "second", "--wait", "--timeout", "8m"]);
    assert!(ok, "{said}");
    eventually("both restore points are listed", async || {
        let (_, listed) = stage.medusa(&["backups"]);
        if listed.contains("first-") && listed.contains("second-") { Ok(()) } else { Err(listed) }
    })
    .await;
}
