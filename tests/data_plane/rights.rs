//! What the role may do: exactly what deploy/data-plane.yaml grants. Every data plane in these tests runs
//! with these rights and no others.

use std::path::Path;

use http::{HeaderName, HeaderValue};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::{Api, Client, Config, api::PostParams};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The ServiceAccount of deploy/data-plane.yaml.
const IDENTITY: &str = "system:serviceaccount:medusa-fleet:medusa-fleet-data-plane";

/// The first object of that kind in the file.
pub fn granted<K: DeserializeOwned>(kind: &str) -> K {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/data-plane.yaml");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&std::fs::read_to_string(path).unwrap()).unwrap();
    let found = documents.into_iter().find(|document| document["kind"] == kind).unwrap();
    serde_json::from_value(found).unwrap()
}

/// Grants the rights that hold in the whole cluster.
pub async fn grant(client: Client) {
    let params = PostParams::default();
    Api::all(client.clone()).create(&params, &granted::<ClusterRole>("ClusterRole")).await.unwrap();
    Api::all(client).create(&params, &granted::<ClusterRoleBinding>("ClusterRoleBinding")).await.unwrap();
}

/// Grants the rights that hold in the role's own namespace, which is `ns` here.
pub async fn grant_in(client: Client, ns: &str) {
    let mut role: Role = granted("Role");
    let mut binding: RoleBinding = granted("RoleBinding");
    role.metadata.namespace = Some(ns.to_owned());
    binding.metadata.namespace = Some(ns.to_owned());
    let params = PostParams::default();
    Api::namespaced(client.clone(), ns).create(&params, &role).await.unwrap();
    Api::namespaced(client, ns).create(&params, &binding).await.unwrap();
}

/// `config`, an administrator's, acting as the role.
pub fn act(mut config: Config) -> Config {
    for (name, value) in [("impersonate-user", IDENTITY), ("impersonate-group", "system:authenticated")] {
        config.headers.push((HeaderName::from_static(name), HeaderValue::from_static(value)));
    }
    config
}
