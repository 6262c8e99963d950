//! What is wrong with `spec.medusa` and the configuration it refers to (upstream: Admission, Rules for Medusa in a datacenter). Pure.
//!
//! Our own definition refuses part of it at admission; objects under upstream's definition, and what only the merged
//! properties show, are judged here. Each problem names the field, the fix, and the object to mend. While there is
//! any, nothing is deployed.

use super::{
    ini::{CqlCertificates, DEFAULT_GRPC_PORT},
    storage::{Merged, Settings, merged},
};
use crate::{
    api::{
        Reason,
        k8ssandra::{
            DatacenterTemplate, EncryptionStores, K8ssandraCluster, MedusaTemplate, Probe, SecretKey,
        },
        medusa::{MedusaConfiguration, StorageProvider},
    },
    control_plane::deployment::{Fault, Problem},
};

/// Longest cluster name of which the volume `<name>-medusa` can still be called.
const MAX_NAME: usize = 63 - "-medusa".len();
/// Ports of Cassandra and its management API in the same pod.
const TAKEN: [i64; 6] = [7000, 7001, 7199, 8080, 9042, 9142];

/// The settings of a cluster with `spec.medusa`, or everything that is wrong with them. `configuration` is the
/// MedusaConfiguration the cluster names, if it exists.
///
/// # Errors
/// With every problem found.
pub fn settings(
    cluster: &K8ssandraCluster,
    configuration: Option<&MedusaConfiguration>,
) -> Result<Settings, Vec<Problem>> {
    let mut found = Problems::default();
    let medusa = cluster.spec.medusa.clone().unwrap_or_default();
    template(&mut found, cluster, &medusa);
    if let (Some(name), None) = (medusa.configuration(), configuration) {
        found.0.push(Problem {
            fault: Fault::Cluster,
            reason: Reason::ConfigurationNotFound,
            message: format!(
                "spec.medusa.medusaConfigurationRef.name: there is no MedusaConfiguration `{name}` in namespace \
                 `{}`; create it there, or correct the name",
                cluster.metadata.namespace.as_deref().unwrap_or_default()
            ),
        });
        // Its properties are not known, so nothing can be said of what they lack.
        return Err(found.0);
    }
    let merged = merged(cluster, configuration);
    let shared = configuration.is_some();
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    storage(&mut found, &merged, shared, name);
    match Settings::of(&merged.storage, name) {
        Some(settings) if found.0.is_empty() => Ok(settings),
        Some(_) | None => Err(found.0),
    }
}

/// Everything wrong with what the cluster says of one of its datacenters.
#[must_use]
pub fn datacenter(cluster: &K8ssandraCluster, datacenter: &DatacenterTemplate) -> Vec<Problem> {
    let mut found = Problems::default();
    let name = &datacenter.metadata.name;
    let medusa = cluster.spec.medusa.clone().unwrap_or_default();
    let encrypted = cluster.requires_client_encryption(datacenter) && !cluster.secrets_are_external();
    if encrypted && certificates(&medusa) == CqlCertificates::None {
        found.cluster(format!(
            "spec.medusa.certificatesSecretRef: datacenter `{name}` speaks TLS to its clients \
             (client_encryption_options.enabled), so Medusa needs certificates; name a Secret with `rootca.crt`, \
             `client.crt_signed` and `client.key`, or set clientEncryptionStores"
        ));
    }
    if cluster.management_api_auth(datacenter).is_some_and(|auth| auth.client_secret_name.is_empty()) {
        found.cluster(format!(
            "managementApiAuth.manual.clientSecretName of datacenter `{name}`: name the Secret with `ca.crt`, \
             `tls.crt` and `tls.key` that Medusa shows to the management API"
        ));
    }
    found.0
}

