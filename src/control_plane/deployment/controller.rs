//! Keeps what is deployed as K8ssandraClusters ask: one pass per cluster, whenever something it depends on changed,
//! and once in a while all the same.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use kube::Resource as _;
use tokio::{
    sync::{Semaphore, broadcast::error::RecvError},
    time::{Instant, sleep_until},
};

use super::{
    config::prefix::{BackupPlace, Collision, Presence, Tenant, collisions},
    context::DeploymentContext,
    observe::{ClusterInputs, Concerned, DatacenterTarget, Deployed},
    pass::{Pass, settings},
    report::{ClusterReport, DatacenterReport},
    undone, write,
};
use crate::{
    api::{Reason, Seen, Why, fleet::DeploymentState, labels},
    control_plane::{
        data_planes::{membership::DatacenterPlace, view::ObjectKey, watched::Kind},
        sources::SourceObjects,
    },
    runtime::{
        backoff::Backoff,
        guard::{self, Panicked},
    },
};

/// The kind, in metrics.
const KIND: &str = "K8ssandraCluster";
/// How long news are gathered before they are acted on.
const GATHER: Duration = Duration::from_millis(200);
/// What may mean work here when it changes.
const FOLLOWED: &[Kind] =
    &[Kind::Datacenters, Kind::Secrets, Kind::Configurations, Kind::ConfigMaps, Kind::Schedules];
/// Clusters at work at a time.
const AT_ONCE: usize = 16;
/// How often a cluster is looked at although nothing it depends on has changed, as far as we can see.
const LOOK_AGAIN: Duration = Duration::from_mins(5);
/// How soon a cluster is looked at after a pass that wrote ConfigMaps or schedules: what is taken back at once looks like
/// before, as if nothing had happened.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// First and longest pause before what did not get through is tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// What is remembered of a cluster between two passes.
struct Last {
    /// What the last pass depended on.
    fingerprint: String,
    /// When the next is due although that has not changed.
    due: Instant,
}

/// Runs for ever.
pub async fn run(context: DeploymentContext) {
    let context = Arc::new(context);
    undone::recall(&context).await;
    let mut changes = context.fleet.changes();
    let mut asked = context.sources.changes();
    let mut passes: FuturesUnordered<BoxFuture<'static, Done>> = FuturesUnordered::new();
    let mut running: BTreeSet<ObjectKey> = BTreeSet::new();
    let mut last: HashMap<ObjectKey, Last> = HashMap::new();
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut waiting = BTreeMap::new();
    let mut wake = Instant::now();
    loop {
        tokio::select! {
            () = sleep_until(wake) => {
                let round = Round::now(&context);
                round.say_what_waits(&mut waiting);
                for (key, fingerprint, begin) in round.due(&context, &last, &running) {
                    running.insert(key.clone());
                    last.insert(key, Last { fingerprint, due: Instant::now() + LOOK_AGAIN });
                    let places = places.clone();
                    passes.push(Box::pin(async move {
                        let _place = places.acquire_owned().await;
                        begin.await
                    }));
                }
                forget(&context, &round, &mut last);
                wake = last.values().map(|last| last.due).min().unwrap_or(Instant::now() + LOOK_AGAIN);
            }
            Some(done) = passes.next() => {
                let key = &done.inputs.key;
                running.remove(key);
                if let Some(last) = last.get_mut(key) {
                    if done.again {
                        let uid = done.report.uid.as_deref().unwrap_or_default();
                        last.due = Instant::now() + backoff.failed_as(key, uid);
                    } else {
                        backoff.succeeded(key);
                    }
                    if done.has_written {
                        last.due = last.due.min(Instant::now() + LOOK_AFTER);
                    }
                }
                publish(&context, done);
                // A change that came in during the pass was not acted on, as its cluster was at work.
                wake = wake.min(Instant::now() + GATHER);
            }
            change = changes.recv() => match change {
                Ok(change) if change.is_contact_or(FOLLOWED) => wake = wake.min(Instant::now() + GATHER),
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => wake = wake.min(Instant::now() + GATHER),
                Err(RecvError::Closed) => return,
            },
            changed = asked.changed() => match changed {
                Ok(()) => wake = wake.min(Instant::now() + GATHER),
                Err(_) => return,
            },
        }
    }
}

/// Everything as it is at one moment.
struct Round {
    sources: Arc<SourceObjects>,
    clusters: Vec<ClusterInputs>,
    collisions: BTreeMap<ObjectKey, Collision>,
    /// How many K8ssandraClusters that are gone are not among them, by data plane.
    waiting: BTreeMap<String, usize>,
    /// Whether the data planes and K8ssandraClusters are all known.
    whole: bool,
    now: Timestamp,
}

