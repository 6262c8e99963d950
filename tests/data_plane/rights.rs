//! What the role may do: exactly what deploy/data-plane.yaml grants. Every data plane in these tests runs
//! with these rights and no others.

use http::{HeaderName, HeaderValue};
use kube::Config;
use serde_json::Value;

use crate::support::{Cluster, credentials::objects_of};

/// The ServiceAccount of deploy/data-plane.yaml.
const IDENTITY: &str = "system:serviceaccount:medusa-fleet:medusa-fleet-data-plane";

/// The objects of those kinds in deploy/data-plane.yaml.
pub fn granted(kinds: &[&str]) -> Vec<Value> {
    objects_of("deploy/data-plane.yaml", kinds)
}

/// Grants the rights that hold in the whole cluster.
pub async fn grant(cluster: &Cluster) {
    for object in granted(&["ClusterRole", "ClusterRoleBinding"]) {
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

/// `config`, an administrator's, acting as the role.
pub fn act(mut config: Config) -> Config {
    for (name, value) in [("impersonate-user", IDENTITY), ("impersonate-group", "system:authenticated")] {
        config.headers.push((HeaderName::from_static(name), HeaderValue::from_static(value)));
    }
    config
}
