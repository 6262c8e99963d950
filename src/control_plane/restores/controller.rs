//! Reconciles FleetRestoreJobs. Changes in the data planes only wake it up; it is the one writer of the
//! status, and writes it only over the version it decided on.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
    core::DeserializeGuard,
    runtime::{
        Controller,
        controller::Action as Next,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use serde_json::json;
use thiserror::Error;
use tokio::{
    sync::{broadcast, mpsc},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{
    apply::{apply, clear},
    events::tell,
    execute::fold,
    machine::{Action, has_begun, pass},
    observe::observe,
    plan::Scene,
    resolve::Clusters,
    status::executing,
    sweep::leftovers,
};
use crate::{
    api::{
        fleet::{FleetBackup, FleetCluster, FleetRestoreJob, FleetRestoreJobStatus, Phase},
        labels,
    },
    control_plane::fleet::{Change, Fleet, Snapshot},
    runtime::{backoff::Backoff, clock, events::Events, follow::follow},
};

/// Least time between two status writes that change nothing but words.
const PUBLISH_EVERY: Duration = Duration::from_millis(500);
/// Pause between two looks at what the checks wait for.
const CHECK_AGAIN: Duration = Duration::from_secs(3);
/// Pause between two looks at a restore that goes on, besides being woken.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// First and longest pause before a write that failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// Pause while the registry enrols the data planes after a start.
const ENROL_WAIT: Duration = Duration::from_millis(200);

/// What restores need.
pub struct RestoreContext {
    /// The control plane's own cluster.
    pub client: Client,
    /// The controller's namespace.
    pub namespace: String,
    /// The data planes.
    pub fleet: Arc<Fleet>,
    /// Value of the control-plane label on the children.
    pub control_plane: String,
    /// Where Events go.
    pub events: Events,
}

struct Restores {
    context: RestoreContext,
    jobs: Store<DeserializeGuard<FleetRestoreJob>>,
    backups: Store<FleetBackup>,
    clusters: Store<FleetCluster>,
    /// When a job's status was last written.
    published: Mutex<HashMap<String, Instant>>,
    /// When what a job's checks need was last read.
    observed: Mutex<HashMap<String, Instant>>,
    backoff: Mutex<Backoff<String>>,
}

#[derive(Debug, Error)]
enum RestoreError {
    #[error("write status of FleetRestoreJob `{name}`: {error}")]
    Publish { name: String, error: kube::Error },
    #[error("read FleetRestoreJobs: {0}")]
    Read(kube::Error),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs until `shutdown`.
pub async fn run(context: RestoreContext, shutdown: CancellationToken) {
    let (backups, keep_backups) = follow::<FleetBackup>(context.client.clone(), &context.namespace);
    let (clusters, keep_clusters) = follow::<FleetCluster>(context.client.clone(), &context.namespace);
    let api: Api<DeserializeGuard<FleetRestoreJob>> =
        Api::namespaced(context.client.clone(), &context.namespace);
    let controller = Controller::new(api, watcher::Config::default());
    let jobs = controller.store();
    let (trigger, triggered) = mpsc::channel(256);
    let changes = context.fleet.changes();
    let restores = Arc::new(Restores {
        context,
        jobs: jobs.clone(),
        backups,
        clusters,
        published: Mutex::default(),
        observed: Mutex::default(),
        backoff: Mutex::new(Backoff::new(RETRY.0, RETRY.1)),
    });
    let run = controller
        .with_config(kube::runtime::controller::Config::default().concurrency(16))
        .reconcile_on(ReceiverStream::new(triggered))
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(reconcile, error_policy, restores.clone())
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(%error, "fleet restore job reconcile");
            }
        });
    tokio::select! {
        () = keep_backups => {}
        () = keep_clusters => {}
        () = forward(changes, jobs, trigger) => {}
        () = restores.sweep() => {}
        () = run => {}
    }
}

/// Wakes the restores that are not over: there are few, and most changes may be what one waits for.
async fn forward(
    mut changes: broadcast::Receiver<Change>,
    jobs: Store<DeserializeGuard<FleetRestoreJob>>,
    trigger: mpsc::Sender<ObjectRef<DeserializeGuard<FleetRestoreJob>>>,
) {
    loop {
        match changes.recv().await {
            Ok(
                Change::Contact(_) | Change::Datacenters(_) | Change::Restore { .. } | Change::Task { .. },
            )
            | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Ok(
                Change::Job { .. }
                | Change::Backups(_)
                | Change::Copies(_)
                | Change::Schedules(_)
                | Change::ConfigMaps(_),
            ) => continue,
            Err(broadcast::error::RecvError::Closed) => return,
        }
        for job in jobs.state() {
            let status = job.0.as_ref().ok().and_then(|job| job.status.as_ref());
            if !status.is_some_and(is_over) {
                let _ = trigger.send(ObjectRef::from_obj(&*job)).await;
            }
        }
    }
}

