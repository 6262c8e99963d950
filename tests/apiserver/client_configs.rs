//! Clusters that are registered by k8ssandra-operator's ClientConfigs, as they are.

use k8s_openapi::api::core::v1::Secret;
use medusa_fleet::api::{
    fleet::{DataPlane, Phase},
    k8ssandra::ClientConfig,
    labels,
};
use serde_json::{Value, json};

use crate::support::{
    BackupFinisher, CASS, Cluster, ControlPlane, FLEET, Fleet, assert_unseen, backup_job,
    client_configs::{about, client_config, client_config_definition},
    condition, datacenter, eventually, kubeconfig, medusa_fleet, rights, secret, token,
};

/// Namespace of k8ssandra-operator.
const OPS: &str = "k8ssandra-operator";
/// The ClientConfig of data plane 1.
const OBJECT: &str = "gke-shop-eu-west1";
/// Its context, which no object can be called, and what the DataPlane is called instead.
const CONTEXT: &str = "gke_shop_eu-west1";
const NAME: &str = "gke-shop-eu-west1-8250ddd5";

/// What upstream's script writes about [`CONTEXT`].
const MANIFEST: &str = "
apiVersion: config.k8ssandra.io/v1beta1
kind: ClientConfig
metadata:
  name: gke-shop-eu-west1
spec:
  contextName: gke_shop_eu-west1
  kubeConfigSecret:
    name: gke-shop-eu-west1-config
";

/// The kubeconfig in that script's Secret: one cluster, one user with a token, one context.
fn scripted(cluster: &Cluster, token: &str) -> String {
    let mut file = kubeconfig(cluster);
    for list in ["clusters", "users", "contexts"] {
        file[list][0]["name"] = json!(CONTEXT);
    }
    file["contexts"][0]["context"] = json!({"cluster": CONTEXT, "user": CONTEXT});
    file["users"][0]["user"] = json!({"token": token});
    file["current-context"] = json!(CONTEXT);
    file.to_string()
}

/// Waits until the bucket secret's copy holds `value`.
async fn expect_copy(cluster: &Cluster, value: &str) {
    eventually(format!("the bucket secret in {} is {value}", cluster.name), async || {
        let copy = cluster.find::<Secret>(CASS, "bucket").await.ok_or("it is not there")?;
        let data = copy.data.unwrap_or_default();
        let holds = data.get("credentials").is_some_and(|held| held.0 == value.as_bytes());
        holds.then_some(()).ok_or("it holds something else")
    })
    .await;
}

