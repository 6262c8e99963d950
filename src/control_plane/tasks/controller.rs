//! Reconciles FleetTasks. Changes in the data planes only wake it up; it is the one writer of the status.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
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
    Scene,
    advance::{advance, missed_at, times_out_at, withdrawn_at},
    child::{child_key, sync_key},
    ending::{end, gives_up_at, went_on},
    plan::{Action, UnderWay, load, repairs, starts},
    rollup::summarize,
    starts::{Child, Kit, Starts, carry_out, clean_up},
    telling::tell,
};
use crate::{
    api::{
        Reason,
        fleet::{DatacenterRun, DatacenterTask, FleetTask, FleetTaskStatus, Phase},
        labels, names,
    },
    control_plane::{
        fanout::{
            judge::GRACE,
            load::Buckets,
            rollup::finish,
            select::{ClusterLabels, select},
        },
        fleet::{Change, Fleet, Snapshot},
        view::ObjectKey,
    },
    runtime::{backoff::Backoff, clock, events::Events, follow::follow},
};

/// Least time between two status writes of a task that goes on.
const PUBLISH_EVERY: Duration = Duration::from_millis(500);
/// First and longest pause before a status is written again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Pause while the registry enrols the data planes after a start.
const ENROL_WAIT: Duration = Duration::from_millis(200);
/// Pause before the objects of a task that is over are deleted again.
const CLEAN_AGAIN: Duration = Duration::from_secs(30);
/// How long a data plane that does not answer holds up the deletion of a task that is over.
const CLEAN_GRACE: SignedDuration = SignedDuration::from_hours(24);

/// What tasks need.
pub struct TasksContext {
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

type Guarded = DeserializeGuard<FleetTask>;

struct Tasks {
    context: TasksContext,
    kit: Arc<Kit>,
    starts: Arc<Starts>,
    /// Held while turns are given, so that two tasks do not both take the last place.
    turns: Mutex<()>,
    /// When a task's status was last written.
    published: Mutex<HashMap<String, Instant>>,
    /// Since when a child has been seen finished, by our own clock: the data planes' may differ from it.
    finished: Mutex<HashMap<Child, Timestamp>>,
    backoff: Mutex<Backoff<String>>,
    trigger: mpsc::Sender<ObjectRef<Guarded>>,
}

#[derive(Debug, Error)]
enum TaskError {
    #[error("write status of FleetTask `{name}`: {error}")]
    Publish { name: String, error: kube::Error },
    #[error("delete FleetTask `{name}`: {error}")]
    Delete { name: String, error: kube::Error },
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs until `shutdown`.
pub async fn run(context: TasksContext, shutdown: CancellationToken) {
    let (clusters, keep_clusters) = follow(context.client.clone(), &context.namespace);
    let (backups, keep_backups) = follow(context.client.clone(), &context.namespace);
    let (runs, keep_runs) = follow(context.client.clone(), &context.namespace);
    let api: Api<Guarded> = Api::namespaced(context.client.clone(), &context.namespace);
    let controller = Controller::new(api, watcher::Config::default());
    let tasks = controller.store();
    let (trigger, triggered) = mpsc::channel(1024);
    let forward = forward(context.fleet.changes(), tasks, trigger.clone());
    let kit = Kit {
        fleet: context.fleet.clone(),
        control_plane: context.control_plane.clone(),
        clusters,
        backups,
        runs,
    };
    let state = Arc::new(Tasks {
        context,
        kit: Arc::new(kit),
        starts: Arc::default(),
        turns: Mutex::default(),
        published: Mutex::default(),
        finished: Mutex::default(),
        backoff: Mutex::new(Backoff::new(RETRY.0, RETRY.1)),
        trigger,
    });
    let run = controller
        .with_config(kube::runtime::controller::Config::default().concurrency(32))
        .reconcile_on(ReceiverStream::new(triggered))
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(reconcile, error_policy, state)
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(%error, "fleet task reconcile");
            }
        });
    tokio::select! {
        () = forward => {}
        () = keep_clusters => {}
        () = keep_backups => {}
        () = keep_runs => {}
        () = run => {}
    }
}