fn is_over(status: &FleetRestoreJobStatus) -> bool {
    status.phase.is_some_and(Phase::is_final)
}

fn error_policy(
    job: Arc<DeserializeGuard<FleetRestoreJob>>,
    error: &RestoreError,
    restores: Arc<Restores>,
) -> Next {
    tracing::warn!(job = job.name_any(), %error, "fleet restore job");
    Next::requeue(lock(&restores.backoff).failed(&job.name_any()))
}

async fn reconcile(
    job: Arc<DeserializeGuard<FleetRestoreJob>>,
    restores: Arc<Restores>,
) -> Result<Next, RestoreError> {
    let job = match &job.0 {
        Ok(job) => job,
        Err(error) => {
            tracing::warn!(job = job.name_any(), %error, "FleetRestoreJob cannot be read");
            return Ok(Next::await_change());
        }
    };
    if job.metadata.deletion_timestamp.is_some() || job.status.as_ref().is_some_and(is_over) {
        lock(&restores.published).remove(&job.name_any());
        lock(&restores.observed).remove(&job.name_any());
        lock(&restores.backoff).succeeded(&job.name_any());
        return Ok(Next::await_change());
    }
    let fleet = &restores.context.fleet;
    let is_known = restores.backups.wait_until_ready().await.is_ok()
        && restores.clusters.wait_until_ready().await.is_ok();
    if !is_known || !fleet.is_enrolled() {
        return Ok(Next::requeue(ENROL_WAIT));
    }
    restores.step(job).await
}

impl Restores {
    /// One pass over one job.
    async fn step(&self, job: &FleetRestoreJob) -> Result<Next, RestoreError> {
        let old = job.status.clone().unwrap_or_default();
        if old.checked_time.is_none()
            && let Some(wait) = self.read_lately(&job.name_any())
        {
            return Ok(Next::requeue(wait));
        }
        let planes = self.context.fleet.snapshot();
        let clusters: Clusters = self
            .clusters
            .state()
            .iter()
            .map(|c| (c.name_any(), c.status.clone().unwrap_or_default()))
            .collect();
        let backup = job.spec.backup.as_deref().and_then(|name| {
            self.backups.state().into_iter().find(|b| b.name_any() == name).and_then(|b| b.status.clone())
        });
        let rivals = self.rivals(&old).await?;
        let mut scene = Scene {
            job,
            planes: &planes,
            backup: backup.as_ref(),
            clusters: &clusters,
            rivals: &rivals,
            observed: &super::checks::Observed::default(),
            control_plane: &self.context.control_plane,
            now: clock::now(),
        };
        let observed;
        if !has_begun(&old) {
            observed = observe(&scene.resolve().targets, &planes).await;
            scene.observed = &observed;
        }
        let decided = pass(&scene);
        let mut status = decided.status;
        if !decided.actions.is_empty() {
            self.act(job, decided.actions, &planes, &mut status).await?;
        }
        self.publish(job, &old, status).await
    }

    /// How long the checks' reads have to wait, so that a lively fleet does not cause them without end.
    fn read_lately(&self, name: &str) -> Option<Duration> {
        let mut observed = lock(&self.observed);
        let wait = observed.get(name).map(|at| PUBLISH_EVERY.saturating_sub(at.elapsed()));
        if wait.is_none_or(|wait| wait.is_zero()) {
            observed.insert(name.to_owned(), Instant::now());
            return None;
        }
        wait
    }

    /// The other FleetRestoreJobs: once our own plan is published as good they are read anew, so that of two
    /// that were published at the same time at least one sees the other.
    async fn rivals(&self, old: &FleetRestoreJobStatus) -> Result<Vec<FleetRestoreJob>, RestoreError> {
        if old.checked_time.is_none() || has_begun(old) {
            return Ok(self.all());
        }
        self.read_all().await.map_err(RestoreError::Read)
    }

