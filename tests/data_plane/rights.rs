//! What the roles may do: exactly what is shipped. Every data plane in these tests runs with the rights of
//! deploy/data-plane.yaml and no others, every control plane with those of deploy/control-plane.yaml and, elsewhere, of
//! kubeconfigs/data-plane-rbac.yaml. They are impersonated: an administrator makes each request in the account's name.

use std::path::PathBuf;

use http::{HeaderName, HeaderValue};
use kube::Config;
use serde_json::{Value, json};

use crate::support::{
    Cluster,
    credentials::objects_of,
    kubeconfig,
    rights::{AT_HOME, IN_DATA_PLANES},
};

/// The ServiceAccount of deploy/data-plane.yaml.
pub const DATA_PLANE: &str = "system:serviceaccount:medusa-fleet:medusa-fleet-data-plane";
/// The ServiceAccount of deploy/control-plane.yaml and kubeconfigs/data-plane-rbac.yaml.
pub const CONTROL_PLANE: &str = "system:serviceaccount:medusa-fleet:medusa-fleet-control-plane";

/// The objects of those kinds in deploy/data-plane.yaml.
pub fn granted(kinds: &[&str]) -> Vec<Value> {
    objects_of("deploy/data-plane.yaml", kinds)
}

/// Grants the rights that hold in the whole cluster, `is_home` the one that a control plane runs in.
pub async fn grant(cluster: &Cluster, is_home: bool) {
    let kinds = ["ClusterRole", "ClusterRoleBinding"];
    let control_plane = objects_of(if is_home { AT_HOME } else { IN_DATA_PLANES }, &kinds);
    for object in granted(&kinds).into_iter().chain(control_plane) {
        cluster.create(object).await;
    }
}

/// Grants the rights that hold in the role's own namespace, which is `ns` here.
pub async fn grant_in(cluster: &Cluster, ns: &str) {
    for mut object in granted(&["Role", "RoleBinding"]) {
        object["metadata"]["namespace"] = ns.into();
        cluster.create(object).await;
    }
}

/// A kubeconfig of the cluster that acts as that account.
pub fn kubeconfig_of(cluster: &Cluster, identity: &str) -> String {
    let mut file = kubeconfig(cluster);
    file["users"][0]["user"]["as"] = json!(identity);
    file["users"][0]["user"]["as-groups"] = json!(["system:authenticated"]);
    file.to_string()
}

/// [`kubeconfig_of`], in a file.
pub fn kubeconfig_file_of(cluster: &Cluster, identity: &str) -> PathBuf {
    let name = identity.rsplit(':').next().unwrap_or_default();
    let path = cluster.kubeconfig.with_extension(format!("{name}.kubeconfig"));
    // Tests that write it at the same time write the same.
    let new = path.with_extension(format!("{:?}", std::thread::current().id()));
    std::fs::write(&new, kubeconfig_of(cluster, identity)).unwrap();
    std::fs::rename(&new, &path).unwrap();
    path
}

/// `config`, an administrator's, acting as the data plane's role.
pub fn act(mut config: Config) -> Config {
    for (name, value) in [("impersonate-user", DATA_PLANE), ("impersonate-group", "system:authenticated")] {
        config.headers.push((HeaderName::from_static(name), HeaderValue::from_static(value)));
    }
    config
}
