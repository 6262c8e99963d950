//! Reconciles FleetBackupJobs. Changes in the data planes only wake it up; it is the one writer of the
//! status.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use jiff::Timestamp;
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
    core::DeserializeGuard,
    runtime::{
        Controller, WatchStreamExt as _,
        controller::Action as Next,
        reflector::{self, ObjectRef, Store},
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
    apply::{self, Outcome, Outcomes},
    plan::{child_key, plan},
    rollup,
    select::{ClusterLabels, select},
};
use crate::{
    api::{
        Reason,
        fleet::{DatacenterRun, FleetBackupJob, FleetBackupJobStatus, FleetCluster, Phase},
        labels, names,
    },
    control_plane::{
        fleet::{Change, Fleet, Snapshot},
        view::ObjectKey,
    },
    runtime::{backoff::Backoff, clock, events::Events},
};

/// Least time between two status writes of a run that goes on.
const PUBLISH_EVERY: Duration = Duration::from_millis(500);
/// First and longest pause before a child that could not be made is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Pause between two looks at a child that finished and whose MedusaBackup is awaited.
const AWAIT_BACKUP: Duration = Duration::from_secs(5);
/// Pause while the registry enrols the data planes after a start.
const ENROL_WAIT: Duration = Duration::from_millis(200);

/// What fan-out needs.
pub struct FanoutContext {
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

struct Fanout {
    context: FanoutContext,
    clusters: Store<FleetCluster>,
    /// When a run's status was last written.
    published: Mutex<HashMap<String, Instant>>,
    /// Since when a child has been seen finished, by data plane and child.
    finished: Mutex<HashMap<(String, ObjectKey), Timestamp>>,
    backoff: Mutex<Backoff<String>>,
}

#[derive(Debug, Error)]
enum FanoutError {
    #[error("write status of FleetBackupJob `{name}`: {error}")]
    Publish { name: String, error: kube::Error },
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs until `shutdown`.
pub async fn run(context: FanoutContext, shutdown: CancellationToken) {
    let (clusters, writer) = reflector::store();
    let cluster_api: Api<FleetCluster> = Api::namespaced(context.client.clone(), &context.namespace);
    let mut cluster_events = watcher(cluster_api, watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .touched_objects()
        .boxed();
    let api: Api<DeserializeGuard<FleetBackupJob>> =
        Api::namespaced(context.client.clone(), &context.namespace);
    let controller = Controller::new(api, watcher::Config::default());
    let jobs = controller.store();
    let (trigger, triggered) = mpsc::channel(1024);
    let forward = forward(context.fleet.changes(), jobs, trigger);
    let fanout = Arc::new(Fanout {
        context,
        clusters,
        published: Mutex::default(),
        finished: Mutex::default(),
        backoff: Mutex::new(Backoff::new(RETRY.0, RETRY.1)),
    });
    let run = controller
        .with_config(kube::runtime::controller::Config::default().concurrency(32))
        .reconcile_on(ReceiverStream::new(triggered))
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(reconcile, error_policy, fanout)
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(%error, "fleet backup job reconcile");
            }
        });
    tokio::select! {
        () = forward => {}
        () = async { while cluster_events.next().await.is_some() {} } => {}
        () = run => {}
    }
}

/// Wakes the runs a change is about.
async fn forward(
    mut changes: broadcast::Receiver<Change>,
    jobs: Store<DeserializeGuard<FleetBackupJob>>,
    trigger: mpsc::Sender<ObjectRef<DeserializeGuard<FleetBackupJob>>>,
) {
    loop {
        let one = match changes.recv().await {
            Ok(Change::Job { job, .. }) => Some(job),
            Ok(Change::Contact(_) | Change::Datacenters(_)) | Err(broadcast::error::RecvError::Lagged(_)) => {
                None
            }
            Ok(_) => continue,
            Err(broadcast::error::RecvError::Closed) => return,
        };
        for job in jobs.state() {
            let about = one.as_ref().is_none_or(|one| names::label_value(&job.name_any()) == *one);
            if about && !is_decided(&job) {
                let _ = trigger.send(ObjectRef::from_obj(&*job)).await;
            }
        }
    }
}

