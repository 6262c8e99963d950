//! Every run that there ever was in the control plane, as it was last: a schedule deletes its old ones, and their time is
//! over after a minute.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::TryStreamExt as _;
use kube::{
    Api, Client,
    core::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::{observed::Run, parse};

/// The kinds of runs.
pub const KINDS: [&str; 3] = ["FleetBackupJob", "FleetTask", "FleetRestoreJob"];

/// Runs by uid.
type Runs = Arc<Mutex<BTreeMap<String, Run>>>;

/// Watches a namespace until it is dropped.
pub struct Ledger {
    runs: Runs,
    _watches: JoinSet<()>,
}

/// Access to a kind of ours in a namespace.
pub fn fleet_api(client: &Client, namespace: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("fleet.k8ssandra.io", "v1alpha1", kind));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

impl Ledger {
    /// Begins to watch.
    pub fn open(client: &Client, namespace: &str) -> Self {
        let runs = Runs::default();
        let mut watches = JoinSet::new();
        for kind in KINDS {
            watches.spawn(follow(fleet_api(client, namespace, kind), kind, runs.clone()));
        }
        Self { runs, _watches: watches }
    }

    /// All runs. `there` are the uids of those that are there now.
    pub fn runs(&self, there: &[String]) -> Vec<Run> {
        let all = locked(&self.runs).values().cloned().collect::<Vec<Run>>();
        let is_gone = |run: &Run| !there.contains(&run.uid);
        all.into_iter().map(|run| Run { is_gone: is_gone(&run), ..run }).collect()
    }

    /// Puts down how a run is.
    pub fn note(&self, kind: &str, object: &Value) -> String {
        let run = parse::run(kind, object);
        let uid = run.uid.clone();
        locked(&self.runs).insert(uid.clone(), run);
        uid
    }
}

fn locked(runs: &Runs) -> MutexGuard<'_, BTreeMap<String, Run>> {
    runs.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow(api: Api<DynamicObject>, kind: &'static str, runs: Runs) {
    let mut events = Box::pin(watcher(api, watcher::Config::default()).default_backoff());
    loop {
        match events.try_next().await {
            Ok(Some(Event::Apply(object) | Event::InitApply(object) | Event::Delete(object))) => {
                let Ok(object) = serde_json::to_value(object) else { continue };
                let run = parse::run(kind, &object);
                locked(&runs).insert(run.uid.clone(), run);
            }
            Ok(Some(Event::Init | Event::InitDone)) | Err(_) => {}
            Ok(None) => return,
        }
    }
}
