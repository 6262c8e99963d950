//! What the deployment's tests share: K8ssandraClusters, CassandraDatacenters with things of a user in them, and the
//! part of cass-operator that says that a datacenter is settled.

use kube::api::{Patch, PatchParams};
use medusa_fleet::api::{
    cassandra::CassandraDatacenter,
    fleet::{ClusterDatacenter, DeploymentState, FleetCluster},
};
use serde_json::{Value, json};

use crate::support::{CASS, Cluster, FLEET, Fleet, condition, eventually, secret};

/// The Secret with the storage's credentials.
pub(crate) const BUCKET: &str = "medusa-bucket-key";

/// A datacenter without Medusa, with containers, volumes and settings of a user.
pub(crate) fn bare(name: &str, cluster: &str) -> Value {
    json!({
        "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenter",
        "metadata": {"name": name, "namespace": CASS, "annotations": {"mine": "yes"}},
        "spec": {
            "clusterName": cluster, "serverType": "cassandra", "serverVersion": "4.1.10", "size": 3,
            "users": [{"secretName": "mine", "superuser": false}],
            "config": {"cassandra-yaml": {"num_tokens": 16}},
            "podTemplateSpec": {"metadata": {"labels": {"mine": "yes"}}, "spec": {
                "initContainers": [{"name": "first", "image": "a"}, {"name": "server-config-init", "image": "b"}],
                "containers": [
                    {"name": "cassandra", "env": [{"name": "MINE", "value": "yes"}]},
                    {"name": "sidecar", "image": "s", "volumeMounts": [{"name": "mine", "mountPath": "/mine"}]},
                ],
                "volumes": [{"name": "mine", "emptyDir": {}}],
            }},
        },
    })
}

/// A K8ssandraCluster over datacenters in data planes, with a bucket of its own.
pub(crate) fn k8ssandra(name: &str, datacenters: &[(&str, &str)], more: Value) -> Value {
    let datacenters: Vec<Value> = datacenters
        .iter()
        .map(|(dc, plane)| {
            json!({"metadata": {"name": dc, "namespace": CASS}, "k8sContext": plane, "size": 3})
        })
        .collect();
    let mut medusa = json!({"storageProperties": {
        "storageProvider": "s3_compatible", "bucketName": "backups", "prefix": name, "host": "minio", "port": 9000,
        "storageSecretRef": {"name": BUCKET},
    }});
    for (key, value) in more.as_object().into_iter().flatten() {
        medusa[key] = value.clone();
    }
    json!({
        "apiVersion": "k8ssandra.io/v1alpha1", "kind": "K8ssandraCluster",
        "metadata": {"name": name, "namespace": FLEET},
        "spec": {"cassandra": {"datacenters": datacenters}, "medusa": medusa},
    })
}

/// The bucket's Secret in the control plane.
pub(crate) fn bucket() -> Value {
    secret(FLEET, BUCKET, &[("credentials", "[default]")])
}

/// A datacenter with all its fields.
pub(crate) async fn raw(cluster: &Cluster, name: &str) -> Value {
    serde_json::to_value(cluster.dynamic::<CassandraDatacenter>(CASS).get(name).await.unwrap()).unwrap()
}

/// Sets fields of a datacenter as somebody else, who takes them over from whoever has them.
pub(crate) async fn edit(cluster: &Cluster, name: &str, fields: Value) {
    let mut body = json!({
        "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenter",
        "metadata": {"name": name, "namespace": CASS},
    });
    body["spec"] = fields;
    let params = PatchParams::apply("somebody").force();
    cluster
        .dynamic::<CassandraDatacenter>(CASS)
        .patch(name, &params, &Patch::Apply(body))
        .await
        .expect("edit a datacenter");
}

/// The container of that name in a datacenter's template.
pub(crate) fn container<'a>(datacenter: &'a Value, list: &str, name: &str) -> Option<&'a Value> {
    let list = datacenter["spec"]["podTemplateSpec"]["spec"][list].as_array()?;
    list.iter().find(|container| container["name"] == name)
}

/// Says what cass-operator says once it has finished with the datacenter as it is now.
pub(crate) async fn settle(cluster: &Cluster, name: &str) {
    let generation = cluster.get::<CassandraDatacenter>(CASS, name).await.metadata.generation;
    let status = json!({
        "conditions": [
            {"type": "Ready", "status": "True"},
            {"type": "Updating", "status": "False"},
        ],
        "cassandraOperatorProgress": "Ready", "observedGeneration": generation,
    });
    cluster.patch_status::<CassandraDatacenter>(CASS, name, status).await;
}

/// Waits until the datacenter's template has a Medusa container; returns the datacenter.
pub(crate) async fn medusa_in(cluster: &Cluster, name: &str) -> Value {
    eventually(format!("{name} in {} has Medusa", cluster.name), async || {
        let datacenter = raw(cluster, name).await;
        if container(&datacenter, "containers", "medusa").is_some() {
            Ok(datacenter)
        } else {
            Err("it has none")
        }
    })
    .await
}

/// Waits until the FleetCluster says this of a datacenter; returns what it says.
pub(crate) async fn expect_state(
    fleet: &Fleet,
    cluster: &str,
    datacenter: &str,
    state: DeploymentState,
    reason: Option<&str>,
) -> ClusterDatacenter {
    let name = format!("{cluster}.{FLEET}");
    eventually(format!("FleetCluster {name}: {datacenter} is {state:?} because of {reason:?}"), async || {
        let found = fleet.home().find::<FleetCluster>(FLEET, &name).await.ok_or("there is none")?;
        let status = found.status.unwrap_or_default();
        let own = status.datacenters.iter().find(|dc| dc.name == datacenter).cloned();
        let own = own.ok_or(format!("{:?}", status.datacenters))?;
        let same =
            own.medusa.state == Some(state) && (reason.is_none() || own.medusa.reason.as_deref() == reason);
        if same { Ok(own) } else { Err(format!("{:?}", own.medusa)) }
    })
    .await
}

/// Waits until a FleetCluster's condition has this status; returns its reason and message.
pub(crate) async fn expect_condition(
    fleet: &Fleet,
    cluster: &str,
    type_: &str,
    status: &str,
) -> (String, String) {
    let name = format!("{cluster}.{FLEET}");
    eventually(format!("FleetCluster {name}: {type_} is {status}"), async || {
        let found = fleet.home().find::<FleetCluster>(FLEET, &name).await.ok_or("there is none")?;
        let seen = condition(&found.status.unwrap_or_default().conditions, type_);
        if seen.0 == status { Ok((seen.1, seen.2)) } else { Err(format!("{seen:?}")) }
    })
    .await
}

/// Names of an object list in a template, in order.
pub(crate) fn names(datacenter: &Value, list: &str) -> Vec<String> {
    let list = datacenter["spec"]["podTemplateSpec"]["spec"][list].as_array().cloned().unwrap_or_default();
    list.iter().map(|item| item["name"].as_str().unwrap_or_default().to_owned()).collect()
}
