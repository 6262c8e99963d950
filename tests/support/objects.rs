//! Objects as people write them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Map, Value, json};

/// Namespace of the controller and of the fleet kinds.
pub const FLEET: &str = "medusa-fleet";
/// Namespace of the datacenters in every data plane.
pub const CASS: &str = "cass";

/// A CassandraDatacenter that runs Medusa, of the Cassandra cluster `cluster` (grouped over data planes by label).
pub fn datacenter(name: &str, cluster: &str, size: i32) -> Value {
    json!({
        "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenter",
        "metadata": {"name": name, "namespace": CASS, "labels": {"fleet.k8ssandra.io/cluster": cluster}},
        "spec": {
            "clusterName": cluster, "serverType": "cassandra", "serverVersion": "4.1.10", "size": size,
            "podTemplateSpec": {"spec": {"containers": [
                {"name": "cassandra"}, {"name": "medusa", "image": "k8ssandra/medusa:0.25.1"},
            ]}},
        },
    })
}

/// An opaque Secret.
pub fn secret(namespace: &str, name: &str, data: &[(&str, &str)]) -> Value {
    let data: Map<String, Value> =
        data.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace},
        "stringData": data,
    })
}

/// A MedusaConfiguration in the control plane that names a bucket secret; `targets` is its annotation, when given.
pub fn configuration(name: &str, secret: &str, targets: Option<&str>) -> Value {
    let annotations = targets.map_or(json!({}), |targets| json!({"fleet.k8ssandra.io/targets": targets}));
    json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaConfiguration",
        "metadata": {"name": name, "namespace": FLEET, "annotations": annotations},
        "spec": {"storageProperties": {
            "storageProvider": "s3_compatible", "bucketName": "backups", "prefix": "fleet",
            "storageSecretRef": {"name": secret},
        }},
    })
}

/// A FleetBackupJob over what `selector` chooses.
pub fn backup_job(name: &str, selector: Value) -> Value {
    json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetBackupJob",
        "metadata": {"name": name, "namespace": FLEET}, "spec": {"selector": selector},
    })
}

/// A condition as (status, reason, message); empty when it is not there.
pub fn condition(conditions: &[Condition], type_: &str) -> (String, String, String) {
    conditions
        .iter()
        .find(|c| c.type_ == type_)
        .map(|c| (c.status.clone(), c.reason.clone(), c.message.clone()))
        .unwrap_or_default()
}
