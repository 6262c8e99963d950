//! The reads and writes of tasks. They go on in the background, so that a data plane that hangs holds up nothing
//! but its own part; what became of each is remembered until a reconcile has seen it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{DeleteParams, PostParams, Preconditions},
    runtime::reflector::Store,
};
use tokio::time::Instant;

use super::{
    Outcome,
    child::child,
    gate::{Facts, Gate, decide, members, points},
    observe,
    plan::{Action, UnderWay, Work},
};
use crate::{
    api::{
        Reason,
        fleet::{FleetBackup, FleetBackupJob, FleetCluster, FleetOperation, FleetTask},
        labels,
        medusa::{MedusaTask, TaskOperation},
    },
    control_plane::{
        fanout::child::place,
        fleet::{Fleet, Usable},
        inventory::survey::by_name,
        registry::remote::{CallError, Remote},
        view::ObjectKey,
    },
    runtime::clock,
};

/// Pause before what could not be done is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// Pause before a purge that has to wait is looked at again.
const WAITING: Duration = Duration::from_secs(5);

/// Child of a task: data plane and name.
pub(super) type Child = (String, ObjectKey);

enum State {
    UnderWay(UnderWay),
    Done(Outcome, Instant),
}

/// What is under way or was done, by child.
#[derive(Default)]
pub(super) struct Starts(Mutex<HashMap<Child, State>>);

impl Starts {
    fn lock(&self) -> MutexGuard<'_, HashMap<Child, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Outcomes so far, of every task.
    pub(super) fn outcomes(&self) -> HashMap<Child, Outcome> {
        let states = self.lock();
        let done = states.iter().filter_map(|(child, state)| match state {
            State::Done(outcome, _) => Some((child.clone(), outcome.clone())),
            State::UnderWay(_) => None,
        });
        done.collect()
    }

    /// What counts against limits.
    pub(super) fn under_way(&self) -> Vec<UnderWay> {
        let states = self.lock();
        let starting = states.values().filter_map(|state| match state {
            State::UnderWay(start) => Some(start.clone()),
            State::Done(..) => None,
        });
        starting.collect()
    }

    /// Whether work on a child is under way, or pauses.
    pub(super) fn is_busy(&self, data_plane: &str, key: &ObjectKey) -> bool {
        match self.lock().get(&(data_plane.to_owned(), key.clone())) {
            None => false,
            Some(State::UnderWay(_)) => true,
            Some(State::Done(outcome, at)) => pause(outcome).is_some_and(|pause| at.elapsed() < pause),
        }
    }

    /// Whether work on a child is under way.
    pub(super) fn is_under_way(&self, data_plane: &str, key: &ObjectKey) -> bool {
        matches!(self.lock().get(&(data_plane.to_owned(), key.clone())), Some(State::UnderWay(_)))
    }

    /// Claims a child; says whether nobody else has.
    pub(super) fn begin(&self, child: Child, start: UnderWay) -> bool {
        let mut states = self.lock();
        if matches!(states.get(&child), Some(State::UnderWay(_))) {
            return false;
        }
        states.insert(child, State::UnderWay(start));
        true
    }

    /// Notes what became of it.
    pub(super) fn done(&self, child: Child, outcome: Outcome) {
        self.lock().insert(child, State::Done(outcome, Instant::now()));
    }

    /// Forgets children.
    pub(super) fn forget(&self, children: impl IntoIterator<Item = Child>) {
        let mut states = self.lock();
        for child in children {
            states.remove(&child);
        }
    }

    /// When the first pause of those children ends.
    pub(super) fn next(&self, children: &[Child]) -> Option<Duration> {
        let states = self.lock();
        let pauses = children.iter().filter_map(|child| match states.get(child)? {
            State::Done(outcome, at) => Some(pause(outcome)?.saturating_sub(at.elapsed())),
            State::UnderWay(_) => None,
        });
        pauses.min()
    }
}

