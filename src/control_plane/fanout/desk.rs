//! The writes under way in the data planes. Nobody waits for one that hangs: it ends in its own task, and wakes the
//! run it was for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, PostParams, Preconditions},
    core::DeserializeGuard,
    runtime::reflector::ObjectRef,
};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};

use super::{
    load::UnderWay,
    rollup::Outcomes,
    write::{Action, Outcome, Work},
};
use crate::{
    api::{Reason, fleet::FleetBackupJob, labels, medusa::MedusaBackupJob},
    control_plane::{
        fleet::Fleet,
        registry::remote::{CallError, Remote},
        view::ObjectKey,
    },
    runtime::backoff::Backoff,
};

/// First and longest pause before a write that was refused is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Writes of one run under way in one data plane at a time.
const WINDOW: usize = 256;
/// How long a pass waits for its own writes: the most are answered in that time, and their outcome is in the status
/// the pass writes.
const SHORTLY: Duration = Duration::from_millis(250);

/// Wakes a run.
pub(super) type Trigger = mpsc::Sender<ObjectRef<DeserializeGuard<FleetBackupJob>>>;

type Key = (String, ObjectKey);

/// One write.
enum Write {
    UnderWay { what: UnderWay, makes: bool },
    Ended { job_uid: String, outcome: Outcome, again_at: Instant },
}

/// All writes of this process that are under way, or whose outcome nobody has taken yet.
pub(super) struct Desk {
    fleet: Arc<Fleet>,
    trigger: Trigger,
    /// Held while counting what is at work and deciding what starts, so that two runs never take the same place.
    planning: Mutex<()>,
    table: Mutex<HashMap<Key, Write>>,
    pauses: Mutex<Backoff<Key>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    pub(super) fn new(fleet: Arc<Fleet>, trigger: Trigger) -> Self {
        let pauses = Mutex::new(Backoff::new(RETRY.0, RETRY.1));
        Self { fleet, trigger, planning: Mutex::default(), table: Mutex::default(), pauses }
    }

    /// The right to decide what starts.
    pub(super) fn plan(&self) -> MutexGuard<'_, ()> {
        lock(&self.planning)
    }

    /// Whether a write for a child is under way, or pauses after it was refused.
    pub(super) fn is_busy(&self, plane: &str, key: &ObjectKey) -> bool {
        match lock(&self.table).get(&(plane.to_owned(), key.clone())) {
            Some(Write::UnderWay { .. }) => true,
            Some(Write::Ended { again_at, .. }) => Instant::now() < *again_at,
            None => false,
        }
    }

    /// Every child that is being made.
    pub(super) fn under_way(&self) -> Vec<UnderWay> {
        let table = lock(&self.table);
        let making = table.values().filter_map(|write| match write {
            Write::UnderWay { what, makes: true } => Some(what.clone()),
            Write::UnderWay { .. } | Write::Ended { .. } => None,
        });
        making.collect()
    }

    /// What became of a run's writes. What cannot change any more is handed out once.
    pub(super) fn outcomes(&self, job_uid: &str) -> Outcomes {
        let mut outcomes = Outcomes::new();
        lock(&self.table).retain(|key, write| match write {
            Write::Ended { job_uid: uid, outcome, .. } if uid == job_uid => {
                outcomes.insert(key.clone(), outcome.clone());
                matches!(outcome, Outcome::NotNow(..))
            }
            Write::Ended { .. } | Write::UnderWay { .. } => true,
        });
        outcomes
    }

    /// When the next of a run's refused writes may be tried again.
    pub(super) fn again_in(&self, job_uid: &str) -> Option<Duration> {
        let now = Instant::now();
        let table = lock(&self.table);
        let pauses = table.values().filter_map(|write| match write {
            Write::Ended { job_uid: uid, again_at, .. } if uid == job_uid => {
                Some(again_at.saturating_duration_since(now))
            }
            Write::Ended { .. } | Write::UnderWay { .. } => None,
        });
        pauses.min()
    }

    /// Forgets what became of a run's writes.
    pub(super) fn forget(&self, job_uid: &str) {
        lock(&self.table).retain(|key, write| {
            let own = matches!(write, Write::Ended { job_uid: uid, .. } if uid == job_uid);
            if own {
                lock(&self.pauses).succeeded(key);
            }
            !own
        });
    }

    /// Begins writes, as many as fit into each data plane's window. Called with the right to plan, so that they count
    /// before anyone else decides.
    pub(super) fn begin(self: &Arc<Self>, job: &FleetBackupJob, actions: Vec<Action>) -> Vec<JoinHandle<()>> {
        let job_uid = job.uid().unwrap_or_default();
        let wake: ObjectRef<DeserializeGuard<FleetBackupJob>> =
            ObjectRef::new(&job.name_any()).within(&job.namespace().unwrap_or_default());
        let mut used: HashMap<String, usize> = HashMap::new();
        let mut table = lock(&self.table);
        for write in table.values() {
            if let Write::UnderWay { what, .. } = write
                && what.job_uid == job_uid
            {
                *used.entry(what.data_plane.clone()).or_default() += 1;
            }
        }
        let mut begun = Vec::new();
        for action in actions {
            let used = used.entry(action.data_plane.clone()).or_default();
            let remote = self.fleet.member(&action.data_plane).and_then(|member| member.remote);
            let Some(remote) = remote.filter(|_| *used < WINDOW) else { continue };
            *used += 1;
            let what = UnderWay {
                data_plane: action.data_plane.clone(),
                key: action.key.clone(),
                place: action.place.clone(),
                job_uid: job_uid.clone(),
            };
            let makes = matches!(action.work, Work::Make(_));
            table.insert((action.data_plane.clone(), action.key.clone()), Write::UnderWay { what, makes });
            let (desk, job_uid, wake) = (self.clone(), job_uid.clone(), wake.clone());
            begun.push(tokio::spawn(async move {
                let outcome = write(&remote, &action).await;
                desk.end(action, job_uid, outcome);
                // Nobody listens any more only when the process ends.
                let _ = desk.trigger.send(wake).await;
            }));
        }
        begun
    }

    /// Waits for writes, but not for one that hangs.
    pub(super) async fn wait_shortly(&self, begun: Vec<JoinHandle<()>>) {
        if !begun.is_empty() {
            let _ = tokio::time::timeout(SHORTLY, join_all(begun)).await;
        }
    }

    /// What was made is put into the views at once.
    fn end(&self, action: Action, job_uid: String, outcome: Written) {
        let key = (action.data_plane, action.key);
        let outcome = match outcome {
            Written::There(child) => {
                if let Some(member) = self.fleet.member(&key.0) {
                    member.view.update(|view| {
                        view.jobs.items.entry(key.1.clone()).or_insert_with(|| Arc::new(*child));
                    });
                }
                Outcome::There
            }
            Written::Other(outcome) => outcome,
        };
        let pause = if matches!(outcome, Outcome::NotNow(..)) {
            lock(&self.pauses).failed(&key)
        } else {
            lock(&self.pauses).succeeded(&key);
            Duration::ZERO
        };
        lock(&self.table).insert(key, Write::Ended { job_uid, outcome, again_at: Instant::now() + pause });
    }
}