/// Wakes the tasks a change is about.
async fn forward(
    mut changes: broadcast::Receiver<Change>,
    tasks: Store<Guarded>,
    trigger: mpsc::Sender<ObjectRef<Guarded>>,
) {
    loop {
        let one = match changes.recv().await {
            Ok(Change::Task { job, .. }) => Some(job),
            Ok(Change::Contact(_) | Change::Datacenters(_)) | Err(broadcast::error::RecvError::Lagged(_)) => {
                None
            }
            // What a purge waits for is looked at again by time.
            Ok(_) => continue,
            Err(broadcast::error::RecvError::Closed) => return,
        };
        for task in tasks.state() {
            let about = one.as_ref().is_none_or(|one| names::label_value(&task.name_any()) == *one);
            if about && !is_over(&task) {
                let _ = trigger.send(ObjectRef::from_obj(&*task)).await;
            }
        }
    }
}

fn is_over(task: &Guarded) -> bool {
    let status = task.0.as_ref().ok().and_then(|task| task.status.as_ref());
    status.is_some_and(|s| s.phase.is_some_and(Phase::is_final))
}

fn error_policy(task: Arc<Guarded>, error: &TaskError, tasks: Arc<Tasks>) -> Next {
    tracing::warn!(task = task.name_any(), %error, "fleet task");
    Next::requeue(lock(&tasks.backoff).failed(&task.name_any()))
}

async fn reconcile(guarded: Arc<Guarded>, tasks: Arc<Tasks>) -> Result<Next, TaskError> {
    let task = match &guarded.0 {
        Ok(task) => task,
        Err(error) => {
            tracing::warn!(task = guarded.name_any(), %error, "FleetTask cannot be read");
            return Ok(Next::await_change());
        }
    };
    let old = task.status.clone().unwrap_or_default();
    if task.metadata.deletion_timestamp.is_some() || old.phase.is_some_and(Phase::is_final) {
        tasks.forget(task);
        return if task.metadata.deletion_timestamp.is_some() {
            Ok(Next::await_change())
        } else {
            tasks.expire(task, &old).await
        };
    }
    if labels::is_held(task.finalizers()) {
        return Ok(Next::await_change()); // Its schedule lets it go, or takes it back (ADR 13).
    }
    if !tasks.context.fleet.is_enrolled() {
        return Ok(Next::requeue(ENROL_WAIT));
    }
    let planes = tasks.context.fleet.snapshot();
    let now = clock::now();
    let scene = Scene {
        task,
        planes: planes.iter().map(|p| (p.name.as_str(), p)).collect(),
        begun: old.start_time.as_ref().map_or(now, |t| t.0),
        now,
    };
    let mut entries = match tasks.select(task, &old, &planes) {
        Ok(entries) => entries,
        Err(message) => {
            let status = summarize(&scene, Vec::new(), now, Some(&message));
            return tasks.publish(task, &old, status, None).await;
        }
    };
    tasks.note_finished(&scene, &entries);
    let finished = lock(&tasks.finished).clone();
    let since = |plane: &str, key: &ObjectKey| finished.get(&(plane.to_owned(), key.clone())).copied();
    let outcomes = tasks.starts.outcomes();
    let outcome = |plane: &str, key: &ObjectKey| outcomes.get(&(plane.to_owned(), key.clone()));
    for entry in entries.iter_mut().filter(|entry| !entry.run.phase.is_final()) {
        let made = child_key(task, &entry.run, entry.run.attempts());
        // What is being taken back is gone from the view before its outcome is known.
        if entry.run.attempts() > 0 && tasks.starts.is_under_way(&entry.run.data_plane, &made) {
            continue;
        }
        advance(&scene, entry, &outcome, &since);
        if entry.run.phase.is_final() {
            finish(&mut entry.run, now);
        }
    }
    let last = old.last_progress_time.as_ref().map_or(scene.begun, |t| t.0);
    let progress = if went_on(&old.datacenters, &entries) { now } else { last };
    let is_starting = |run: &DatacenterRun| {
        let next = child_key(task, run, run.attempts() + 1);
        tasks.starts.is_under_way(&run.data_plane, &next)
    };
    end(&scene, &mut entries, progress, is_starting);
    let is_busy = |plane: &str, key: &ObjectKey| tasks.starts.is_busy(plane, key);
    let clusters = tasks.kit.clusters.state();
    let buckets = Buckets::of_clusters(clusters.iter().map(AsRef::as_ref));
    let mut actions = repairs(&scene, &entries, since, is_busy);
    let wake = {
        let _turns = lock(&tasks.turns);
        let mut load = load(&scene, &entries, &buckets, &tasks.starts.under_way());
        let plan = starts(&scene, &mut entries, &buckets, &mut load, is_busy);
        actions.extend(plan.actions);
        tasks.begin(&guarded, task, actions, &buckets);
        plan.wake
    };
    let retry = tasks.next_look(&scene, &entries, wake, progress);
    let status = summarize(&scene, entries, progress, None);
    tasks.publish(task, &old, status, retry).await
}

