//! Writes the copies of one data plane, whatever happens in the others.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, broadcast, watch},
    time::Instant,
};

use super::{
    content::{Precondition, applied, configuration_record, secret_record, surplus},
    desired::{CopyKey, CopyKind, Desired, Wanted},
    plan::{self, Action, Settled},
};
use crate::{
    api::{Reason, Why, labels, medusa::MedusaConfiguration},
    control_plane::{
        fleet::{Change, Fleet, Usable, ViewCell},
        meters::Copies,
        registry::remote::{CallError, Remote},
        sources::{Payload, Sources},
        view::{CopyRecord, View},
    },
    runtime::{
        backoff::Backoff,
        guard::{self, Panicked},
    },
};

/// First and longest pause before a failed write is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Pause before a name that somebody else uses is tried again: we do not see when it becomes free.
const CONFLICT_RETRY: Duration = Duration::from_secs(30);

/// What went wrong with single copies, by data plane.
pub type Failures = Arc<Mutex<BTreeMap<String, BTreeMap<CopyKey, Why>>>>;

/// Everything a worker shares with the others.
pub struct Shared {
    /// The data planes.
    pub fleet: Arc<Fleet>,
    /// Where content comes from.
    pub sources: Arc<Sources>,
    /// Value of the control-plane label on our copies.
    pub control_plane: String,
    /// What went wrong.
    pub failures: Failures,
    /// What API servers made of our copies, by data plane.
    pub settled: Arc<Mutex<BTreeMap<String, Settled>>>,
    /// Told when conditions may have changed: copies are wanted, were written, or could not be.
    pub progress: Arc<Notify>,
}

/// Result of one write.
enum Outcome {
    /// Done; the copy as it is now, with the hash that was wanted.
    Written(Box<CopyRecord>, String),
    /// Removed, or already gone.
    Removed,
    /// The copy changed meanwhile, or there is nothing to write (any more): plan again.
    PlanAgain,
    /// It could not be done.
    Failed(Why),
}

/// Runs until the data plane is gone from the fleet.
pub async fn run(name: String, shared: Arc<Shared>, mut desired: watch::Receiver<Arc<Desired>>) {
    let mut changes = shared.fleet.changes();
    let mut writes: FuturesUnordered<BoxFuture<'static, (CopyKey, Outcome)>> = FuturesUnordered::new();
    let mut in_flight: HashSet<CopyKey> = HashSet::new();
    let mut not_before: HashMap<CopyKey, Instant> = HashMap::new();
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let mut was_seen = false;
    loop {
        let Some(member) = shared.fleet.member(&name) else { return };
        let wanted = desired.borrow_and_update().clone();
        let copies = wanted.copies.get(&name).cloned().unwrap_or_default();
        let held = wanted.held.get(&name).cloned().unwrap_or_default();
        let known = wanted.complete_for.contains(&name);
        let removal = if known { plan::Removal::AllBut(&held) } else { plan::Removal::Nothing };
        let (view, settled) = (member.view.get(), settled_of(&shared, &name));
        let actions = plan::plan(&view, &copies, &settled, removal);
        // What is planned for one that is not writable is only counted; nothing is as long as it was never seen.
        was_seen |= view.is_live();
        if was_seen {
            let failures = shared.failures.lock().unwrap_or_else(PoisonError::into_inner);
            let has_failed = |key: &CopyKey| failures.get(&name).is_some_and(|of| of.contains_key(key));
            // The copies in a cluster that is registered twice are those of the other one.
            let is_twin = matches!(member.blocked, Some((Reason::DuplicateCluster, _)));
            let counted = plan::tally(&view, &copies, &settled, &actions, has_failed);
            member.meters.set_copies(if is_twin { Copies::default() } else { counted });
        }
        if let Some(remote) = writable(&shared.fleet, &name) {
            let now = Instant::now();
            for action in actions {
                let key = action.key().clone();
                if not_before.get(&key).is_some_and(|at| *at > now) || !in_flight.insert(key.clone()) {
                    continue;
                }
                let write = write(action, copies.get(&key).cloned(), remote.clone(), shared.clone());
                writes.push(Box::pin(async move {
                    let failed = |panic: Panicked| Why::new(Reason::InternalError, panic.to_string());
                    guard::keep("copies", write).await.unwrap_or_else(|p| (key, Outcome::Failed(failed(p))))
                }));
            }
            forget(&shared, &name, &copies);
        }
        let wake =
            not_before.values().min().copied().unwrap_or_else(|| Instant::now() + Duration::from_hours(1));
        tokio::select! {
            changed = desired.changed() => if changed.is_err() { return },
            () = next_change(&mut changes, &name) => {}
            Some((key, outcome)) = writes.next() => {
                in_flight.remove(&key);
                settle(&shared, &name, &member.view, key, outcome, &mut not_before, &mut backoff);
            }
            () = tokio::time::sleep_until(wake) => {
                let now = Instant::now();
                not_before.retain(|_, at| *at > now);
            }
        }
    }
}

