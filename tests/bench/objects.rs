//! The objects that are written, as JSON.

use medusa_fleet::api::labels;
use serde_json::{Value, json};

/// Namespace of datacenters and copies in the data planes.
pub const SHOP: &str = "shop";
/// Namespace of the sources in the control plane.
pub const SOURCES: &str = "sources";
/// Key of a Secret by which its versions are told apart.
pub const MARKER: &str = "marker";
/// On what the bare client writes.
pub const BARE: &str = "bench/bare";

/// A bucket Secret as a user writes it. `marker` tells this version from others.
pub fn bucket_secret(name: &str, marker: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "Opaque",
        "stringData": {MARKER: marker, "credentials": credentials(marker)},
    })
}

fn credentials(marker: &str) -> String {
    format!("[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = {marker:x>40}\n")
}

/// A MedusaConfiguration that names the Secret of the same name and is to be copied to `targets`.
pub fn configuration(name: &str, targets: &str) -> Value {
    let mut object = plain_configuration(name);
    merge(&mut object, "annotations", json!({labels::TARGETS: targets}));
    object
}

fn plain_configuration(name: &str) -> Value {
    json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaConfiguration",
        "metadata": {"name": name},
        "spec": {"storageProperties": {
            "storageProvider": "s3", "bucketName": "backups", "region": "eu-central-1",
            "storageSecretRef": {"name": name},
        }},
    })
}

fn merge(object: &mut Value, field: &str, value: Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert(field.to_owned(), value);
    }
}

/// What a copy has beside its content, of the same size as ours.
fn as_copy(mut object: Value, name: &str) -> Value {
    merge(&mut object, "labels", json!({BARE: format!("{:x<40}", "control-plane")}));
    let annotations = json!({
        "bench/source": format!("{SOURCES}/{name}"),
        "bench/source-uid": "00000000-0000-0000-0000-000000000000",
        "bench/content-hash": format!("{:0<64}", ""),
    });
    merge(&mut object, "annotations", annotations);
    object
}

/// A copy of a Secret as the bare client writes it.
pub fn bare_secret(name: &str, marker: &str) -> Value {
    as_copy(bucket_secret(name, marker), name)
}

/// A copy of a MedusaConfiguration as the bare client writes it.
pub fn bare_configuration(name: &str) -> Value {
    as_copy(plain_configuration(name), name)
}

/// A datacenter with Medusa.
pub fn datacenter(name: &str) -> Value {
    json!({
        "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenter",
        "metadata": {"name": name},
        "spec": {
            "clusterName": SHOP, "serverType": "cassandra", "serverVersion": "4.1.7", "size": 3,
            "podTemplateSpec": {"spec": {"containers": [
                {"name": "cassandra"}, {"name": "medusa", "image": "k8ssandra/medusa:0.24.0"},
            ]}},
        },
        "status": {"cassandraOperatorProgress": "Ready"},
    })
}

/// A MedusaBackupJob as the bare client writes it, of the same size as a child of ours.
pub fn bare_job(name: &str, datacenter: &str) -> Value {
    json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackupJob",
        "metadata": {
            "name": name,
            "labels": {
                BARE: format!("{:x<40}", "control-plane"), "bench/job": "run",
                "bench/job-uid": "00000000-0000-0000-0000-000000000000",
                labels::CASSANDRA_CLUSTER: SHOP, labels::CASSANDRA_DATACENTER: datacenter,
            },
            "ownerReferences": [{
                "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenter",
                "name": datacenter, "uid": "00000000-0000-0000-0000-000000000000",
            }],
        },
        "spec": {"cassandraDatacenter": datacenter, "backupType": "differential"},
    })
}

/// A FleetBackupJob over everything.
pub fn fleet_backup_job(name: &str) -> Value {
    json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetBackupJob",
        "metadata": {"name": name}, "spec": {},
    })
}

/// The Lease of a data plane's controller. None runs in these clusters, and a control plane looks again
/// and again for one where there is none.
pub fn lease() -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "medusa-fleet-data-plane", "labels": {
            labels::APP_NAME: "medusa-fleet", "app.kubernetes.io/component": "data-plane",
            labels::APP_VERSION: "0.1.0",
        }},
        "spec": {"holderIdentity": "bench", "leaseDurationSeconds": 3600},
    })
}

/// The Secret that registers a data plane.
pub fn registration(name: &str, kubeconfig: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "labels": {labels::REGISTER: "true"}},
        "stringData": {"kubeconfig": kubeconfig},
    })
}

/// A Secret of 5 KB that is nobody's business.
pub fn unrelated(number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("unrelated-{number:05}")},
        "stringData": {"blob": format!("{number:x<5000}")},
    })
}
