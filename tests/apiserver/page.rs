//! K8ssandra's documentation page on backup and restore: each of its manifests about deploying Medusa, applied as it
//! stands but for the lines it leaves out (`...`), and the effect the page describes.
//!
//! Its manifests for a data plane are in `tests/data_plane/page.rs`, its CronJob in `examples.rs`.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use medusa_fleet::api::{
    cassandra::CassandraDatacenter,
    fleet::FleetCluster,
    k8ssandra::K8ssandraCluster,
    medusa::{MedusaBackupSchedule, MedusaConfiguration, ScheduledOperation},
};
use serde_json::{Value, json};

use crate::support::{
    CASS, Cluster, ControlPlane, FLEET, Fleet, datacenter, eventually,
    page::{CLUSTER, CONFIGURATION, NO_PURGE, OPTIONS, ROLE, SECRET, SHARED, filled},
};

/// Applies the manifest as `kubectl apply --server-side -n` does.
async fn apply(cluster: &Cluster, mut manifest: Value) {
    manifest["metadata"]["namespace"] = json!(CASS);
    cluster.apply(&manifest).await;
}

/// A fleet with one datacenter that runs no Medusa, and the page's Secret.
async fn start() -> (Fleet, ControlPlane) {
    let fleet = Fleet::start(1).await;
    let controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    let mut bare = datacenter("dc1", "demo", 3);
    bare["spec"]["podTemplateSpec"]["spec"]["containers"] = json!([{"name": "cassandra"}]);
    fleet.dp(1).create(bare).await;
    apply(fleet.home(), filled(SECRET)).await;
    (fleet, controller)
}

/// The pod spec of the datacenter, once `wanted` holds.
async fn pods(fleet: &Fleet, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let api = fleet.dp(1).dynamic::<CassandraDatacenter>(CASS);
    eventually(what.to_owned(), async || {
        let object = api.get("dc1").await.unwrap();
        let pods = object.data["spec"]["podTemplateSpec"]["spec"].clone();
        let told: Option<FleetCluster> =
            fleet.home().list(FLEET).await.into_iter().find(|c: &FleetCluster| c.status.is_some());
        if wanted(&pods) { Ok(pods) } else { Err(format!("{pods} {told:?}")) }
    })
    .await
}

fn has(pods: &Value, list: &str, name: &str) -> bool {
    pods[list].as_array().into_iter().flatten().any(|item| item["name"] == name)
}

/// medusa.ini of the datacenter, once it has `line`.
async fn ini(fleet: &Fleet, line: &str) -> String {
    eventually(format!("medusa.ini has `{line}`"), async || {
        let map =
            fleet.dp(1).find::<ConfigMap>(CASS, "demo-medusa").await.ok_or("no ConfigMap".to_owned())?;
        let text = map.data.unwrap_or_default().get("medusa.ini").cloned().unwrap_or_default();
        if text.lines().any(|l| l == line) { Ok(text) } else { Err(text) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_medusa_section_deploys_medusa_and_its_nightly_purge() {
    let (fleet, _controller) = start().await;
    apply(fleet.home(), filled(CLUSTER)).await;
    let pods = pods(&fleet, "Medusa is in the pods", |p| has(p, "containers", "medusa")).await;
    assert!(has(&pods, "initContainers", "medusa-restore"), "{pods}");
    let text = ini(&fleet, "storage_provider = s3_compatible").await;
    let expected = [
        "bucket_name = k8ssandra-medusa",
        "prefix = test",
        "host = minio.minio.svc.cluster.local",
        "port = 9000",
        "secure = False",
        "max_backup_age = 0",
        "max_backup_count = 0",
        "concurrent_transfers = 1",
        "key_file = /etc/medusa-secrets/credentials",
    ];
    for line in expected {
        assert!(text.lines().any(|l| l == line), "`{line}` is not in {text}");
    }
    let copy = fleet.dp(1).appears::<Secret>(CASS, "medusa-bucket-key").await;
    assert!(copy.data.unwrap_or_default().contains_key("credentials"));

    let purge = fleet.dp(1).appears::<MedusaBackupSchedule>(CASS, "demo-dc1-medusa-purge").await;
    assert_eq!(purge.spec.operation_type, ScheduledOperation::Purge);
    assert_eq!(purge.spec.backup_spec.cassandra_datacenter, "dc1");
    assert!(purge.spec.cron_schedule.ends_with(" 0 * * *"), "every day, in the hour after midnight");

    // The options the page names in comments.
    let with_options = format!("{CLUSTER}{}", OPTIONS.trim_start_matches('\n'));
    apply(fleet.home(), filled(&with_options)).await;
    let text = ini(&fleet, "region = us-east-1").await;
    for line in
        ["api_profile = backups", "transfer_max_bandwidth = 50MB/s", "backup_grace_period_in_days = 10"]
    {
        assert!(text.lines().any(|l| l == line), "`{line}` is not in {text}");
    }

    // The page's last manifest is a part of one: what it says is set.
    let part = json!({"spec": filled(NO_PURGE)["spec"]});
    fleet.home().patch::<K8ssandraCluster>(CASS, "demo", part).await;
    fleet.dp(1).disappears::<MedusaBackupSchedule>(CASS, "demo-dc1-medusa-purge").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_configuration_is_used_with_a_secret_and_with_a_role() {
    let (fleet, _controller) = start().await;
    apply(fleet.home(), filled(CONFIGURATION)).await;
    apply(fleet.home(), filled(SHARED)).await;
    let mounts_secret = |pods: &Value| {
        let medusa = pods["containers"].as_array().unwrap().iter().find(|c| c["name"] == "medusa").cloned();
        medusa.is_some_and(|m| {
            m["volumeMounts"].as_array().unwrap().iter().any(|v| v["mountPath"] == "/etc/medusa-secrets")
        })
    };
    pods(&fleet, "Medusa is in the pods, with the secret", mounts_secret).await;
    let text = ini(&fleet, "prefix = demo").await;
    for line in ["storage_provider = s3", "region = us-west-2", "bucket_name = k8ssandra-medusa"] {
        assert!(text.lines().any(|l| l == line), "`{line}` is not in {text}");
    }
    assert!(text.contains("key_file"));
    fleet.dp(1).appears::<MedusaConfiguration>(CASS, "medusaconfiguration-s3").await;
    fleet.dp(1).appears::<Secret>(CASS, "medusa-bucket-key").await;

    apply(fleet.home(), filled(ROLE)).await;
    let without = |pods: &Value| has(pods, "containers", "medusa") && !mounts_secret(pods);
    let pods = pods(&fleet, "Medusa is in the pods, without the secret", without).await;
    assert!(!has(&pods, "volumes", "medusa-bucket-key"), "{pods}");
    let text = ini(&fleet, "prefix = demo").await;
    assert!(text.contains("bucket_name = k8ssandra-medusa") && !text.contains("key_file"), "{text}");
}