/// The client certificates a template asks for; `certificatesSecretRef` wins (upstream: Rules for Medusa in a datacenter).
#[must_use]
pub fn certificates(medusa: &MedusaTemplate) -> CqlCertificates {
    if medusa.certificates_secret_ref.as_ref().is_some_and(|r| !r.name.is_empty()) {
        return CqlCertificates::OneSecret;
    }
    let key = |key: &Option<SecretKey>| key.as_ref().and_then(|k| k.key.clone());
    match &medusa.client_encryption_stores {
        Some(stores) => CqlCertificates::Files {
            certfile: key(&stores.keystore_secret_ref).unwrap_or_default(),
            usercert: key(&stores.truststore_secret_ref).unwrap_or_default(),
            userkey: key(&stores.truststore_password_secret_ref),
        },
        None => CqlCertificates::None,
    }
}

/// The port of Medusa's gRPC service, once the template was found right.
#[must_use]
pub fn grpc_port(medusa: &MedusaTemplate) -> u16 {
    medusa.grpc_port().and_then(|port| u16::try_from(port).ok()).unwrap_or(DEFAULT_GRPC_PORT)
}

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn cluster(&mut self, message: impl Into<String>) {
        self.0.push(Problem::invalid(Fault::Cluster, message));
    }

    /// A problem of a storage property, in whichever object its value is from.
    fn storage(&mut self, merged: &Merged, field: &str, what: impl std::fmt::Display) {
        let fault = merged.fault(field);
        self.0.push(Problem::invalid(fault, format!("{}: {what}", path(fault, field))));
    }
}

fn path(fault: Fault, field: &str) -> String {
    match fault {
        Fault::Cluster => format!("spec.medusa.storageProperties.{field}"),
        Fault::Configuration => format!("spec.storageProperties.{field}"),
    }
}

fn template(found: &mut Problems, cluster: &K8ssandraCluster, medusa: &MedusaTemplate) {
    let name = cluster.sanitized_name();
    if name.is_empty() || name.len() > MAX_NAME {
        found.cluster(format!(
            "spec.cassandra.clusterName: `{name}` is what names can be made of; there must be 1 to {MAX_NAME} \
             characters of letters, digits and dashes"
        ));
    }
    if let Some(reference) = &medusa.medusa_configuration_ref {
        let others = [
            ("namespace", &reference.namespace),
            ("apiVersion", &reference.api_version),
            ("kind", &reference.kind),
            ("fieldPath", &reference.field_path),
            ("resourceVersion", &reference.resource_version),
            ("uid", &reference.uid),
        ];
        for (field, value) in others {
            if value.as_ref().is_some_and(|v| !v.is_empty()) {
                found.cluster(format!(
                    "spec.medusa.medusaConfigurationRef.{field}: remove it; only `name` may be set, and the \
                     MedusaConfiguration is read from the K8ssandraCluster's own namespace"
                ));
            }
        }
    }
    if let Some(port) = medusa.grpc_port() {
        if !(1..=65535).contains(&port) {
            found.cluster(format!(
                "spec.medusa.serviceProperties.grpcPort: {port} is no port; give one from 1 to 65535, or remove it \
                 for {DEFAULT_GRPC_PORT}"
            ));
        } else if TAKEN.contains(&port) {
            found.cluster(format!(
                "spec.medusa.serviceProperties.grpcPort: {port} is taken by Cassandra in the same pod; choose another"
            ));
        }
    }
    if let Some(encryption) = medusa.encryption() {
        for (field, name) in [
            ("clientSecretName", &encryption.client_secret_name),
            ("serverSecretName", &encryption.server_secret_name),
        ] {
            if name.is_empty() {
                found.cluster(format!(
                    "spec.medusa.serviceProperties.encryption.{field}: name a Secret with `ca.crt`, `tls.crt` and \
                     `tls.key`, or remove `encryption`"
                ));
            }
        }
    }
    for (field, probe) in
        [("readinessProbe", &medusa.readiness_probe), ("livenessProbe", &medusa.liveness_probe)]
    {
        if let Some(handler) = probe.as_ref().and_then(Probe::handler) {
            found.cluster(format!(
                "spec.medusa.{field}.{handler}: remove it; how Medusa is probed is fixed, only the numbers may be set"
            ));
        }
    }
    if let Some(stores) = &medusa.client_encryption_stores
        && certificates(medusa) != CqlCertificates::OneSecret
    {
        encryption_stores(found, stores);
    }
}

