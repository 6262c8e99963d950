//! Kubeconfigs are input: whatever is written into a Secret.

use k8s_openapi::api::core::v1::Secret;
use medusa_fleet::api::fleet::DataPlane;
use serde_json::{Value, json};

use crate::support::{ControlPlane, FLEET, Fleet, assert_unseen, condition, kubeconfig, secret};

/// Stands in every refused kubeconfig where a credential would.
const CANARY: &str = "canary-4c7fe1d9-in-a-kubeconfig";

/// Changes one field of a good kubeconfig: (name of the Secret, where, field, value, the field that is named).
fn unsafe_changes(touch: &str) -> Vec<(&'static str, &'static str, &'static str, Value, &'static str)> {
    let run = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "touch", "args": [touch]});
    vec![
        ("plain-http", "cluster", "server", json!("http://127.0.0.1:1"), "server"),
        ("no-scheme", "cluster", "server", json!("127.0.0.1:1"), "server"),
        ("trusts-anyone", "cluster", "insecure-skip-tls-verify", json!(true), "insecure-skip-tls-verify"),
        ("ca-file", "cluster", "certificate-authority", json!("/etc/ssl/ca.pem"), "certificate-authority"),
        ("proxy", "cluster", "proxy-url", json!("http://127.0.0.1:1"), "proxy-url"),
        ("exec", "user", "exec", run, "exec"),
        ("provider", "user", "auth-provider", json!({"name": "gcp"}), "auth-provider"),
        ("token-file", "user", "tokenFile", json!("/etc/hostname"), "tokenFile"),
        ("cert-file", "user", "client-certificate", json!("/etc/hostname"), "client-certificate"),
        ("key-file", "user", "client-key", json!("/etc/hostname"), "client-key"),
        ("user-name", "user", "username", json!("admin"), "username"),
        ("pass-word", "user", "password", json!(CANARY), "password"),
    ]
}

/// Kubeconfigs that are none: (name of the Secret, text).
fn garbage(good: &Value) -> Vec<(&'static str, String)> {
    let user = |user: Value| {
        let mut file = good.clone();
        file["users"][0]["user"] = user;
        file.to_string()
    };
    let field = |pointer: &str, value: Value| {
        let mut file = good.clone();
        *file.pointer_mut(pointer).unwrap() = value;
        file["users"][0]["user"] = json!({"token": CANARY});
        file.to_string()
    };
    vec![
        ("empty", String::new()),
        ("no-yaml", format!("{{ token: {CANARY}")),
        ("a-list", format!("[1, {CANARY}]")),
        ("a-token", CANARY.to_owned()),
        ("wrong-types", format!("users: {CANARY}\nclusters: 7\n")),
        ("aliases", "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n".to_owned()),
        ("control-characters", format!("\u{1}\u{7}{CANARY}")),
        ("no-context", field("/current-context", json!(""))),
        ("lost-context", field("/current-context", json!("elsewhere"))),
        ("lost-user", field("/contexts/0/context/user", json!("nobody"))),
        ("no-host", field("/clusters/0/cluster/server", json!("https://"))),
        ("no-credential", user(json!({}))),
        ("empty-token", user(json!({"token": ""}))),
        ("no-base64", user(json!({"client-certificate-data": CANARY, "client-key-data": "%%%"}))),
        ("no-pem", user(json!({"client-certificate-data": "Y2FuYXJ5", "client-key-data": "Y2FuYXJ5"}))),
    ]
}

