//! FleetBackupJobs in the frame of all runs: what wakes them, and what they read besides the data planes.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{Resource as _, core::DeserializeGuard};
use tokio_util::sync::CancellationToken;

use super::holds::{abandoned, holds};
use crate::{
    api::{
        Reason,
        fleet::{FleetBackupJob, FleetRestoreJob, FleetTask},
    },
    control_plane::{
        data_planes::{fleet::Snapshot, meters::Meters, watched::Kind},
        runs::{
            Engine, Frame, RunContext, Runs,
            active_restores::active_clusters,
            claims::{self, Claim},
            drive,
            engine::plan::Action,
            holds::Holds,
        },
    },
    runtime::follow::{Cache, follow, news},
};

/// How long the first listing of the FleetRestoreJobs is awaited.
const LISTED: Duration = Duration::from_secs(2);

/// What a backup run is decided by besides the data planes.
struct Fanout {
    restores: Cache<DeserializeGuard<FleetRestoreJob>>,
    tasks: Cache<DeserializeGuard<FleetTask>>,
}

impl Engine for Fanout {
    type Run = FleetBackupJob;

    const CHILDREN: Kind = Kind::Jobs;
    const FOLLOWED: &'static [Kind] = &[Kind::Datacenters, Kind::Restores];

    /// Where the definition of a kind is missing there are none, and what a data plane restores is seen there.
    async fn ready(&self) {
        let listed = futures::future::join(self.restores.listed(), self.tasks.listed());
        let _ = tokio::time::timeout(LISTED, listed).await;
    }

    /// What waits, as the FleetRestoreJobs, the FleetTasks and the data planes show it.
    fn holds(&self, context: &RunContext, planes: &[Snapshot], now: Timestamp) -> Holds {
        let tasks = self.tasks.state();
        let tasks = tasks.iter().filter_map(|task| task.0.as_ref().ok());
        let mut holds = holds(planes, &context.control_plane, tasks, now);
        let jobs = self.restores.state();
        let active = active_clusters(jobs.iter().filter_map(|job| job.0.as_ref().ok()));
        for (cluster, job) in active {
            let why = format!("waits for the end of FleetRestoreJob `{job}`");
            holds.insert(cluster, (Reason::RestoreInProgress, why));
        }
        holds
    }

    /// Leaves out what a purge was quicker with: it may have been made since the plan looked.
    fn claim(
        &self,
        context: &RunContext,
        job: &FleetBackupJob,
        planes: &[Snapshot],
        actions: Vec<Action>,
    ) -> Vec<(Action, Option<Claim>)> {
        if actions.is_empty() {
            return Vec::new();
        }
        let claim = |action: &Action| context.claims.claim(claims::StartKind::Backup, &action.entry.cluster);
        let claimed = actions.into_iter().filter_map(|action| claim(&action).map(|c| (action, Some(c))));
        // Every cluster is claimed before the last look, so that a purge that starts in this moment is seen, or sees the
        // claim.
        let claimed: Vec<(Action, Option<Claim>)> = claimed.collect();
        let now = context.fleet.now();
        let holds = self.holds(context, &context.fleet.snapshot(), now);
        let is_free = |Action { entry, .. }: &Action| holds.of(&entry.cluster, &entry.data_plane).is_none();
        let free: Vec<_> = claimed.into_iter().filter(|(action, _)| is_free(action)).collect();
        // Says which purges the run does not wait for any more.
        let abandoned = abandoned(planes, now);
        let clusters: BTreeSet<&String> = free.iter().map(|(action, _)| &action.entry.cluster).collect();
        for why in clusters.into_iter().filter_map(|cluster| abandoned.get(cluster)) {
            context.events.warning(job.object_ref(&()), Reason::PurgeAbandoned, "Backup", why);
        }
        free
    }

    fn fanned_out(meters: &Meters, took: Duration) {
        meters.fanned_out(took);
    }
}

/// Runs until `shutdown`.
pub async fn run(context: RunContext, shutdown: CancellationToken) {
    let (restores, restored) = news(context.client.clone(), &context.namespace);
    let (tasks, keep_tasks) = follow(context.client.clone(), &context.namespace);
    let (frame, feed) = Frame::new(context);
    let waker = frame.waker.clone();
    let runs = Arc::new(Runs::new(frame, Fanout { restores, tasks }));
    tokio::select! {
        // A run that waits for the end of a restore has to hear of it.
        () = waker.wake_on(restored) => {}
        () = keep_tasks => {}
        () = drive(runs, feed, shutdown) => {}
    }
}
