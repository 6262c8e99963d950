//! The program's two roles, as the manifests in deploy/ run them: each with the rights granted there and no others.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use serde_json::{Value, json};

use super::support::{Cluster, with_token};

/// What a role is granted; the rest of its manifest is about its Deployment.
const GRANTS: [&str; 5] = ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
/// The image for which the testbed runs its own Medusa.
const MEDUSA_IMAGE: &str = "medusa-fleet.test/medusa:0.31.0";
/// Longer than the test, in seconds.
const TOKEN_LIFETIME: i64 = 7200;

/// Starts `role` in a cluster. Its log is a file in `dir`.
pub async fn start(role: &str, cluster: &Cluster, dir: &Path) -> Child {
    let kubeconfig = dir.join(format!("{}.{role}.kubeconfig", cluster.name));
    std::fs::write(&kubeconfig, with_token(cluster, &granted_token(role, cluster).await)).unwrap();
    let log = File::create(dir.join(format!("{}.controller.log", cluster.name))).unwrap();
    Command::new(env!("CARGO_BIN_EXE_medusa-fleet"))
        .args([role, "--metrics-addr", "127.0.0.1:0", "--kubeconfig"])
        .arg(kubeconfig)
        .env("MEDUSA_FLEET_MEDUSA_IMAGE", MEDUSA_IMAGE)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("start medusa-fleet")
}

/// Grants a role its rights and returns a token of its ServiceAccount.
async fn granted_token(role: &str, cluster: &Cluster) -> String {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("deploy/{role}.yaml"));
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&std::fs::read_to_string(manifest).unwrap()).unwrap();
    let mut account = (String::new(), String::new());
    for document in documents {
        if !GRANTS.iter().any(|kind| document["kind"] == *kind) {
            continue;
        }
        let created = cluster.create(document.clone()).await;
        if document["kind"] == "ServiceAccount" {
            account = (created.metadata.namespace.unwrap(), created.metadata.name.unwrap());
        }
    }
    let request = serde_json::from_value(json!({"spec": {
        "audiences": [], "expirationSeconds": TOKEN_LIFETIME,
    }}))
    .unwrap();
    let api = cluster.api::<ServiceAccount>(&account.0);
    let answer = api.create_token_request(&account.1, &PostParams::default(), &request).await;
    answer.expect("request a token").status.expect("a token").token
}
