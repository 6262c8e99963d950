//! Objects of every kind that are deleted and made again under their names, while the control plane is at work and while
//! it is down: each is what it would be under a name of its own.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams},
};
use medusa_fleet::api::{
    cassandra::CassandraDatacenter,
    fleet::{
        DataPlane, FleetBackupJob, FleetBackupSchedule, FleetCluster, FleetRestoreJob, FleetTask, Phase,
    },
    k8ssandra::{ClientConfig, K8ssandraCluster},
    medusa::{MedusaBackupJob, MedusaBackupSchedule, MedusaConfiguration, MedusaTask},
};
use serde_json::{Value, json};

use crate::{
    support::{
        BackupFinisher, CASS, ControlPlane, FLEET, Fleet, backup_job,
        client_configs::{about, client_config, client_config_definition},
        condition, configuration, eventually, finish_task,
        restores::{backed_up, child_of, expect_end, restorable, restore_job},
        rights, secret,
    },
    tasks::{over, task},
};

fn schedule(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetBackupSchedule",
        "metadata": {"name": name, "namespace": FLEET}, "spec": spec,
    })
}

/// What people write, a little different in each round.
fn objects(round: usize) -> Vec<Value> {
    let (hour, bucket) = (round + 1, format!("key-{round}"));
    let selector = json!({"template": {"selector": {"clusters": ["shop"]}}});
    let mut yearly = json!({"schedule": format!("0 {hour} 1 1 *")});
    let mut nightly = json!({"schedule": format!("0 {hour} * * *"), "execution": "Delegated"});
    for spec in [&mut yearly, &mut nightly] {
        spec["template"] = selector["template"].clone();
    }
    vec![
        secret(FLEET, "bucket", &[("credentials", &bucket)]),
        configuration("shared", "bucket", Some("dp-2/cass")),
        // A cluster of Cassandra that is not there yet, and what its Medusa needs.
        secret(FLEET, "cql", &[("username", "medusa"), ("password", &bucket)]),
        json!({
            "apiVersion": "k8ssandra.io/v1alpha1", "kind": "K8ssandraCluster",
            "metadata": {"name": "till", "namespace": FLEET},
            "spec": {
                "cassandra": {"datacenters": [
                    {"metadata": {"name": "dc9", "namespace": CASS}, "k8sContext": "dp-2", "size": hour},
                ]},
                "medusa": {"cassandraUserSecretRef": {"name": "cql"}, "storageProperties": {
                    "storageProvider": "s3", "bucketName": "b", "prefix": "till", "credentialsType": "role-based",
                }},
            },
        }),
        schedule("yearly", yearly),
        schedule("nightly", nightly),
        backup_job("job", json!({"clusters": ["shop"]})),
        task("sync", json!({"operation": "sync", "selector": {"clusters": ["shop"]}})),
    ]
}

/// Deletes all of them; whoever holds one is not waited for, as when somebody is in a hurry.
async fn delete_all(fleet: &Fleet) {
    let home = fleet.home();
    home.delete::<Secret>(FLEET, "bucket").await;
    home.delete::<MedusaConfiguration>(FLEET, "shared").await;
    home.delete::<Secret>(FLEET, "cql").await;
    home.delete::<K8ssandraCluster>(FLEET, "till").await;
    home.delete::<ClientConfig>(FLEET, "third").await;
    home.delete::<Secret>(FLEET, "third").await;
    home.delete::<FleetBackupJob>(FLEET, "job").await;
    home.delete::<FleetTask>(FLEET, "sync").await;
    home.delete::<FleetRestoreJob>(FLEET, "back").await;
    for name in ["yearly", "nightly"] {
        home.delete::<FleetBackupSchedule>(FLEET, name).await;
        let schedules = home.api::<FleetBackupSchedule>(FLEET);
        let let_go = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        match schedules.patch(name, &PatchParams::default(), &let_go).await {
            Ok(_) => {}
            // Whoever held it was quicker.
            Err(kube::Error::Api(answer)) if answer.code == 404 => {}
            Err(error) => panic!("let go of {name}: {error}"),
        }
    }
    fleet.dp(2).delete::<CassandraDatacenter>(CASS, "dc2").await;
}

/// When the next backup of `shop` comes, as its FleetCluster says.
async fn expect_next(fleet: &Fleet, what: &str, is_it: impl Fn(Option<&str>) -> bool) {
    eventually(format!("the next backup of shop is {what}"), async || {
        let status = fleet.home().find::<FleetCluster>(FLEET, "shop").await.and_then(|c| c.status);
        let next = status.and_then(|status| status.next_scheduled_backup).map(|time| time.0.to_string());
        if is_it(next.as_deref()) { Ok(()) } else { Err(format!("{next:?}")) }
    })
    .await;
}