struct Done {
    inputs: ClusterInputs,
    report: ClusterReport,
    again: bool,
    /// Whether it wrote ConfigMaps or schedules.
    has_written: bool,
}

impl Round {
    fn now(context: &DeploymentContext) -> Self {
        let whole = context.fleet.is_enrolled();
        let sources = context.sources.objects();
        let planes = context.fleet.snapshot();
        let deployed = Deployed::of(&planes, &context.control_plane);
        let Concerned { keys, waiting } =
            if whole { deployed.concerned(&sources) } else { Concerned::default() };
        let clusters: Vec<ClusterInputs> =
            keys.iter().map(|key| deployed.observe(key, &sources, &context.control_plane)).collect();
        let tenants: Vec<Tenant> = clusters.iter().filter_map(tenant).collect();
        let collisions = collisions(&tenants);
        Self { sources: Arc::new(sources), clusters, collisions, waiting, whole, now: context.fleet.now() }
    }

    /// Says where more is left of K8ssandraClusters that are gone than is cleaned up at a time, once.
    fn say_what_waits(&self, said: &mut BTreeMap<String, usize>) {
        for (plane, count) in self.waiting.iter().filter(|(plane, _)| !said.contains_key(*plane)) {
            tracing::warn!(
                data_plane = plane,
                "what {count} K8ssandraClusters that are gone left here waits: others that are gone come first. Delete what \
                 nobody needs there and carries label `{}`",
                labels::CONTROL_PLANE
            );
        }
        said.clone_from(&self.waiting);
    }

