//! Kubeconfigs are input: whatever is written into a Secret.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Time};
use medusa_fleet::api::fleet::DataPlane;
use serde_json::{Value, json};

use crate::support::{
    ControlPlane, FLEET, Fleet, assert_unseen, condition, eventually, kubeconfig, secret, token,
};

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
    let server = |field: &str, value: &str| {
        let mut file = good.clone();
        file["clusters"][0]["cluster"][field] = json!(value);
        file["users"][0]["user"] = json!({"token": CANARY});
        file.to_string()
    };
    let authority = |data: String| server("certificate-authority-data", &data);
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
        ("line-in-token", user(json!({"token": format!("{CANARY}\n{CANARY}")}))),
        ("return-in-token", user(json!({"token": format!("{CANARY}\r{CANARY}")}))),
        ("nul-in-token", user(json!({"token": format!("{CANARY}\0{CANARY}")}))),
        ("quotes-in-token", user(json!({"token": format!("“{CANARY}”")}))),
        ("act-as", user(json!({"token": CANARY, "as": format!("a\n{CANARY}")}))),
        ("expired", user(identity("expired.crt", "p256.pkcs8.key"))),
        ("foreign", user(identity("p256.crt", "p384.pkcs8.key"))),
        ("p521", user(identity("p521.crt", "p521.sec1.key"))),
        ("rsa1024", user(identity("rsa1024.crt", "rsa1024.pkcs1.key"))),
        ("no-authority", authority(STANDARD.encode("nothing"))),
        ("wrong-name", server("tls-server-name", "no name")),
        ("password-in-url", server("server", &format!("https://me:{CANARY}@127.0.0.1:1"))),
        ("two-documents", format!("{good}\n---\n{good}\n")),
        ("twice", {
            let mut file = good.clone();
            let second = file["users"][0].clone();
            file["users"].as_array_mut().unwrap().push(second);
            file.to_string()
        }),
        ("bomb", {
            let level = |n: usize| format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}]", n - 1);
            let levels = (1..40).map(level).collect::<Vec<_>>().join("\n");
            format!("a0: &a0 [x, x]\n{levels}")
        }),
    ]
}

/// A client certificate and a key of `tests/golden/kubeconfig`.
fn identity(certificate: &str, key: &str) -> Value {
    json!({"client-certificate-data": golden(certificate), "client-key-data": golden(key)})
}

fn golden(name: &str) -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/kubeconfig");
    STANDARD.encode(std::fs::read(folder.join(name)).unwrap())
}

/// When its conditions turned last; it has to be ready.
fn turned(plane: &DataPlane) -> Vec<(String, Time)> {
    let conditions = plane.status.clone().unwrap().conditions;
    assert_eq!(condition(&conditions, "Ready").0, "True");
    conditions.into_iter().map(|c| (c.type_, c.last_transition_time)).collect()
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
    // An administrator's, as it has a client certificate.
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
    assert_eq!(turned(&before), turned(&after), "another's kubeconfig disturbed dp-1");
    controller.assert_running();
    assert_unseen(&fleet, &controller, &[CANARY]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kubectl_reads_is_read_and_a_comment_more_is_no_new_credential() {
    let fleet = Fleet::start(1).await;
    let home = fleet.home();
    let mut controller = ControlPlane::spawn(&fleet);
    let good = kubeconfig(fleet.dp(1));
    let cluster = &good["clusters"][0]["cluster"];
    let (server, ca) =
        (cluster["server"].as_str().unwrap(), cluster["certificate-authority-data"].as_str().unwrap());
    let token = token(fleet.dp(1), "field").await;
    let lines = ca.as_bytes().chunks(76).map(String::from_utf8_lossy);
    let wrapped: String = lines.flat_map(|line| ["      ".into(), line, "\r\n".into()]).collect();
    // As generators and editors leave it: a byte order mark, CRLF, wrapped base64, every field empty.
    let text = format!(
        "\u{FEFF}---\r\napiVersion: v1\r\nkind: Config\r\ncurrent-context: edge\r\npreferences: {{}}\r\n\
         contexts:\r\n- name: edge\r\n  context: {{cluster: edge, user: robot, namespace: ''}}\r\n\
         clusters:\r\n- name: edge\r\n  cluster:\r\n    server: {server}\r\n    certificate-authority: ''\r\n\
         \u{20}   proxy-url: ''\r\n    tls-server-name: ''\r\n    certificate-authority-data: |\r\n{wrapped}\
         users:\r\n- name: robot\r\n  user:\r\n    exec: null\r\n    tokenFile: ''\r\n    username: ''\r\n\
         \u{20}   password: ''\r\n    client-certificate-data: ''\r\n    client-key-data: ''\r\n    token: |\r\n\
         \u{20}     {token}\r\n"
    );
    fleet.register_as("dp-1", "kubeconfig", &text).await;
    fleet.expect_data_plane("dp-1", "Ready", "True", "Ready").await;

    // Neither a comment nor other white space makes a new link: its watches go on.
    let before: DataPlane = home.get(FLEET, "dp-1").await;
    let hash = |plane: &DataPlane| plane.status.clone().unwrap().credential.unwrap().hash;
    let links = controller.log().matches("data plane answers").count();
    home.patch::<Secret>(
        FLEET,
        "dp-1",
        json!({"stringData": {"kubeconfig": format!("{text}# rotated never\r\n")}}),
    )
    .await;
    let after = eventually("the new text is read", async || {
        let plane: DataPlane = home.get(FLEET, "dp-1").await;
        if hash(&plane) == hash(&before) { Err("the hash is the old one") } else { Ok(plane) }
    })
    .await;
    assert_eq!(turned(&before), turned(&after), "it was connected to anew");
    assert_eq!(controller.log().matches("data plane answers").count(), links);
    controller.assert_running();
}