/// All of them are done or followed as new ones are.
async fn expect_all(fleet: &Fleet, round: usize) {
    let home = fleet.home();
    // Backups: children of this run, owned by the datacenters there are now.
    let job = fleet.expect_phase("job", Phase::Succeeded).await;
    for (number, dc) in [(1, "dc1"), (2, "dc2")] {
        let there = fleet.dp(number);
        let child: MedusaBackupJob = there.get(CASS, &child_of(&job, dc)).await;
        let own: CassandraDatacenter = there.get(CASS, dc).await;
        assert_eq!(child.owner_references()[0].uid, own.uid().unwrap(), "round {round}: {dc}");
        assert_eq!(child.labels()["fleet.k8ssandra.io/job-uid"], job.uid().unwrap());
        let sync = home.get::<FleetTask>(FLEET, "sync").await;
        let child: MedusaTask = there.appears(CASS, &child_of(&sync, dc)).await;
        finish_task(there, &child).await;
    }
    assert_eq!(over(fleet, "sync").await.status.unwrap().run.phase, Some(Phase::Succeeded));
    // Where a backup is at work, a dry run says that a restore would have to wait.
    home.create(restore_job("back", json!({"backup": "b-0a0a0a0a.shop", "dryRun": true}))).await;
    expect_end(fleet, "back", Phase::Succeeded).await;
    // Schedules: what they promise, and what stands in the data planes.
    let hour = format!("T{:02}:00:00Z", round + 1);
    expect_next(fleet, &hour, |next| next.is_some_and(|next| next.ends_with(&hour))).await;
    let nightly: FleetBackupSchedule = home.get(FLEET, "nightly").await;
    let wanted =
        BTreeSet::from([("dc1", 1), ("dc2", 2)].map(|(dc, number)| (number, child_of(&nightly, dc))));
    eventually(format!("round {round}: the data planes have the new schedule's only"), async || {
        let mut found = BTreeSet::new();
        for number in [1, 2] {
            let there = fleet.dp(number).list::<MedusaBackupSchedule>(CASS).await;
            found.extend(there.iter().map(|one| (number, one.name_any())));
        }
        if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    // Copies: of the new Secrets, with their content.
    for name in ["bucket", "cql"] {
        let source: Secret = home.get(FLEET, name).await;
        eventually(format!("round {round}: the copy is that of the new Secret {name}"), async || {
            let copy: Option<Secret> = fleet.dp(2).find(CASS, name).await;
            let copy = copy.ok_or("there is none")?;
            let of = copy.annotations().get("fleet.k8ssandra.io/source-uid").cloned();
            if copy.data == source.data && of == source.uid() { Ok(()) } else { Err("an older one") }
        })
        .await;
    }
    // The third data plane is registered, by the new ClientConfig.
    eventually(format!("round {round}: the third data plane is registered"), async || {
        let plane: DataPlane = home.find(FLEET, "dp-3").await.ok_or("there is none")?;
        let ready = condition(&plane.status.unwrap_or_default().conditions, "Ready");
        let stays = plane.metadata.deletion_timestamp.is_none();
        if ready.0 == "True" && stays { Ok(()) } else { Err(format!("{ready:?}, stays: {stays}")) }
    })
    .await;
    eventually(format!("round {round}: the configuration says so"), async || {
        let shared: MedusaConfiguration = home.get(FLEET, "shared").await;
        let conditions = shared.status.unwrap_or_default().conditions;
        let seen = condition(&conditions, "Replicated");
        if seen.0 == "True" { Ok(()) } else { Err(format!("{conditions:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_again_under_its_name_is_new_whatever_kind_it_is_of() {
    let fleet = Fleet::start(3).await;
    let home = fleet.home();
    home.install(&[client_config_definition()]).await.unwrap();
    let mut controller = ControlPlane::spawn(&fleet);
    for number in [1, 2] {
        fleet.register(number).await;
    }
    for plane in ["dp-1", "dp-2"] {
        fleet.expect_data_plane(plane, "Ready", "True", "Ready").await;
    }
    let kubeconfig = rights::kubeconfig(fleet.dp(3)).to_string();
    backed_up(&fleet).await;
    let _finishers = [BackupFinisher::start(fleet.dp(1)), BackupFinisher::start(fleet.dp(2))];
    for round in 0..3 {
        let is_down = round == 2;
        if is_down {
            controller.kill9();
        }
        if round > 0 {
            delete_all(&fleet).await;
            fleet.dp(2).disappears::<CassandraDatacenter>(CASS, "dc2").await;
            fleet.dp(2).create(restorable("dc2", "shop", 2)).await;
        }
        let third = secret(FLEET, "third", &[("kubeconfig", &kubeconfig)]);
        let config = client_config(FLEET, "third", about("dp-3", "third"));
        for object in objects(round).into_iter().chain([third, config]) {
            eventually("it can be made again", async || home.try_create(object.clone()).await.map(drop))
                .await;
        }
        if is_down {
            controller.start();
        }
        expect_all(&fleet, round).await;
    }
    // What nobody makes again promises nothing any more.
    home.delete::<FleetBackupSchedule>(FLEET, "nightly").await;
    home.delete::<FleetBackupSchedule>(FLEET, "yearly").await;
    expect_next(&fleet, "none", |next| next.is_none()).await;
    controller.assert_running();
}
