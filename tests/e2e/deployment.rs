//! A datacenter of real Cassandra without Medusa gets it by one K8ssandraCluster in the control plane, is backed up, lives
//! through a rotation of the store's credentials, and is restored. Another one gets it without any secret, and then another
//! version of it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use medusa_fleet::{
    api::{
        Conditions as _,
        fleet::FleetCluster,
        k8ssandra::K8ssandraCluster,
        medusa::{MedusaBackupSchedule, MedusaConfiguration},
    },
    control_plane::deployment::pod::image::DEFAULT_IMAGE,
};
use serde_json::{Value, json};

use super::{
    NEWER_IMAGE,
    cassandra_fleet::CassandraFleet,
    datacenter::{Datacenter, PATIENCE},
    restore,
    support::{FLEET, eventually, eventually_within, secret},
};

/// The shared MedusaConfiguration, and its bucket secret.
const SHARED: (&str, &str) = ("store", "store-credentials");
/// Rows before the first backup, and before the second.
const ROWS: (usize, usize) = (200, 300);

/// Names of a pod's containers, init containers last.
fn containers(pod: &Pod) -> Vec<String> {
    let spec = pod.spec.clone().unwrap_or_default();
    spec.containers.into_iter().chain(spec.init_containers.unwrap_or_default()).map(|c| c.name).collect()
}

/// Writes the shared configuration, with the credentials the store takes now.
pub async fn share_configuration(fleet: &CassandraFleet) {
    fleet.home().create(secret(FLEET, SHARED.1, &[("credentials", &fleet.credentials())])).await;
    let mut properties = fleet.storage_properties();
    properties["storageSecretRef"] = json!({"name": SHARED.1});
    fleet
        .home()
        .create(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaConfiguration",
            "metadata": {"name": SHARED.0, "namespace": FLEET}, "spec": {"storageProperties": properties},
        }))
        .await;
}

/// A K8ssandraCluster of one datacenter that is already there.
fn k8ssandra_cluster(of: Datacenter<'_>, medusa: Value) -> Value {
    json!({
        "apiVersion": "k8ssandra.io/v1alpha1", "kind": "K8ssandraCluster",
        "metadata": {"name": of.namespace, "namespace": FLEET},
        "spec": {
            "cassandra": {"datacenters": [{
                "metadata": {"name": of.name, "namespace": of.namespace},
                "k8sContext": of.cluster.name, "size": 1,
            }]},
            "medusa": medusa,
        },
    })
}

/// One K8ssandraCluster brings Medusa to a datacenter that runs without it.
pub async fn deploy(fleet: &CassandraFleet, to: Datacenter<'_>) {
    let before = to.pods().await;
    assert!(before.iter().all(|pod| !containers(pod).contains(&"medusa".to_owned())));
    let medusa = json!({
        "medusaConfigurationRef": {"name": SHARED.0}, "storageProperties": {"prefix": to.namespace},
    });
    fleet.home().create(k8ssandra_cluster(to, medusa)).await;
    to.expect_medusa(DEFAULT_IMAGE).await;
    for pod in to.pods().await {
        let names = containers(&pod);
        assert!(
            names.contains(&"medusa".to_owned()) && names.contains(&"medusa-restore".to_owned()),
            "{names:?}"
        );
    }
    let ini = medusa_ini(to).await;
    assert!(ini.contains(&format!("prefix = {}", to.namespace)), "{ini}");
    assert!(ini.contains("key_file = /etc/medusa-secrets/credentials"), "{ini}");
    let purge = format!("{}-{}-medusa-purge", to.namespace, to.name);
    let schedule: MedusaBackupSchedule = to.cluster.get(to.namespace, &purge).await;
    assert_eq!(schedule.spec.backup_spec.cassandra_datacenter, to.name);
    expect_deployed(fleet, to).await;
}

/// A datacenter whose pods have rights of their own, as a cloud's identity webhook gives them by environment, gets Medusa
/// without a bucket secret, beside what its owner wrote into the template.
pub async fn deploy_role_based(fleet: &CassandraFleet, to: Datacenter<'_>) {
    let [key, secret_key] = fleet.keys();
    let identity = json!([
        {"name": "cassandra"},
        {"name": "medusa", "env": [
            {"name": "AWS_ACCESS_KEY_ID", "value": key}, {"name": "AWS_SECRET_ACCESS_KEY", "value": secret_key},
        ]},
    ]);
    let mut properties = fleet.storage_properties();
    properties["prefix"] = json!(to.namespace);
    properties["credentialsType"] = json!("role-based");
    to.set_containers(identity).await;
    fleet.home().create(k8ssandra_cluster(to, json!({"storageProperties": properties}))).await;
    to.expect_medusa(DEFAULT_IMAGE).await;
    let ini = medusa_ini(to).await;
    assert!(!ini.contains("key_file"), "{ini}");
    let there: Vec<String> = to
        .cluster
        .list::<Secret>(to.namespace)
        .await
        .iter()
        .filter_map(|s| s.metadata.name.clone())
        .collect();
    assert_eq!(there, [format!("{}-medusa", to.namespace)], "no secret but the one of Medusa's own user");
    expect_deployed(fleet, to).await;
    let env = medusa_env(to).await;
    assert_eq!(env["AWS_ACCESS_KEY_ID"].as_deref(), Some(key.as_str()), "what its owner wrote stays");
    assert_eq!(env["MEDUSA_MODE"].as_deref(), Some("GRPC"));
}