fn is_decided(job: &DeserializeGuard<FleetBackupJob>) -> bool {
    let status = job.0.as_ref().ok().and_then(|job| job.status.as_ref());
    status.is_some_and(|s| s.phase.is_some_and(Phase::is_final))
}

fn error_policy(
    job: Arc<DeserializeGuard<FleetBackupJob>>,
    error: &FanoutError,
    fanout: Arc<Fanout>,
) -> Next {
    tracing::warn!(job = job.name_any(), %error, "fleet backup job");
    Next::requeue(lock(&fanout.backoff).failed(&job.name_any()))
}

async fn reconcile(
    job: Arc<DeserializeGuard<FleetBackupJob>>,
    fanout: Arc<Fanout>,
) -> Result<Next, FanoutError> {
    let job = match &job.0 {
        Ok(job) => job,
        Err(error) => {
            tracing::warn!(job = job.name_any(), %error, "FleetBackupJob cannot be read");
            return Ok(Next::await_change());
        }
    };
    let old = job.status.clone().unwrap_or_default();
    if job.metadata.deletion_timestamp.is_some() || old.phase.is_some_and(Phase::is_final) {
        fanout.forget(job);
        return Ok(Next::await_change());
    }
    if !fanout.context.fleet.is_enrolled() {
        return Ok(Next::requeue(ENROL_WAIT));
    }
    let planes = fanout.context.fleet.snapshot();
    let selector = job.spec.selector.clone().unwrap_or_default();
    let chosen = match select(&selector, &planes, &fanout.cluster_labels(), &old.datacenters) {
        Ok(chosen) => chosen,
        Err(invalid) => {
            let status = rollup::summarize(job, Vec::new(), Some(&invalid.0), clock::now());
            return fanout.publish(job, &old, status, None).await;
        }
    };
    let actions = plan(job, &chosen, &planes, &fanout.context.control_plane);
    let outcomes = apply::apply(actions, &planes, &fanout.context.fleet).await;
    let planes = fanout.context.fleet.snapshot();
    let now = clock::now();
    fanout.note_finished(job, &chosen, &planes, now);
    let finished = lock(&fanout.finished).clone();
    let since = |plane: &str, key: &ObjectKey| finished.get(&(plane.to_owned(), key.clone())).copied();
    let entries = rollup::entries(job, &chosen, &planes, &outcomes, since, now);
    let status = rollup::summarize(job, entries, None, now);
    let retry = fanout.retry_after(job, &outcomes, &status);
    fanout.publish(job, &old, status, retry).await
}

impl Fanout {
    fn cluster_labels(&self) -> ClusterLabels {
        self.clusters.state().iter().map(|c| (c.name_any(), c.labels().clone())).collect()
    }

    fn forget(&self, job: &FleetBackupJob) {
        let name = job.name_any();
        lock(&self.published).remove(&name);
        lock(&self.backoff).succeeded(&name);
        let entries = job.status.iter().flat_map(|s| &s.datacenters);
        let mut finished = lock(&self.finished);
        for entry in entries {
            finished.remove(&(entry.data_plane.clone(), child_key(job, entry)));
        }
    }

    /// Remembers since when children have been seen finished, by our own clock: the data planes' clocks
    /// may differ from it.
    fn note_finished(
        &self,
        job: &FleetBackupJob,
        entries: &[DatacenterRun],
        planes: &[Snapshot],
        now: Timestamp,
    ) {
        let mut finished = lock(&self.finished);
        for entry in entries {
            let key = child_key(job, entry);
            let done = planes
                .iter()
                .find(|p| p.name == entry.data_plane)
                .and_then(|p| p.view.jobs.items.get(&key))
                .is_some_and(|child| child.status.as_ref().is_some_and(|s| s.finish_time.is_some()));
            if done {
                finished.entry((entry.data_plane.clone(), key)).or_insert(now);
            }
        }
    }

