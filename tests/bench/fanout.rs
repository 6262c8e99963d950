//! A FleetBackupJob over a hundred datacenters.

use std::time::Instant;

use futures::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use medusa_fleet::api::{
    fleet::FleetBackupJob,
    medusa::{MedusaBackup, MedusaBackupJob},
};

use crate::{
    clusters::{IN_FLIGHT, apply, clear, create_job, datacenter_name, is_write},
    harness::Result,
    objects::{SHOP, bare_job, fleet_backup_job},
    registered_fleet::{DATACENTERS, RegisteredFleet},
    report::{Report, Row},
    support::pause,
};

/// Between two runs, so that what the last one set off has ended.
const SETTLE: u64 = 1500;

/// Milliseconds from the write of a FleetBackupJob until every datacenter has its MedusaBackupJob; beside
/// it a bare client that creates as many.
pub async fn fanout(fleet: &mut RegisteredFleet, runs: usize, report: &mut Report) -> Result<()> {
    let planes = fleet.planes.len();
    let per_plane = DATACENTERS.div_ceil(planes);
    let children = per_plane * planes;
    let (mut ours, mut theirs, mut cold) = (Vec::new(), Vec::new(), Vec::new());
    // The first run of each is shown by itself: connections are made.
    for run in 0..=runs {
        let job = format!("fleet-{run}");
        pause(SETTLE).await;
        let start = Instant::now();
        apply(&fleet.home, &fleet.namespace, &fleet_backup_job(&job)).await?;
        let end = fleet.recorder.until_count("MedusaBackupJob", &format!("{job}-"), children).await?;
        let millis = (end - start).as_secs_f64() * 1000.0;
        clean(fleet).await?;

        pause(SETTLE).await;
        let bare = format!("bare-{run}");
        let start = Instant::now();
        create(fleet, &bare, per_plane).await?;
        let end = fleet.recorder.until_count("MedusaBackupJob", &format!("{bare}-"), children).await?;
        let bare_millis = (end - start).as_secs_f64() * 1000.0;
        clean(fleet).await?;
        if run == 0 {
            cold.push((millis, bare_millis));
        } else {
            ours.push(millis);
            theirs.push(bare_millis);
        }
    }
    let row = |what: &str| Row::new(what, planes, fleet.delay, "ms");
    let cold_ours: Vec<f64> = cold.iter().map(|(ours, _)| *ours).collect();
    let cold_bare: Vec<f64> = cold.iter().map(|(_, bare)| *bare).collect();
    report.add(
        row(&format!("FleetBackupJob, {children} datacenters, first"))
            .ours(&cold_ours)
            .bare(&cold_bare)
            .note("one run: connections are made"),
    );
    report.add(row(&format!("FleetBackupJob, {children} datacenters")).ours(&ours).bare(&theirs));
    if fleet.delay == 0 {
        requests(fleet, children, report).await?;
    }
    Ok(())
}

/// What one FleetBackupJob costs in requests.
async fn requests(fleet: &mut RegisteredFleet, children: usize, report: &mut Report) -> Result<()> {
    pause(SETTLE).await;
    let before = fleet.requests().await?;
    apply(&fleet.home, &fleet.namespace, &fleet_backup_job("counted")).await?;
    fleet.recorder.until_count("MedusaBackupJob", "counted-", children).await?;
    pause(2000).await;
    let after = fleet.requests().await?;
    let (home, there) = (after.0.since(&before.0), after.1.since(&before.1));
    clean(fleet).await?;
    let planes = fleet.planes.len();
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let writes = there.sum(|what| what.contains("medusabackupjobs") && is_write(what)) / children as f64;
    let reads = there.sum(|w| w.contains("medusabackupjobs") && !is_write(w) && !w.starts_with("WATCH"));
    report.add(
        Row::new("FleetBackupJob: writes per child", planes, 0, "requests")
            .ours(&[writes])
            .note(format!("reads of children: {reads:.0}")),
    );
    report.remarks.push(format!(
        "Requests of one FleetBackupJob, {children} datacenters in {planes} data planes, 2 s (one APPLY of \
         fleetbackupjobs is this program's own):\n  control plane: {}\n  data planes: {}",
        home.line(),
        there.line()
    ));
    Ok(())
}

async fn create(fleet: &RegisteredFleet, prefix: &str, per_plane: usize) -> Result<()> {
    let writes = fleet.planes.iter().map(|plane| {
        stream::iter(1..=per_plane)
            .map(move |number| async move {
                let datacenter = datacenter_name(&plane.name, number);
                let job = bare_job(&format!("{prefix}-{datacenter}-0b1c2d3e"), &datacenter);
                create_job(&plane.far, SHOP, &job).await
            })
            .buffer_unordered(IN_FLIGHT)
            .try_collect::<Vec<()>>()
    });
    try_join_all(writes).await?;
    Ok(())
}

/// Removes the run, then its children.
pub async fn clean(fleet: &mut RegisteredFleet) -> Result<()> {
    clear::<FleetBackupJob>(&fleet.home, &fleet.namespace, "").await?;
    try_join_all(fleet.planes.iter().map(|plane| async {
        clear::<MedusaBackupJob>(&plane.near, SHOP, "").await?;
        clear::<MedusaBackup>(&plane.near, SHOP, "").await
    }))
    .await?;
    for number in 1..=fleet.planes.len() {
        let names = fleet.recorder.names(number, "MedusaBackupJob");
        fleet.recorder.until_gone(names.into_iter().map(|name| (number, "MedusaBackupJob", name))).await?;
    }
    Ok(())
}
