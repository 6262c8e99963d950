//! Kubeconfigs with tokens, and the command line.

use std::{
    path::Path,
    process::{Command, Output},
};

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client, ResourceExt as _, api::PostParams};
use serde_json::{Value, json};

use super::{
    Cluster, FLEET,
    harness::{BINARY, connection},
    rights::{self, ACCOUNT},
    secret,
};

/// An administrator's kubeconfig of a cluster.
pub fn kubeconfig(cluster: &Cluster) -> Value {
    rights::parsed(&cluster.kubeconfig)
}

/// The objects of those kinds in a file of this repository.
pub fn objects_of(file: &str, kinds: &[&str]) -> Vec<Value> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let all: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    all.into_iter().filter(|object| kinds.iter().any(|kind| object["kind"] == *kind)).collect()
}

/// A new token of the control plane's account. It works until the Secret `bound_to`, made for it, is deleted.
pub async fn token(cluster: &Cluster, bound_to: &str) -> String {
    let bound = cluster.create(secret(FLEET, bound_to, &[])).await;
    let bound = json!({"apiVersion": "v1", "kind": "Secret", "name": bound_to, "uid": bound.uid()});
    request_token(cluster, ACCOUNT, json!({"audiences": [], "boundObjectRef": bound})).await
}

/// A token of a ServiceAccount, as `spec` has it.
pub async fn request_token(cluster: &Cluster, account: &str, spec: Value) -> String {
    let request = serde_json::from_value(json!({"spec": spec})).unwrap();
    let api: Api<ServiceAccount> = cluster.api(FLEET);
    let answer = api.create_token_request(account, &PostParams::default(), &request).await;
    answer.expect("request a token").status.expect("a token").token
}

/// The cluster's kubeconfig with a token instead of the administrator's certificate.
pub fn with_token(cluster: &Cluster, token: &str) -> String {
    let mut file = kubeconfig(cluster);
    file["users"][0]["user"] = json!({"token": token});
    file.to_string()
}

/// Who connects with a kubeconfig.
pub async fn client(kubeconfig: &str) -> Client {
    Client::try_from(connection(kubeconfig).await.unwrap()).unwrap()
}

/// Runs the command line as whoever has `kubeconfig`.
pub fn medusa_fleet(kubeconfig: &Path, args: &[&str]) -> Output {
    medusa_fleet_in(kubeconfig, args, &[])
}

/// [`medusa_fleet`], in an environment with these variables.
pub fn medusa_fleet_in(kubeconfig: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(BINARY);
    command.arg("--kubeconfig").arg(kubeconfig).args(args).env_remove("KUBECONFIG").envs(env.iter().copied());
    tokio::task::block_in_place(|| command.output()).expect("run medusa-fleet")
}
