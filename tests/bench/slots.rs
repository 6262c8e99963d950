//! A thousand FleetBackupSchedules that are due in the same minute, over a hundred datacenters: how long until each has
//! its run, whether any is lost or doubled, and whether the limits of the data planes hold meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::TryStreamExt as _;
use jiff::Timestamp;
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use medusa_fleet::{
    api::{
        fleet::{DataPlane, FleetBackupJob, FleetBackupSchedule},
        labels,
        medusa::{MedusaBackup, MedusaBackupJob},
    },
    runtime::clock,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    clusters::{apply_all, clear, datacenter_name},
    harness::{Cluster, Result},
    objects::SHOP,
    recorder::Recorder,
    registered_fleet::{DATACENTERS, HOME, RegisteredFleet},
    report::{Report, Row},
    support::{pause, say},
};

/// Schedules that are due together.
const MANY: usize = 1_000;
/// Backups a data plane lets run at a time.
const LIMIT: usize = 5;
/// How long before its slot the last schedule must have been looked at.
const READY: i64 = 5;
/// Longest time until the last run has its MedusaBackupJob.
const PATIENCE: Duration = Duration::from_mins(10);

/// Milliseconds from the slot until every schedule has its run.
pub async fn slots(fleet: &mut RegisteredFleet, report: &mut Report) -> Result<()> {
    limit(fleet, Some(LIMIT)).await?;
    let mut recorder = Recorder::new();
    let jobs: Api<FleetBackupJob> = fleet.home.api(&fleet.namespace);
    recorder.watch::<FleetBackupJob>(HOME, "FleetBackupJob", jobs.clone(), |job| {
        if labels::is_held(job.finalizers()) { "held".to_owned() } else { "let go".to_owned() }
    });
    let (slot, at) = create_all(fleet).await?;
    let workers = Workers::start(fleet);
    let before = fleet.requests().await?;
    pause(u64::try_from(at.saturating_duration_since(Instant::now()).as_millis()).unwrap_or_default()).await;
    let runs = (0..MANY).map(|n| (HOME, "FleetBackupJob", run_name(n, slot)));
    let end = recorder.until_marked(runs, "let go").await?;
    let all_at_work = workers.until(MANY).await;
    let drained = at.elapsed().as_secs_f64();
    pause(2_000).await;
    let home = fleet.requests().await?.0.since(&before.0);
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let writes =
        home.sum(|what| crate::clusters::is_write(what) && what.contains("fleetbackup")) / MANY as f64;
    let found = wrong(&jobs, slot, &workers).await?;
    let peak = workers.peak();
    report.add(
        Row::new("1,000 FleetBackupSchedules at once", fleet.planes.len(), fleet.delay, "ms")
            .ours(&[(end - at).as_secs_f64() * 1000.0])
            .note(format!(
                "{found}; at most {peak} backups at a time in a data plane that allows {LIMIT}; {all_at_work} begun after \
                 {drained:.0} s; {writes:.1} writes per run; control plane VmHWM {:.1} MiB",
                fleet.process()?.memory("VmHWM")?
            )),
    );
    clear::<FleetBackupSchedule>(&fleet.home, &fleet.namespace, "").await?;
    clear::<FleetBackupJob>(&fleet.home, &fleet.namespace, "").await?;
    for plane in &fleet.planes {
        clear::<MedusaBackupJob>(&plane.near, SHOP, "").await?;
        clear::<MedusaBackup>(&plane.near, SHOP, "").await?;
    }
    // What is measured after this knows of no limit.
    limit(fleet, None).await
}

/// Limits the backups each data plane lets run at a time, or takes the limit back.
async fn limit(fleet: &RegisteredFleet, most: Option<usize>) -> Result<()> {
    let planes: Api<DataPlane> = fleet.home.api(&fleet.namespace);
    let limits = Patch::Merge(json!({"spec": {"limits": {"maxConcurrentBackups": most}}}));
    for plane in &fleet.planes {
        planes.patch(&plane.name, &PatchParams::default(), &limits).await?;
    }
    Ok(())
}

fn schedule_name(number: usize) -> String {
    format!("bench-{number:04}")
}

fn run_name(number: usize, slot: Timestamp) -> String {
    format!("{}-{}", schedule_name(number), slot.as_second())
}