/// How long an outcome is left as it is; `None` when nothing follows from it.
fn pause(outcome: &Outcome) -> Option<Duration> {
    match outcome {
        Outcome::NotNow(
            Reason::BackupRunning | Reason::RestoreInProgress | Reason::RestorePointsUnknown,
            _,
        ) => Some(WAITING),
        Outcome::NotNow(..) => Some(AGAIN),
        Outcome::There(_)
        | Outcome::Would(_)
        | Outcome::Conflict
        | Outcome::Shut(..)
        | Outcome::Withdrawn => None,
    }
}

/// What the work needs.
pub(super) struct Kit {
    pub fleet: Arc<Fleet>,
    pub control_plane: String,
    pub clusters: Store<FleetCluster>,
    pub backups: Store<FleetBackup>,
    pub runs: Store<FleetBackupJob>,
}

/// Does one thing.
pub(super) async fn carry_out(kit: &Kit, task: &FleetTask, action: &Action) -> Outcome {
    let run = &action.run;
    let unusable = |why: &str| {
        let message = format!("data plane `{}` {why}", run.data_plane);
        Outcome::NotNow(Reason::DataPlaneNotReady, message)
    };
    let plane = kit.fleet.snapshot().into_iter().find(|p| p.name == run.data_plane);
    let Some(plane) = plane.filter(|p| p.usable == Usable::Ready) else {
        return unusable("is not ready");
    };
    let Some(remote) = plane.remote.clone() else { return unusable("cannot be asked") };
    let operation = match &action.work {
        Work::Withdraw { uid, resource_version } => {
            let (uid, resource_version) = (Some(uid.clone()), Some(resource_version.clone()));
            let deleted = delete(&remote, &action.key, Preconditions { uid, resource_version }).await;
            return deleted.map_or_else(|error| not_now(&error), |()| Outcome::Withdrawn);
        }
        Work::FollowUp => TaskOperation::Sync,
        Work::Start => task.spec.operation.into(),
    };
    let mut keeps = None;
    if action.work == Work::Start && task.spec.operation == FleetOperation::Purge {
        match purge_gate(kit, &remote, action).await {
            Gate::Open(point) => keeps = Some(point),
            Gate::Wait(reason, message) => return Outcome::NotNow(reason, message),
            Gate::Shut(reason, message) => return Outcome::Shut(reason, message),
        }
    }
    if task.spec.is_dry_run() {
        return Outcome::Would(keeps);
    }
    let Some(datacenter) = plane.view.datacenters.items.get(&place(run)) else {
        let message = format!("CassandraDatacenter {} does not exist any more", place(run));
        return Outcome::Shut(Reason::DatacenterNotFound, message);
    };
    let wanted = child(task, action.key.clone(), operation, datacenter, &kit.control_plane);
    match make(&remote, &wanted).await {
        Ok(made) => {
            if let Some(member) = kit.fleet.member(&run.data_plane) {
                member.view.update(|view| {
                    view.tasks.items.entry(action.key.clone()).or_insert_with(|| Arc::new(made));
                });
            }
            Outcome::There(keeps)
        }
        Err(outcome) => outcome,
    }
}

/// Reads what is known of the datacenter's cluster now, and decides.
async fn purge_gate(kit: &Kit, remote: &Remote, action: &Action) -> Gate {
    let run = &action.run;
    let published = kit.clusters.state().into_iter().find(|c| c.name_any() == run.cluster);
    let published = published.as_ref().and_then(|cluster| cluster.status.as_ref());
    let (planes, datacenter) = (kit.fleet.snapshot(), place(run));
    let members = members(&run.cluster, &planes, published);
    let read =
        futures::future::try_join(observe::jobs(&members, &planes), observe::limits(remote, &datacenter));
    let (jobs, limits) = match read.await {
        Ok(read) => read,
        Err(message) => return Gate::Wait(Reason::RestorePointsUnknown, message),
    };
    // After the reads: a backup that ended meanwhile is in the views or in the list.
    let planes = kit.fleet.snapshot();
    let now = clock::now();
    let (backups, clusters) = (by_name(kit.backups.state()), by_name(kit.clusters.state()));
    let points = points(&run.cluster, &planes, &backups, &clusters, now);
    let runs: Vec<FleetBackupJob> = kit.runs.state().iter().map(|run| (**run).clone()).collect();
    let facts =
        Facts { planes: &planes, cluster: published, points: &points, runs: &runs, jobs: &jobs, limits };
    decide(run, &facts, now)
}