    /// The passes that are due: something they depend on has changed, or their time has come.
    fn due(
        &self,
        context: &Arc<DeploymentContext>,
        last: &HashMap<ObjectKey, Last>,
        running: &BTreeSet<ObjectKey>,
    ) -> Vec<(ObjectKey, String, BoxFuture<'static, Done>)> {
        let now = Instant::now();
        let mut due: Vec<(ObjectKey, String, BoxFuture<'static, Done>)> = Vec::new();
        for inputs in self.clusters.iter().filter(|inputs| !running.contains(&inputs.key)) {
            let collision = self.collisions.get(&inputs.key).cloned();
            let fingerprint = format!("{}{collision:?}", inputs.fingerprint(&self.sources, self.now));
            let same = last.get(&inputs.key).is_some_and(|l| l.fingerprint == fingerprint && l.due > now);
            if same {
                continue;
            }
            let (context, sources, inputs) = (context.clone(), self.sources.clone(), inputs.clone());
            due.push((inputs.key.clone(), fingerprint, Box::pin(pass(context, inputs, sources, collision))));
        }
        due
    }
}

async fn pass(
    context: Arc<DeploymentContext>,
    inputs: ClusterInputs,
    sources: Arc<SourceObjects>,
    collision: Option<Collision>,
) -> Done {
    let pass = Pass {
        context: &context,
        inputs: &inputs,
        sources: &sources,
        collision: collision.as_ref(),
        settings: settings(&inputs),
    };
    let (began, begun) = (context.fleet.now(), Instant::now());
    let passed = guard::keep("deployment", write::run(&pass)).await;
    let (report, again, failure) = match passed {
        Ok(passed) => {
            let failure = passed.report.failure();
            (passed.report, passed.again, failure)
        }
        Err(panic) => (broken(&context, &inputs, &panic), true, Some(Reason::InternalError)),
    };
    context.reconciles.count(KIND, begun.elapsed(), failure.map(Reason::as_str));
    let has_written = undone::has_written(&context, &inputs, began);
    Done { inputs, report, again, has_written }
}

/// The report before this pass, if it is of this very K8ssandraCluster, or of one that is gone.
fn before(context: &DeploymentContext, inputs: &ClusterInputs) -> Option<Arc<ClusterReport>> {
    let before = context.reports.borrow().clusters.get(&inputs.key).cloned();
    before.filter(|before| inputs.cluster.is_none() || before.uid == inputs.uid())
}

/// The report of a pass that ended by an internal error: what was known before, and that.
fn broken(context: &DeploymentContext, inputs: &ClusterInputs, panic: &Panicked) -> ClusterReport {
    let before = before(context, inputs);
    let mut report = before.map_or_else(ClusterReport::default, |before| (*before).clone());
    report.uid = inputs.uid();
    let why = Why::new(Reason::InternalError, panic.to_string());
    tracing::error!(cluster = %inputs.key, "deployment: {panic}");
    for datacenter in &mut report.datacenters {
        datacenter.state = DeploymentState::Waiting;
        datacenter.why = Some(why.clone());
    }
    report
}

/// Where a cluster's backups go, and whether it is there already.
fn tenant(inputs: &ClusterInputs) -> Option<Tenant> {
    let place = BackupPlace::of(settings(inputs).as_ref().ok()?)?;
    let wanted = || inputs.targets.iter().filter(|target| target.wanted.is_some());
    let runs = |target: &DatacenterTarget| {
        target.datacenter.known().is_some_and(|datacenter| datacenter.medusa_container().is_some())
    };
    let presence = if wanted().any(runs) {
        Presence::Deployed
    } else if wanted().any(|target| matches!(target.datacenter, Seen::Unknown { .. })) {
        Presence::Unknown
    } else {
        Presence::New
    };
    let created = inputs.cluster.as_ref()?.metadata.creation_timestamp.as_ref().map(|time| time.0);
    Some(Tenant { cluster: inputs.key.clone(), place, presence, created })
}

/// Drops what is remembered of clusters that nothing concerns any more.
fn forget(context: &DeploymentContext, round: &Round, last: &mut HashMap<ObjectKey, Last>) {
    if !round.whole {
        return;
    }
    let known: BTreeSet<&ObjectKey> = round.clusters.iter().map(|inputs| &inputs.key).collect();
    last.retain(|key, _| known.contains(key));
    let places: BTreeSet<&DatacenterPlace> =
        round.clusters.iter().flat_map(|inputs| inputs.targets.iter().map(|target| &target.place)).collect();
    context.datacenters_written.retain(|place| places.contains(place));
    context.objects_written.retain(|(plane, _, object)| {
        places.iter().any(|p| p.plane == *plane && p.object.namespace == object.namespace)
    });
    context.reports.send_if_modified(|reports| {
        let before = (reports.clusters.len(), reports.whole);
        reports.clusters.retain(|key, _| known.contains(key));
        reports.whole = known.iter().all(|key| reports.clusters.contains_key(key));
        (reports.clusters.len(), reports.whole) != before
    });
}

/// Tells everyone what came of a pass, where that is news.
fn publish(context: &DeploymentContext, done: Done) {
    let old = before(context, &done.inputs);
    if old.as_deref() == Some(&done.report) {
        return;
    }
    tell(context, &done.inputs, old.as_deref(), &done.report);
    context.reports.send_modify(|reports| {
        reports.clusters.insert(done.inputs.key, Arc::new(done.report));
    });
}

/// Events on the K8ssandraCluster: one for each datacenter whose state or its reason is another.
fn tell(
    context: &DeploymentContext,
    inputs: &ClusterInputs,
    old: Option<&ClusterReport>,
    new: &ClusterReport,
) {
    let Some(cluster) = &inputs.cluster else { return };
    let about = cluster.object_ref(&());
    for datacenter in &new.datacenters {
        let before = old.and_then(|old| old.datacenters.iter().find(|d| d.place == datacenter.place));
        let brief = |d: &DatacenterReport| (d.state, d.why.clone());
        if before.map(brief) == Some(brief(datacenter)) {
            continue;
        }
        let place = format!("{} in data plane `{}`", datacenter.place.object, datacenter.place.plane);
        let why = datacenter.why.as_ref();
        let note =
            why.map_or_else(|| format!("{place}: as asked for"), |why| format!("{place}: {}", why.message));
        let reason = why.map_or(Reason::MedusaDeployed, |why| why.reason);
        match datacenter.state {
            DeploymentState::Refused => context.events.warning(about.clone(), reason, "Deploy", note),
            DeploymentState::Deployed if reason == Reason::Conflict => {
                context.events.warning(about.clone(), reason, "Deploy", note);
            }
            // How a data plane is, its DataPlane says.
            DeploymentState::Unknown => {}
            // After a start, what was there before is no news.
            DeploymentState::Deployed if before.is_none() => {}
            DeploymentState::Deployed
            | DeploymentState::Progressing
            | DeploymentState::Waiting
            | DeploymentState::Paused
            | DeploymentState::HandsOff
            | DeploymentState::NotFound => context.events.normal(about.clone(), reason, "Deploy", note),
        }
    }
    let is_local = |report: &ClusterReport| report.storage.as_ref().is_some_and(|s| s.provider == "local");
    let ended = cluster.spec.medusa.is_none() && old.is_some_and(is_local);
    let gone = |d: &DatacenterReport| d.why.as_ref().is_some_and(|why| why.reason == Reason::Removing);
    if ended || (is_local(new) && new.datacenters.iter().any(gone)) {
        let note =
            "the volumes with backups are left where they are; delete their PersistentVolumeClaims by hand";
        context.events.normal(about, Reason::VolumeKept, "Deploy", note);
    }
}
