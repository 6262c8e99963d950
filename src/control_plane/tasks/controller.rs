//! FleetTasks in the frame of all runs: what wakes them, what they read besides the data planes, and the clearing up
//! after them.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use kube::api::ListParams;
use tokio_util::sync::CancellationToken;

use super::{
    Outcome, pass,
    starts::Kit,
    sweep::{Leftover, leftovers},
};
use crate::{
    api::{
        fleet::{FleetOperation, FleetTask, FleetTaskStatus},
        medusa::MedusaTask,
    },
    control_plane::{
        fleet::{Change, Snapshot},
        runs::{About, Engine, Frame, Memory, RunContext, Runs, Words, drive, write::delete},
    },
    runtime::{clock, follow::follow},
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
        () = sweep(&tasks.frame) => {}
        () = drive(tasks.clone(), feed, shutdown) => {}
    }
}

/// Takes back, again and again, the purges that no FleetTask goes on with. Of a FleetTask that another leader's watch
/// showed a moment ago this one may not know yet: what there is to do is looked up once more.
async fn sweep(frame: &Frame<FleetTask>) {
    let context = &frame.context;
    let mut changes = context.fleet.changes();
    loop {
        if !frame.next_sweep(&mut changes).await {
            continue;
        }
        let (planes, now, known) = (context.fleet.snapshot(), clock::now(), frame.objects.state());
        let known = known.iter().map(AsRef::as_ref);
        if leftovers(&planes, known, &context.control_plane, now).is_empty() {
            continue;
        }
        let Ok(listed) = frame.api().list(&ListParams::default()).await else { continue };
        let left = leftovers(&planes, &listed, &context.control_plane, now);
        join_all(left.iter().map(|left| take_back(left, &planes))).await;
    }
}

/// Deletes one in exactly the version that was seen; what does not succeed is found again.
async fn take_back(left: &Leftover, planes: &[Snapshot]) {
    let Leftover { data_plane, key, uid, version } = left;
    let plane = planes.iter().find(|plane| plane.name == *data_plane);
    let Some(remote) = plane.and_then(|plane| plane.remote.as_ref()) else { return };
    match delete::<MedusaTask>(remote, key, uid, Some(version)).await {
        Ok(()) => tracing::info!(data_plane, object = %key, "took back a purge that nobody had begun with"),
        Err(error) => tracing::debug!(data_plane, object = %key, %error, "take back a purge"),
    }
}