async fn make(remote: &Remote, wanted: &MedusaTask) -> Result<MedusaTask, Outcome> {
    let namespace = wanted.namespace().unwrap_or_default();
    let api = |client: Client| Api::<MedusaTask>::namespaced(client, &namespace);
    let params =
        PostParams { field_manager: Some(labels::MANAGER_CONTROL_PLANE.to_owned()), ..PostParams::default() };
    let made = remote.call(|client| async { api(client).create(&params, wanted).await }).await;
    match made {
        Ok(made) => return Ok(made),
        Err(error) if error.code() != Some(409) => return Err(not_now(&error)),
        Err(_) => {}
    }
    // The name is in use: by our own child, made before a crash or by another leader, or by a stranger.
    match remote.call(|client| async { api(client).get_opt(&wanted.name_any()).await }).await {
        Ok(Some(found))
            if found.labels().get(labels::JOB_UID) == wanted.labels().get(labels::JOB_UID)
                && found.spec == wanted.spec =>
        {
            Ok(found)
        }
        Ok(Some(_)) => Err(Outcome::Conflict),
        Ok(None) => Err(Outcome::NotNow(Reason::Pending, "the name was in use a moment ago".to_owned())),
        Err(error) => Err(not_now(&error)),
    }
}

/// Deletes a child, if it is still what `preconditions` say.
async fn delete(remote: &Remote, key: &ObjectKey, preconditions: Preconditions) -> Result<(), CallError> {
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    let ObjectKey { namespace, name } = key;
    let deleted =
        remote
            .call(|client| async move {
                Api::<MedusaTask>::namespaced(client, namespace).delete(name, &params).await
            })
            .await;
    match deleted {
        Err(error) if error.code() != Some(404) => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn not_now(error: &CallError) -> Outcome {
    match error.status() {
        Some(status) => {
            Outcome::NotNow(Reason::WriteRefused, format!("the API server answered: {}", status.message))
        }
        None => Outcome::NotNow(Reason::DataPlaneUnreachable, error.to_string()),
    }
}

/// Deletes the MedusaTasks of a task that is over, follow-ups too, in the data planes that answer. Returns the data
/// planes whose own are left.
pub(super) async fn clean_up(fleet: &Fleet, task: &FleetTask) -> Vec<String> {
    let uid = task.meta().uid.as_ref();
    let mut left: Vec<String> = Vec::new();
    for plane in fleet.snapshot() {
        let remote = plane.remote.as_ref().filter(|_| plane.usable == Usable::Ready);
        let own = plane
            .view
            .tasks
            .items
            .iter()
            .filter(|(_, child)| uid.is_some() && child.labels().get(labels::JOB_UID) == uid);
        let mut gone = true;
        for (key, child) in own {
            let exact = Preconditions { uid: child.meta().uid.clone(), resource_version: None };
            gone &= match remote {
                // Another object of that name is none of ours.
                Some(remote) => {
                    delete(remote, key, exact).await.map_or_else(|e| e.code() == Some(409), |()| true)
                }
                None => false,
            };
        }
        let silent = remote.is_none()
            && task
                .status
                .iter()
                .flat_map(|s| &s.datacenters)
                .any(|e| e.run.data_plane == plane.name && e.run.attempts() > 0);
        if !gone || silent {
            left.push(plane.name.clone());
        }
    }
    left
}
