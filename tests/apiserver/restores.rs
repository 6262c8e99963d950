//! One Cassandra cluster restored over its data planes: everything is checked before anything stops.

use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams},
};
use medusa_fleet::api::{
    cassandra::CassandraDatacenter,
    fleet::{DatacenterRun, FleetRestoreJob, Phase},
    medusa::{MedusaBackupJob, MedusaRestoreJob, MedusaTask},
};
use serde_json::{Value, json};

use crate::support::{
    CASS, Cluster, ControlPlane, FLEET, Fleet, backup_job, condition, eventually, medusa_fleet, node_names,
    restores::{
        backed_up, child_of, expect_end, expect_restore, expect_wait, ours, restorable, restore, restore_job,
        upstreams, work,
    },
    write_backup,
};

const BACKUP: &str = "b-0a0a0a0a.shop";

/// Nothing of a restore was ever made in a data plane.
async fn assert_untouched(cluster: &Cluster) {
    let posts = cluster.writes("medusarestorejobs").await.get("POST").copied().unwrap_or(0);
    assert_eq!(posts, 0, "a MedusaRestoreJob was made in {}", cluster.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_restored_by_one_job_per_datacenter_and_finished_jobs_are_deleted() {
    let fleet = Fleet::start(2).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    backed_up(&fleet).await;
    let made = home.create(restore_job("back", json!({"backup": BACKUP}))).await;
    let mut names = Vec::new();
    for number in [1, 2] {
        let dc = format!("dc{number}");
        let name = child_of(&made, &dc);
        let child: MedusaRestoreJob = fleet.dp(number).appears(CASS, &name).await;
        let own: CassandraDatacenter = fleet.dp(number).get(CASS, &dc).await;
        assert_eq!(child.spec.backup, format!("b-{dc}-0a0a0a0a"));
        assert_eq!(child.spec.cassandra_datacenter, dc);
        assert_eq!(child.labels()["fleet.k8ssandra.io/job-uid"], made.uid().unwrap());
        assert_eq!(child.labels()["cassandra.datastax.com/datacenter"], dc);
        assert_eq!(child.owner_references()[0].uid, own.uid().unwrap());
        names.push(name);
    }
    let status = expect_restore(&fleet, "back", "both jobs are recorded", |job| {
        let status = job.status.clone().unwrap_or_default();
        status.datacenters.len() == 2 && status.datacenters.iter().all(|run| run.job_uid.is_some())
    })
    .await
    .status
    .unwrap();
    assert!(status.checked_time.is_some() && status.cluster.as_deref() == Some("shop"));
    for entry in &status.plan {
        let passed: Vec<&str> = entry.checks.iter().map(|c| c.name.as_str()).collect();
        let all = ["DataPlane", "Capability", "Datacenter", "Medusa", "Backup", "Topology", "Idle"];
        assert_eq!(passed, all, "{entry:?}");
    }

    // No backup of the cluster meanwhile.
    home.create(backup_job("during", json!({"clusters": ["shop"]}))).await;
    eventually("the backup waits", async || {
        let status = fleet.job("during").await.status.unwrap_or_default();
        let waits = |e: &DatacenterRun| e.reason.as_deref() == Some("RestoreInProgress");
        let all = status.datacenters.len() == 2 && status.datacenters.iter().all(waits);
        if all { Ok(()) } else { Err(format!("{:?}", status.datacenters)) }
    })
    .await;

    // One restore at a time; the one that waits can be cancelled.
    home.create(restore_job("second", json!({"backup": BACKUP, "cluster": "shop"}))).await;
    expect_wait(&fleet, "second", "RestoreInProgress").await;
    home.patch::<FleetRestoreJob>(FLEET, "second", json!({"spec": {"cancel": true}})).await;
    let second = expect_end(&fleet, "second", Phase::Cancelled).await.status.unwrap();
    assert!(second.datacenters.is_empty(), "{second:#?}");

    // dp-1 is ours, dp-2 k8ssandra-operator's.
    let steps = upstreams();
    work(fleet.dp(2), &names[1], steps[2].clone()).await;
    expect_restore(&fleet, "back", "dc2 restores", |job| {
        let runs = job.status.clone().unwrap_or_default().datacenters;
        runs[1].reason.as_deref() == Some("Restoring") && runs[1].stopped_time.is_some()
    })
    .await;
    work(fleet.dp(1), &names[0], ours("dc1", 2, true)).await;
    let half = expect_restore(&fleet, "back", "dc1 is done", |job| {
        job.status.as_ref().is_some_and(|s| s.done.as_deref() == Some("1/2"))
    })
    .await;
    assert_eq!(half.status.unwrap().phase, Some(Phase::Running));
    fleet.dp(1).disappears::<MedusaRestoreJob>(CASS, &names[0]).await;
    work(fleet.dp(2), &names[1], steps[3].clone()).await;
    let done = expect_end(&fleet, "back", Phase::Succeeded).await.status.unwrap();
    assert_eq!(done.done.as_deref(), Some("2/2"));
    let nodes = done.datacenters[0].nodes.unwrap();
    assert_eq!((nodes.total, nodes.finished), (2, 2));
    let (complete, reason, message) = condition(&done.conditions, "Complete");
    assert_eq!((complete.as_str(), reason.as_str()), ("True", "Succeeded"), "{message}");
    assert_eq!(condition(&done.conditions, "ChecksPassed").0, "True");
    fleet.dp(2).disappears::<MedusaRestoreJob>(CASS, &names[1]).await;
    eventually("the backup begins after it", async || {
        let jobs = fleet.dp(1).list::<MedusaBackupJob>(CASS).await.len();
        if jobs == 1 { Ok(()) } else { Err(jobs) }
    })
    .await;
    home.event("FleetRestoreJob", "back", "ChecksPassed").await;
    home.event("FleetRestoreJob", "back", "Succeeded").await;
    for number in [1, 2] {
        let posts = fleet.dp(number).writes("medusarestorejobs").await.get("POST").copied();
        assert_eq!(posts, Some(1), "one write makes a job");
    }
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_begins_while_anything_stands_in_the_way() {
    let fleet = Fleet::start(2).await;
    let (home, one, two) = (fleet.home(), fleet.dp(1), fleet.dp(2));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    backed_up(&fleet).await;

    // What the API server refuses.
    for (spec, why) in [
        (json!({}), "spec.backup"),
        (json!({"datacenters": [{"datacenter": "dc1"}]}), "medusaBackup"),
        (json!({"backup": BACKUP, "order": "Random"}), "order"),
        (json!({"backup": BACKUP, "startDeadlineSeconds": 0}), "startDeadlineSeconds"),
    ] {
        let refused = home.try_create(restore_job("bad", spec)).await.unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }

    // What can never be: all reasons at once, and a dry run says the same.
    one.patch::<CassandraDatacenter>(CASS, "dc1", json!({"spec": {"size": 3}})).await;
    let bare = json!({"spec": {"podTemplateSpec": {"spec": {"initContainers": []}}}});
    two.patch::<CassandraDatacenter>(CASS, "dc2", bare).await;
    for (name, dry) in [("refused", false), ("dry", true)] {
        eventually("the plan sees what was changed", async || {
            let name = format!("{name}-{}", uuid());
            home.create(restore_job(&name, json!({"backup": BACKUP, "dryRun": dry}))).await;
            let status = expect_end(&fleet, &name, Phase::Failed).await.status.unwrap();
            let (_, _, message) = condition(&status.conditions, "Complete");
            let both = message.contains("3 in racks") && message.contains("medusa-restore");
            if both { Ok(()) } else { Err(message) }
        })
        .await;
    }
    for (name, spec, reason) in [
        ("no-backup", json!({"backup": "nothing.shop"}), "BackupNotFound"),
        ("no-cluster", json!({"backup": BACKUP, "cluster": "nowhere"}), "UnknownCluster"),
        ("no-dc", json!({"backup": BACKUP, "datacenters": [{"datacenter": "dc9"}]}), "DatacenterNotFound"),
        ("no-name", json!({"backup": BACKUP, "datacenters": [{"datacenter": "é"}]}), "InvalidSpec"),
    ] {
        home.create(restore_job(name, spec)).await;
        let status = expect_end(&fleet, name, Phase::Failed).await.status.unwrap();
        assert_eq!(condition(&status.conditions, "Complete").1, reason, "{status:#?}");
    }
    one.patch::<CassandraDatacenter>(CASS, "dc1", json!({"spec": {"size": 2}})).await;
    let init =
        json!({"spec": {"podTemplateSpec": {"spec": {"initContainers": [{"name": "medusa-restore"}]}}}});
    two.patch::<CassandraDatacenter>(CASS, "dc2", init).await;

    // Somebody's backup is waited for; the spec cannot be changed meanwhile.
    one.create(json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackupJob",
        "metadata": {"name": "somebodys", "namespace": CASS}, "spec": {"cassandraDatacenter": "dc1"},
    }))
    .await;
    eventually("the datacenters are as they were", async || {
        let name = format!("probe-{}", uuid());
        home.create(restore_job(&name, json!({"backup": BACKUP, "dryRun": true}))).await;
        let status = expect_end(&fleet, &name, Phase::Failed).await.status.unwrap();
        let reason = condition(&status.conditions, "Complete").1;
        if reason == "BackupRunning" { Ok(()) } else { Err(format!("{status:#?}")) }
    })
    .await;
    home.create(restore_job("waits", json!({"backup": BACKUP, "startDeadlineSeconds": 10}))).await;
    expect_wait(&fleet, "waits", "BackupRunning").await;
    let change = json!({"spec": {"backup": "other"}});
    let api = home.api::<FleetRestoreJob>(FLEET);
    let refused = api.patch("waits", &PatchParams::default(), &Patch::Merge(change)).await;
    assert!(refused.unwrap_err().to_string().contains("cannot be changed"));
    let status = expect_end(&fleet, "waits", Phase::Failed).await.status.unwrap();
    assert_eq!(condition(&status.conditions, "Complete").1, "DeadlineExceeded", "{status:#?}");
    one.delete::<MedusaBackupJob>(CASS, "somebodys").await;

    // A data plane that falls silent holds everything up, also what answers.
    fleet.stop("dp-2");
    home.create(restore_job("silent", json!({"backup": BACKUP}))).await;
    expect_wait(&fleet, "silent", "DataPlaneUnreachable").await;
    assert_untouched(one).await;
    controller.restart();
    expect_wait(&fleet, "silent", "DataPlaneUnreachable").await;
    assert_untouched(one).await;
    fleet.start_again("dp-2");
    let job = expect_restore(&fleet, "silent", "it begins when all answer", |job| {
        let runs = job.status.clone().unwrap_or_default().datacenters;
        runs.len() == 2 && runs.iter().all(|run| run.job_uid.is_some())
    })
    .await;

    // Statuses nobody would write end it, and say so.
    let odd = json!({"restoreKey": "", "finishTime": "2026-01-01T00:00:00Z", "finished": ["é"], "inProgress": [""]});
    work(one, &child_of(&job, "dc1"), odd).await;
    work(two, &child_of(&job, "dc2"), ours("dc2", 2, false)).await;
    let status = expect_end(&fleet, "silent", Phase::Failed).await.status.unwrap();
    let reasons: Vec<&str> = status.datacenters.iter().filter_map(|r| r.reason.as_deref()).collect();
    assert_eq!(reasons, ["RestoreUnconfirmed", "NodesFailed"]);
    one.disappears::<MedusaRestoreJob>(CASS, &child_of(&job, "dc1")).await;
    controller.assert_running();
}

/// Distinct names for jobs of one purpose.
fn uuid() -> usize {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_gets_the_backup_after_a_sync_and_a_restore_is_called_off_before_it_stops_anything() {
    let fleet = Fleet::start(2).await;
    let (home, two) = (fleet.home(), fleet.dp(2));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    backed_up(&fleet).await;
    for (object, name) in [("copy1", "dc1"), ("copy2", "dc2")] {
        let mut copy = restorable(object, "copy", 2);
        copy["spec"]["datacenterName"] = json!(name);
        two.create(copy).await;
    }
    let spec = json!({"backup": BACKUP, "cluster": "copy", "order": "Serial"});
    let made = home.create(restore_job("clone", spec)).await;
    // copy2 finds the MedusaBackup of its Cassandra name in its namespace; copy1 does not know its own yet.
    let task: MedusaTask = two.appears(CASS, &child_of(&made, "copy1")).await;
    assert_eq!(task.spec.cassandra_datacenter, "copy1");
    expect_wait(&fleet, "clone", "Syncing").await;
    assert_untouched(two).await;
    backup_as(two, "b-dc1-0a0a0a0a", "copy1", "dc1").await;
    let at = task.metadata.creation_timestamp.clone();
    let status = json!({"startTime": at, "finishTime": at, "finished": [{"podName": "pod-0"}]});
    two.patch_status::<MedusaTask>(CASS, &task.name_any(), status).await;
    let first: MedusaRestoreJob = two.appears(CASS, &child_of(&made, "copy1")).await;
    assert_eq!(first.spec.backup, "b-dc1-0a0a0a0a");
    assert!(
        two.find::<MedusaRestoreJob>(CASS, &child_of(&made, "copy2")).await.is_none(),
        "one after the other"
    );
    work(two, &first.name_any(), upstreams()[3].clone()).await;
    let second: MedusaRestoreJob = two.appears(CASS, &child_of(&made, "copy2")).await;
    assert_eq!(second.spec.backup, "b-dc2-0a0a0a0a");

    // Nothing has stopped there yet.
    work(two, &second.name_any(), upstreams()[0].clone()).await;
    home.patch::<FleetRestoreJob>(FLEET, "clone", json!({"spec": {"cancel": true}})).await;
    let status = expect_end(&fleet, "clone", Phase::Cancelled).await.status.unwrap();
    let phases: Vec<Phase> = status.datacenters.iter().map(|run| run.phase).collect();
    assert_eq!(phases, [Phase::Succeeded, Phase::Cancelled]);
    assert!(two.find::<MedusaRestoreJob>(CASS, &second.name_any()).await.is_none());
    two.disappears::<MedusaTask>(CASS, &child_of(&made, "copy1")).await;

    // Here something has.
    let made = home.create(restore_job("late", json!({"backup": BACKUP}))).await;
    for number in [1, 2] {
        let name = child_of(&made, &format!("dc{number}"));
        fleet.dp(number).appears::<MedusaRestoreJob>(CASS, &name).await;
        work(fleet.dp(number), &name, upstreams()[2].clone()).await;
    }
    expect_restore(&fleet, "late", "both restore", |job| {
        let runs = job.status.clone().unwrap_or_default().datacenters;
        runs.len() == 2 && runs.iter().all(|run| run.stopped_time.is_some())
    })
    .await;
    home.patch::<FleetRestoreJob>(FLEET, "late", json!({"spec": {"cancel": true}})).await;
    expect_restore(&fleet, "late", "it says that it goes on", |job| {
        let runs = job.status.clone().unwrap_or_default().datacenters;
        runs.iter().all(|r| r.message.as_deref().is_some_and(|m| m.contains("cannot be cancelled any more")))
    })
    .await;
    for number in [1, 2] {
        let name = child_of(&made, &format!("dc{number}"));
        work(fleet.dp(number), &name, upstreams()[3].clone()).await;
    }
    expect_end(&fleet, "late", Phase::Succeeded).await;
    controller.assert_running();
}

/// A MedusaBackup of `object`, whose nodes Cassandra places in `datacenter`.
async fn backup_as(cluster: &Cluster, name: &str, object: &str, datacenter: &str) {
    write_backup(cluster, name, object, 2, "SUCCESS").await;
    let nodes: Vec<Value> = node_names(datacenter, 2)
        .into_iter()
        .map(|host| json!({"host": host, "datacenter": datacenter, "rack": "default"}))
        .collect();
    cluster
        .patch_status::<medusa_fleet::api::medusa::MedusaBackup>(CASS, name, json!({"nodes": nodes}))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_restore_from_the_command_line() {
    let fleet = Fleet::start(2).await;
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    backed_up(&fleet).await;
    let run = |words: &str| {
        let output = medusa_fleet(&fleet.home().kubeconfig, &words.split(' ').collect::<Vec<_>>());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, _, complaint) = run("restore shop --from b-0a0a0a0a");
    assert_eq!(code, Some(2), "without a terminal nobody confirmed: {complaint}");
    assert!(complaint.contains("--yes"), "{complaint}");
    let (code, plan, complaint) = run("plan restore shop --from b-0a0a0a0a");
    assert_eq!(code, Some(0), "{plan}{complaint}");
    assert!(plan.contains("dp-1") && plan.contains("b-dc2-0a0a0a0a"), "{plan}");
    assert!(fleet.home().list::<FleetRestoreJob>(FLEET).await.is_empty(), "a plan is left behind");
    let (code, _, complaint) = run("plan restore nowhere --from b-0a0a0a0a.shop");
    assert_eq!(code, Some(1), "{complaint}");
    let (code, said, complaint) = run("restore shop --from b-0a0a0a0a --yes");
    assert_eq!(code, Some(0), "{complaint}");
    let name =
        said.split_once("fleetrestorejob/").and_then(|(_, rest)| rest.split(' ').next()).unwrap().to_owned();
    let job = restore(&fleet, &name).await;
    for number in [1, 2] {
        let child = child_of(&job, &format!("dc{number}"));
        fleet.dp(number).appears::<MedusaRestoreJob>(CASS, &child).await;
        work(fleet.dp(number), &child, upstreams()[3].clone()).await;
    }
    expect_end(&fleet, &name, Phase::Succeeded).await;
    let (code, page, _) = run(&format!("describe restore/{name}"));
    assert_eq!(code, Some(0));
    assert!(page.contains("dp-2/cass/dc2") && page.contains("Succeeded"), "{page}");
    controller.assert_running();
}
