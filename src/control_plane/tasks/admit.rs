//! What is asked before a purge is made: what is known of the whole Cassandra cluster in that moment. IO.

use std::sync::Arc;

use kube::core::DeserializeGuard;

use super::{
    gate::{Facts, add_begun, decide, members, points},
    observe,
};
use crate::{
    api::{
        Reason,
        fleet::{DatacenterRun, FleetBackupDatacenter, FleetBackupJob, FleetBackupStatus},
    },
    control_plane::{
        data_planes::{fleet::Fleet, published::Published, remote::Remote},
        inventory::observe::by_name,
        runs::{
            child::place,
            claims::{self, Claims},
            engine::{adapter::Admitted, plan::Action},
            outcome::Outcome,
        },
    },
    runtime::follow::Cache,
};

/// What tasks, and above all purges, are decided by besides the data planes.
pub(super) struct TaskContext {
    pub fleet: Arc<Fleet>,
    pub claims: Arc<Claims>,
    pub published: Published,
    pub runs: Cache<DeserializeGuard<FleetBackupJob>>,
}

impl TaskContext {
    /// What a purge must know and was not listed since the start. Without it a cluster's data planes that were not
    /// listed either are missed, and a backup that was made first. It is no silence of a data plane, so the policy for
    /// that has no say.
    fn unlisted(&self) -> Option<Outcome> {
        let listed = [
            ("FleetClusters", self.published.clusters.is_listed()),
            ("FleetBackups", self.published.backups.is_listed()),
            ("FleetBackupJobs", self.runs.is_listed()),
        ];
        let (what, _) = listed.into_iter().find(|(_, is_listed)| !is_listed)?;
        Some(Outcome::NotNow(Reason::Connecting, format!("waits for the first listing of the {what}")))
    }
}

/// The MedusaBackup that a restore point has in the datacenter of `run`.
fn part_of(point: Option<&FleetBackupStatus>, run: &DatacenterRun) -> Option<String> {
    let is_here = |part: &&FleetBackupDatacenter| {
        (&part.data_plane, &part.namespace, &part.name) == (&run.data_plane, &run.namespace, &run.datacenter)
    };
    point?.datacenters.iter().find(is_here)?.medusa_backup.clone()
}

/// Reads what is known of the datacenter's cluster now, and decides. The cluster is claimed before the last look, so that
/// a backup that starts in this moment is seen, or sees the claim.
pub(super) async fn admit(
    context: &TaskContext,
    remote: &Remote,
    action: &Action,
) -> Result<Admitted, Outcome> {
    if let Some(waits) = context.unlisted() {
        return Err(waits);
    }
    let run = &action.entry;
    let published = context.published.clusters.get(&run.cluster);
    let published = published.as_ref().and_then(|cluster| cluster.status.as_ref());
    let (planes, datacenter) = (context.fleet.snapshot(), place(run));
    let members = members(&run.cluster, &planes, published);
    let read = futures::future::try_join(
        observe::jobs(&members, &planes),
        observe::limits(remote, &datacenter, context.fleet.now()),
    );
    let (mut jobs, limits) =
        read.await.map_err(|message| Outcome::NotNow(Reason::RestorePointsUnknown, message))?;
    let Some(claim) = context.claims.claim(claims::StartKind::Purge, &run.cluster) else {
        let message = "waits for a backup of the cluster that is being started".to_owned();
        return Err(Outcome::NotNow(Reason::BackupRunning, message));
    };
    // After the reads: a backup that ended meanwhile is in the views or in the list.
    let planes = context.fleet.snapshot();
    add_begun(&mut jobs, &members, &planes);
    let now = context.fleet.now();
    let (backups, clusters) =
        (by_name(context.published.backups.state()), by_name(context.published.clusters.state()));
    let points = points(&run.cluster, &planes, &backups, &clusters, now);
    let runs = context.runs.state();
    let facts =
        Facts { planes: &planes, cluster: published, points: &points, runs: &runs, jobs: &jobs, limits };
    let point = decide(run, &facts, now)?;
    Ok(Admitted { medusa_backup: part_of(points.get(&point), run), keeps: Some(point), claim: Some(claim) })
}
