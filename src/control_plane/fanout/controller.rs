//! FleetBackupJobs in the frame of all runs: what wakes them, what they read besides the data planes, and their writes.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{ResourceExt as _, core::DeserializeGuard, runtime::reflector::Store};
use tokio_util::sync::CancellationToken;

use super::{
    holds::{Holds, holds},
    pass,
    write::{Action, Outcome, Work},
};
use crate::{
    api::{
        Reason,
        fleet::{FleetBackupJob, FleetBackupJobStatus, FleetCluster, FleetRestoreJob, FleetTask},
        medusa::MedusaBackupJob,
    },
    control_plane::{
        data_planes::fleet::{Change, Fleet, Snapshot},
        runs::{
            About, Engine, Frame, Memory, RunContext, Runs,
            active_restores::active_clusters,
            buckets::Buckets,
            drive,
            select::ClusterLabels,
            write::{Made, delete, make, not_now, show},
        },
    },
    runtime::follow::{follow, follow_own, news},
};

/// How long the first listing of the FleetRestoreJobs is awaited.
const LISTED: Duration = Duration::from_secs(2);

/// What a backup run is decided by besides the data planes.
pub(super) struct Fanout {
    clusters: Store<FleetCluster>,
    restores: Store<DeserializeGuard<FleetRestoreJob>>,
    tasks: Store<DeserializeGuard<FleetTask>>,
    control_plane: String,
}

impl Fanout {
    pub(super) fn cluster_labels(&self) -> ClusterLabels {
        self.clusters.state().iter().map(|c| (c.name_any(), c.labels().clone())).collect()
    }

    /// What waits, as the FleetRestoreJobs, the FleetTasks and the data planes show it.
    pub(super) fn holds(&self, planes: &[Snapshot], now: Timestamp) -> Holds {
        let tasks = self.tasks.state();
        let tasks = tasks.iter().filter_map(|task| task.0.as_ref().ok());
        let mut holds = holds(planes, &self.control_plane, tasks, now);
        let jobs = self.restores.state();
        let active = active_clusters(jobs.iter().filter_map(|job| job.0.as_ref().ok()));
        for (cluster, job) in active {
            let why = format!("waits for the end of FleetRestoreJob `{job}`");
            holds.insert(cluster, (Reason::RestoreInProgress, why));
        }
        holds
    }

    pub(super) fn buckets(&self) -> Buckets {
        let clusters = self.clusters.state();
        Buckets::of_clusters(clusters.iter().map(AsRef::as_ref))
    }
}

impl Engine for Fanout {
    type Run = FleetBackupJob;
    type Outcome = Outcome;

    fn about(change: Change) -> About {
        match change {
            Change::Job { job, .. } => About::Run(job),
            Change::Contact(_) | Change::Datacenters(_) | Change::Restore { .. } => About::Everybody,
            Change::Backups(_)
            | Change::Copies(_)
            | Change::Schedules(_)
            | Change::ScheduledRuns(_)
            | Change::Task { .. }
            | Change::ConfigMaps(_) => About::Nobody,
        }
    }

    async fn pass(
        runs: &Runs<Self>,
        job: &FleetBackupJob,
        memory: &mut Memory<FleetBackupJobStatus>,
    ) -> Option<Duration> {
        // Where the definition is missing there are none, and what a data plane restores is seen there.
        let engine = &runs.engine;
        let listed =
            futures::future::join(engine.restores.wait_until_ready(), engine.tasks.wait_until_ready());
        let _ = tokio::time::timeout(LISTED, listed).await;
        pass::pass(runs, job, memory).await
    }
}

/// Runs until `shutdown`.
pub async fn run(context: RunContext, shutdown: CancellationToken) {
    let (clusters, keep_clusters) = follow_own(context.client.clone(), &context.namespace);
    let (restores, restored) = news(context.client.clone(), &context.namespace);
    let (tasks, keep_tasks) = follow(context.client.clone(), &context.namespace);
    let control_plane = context.control_plane.clone();
    let (frame, feed) = Frame::new(context);
    let waker = frame.waker.clone();
    let runs = Arc::new(Runs::new(frame, Fanout { clusters, restores, tasks, control_plane }));
    tokio::select! {
        // A run that waits for the end of a restore has to hear of it.
        () = waker.wake_on(restored) => {}
        () = keep_clusters => {}
        () = keep_tasks => {}
        () = drive(runs, feed, shutdown) => {}
    }
}

/// Does one write. What was made is put into the views at once.
pub(super) async fn carry_out(fleet: Arc<Fleet>, action: Action) -> Outcome {
    let Some(remote) = fleet.member(&action.data_plane).and_then(|member| member.remote) else {
        let message = format!("data plane `{}` cannot be asked", action.data_plane);
        return Outcome::NotNow(Reason::DataPlaneNotReady, message);
    };
    match &action.work {
        Work::Make(child) => match make(&remote, child.as_ref()).await {
            Made::Ours(made) => {
                show(&fleet, &action.data_plane, *made);
                Outcome::There
            }
            Made::Foreign => Outcome::Conflict,
            Made::NotNow(reason, message) => Outcome::NotNow(reason, message),
        },
        Work::Withdraw { uid, resource_version } => {
            match delete::<MedusaBackupJob>(&remote, &action.key, uid, resource_version).await {
                Ok(()) => Outcome::Withdrawn,
                Err(error) => {
                    let (reason, message) = not_now(&error);
                    Outcome::NotNow(reason, message)
                }
            }
        }
    }
}
