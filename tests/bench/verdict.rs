//! From the datacenters' ends to a FleetBackupJob's verdict.

use std::time::Instant;

use futures::future::try_join_all;
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use medusa_fleet::api::medusa::{MedusaBackup, MedusaBackupJob};
use serde_json::{Value, json};

use crate::{
    clusters::{apply, is_write},
    fanout::clean,
    harness::{Cluster, Result},
    objects::{SHOP, fleet_backup_job},
    registered_fleet::{DATACENTERS, HOME, RegisteredFleet},
    report::{Report, Row},
    support::pause,
};

/// Datacenters that end together.
const STEP: usize = 10;
/// Milliseconds until the next ones do.
const STEP_PAUSE: u64 = 300;

/// Milliseconds from the write by which the last of a hundred datacenters ends until the FleetBackupJob's verdict is
/// seen; and how many times its status was written altogether.
pub async fn verdict(fleet: &mut RegisteredFleet, runs: usize, report: &mut Report) -> Result<()> {
    let planes = fleet.planes.len();
    let children = DATACENTERS.div_ceil(planes) * planes;
    let (mut millis, mut writes, mut per_second) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..runs {
        let job = format!("verdict-{run}");
        pause(1500).await;
        let before = fleet.requests().await?.0;
        let start = Instant::now();
        apply(&fleet.home, &fleet.namespace, &fleet_backup_job(&job)).await?;
        fleet.recorder.until_count("MedusaBackupJob", &format!("{job}-"), children).await?;
        let mut made = made(fleet).await?;
        let last = made.pop();
        for step in made.chunks(STEP) {
            try_join_all(step.iter().map(|(cluster, child)| finish(cluster, child))).await?;
            pause(STEP_PAUSE).await;
        }
        let Some((cluster, child)) = last else { continue };
        write_backup(&cluster, &child).await?;
        pause(1000).await;
        let end = Instant::now();
        end_job(&cluster, &child).await?;
        let place = (HOME, "FleetBackupJob", job.clone());
        let seen = fleet.recorder.until([place], |phase| phase == Some("Succeeded")).await?;
        millis.push((seen - end).as_secs_f64() * 1000.0);
        let spent = fleet.requests().await?.0.since(&before);
        let statuses = spent.sum(|what| what.contains("fleetbackupjobs/status") && is_write(what));
        writes.push(statuses);
        per_second.push(statuses / (seen - start).as_secs_f64());
        clean(fleet).await?;
    }
    let row = |what: &str, unit: &'static str| Row::new(what, planes, fleet.delay, unit);
    report.add(
        row(&format!("FleetBackupJob, {children} datacenters: last end to verdict"), "ms").ours(&millis),
    );
    report.add(row("FleetBackupJob: status writes per run", "requests").ours(&writes).note(format!(
        "{children} datacenters; at most {:.1} in a second",
        per_second.into_iter().fold(0.0, f64::max)
    )));
    Ok(())
}

/// The children there are, data planes taking turns.
async fn made(fleet: &RegisteredFleet) -> Result<Vec<(Cluster, MedusaBackupJob)>> {
    let lists = fleet.planes.iter().map(|plane| async {
        let api: Api<MedusaBackupJob> = plane.near.api(SHOP);
        let list = api.list(&ListParams::default()).await?.items;
        Ok::<_, kube::Error>(list.into_iter().map(|child| (plane.near.clone(), child)).collect::<Vec<_>>())
    });
    let mut numbered: Vec<(usize, (Cluster, MedusaBackupJob))> =
        try_join_all(lists).await?.into_iter().flat_map(|list| list.into_iter().enumerate()).collect();
    numbered.sort_by_key(|(number, _)| *number);
    Ok(numbered.into_iter().map(|(_, child)| child).collect())
}

/// What a data plane writes when all went well: the MedusaBackup first, the job's end last.
async fn finish(cluster: &Cluster, child: &MedusaBackupJob) -> Result<()> {
    write_backup(cluster, child).await?;
    end_job(cluster, child).await
}

fn nodes(child: &MedusaBackupJob) -> Vec<String> {
    (0..3).map(|number| format!("{}-{number}", child.spec.cassandra_datacenter)).collect()
}

async fn write_backup(cluster: &Cluster, child: &MedusaBackupJob) -> Result<()> {
    let name = child.name_any();
    let datacenter = &child.spec.cassandra_datacenter;
    let backup = json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackup", "metadata": {"name": name},
        "spec": {"cassandraDatacenter": datacenter, "backupType": "differential"},
    });
    apply(cluster, SHOP, &backup).await?;
    let at = child.metadata.creation_timestamp.clone();
    let nodes: Vec<Value> =
        nodes(child).into_iter().map(|host| json!({"host": host, "datacenter": datacenter})).collect();
    let status = json!({
        "startTime": at, "finishTime": at, "totalNodes": 3, "finishedNodes": 3, "nodes": nodes,
        "totalFiles": 300, "totalSize": "1.00 GB", "status": "SUCCESS",
    });
    let api: Api<MedusaBackup> = cluster.api(SHOP);
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(json!({"status": status}))).await?;
    Ok(())
}

async fn end_job(cluster: &Cluster, child: &MedusaBackupJob) -> Result<()> {
    let at = child.metadata.creation_timestamp.clone();
    let status = json!({"startTime": at, "finishTime": at, "finished": nodes(child)});
    let api: Api<MedusaBackupJob> = cluster.api(SHOP);
    let patch = Patch::Merge(json!({"status": status}));
    api.patch_status(&child.name_any(), &PatchParams::default(), &patch).await?;
    Ok(())
}
