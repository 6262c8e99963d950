//! Writes the conditions of MedusaConfigurations: beside the copying, never in its way.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use k8s_openapi::{
    api::core::v1::ObjectReference,
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
};
use kube::{
    Api, Resource as _,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::PartialObjectMetaExt as _,
};
use serde_json::json;
use tokio::{sync::watch, time::sleep};

use super::{controller::ReplicationContext, desired::Desired, plan::Failures, summarize, worker::Shared};
use crate::{
    api::{
        Conditions as _, Reason, Why, fleet::DataPlane, k8ssandra::K8ssandraCluster, labels,
        medusa::MedusaConfiguration,
    },
    control_plane::data_planes::{
        fleet::{Snapshot, Usable},
        view::ObjectKey,
    },
    runtime::sync::lock,
};

/// How long news are gathered before they are written.
const GATHER: Duration = Duration::from_millis(250);
/// Pause before failed writes are tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// For how long after a start what stands in a status is left there as long as a data plane was not reached: more is known of
/// it than of the copies.
const BEGINNING: Duration = Duration::from_mins(1);
/// Writes at once.
const CONCURRENT_WRITES: usize = 8;

/// Most Events about one object at a time.
const EVENTS: usize = 10;
/// Most copies that are told of on one DataPlane: how many of them there are, its data plane decides.
const TOLD: usize = 64;

/// Type, status and reason, and message of each condition, as last written.
type Digest = Vec<(String, String, String)>;
/// What was written to, by uid: an object made again under its name has nothing yet.
type Published = BTreeMap<ObjectKey, (Option<String>, Digest)>;
/// What was told of a K8ssandraCluster or a DataPlane, by uid.
type Told = BTreeMap<ObjectKey, (Option<String>, Vec<Why>)>;

/// Conditions that have to be written.
struct Due {
    key: ObjectKey,
    about: ObjectReference,
    conditions: Vec<Condition>,
    digest: Digest,
    /// What cannot be read of it.
    unreadable: Option<String>,
}

/// Runs for ever. Woken by [`Shared::progress`].
pub(super) async fn run(shared: &Shared, wanted: watch::Receiver<Arc<Desired>>) {
    let (mut published, mut of_clusters, mut of_planes) = (Published::new(), Told::new(), Told::new());
    let beginning = sleep(BEGINNING);
    tokio::pin!(beginning);
    loop {
        // What was left for later is looked at again when a data plane is reached, and at last when the beginning is over.
        tokio::select! {
            () = shared.progress.notified() => {}
            () = &mut beginning, if !beginning.is_elapsed() => {}
        }
        sleep(GATHER).await;
        loop {
            let desired = wanted.borrow().clone();
            tell_clusters(shared, &desired, &mut of_clusters);
            tell_data_planes(shared, &desired, &mut of_planes);
            if publish(shared, &desired, &mut published, !beginning.is_elapsed()).await {
                break;
            }
            sleep(AGAIN).await;
        }
    }
}

/// Writes the conditions that changed; says whether all could be written. While the control plane `begins` what stands may be
/// left.
async fn publish(shared: &Shared, desired: &Desired, published: &mut Published, begins: bool) -> bool {
    let context = &shared.context;
    let failures = lock(&shared.failures).clone();
    let writes = due(shared, desired, &failures, published, begins).into_iter().map(|due| async {
        let written = write(context, &due).await;
        (due, written)
    });
    let mut writes = stream::iter(writes).buffer_unordered(CONCURRENT_WRITES);
    let mut all = true;
    while let Some((due, written)) = writes.next().await {
        match written {
            Ok(()) => {
                announce(context, &due, &failures, desired);
                published.insert(due.key, (due.about.uid, due.digest));
            }
            // Gone, or another object by now.
            Err(error) if matches!(&error, kube::Error::Api(s) if s.code == 404 || s.code == 409) => {}
            Err(error) => {
                tracing::warn!(configuration = %due.key, %error, "write conditions");
                all = false;
            }
        }
    }
    all
}

/// The conditions that differ from what was written.
fn due(
    shared: &Shared,
    desired: &Desired,
    failures: &Failures,
    published: &mut Published,
    begins: bool,
) -> Vec<Due> {
    let context = &shared.context;
    let sources = context.sources.objects();
    let planes: BTreeMap<String, Snapshot> =
        context.fleet.snapshot().into_iter().map(|p| (p.name.clone(), p)).collect();
    let settled = lock(&shared.settled).clone();
    let reports = context.deployed.borrow().clone();
    let facts = summarize::CopyFacts {
        sources: &sources,
        desired,
        planes: &planes,
        failures,
        settled: &settled,
        reports: &reports,
    };
    let now = context.fleet.now();
    let all = &sources.configurations;
    published.retain(|key, _| all.items.contains_key(key) || all.malformed.contains_key(key));
    let begins = begins && planes.values().any(|plane| plane.usable == Usable::Connecting);
    let mut list = Vec::new();
    let mut add = |due: Due, before: &[Condition]| {
        let written = published
            .get(&due.key)
            .is_some_and(|(uid, digest)| *uid == due.about.uid && *digest == due.digest);
        let stands = |new: &Condition| {
            before.of_type(&new.type_).is_some_and(|old| old.observed_generation == new.observed_generation)
        };
        let is_left = begins && due.conditions.iter().all(stands);
        if before != due.conditions && !written && !is_left {
            list.push(due);
        }
    };
    for (key, configuration) in all.items.iter().filter(|(key, _)| !all.malformed.contains_key(*key)) {
        if context.control_plane.wrote(&configuration.metadata) {
            continue; // Its source says how it is.
        }
        let conditions = summarize::conditions(key, configuration, &facts, now);
        let before = configuration.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
        let (digest, about) = (digest(&conditions), configuration.object_ref(&()));
        add(Due { key: key.clone(), about, conditions, digest, unreadable: None }, before);
    }
    for (key, malformed) in all.malformed.iter().filter(|(_, s)| !context.control_plane.wrote(&s.metadata)) {
        let conditions = summarize::unreadable(malformed, now);
        let about = reference::<MedusaConfiguration>(malformed.metadata.clone());
        let (digest, unreadable) = (digest(&conditions), Some(malformed.why.clone()));
        add(Due { key: key.clone(), about, conditions, digest, unreadable }, &malformed.conditions);
    }
    list
}

