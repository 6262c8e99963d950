//! Kubeconfigs with tokens, and the command line.

use std::process::{Command, Output};

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, ResourceExt as _, api::PostParams};
use serde_json::{Value, json};

use super::{Cluster, FLEET, Fleet, secret};

/// The file that says what a data plane grants.
const RBAC: &str = include_str!("../../kubeconfigs/data-plane-rbac.yaml");
/// The ServiceAccount in it.
const ACCOUNT: &str = "medusa-fleet-control-plane";

/// A cluster's kubeconfig as JSON, which is YAML.
pub fn kubeconfig(cluster: &Cluster) -> Value {
    let text = std::fs::read_to_string(&cluster.kubeconfig).unwrap();
    serde_saphyr::from_str(&text).expect("the testbed writes YAML")
}

/// Makes the ServiceAccount and the role of `kubeconfigs/data-plane-rbac.yaml`.
pub async fn grant(cluster: &Cluster) {
    let objects: Vec<Value> = serde_saphyr::from_multiple(RBAC).unwrap();
    for object in objects.into_iter().filter(|object| object["kind"] != "Namespace") {
        cluster.create(object).await;
    }
}

/// A new token of that account. It works until the Secret `bound_to`, made for it, is deleted.
pub async fn token(cluster: &Cluster, bound_to: &str) -> String {
    let bound = cluster.create(secret(FLEET, bound_to, &[])).await;
    let request = serde_json::from_value(json!({"spec": {
        "audiences": [],
        "boundObjectRef": {"apiVersion": "v1", "kind": "Secret", "name": bound_to, "uid": bound.uid()},
    }}))
    .unwrap();
    let api: Api<ServiceAccount> = cluster.api(FLEET);
    let answer = api.create_token_request(ACCOUNT, &PostParams::default(), &request).await;
    answer.expect("request a token").status.expect("a token").token
}

/// The cluster's kubeconfig with a token instead of the administrator's certificate.
pub fn with_token(cluster: &Cluster, token: &str) -> String {
    let mut file = kubeconfig(cluster);
    file["users"][0]["user"] = json!({"token": token});
    file.to_string()
}

/// Runs the command line against the control plane.
pub fn medusa_fleet(fleet: &Fleet, args: &[&str]) -> Output {
    tokio::task::block_in_place(|| {
        Command::new(env!("CARGO_BIN_EXE_medusa-fleet"))
            .arg("--kubeconfig")
            .arg(&fleet.home().kubeconfig)
            .args(args)
            .env_remove("KUBECONFIG")
            .output()
            .expect("run medusa-fleet")
    })
}
