//! The program's two roles, as the manifests in deploy/ run them: each with the rights granted there and no others.

use std::path::Path;

use serde_json::json;

use super::support::{
    Cluster,
    credentials::{GRANTS, objects_of, request_token, with_token},
    harness::{BINARY, Program},
};

/// The image for which the testbed runs its own Medusa.
const MEDUSA_IMAGE: &str = "medusa-fleet.test/medusa:0.31.0";
/// Longer than the test, in seconds.
const TOKEN_LIFETIME: i64 = 7200;

/// Starts `role` in a cluster. Its log is a file in `dir`.
pub async fn start(role: &str, cluster: &Cluster, dir: &Path) -> Program {
    let kubeconfig = dir.join(format!("{}.{role}.kubeconfig", cluster.name));
    std::fs::write(&kubeconfig, with_token(cluster, &granted_token(role, cluster).await)).unwrap();
    let log = dir.join(format!("{}.controller.log", cluster.name));
    let program = Program::start(BINARY, &log, |command| {
        command
            .args([role, "--leader-elect", "--metrics-addr", "127.0.0.1:0", "--kubeconfig"])
            .arg(kubeconfig)
            .env("MEDUSA_FLEET_MEDUSA_IMAGE", MEDUSA_IMAGE)
    });
    program.unwrap()
}

/// Grants a role its rights and returns a token of its ServiceAccount.
async fn granted_token(role: &str, cluster: &Cluster) -> String {
    for object in objects_of(&format!("deploy/{role}.yaml"), &GRANTS) {
        cluster.create(object).await;
    }
    let spec = json!({"audiences": [], "expirationSeconds": TOKEN_LIFETIME});
    request_token(cluster, &format!("medusa-fleet-{role}"), spec).await
}