impl Tasks {
    /// The entries of the task: what is selected, with what was known of it.
    fn select(
        &self,
        task: &FleetTask,
        old: &FleetTaskStatus,
        planes: &[Snapshot],
    ) -> Result<Vec<DatacenterTask>, String> {
        let labels: ClusterLabels =
            self.kit.clusters.state().iter().map(|c| (c.name_any(), c.labels().clone())).collect();
        let selector = task.spec.selector.clone().unwrap_or_default();
        let known: Vec<_> = old.datacenters.iter().map(|e| e.run.clone()).collect();
        let chosen = select(&selector, planes, &labels, &known).map_err(|invalid| invalid.0)?;
        let place =
            |run: &DatacenterRun| (run.data_plane.clone(), run.namespace.clone(), run.datacenter.clone());
        let mut before: BTreeMap<_, &DatacenterTask> =
            old.datacenters.iter().map(|entry| (place(&entry.run), entry)).collect();
        let entries = chosen.into_iter().map(|run| {
            let known = before.remove(&place(&run)).cloned().unwrap_or_default();
            DatacenterTask { run, ..known }
        });
        Ok(entries.collect())
    }

    /// Starts the actions in the background; each wakes the task when it is done.
    fn begin(&self, guarded: &Arc<Guarded>, task: &FleetTask, actions: Vec<Action>, buckets: &Buckets) {
        for action in actions {
            let child = (action.run.data_plane.clone(), action.key.clone());
            let start = UnderWay {
                task_uid: task.uid(),
                data_plane: action.run.data_plane.clone(),
                bucket: buckets.of(&action.run),
            };
            if !self.starts.begin(child.clone(), start) {
                continue;
            }
            let (kit, starts, trigger) = (self.kit.clone(), self.starts.clone(), self.trigger.clone());
            let (task, about) = (task.clone(), ObjectRef::from_obj(&**guarded));
            tokio::spawn(async move {
                let outcome = carry_out(&kit, &task, &action).await;
                starts.done(child, outcome);
                let _ = trigger.send(about).await;
            });
        }
    }

    /// Every child a task may have.
    fn children(task: &FleetTask) -> Vec<Child> {
        let entries = task.status.iter().flat_map(|s| &s.datacenters);
        let of = |entry: &DatacenterTask| {
            let keys = (1..=entry.run.attempts() + 1).map(|attempt| child_key(task, &entry.run, attempt));
            let all: Vec<ObjectKey> = keys.flat_map(|key| [sync_key(&key), key]).collect();
            all.into_iter().map(|key| (entry.run.data_plane.clone(), key)).collect::<Vec<Child>>()
        };
        entries.flat_map(of).collect()
    }

    fn forget(&self, task: &FleetTask) {
        let name = task.name_any();
        lock(&self.published).remove(&name);
        lock(&self.backoff).succeeded(&name);
        let children = Self::children(task);
        let mut finished = lock(&self.finished);
        for child in &children {
            finished.remove(child);
        }
        self.starts.forget(children);
    }

    fn note_finished(&self, scene: &Scene<'_>, entries: &[DatacenterTask]) {
        let mut finished = lock(&self.finished);
        for run in entries.iter().map(|e| &e.run).filter(|run| run.attempts() > 0) {
            let key = child_key(scene.task, run, run.attempts());
            let done = scene
                .planes
                .get(run.data_plane.as_str())
                .and_then(|p| p.view.tasks.items.get(&key))
                .is_some_and(|child| child.status.as_ref().is_some_and(|s| s.finish_time.is_some()));
            if done {
                finished.entry((run.data_plane.clone(), key)).or_insert(scene.now);
            }
        }
    }

