//! Two hundred MedusaBackupSchedules that are due in the same minute, in one data plane.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use kube::{
    ResourceExt as _,
    api::{ListParams, ObjectMeta},
};
use medusa_fleet::{
    api::{
        labels,
        medusa::{MedusaBackupJob, MedusaBackupSchedule},
    },
    runtime::clock,
};
use serde_json::{Value, json};

use crate::{
    clusters::{
        IN_FLIGHT, PATIENCE, Requests, apply_all, clean, clear, create_job, datacenter_name, datacenters,
        is_write,
    },
    harness::{Cluster, Result},
    objects::SHOP,
    recorder::Recorder,
    registered_fleet::BenchClusters,
    report::{Report, Row},
    support::{pause, say},
};

/// Schedules that are due together, each of a datacenter of its own.
const MANY: usize = 200;
/// Number of the data plane they are in.
const PLANE: usize = 1;
/// Name of that data plane in the names of its datacenters.
const NAME: &str = "bench";
/// How long before its slot a schedule must have been looked at: a slower start waits for another minute.
const READY: i64 = 5;

/// Milliseconds from the slot until every schedule has its job, without and with a kill -9 when half of them
/// have theirs.
pub async fn schedules(clusters: &BenchClusters, runs: usize, report: &mut Report) -> Result<()> {
    let cluster = &clusters.plane(PLANE)?;
    clean(cluster).await?;
    clear::<MedusaBackupSchedule>(cluster, SHOP, "").await?;
    datacenters(cluster, NAME, MANY).await?;
    let bare = bare(cluster).await?;
    for is_killed in [false, true] {
        let (mut times, mut wrong, mut note) = (Vec::new(), Wrong::default(), String::new());
        for run in 0..runs {
            say(format!("  schedules, run {} of {runs}, killed: {is_killed}", run + 1));
            let done =
                one(clusters, cluster, &format!("r{run}{}", if is_killed { "k" } else { "u" }), is_killed)
                    .await?;
            times.push(done.millis);
            wrong.lost += done.wrong.lost;
            wrong.doubled += done.wrong.doubled;
            note = done.note;
        }
        let what = if is_killed { "200 schedules at once, killed at half" } else { "200 schedules at once" };
        let peer = if is_killed { "loses a slot" } else { "2,200–2,900" };
        let found = format!("lost {}, doubled {}; {note}", wrong.lost, wrong.doubled);
        report.add(Row::new(what, 1, 0, "ms").ours(&times).bare(&bare).peer(peer).note(found));
    }
    Ok(())
}

#[derive(Default)]
struct Wrong {
    lost: usize,
    doubled: usize,
}

struct Done {
    millis: f64,
    wrong: Wrong,
    note: String,
}

/// One slot of all schedules. `run` begins their names.
async fn one(clusters: &BenchClusters, cluster: &Cluster, run: &str, is_killed: bool) -> Result<Done> {
    let mut recorder = Recorder::new();
    recorder.watch::<MedusaBackupJob>(PLANE, "MedusaBackupJob", cluster.api(SHOP), name);
    let mut process = clusters.data_plane(cluster)?;
    let (slot, at) = create_all(cluster, run).await?;
    let before = Requests::of(cluster).await?;
    pause(u64::try_from((at - Instant::now()).as_millis()).unwrap_or_default()).await;
    if is_killed {
        recorder.until_count("MedusaBackupJob", run, MANY / 2).await?;
        process.restart()?;
    }
    let end = recorder.until_count("MedusaBackupJob", run, MANY).await?;
    let note = format!("data plane VmHWM {:.1} MiB", process.memory("VmHWM")?);
    pause(2000).await;
    let grown = Requests::of(cluster).await?.since(&before);
    let writes = grown.sum(|what| what.contains("medusabackup") && is_write(what));
    let wrong = count(cluster, run, slot).await?;
    process.stop().await;
    clear::<MedusaBackupSchedule>(cluster, SHOP, "").await?;
    clear::<MedusaBackupJob>(cluster, SHOP, "").await?;
    let millis = (end - at).as_secs_f64() * 1000.0;
    Ok(Done { millis, wrong, note: format!("{note}, {:.1} writes per slot", writes / 200.0) })
}

