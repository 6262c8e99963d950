//! The reads and writes of tasks. They go on in the background, so that a data plane that hangs holds up nothing but its
//! own part.

use std::sync::Arc;

use kube::{ResourceExt as _, core::DeserializeGuard, runtime::reflector::Store};

use super::{
    Outcome,
    child::{child, keeping},
    gate::{Facts, Gate, add_begun, decide, members, points},
    observe,
    plan::{Action, Work},
};
use crate::{
    api::{
        Reason, Seen,
        fleet::{
            DatacenterRun, FleetBackup, FleetBackupDatacenter, FleetBackupJob, FleetBackupStatus,
            FleetCluster, FleetOperation, FleetTask,
        },
        medusa::{MedusaTask, TaskOperation},
    },
    control_plane::{
        data_planes::{
            fleet::{Fleet, Usable},
            remote::Remote,
        },
        inventory::survey::by_name,
        runs::{
            child::place,
            claims::{self, Claim, Claims},
            write::{Made, delete, make, not_now, show},
        },
    },
    runtime::follow::is_ready,
};

/// What the work needs.
pub(super) struct Kit {
    pub fleet: Arc<Fleet>,
    pub control_plane: String,
    pub claims: Arc<Claims>,
    pub clusters: Store<FleetCluster>,
    pub backups: Store<FleetBackup>,
    pub runs: Store<DeserializeGuard<FleetBackupJob>>,
}

impl Kit {
    /// What a purge must know and was not listed since the start. Without it a cluster's data planes that were not
    /// listed either are missed, and a backup that was made first. It is no silence of a data plane, so the policy for
    /// that has no say.
    fn unlisted(&self) -> Option<Gate> {
        let listed = [
            ("FleetClusters", is_ready(&self.clusters)),
            ("FleetBackups", is_ready(&self.backups)),
            ("FleetBackupJobs", is_ready(&self.runs)),
        ];
        let (what, _) = listed.into_iter().find(|(_, is_listed)| !is_listed)?;
        Some(Gate::Wait(Reason::Connecting, format!("waits for the first listing of the {what}")))
    }
}

/// Does one thing.
pub(super) async fn carry_out(kit: &Kit, task: &FleetTask, action: &Action) -> Outcome {
    let run = &action.run;
    let unusable = |why: &str| {
        let message = format!("data plane `{}` {why}", run.data_plane);
        Outcome::NotNow(Reason::DataPlaneNotReady, message)
    };
    let plane = kit.fleet.snapshot().into_iter().find(|p| p.name == run.data_plane);
    let Some(plane) = plane.filter(|p| p.usable == Usable::Ready) else {
        return unusable("is not ready");
    };
    let Some(remote) = plane.remote.clone() else { return unusable("cannot be asked") };
    let operation = match &action.work {
        Work::Withdraw { uid, resource_version } => {
            return match delete::<MedusaTask>(&remote, &action.key, uid, resource_version).await {
                Ok(()) => Outcome::Withdrawn,
                Err(error) => {
                    let (reason, message) = not_now(&error);
                    Outcome::NotNow(reason, message)
                }
            };
        }
        Work::FollowUp => TaskOperation::Sync,
        Work::Start => task.spec.operation.into(),
    };
    let (mut keeps, mut kept, mut claim) = (None, None, None);
    if action.work == Work::Start && task.spec.operation == FleetOperation::Purge {
        let Ruled { gate, part, claim: claimed } = purge_gate(kit, &remote, action).await;
        match gate {
            Gate::Open(point) => (keeps, kept, claim) = (Some(point), part, claimed),
            Gate::Wait(reason, message) => return Outcome::NotNow(reason, message),
            Gate::Shut(reason, message) => return Outcome::Shut(reason, message),
        }
    }
    if task.spec.run.is_dry_run() {
        return Outcome::Would(keeps);
    }
    let datacenter = match plane.view.seen(&plane.view.datacenters, &place(run)) {
        Seen::Known(datacenter) => datacenter,
        Seen::Absent => {
            let message = format!("CassandraDatacenter {} does not exist any more", place(run));
            return Outcome::Shut(Reason::DatacenterNotFound, message);
        }
        Seen::Unknown { why, .. } => return Outcome::NotNow(Reason::WatchesStale, why),
    };
    let wanted = child(task, action.key.clone(), operation, datacenter, &kit.control_plane);
    let wanted = keeping(wanted, kept);
    let made = match make(&remote, &wanted).await {
        Made::Ours(made) => {
            show(&kit.fleet, &run.data_plane, *made);
            Outcome::There(keeps)
        }
        Made::Foreign => Outcome::Conflict,
        Made::NotNow(reason, message) => Outcome::NotNow(reason, message),
    };
    // Backups see the child by now.
    drop(claim);
    made
}