    /// When to look again without being woken.
    fn next_look(
        &self,
        scene: &Scene<'_>,
        entries: &[DatacenterTask],
        wake: Option<Timestamp>,
        progress: Timestamp,
    ) -> Option<Duration> {
        let open = || entries.iter().map(|e| &e.run).filter(|run| !run.phase.is_final());
        let until = |at: Timestamp| Duration::try_from(at.duration_since(scene.now)).unwrap_or_default();
        let deadlines = open()
            .flat_map(|run| [times_out_at(scene, run), withdrawn_at(scene, run), missed_at(scene, run)])
            .flatten();
        let moments = deadlines.chain(wake).chain(gives_up_at(scene, entries, progress)).map(until);
        let awaits = |run: &&DatacenterRun| {
            let reason = run.reason.as_deref();
            reason == Some(Reason::AwaitingSync.as_str())
        };
        // By our own clock: it was seen finished in this moment at the latest.
        let syncs = open().any(|run| awaits(&run)).then(|| Duration::try_from(GRACE).unwrap_or_default());
        let is_full = open().any(|run| run.reason.as_deref() == Some(Reason::AwaitingTurn.as_str()));
        let children: Vec<Child> = open()
            .flat_map(|run| {
                let key = child_key(scene.task, run, run.attempts() + 1);
                let made = child_key(scene.task, run, run.attempts());
                [key, sync_key(&made), made].map(|key| (run.data_plane.clone(), key))
            })
            .collect();
        let shared = is_full.then_some(Duration::from_secs(5));
        let again = self.starts.next(&children);
        // A moment that has come is acted on by the next look, not in a loop.
        let soonest = moments.chain(syncs).chain(shared).chain(again).min()?;
        Some(soonest.max(Duration::from_millis(200)))
    }

    async fn publish(
        &self,
        task: &FleetTask,
        old: &FleetTaskStatus,
        status: FleetTaskStatus,
        retry: Option<Duration>,
    ) -> Result<Next, TaskError> {
        let next = retry.map_or_else(Next::await_change, Next::requeue);
        if *old == status {
            return Ok(next);
        }
        let name = task.name_any();
        let is_final = status.phase.is_some_and(Phase::is_final);
        if !is_final && let Some(last) = lock(&self.published).get(&name) {
            let wait = PUBLISH_EVERY.saturating_sub(last.elapsed());
            if !wait.is_zero() {
                return Ok(Next::requeue(retry.map_or(wait, |r| r.min(wait))));
            }
        }
        let api: Api<FleetTask> = Api::namespaced(self.context.client.clone(), &self.context.namespace);
        let body = json!({
            "apiVersion": FleetTask::api_version(&()), "kind": FleetTask::kind(&()),
            "metadata": {"name": name, "uid": task.uid()}, "status": status,
        });
        let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE).force();
        match api.patch_status(&name, &params, &Patch::Apply(&body)).await {
            Ok(_) => {}
            // Deleted, or deleted and made anew: the next event says which.
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => {
                return Ok(Next::await_change());
            }
            Err(error) => return Err(TaskError::Publish { name, error }),
        }
        lock(&self.published).insert(name, Instant::now());
        tell(&self.context.events, task, old, &status);
        Ok(next)
    }

    /// Deletes a task that is over and whose time has come, its MedusaTasks first.
    async fn expire(&self, task: &FleetTask, status: &FleetTaskStatus) -> Result<Next, TaskError> {
        let (Some(ttl), Some(end)) = (task.spec.ttl_seconds_after_finished, &status.finish_time) else {
            return Ok(Next::await_change());
        };
        let Ok(due) = end.0.checked_add(SignedDuration::from_secs(i64::from(ttl))) else {
            return Ok(Next::await_change());
        };
        let wait = due.duration_since(clock::now());
        if wait.is_positive() {
            return Ok(Next::requeue(Duration::try_from(wait).unwrap_or(CLEAN_AGAIN)));
        }
        if !self.context.fleet.is_enrolled() {
            return Ok(Next::requeue(ENROL_WAIT));
        }
        let left = clean_up(&self.context.fleet, task).await;
        let name = task.name_any();
        if !left.is_empty() {
            if wait.abs() < CLEAN_GRACE {
                return Ok(Next::requeue(CLEAN_AGAIN));
            }
            let note =
                format!("MedusaTasks stay behind in data planes that do not answer: {}", left.join(", "));
            self.context.events.warning(task.object_ref(&()), Reason::LeftBehind, "Delete", note);
        }
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: task.uid(), resource_version: None }),
            ..DeleteParams::default()
        };
        let api: Api<FleetTask> = Api::namespaced(self.context.client.clone(), &self.context.namespace);
        match api.delete(&name, &params).await {
            Ok(_) => Ok(Next::await_change()),
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(Next::await_change()),
            Err(error) => Err(TaskError::Delete { name, error }),
        }
    }
}
