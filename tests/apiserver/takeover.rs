//! A control plane is lost with its whole cluster, and installed anew elsewhere: what it left in a data plane is gone on
//! with, nothing is made twice, and nothing is deleted before its objects are back.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{ResourceExt as _, api::ListParams, core::DynamicObject};
use medusa_fleet::api::{
    cassandra::CassandraDatacenter,
    crds,
    fleet::{DataPlane, FleetBackup, FleetBackupJob, FleetCluster, FleetRestoreJob, Phase},
    k8ssandra::K8ssandraCluster,
    medusa::{MedusaBackupJob, MedusaBackupSchedule, MedusaRestoreJob},
};
use serde_json::{Value, json};

use crate::{
    deployment_steps::{bare, bucket, k8ssandra, medusa_in, raw, settle},
    schedules::delegated::delegated,
    support::{
        CASS, Cluster, ControlPlane, FLEET, Fleet, backup_job, condition,
        credentials::medusa_fleet,
        eventually, finish, medusa_definitions,
        restores::{ours, restorable, restore_job, upstreams, work},
        rights, secret, write_backup,
    },
};

/// The name on everything.
const NAME: &str = "shop-fleet";

/// A data plane in `dp-1`, and in `dp-2` the cluster in which the control plane is installed anew.
async fn fleet() -> Fleet {
    let fleet = Fleet::start_with(&[medusa_definitions(), crds::all().unwrap()]).await;
    rights::at_home(fleet.dp(2)).await;
    fleet
}

fn start(fleet: &Fleet, cluster: &Cluster, name: &str) -> ControlPlane {
    let log = fleet.dir().join(format!("{name}-{}.log", cluster.name));
    ControlPlane::spawn_at(&log, cluster, &["--fleet-name", name])
}

/// Registers `dp-1` with the control plane in `home`.
async fn register(fleet: &Fleet, home: &Cluster) {
    let kubeconfig = std::fs::read_to_string(rights::kubeconfig_file(fleet.dp(1))).unwrap();
    let mut object = secret(FLEET, "dp-1", &[("kubeconfig", &kubeconfig)]);
    object["metadata"]["labels"] = json!({"fleet.k8ssandra.io/register": "true"});
    home.create(object).await;
}

/// A fleet's own objects, as a Git repository has them.
fn sources() -> [Value; 4] {
    let schedule = delegated("nightly", json!({}));
    [bucket(), k8ssandra("shop", &[("dc1", "dp-1")], json!({})), schedule, backup_job("before", json!({}))]
}

/// Everything a control plane writes into the data plane, with its uid and version.
async fn written(cluster: &Cluster) -> BTreeMap<String, (String, String)> {
    fn note(all: &mut BTreeMap<String, (String, String)>, kind: &str, found: Vec<DynamicObject>) {
        for object in found {
            let id = (object.uid().unwrap(), object.resource_version().unwrap());
            all.insert(format!("{kind} {}", object.name_any()), id);
        }
    }
    let mut all = BTreeMap::new();
    let ours = ListParams::default().labels("fleet.k8ssandra.io/control-plane");
    let every = ListParams::default();
    for (kind, api, which) in [
        ("Secret", cluster.dynamic::<Secret>(CASS), &ours),
        ("ConfigMap", cluster.dynamic::<ConfigMap>(CASS), &ours),
        ("MedusaBackupSchedule", cluster.dynamic::<MedusaBackupSchedule>(CASS), &every),
        ("MedusaBackupJob", cluster.dynamic::<MedusaBackupJob>(CASS), &every),
        ("CassandraDatacenter", cluster.dynamic::<CassandraDatacenter>(CASS), &every),
    ] {
        note(&mut all, kind, api.list(which).await.unwrap().items);
    }
    all
}

fn uids(written: &BTreeMap<String, (String, String)>) -> BTreeMap<&String, &String> {
    written.iter().map(|(name, (uid, _))| (name, uid)).collect()
}