/// The environment of the Medusa in the first pod; the value only of what has it from nowhere else.
async fn medusa_env(of: Datacenter<'_>) -> BTreeMap<String, Option<String>> {
    let pods = of.pods().await;
    let medusa = pods[0].spec.clone().unwrap().containers.into_iter().find(|c| c.name == "medusa").unwrap();
    medusa.env.unwrap_or_default().into_iter().map(|e| (e.name, e.value)).collect()
}

/// Another tag in the K8ssandraCluster brings another Medusa into the pods, and leaves what their owner wrote.
pub async fn upgrade(fleet: &CassandraFleet, of: Datacenter<'_>) {
    let before = medusa_env(of).await;
    let (_, tag) = NEWER_IMAGE.rsplit_once(':').unwrap();
    let patch = json!({"spec": {"medusa": {"containerImage": {"tag": tag}}}});
    fleet.home().patch::<K8ssandraCluster>(FLEET, of.namespace, patch).await;
    of.expect_medusa(NEWER_IMAGE).await;
    expect_deployed(fleet, of).await;
    assert_eq!(medusa_env(of).await, before, "what its owner wrote stays");
}

async fn medusa_ini(of: Datacenter<'_>) -> String {
    let map: ConfigMap = of.cluster.get(of.namespace, &format!("{}-medusa", of.namespace)).await;
    map.data.unwrap()["medusa.ini"].clone()
}

async fn expect_deployed(fleet: &CassandraFleet, to: Datacenter<'_>) {
    let name = format!("{}.{FLEET}", to.namespace);
    eventually(format!("FleetCluster {name} says that Medusa is deployed"), async || {
        let status = fleet.home().find::<FleetCluster>(FLEET, &name).await.and_then(|c| c.status);
        let deployed = status.as_ref().is_some_and(|s| s.conditions.is_true("MedusaDeployed"));
        if deployed { Ok(()) } else { Err(format!("{status:#?}")) }
    })
    .await;
}

/// Backs a cluster up by the command line, and says the name of its MedusaBackup.
async fn back_up(fleet: &CassandraFleet, of: Datacenter<'_>, name: &str) -> String {
    let (ok, said) = fleet.medusa(&["backup", name, "--cluster", of.namespace, "--wait", "--timeout", "8m"]);
    assert!(ok, "{said}");
    of.backup(&format!("{name}-")).await.metadata.name.unwrap()
}

/// Backed up, the store's credentials rotated and with them the shared secret, backed up again, dropped, restored.
/// `of` is the data plane's number, the namespace and the name of the datacenter. Returns the rows it has at the end.
pub async fn back_up_rotate_restore(
    fleet: &mut CassandraFleet,
    of: (usize, &'static str, &'static str),
) -> usize {
    let (plane, namespace, name) = of;
    fleet.datacenter(plane, namespace, name).load(ROWS.0).await;
    back_up(fleet, fleet.datacenter(plane, namespace, name), "before-rotation").await;

    fleet.rotate_store();
    let credentials = fleet.credentials();
    fleet.home().patch::<Secret>(FLEET, SHARED.1, json!({"stringData": {"credentials": credentials}})).await;
    let datacenter = fleet.datacenter(plane, namespace, name);
    eventually("the new credentials are in the pod", async || {
        let mounted = fleet.mounted(SHARED.1, "credentials");
        if mounted == [credentials.clone()] { Ok(()) } else { Err(format!("{} files", mounted.len())) }
    })
    .await;
    let shared: MedusaConfiguration = fleet.home().get(FLEET, SHARED.0).await;
    assert!(shared.status.is_some_and(|s| s.conditions.is_true("Ready")));

    datacenter.load(ROWS.1).await;
    let backup = back_up(fleet, datacenter, "after-rotation").await;
    datacenter.cql(0, &["execute", "DROP TABLE shop.orders", "DROP KEYSPACE single"]).await.expect("drop");
    restore::restore(datacenter, "deployed", &backup, &datacenter.pod_names().await).await;
    datacenter.expect_rows(0, ROWS.1).await;
    ROWS.1
}

/// Removing `spec.medusa` takes Medusa out of the pods and leaves the data.
pub async fn remove(fleet: &CassandraFleet, from: Datacenter<'_>, rows: usize) {
    fleet.home().patch::<K8ssandraCluster>(FLEET, from.namespace, json!({"spec": {"medusa": null}})).await;
    let what = format!("{} runs without Medusa", from.namespace);
    eventually_within(PATIENCE, what, async || {
        let pods = from.pods().await;
        let seen = pods.iter().map(containers).collect::<Vec<_>>();
        let bare = !pods.is_empty() && seen.iter().flatten().all(|name| !name.starts_with("medusa"));
        if bare { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    from.expect_rows(0, rows).await;
    let config_map = format!("{}-medusa", from.namespace);
    eventually("its ConfigMap is gone", async || {
        let found = from.cluster.find::<ConfigMap>(from.namespace, &config_map).await;
        if found.is_none() { Ok(()) } else { Err("it is there") }
    })
    .await;
}
