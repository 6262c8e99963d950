//! FleetTasks in the frame of all runs: what wakes them, and what they read besides the data planes.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Outcome, pass, starts::Kit};
use crate::{
    api::fleet::{FleetOperation, FleetTask, FleetTaskStatus},
    control_plane::{
        fleet::Change,
        runs::{About, Engine, Frame, Memory, RunContext, Runs, Words, drive},
    },
    runtime::follow::follow,
};

/// What a task is decided by besides the data planes.
pub(super) struct Tasks {
    pub(super) kit: Arc<Kit>,
}

impl Engine for Tasks {
    type Run = FleetTask;
    type Outcome = Outcome;

    fn about(change: Change) -> About {
        match change {
            Change::Task { job, .. } => About::Run(job),
            Change::Contact(_) | Change::Datacenters(_) => About::Everybody,
            // What a purge waits for is looked at again by time.
            Change::Job { .. }
            | Change::Backups(_)
            | Change::Copies(_)
            | Change::Schedules(_)
            | Change::ScheduledRuns(_)
            | Change::Restore { .. }
            | Change::ConfigMaps(_) => About::Nobody,
        }
    }

    fn words(task: &FleetTask) -> Words {
        match task.spec.operation {
            FleetOperation::Sync => Words { action: "Sync", begun: Some("sync of") },
            FleetOperation::Purge => Words { action: "Purge", begun: Some("purge of") },
        }
    }

    async fn pass(
        runs: &Runs<Self>,
        task: &FleetTask,
        memory: &mut Memory<FleetTaskStatus>,
    ) -> Option<Duration> {
        pass::pass(runs, task, memory)
    }
}

/// Runs until `shutdown`.
pub async fn run(context: RunContext, shutdown: CancellationToken) {
    let (clusters, keep_clusters) = follow(context.client.clone(), &context.namespace);
    let (backups, keep_backups) = follow(context.client.clone(), &context.namespace);
    let (runs, keep_runs) = follow(context.client.clone(), &context.namespace);
    let kit = Kit {
        fleet: context.fleet.clone(),
        control_plane: context.control_plane.clone(),
        claims: context.claims.clone(),
        clusters,
        backups,
        runs,
    };
    let (frame, feed) = Frame::new(context);
    let tasks = Arc::new(Runs::new(frame, Tasks { kit: Arc::new(kit) }));
    tokio::select! {
        () = keep_clusters => {}
        () = keep_backups => {}
        () = keep_runs => {}
        () = drive(tasks, feed, shutdown) => {}
    }
}