/// A decision, the MedusaBackup of the restore point that stays, where the datacenter has one, and the claim that was made.
struct Ruled {
    gate: Gate,
    part: Option<String>,
    claim: Option<Claim>,
}

impl From<Gate> for Ruled {
    fn from(gate: Gate) -> Self {
        Self { gate, part: None, claim: None }
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
async fn purge_gate(kit: &Kit, remote: &Remote, action: &Action) -> Ruled {
    if let Some(gate) = kit.unlisted() {
        return gate.into();
    }
    let run = &action.run;
    let published = kit.clusters.state().into_iter().find(|c| c.name_any() == run.cluster);
    let published = published.as_ref().and_then(|cluster| cluster.status.as_ref());
    let (planes, datacenter) = (kit.fleet.snapshot(), place(run));
    let members = members(&run.cluster, &planes, published);
    let read = futures::future::try_join(
        observe::jobs(&members, &planes),
        observe::limits(remote, &datacenter, kit.fleet.now()),
    );
    let (mut jobs, limits) = match read.await {
        Ok(read) => read,
        Err(message) => return Gate::Wait(Reason::RestorePointsUnknown, message).into(),
    };
    let Some(claim) = kit.claims.claim(claims::Work::Purge, &run.cluster) else {
        let message = "waits for a backup of the cluster that is being started".to_owned();
        return Gate::Wait(Reason::BackupRunning, message).into();
    };
    // After the reads: a backup that ended meanwhile is in the views or in the list.
    let planes = kit.fleet.snapshot();
    add_begun(&mut jobs, &members, &planes);
    let now = kit.fleet.now();
    let (backups, clusters) = (by_name(kit.backups.state()), by_name(kit.clusters.state()));
    let points = points(&run.cluster, &planes, &backups, &clusters, now);
    let runs = kit.runs.state();
    let facts =
        Facts { planes: &planes, cluster: published, points: &points, runs: &runs, jobs: &jobs, limits };
    let gate = decide(run, &facts, now);
    let part = match &gate {
        Gate::Open(point) => part_of(points.get(point), run),
        Gate::Wait(..) | Gate::Shut(..) => None,
    };
    Ruled { gate, part, claim: Some(claim) }
}

#[cfg(test)]
mod tests {
    use kube::runtime::{reflector, watcher::Event};

    use super::*;

    #[test]
    fn a_purge_waits_for_each_of_the_first_listings() {
        let (clusters, mut list_clusters) = reflector::store();
        let (backups, mut list_backups) = reflector::store();
        let (runs, mut list_runs) = reflector::store();
        let kit = Kit {
            fleet: Arc::default(),
            control_plane: "cp".to_owned(),
            claims: Arc::default(),
            clusters,
            backups,
            runs,
        };
        let awaited = || match kit.unlisted() {
            Some(Gate::Wait(Reason::Connecting, message)) => message,
            other => format!("{other:?}"),
        };
        assert!(awaited().ends_with("FleetClusters"), "{}", awaited());
        list_clusters.apply_watcher_event(&Event::InitDone);
        assert!(awaited().ends_with("FleetBackups"), "{}", awaited());
        list_backups.apply_watcher_event(&Event::InitDone);
        assert!(awaited().ends_with("FleetBackupJobs"), "{}", awaited());
        list_runs.apply_watcher_event(&Event::InitDone);
        assert_eq!(kit.unlisted(), None);
    }
}