fn encryption_stores(found: &mut Problems, stores: &EncryptionStores) {
    let field = |field: &str| format!("spec.medusa.clientEncryptionStores.{field}");
    for (name, given) in [
        ("keystoreSecretRef", stores.keystore_secret_ref.is_some()),
        ("truststoreSecretRef", stores.truststore_secret_ref.is_some()),
    ] {
        if !given {
            found.cluster(format!("{}: set it; Medusa needs both certificates", field(name)));
        }
    }
    for (name, key) in stores.keys() {
        let file = key.key.as_deref().unwrap_or_default();
        let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if key.name.is_empty() {
            found.cluster(format!("{}.name: name the Secret", field(name)));
        }
        if file.is_empty() || !file.chars().all(is_key) {
            found.cluster(format!("{}.key: name the key of the Secret that holds the PEM file", field(name)));
        }
    }
}

fn storage(found: &mut Problems, merged: &Merged, shared: bool, cluster: &str) {
    let storage = &merged.storage;
    // A field that nobody set is to be mended in the MedusaConfiguration, where there is one; a field that is set and empty, in
    // the object that sets it.
    let lacks = |field: &str, set: bool, what: &str| {
        let fault = if shared && !set { Fault::Configuration } else { merged.fault(field) };
        Problem::invalid(fault, format!("{}: {what}", path(fault, field)))
    };
    let provider = storage.storage_provider;
    if provider.is_none() {
        let known: Vec<&str> =
            StorageProvider::ALL.iter().filter(|p| p.has_bucket()).map(|p| p.as_str()).collect();
        found.0.push(lacks("storageProvider", false, &format!("set it to one of {}", known.join(", "))));
    }
    let has_bucket = provider.is_none_or(StorageProvider::has_bucket);
    if has_bucket && empty(storage.bucket_name.as_deref()) {
        let set = storage.bucket_name.is_some();
        found.0.push(lacks("bucketName", set, "set it to the name of the bucket or container"));
    }
    if shared && empty(storage.prefix.as_deref()) {
        found.storage(
            merged,
            "prefix",
            "set it; with a MedusaConfiguration only the prefix keeps the backups of clusters that share a bucket \
             apart",
        );
    }
    if let Some(provider) = provider.filter(|p| p.needs_host() && empty(storage.host.as_deref())) {
        let field = if storage.host.is_some() { "host" } else { "storageProvider" };
        let fault = merged.fault(field);
        let name = provider.as_str();
        let field = path(fault, "host");
        let what =
            format!("{field}: set it to the host of the storage; provider `{name}` does not imply one");
        found.0.push(Problem::invalid(fault, what));
    }
    if has_bucket {
        credentials(found, merged);
    }
    texts(found, merged, cluster);
    numbers(found, merged);
}

fn empty(text: Option<&str>) -> bool {
    text.is_none_or(str::is_empty)
}

/// A secret or the pods' own role, one of them (upstream: Rules for Medusa in a datacenter).
fn credentials(found: &mut Problems, merged: &Merged) {
    let storage = &merged.storage;
    match (storage.secret_name(), storage.is_role_based()) {
        (Some(secret), true) => {
            let (secret_in, type_in) = (merged.fault("storageSecretRef"), merged.fault("credentialsType"));
            let (fault, fix) = match (secret_in, type_in) {
                (Fault::Configuration, Fault::Cluster) => (
                    Fault::Cluster,
                    "the Secret is the MedusaConfiguration's: add `storageSecretRef: {name: \"\"}`, or remove \
                     credentialsType",
                ),
                (Fault::Cluster, Fault::Configuration) => (
                    Fault::Cluster,
                    "`role-based` is the MedusaConfiguration's: set `credentialsType: credential-based`, or remove \
                     storageSecretRef",
                ),
                (same, _) => (same, "remove one"),
            };
            let field = path(fault, "credentialsType");
            found.0.push(Problem::invalid(
                fault,
                format!("{field}: `role-based` and the Secret `{secret}` in storageSecretRef exclude each other; {fix}"),
            ));
        }
        (None, false) => found.cluster(format!(
            "{}: name the Secret with the credentials, here or in a MedusaConfiguration, or set `credentialsType: \
             role-based` where the pods' cloud identity has access",
            path(Fault::Cluster, "storageSecretRef")
        )),
        (Some(_), false) | (None, true) => {}
    }
}