/// Waits until the data plane says what of an earlier installation waits there; `None` when nothing does any more.
async fn inherited(home: &Cluster, is_there: bool) -> String {
    eventually(format!("something is inherited: {is_there}"), async || {
        let plane = home.find::<DataPlane>(FLEET, "dp-1").await.ok_or("no DataPlane")?;
        let status = plane.status.unwrap_or_default();
        let (ready, ..) = condition(&status.conditions, "Ready");
        let (said, _, message) = condition(&status.conditions, "Inherited");
        if ready == "True" && (said == "True") == is_there { Ok(message) } else { Err(format!("{status:?}")) }
    })
    .await
}

/// Waits until Medusa is deployed, begins with a backup, and waits until everything of [`sources`] is in the data plane.
async fn at_work(fleet: &Fleet) -> MedusaBackupJob {
    let there = fleet.dp(1);
    medusa_in(there, "dc1").await;
    settle(there, "dc1").await;
    let [.., job] = sources();
    fleet.home().create(job).await;
    eventually("everything is there", async || {
        let all = written(there).await;
        let has = |name: &str| all.keys().any(|key| key.starts_with(name));
        let wanted = [
            "Secret medusa-bucket",
            "Secret shop-medusa",
            "ConfigMap shop",
            "MedusaBackupSchedule nightly",
            "MedusaBackupSchedule shop",
            "MedusaBackupJob before",
        ];
        if wanted.iter().all(|name| has(name)) { Ok(()) } else { Err(format!("{:?}", all.keys())) }
    })
    .await;
    let job = there.list::<MedusaBackupJob>(CASS).await.remove(0);
    let begun =
        json!({"startTime": job.metadata.creation_timestamp, "inProgress": ["shop-dc1-default-sts-0"]});
    there.patch_status::<MedusaBackupJob>(CASS, &job.name_any(), begun).await
}