    /// Every FleetRestoreJob; of one that cannot be read, its metadata.
    fn all(&self) -> Vec<FleetRestoreJob> {
        self.jobs.state().iter().map(|job| readable(job)).collect()
    }

    /// The same, read anew.
    async fn read_all(&self) -> Result<Vec<FleetRestoreJob>, kube::Error> {
        let api: Api<DeserializeGuard<FleetRestoreJob>> =
            Api::namespaced(self.context.client.clone(), &self.context.namespace);
        Ok(api.list(&ListParams::default()).await?.iter().map(readable).collect())
    }

    /// Writes in the data planes what the published status allows. The job is read once more before: a
    /// leader that was asleep must not begin again what another has finished.
    async fn act(
        &self,
        job: &FleetRestoreJob,
        actions: Vec<Action>,
        planes: &[Snapshot],
        status: &mut FleetRestoreJobStatus,
    ) -> Result<(), RestoreError> {
        let api: Api<FleetRestoreJob> = Api::namespaced(self.context.client.clone(), &self.context.namespace);
        let now = api.get_metadata_opt(&job.name_any()).await.map_err(RestoreError::Read)?;
        if now.is_none_or(|now| now.metadata.resource_version != job.metadata.resource_version) {
            return Ok(());
        }
        for done in apply(actions, planes, &self.context.fleet).await {
            fold(status, &done.data_plane, &done.key, done.outcome);
        }
        if has_begun(status) {
            let runs = std::mem::take(&mut status.datacenters);
            *status = executing(job, status, runs, clock::now());
        }
        Ok(())
    }

    async fn publish(
        &self,
        job: &FleetRestoreJob,
        old: &FleetRestoreJobStatus,
        status: FleetRestoreJobStatus,
    ) -> Result<Next, RestoreError> {
        let name = job.name_any();
        let again = if has_begun(&status) { LOOK_AGAIN } else { CHECK_AGAIN };
        let next = if is_over(&status) { Next::await_change() } else { Next::requeue(again) };
        if *old == status {
            lock(&self.backoff).succeeded(&name);
            return Ok(next);
        }
        if !is_step(old, &status)
            && let Some(last) = lock(&self.published).get(&name)
        {
            let wait = PUBLISH_EVERY.saturating_sub(last.elapsed());
            if !wait.is_zero() {
                return Ok(Next::requeue(wait));
            }
        }
        let api: Api<FleetRestoreJob> = Api::namespaced(self.context.client.clone(), &self.context.namespace);
        let body = json!({
            "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetRestoreJob",
            "metadata": {"name": name, "uid": job.uid(), "resourceVersion": job.resource_version()},
            "status": status,
        });
        let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE).force();
        match api.patch_status(&name, &params, &Patch::Apply(&body)).await {
            Ok(_) => {}
            // Deleted, made anew, or changed since: the next event says which.
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => {
                return Ok(Next::requeue(ENROL_WAIT));
            }
            Err(error) => return Err(RestoreError::Publish { name, error }),
        }
        lock(&self.backoff).succeeded(&name);
        lock(&self.published).insert(name, Instant::now());
        tell(&self.context.events, job, old, &status);
        Ok(next)
    }

    /// Clears away what has done its work, whenever something changed. Of a job that another leader made a moment
    /// ago the watch may not know yet: what there is to do is looked up once more.
    async fn sweep(&self) {
        let mut changes = self.context.fleet.changes();
        loop {
            let _ = tokio::time::timeout(LOOK_AGAIN, changes.recv()).await;
            // What else changed meanwhile is looked at together.
            tokio::time::sleep(PUBLISH_EVERY).await;
            changes = changes.resubscribe();
            if !self.context.fleet.is_enrolled() || self.jobs.wait_until_ready().await.is_err() {
                continue;
            }
            let planes = self.context.fleet.snapshot();
            let control_plane = &self.context.control_plane;
            if leftovers(&planes, &self.all(), control_plane).is_empty() {
                continue;
            }
            let Ok(jobs) = self.read_all().await else { continue };
            let left = leftovers(&planes, &jobs, control_plane);
            futures::future::join_all(left.into_iter().filter_map(|left| {
                let remote = planes.iter().find(|p| p.name == left.data_plane)?.remote.clone()?;
                Some(async move {
                    let (data_plane, object) = (left.data_plane.clone(), left.key.clone());
                    if let Err(error) = clear(left, &remote).await {
                        tracing::debug!(data_plane, %object, %error, "clear what is done");
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