/// Creates the schedules for the next minute that leaves them time to be looked at; returns that minute, and when it
/// begins.
async fn create_all(fleet: &RegisteredFleet) -> Result<(Timestamp, Instant)> {
    let api: Api<FleetBackupSchedule> = fleet.home.api(&fleet.namespace);
    for lead in [60, 120, 240] {
        let now = clock::now();
        let slot = Timestamp::from_second(((now.as_second() + lead) / 60 + 1) * 60)?;
        let at = Instant::now() + Duration::try_from(slot.duration_since(now))?;
        let of_day = slot.as_second().rem_euclid(86_400) / 60;
        let cron = format!("{} {} * * *", of_day % 60, of_day / 60);
        apply_all(
            &fleet.home,
            &fleet.namespace,
            (0..MANY).map(|number| schedule(fleet, number, &cron)).collect(),
        )
        .await?;
        while slot.as_second() - clock::now().as_second() >= READY {
            let is_ready = |s: &FleetBackupSchedule| {
                s.status
                    .as_ref()
                    .and_then(|s| s.next_schedule_time.as_ref())
                    .is_some_and(|next| next.0 == slot)
            };
            let ready = api.list(&ListParams::default()).await?.iter().filter(|s| is_ready(s)).count();
            if ready == MANY {
                return Ok((slot, at));
            }
            pause(500).await;
        }
        say("  the schedules were not ready in time; another minute");
        clear::<FleetBackupSchedule>(&fleet.home, &fleet.namespace, "").await?;
        clear::<FleetBackupJob>(&fleet.home, &fleet.namespace, "").await?;
    }
    Err("the schedules were never ready in time".into())
}

/// One for one datacenter; every datacenter has as many.
fn schedule(fleet: &RegisteredFleet, number: usize, cron: &str) -> Value {
    let planes = fleet.planes.len();
    let per_plane = DATACENTERS.div_ceil(planes);
    let plane = fleet.planes.get(number % planes).map(|plane| plane.name.clone()).unwrap_or_default();
    let datacenter = datacenter_name(&plane, number / planes % per_plane + 1);
    json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetBackupSchedule",
        "metadata": {"name": schedule_name(number)},
        "spec": {
            "schedule": cron,
            "template": {"selector": {"dataPlanes": [plane], "datacenters": [datacenter]}},
        },
    })
}

/// What is lost and what is doubled, in words.
async fn wrong(jobs: &Api<FleetBackupJob>, slot: Timestamp, workers: &Workers) -> Result<String> {
    let there: BTreeSet<String> =
        jobs.list(&ListParams::default()).await?.iter().map(kube::ResourceExt::name_any).collect();
    let expected: BTreeSet<String> = (0..MANY).map(|number| run_name(number, slot)).collect();
    let lost = expected.difference(&there).count();
    let doubled =
        there.difference(&expected).count() + workers.begun().values().filter(|count| **count > 1).count();
    Ok(format!("lost {lost}, doubled {doubled}"))
}

#[derive(Default)]
struct Seen {
    /// MedusaBackupJobs ever seen, by fleet job.
    begun: BTreeMap<String, BTreeSet<String>>,
    /// Most unfinished ones at a time in a data plane.
    peak: usize,
}

/// Watches the MedusaBackupJobs of every data plane, counts those that are not finished, and finishes them.
struct Workers {
    seen: Arc<Mutex<Seen>>,
    _tasks: JoinSet<()>,
}

impl Workers {
    fn start(fleet: &RegisteredFleet) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut tasks = JoinSet::new();
        for plane in &fleet.planes {
            tasks.spawn(work(plane.near.clone(), Arc::clone(&seen)));
        }
        Self { seen, _tasks: tasks }
    }

    fn look<R>(&self, look: impl FnOnce(&Seen) -> R) -> R {
        look(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn peak(&self) -> usize {
        self.look(|seen| seen.peak)
    }

    fn begun(&self) -> BTreeMap<String, usize> {
        self.look(|seen| seen.begun.iter().map(|(job, children)| (job.clone(), children.len())).collect())
    }

    /// Waits until as many runs have begun; returns how many have.
    async fn until(&self, count: usize) -> usize {
        let end = Instant::now() + PATIENCE;
        while self.begun().len() < count && Instant::now() < end {
            pause(200).await;
        }
        self.begun().len()
    }
}

async fn work(cluster: Cluster, seen: Arc<Mutex<Seen>>) {
    let jobs: Api<MedusaBackupJob> = cluster.api(SHOP);
    let mut events = Box::pin(watcher(jobs.clone(), watcher::Config::default()).default_backoff());
    let mut unfinished: BTreeSet<String> = BTreeSet::new();
    while let Ok(event) = events.try_next().await {
        let job = match event {
            Some(Event::Apply(job) | Event::InitApply(job)) => job,
            Some(Event::Delete(job)) => {
                unfinished.remove(&job.name_any());
                continue;
            }
            Some(Event::Init | Event::InitDone) => continue,
            None => return,
        };
        let name = job.name_any();
        if job.status.as_ref().is_some_and(|status| status.finish_time.is_some()) {
            unfinished.remove(&name);
            continue;
        }
        if !unfinished.insert(name.clone()) {
            continue;
        }
        {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.peak = seen.peak.max(unfinished.len());
            let run = job.labels().get(labels::JOB).cloned().unwrap_or_default();
            seen.begun.entry(run).or_default().insert(name.clone());
        }
        let at = clock::now().to_string();
        let nodes: Vec<String> = (0..3).map(|n| format!("{}-{n}", job.spec.cassandra_datacenter)).collect();
        let patch = Patch::Merge(json!({"status": {"startTime": at, "finishTime": at, "failed": nodes}}));
        let _ = jobs.patch_status(&name, &PatchParams::default(), &patch).await;
    }
}
