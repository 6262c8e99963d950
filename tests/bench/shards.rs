//! Simulated data planes, watched by several replicas: how long it takes until the share of one that is killed is watched by
//! the others, with what is lost or made twice meanwhile.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, api::ListParams};
use medusa_fleet::api::fleet::DataPlaneView;

use crate::{
    clusters::apply,
    harness::{Failure, Result, within},
    objects::fleet_backup_job,
    registered_fleet::HOME,
    report::Report,
    scale::{JOBS, Large},
};

/// Replicas that share the watching.
pub const REPLICAS: usize = 3;
/// How long a takeover may take.
const PATIENCE: Duration = Duration::from_mins(5);

/// Who holds shards, by the shards' Leases.
async fn holders(fleet: &Large) -> Result<Vec<(String, i32)>> {
    let leases: Api<Lease> = fleet.home.api(&fleet.namespace);
    let of_shards = leases.list(&ListParams::default().labels("fleet.k8ssandra.io/lease=shard")).await?;
    let held = of_shards.into_iter().filter_map(|lease| lease.spec);
    Ok(held.filter_map(|spec| Some((spec.holder_identity?, spec.lease_transitions?))).collect())
}

/// A replica is killed right after a FleetBackupJob over all data planes was made.
pub async fn one_is_killed(fleet: &mut Large, count: usize, report: &mut Report) -> Result<()> {
    let before = holders(fleet).await?;
    let made = fleet.objects(JOBS).await?;
    let name = "killed".to_owned();
    apply(&fleet.home, &fleet.namespace, &fleet_backup_job(&name)).await?;
    let start = Instant::now();
    let mut gone = fleet.others.pop().ok_or("there is one replica only")?;
    gone.kill();
    let taken = within(PATIENCE, "the shards of the one that was killed are held by others", async || {
        let now = holders(fleet).await?;
        let moved = now.iter().filter(|holder| !before.contains(holder)).count();
        let names: BTreeSet<&str> = now.iter().map(|(name, _)| name.as_str()).collect();
        if moved > 0 && names.len() < REPLICAS {
            Ok::<_, Failure>(start.elapsed())
        } else {
            Err(format!("{now:?}").into())
        }
    })
    .await?;
    report.add(fleet.row("one replica is killed: its shards are held", "s").ours(&[taken.as_secs_f64()]));
    let watched = within(PATIENCE, "all is published by those who hold it", async || {
        let holders = holders(fleet).await?;
        let views: Api<DataPlaneView> = fleet.home.api(&fleet.namespace);
        let views = views.list(&ListParams::default()).await?;
        let theirs = |view: &&DataPlaneView| holders.contains(&(view.spec.holder.clone(), view.spec.epoch));
        let current = views.iter().filter(theirs).count();
        // Its own cluster is one of them.
        if current > count {
            Ok::<_, Failure>(start.elapsed())
        } else {
            Err(format!("{current} of {count}").into())
        }
    })
    .await?;
    report.add(fleet.row("one replica is killed: its share is watched", "s").ours(&[watched.as_secs_f64()]));
    let ended = fleet.recorder.until_marked([(HOME, "FleetBackupJob", name)], "Succeeded").await?;
    let children = fleet.objects(JOBS).await?.saturating_sub(made);
    let note = format!("{children} jobs were made for {count} datacenters");
    let row = fleet.row("one replica is killed: the FleetBackupJob has succeeded", "s");
    report.add(row.ours(&[(ended - start).as_secs_f64()]).note(note));
    Ok(())
}
