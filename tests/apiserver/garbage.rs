//! Odd objects in every place we read: nothing ends, nothing else is disturbed.

use kube::ResourceExt as _;
use medusa_fleet::api::{
    cassandra::CassandraDatacenter,
    fleet::{FleetBackup, Phase},
    medusa::{MedusaBackup, MedusaBackupJob, MedusaConfiguration},
    names,
};
use serde_json::{Value, json};

use crate::support::{
    BackupFinisher, CASS, ControlPlane, FLEET, Fleet, backup_job, condition, configuration, datacenter,
    eventually, finish, secret,
};

fn medusa_backup(name: &str, datacenter: &str) -> Value {
    json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackup",
        "metadata": {"name": name, "namespace": CASS}, "spec": {"cassandraDatacenter": datacenter},
    })
}

/// CassandraDatacenters that no operator would write.
fn odd_datacenters() -> Vec<Value> {
    let odd = |name: &str, template: Value| {
        let mut dc = datacenter(name, "odd", 1);
        dc["spec"]["podTemplateSpec"] = template;
        dc
    };
    let mut crowded = datacenter("crowded", "odd", i32::MAX);
    crowded["spec"]["racks"] =
        json!((0..200).map(|n| json!({"name": format!("rack{n}")})).collect::<Vec<_>>());
    let mut named = datacenter("named", "x".repeat(300).as_str(), 1);
    named["metadata"]["labels"] = json!({});
    named["spec"]["datacenterName"] = json!("é ".repeat(100));
    vec![
        odd("no-map", json!({"metadata": [], "spec": {"containers": []}})),
        odd("no-text", json!({"spec": {"containers": [{"name": "medusa", "image": {}}]}})),
        odd("no-spec", json!({})),
        odd("null", json!({"spec": {"containers": [{"name": "medusa", "image": null}]}})),
        crowded,
        named,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_any_field_is_survived_and_the_rest_goes_on() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    for dc in ["dc1", "dc2"] {
        there.create(datacenter(dc, "shop", 1)).await;
    }
    for dc in odd_datacenters() {
        there.create(dc).await;
    }
    let status =
        json!({"conditions": [{"type": "Ready", "status": "perhaps"}], "cassandraOperatorProgress": ""});
    there.patch_status::<CassandraDatacenter>(CASS, "named", status).await;

    let sizes =
        ["lots", "-1.00 KB", "NaN TB", "inf PB", "9999999999 PB", "1e308 PB", " KB", "1.00 kb", "é é"];
    for (number, size) in sizes.iter().enumerate() {
        for dc in ["dc1", "dc2"] {
            // The two are one restore point: their sizes are summed up.
            let name = format!("size{number}-{dc}-0000000{number}");
            there.create(medusa_backup(&name, dc)).await;
            let status = json!({
                "totalSize": size, "status": "SUCCESS", "totalNodes": i32::MAX, "finishedNodes": i32::MAX,
                "totalFiles": i64::MAX, "startTime": "9000-01-01T00:00:00Z", "finishTime": "0001-01-01T00:00:00Z",
                "nodes": [{}, {"host": "", "tokens": [i64::MIN, i64::MAX], "datacenter": "é", "rack": ""}, {"datacenter": dc}],
            });
            there.patch_status::<MedusaBackup>(CASS, &name, status).await;
        }
    }
    for (name, dc, status) in [
        (
            "of-nobody",
            "no-such-datacenter",
            json!({"status": "SUCCESS", "totalNodes": -1, "finishedNodes": -1}),
        ),
        ("of-nothing", "", json!({"status": ""})),
        ("a-word", "dc1", json!({"status": "😀 {}", "totalNodes": 0, "finishedNodes": 0})),
        ("dc1-00000000", "dc1", json!({"status": "SUCCESS"})),
    ] {
        there.create(medusa_backup(name, dc)).await;
        there.patch_status::<MedusaBackup>(CASS, name, status).await;
    }
    let long = "b".repeat(253);
    there.create(medusa_backup(&long, "dc1")).await;

    // Targets, references and clusters that make no sense.
    home.create(secret(FLEET, "empty", &[])).await;
    let targets = format!("/ ,, //, */, /*, a/b/c, {}", "x".repeat(10_000));
    home.create(configuration("odd", "empty", Some(&targets))).await;
    home.create(configuration("nameless", "", Some("*"))).await;
    home.create(json!({
        "apiVersion": "k8ssandra.io/v1alpha1", "kind": "K8ssandraCluster",
        "metadata": {"name": "odd", "namespace": FLEET},
        "spec": {
            "cassandra": {"datacenters": [{}, {"metadata": {"name": ""}, "k8sContext": "x".repeat(1000)}, {"k8sContext": "é/"}]},
            "medusa": {
                "medusaConfigurationRef": {"name": "Not A Name"}, "cassandraUserSecretRef": {"name": "../../x"},
                "storageProperties": {"prefix": "odd"},
            },
        },
    }))
    .await;
    eventually("the targets are refused by name", async || {
        let source: MedusaConfiguration = home.get(FLEET, "odd").await;
        let conditions = source.status.unwrap_or_default().conditions;
        let (replicated, available) =
            (condition(&conditions, "Replicated"), condition(&conditions, "SecretAvailable"));
        let reached = replicated.1 == "InvalidTargets" && available.1 == "SecretKeyMissing";
        if reached { Ok(()) } else { Err(format!("{replicated:?} {available:?}")) }
    })
    .await;
    eventually("the absurd sizes are listed", async || {
        let points = home.list::<FleetBackup>(FLEET).await;
        let seen = points.iter().filter(|p| p.name_any().starts_with("size")).count();
        if seen == sizes.len() { Ok(()) } else { Err(format!("{seen} of {}", sizes.len())) }
    })
    .await;
    eventually("the long name is listed", async || {
        let points = home.list::<FleetBackup>(FLEET).await;
        let seen = points.iter().any(|p| p.name_any().starts_with("bbb"));
        if seen { Ok(()) } else { Err("it is not") }
    })
    .await;

    // Selectors.
    let many: Vec<String> = (0..2000).map(|n| format!("no-{n}-such")).collect();
    home.create(backup_job("many", json!({"clusters": many, "datacenters": ["", "é"]}))).await;
    fleet.expect_phase("many", Phase::Failed).await;

    // And what makes sense works.
    let _finisher = BackupFinisher::start(there);
    home.create(backup_job("sane", json!({"clusters": ["shop"]}))).await;
    let status = fleet.expect_phase("sane", Phase::Succeeded).await.status.unwrap();
    assert_eq!(status.run.counts.map(|c| (c.total, c.succeeded)), Some((2, 2)));
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
    controller.assert_running();
    let log = controller.log();
    assert!(
        !log.contains("panicked"),
        "{}",
        log.lines().filter(|l| l.contains("panicked")).collect::<String>()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_too_long_is_shortened_and_found_again() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    let long_dc = format!("dc-{}", "d".repeat(200));
    for dc in ["dc1", &long_dc] {
        there.create(datacenter(dc, "shop", 1)).await;
    }
    let jobs = ["j".repeat(200), "k".repeat(253)];
    for job in &jobs {
        let made = home.create(backup_job(job, json!({}))).await;
        let uid = made.uid().unwrap();
        let mut children = Vec::new();
        for dc in ["dc1", &long_dc] {
            let name = names::child(job, dc, &uid);
            assert!(name.len() <= 248, "{} characters: {name}", name.len());
            children.push(there.appears::<MedusaBackupJob>(CASS, &name).await);
        }
        controller.restart();
        for child in &children {
            finish(there, child).await;
        }
        let status = fleet.expect_phase(job, Phase::Succeeded).await.status.unwrap();
        assert_eq!(status.run.done.as_deref(), Some("2/2"));
        let [point] = status.restore_points.as_slice() else { panic!("{:?}", status.restore_points) };
        eventually("its restore point is complete", async || {
            let backup = home.find::<FleetBackup>(FLEET, point).await.ok_or("it is not there".to_owned())?;
            let status = backup.status.unwrap_or_default();
            if status.complete { Ok(()) } else { Err(format!("{status:#?}")) }
        })
        .await;
    }
    assert_eq!(there.list::<MedusaBackupJob>(CASS).await.len(), 4, "each child was found again");
    controller.assert_running();
}