/// Values that would not be in medusa.ini, or not mean in Medusa, what was asked for.
fn texts(found: &mut Problems, merged: &Merged, cluster: &str) {
    let storage = &merged.storage;
    let texts = [
        ("bucketName", &storage.bucket_name),
        ("prefix", &storage.prefix),
        ("apiProfile", &storage.api_profile),
        ("host", &storage.host),
        ("region", &storage.region),
        ("transferMaxBandwidth", &storage.transfer_max_bandwidth),
    ];
    for (field, text) in texts {
        let text = text.as_deref().unwrap_or_default();
        if text.chars().any(char::is_control) {
            found.storage(
                merged,
                field,
                "remove the line break or control character; it would end the line in medusa.ini",
            );
        } else if text.trim() != text {
            found.storage(merged, field, "remove the space around it; Medusa would not see it");
        }
    }
    for (field, text) in [("bucketName", &storage.bucket_name), ("prefix", &storage.prefix)] {
        let text = text.as_deref().unwrap_or_default();
        if text.contains('/') || text == "." || text == ".." {
            found.storage(
                merged,
                field,
                format!("`{text}` cannot be used; Medusa takes one folder, without `/`"),
            );
        }
    }
    let prefix = storage.prefix.as_deref().filter(|p| !p.is_empty()).unwrap_or(cluster);
    if prefix.chars().count() == 1 && prefix != "." {
        found.storage(
            merged,
            "prefix",
            format!("`{prefix}` is too short; Medusa ignores a prefix of one character, give it two or more"),
        );
    }
    let host = storage.host.as_deref().unwrap_or_default();
    let port = !host.starts_with('[') && host.contains(':');
    if host.contains('/') || host.trim().contains(char::is_whitespace) || port {
        found.storage(
            merged,
            "host",
            format!(
                "`{host}` is no host; give its name or address alone, its port in `port`, TLS in `secure`"
            ),
        );
    }
    let limit = storage.transfer_max_bandwidth.as_deref().unwrap_or_default();
    if !limit.is_empty() && !is_bandwidth(limit) {
        found.storage(
            merged,
            "transferMaxBandwidth",
            format!("`{limit}` cannot be read; give a number with a unit (B, KB, MB, GB), such as `50MB/s`, or bytes a second without one"),
        );
    }
}

/// Whether Medusa reads `text` as a speed above zero: a decimal number and a unit, or whole bytes without one, and
/// perhaps `/s`.
fn is_bandwidth(text: &str) -> bool {
    let text = text.replace(' ', "");
    let text = text.strip_suffix("/s").unwrap_or(&text);
    let number = ["PB", "TB", "GB", "MB", "KB", "B"].iter().find_map(|unit| text.strip_suffix(unit));
    let digits = number.unwrap_or(text);
    digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || c == '.')
        && digits.parse::<f64>().is_ok_and(|n| n > 0.0 && (number.is_some() || n.fract() == 0.0))
}

fn numbers(found: &mut Problems, merged: &Merged) {
    let storage = &merged.storage;
    let counts = [
        ("maxBackupAge", storage.max_backup_age),
        ("maxBackupCount", storage.max_backup_count),
        ("concurrentTransfers", storage.concurrent_transfers),
        ("multiPartUploadThreshold", storage.multi_part_upload_threshold),
        ("backupGracePeriodInDays", storage.backup_grace_period_in_days),
    ];
    for (field, number) in counts {
        if number.is_some_and(|n| n < 0) {
            found.storage(merged, field, "give 0 or more");
        }
    }
    if let Some(port) = storage.port
        && !(0..=65535).contains(&port)
    {
        found.storage(merged, "port", format!("{port} is no port; give one from 1 to 65535, or remove it"));
    }
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