fn digest(conditions: &[Condition]) -> Digest {
    conditions
        .iter()
        .map(|c| (c.type_.clone(), format!("{}/{}", c.status, c.reason), c.message.clone()))
        .collect()
}

/// A reference to an object of which only the metadata is known.
fn reference<K: kube::Resource<DynamicType = ()>>(meta: ObjectMeta) -> ObjectReference {
    meta.into_response_partial::<K>().object_ref(&())
}

/// One Event on a K8ssandraCluster per thing that a person must mend, when it is news: its status is not ours to write.
fn tell_clusters(shared: &Shared, desired: &Desired, told: &mut Told) {
    let clusters = shared.context.sources.objects().clusters;
    let mut now = Told::new();
    for (key, problems) in &desired.cluster_problems {
        let Some(cluster) = clusters.items.get(key) else { continue };
        now.insert(key.clone(), (cluster.metadata.uid.clone(), problems.clone()));
    }
    for (key, malformed) in &clusters.malformed {
        let message = format!(
            "it cannot be read: {}; correct that field. What was copied because of it stays as it is until then",
            malformed.why
        );
        let why = Why::new(Reason::InvalidObject, message);
        now.entry(key.clone()).or_insert_with(|| (malformed.metadata.uid.clone(), Vec::new())).1.push(why);
    }
    tell::<K8ssandraCluster>(shared, told, now);
}

/// One Event on a DataPlane per copy that nobody wants any more and that cannot be taken back.
fn tell_data_planes(shared: &Shared, desired: &Desired, told: &mut Told) {
    let home = shared.context.sources.objects().home;
    let mut now = Told::new();
    let uids = shared.context.fleet.uids();
    for (plane, failures) in lock(&shared.failures).iter() {
        let wanted = desired.copies.get(plane);
        let left = failures.iter().filter(|(key, _)| wanted.is_none_or(|wanted| !wanted.contains_key(key)));
        let left = left.map(|(_, why)| why).filter(|why| why.reason != Reason::DataPlaneUnreachable);
        let problems: Vec<Why> = left.take(TOLD).cloned().collect();
        now.insert(ObjectKey::new(&home, plane), (uids.get(plane).cloned(), problems));
    }
    tell::<DataPlane>(shared, told, now);
}

/// One Event on an object per thing that was not told of it before.
fn tell<K: kube::Resource<DynamicType = ()>>(shared: &Shared, told: &mut Told, now: Told) {
    for (key, (uid, problems)) in &now {
        let before = told.get(key).filter(|(of, _)| of == uid).map(|(_, problems)| problems.as_slice());
        let news = problems.iter().filter(|why| !before.unwrap_or_default().contains(why));
        let about = reference::<K>(ObjectMeta {
            namespace: Some(key.namespace.clone()),
            name: Some(key.name.clone()),
            uid: uid.clone(),
            ..ObjectMeta::default()
        });
        for why in news.take(EVENTS) {
            shared.context.events.warning(about.clone(), why.reason, "Replicate", why.message.clone());
        }
    }
    *told = now;
}

async fn write(context: &ReplicationContext, due: &Due) -> Result<(), kube::Error> {
    let body = json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaConfiguration",
        "metadata": {"name": due.key.name, "uid": due.about.uid}, "status": {"conditions": due.conditions},
    });
    // The answer may not have the shape of the kind.
    let resource = ApiResource::erase::<MedusaConfiguration>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &due.key.namespace, &resource);
    let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE).force();
    api.patch_status(&due.key.name, &params, &Patch::Apply(&body)).await.map(drop)
}

/// One Event per thing that a person must mend.
fn announce(context: &ReplicationContext, due: &Due, failures: &Failures, desired: &Desired) {
    let warn = |reason: Reason, note: String| {
        context.events.warning(due.about.clone(), reason, "Replicate", note);
    };
    if let Some(why) = &due.unreadable {
        return warn(Reason::InvalidObject, format!("it cannot be read: {why}; correct that field"));
    }
    for problem in desired.problems.get(&due.key).into_iter().flatten().take(EVENTS) {
        warn(problem.reason, problem.message.clone());
    }
    for (plane, copy) in desired.claims.get(&due.key).into_iter().flatten() {
        if let Some(problem) = failures.get(plane).and_then(|f| f.get(copy))
            && problem.reason != Reason::DataPlaneUnreachable
        {
            warn(problem.reason, format!("data plane `{plane}`: {}", problem.message));
        }
    }
}