async fn expect_refused(fleet: &Fleet, name: &str, reason: &str) -> String {
    let message = fleet.expect_data_plane(name, "Accepted", "False", reason).await;
    fleet.expect_data_plane(name, "Ready", "False", reason).await;
    let note = fleet.home().event("DataPlane", name, reason).await;
    assert_eq!(note, message, "{name}");
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_kubeconfig_is_refused_by_name_and_disturbs_nothing() {
    let fleet = Fleet::start(1).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    let good = kubeconfig(fleet.dp(1));
    let before: DataPlane = home.get(FLEET, "dp-1").await;

    let touched = fleet.dir().join("touched");
    let changes = unsafe_changes(&touched.display().to_string());
    for (name, part, field, value, _) in &changes {
        let mut file = good.clone();
        file["users"][0]["user"] = json!({"token": CANARY});
        let list = if *part == "cluster" { "clusters" } else { "users" };
        file[list][0][part][field] = value.clone();
        fleet.register_as(name, "kubeconfig", &file.to_string()).await;
    }
    for (name, text) in garbage(&good) {
        fleet.register_as(name, "kubeconfig", &text).await;
    }
    let bytes = json!({
        "apiVersion": "v1", "kind": "Secret", "data": {"kubeconfig": "/////w=="},
        "metadata": {"name": "bytes", "namespace": FLEET, "labels": {"fleet.k8ssandra.io/register": "true"}},
    });
    home.create(bytes).await;
    fleet.register_as("wrong-key", "config", &good.to_string()).await;
    fleet.register_as("local", "kubeconfig", &good.to_string()).await;
    home.create(secret(FLEET, "plain", &[("kubeconfig", "x")])).await;
    let plane = |name: &str, spec: Value| {
        json!({
            "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "DataPlane",
            "metadata": {"name": name, "namespace": FLEET}, "spec": spec,
        })
    };
    let secret_ref = |name: &str| json!({"kubeconfigSecretRef": {"name": name}});
    home.create(plane("no-secret", secret_ref("nowhere"))).await;
    let absent_key = json!({"kubeconfigSecretRef": {"name": "dp-1", "key": "absent"}});
    home.create(plane("no-key", absent_key)).await;
    let other_context = json!({"kubeconfigSecretRef": {"name": "dp-1"}, "context": "x".repeat(5000)});
    home.create(plane("other-context", other_context)).await;
    for spec in [json!({}), json!({"local": true, "kubeconfigSecretRef": {"name": "dp-1"}})] {
        let refused = home.try_create(plane("neither", spec)).await.unwrap_err().to_string();
        assert!(refused.contains("set exactly one of"), "{refused}");
    }

    for (name, .., named) in &changes {
        let message = expect_refused(&fleet, name, "UnsafeKubeconfig").await;
        assert!(message.contains(&format!("`{named}`")), "{name}: {message}");
    }
    for (name, _) in garbage(&good) {
        expect_refused(&fleet, name, "InvalidKubeconfig").await;
    }
    expect_refused(&fleet, "bytes", "InvalidKubeconfig").await;
    expect_refused(&fleet, "other-context", "InvalidKubeconfig").await;
    let message = expect_refused(&fleet, "no-secret", "SecretNotFound").await;
    assert!(message.contains("`nowhere`"), "{message}");
    let message = expect_refused(&fleet, "wrong-key", "KubeconfigKeyMissing").await;
    assert!(message.contains("`kubeconfig` or `value`"), "{message}");
    let message = expect_refused(&fleet, "no-key", "KubeconfigKeyMissing").await;
    assert!(message.contains("`absent`"), "{message}");
    home.event("Secret", "local", "ReservedName").await;
    fleet.expect_data_plane("local", "Ready", "True", "Ready").await;

    // No program ran, nothing else was disturbed, and mending needs no restart.
    assert!(!touched.exists(), "the program in a kubeconfig was run");
    home.patch::<Secret>(FLEET, "exec", json!({"stringData": {"kubeconfig": good.to_string()}})).await;
    fleet.expect_data_plane("exec", "Accepted", "True", "KubeconfigAccepted").await;
    fleet.expect_data_plane("exec", "Unique", "False", "DuplicateCluster").await;
    let after: DataPlane = home.get(FLEET, "dp-1").await;
    let ready = |plane: &DataPlane| {
        let conditions = plane.status.clone().unwrap().conditions;
        assert_eq!(condition(&conditions, "Ready").0, "True");
        conditions.into_iter().map(|c| (c.type_, c.last_transition_time)).collect::<Vec<_>>()
    };
    assert_eq!(ready(&before), ready(&after), "another's kubeconfig disturbed dp-1");
    controller.assert_running();
    assert_unseen(&fleet, &controller, &[CANARY]).await;
}
