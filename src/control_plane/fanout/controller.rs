//! Reconciles FleetBackupJobs. Changes in the data planes only wake it up; it is the one writer of the
//! status.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use kube::{
    Api, Client, ResourceExt as _,
    core::DeserializeGuard,
    runtime::{
        Controller, WatchStreamExt as _,
        controller::Action as Next,
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use thiserror::Error;
use tokio::{
    sync::{broadcast, mpsc},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{
    desk::{Desk, Trigger},
    expiry,
    load::Buckets,
    pass::{self, Memory},
    publish,
    select::ClusterLabels,
};
use crate::{
    api::{
        fleet::{FleetBackupJob, FleetBackupJobStatus, FleetCluster, FleetRestoreJob, Phase},
        labels, names,
    },
    control_plane::{
        fleet::{Change, Fleet},
        restores::active_clusters,
    },
    runtime::{backoff::Backoff, clock, events::Events},
};

/// First and longest pause before a status that could not be written is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How long the first listing of the FleetRestoreJobs is awaited.
const RESTORES_LISTED: Duration = Duration::from_secs(2);
/// Pause while the registry enrols the data planes after a start.
const ENROL_WAIT: Duration = Duration::from_millis(200);

type Job = DeserializeGuard<FleetBackupJob>;

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

pub(super) struct Fanout {
    pub(super) context: FanoutContext,
    pub(super) desk: Arc<Desk>,
    pub(super) jobs: Store<Job>,
    clusters: Store<FleetCluster>,
    restores: Store<DeserializeGuard<FleetRestoreJob>>,
    /// What is remembered of the runs that go on, by name.
    runs: Mutex<BTreeMap<String, Memory>>,
    /// Names of the runs that go on, by the label of their children.
    index: Arc<Index>,
    backoff: Mutex<Backoff<String>>,
}

/// Finds the runs a change in a data plane is about without looking at all of them.
#[derive(Default)]
struct Index(Mutex<BTreeMap<String, BTreeSet<String>>>);

impl Index {
    fn add(&self, name: &str) {
        lock(&self.0).entry(names::label_value(name)).or_default().insert(name.to_owned());
    }

    fn remove(&self, name: &str) {
        let label = names::label_value(name);
        let mut index = lock(&self.0);
        if let Some(names) = index.get_mut(&label) {
            names.remove(name);
            if names.is_empty() {
                index.remove(&label);
            }
        }
    }

    /// The runs with this label on their children; all that go on without one.
    fn find(&self, label: Option<&str>) -> Vec<String> {
        let index = lock(&self.0);
        match label {
            Some(label) => index.get(label).into_iter().flatten().cloned().collect(),
            None => index.values().flatten().cloned().collect(),
        }
    }
}

#[derive(Debug, Error)]
pub(super) enum FanoutError {
    #[error("write status of FleetBackupJob `{name}`: {error}")]
    Publish { name: String, error: kube::Error },
    #[error("delete FleetBackupJob `{name}`, whose time is over: {error}")]
    Expire { name: String, error: kube::Error },
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
    let (restores, writer) = reflector::store();
    let restore_api: Api<DeserializeGuard<FleetRestoreJob>> =
        Api::namespaced(context.client.clone(), &context.namespace);
    let mut restore_events = watcher(restore_api, watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .touched_objects()
        .boxed();
    let api: Api<Job> = Api::namespaced(context.client.clone(), &context.namespace);
    let controller = Controller::new(api, watcher::Config::default());
    let (trigger, triggered) = mpsc::channel(1024);
    let index = Arc::new(Index::default());
    let forward = forward(context.fleet.changes(), index.clone(), context.namespace.clone(), trigger.clone());
    // A run that waits for the end of a restore has to hear of it.
    let (waiting, wake, namespace) = (index.clone(), trigger.clone(), context.namespace.clone());
    let restored = async move {
        while restore_events.next().await.is_some() {
            for name in waiting.find(None) {
                let _ = wake.send(ObjectRef::new(&name).within(&namespace)).await;
            }
        }
    };
    let fanout = Arc::new(Fanout {
        desk: Arc::new(Desk::new(context.fleet.clone(), trigger)),
        jobs: controller.store(),
        context,
        clusters,
        restores,
        runs: Mutex::default(),
        index,
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
        () = restored => {}
        () = async { while cluster_events.next().await.is_some() {} } => {}
        () = run => {}
    }
}

/// Wakes the runs a change is about.
async fn forward(
    mut changes: broadcast::Receiver<Change>,
    index: Arc<Index>,
    namespace: String,
    trigger: Trigger,
) {
    loop {
        let about = match changes.recv().await {
            Ok(Change::Job { job, .. }) => index.find(Some(&job)),
            Ok(Change::Contact(_) | Change::Datacenters(_) | Change::Restore { .. })
            | Err(broadcast::error::RecvError::Lagged(_)) => index.find(None),
            Ok(_) => continue,
            Err(broadcast::error::RecvError::Closed) => return,
        };
        for name in about {
            let _ = trigger.send(ObjectRef::new(&name).within(&namespace)).await;
        }
    }
}

fn error_policy(job: Arc<Job>, error: &FanoutError, fanout: Arc<Fanout>) -> Next {
    tracing::warn!(job = job.name_any(), %error, "fleet backup job");
    Next::requeue(lock(&fanout.backoff).failed(&job.name_any()))
}

async fn reconcile(job: Arc<Job>, fanout: Arc<Fanout>) -> Result<Next, FanoutError> {
    let job = match &job.0 {
        Ok(job) => job,
        Err(error) => {
            tracing::warn!(job = job.name_any(), %error, "FleetBackupJob cannot be read");
            return Ok(Next::await_change());
        }
    };
    if job.metadata.deletion_timestamp.is_some() {
        fanout.forget(job);
        return Ok(Next::await_change());
    }
    if labels::is_held(job.finalizers()) {
        return Ok(Next::await_change()); // Its schedule lets it go, or takes it back (ADR 13).
    }
    if !fanout.context.fleet.is_enrolled() {
        return Ok(Next::requeue(ENROL_WAIT));
    }
    if let Some(status) = job.status.as_ref().filter(|s| s.phase.is_some_and(Phase::is_final)) {
        fanout.forget(job);
        return fanout.expire(job, status).await;
    }
    // Where the definition is missing there are none, and what a data plane restores is seen there.
    let _ = tokio::time::timeout(RESTORES_LISTED, fanout.restores.wait_until_ready()).await;
    fanout.index.add(&job.name_any());
    let memory = fanout.recall(job);
    let done = pass::pass(&fanout, job, memory).await;
    let (memory, wake) = done;
    fanout.publish(job, memory, wake).await
}

impl Fanout {
    pub(super) fn cluster_labels(&self) -> ClusterLabels {
        self.clusters.state().iter().map(|c| (c.name_any(), c.labels().clone())).collect()
    }

    /// Clusters with a FleetRestoreJob that has not ended, and what their backups wait for.
    pub(super) fn restoring(&self) -> BTreeMap<String, String> {
        let jobs = self.restores.state();
        let active = active_clusters(jobs.iter().filter_map(|job| job.0.as_ref().ok()));
        let told = |(cluster, job)| (cluster, format!("waits for the end of FleetRestoreJob `{job}`"));
        active.into_iter().map(told).collect()
    }

    pub(super) fn buckets(&self) -> Buckets {
        let clusters = self.clusters.state();
        Buckets::of_clusters(clusters.iter().map(AsRef::as_ref))
    }

    /// What is known about a run: from its last pass, or from its status when this process has not seen it.
    fn recall(&self, job: &FleetBackupJob) -> Memory {
        let uid = job.uid().unwrap_or_default();
        let remembered = lock(&self.runs).remove(&job.name_any());
        remembered.filter(|memory| memory.uid == uid).unwrap_or_else(|| {
            let status = job.status.clone().unwrap_or_default();
            Memory { uid, written: status.clone(), status, ..Memory::default() }
        })
    }

    fn forget(&self, job: &FleetBackupJob) {
        let name = job.name_any();
        self.index.remove(&name);
        lock(&self.runs).remove(&name);
        lock(&self.backoff).succeeded(&name);
        self.desk.forget(job.metadata.uid.as_deref().unwrap_or_default());
    }

    async fn expire(&self, job: &FleetBackupJob, status: &FleetBackupJobStatus) -> Result<Next, FanoutError> {
        let Some(at) = expiry::expires_at(job, status) else { return Ok(Next::await_change()) };
        let overdue = clock::now().duration_since(at);
        if let Ok(wait @ 1..) = u64::try_from(-overdue.as_millis()) {
            return Ok(Next::requeue(Duration::from_millis(wait)));
        }
        let planes = self.context.fleet.snapshot();
        let context = &self.context;
        let again = expiry::expire(&context.client, &context.events, job, status, &planes, overdue).await;
        let name = job.name_any();
        Ok(again
            .map_err(|error| FanoutError::Expire { name, error })?
            .map_or_else(Next::await_change, Next::requeue))
    }

    /// Writes the status when it says something new and its time has come, and keeps what has to be remembered.
    async fn publish(
        &self,
        job: &FleetBackupJob,
        mut memory: Memory,
        wake: Option<Duration>,
    ) -> Result<Next, FanoutError> {
        let name = job.name_any();
        let next = |wake: Option<Duration>| wake.map_or_else(Next::await_change, Next::requeue);
        if memory.status == memory.written {
            lock(&self.runs).insert(name, memory);
            return Ok(next(wake));
        }
        let is_final = memory.status.phase.is_some_and(Phase::is_final);
        if let Some((at, bytes)) = memory.paced.filter(|_| !is_final) {
            let wait = publish::pace(bytes).saturating_sub(at.elapsed());
            if !wait.is_zero() {
                lock(&self.runs).insert(name, memory);
                return Ok(next(Some(wake.map_or(wait, |wake| wake.min(wait)))));
            }
        }
        let written = publish::write(&self.context.client, job, &memory.status).await;
        if let Ok(Some(bytes)) = &written {
            publish::tell(&self.context.events, job, &memory.written, &memory.status);
            memory.written = memory.status.clone();
            memory.paced = Some((Instant::now(), *bytes));
            lock(&self.backoff).succeeded(&name);
        }
        // Deleted, or deleted and made anew, while it was written: the next event says which.
        if !matches!(written, Ok(None)) {
            lock(&self.runs).insert(name.clone(), memory);
        }
        written.map(|_| next(wake)).map_err(|error| FanoutError::Publish { name, error })
    }
}
