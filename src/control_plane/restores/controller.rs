//! Reconciles FleetRestoreJobs. Changes in the data planes only wake it up; it is the one writer of the
//! status, and writes it only over the version it decided on.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use kube::{ResourceExt as _, api::ListParams, core::DeserializeGuard, runtime::controller::Action as Next};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    apply::{apply, clear},
    events::tell,
    execute::fold,
    machine::{RestoreWrite, has_begun, pass},
    observe::observe,
    plan::RestoreInputs,
    resolve::Clusters,
    summarize::executing,
    sweep::leftovers,
};
use crate::{
    api::fleet::{FleetRestoreJob, FleetRestoreJobStatus, Phase},
    control_plane::{
        data_planes::{fleet::Snapshot, published::Published, watched::Kind},
        runs::{
            AdvanceError, Driver, ENROL_WAIT, Frame, PUBLISH_EVERY, RunContext,
            child::ExactObject,
            drive, publish,
            takeover::{OF_RUNS, take_over},
        },
    },
    runtime::{remembered::Remembered, sync::lock},
};

/// Pause between two looks at what the checks wait for.
const CHECK_AGAIN: Duration = Duration::from_secs(3);
/// Pause between two looks at a restore that goes on, besides being woken.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

struct Restores {
    frame: Frame<FleetRestoreJob>,
    /// When a job's status was last written.
    published: Mutex<Remembered<String, Instant>>,
    /// When what a job's checks need was last read.
    observed: Mutex<Remembered<String, Instant>>,
}

/// Runs until `shutdown`.
pub async fn run(context: RunContext, shutdown: CancellationToken) {
    let (frame, feed) = Frame::new(context);
    let restores = Arc::new(Restores { frame, published: Mutex::default(), observed: Mutex::default() });
    tokio::select! {
        () = restores.sweep() => {}
        () = drive(restores.clone(), feed, shutdown) => {}
    }
}

impl Driver for Restores {
    type Run = FleetRestoreJob;

    const ASKS: bool = true;

    fn frame(&self) -> &Frame<FleetRestoreJob> {
        &self.frame
    }

    /// There are few restores, and most changes may be what one waits for.
    const FOLLOWED: &'static [Kind] = &[Kind::Datacenters, Kind::Restores, Kind::Tasks];

    async fn look(&self, job: &FleetRestoreJob) -> Result<Next, AdvanceError> {
        let Published { backups, clusters } = &self.frame.context.published;
        if backups.listed().await && clusters.listed().await {
            self.step(job).await
        } else {
            Ok(Next::requeue(ENROL_WAIT))
        }
    }

    fn forget(&self, name: &str) {
        lock(&self.published).forget(&name.to_owned());
        lock(&self.observed).forget(&name.to_owned());
    }
}

impl Restores {
    async fn step(&self, job: &FleetRestoreJob) -> Result<Next, AdvanceError> {
        let old = job.status.clone().unwrap_or_default();
        if old.checked_time.is_none()
            && let Some(wait) = self.read_lately(job)
        {
            return Ok(Next::requeue(wait));
        }
        let planes = self.frame.context.fleet.snapshot();
        // Also of a data plane that answers late: what it shows may be under way since before the loss.
        if !has_begun(&old) && !job.spec.dry_run {
            let restores = planes.iter().flat_map(|plane| plane.view.restores.last_known().values());
            let (children, frame) = (restores.map(|restore| &restore.metadata), &self.frame);
            let is_known = |uid: &str| frame.knows(uid);
            let taken = take_over(&frame.context, job, &planes, OF_RUNS, children, is_known).await;
            if let Some(next) = taken.map_err(AdvanceError::TakeOver)?.next() {
                return Ok(next);
            }
        }
        let published = &self.frame.context.published;
        let clusters: Clusters = published
            .clusters
            .state()
            .iter()
            .map(|c| (c.name_any(), c.status.clone().unwrap_or_default()))
            .collect();
        let backup = job.spec.backup.as_deref().and_then(|name| published.backups.get(name)?.status.clone());
        let rivals = self.rivals(&old).await?;
        let mut inputs = RestoreInputs {
            job,
            planes: &planes,
            backup: backup.as_ref(),
            clusters: &clusters,
            rivals: &rivals,
            observed: &super::checks::Observed::default(),
            control_plane: &self.frame.context.control_plane,
            now: self.frame.context.fleet.now(),
        };
        let observed;
        if !has_begun(&old) {
            observed = observe(&inputs.resolve().targets, &planes).await;
            inputs.observed = &observed;
        }
        let decided = pass(&inputs);
        let mut status = decided.status;
        if !decided.actions.is_empty() {
            self.act(job, decided.actions, &planes, &mut status).await?;
        }
        self.publish(job, &old, status).await
    }

    /// How long the reads for a job's checks have to wait: a fleet in which much happens must not cause them all the time. `None`
    /// when they may begin now, which is noted.
    fn read_lately(&self, job: &FleetRestoreJob) -> Option<Duration> {
        let (name, uid) = (job.name_any(), job.uid().unwrap_or_default());
        let mut observed = lock(&self.observed);
        let wait = observed.get(&name, &uid).map(|at| PUBLISH_EVERY.saturating_sub(at.elapsed()));
        if wait.is_none_or(|wait| wait.is_zero()) {
            observed.set(name, &uid, Instant::now());
            return None;
        }
        wait
    }

