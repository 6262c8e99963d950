//! A data plane's own work: a MedusaBackupJob of thirty pods whose Medusas answer at once.

use std::{sync::atomic::Ordering, time::Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use medusa_fleet::api::{
    Conditions as _, labels,
    medusa::{MedusaBackup, MedusaBackupJob},
};
use serde_json::{Value, json};

use crate::{
    clusters::{Requests, apply, clean, create_job, datacenters, is_write},
    harness::{Cluster, Program, Result},
    objects::SHOP,
    peer::Peers,
    recorder::Recorder,
    registered_fleet::BenchClusters,
    report::{Report, Row},
    support::pause,
};

/// Pods of the datacenter.
const PODS: usize = 30;
/// Jobs that are started at once.
const AT_ONCE: usize = 50;
/// How often.
const WAVES: usize = 4;
/// The datacenter.
const DATACENTER: &str = "bench-dc1";
/// Number of the data plane it is in, and of its watches in the recorder.
const PLANE: usize = 1;

/// Milliseconds from the creation of a MedusaBackupJob until its MedusaBackup exists; the connections and
/// requests it takes.
pub async fn backup(clusters: &BenchClusters, runs: usize, report: &mut Report) -> Result<()> {
    let cluster = &clusters.plane(PLANE)?;
    clean(cluster).await?;
    datacenters(cluster, "bench", 1).await?;
    let nodes: Vec<String> = (0..PODS).map(|n| format!("shop-{DATACENTER}-default-sts-{n}")).collect();
    let peers = Peers::start(DATACENTER, &nodes).await?;
    for (node, address) in nodes.iter().zip(&peers.addresses) {
        make_pod(cluster, node, &address.to_string()).await?;
    }
    let mut recorder = Recorder::new();
    recorder.watch::<MedusaBackup>(PLANE, "MedusaBackup", cluster.api(SHOP), state);
    recorder.watch::<MedusaBackupJob>(PLANE, "MedusaBackupJob", cluster.api(SHOP), verdict);
    let process = clusters.data_plane(cluster)?;
    let measured = measure(cluster, &mut recorder, &peers, &process, runs, report).await;
    process.stop().await;
    measured
}

async fn measure(
    cluster: &Cluster,
    recorder: &mut Recorder,
    peers: &Peers,
    process: &Program,
    runs: usize,
    report: &mut Report,
) -> Result<()> {
    let (mut done, mut most) = (Vec::new(), 0);
    // The first run is not counted: it includes the controller's own start.
    for run in 0..=runs {
        let name = format!("backup-{run}");
        let start = Instant::now();
        create_job(cluster, SHOP, &job(&name)).await?;
        let at = {
            let backup = recorder.until_marked([(PLANE, "MedusaBackup", name.clone())], "SUCCESS");
            tokio::pin!(backup);
            loop {
                tokio::select! {
                    at = &mut backup => break at?,
                    () = pause(5) => most = most.max(peers.connections()?),
                }
            }
        };
        recorder.until_marked([(PLANE, "MedusaBackupJob", name)], "True").await?;
        pause(500).await;
        if run > 0 {
            done.push((at - start).as_secs_f64() * 1000.0);
        }
    }
    let left = peers.connections()?;
    report.add(
        Row::new("MedusaBackupJob of 30 pods", 1, 0, "ms")
            .ours(&done)
            .peer("30,190 (15,190 with an owner)")
            .note("the peer answers at once; until the MedusaBackup says SUCCESS"),
    );
    let count = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    report.add(
        Row::new("MedusaBackupJob: connections left", 1, 0, "")
            .ours(&[count(left)])
            .peer("30 per job, never closed")
            .note(format!("at most {most} seen during a job")),
    );
    requests(cluster, recorder, peers, report).await?;

    let mut waves = Vec::new();
    for wave in 0..WAVES {
        let names: Vec<String> = (0..AT_ONCE).map(|n| format!("wave-{wave}-{n}")).collect();
        let jobs: Vec<Value> = names.iter().map(|name| job(name)).collect();
        let start = Instant::now();
        futures::future::try_join_all(jobs.iter().map(|job| create_job(cluster, SHOP, job))).await?;
        let places = names.into_iter().map(|name| (PLANE, "MedusaBackup", name));
        let end = recorder.until_marked(places, "SUCCESS").await?;
        pause(1500).await;
        waves.push((end - start).as_secs_f64() * 1000.0);
        if wave == 0 || wave + 1 == WAVES {
            report.add(
                Row::new("data plane: memory (VmRSS)", 1, 0, "MiB")
                    .ours(&[process.memory("VmRSS")?])
                    .peer("190 after 56 jobs")
                    .note(format!(
                        "after {} jobs; at most {:.1}; connections left: {}",
                        runs + 2 + AT_ONCE * (wave + 1),
                        process.memory("VmHWM")?,
                        peers.connections()?
                    )),
            );
        }
    }
    report.add(Row::new("50 MedusaBackupJobs of 30 pods at once", 1, 0, "ms").ours(&waves).peer("19,300"));
    Ok(())
}

/// What one job costs in requests and calls.
async fn requests(
    cluster: &Cluster,
    recorder: &mut Recorder,
    peers: &Peers,
    report: &mut Report,
) -> Result<()> {
    let calls = || {
        [&peers.calls.start, &peers.calls.status, &peers.calls.summary]
            .map(|calls| calls.load(Ordering::Relaxed))
    };
    let (before, [first, second, third]) = (Requests::of(cluster).await?, calls());
    create_job(cluster, SHOP, &job("counted")).await?;
    recorder.until_marked([(PLANE, "MedusaBackupJob", "counted".to_owned())], "True").await?;
    pause(1500).await;
    let grown = Requests::of(cluster).await?.since(&before);
    // One POST is this program's own.
    let writes = grown.sum(|what| what.contains("medusabackup") && is_write(what)) - 1.0;
    let [starts, statuses, summaries] = calls();
    report.add(Row::new("MedusaBackupJob: writes", 1, 0, "requests").ours(&[writes]).peer("7").note(
        format!(
            "calls: {} AsyncBackup, {} BackupStatus, {} GetBackup",
            starts - first,
            statuses - second,
            summaries - third
        ),
    ));
    report.remarks.push(format!(
        "Requests of one MedusaBackupJob, {PODS} pods (one POST of medusabackupjobs is this program's own):\n  {}",
        grown.line()
    ));
    Ok(())
}

fn state(backup: &MedusaBackup) -> String {
    backup.status.as_ref().and_then(|status| status.status.clone()).unwrap_or_default()
}

fn verdict(job: &MedusaBackupJob) -> String {
    let conditions = job.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
    conditions.of_type("Complete").map(|condition| condition.status.clone()).unwrap_or_default()
}

fn job(name: &str) -> Value {
    json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackupJob",
        "metadata": {"name": name}, "spec": {"cassandraDatacenter": DATACENTER},
    })
}

/// A pod as cass-operator labels it, with the status a kubelet gives one that is ready.
async fn make_pod(cluster: &Cluster, name: &str, address: &str) -> Result<()> {
    let object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {
            labels::CASSANDRA_CLUSTER: SHOP, labels::CASSANDRA_DATACENTER: DATACENTER,
        }},
        "spec": {"containers": [{"name": "cassandra", "image": "none"}, {"name": "medusa", "image": "none"}]},
    });
    apply(cluster, SHOP, &object).await?;
    let since = "2026-01-01T00:00:00Z";
    let status = json!({
        "status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": since}],
        },
    });
    cluster.api::<Pod>(SHOP).patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await?;
    Ok(())
}