/// When each condition of a DataPlane changed last.
async fn transitions(home: &Cluster, name: &str) -> Vec<String> {
    let status = home.get::<DataPlane>(FLEET, name).await.status.unwrap();
    status
        .conditions
        .iter()
        .map(|c| format!("{} {} {:?}", c.type_, c.status, c.last_transition_time))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_config_registers_a_cluster_whose_credential_is_rotated_and_goes_with_it() {
    let fleet = Fleet::start(2).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    // The definition comes while the controller runs.
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register(2).await;
    fleet.expect_data_plane("dp-2", "Ready", "True", "Ready").await;
    home.install(&[client_config_definition()]).await.unwrap();
    home.namespace(OPS).await.unwrap();
    let first = token(there, "first").await;
    let config = format!("{OBJECT}-config");
    home.create(secret(OPS, &config, &[("kubeconfig", &scripted(there, &first))])).await;
    home.create(json!({
        "apiVersion": "k8ssandra.io/v1alpha1", "kind": "K8ssandraCluster",
        "metadata": {"name": "shop", "namespace": FLEET},
        "spec": {
            "cassandra": {"datacenters": [
                {"metadata": {"name": "dc1", "namespace": CASS}, "k8sContext": CONTEXT, "size": 1},
            ]},
            "medusa": {"storageProperties": {
                "storageProvider": "s3", "bucketName": "backups", "prefix": "shop",
                "storageSecretRef": {"name": "bucket"},
            }},
        },
    }))
    .await;
    home.create(secret(FLEET, "bucket", &[("credentials", "canary-one")])).await;
    let mut managed = datacenter("dc1", "shop", 1);
    managed["metadata"]["labels"]["app.kubernetes.io/created-by"] = json!("k8ssandracluster-controller");
    there.create(managed).await;
    let _finisher = BackupFinisher::start(there);
    let other = transitions(home, "dp-2").await;

    let mut manifest: Value = serde_saphyr::from_str(MANIFEST).unwrap();
    manifest["metadata"]["namespace"] = json!(OPS);
    home.create(manifest).await;
    fleet.expect_data_plane(NAME, "Ready", "True", "Ready").await;
    expect_copy(there, "canary-one").await;
    home.create(backup_job("once", json!({"dataPlanes": [NAME]}))).await;
    fleet.expect_phase("once", Phase::Succeeded).await;

    // The credential is rotated in place, then in another Secret.
    let second = token(there, "second").await;
    let rotated = json!({"stringData": {"kubeconfig": scripted(there, &second)}});
    let hash = async || home.get::<DataPlane>(FLEET, NAME).await.status.unwrap().credential.unwrap().hash;
    let before = hash().await;
    home.patch::<Secret>(OPS, &config, rotated).await;
    eventually("the new credential is in use", async || {
        if hash().await == before { Err("it is the old one") } else { Ok(()) }
    })
    .await;
    there.delete::<Secret>(FLEET, "first").await; // The old one works no more.
    home.patch::<Secret>(FLEET, "bucket", json!({"stringData": {"credentials": "canary-two"}})).await;
    expect_copy(there, "canary-two").await;
    let third = token(there, "third").await;
    home.create(secret(OPS, "third", &[("kubeconfig", &scripted(there, &third))])).await;
    home.patch::<ClientConfig>(OPS, OBJECT, json!({"spec": {"kubeConfigSecret": {"name": "third"}}})).await;
    eventually("the DataPlane names the other Secret", async || {
        let spec = home.get::<DataPlane>(FLEET, NAME).await.spec;
        if spec.kubeconfig_secret_ref.as_ref().is_some_and(|r| r.name == "third") {
            Ok(())
        } else {
            Err(format!("{spec:?}"))
        }
    })
    .await;
    fleet.expect_data_plane(NAME, "Ready", "True", "Ready").await;
    assert_eq!(transitions(home, "dp-2").await, other, "another cluster was disturbed");

    // What registered it is what unregisters it.
    let output = medusa_fleet(&fleet.home().kubeconfig, &["unregister", NAME]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("delete clientconfig"), "{said}");

    // The Secret alone: the cluster is not used any more, and its copies stay.
    home.delete::<Secret>(OPS, "third").await;
    let message = fleet.expect_data_plane(NAME, "Accepted", "False", "SecretNotFound").await;
    assert!(message.contains("`third`") && message.contains(OPS), "{message}");
    expect_copy(there, "canary-two").await;
    home.create(secret(OPS, "third", &[("kubeconfig", &scripted(there, &third))])).await;
    fleet.expect_data_plane(NAME, "Ready", "True", "Ready").await;

    // Both at once, the Secret first: copies are taken back.
    home.delete::<Secret>(OPS, "third").await;
    home.delete::<ClientConfig>(OPS, OBJECT).await;
    home.disappears::<DataPlane>(FLEET, NAME).await;
    assert!(there.find::<Secret>(CASS, "bucket").await.is_none(), "the Secret was left behind");
    assert_eq!(transitions(home, "dp-2").await, other, "another cluster was disturbed");
    controller.assert_running();
    let values = [first.as_str(), &second, &third, "canary-one", "canary-two"];
    assert_unseen(&fleet, &controller, &values).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_config_that_cannot_be_served_is_told_why_and_disturbs_nobody() {
    let fleet = Fleet::start(1).await;
    let home = fleet.home();
    home.install(&[client_config_definition()]).await.unwrap();
    home.namespace(OPS).await.unwrap();
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    let before: DataPlane = home.get(FLEET, "dp-1").await;
    let good = rights::kubeconfig(fleet.dp(1));
    home.create(secret(OPS, "good", &[("kubeconfig", &good.to_string())])).await;

    // A name that is somebody else's: said on both, changed on neither.
    home.create(client_config(OPS, "again", about("dp-1", "good"))).await;
    let note = home.event("ClientConfig", "again", "NameConflict").await;
    assert!(note.contains("`dp-1`") && note.contains("Secret"), "{note}");
    let message = fleet.expect_data_plane("dp-1", "RegistrationsAccepted", "False", "NameConflict").await;
    assert!(message.contains(&format!("ClientConfig `{OPS}/again`")), "{message}");
    let after: DataPlane = home.get(FLEET, "dp-1").await;
    assert_eq!(before.spec, after.spec);
    assert_eq!(condition(&after.status.unwrap().conditions, "Ready").0, "True");
    home.create(client_config(OPS, "home", about("local", "good"))).await;
    home.event("ClientConfig", "home", "ReservedName").await;

    // Specs that say too little.
    home.create(client_config(OPS, "empty", json!({}))).await;
    let note = home.event("ClientConfig", "empty", "InvalidSpec").await;
    assert!(note.contains("spec.kubeConfigSecret.name"), "{note}");

    // Kubeconfigs are vetted as all others.
    let mut program = good.clone();
    program["users"][0]["user"] = json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "touch", "args": ["/nowhere"],
    }});
    home.create(secret(OPS, "exec", &[("kubeconfig", &program.to_string())])).await;
    home.create(client_config(OPS, "exec", about("dp-1-exec", "exec"))).await;
    home.create(client_config(OPS, "lost", about("", "nowhere"))).await;
    home.create(client_config(OPS, "other", about("no-such-context", "good"))).await;
    let refused = [
        ("dp-1-exec", "InvalidKubeconfig"),
        ("lost", "SecretNotFound"),
        ("no-such-context", "InvalidKubeconfig"),
    ];
    for (name, reason) in refused {
        fleet.expect_data_plane(name, "Accepted", "False", reason).await;
        home.event("DataPlane", name, reason).await;
    }
    program["contexts"][0]["name"] = json!("dp-1-exec");
    home.patch::<Secret>(OPS, "exec", json!({"stringData": {"kubeconfig": program.to_string()}})).await;
    fleet.expect_data_plane("dp-1-exec", "Accepted", "False", "UnsafeKubeconfig").await;

    // A Secret of another namespace is lent by a ClientConfig there, and by nothing else.
    home.create(secret(OPS, "private", &[("kubeconfig", &good.to_string())])).await;
    home.create(json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "DataPlane",
        "metadata": {"name": "taken", "namespace": FLEET},
        "spec": {"kubeconfigSecretRef": {"name": "private", "namespace": OPS}},
    }))
    .await;
    let message = fleet.expect_data_plane("taken", "Accepted", "False", "InvalidSpec").await;
    assert!(message.contains("spec.kubeconfigSecretRef.namespace"), "{message}");
    // Nor is it by going: who made the DataPlane and deletes it would have its kubeconfig used.
    home.create(json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "DataPlane",
        "metadata": {"name": "thief", "namespace": FLEET, "finalizers": [labels::FINALIZER]},
        "spec": {"kubeconfigSecretRef": {"name": "private", "namespace": OPS}},
    }))
    .await;
    home.delete::<DataPlane>(FLEET, "thief").await;
    let note = home.event("DataPlane", "thief", "LeftBehind").await;
    assert!(note.contains("cannot be asked"), "{note}");
    home.disappears::<DataPlane>(FLEET, "thief").await;
    home.create(client_config(OPS, "lends", about("dp-1", "private"))).await;
    fleet.expect_data_plane("taken", "Accepted", "True", "KubeconfigAccepted").await;

    // The conflict ends with who began it.
    for name in ["again", "lends"] {
        home.delete::<ClientConfig>(OPS, name).await;
    }
    eventually("nothing is said of other registrations", async || {
        let conditions = home.get::<DataPlane>(FLEET, "dp-1").await.status.unwrap().conditions;
        let (status, _, message) = condition(&conditions, "RegistrationsAccepted");
        if status.is_empty() { Ok(()) } else { Err(message) }
    })
    .await;
    assert_eq!(home.get::<DataPlane>(FLEET, "dp-1").await.spec, before.spec);
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;
    controller.assert_running();
}
