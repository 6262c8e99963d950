//! One job for the fleet, one child per datacenter, one verdict.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use medusa_fleet::api::{
    cassandra::CassandraDatacenter,
    fleet::{FleetBackup, FleetBackupJob, FleetCluster, Phase},
    medusa::{MedusaBackup, MedusaBackupJob, MedusaTask},
};
use serde_json::{Value, json};

use crate::{
    support::{
        BackupFinisher, CASS, ControlPlane, FLEET, Fleet, backup_job, condition, datacenter, eventually,
        finish, node_names, write_backup,
    },
    tasks::{child_name, task},
};

/// The first eight hex digits of a job's uid, which end its children's names.
fn digits(job: &impl kube::ResourceExt) -> String {
    job.uid().unwrap().replace('-', "").chars().take(8).collect()
}

/// Waits until the entry of a datacenter is in a phase for a reason.
async fn expect_entry(
    fleet: &Fleet,
    job: &str,
    datacenter: &str,
    phase: Phase,
    reason: &str,
) -> FleetBackupJob {
    eventually(format!("{job}: {datacenter} is {} because of {reason}", phase.as_str()), async || {
        let job = fleet.job(job).await;
        let status = job.status.clone().unwrap_or_default();
        let entry = status.datacenters.iter().find(|e| e.datacenter == datacenter);
        let reached = entry.is_some_and(|e| e.phase == phase && e.reason.as_deref() == Some(reason));
        if reached { Ok(job) } else { Err(format!("{entry:#?}")) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_makes_one_child_per_datacenter_and_succeeds_when_every_backup_is_there() {
    let fleet = Fleet::start(3).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    for number in 1..=3 {
        fleet.dp(number).create(datacenter(&format!("dc{number}"), "shop", 2)).await;
    }
    home.appears::<FleetCluster>(FLEET, "shop").await;
    eventually("all datacenters are found", async || {
        let size = home.get::<FleetCluster>(FLEET, "shop").await.status.unwrap_or_default().size;
        if size == 3 { Ok(()) } else { Err(size) }
    })
    .await;
    let made = home.create(backup_job("nightly", json!({}))).await;

    // Names, labels, owner: docs/fleetbackupjob.md.
    let mut control_planes = Vec::new();
    let mut children = Vec::new();
    for number in 1..=3 {
        let name = format!("nightly-dc{number}-{}", digits(&made));
        let child: MedusaBackupJob = fleet.dp(number).appears(CASS, &name).await;
        let dc = format!("dc{number}");
        let own: CassandraDatacenter = fleet.dp(number).get(CASS, &dc).await;
        let labels = child.labels();
        assert_eq!(labels["fleet.k8ssandra.io/job"], "nightly");
        assert_eq!(labels["fleet.k8ssandra.io/job-uid"], made.uid().unwrap());
        assert_eq!(labels["cassandra.datastax.com/cluster"], "shop");
        assert_eq!(labels["cassandra.datastax.com/datacenter"], dc);
        control_planes.push(labels["fleet.k8ssandra.io/control-plane"].clone());
        let owners = serde_json::to_value(child.owner_references()).unwrap();
        let owner = json!([{
            "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenter",
            "name": dc, "uid": own.uid(),
        }]);
        assert_eq!(owners, owner);
        assert_eq!(child.spec.cassandra_datacenter, dc);
        assert_eq!(child.spec.backup_type.as_str(), "differential");
        children.push(child);
    }
    control_planes.dedup();
    assert_eq!(control_planes.len(), 1, "{control_planes:?}");

    let running = expect_entry(&fleet, "nightly", "dc1", Phase::Running, "JobCreated").await.status.unwrap();
    assert_eq!(running.run.phase, Some(Phase::Running));
    assert_eq!(running.run.done.as_deref(), Some("0/3"));

    // finishTime alone is no success.
    let at = &children[0].metadata.creation_timestamp;
    let ended = json!({"startTime": at, "finishTime": at, "finished": node_names("dc1", 2)});
    fleet.dp(1).patch_status::<MedusaBackupJob>(CASS, &children[0].name_any(), ended).await;
    expect_entry(&fleet, "nightly", "dc1", Phase::Running, "AwaitingMedusaBackup").await;
    write_backup(fleet.dp(1), &children[0].name_any(), "dc1", 2, "SUCCESS").await;
    let status = expect_entry(&fleet, "nightly", "dc1", Phase::Succeeded, "Succeeded").await.status.unwrap();
    assert_eq!((status.run.phase, status.run.done.as_deref()), (Some(Phase::Running), Some("1/3")));

    // A node under way is counted.
    let nodes = node_names("dc2", 2);
    let half = json!({"startTime": at, "finished": [nodes[0]], "inProgress": [nodes[1]]});
    fleet.dp(2).patch_status::<MedusaBackupJob>(CASS, &children[1].name_any(), half).await;
    let status = expect_entry(&fleet, "nightly", "dc2", Phase::Running, "Running").await.status.unwrap();
    let counted = status.datacenters[1].nodes.unwrap();
    assert_eq!((counted.total, counted.finished, counted.failed), (2, 1, 0));
    finish(fleet.dp(2), &children[1]).await;
    finish(fleet.dp(3), &children[2]).await;

    let done = fleet.expect_phase("nightly", Phase::Succeeded).await.status.unwrap();
    let counts = done.run.counts.unwrap();
    assert_eq!((counts.total, counts.succeeded), (3, 3));
    assert_eq!(done.run.done.as_deref(), Some("3/3"));
    assert_eq!(done.size.as_deref(), Some("6.00 KB"));
    assert!(
        done.run.start_time.is_some() && done.run.finish_time.is_some() && done.start_skew_seconds.is_some()
    );
    let point = format!("nightly-{}.shop", digits(&made));
    assert_eq!(done.restore_points, std::slice::from_ref(&point));
    let (status, reason, message) = condition(&done.run.conditions, "Complete");
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Succeeded"), "{message}");
    home.event("FleetBackupJob", "nightly", "Succeeded").await;
    eventually("its restore point is complete", async || {
        let backup = home.find::<FleetBackup>(FLEET, &point).await.ok_or("it is not there")?;
        let status = backup.status.unwrap_or_default();
        if status.complete && status.restorable { Ok(()) } else { Err("it is not complete") }
    })
    .await;
    for number in 1..=3 {
        let posts = fleet.dp(number).writes("medusabackupjobs").await.get("POST").copied();
        assert_eq!(posts, Some(1), "one write makes a child");
    }
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn success_is_never_read_from_the_finish_time_and_a_foreign_child_is_left_alone() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    let names = ["good", "node", "missing", "short", "wrong", "word", "taken", "gone"];
    for name in names {
        there.create(datacenter(name, "shop", 2)).await;
    }
    // The foreign object is there first: only the job's uid makes its name.
    controller.kill9();
    let made = home.create(backup_job("verdicts", json!({}))).await;
    let name = |dc: &str| format!("verdicts-{dc}-{}", digits(&made));
    let foreign = there
        .create(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackupJob",
            "metadata": {"name": name("taken"), "namespace": CASS}, "spec": {"cassandraDatacenter": "good"},
        }))
        .await;
    controller.start();
    expect_entry(&fleet, "verdicts", "taken", Phase::Failed, "NameConflict").await;
    let mut children = BTreeMap::new();
    for dc in names.iter().filter(|dc| **dc != "taken") {
        let child: MedusaBackupJob = there.appears(CASS, &name(dc)).await;
        children.insert(*dc, child);
    }

    let at = &made.metadata.creation_timestamp;
    let end = async |dc: &str, finished: &[String], failed: &[String]| {
        let status = json!({"startTime": at, "finishTime": at, "finished": finished, "failed": failed});
        there.patch_status::<MedusaBackupJob>(CASS, &name(dc), status).await;
    };
    finish(there, &children["good"]).await;
    let nodes = node_names("node", 2);
    write_backup(there, &name("node"), "node", 2, "SUCCESS").await;
    end("node", &nodes[..1], &nodes[1..]).await;
    end("missing", &node_names("missing", 2), &[]).await;
    write_backup(there, &name("short"), "short", 1, "SUCCESS").await;
    end("short", &node_names("short", 2), &[]).await;
    write_backup(there, &name("wrong"), "wrong", 2, "SUCCESS").await;
    let elsewhere: Vec<Value> =
        node_names("good", 2).into_iter().map(|h| json!({"host": h, "datacenter": "good"})).collect();
    there.patch_status::<MedusaBackup>(CASS, &name("wrong"), json!({"nodes": elsewhere})).await;
    end("wrong", &node_names("wrong", 2), &[]).await;
    write_backup(there, &name("word"), "word", 2, "IN_PROGRESS").await;
    end("word", &node_names("word", 2), &[]).await;
    expect_entry(&fleet, "verdicts", "gone", Phase::Running, "JobCreated").await;
    there.delete::<MedusaBackupJob>(CASS, &name("gone")).await;

    // What may still come is waited for a minute.
    let done = fleet.expect_phase("verdicts", Phase::PartiallyFailed).await.status.unwrap();
    let verdict = |dc: &str| {
        let entry = done.datacenters.iter().find(|e| e.datacenter == dc).unwrap();
        (entry.phase, entry.reason.clone().unwrap_or_default())
    };
    let failed = |reason: &str| (Phase::Failed, reason.to_owned());
    assert_eq!(verdict("good"), (Phase::Succeeded, "Succeeded".to_owned()));
    assert_eq!(verdict("node"), failed("NodesFailed"));
    assert_eq!(verdict("missing"), failed("MedusaBackupMissing"));
    assert_eq!(verdict("short"), failed("BackupIncomplete"));
    assert_eq!(verdict("wrong"), failed("WrongDatacenter"));
    assert_eq!(verdict("word"), failed("BackupIncomplete"));
    assert_eq!(verdict("taken"), failed("NameConflict"));
    assert_eq!(verdict("gone"), failed("JobDeleted"));
    let counts = done.run.counts.unwrap();
    assert_eq!((counts.total, counts.succeeded, counts.failed), (8, 1, 7));
    assert_eq!(done.run.done.as_deref(), Some("8/8"));
    home.event("FleetBackupJob", "verdicts", "PartiallyFailed").await;
    let now: MedusaBackupJob = there.get(CASS, &name("taken")).await;
    assert_eq!(foreign.resource_version(), now.resource_version(), "a foreign job was written to");
    assert!(there.find::<MedusaBackupJob>(CASS, &name("gone")).await.is_none(), "a deleted child came back");
    controller.assert_running();
}

#[expect(clippy::too_many_lines, reason = "one fleet, many selectors")]
#[tokio::test(flavor = "multi_thread")]
async fn a_selector_means_what_it_says_and_names_what_it_does_not_find() {
    let fleet = Fleet::start(2).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    home.patch::<medusa_fleet::api::fleet::DataPlane>(
        FLEET,
        "dp-1",
        json!({"metadata": {"labels": {"region": "eu"}}}),
    )
    .await;
    let mut gold = datacenter("gold", "shop", 1);
    gold["metadata"]["labels"]["tier"] = json!("gold");
    let mut bare = datacenter("bare", "shop", 1);
    bare["spec"].as_object_mut().unwrap().remove("podTemplateSpec");
    let mut stopped = datacenter("stopped", "shop", 1);
    stopped["spec"]["stopped"] = json!(true);
    for dc in [gold, bare, stopped] {
        fleet.dp(1).create(dc).await;
    }
    fleet.dp(2).create(datacenter("blog1", "blog", 1)).await;
    let _finishers = (BackupFinisher::start(fleet.dp(1)), BackupFinisher::start(fleet.dp(2)));
    home.appears::<FleetCluster>(FLEET, "blog").await;
    home.patch::<FleetCluster>(FLEET, "blog", json!({"metadata": {"labels": {"team": "web"}}})).await;
    eventually("dp-1's datacenters are found", async || {
        let cluster = home.find::<FleetCluster>(FLEET, "shop").await.and_then(|c| c.status);
        let size = cluster.map_or(0, |s| s.size);
        if size == 3 { Ok(()) } else { Err(size) }
    })
    .await;

    let ok = "Succeeded";
    let left = ["bare=MedusaNotDeployed", "stopped=DatacenterStopped"];
    let all: Vec<&str> = ["blog1=Succeeded", "gold=Succeeded"].into_iter().chain(left).collect();
    let shop: Vec<&str> = std::iter::once("gold=Succeeded").chain(left).collect();
    // (job, selector, phase, entries by datacenter, reason of the condition)
    let cases: Vec<(&str, Value, Phase, Vec<&str>, &str)> = vec![
        ("all", json!({}), Phase::Succeeded, all, ok),
        ("by-cluster", json!({"clusters": ["blog"]}), Phase::Succeeded, vec!["blog1=Succeeded"], ok),
        ("by-plane", json!({"dataPlanes": ["dp-1"]}), Phase::Succeeded, shop.clone(), ok),
        (
            "by-region",
            json!({"dataPlaneSelector": {"matchLabels": {"region": "eu"}}}),
            Phase::Succeeded,
            shop,
            ok,
        ),
        (
            "by-team",
            json!({"clusterSelector": {"matchExpressions":
            [{"key": "team", "operator": "In", "values": ["web", "app"]}]}}),
            Phase::Succeeded,
            vec!["blog1=Succeeded"],
            ok,
        ),
        (
            "by-tier",
            json!({"datacenterSelector": {"matchLabels": {"tier": "gold"}}}),
            Phase::Succeeded,
            vec!["gold=Succeeded"],
            ok,
        ),
        (
            "named-bare",
            json!({"datacenters": ["bare"]}),
            Phase::Failed,
            vec!["bare=MedusaNotDeployed"],
            "Failed",
        ),
        (
            "half-there",
            json!({"datacenters": ["gold", "typo"]}),
            Phase::PartiallyFailed,
            vec!["gold=Succeeded", "typo=DatacenterNotFound"],
            "PartiallyFailed",
        ),
        (
            "ghost",
            json!({"dataPlanes": ["dp-2", "ghost"]}),
            Phase::PartiallyFailed,
            vec!["-=UnknownDataPlane", "blog1=Succeeded"],
            "PartiallyFailed",
        ),
        ("nothing", json!({"namespaces": ["nowhere"]}), Phase::Failed, vec![], "NoDatacenters"),
        (
            "no-label",
            json!({"datacenterSelector": {"matchLabels": {"no label!": "é"}}}),
            Phase::Failed,
            vec![],
            "NoDatacenters",
        ),
        ("nobody", json!({"clusters": ["typo"]}), Phase::Failed, vec![], "NoDatacenters"),
    ];
    for (name, selector, ..) in &cases {
        home.create(backup_job(name, selector.clone())).await;
    }
    for (name, _, phase, entries, reason) in cases {
        let status = fleet.expect_phase(name, phase).await.status.unwrap();
        let mut seen: Vec<String> = status
            .datacenters
            .iter()
            .map(|e| format!("{}={}", e.datacenter, e.reason.clone().unwrap_or_default()))
            .collect();
        seen.sort();
        let mut wanted = entries;
        wanted.sort_unstable();
        assert_eq!(seen, wanted, "{name}");
        let (_, seen, message) = condition(&status.run.conditions, "Complete");
        assert_eq!(seen, reason, "{name}: {message}");
        assert!(!message.is_empty(), "{name}");
    }
    for expression in
        [json!({"key": "x", "operator": "Near"}), json!({"key": "x"}), json!({"operator": "In"})]
    {
        let selector = json!({"datacenterSelector": {"matchExpressions": [expression]}});
        let refused = home.try_create(backup_job("near", selector)).await.unwrap_err().to_string();
        assert!(refused.contains("matchExpressions[0]"), "{refused}");
    }
    let change = json!({"spec": {"selector": {"clusters": ["blog"]}}});
    let api = home.api::<FleetBackupJob>(FLEET);
    let refused =
        api.patch("all", &kube::api::PatchParams::default(), &kube::api::Patch::Merge(change)).await;
    assert!(refused.unwrap_err().to_string().contains("cannot be changed"));
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datacenter_made_in_the_same_moment_as_its_run_is_found() {
    let fleet = Fleet::start(1).await;
    let (home, eu) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    home.create(backup_job("named", json!({"datacenters": ["dc1"]}))).await;
    home.create(backup_job("whole", json!({"clusters": ["shop"]}))).await;
    let task =
        home.create(task("named", json!({"operation": "sync", "selector": {"datacenters": ["dc1"]}}))).await;
    eu.create(datacenter("dc1", "shop", 1)).await;
    let _finisher = BackupFinisher::start(eu);
    for name in ["named", "whole"] {
        fleet.expect_phase(name, Phase::Succeeded).await;
    }
    eu.appears::<MedusaTask>(CASS, &child_name(&task, "dc1")).await;
    controller.assert_running();
}