/// A data plane with all of it, whose control plane and its cluster are gone.
async fn lost(name: &str) -> Fleet {
    let fleet = fleet().await;
    let mut old = start(&fleet, fleet.home(), name);
    register(&fleet, fleet.home()).await;
    fleet.dp(1).create(bare("dc1", "shop")).await;
    settle(fleet.dp(1), "dc1").await;
    let [bucket, cluster, schedule, _] = sources();
    for object in [bucket, cluster, schedule] {
        fleet.home().create(object).await;
    }
    at_work(&fleet).await;
    old.kill9();
    fleet.stop("control-plane");
    fleet
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_of_the_same_name_goes_on_where_the_lost_one_stood() {
    let fleet = lost(NAME).await;
    let (there, anew) = (fleet.dp(1), fleet.dp(2));
    let (before, datacenter) = (written(there).await, raw(there, "dc1").await);

    let mut controller = start(&fleet, anew, NAME);
    register(&fleet, anew).await;
    let said = inherited(anew, true).await;
    for waits in
        ["Secret cass/medusa-bucket-key", "Medusa in CassandraDatacenter cass/dc1", "MedusaBackupSchedule"]
    {
        assert!(said.contains(waits), "{waits}: {said}");
    }
    // Nor after it was killed: nothing of this rests on what a process remembers.
    controller.restart();
    controller.ready(0).await;
    assert_eq!(written(there).await, before, "nothing is written or deleted for what is not here");

    for object in sources() {
        anew.create(object).await;
    }
    inherited(anew, false).await;
    let running = eventually("the backup that is under way is gone on with", async || {
        let job = anew.get::<FleetBackupJob>(FLEET, "before").await.status.unwrap_or_default();
        if job.run.phase == Some(Phase::Running) { Ok(job) } else { Err(format!("{job:?}")) }
    })
    .await;
    assert_eq!(running.datacenters.len(), 1);
    let event = anew.event("FleetBackupJob", "before", "TakenOver").await;
    assert!(event.contains("earlier installation"), "{event}");
    finish(there, &there.list::<MedusaBackupJob>(CASS).await[0]).await;
    eventually("it ends as that ends", async || {
        let job = anew.get::<FleetBackupJob>(FLEET, "before").await.status.unwrap_or_default();
        if job.run.phase == Some(Phase::Succeeded) { Ok(()) } else { Err(format!("{job:?}")) }
    })
    .await;
    let after = written(there).await;
    assert_eq!(uids(&after), uids(&before), "each is the one that was there, and there are no others");
    let now = raw(there, "dc1").await;
    assert_eq!(now["spec"], datacenter["spec"], "no pod restarts");
    assert_eq!(now["metadata"]["generation"], datacenter["metadata"]["generation"]);

    // From now on it is as if it had made everything itself.
    anew.delete::<K8ssandraCluster>(FLEET, "shop").await;
    eventually("Medusa is removed", async || {
        let dc = raw(there, "dc1").await;
        let containers = dc["spec"]["podTemplateSpec"]["spec"]["containers"].to_string();
        if containers.contains("medusa") { Err(containers) } else { Ok(()) }
    })
    .await;
    controller.assert_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_fleet_touches_nothing_until_somebody_says_so_and_what_will_not_come_back_is_taken_back() {
    let fleet = lost(NAME).await;
    let (there, anew) = (fleet.dp(1), fleet.dp(2));
    let before = written(there).await;
    let mut controller = start(&fleet, anew, "mall");
    register(&fleet, anew).await;
    let [bucket, cluster, ..] = sources();
    anew.create(bucket).await;
    anew.create(cluster).await;
    let told = eventually("the stranger is named", async || {
        let cluster = anew
            .find::<FleetCluster>(FLEET, "shop.medusa-fleet")
            .await
            .and_then(|c| c.status)
            .ok_or("none")?;
        let told = cluster.datacenters.iter().find_map(|dc| dc.medusa.message.clone()).unwrap_or_default();
        if told.contains("adopt --from shop-fleet") { Ok(told) } else { Err(format!("{cluster:?}")) }
    })
    .await;
    assert!(told.contains("fleet `shop-fleet` deploys Medusa here"), "{told}");
    assert_eq!(written(there).await, before, "nothing of a stranger is touched");

    let adopt = |args: &[&str]| {
        let args: Vec<&str> = ["adopt"].iter().chain(args).copied().collect();
        let output = medusa_fleet(&anew.kubeconfig, &args);
        let all = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(all).unwrap())
    };
    let (code, said) = adopt(&["--from", "mall"]);
    assert_eq!(code, Some(2), "{said}");
    let (code, said) = adopt(&["--from", NAME, "--dry-run"]);
    assert!(code == Some(0) && said.contains("nothing was changed"), "{said}");
    assert_eq!(written(there).await, before);
    let (code, said) = adopt(&["--from", NAME]);
    assert_eq!(code, Some(0), "{said}");
    eventually("it ends, to look at everything anew", async || {
        if controller.has_ended() { Ok(()) } else { Err(controller.log()) }
    })
    .await;
    controller.start();
    let said = eventually("only what has no object here waits", async || {
        let said = inherited(anew, true).await;
        let waits = said.contains("FleetBackupSchedule nightly") && !said.contains("CassandraDatacenter");
        if waits { Ok(said) } else { Err(said) }
    })
    .await;
    let dc = there.get::<CassandraDatacenter>(CASS, "dc1").await;
    assert_eq!(dc.annotations()["fleet.k8ssandra.io/medusa-for-control-plane"], "mall");
    assert_eq!(dc.spec.size, 3);

    // The schedule will not come back.
    let installation = said.split('`').nth(1).unwrap().to_owned();
    let (code, said) = adopt(&["--forget", &installation]);
    assert_eq!(code, Some(0), "{said}");
    eventually(
        "it ends once more",
        async || if controller.has_ended() { Ok(()) } else { Err(controller.log()) },
    )
    .await;
    controller.start();
    eventually("only what is asked for is left", async || {
        let left = written(there).await;
        let nightly = left.keys().any(|key| key.starts_with("MedusaBackupSchedule nightly"));
        if nightly { Err(format!("{:?}", left.keys())) } else { Ok(()) }
    })
    .await;
    let kept = written(there).await;
    assert_eq!(kept["Secret medusa-bucket-key"].0, before["Secret medusa-bucket-key"].0);
    inherited(anew, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_gets_a_name_goes_on_under_it() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    register(&fleet, home).await;
    there.create(bare("dc1", "shop")).await;
    settle(there, "dc1").await;
    let [bucket, cluster, schedule, _] = sources();
    for object in [bucket, cluster, schedule] {
        home.create(object).await;
    }
    at_work(&fleet).await;
    let (before, datacenter) = (written(there).await, raw(there, "dc1").await);
    controller.kill9();

    let controller = ControlPlane::spawn_with(&fleet, &["--fleet-name", NAME]);
    eventually("everything that is looked after has the new name", async || {
        let dc = there.get::<CassandraDatacenter>(CASS, "dc1").await;
        let on_dc = dc.annotations()["fleet.k8ssandra.io/medusa-for-control-plane"].clone();
        let label = |labels: &BTreeMap<String, String>| labels["fleet.k8ssandra.io/control-plane"].clone();
        let schedules = there.list::<MedusaBackupSchedule>(CASS).await;
        let copies = there.list::<Secret>(CASS).await;
        let mut seen: Vec<String> = schedules.iter().map(|schedule| label(schedule.labels())).collect();
        seen.extend(copies.iter().map(|copy| label(copy.labels())));
        seen.push(on_dc);
        if seen.iter().all(|name| name == NAME) { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    assert_eq!(uids(&written(there).await), uids(&before), "nothing is made or deleted for a name");
    assert_eq!(raw(there, "dc1").await["spec"], datacenter["spec"], "no pod restarts");
    finish(there, &there.list::<MedusaBackupJob>(CASS).await[0]).await;
    eventually("what was under way ends", async || {
        let job = home.get::<FleetBackupJob>(FLEET, "before").await.status.unwrap_or_default();
        if job.run.phase == Some(Phase::Succeeded) { Ok(()) } else { Err(format!("{job:?}")) }
    })
    .await;
    drop(controller);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_under_way_is_gone_on_with_and_never_begins_again() {
    let fleet = fleet().await;
    let (there, anew) = (fleet.dp(1), fleet.dp(2));
    let known = async |home: &Cluster| {
        eventually("the restore point is complete", async || {
            let found = home.find::<FleetBackup>(FLEET, "b-0a0a0a0a.shop").await.and_then(|b| b.status);
            if found.as_ref().is_some_and(|b| b.complete) { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    };
    let wanted = || restore_job("back", json!({"backup": "b-0a0a0a0a.shop"}));
    let mut old = start(&fleet, fleet.home(), NAME);
    register(&fleet, fleet.home()).await;
    there.create(restorable("dc1", "shop", 2)).await;
    write_backup(there, "b-dc1-0a0a0a0a", "dc1", 2, "SUCCESS").await;
    known(fleet.home()).await;
    fleet.home().create(wanted()).await;
    let child = eventually("the restore is under way", async || {
        there.list::<MedusaRestoreJob>(CASS).await.pop().ok_or("no MedusaRestoreJob")
    })
    .await;
    work(there, &child.name_any(), upstreams()[2].clone()).await;
    old.kill9();
    fleet.stop("control-plane");

    let mut controller = start(&fleet, anew, NAME);
    register(&fleet, anew).await;
    known(anew).await;
    anew.create(wanted()).await;
    anew.event("FleetRestoreJob", "back", "TakenOver").await;
    let now = there.get::<MedusaRestoreJob>(CASS, &child.name_any()).await;
    assert_eq!(now.uid(), child.uid(), "it is still there");
    work(there, &child.name_any(), ours("dc1", 2, true)).await;
    eventually("it ends well", async || {
        let status = anew.get::<FleetRestoreJob>(FLEET, "back").await.status.unwrap_or_default();
        if status.phase == Some(Phase::Succeeded) { Ok(()) } else { Err(format!("{status:#?}")) }
    })
    .await;
    there.disappears::<MedusaRestoreJob>(CASS, &child.name_any()).await;
    assert_eq!(there.writes("medusarestorejobs").await.get("POST"), Some(&1), "it was made once");
    controller.assert_running();
}
