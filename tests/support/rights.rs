//! The rights that are shipped, and a ServiceAccount's token with them: what every control plane of the tests works with,
//! in its own cluster and in data planes. Granted once for each cluster of a testbed (`fleet.rs`). A test that needs an
//! administrator's rights takes [`super::kubeconfig`] and says why.

use std::{
    fs,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use medusa_fleet::api::fleet::DataPlane;
use serde_json::{Value, json};

use super::{
    Cluster, FLEET,
    credentials::{objects_of, request_token, with_token},
    eventually,
    harness::connection,
};

/// What a role is granted; the rest of its manifest is about its Deployment.
pub const GRANTS: [&str; 5] = ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
/// What the control plane is granted in its own cluster.
pub const AT_HOME: &str = "deploy/control-plane.yaml";
/// What a data plane grants to it: what `kubectl medusa register` applies.
pub const IN_DATA_PLANES: &str = "kubeconfigs/data-plane-rbac.yaml";
/// The control plane's ServiceAccount, in both.
pub const ACCOUNT: &str = "medusa-fleet-control-plane";
/// The testbed's name of the control plane's own cluster.
const HOME: &str = "control-plane";
/// As long as `register` asks for: an end that is near would be a finding of `doctor`.
const LIFETIME: i64 = 365 * 24 * 3600;

/// Grants the control plane's account what is shipped for that cluster, and keeps a kubeconfig with a token of it.
pub async fn prepare(cluster: &Cluster) {
    let file = if cluster.name == HOME { AT_HOME } else { IN_DATA_PLANES };
    for object in objects_of(file, &GRANTS) {
        cluster.create(object).await;
    }
    let spec = json!({"audiences": [], "expirationSeconds": LIFETIME});
    let token = request_token(cluster, ACCOUNT, spec).await;
    fs::write(kubeconfig_file(cluster), with_token(cluster, &token)).unwrap();
    if cluster.name == HOME {
        may_work_in(cluster, FLEET).await;
    }
}

/// Grants what the control plane has in its own cluster in another one, too: where a test installs one there.
pub async fn at_home(cluster: &Cluster) {
    // Over what it was granted there as a data plane.
    let params = PatchParams::apply("test").force();
    for object in objects_of(AT_HOME, &GRANTS) {
        let name = object["metadata"]["name"].as_str().unwrap();
        cluster.untyped(&object).patch(name, &params, &Patch::Apply(&object)).await.unwrap();
    }
    may_work_in(cluster, FLEET).await;
}

/// Waits until what was granted in a namespace counts: API servers learn of it by watching.
async fn may_work_in(home: &Cluster, namespace: &str) {
    let planes = Api::<DataPlane>::namespaced(client(home).await, namespace);
    eventually(format!("the control plane may work in {namespace}"), async || {
        planes.list(&ListParams::default()).await.map(drop)
    })
    .await;
}

/// Secrets of a namespace, as the control plane's account may reach them.
pub async fn secrets(cluster: &Cluster, namespace: &str) -> Api<Secret> {
    Api::namespaced(client(cluster).await, namespace)
}

async fn client(cluster: &Cluster) -> Client {
    Client::try_from(config(cluster).await).unwrap()
}

/// Where the kubeconfig of the control plane's account in a cluster is.
pub fn kubeconfig_file(cluster: &Cluster) -> PathBuf {
    cluster.kubeconfig.with_extension("account.kubeconfig")
}

/// What is in it.
pub fn kubeconfig(cluster: &Cluster) -> Value {
    parsed(&kubeconfig_file(cluster))
}

/// How the control plane's account connects to a cluster.
pub async fn config(cluster: &Cluster) -> Config {
    connection(&kubeconfig(cluster).to_string()).await.unwrap()
}

/// A kubeconfig as JSON, which is YAML.
pub fn parsed(file: &Path) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).expect("the testbed writes YAML")
}

/// Grants what the control plane has in its own namespace in another one, too: where a test runs one there.
pub async fn grant_in(home: &Cluster, namespace: &str) {
    create_roles_in(home, namespace).await;
    may_work_in(home, namespace).await;
}

/// [`grant_in`], whoever is to have those rights.
pub async fn create_roles_in(home: &Cluster, namespace: &str) {
    for mut object in objects_of(AT_HOME, &["Role", "RoleBinding"]) {
        object["metadata"]["namespace"] = namespace.into();
        home.create(object).await;
    }
}

/// Takes everything back that was granted in a data plane, as if nobody had ever registered it.
pub async fn revoke(cluster: &Cluster) {
    for object in objects_of(IN_DATA_PLANES, &GRANTS) {
        let name = object["metadata"]["name"].as_str().unwrap();
        cluster.untyped(&object).delete(name, &DeleteParams::default()).await.unwrap();
    }
    // The token ends with its account, but for what an API server remembers of it for some seconds.
    let secrets = secrets(cluster, FLEET).await;
    eventually(format!("the account of {} may do nothing", cluster.name), async || {
        match secrets.get_opt("any").await {
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => Ok(()),
            answer => Err(format!("{answer:?}")),
        }
    })
    .await;
}