/// The way to the data plane, when it may be written to. One that is being unregistered may: its
/// copies are taken back.
fn writable(fleet: &Fleet, name: &str) -> Option<Arc<Remote>> {
    let snapshot = fleet.snapshot().into_iter().find(|s| s.name == name)?;
    let may = match snapshot.usable {
        Usable::Ready => true,
        Usable::NotReady { .. } => snapshot.unregistering && snapshot.view.is_live(),
        Usable::Unreachable { .. } | Usable::Connecting => false,
    };
    snapshot.remote.filter(|_| may)
}

async fn next_change(changes: &mut broadcast::Receiver<Change>, name: &str) {
    loop {
        match changes.recv().await {
            Ok(Change::Copies(n) | Change::Contact(n)) if n == name => return,
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

fn settled_of(shared: &Shared, name: &str) -> Settled {
    let settled = shared.settled.lock().unwrap_or_else(PoisonError::into_inner);
    settled.get(name).cloned().unwrap_or_default()
}

/// Drops failures of copies nobody wants any more.
fn forget(shared: &Shared, name: &str, copies: &BTreeMap<CopyKey, Wanted>) {
    let mut failures = shared.failures.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(of_plane) = failures.get_mut(name) {
        of_plane.retain(|key, _| copies.contains_key(key));
    }
}

fn settle(
    shared: &Shared,
    name: &str,
    view: &ViewCell,
    key: CopyKey,
    outcome: Outcome,
    not_before: &mut HashMap<CopyKey, Instant>,
    backoff: &mut Backoff<CopyKey>,
) {
    let problem = match outcome {
        Outcome::Written(record, wanted) => {
            let mut settled = shared.settled.lock().unwrap_or_else(PoisonError::into_inner);
            let of_plane = settled.entry(name.to_owned()).or_default();
            if record.content_hash == wanted {
                of_plane.remove(&key);
            } else {
                of_plane.insert(key.clone(), (wanted, record.content_hash.clone()));
            }
            drop(settled);
            view.update(|view| remember(view, &key, *record));
            None
        }
        Outcome::Removed => {
            view.update(|view| section(view, key.kind).remove(&key.object));
            None
        }
        Outcome::PlanAgain => {
            not_before.insert(key.clone(), Instant::now() + backoff.failed(&key));
            shared.progress.notify_one();
            return;
        }
        Outcome::Failed(problem) => Some(problem),
    };
    let mut failures = shared.failures.lock().unwrap_or_else(PoisonError::into_inner);
    let of_plane = failures.entry(name.to_owned()).or_default();
    match problem {
        None => {
            backoff.succeeded(&key);
            not_before.remove(&key);
            of_plane.remove(&key);
        }
        Some(problem) => {
            let taken = problem.reason == Reason::NameConflict;
            let pause = if taken { CONFLICT_RETRY } else { backoff.failed(&key) };
            tracing::warn!(data_plane = name, copy = %key, reason = %problem.reason, "{}", problem.message);
            not_before.insert(key.clone(), Instant::now() + pause);
            of_plane.insert(key, problem);
        }
    }
    drop(failures);
    shared.progress.notify_one();
}

fn section(
    view: &mut View,
    kind: CopyKind,
) -> &mut BTreeMap<crate::control_plane::view::ObjectKey, Arc<CopyRecord>> {
    match kind {
        CopyKind::Secret => &mut view.secrets.items,
        CopyKind::MedusaConfiguration => &mut view.configurations.items,
    }
}

/// Puts our own write into the view at once, unless the watch already delivered something newer.
fn remember(view: &mut View, key: &CopyKey, record: CopyRecord) {
    let version = |record: &CopyRecord| record.resource_version.parse::<u64>().unwrap_or(0);
    let items = section(view, key.kind);
    let older = items.get(&key.object).is_none_or(|known| version(known) <= version(&record));
    if older {
        items.insert(key.object.clone(), Arc::new(record));
    }
}

async fn write(
    action: Action,
    wanted: Option<Wanted>,
    remote: Arc<Remote>,
    shared: Arc<Shared>,
) -> (CopyKey, Outcome) {
    let key = action.key().clone();
    let outcome = match action {
        Action::Remove { uid, .. } => remove(&key, &uid, &remote).await,
        Action::Create(_) => match wanted {
            Some(wanted) => put(&key, &wanted, &Precondition::Absent, &remote, &shared).await,
            None => Outcome::PlanAgain,
        },
        Action::Correct { uid, resource_version, .. } => match wanted {
            Some(wanted) => {
                let version = Precondition::Version { uid: &uid, resource_version: &resource_version };
                put(&key, &wanted, &version, &remote, &shared).await
            }
            None => Outcome::PlanAgain,
        },
    };
    (key, outcome)
}

async fn put(
    key: &CopyKey,
    wanted: &Wanted,
    precondition: &Precondition<'_>,
    remote: &Remote,
    shared: &Shared,
) -> Outcome {
    let payload = match key.kind {
        CopyKind::MedusaConfiguration => shared.sources.configuration(&wanted.source).map(Arc::new),
        CopyKind::Secret => match shared.sources.secret(&wanted.source).await {
            Ok(payload) => payload,
            Err(error) => {
                tracing::warn!(source = %wanted.source, %error, "read source secret");
                return Outcome::PlanAgain;
            }
        },
    };
    let (Some(payload), Some((source_uid, _))) = (payload, &wanted.content) else {
        return Outcome::PlanAgain;
    };
    let hash = payload.hash();
    let object = applied(key, &wanted.source, source_uid, &shared.control_plane, &payload, precondition);
    match apply(key, &object, remote).await {
        Ok(record) if record.content_hash != hash => {
            // Somebody else's fields are in it: applying does not take those away.
            match prune(key, &payload, &record, remote).await {
                Ok(record) => Outcome::Written(Box::new(record), hash),
                Err(error) => failed(key, &error),
            }
        }
        Ok(record) => Outcome::Written(Box::new(record), hash),
        Err(error) if error.code() == Some(409) => match precondition {
            Precondition::Version { .. } => Outcome::PlanAgain,
            Precondition::Absent => taken(key, source_uid, remote, shared).await,
        },
        Err(error) => failed(key, &error),
    }
}

async fn apply(key: &CopyKey, object: &Value, remote: &Remote) -> Result<CopyRecord, CallError> {
    let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE).force();
    let (namespace, name) = (key.object.namespace.clone(), key.object.name.clone());
    remote
        .call(|client| async move {
            match key.kind {
                CopyKind::Secret => Api::<Secret>::namespaced(client, &namespace)
                    .patch(&name, &params, &Patch::Apply(object))
                    .await
                    .map(|secret| secret_record(&secret)),
                CopyKind::MedusaConfiguration => Api::<MedusaConfiguration>::namespaced(client, &namespace)
                    .patch(&name, &params, &Patch::Apply(object))
                    .await
                    .map(|configuration| configuration_record(&configuration)),
            }
        })
        .await
}

/// Removes what a copy holds and its source does not.
async fn prune(
    key: &CopyKey,
    payload: &Payload,
    record: &CopyRecord,
    remote: &Remote,
) -> Result<CopyRecord, CallError> {
    let (namespace, name) = (&key.object.namespace, &key.object.name);
    let params = PatchParams {
        field_manager: Some(labels::MANAGER_CONTROL_PLANE.to_owned()),
        ..PatchParams::default()
    };
    let patch = |meta: &ObjectMeta, part: &str, surplus: Value| {
        Patch::Merge(json!({
            "metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version}, part: surplus,
        }))
    };
    remote
        .call(|client| async move {
            match payload {
                Payload::Secret { data, .. } => {
                    let api = Api::<Secret>::namespaced(client, namespace);
                    let current = api.get(name).await?;
                    let held = current.data.clone().unwrap_or_default();
                    let Some(surplus) = surplus(&json!(held), &json!(data)) else {
                        return Ok(secret_record(&current));
                    };
                    let patch = patch(&current.metadata, "data", surplus);
                    api.patch(name, &params, &patch).await.map(|secret| secret_record(&secret))
                }
                Payload::Configuration(spec) => {
                    let api = Api::<MedusaConfiguration>::namespaced(client, namespace);
                    let current = api.get(name).await?;
                    let Some(surplus) = surplus(&json!(current.spec), &json!(spec)) else {
                        return Ok(record.clone());
                    };
                    let patch = patch(&current.metadata, "spec", surplus);
                    api.patch(name, &params, &patch).await.map(|copy| configuration_record(&copy))
                }
            }
        })
        .await
}

/// The name is in use. If the object is a copy of ours that lost its label, it is corrected; anything
/// else is left alone.
async fn taken(key: &CopyKey, source_uid: &str, remote: &Remote, shared: &Shared) -> Outcome {
    let (namespace, name) = (&key.object.namespace, &key.object.name);
    let found = remote
        .call(|client| async move {
            match key.kind {
                CopyKind::Secret => Api::<Secret>::namespaced(client, namespace)
                    .get_metadata_opt(name)
                    .await
                    .map(|found| found.map(|f| f.metadata)),
                CopyKind::MedusaConfiguration => Api::<MedusaConfiguration>::namespaced(client, namespace)
                    .get_metadata_opt(name)
                    .await
                    .map(|found| found.map(|f| f.metadata)),
            }
        })
        .await;
    let meta = match found {
        Ok(Some(meta)) => meta,
        Ok(None) => return Outcome::PlanAgain,
        Err(error) => return failed(key, &error),
    };
    let has = |map: &Option<BTreeMap<String, String>>, key: &str, value: &str| {
        map.as_ref().and_then(|m| m.get(key)).is_some_and(|v| v == value)
    };
    let ours = has(&meta.labels, labels::CONTROL_PLANE, &shared.control_plane)
        || has(&meta.annotations, labels::SOURCE_UID, source_uid);
    if !ours {
        return Outcome::Failed(Why {
            reason: Reason::NameConflict,
            message: format!("{key} exists and is not ours; rename or delete it there, or rename the source"),
        });
    }
    // Giving the label back is enough to see it again; what else drifted is corrected then.
    let patch = json!({"metadata": {
        "uid": meta.uid, "resourceVersion": meta.resource_version,
        "labels": {labels::CONTROL_PLANE: shared.control_plane},
    }});
    let params = PatchParams {
        field_manager: Some(labels::MANAGER_CONTROL_PLANE.to_owned()),
        ..PatchParams::default()
    };
    let relabelled = remote
        .call(|client| async move {
            match key.kind {
                CopyKind::Secret => Api::<Secret>::namespaced(client, namespace)
                    .patch_metadata(name, &params, &Patch::Merge(&patch))
                    .await
                    .map(drop),
                CopyKind::MedusaConfiguration => Api::<MedusaConfiguration>::namespaced(client, namespace)
                    .patch_metadata(name, &params, &Patch::Merge(&patch))
                    .await
                    .map(drop),
            }
        })
        .await;
    match relabelled {
        Ok(()) => Outcome::PlanAgain,
        Err(error) => failed(key, &error),
    }
}

async fn remove(key: &CopyKey, uid: &str, remote: &Remote) -> Outcome {
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::default()
    };
    let (namespace, name) = (&key.object.namespace, &key.object.name);
    let removed = remote
        .call(|client| async move {
            match key.kind {
                CopyKind::Secret => {
                    Api::<Secret>::namespaced(client, namespace).delete(name, &params).await.map(drop)
                }
                CopyKind::MedusaConfiguration => Api::<MedusaConfiguration>::namespaced(client, namespace)
                    .delete(name, &params)
                    .await
                    .map(drop),
            }
        })
        .await;
    match removed {
        Ok(()) => Outcome::Removed,
        // Gone, or another object by now: either way ours is not there.
        Err(error) if matches!(error.code(), Some(404 | 409)) => Outcome::Removed,
        Err(error) => failed(key, &error),
    }
}

fn failed(key: &CopyKey, error: &CallError) -> Outcome {
    let namespace = &key.object.namespace;
    let (reason, message) = match error.status() {
        Some(status) if status.code == 404 && status.message.contains("namespaces") => (
            Reason::NamespaceMissing,
            format!("namespace `{namespace}` does not exist there; create it, or take it out of the targets"),
        ),
        Some(status) if status.code == 422 && status.message.contains("immutable") => (
            Reason::Immutable,
            format!("{key} is marked immutable there; delete it and it will be copied again"),
        ),
        // The API server may repeat a Secret's fields in its message, so only its reason is passed on.
        Some(status) => (
            Reason::WriteRefused,
            format!("{key}: the API server answered {} {}", status.code, status.reason),
        ),
        None => (Reason::DataPlaneUnreachable, format!("{key}: {error}")),
    };
    Outcome::Failed(Why { reason, message })
}