    /// The other FleetRestoreJobs: once our own plan is published as good they are read anew, so that of two
    /// that were published at the same time at least one sees the other.
    async fn rivals(&self, old: &FleetRestoreJobStatus) -> Result<Vec<FleetRestoreJob>, AdvanceError> {
        if old.checked_time.is_none() || has_begun(old) {
            return Ok(self.all());
        }
        self.read_all().await.map_err(AdvanceError::Read)
    }

    /// Every FleetRestoreJob; of one that cannot be read, its metadata.
    fn all(&self) -> Vec<FleetRestoreJob> {
        self.frame.objects.state().iter().map(|job| readable(job)).collect()
    }

    /// The same, read anew.
    async fn read_all(&self) -> Result<Vec<FleetRestoreJob>, kube::Error> {
        Ok(self.frame.api().list(&ListParams::default()).await?.iter().map(readable).collect())
    }

    /// Writes in the data planes what the published status allows. The job is read once more before: a
    /// leader that was asleep must not begin again what another has finished.
    async fn act(
        &self,
        job: &FleetRestoreJob,
        actions: Vec<RestoreWrite>,
        planes: &[Snapshot],
        status: &mut FleetRestoreJobStatus,
    ) -> Result<(), AdvanceError> {
        let now = self.frame.api().get_metadata_opt(&job.name_any()).await.map_err(AdvanceError::Read)?;
        if now.is_none_or(|now| now.metadata.resource_version != job.metadata.resource_version) {
            return Ok(());
        }
        for (data_plane, key, outcome) in apply(actions, planes, &self.frame.context.fleet).await {
            fold(status, &data_plane, &key, outcome);
        }
        if has_begun(status) {
            let runs = std::mem::take(&mut status.datacenters);
            *status = executing(job, status, runs, self.frame.context.fleet.now());
        }
        Ok(())
    }

    async fn publish(
        &self,
        job: &FleetRestoreJob,
        old: &FleetRestoreJobStatus,
        status: FleetRestoreJobStatus,
    ) -> Result<Next, AdvanceError> {
        let (name, uid) = (job.name_any(), job.uid().unwrap_or_default());
        let again = if has_begun(&status) { LOOK_AGAIN } else { CHECK_AGAIN };
        let is_over = status.phase.is_some_and(Phase::is_final);
        let next = if is_over { Next::await_change() } else { Next::requeue(again) };
        if *old == status {
            self.frame.succeeded(&name);
            return Ok(next);
        }
        if !is_step(old, &status)
            && let Some(last) = lock(&self.published).get(&name, &uid)
        {
            let wait = PUBLISH_EVERY.saturating_sub(last.elapsed());
            if !wait.is_zero() {
                return Ok(Next::requeue(wait));
            }
        }
        let context = &self.frame.context;
        let written = publish(&context.client, job, &status).await;
        if written.map_err(AdvanceError::Publish)?.is_none() {
            return Ok(Next::requeue(ENROL_WAIT));
        }
        self.frame.succeeded(&name);
        lock(&self.published).set(name, &uid, Instant::now());
        tell(&context.events, job, old, &status);
        Ok(next)
    }

    /// Clears away what has done its work, whenever something changed. Of a job that another leader made a moment
    /// ago the watch may not know yet: what there is to do is looked up once more.
    async fn sweep(&self) {
        let mut changes = self.frame.context.fleet.changes();
        loop {
            if !self.frame.next_sweep(&mut changes).await {
                continue;
            }
            let planes = self.frame.context.fleet.snapshot();
            let control_plane = &self.frame.context.control_plane;
            if leftovers(&planes, &self.all(), control_plane).is_empty() {
                continue;
            }
            let Ok(jobs) = self.read_all().await else { continue };
            let left = leftovers(&planes, &jobs, control_plane);
            futures::future::join_all(left.into_iter().filter_map(|(object, chore)| {
                let remote = planes.iter().find(|p| p.name == object.data_plane)?.remote.clone()?;
                Some(async move {
                    if let Err(error) = clear(&object, chore, &remote).await {
                        let ExactObject { data_plane, key, .. } = object;
                        tracing::debug!(data_plane, object = %key, %error, "clear what is done");
                    }
                })
            }))
            .await;
        }
    }
}

fn readable(job: &DeserializeGuard<FleetRestoreJob>) -> FleetRestoreJob {
    match &job.0 {
        Ok(job) => job.clone(),
        Err(invalid) => FleetRestoreJob { metadata: invalid.metadata.clone(), ..FleetRestoreJob::default() },
    }
}

/// Whether more than words changed: such a status is written at once.
fn is_step(old: &FleetRestoreJobStatus, new: &FleetRestoreJobStatus) -> bool {
    let bare = |status: &FleetRestoreJobStatus| {
        let runs: Vec<_> =
            status.datacenters.iter().map(|r| (r.phase, r.job.clone(), r.job_uid.clone())).collect();
        (status.phase, status.checked_time.clone(), runs)
    };
    bare(old) != bare(new)
}