enum Written {
    There(Box<MedusaBackupJob>),
    Other(Outcome),
}

async fn write(remote: &Remote, action: &Action) -> Written {
    match &action.work {
        Work::Make(child) => make(remote, child).await,
        Work::Withdraw { uid, resource_version } => {
            Written::Other(delete(remote, &action.key, uid, Some(resource_version)).await)
        }
    }
}

async fn make(remote: &Remote, child: &MedusaBackupJob) -> Written {
    let namespace = child.namespace().unwrap_or_default();
    let params =
        PostParams { field_manager: Some(labels::MANAGER_CONTROL_PLANE.to_owned()), ..PostParams::default() };
    let made = remote
        .call(|client| async move { Api::namespaced(client, &namespace).create(&params, child).await })
        .await;
    match made {
        Ok(made) => Written::There(Box::new(made)),
        Err(error) if error.code() == Some(409) => adopt(remote, child).await,
        Err(error) => Written::Other(not_now(&error)),
    }
}

/// The name is in use: by our own child, made before a crash or by another leader, or by a stranger.
async fn adopt(remote: &Remote, child: &MedusaBackupJob) -> Written {
    let namespace = child.namespace().unwrap_or_default();
    let found = remote
        .call(|client| async move {
            Api::<MedusaBackupJob>::namespaced(client, &namespace).get_opt(&child.name_any()).await
        })
        .await;
    match found {
        Ok(Some(found)) if found.labels().get(labels::JOB_UID) == child.labels().get(labels::JOB_UID) => {
            Written::There(Box::new(found))
        }
        Ok(Some(_)) => Written::Other(Outcome::Conflict),
        Ok(None) => {
            let message = "the name was in use a moment ago".to_owned();
            Written::Other(Outcome::NotNow(Reason::Pending, message))
        }
        Err(error) => Written::Other(not_now(&error)),
    }
}

/// Deletes a child, in exactly the version that was seen when one is given.
pub(super) async fn delete(remote: &Remote, key: &ObjectKey, uid: &str, version: Option<&str>) -> Outcome {
    let preconditions =
        Preconditions { uid: Some(uid.to_owned()), resource_version: version.map(str::to_owned) };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    let deleted = remote
        .call(|client| async move {
            Api::<MedusaBackupJob>::namespaced(client, &key.namespace).delete(&key.name, &params).await
        })
        .await;
    match deleted {
        Ok(_) => Outcome::Withdrawn,
        Err(error) if error.code() == Some(404) => Outcome::Withdrawn,
        Err(error) => not_now(&error),
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
