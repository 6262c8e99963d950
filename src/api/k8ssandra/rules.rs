//! What our definition refuses at admission (upstream: Admission), so that no webhook is needed.
//!
//! Only what can be decided from the object alone, and what upstream would refuse sooner or later; the rest is for
//! conditions (`control_plane/deployment/validate.rs`), which also judge objects under upstream's definition.

use serde_json::{Value, json};

/// Whether `self` (spec.medusa) names a MedusaConfiguration.
const SHARED: &str = "(has(self.medusaConfigurationRef) && has(self.medusaConfigurationRef.name) && \
                      self.medusaConfigurationRef.name != '')";

fn rule(rule: String, message: &str) -> Value {
    json!({"rule": rule, "message": message})
}

/// A field of `spec.medusa.storageProperties` is there and compares so, such as `!= ''`.
fn stored(field: &str, comparison: &str) -> String {
    format!(
        "(has(self.storageProperties) && has(self.storageProperties.{field}) && \
         self.storageProperties.{field} {comparison})"
    )
}

/// Rules of `spec.cassandra`.
pub fn cassandra() -> Value {
    json!([rule(
        "(has(self.clusterName) ? self.clusterName : '') == (has(oldSelf.clusterName) ? oldSelf.clusterName : '')"
            .to_owned(),
        "clusterName cannot be changed: Cassandra keeps the name of its cluster on its disks; set it back",
    )])
}

/// Rules of `spec.medusa`.
pub fn medusa() -> Value {
    let [prefix, provider, bucket] =
        ["prefix", "storageProvider", "bucketName"].map(|field| stored(field, "!= ''"));
    let local = stored("storageProvider", "== 'local'");
    let role_based = stored("credentialsType", "== 'role-based'");
    let secret = "(has(self.storageProperties) && has(self.storageProperties.storageSecretRef) && \
                  has(self.storageProperties.storageSecretRef.name) && \
                  self.storageProperties.storageSecretRef.name != '')";
    json!([
        rule(
            format!("!{SHARED} || {prefix}"),
            "storageProperties.prefix: set it; with medusaConfigurationRef only the prefix keeps the backups of \
             clusters that share a bucket apart",
        ),
        rule(
            format!("{SHARED} || {provider}"),
            "storageProperties.storageProvider: set it, or name a MedusaConfiguration in medusaConfigurationRef",
        ),
        rule(
            format!("{SHARED} || {local} || {bucket}"),
            "storageProperties.bucketName: set it, or name a MedusaConfiguration in medusaConfigurationRef",
        ),
        rule(
            format!("{SHARED} || {local} || {role_based} || {secret} || !{provider}"),
            "storageProperties.storageSecretRef: name the Secret with the credentials, or set `credentialsType: \
             role-based` where the pods' cloud identity has access",
        ),
    ])
}

/// Rules of `spec.medusa.storageProperties`.
pub fn storage() -> Value {
    json!([rule(
        "!(has(self.credentialsType) && self.credentialsType == 'role-based' && has(self.storageSecretRef) && \
         has(self.storageSecretRef.name) && self.storageSecretRef.name != '')"
            .to_owned(),
        "credentialsType: `role-based` and a Secret in storageSecretRef exclude each other; remove one",
    )])
}

/// Rules of `spec.medusa.medusaConfigurationRef`.
pub fn configuration_ref() -> Value {
    let absent = |field: &str| format!("(!has(self.{field}) || self.{field} == '')");
    let others = ["apiVersion", "kind", "fieldPath", "resourceVersion", "uid"].map(absent).join(" && ");
    json!([
        rule(
            absent("namespace"),
            "namespace: remove it; the MedusaConfiguration is read from the K8ssandraCluster's own namespace",
        ),
        rule(others, "only `name` may be set; remove apiVersion, kind, fieldPath, resourceVersion and uid"),
    ])
}