    /// When to look again without being woken.
    fn retry_after(
        &self,
        job: &FleetBackupJob,
        outcomes: &Outcomes,
        status: &FleetBackupJobStatus,
    ) -> Option<Duration> {
        let name = job.name_any();
        if outcomes.values().any(|o| matches!(o, Outcome::NotNow(..))) {
            return Some(lock(&self.backoff).failed(&name));
        }
        lock(&self.backoff).succeeded(&name);
        let awaits = Reason::AwaitingMedusaBackup.as_str();
        status.datacenters.iter().any(|e| e.reason.as_deref() == Some(awaits)).then_some(AWAIT_BACKUP)
    }

    async fn publish(
        &self,
        job: &FleetBackupJob,
        old: &FleetBackupJobStatus,
        status: FleetBackupJobStatus,
        retry: Option<Duration>,
    ) -> Result<Next, FanoutError> {
        let next = retry.map_or_else(Next::await_change, Next::requeue);
        if *old == status {
            return Ok(next);
        }
        let name = job.name_any();
        let is_final = status.phase.is_some_and(Phase::is_final);
        if !is_final && let Some(last) = lock(&self.published).get(&name) {
            let wait = PUBLISH_EVERY.saturating_sub(last.elapsed());
            if !wait.is_zero() {
                return Ok(Next::requeue(retry.map_or(wait, |r| r.min(wait))));
            }
        }
        let api: Api<FleetBackupJob> = Api::namespaced(self.context.client.clone(), &self.context.namespace);
        let body = json!({
            "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetBackupJob",
            "metadata": {"name": name, "uid": job.uid()}, "status": status,
        });
        let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE).force();
        match api.patch_status(&name, &params, &Patch::Apply(&body)).await {
            Ok(_) => {}
            // Deleted, or deleted and made anew: the next event says which.
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => {
                return Ok(Next::await_change());
            }
            Err(error) => return Err(FanoutError::Publish { name, error }),
        }
        lock(&self.published).insert(name, Instant::now());
        self.tell(job, old, &status);
        Ok(next)
    }

    fn tell(&self, job: &FleetBackupJob, old: &FleetBackupJobStatus, new: &FleetBackupJobStatus) {
        let about = job.object_ref(&());
        let events = &self.context.events;
        if old.start_time.is_none() && !new.datacenters.is_empty() {
            let note = format!("backing up {} datacenters", new.datacenters.len());
            events.normal(about.clone(), Reason::Running, "Backup", note);
        }
        for entry in &new.datacenters {
            let before = old.datacenters.iter().find(|e| {
                (&e.data_plane, &e.namespace, &e.datacenter)
                    == (&entry.data_plane, &entry.namespace, &entry.datacenter)
            });
            let failed_now = entry.phase == Phase::Failed && before.is_none_or(|b| b.phase != Phase::Failed);
            if failed_now {
                let note = format!(
                    "{}/{}/{}: {}",
                    entry.data_plane,
                    entry.namespace,
                    entry.datacenter,
                    entry.message.as_deref().unwrap_or("failed")
                );
                events.warning(about.clone(), Reason::Failed, "Backup", note);
            }
        }
        let Some(phase) = new.phase.filter(|p| p.is_final()) else { return };
        let note = new
            .conditions
            .iter()
            .find(|c| c.type_ == "Complete")
            .map(|c| c.message.clone())
            .unwrap_or_default();
        match phase {
            Phase::Succeeded => events.normal(about, Reason::Succeeded, "Backup", note),
            Phase::PartiallyFailed => events.warning(about, Reason::PartiallyFailed, "Backup", note),
            Phase::Failed | Phase::Cancelled | Phase::Skipped | Phase::Pending | Phase::Running => {
                events.warning(about, Reason::Failed, "Backup", note);
            }
        }
    }
}