fn name(job: &MedusaBackupJob) -> String {
    job.name_any()
}

/// Creates the schedules for the next minute that leaves them time to be looked at; returns that minute, and
/// when it begins.
async fn create_all(cluster: &Cluster, run: &str) -> Result<(Timestamp, Instant)> {
    loop {
        let now = clock::now();
        // Creating them takes a few seconds; a minute that would be missed is skipped.
        let slot = Timestamp::from_second(((now.as_second() + 15) / 60 + 1) * 60)?;
        let at = Instant::now() + Duration::try_from(slot.duration_since(now))?;
        let of_day = slot.as_second().rem_euclid(86_400) / 60;
        let cron = format!("{} {} * * *", of_day % 60, of_day / 60);
        apply_all(cluster, SHOP, (1..=MANY).map(|n| schedule(run, n, &cron)).collect()).await?;
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let all = cluster.api::<MedusaBackupSchedule>(SHOP);
            let all = all.list(&ListParams::default()).await?;
            let is_ready = |s: &MedusaBackupSchedule| {
                s.status.as_ref().and_then(|s| s.next_schedule.as_ref()).is_some_and(|next| next.0 == slot)
            };
            if all.iter().filter(|s| is_ready(s)).count() == MANY {
                break;
            }
            pause(200).await;
        }
        if slot.as_second() - clock::now().as_second() >= READY {
            return Ok((slot, at));
        }
        say("  the schedules were not ready in time; another minute");
        clear::<MedusaBackupSchedule>(cluster, SHOP, "").await?;
        clear::<MedusaBackupJob>(cluster, SHOP, "").await?;
    }
}

fn schedule(run: &str, number: usize, cron: &str) -> Value {
    json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackupSchedule",
        "metadata": {"name": format!("{run}-{number}")},
        "spec": {
            "cronSchedule": cron,
            "backupSpec": {"cassandraDatacenter": datacenter_name(NAME, number), "backupType": "differential"},
        },
    })
}

/// Schedules whose job for `slot` is missing, and those that have more than one job.
async fn count(cluster: &Cluster, run: &str, slot: Timestamp) -> Result<Wrong> {
    let jobs = cluster.api::<MedusaBackupJob>(SHOP);
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for job in jobs.list(&ListParams::default()).await? {
        let schedule = job.labels().get(labels::SCHEDULE).cloned().unwrap_or_default();
        found.entry(schedule).or_default().push(job.name_any());
    }
    let ran = |n: &usize| {
        let schedule = format!("{run}-{n}");
        let job = format!("{schedule}-{}", slot.as_second());
        found.get(&schedule).is_some_and(|jobs| jobs.contains(&job))
    };
    Ok(Wrong {
        lost: (1..=MANY).filter(|n| !ran(n)).count(),
        doubled: found.values().filter(|jobs| jobs.len() > 1).count(),
    })
}

/// Milliseconds a bare client takes to create as many jobs.
async fn bare(cluster: &Cluster) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        let jobs: Vec<Value> = (1..=MANY).map(bare_job).collect();
        stream::iter(jobs)
            .map(|job| async move { create_job(cluster, SHOP, &job).await })
            .buffer_unordered(IN_FLIGHT)
            .try_collect::<Vec<()>>()
            .await?;
        times.push(start.elapsed().as_secs_f64() * 1000.0);
        clear::<MedusaBackupJob>(cluster, SHOP, "").await?;
        pause(500).await;
    }
    Ok(times)
}

fn bare_job(number: usize) -> Value {
    let metadata = ObjectMeta {
        name: Some(format!("bare-{number}")),
        labels: Some([(labels::SCHEDULE.to_owned(), format!("bare-{number}"))].into()),
        ..ObjectMeta::default()
    };
    json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackupJob", "metadata": metadata,
        "spec": {"cassandraDatacenter": datacenter_name(NAME, number), "backupType": "differential"},
    })
}
