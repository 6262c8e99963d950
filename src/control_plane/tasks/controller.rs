//! FleetTasks in the frame of all runs: what wakes them, what they read besides the data planes, and the clearing up
//! after them.

use std::{collections::BTreeSet, sync::Arc};

use futures::future::join_all;
use kube::{Api, api::ListParams, core::PartialObjectMeta};
use tokio_util::sync::CancellationToken;

use super::{
    admit::{TaskContext, admit},
    sweep::leftovers,
    traces::outlived,
};
use crate::{
    api::{
        fleet::{FleetBackupJob, FleetBackupStatus, FleetOperation, FleetTask},
        medusa::{MedusaBackupJob, MedusaTask},
    },
    control_plane::{
        data_planes::{fleet::Snapshot, remote::Remote, watched::Kind},
        identity::uid_of,
        runs::{
            Engine, Frame, RunContext, Runs,
            child::{Child, ExactObject},
            drive,
            engine::{adapter::Admitted, plan::Action},
            outcome::Outcome,
            write::delete,
        },
    },
    runtime::follow::follow,
};

impl Engine for TaskContext {
    type Run = FleetTask;

    const CHILDREN: Kind = Kind::Tasks;

    /// What a purge waits for is looked at again by time.
    const FOLLOWED: &'static [Kind] = &[Kind::Datacenters];

    async fn admit(&self, task: &FleetTask, action: &Action, remote: &Remote) -> Result<Admitted, Outcome> {
        match task.spec.operation {
            FleetOperation::Sync => Ok(Admitted::default()),
            FleetOperation::Purge => admit(self, remote, action).await,
        }
    }
}

/// Runs until `shutdown`.
pub async fn run(context: RunContext, shutdown: CancellationToken) {
    let (runs, keep_runs) = follow(context.client.clone(), &context.namespace);
    let engine = TaskContext {
        fleet: context.fleet.clone(),
        claims: context.claims.clone(),
        published: context.published.clone(),
        runs,
    };
    let (frame, feed) = Frame::new(context);
    let tasks = Arc::new(Runs::new(frame, engine));
    tokio::select! {
        () = keep_runs => {}
        () = sweep(&tasks.frame, &tasks.engine) => {}
        () = drive(tasks.clone(), feed, shutdown) => {}
    }
}

/// Takes back, again and again, the purges that no FleetTask goes on with, and deletes what was kept for purges to know
/// of and none has to any more. Of an object that another leader's watch showed a moment ago this one may not know yet:
/// what there is to do is looked up once more.
async fn sweep(frame: &Frame<FleetTask>, engine: &TaskContext) {
    let context = &frame.context;
    let mut changes = context.fleet.changes();
    loop {
        if !frame.next_sweep(&mut changes).await {
            continue;
        }
        let (planes, now, known) = (context.fleet.snapshot(), context.fleet.now(), frame.objects.state());
        sweep_traces(context, engine, &planes).await;
        let known = known.iter().map(AsRef::as_ref);
        if leftovers(&planes, known, &context.control_plane, now).is_empty() {
            continue;
        }
        let Ok(listed) = frame.api().list(&ListParams::default()).await else { continue };
        let left = leftovers(&planes, &listed, &context.control_plane, now);
        join_all(
            left.iter()
                .map(|left| take_back::<MedusaTask>(left, &planes, "a purge that nobody had begun with")),
        )
        .await;
    }
}

/// The part of [`sweep`] about MedusaBackupJobs.
async fn sweep_traces(context: &RunContext, engine: &TaskContext, planes: &[Snapshot]) {
    if !engine.runs.is_listed() || !engine.published.backups.is_listed() {
        return;
    }
    let backups = engine.published.backups.state();
    let points: Vec<&FleetBackupStatus> =
        backups.iter().filter_map(|backup| backup.status.as_ref()).collect();
    let found = |runs: &BTreeSet<String>| outlived(planes, runs, &points, &context.control_plane);
    if found(&engine.runs.state().iter().filter_map(|run| Some(uid_of(run.as_ref())?.to_owned())).collect())
        .is_empty()
    {
        return;
    }
    let runs =
        Api::<PartialObjectMeta<FleetBackupJob>>::namespaced(context.client.clone(), &context.namespace);
    let Ok(listed) = runs.list(&ListParams::default()).await else { return };
    let left = found(&listed.iter().filter_map(|run| Some(uid_of(run)?.to_owned())).collect());
    join_all(
        left.iter().map(|left| take_back::<MedusaBackupJob>(left, planes, "a trace of a failed backup")),
    )
    .await;
}

/// Deletes one in exactly the version that was seen; what does not succeed is found again.
async fn take_back<C: Child>(object: &ExactObject, planes: &[Snapshot], what: &str) {
    let ExactObject { data_plane, key, .. } = object;
    let plane = planes.iter().find(|plane| plane.name == *data_plane);
    let Some(remote) = plane.and_then(|plane| plane.remote.as_ref()) else { return };
    match delete::<C>(remote, object).await {
        Ok(()) => tracing::info!(data_plane, object = %key, "took back {what}"),
        Err(error) => tracing::debug!(data_plane, object = %key, %error, "take back {what}"),
    }
}
