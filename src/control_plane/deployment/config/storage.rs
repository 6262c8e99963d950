//! The storage properties of a cluster, resolved: its own where a person wrote them, the shared MedusaConfiguration's
//! elsewhere (docs/k8ssandracluster.md, ADR 9). Pure.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::written::{WrittenStorage, defaults};
use crate::{
    api::{
        k8ssandra::K8ssandraCluster,
        medusa::{MedusaConfiguration, PodStorage, Storage, StorageProvider},
    },
    control_plane::deployment::Fault,
};

/// Bucket of the `local` provider where none is named: a directory.
const LOCAL_BUCKET: &str = "medusa";

/// Everything Medusa is told about its storage, resolved and checked (`validate::settings`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Kind of storage backend.
    pub provider: StorageProvider,
    /// The bucket.
    pub bucket: String,
    /// Folder of this cluster in the bucket.
    pub prefix: String,
    /// Secret with the credentials; `None` is role-based, or `local`.
    pub secret: Option<String>,
    /// Days after which a purge removes a backup; 0 keeps all.
    pub max_backup_age: i64,
    /// Backups a purge keeps; 0 keeps all.
    pub max_backup_count: i64,
    /// AWS profile in the credentials file.
    pub api_profile: Option<String>,
    /// Upload limit per node; `None` leaves it to Medusa.
    pub transfer_max_bandwidth: Option<String>,
    /// Concurrent uploads per node, at least 1.
    pub concurrent_transfers: i64,
    /// File size in bytes from which uploads are split; `None` leaves it to Medusa.
    pub multi_part_upload_threshold: Option<i64>,
    /// Host of the storage backend.
    pub host: Option<String>,
    /// Region of the bucket.
    pub region: Option<String>,
    /// Port of the storage backend.
    pub port: Option<i64>,
    /// Whether to use TLS towards the storage backend.
    pub secure: bool,
    /// Whether to verify its certificate.
    pub ssl_verify: bool,
    /// Days for which a purge spares files no backup refers to; `None` leaves it to Medusa (10).
    pub backup_grace_period_in_days: Option<i64>,
    /// The volume of `local`, every field filled; `None` for every other provider.
    pub pod_storage: Option<PodStorage>,
}

/// The layers put together, before anything is judged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Merged {
    /// The properties.
    pub storage: Storage,
    /// Fields whose value is the shared configuration's.
    shared: BTreeSet<&'static str>,
}

impl Merged {
    /// The object in which `field` is to be mended: the one its value is from.
    #[must_use]
    pub fn fault(&self, field: &str) -> Fault {
        if self.shared.contains(field) { Fault::Configuration } else { Fault::Cluster }
    }
}

struct Layers<'a> {
    own: &'a Storage,
    written: &'a WrittenStorage,
    configuration: &'a Storage,
    shared: BTreeSet<&'static str>,
}

impl Layers<'_> {
    /// The value of one field. `default` says whether a value is the one upstream's definition fills in.
    fn pick<T: Clone>(
        &mut self,
        field: &'static str,
        value: fn(&Storage) -> Option<&T>,
        default: impl Fn(&T) -> bool,
    ) -> Option<T> {
        let own = value(self.own);
        let wins = own.is_some_and(|own| self.written.has(field, default(own)));
        match value(self.configuration) {
            Some(shared) if !wins => {
                self.shared.insert(field);
                Some(shared.clone())
            }
            Some(_) | None => own.cloned(),
        }
    }

    /// A field that no definition fills in.
    fn plain<T: Clone>(&mut self, field: &'static str, value: fn(&Storage) -> Option<&T>) -> Option<T> {
        self.pick(field, value, |_| false)
    }
}

/// Puts a cluster's own properties over the shared ones, field by field: what a person wrote wins, also when it is
/// empty, zero or `false`. The shared prefix is dead, as one prefix for several clusters would mix their backups.
#[must_use]
pub fn merge(own: &Storage, written: &WrittenStorage, configuration: &Storage) -> Merged {
    let mut layers = Layers { own, written, configuration, shared: BTreeSet::new() };
    let zero = |count: &i64| *count == defaults::COUNT;
    let storage = Storage {
        storage_provider: layers.plain("storageProvider", |s| s.storage_provider.as_ref()),
        credentials_type: layers.plain("credentialsType", |s| s.credentials_type.as_ref()),
        storage_secret_ref: layers.plain("storageSecretRef", |s| s.storage_secret_ref.as_ref()),
        bucket_name: layers.plain("bucketName", |s| s.bucket_name.as_ref()),
        prefix: own.prefix.clone(),
        max_backup_age: layers.pick("maxBackupAge", |s| s.max_backup_age.as_ref(), zero),
        max_backup_count: layers.pick("maxBackupCount", |s| s.max_backup_count.as_ref(), zero),
        api_profile: layers.plain("apiProfile", |s| s.api_profile.as_ref()),
        transfer_max_bandwidth: layers.pick(
            "transferMaxBandwidth",
            |s| s.transfer_max_bandwidth.as_ref(),
            |limit| limit == defaults::BANDWIDTH,
        ),
        concurrent_transfers: layers.pick("concurrentTransfers", |s| s.concurrent_transfers.as_ref(), zero),
        multi_part_upload_threshold: layers.pick(
            "multiPartUploadThreshold",
            |s| s.multi_part_upload_threshold.as_ref(),
            |size| *size == defaults::MULTIPART,
        ),
        host: layers.plain("host", |s| s.host.as_ref()),
        region: layers.plain("region", |s| s.region.as_ref()),
        port: layers.plain("port", |s| s.port.as_ref()),
        secure: layers.plain("secure", |s| s.secure.as_ref()),
        ssl_verify: layers.plain("sslVerify", |s| s.ssl_verify.as_ref()),
        backup_grace_period_in_days: layers
            .plain("backupGracePeriodInDays", |s| s.backup_grace_period_in_days.as_ref()),
        pod_storage: pod_storage(&mut layers),
    };
    Merged { storage, shared: layers.shared }
}

fn pod_storage(layers: &mut Layers<'_>) -> Option<PodStorage> {
    layers.own.pod_storage.as_ref().or(layers.configuration.pod_storage.as_ref())?;
    let modes =
        |s: &Storage| s.pod_storage.as_ref().map(|p| p.access_modes.clone()).filter(|m| !m.is_empty());
    Some(PodStorage {
        storage_class_name: layers
            .plain("podStorage.storageClassName", |s| s.pod_storage.as_ref()?.storage_class_name.as_ref()),
        size: layers.pick(
            "podStorage.size",
            |s| s.pod_storage.as_ref()?.size.as_ref(),
            |size| matches!(size, IntOrString::String(text) if text == defaults::SIZE),
        ),
        access_modes: modes(layers.own).or_else(|| modes(layers.configuration)).unwrap_or_default(),
    })
}

/// The merged properties of a cluster and the configuration it refers to, when there is one.
#[must_use]
pub fn merged(cluster: &K8ssandraCluster, configuration: Option<&MedusaConfiguration>) -> Merged {
    let own = cluster.spec.medusa.as_ref().and_then(|m| m.storage_properties.clone()).unwrap_or_default();
    let shared = configuration.and_then(|c| c.spec.storage_properties.clone()).unwrap_or_default();
    merge(&own, &WrittenStorage::of(cluster), &shared)
}

impl Settings {
    /// Resolves `storage`, with the defaults of upstream's definition where nothing is said (upstream: Storage, medusa.ini), and
    /// `prefix` where it names none; `None` without a provider.
    #[must_use]
    pub fn of(storage: &Storage, prefix: &str) -> Option<Self> {
        let provider = storage.storage_provider?;
        let local = !provider.has_bucket();
        let text = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
        let number = |value: Option<i64>| value.filter(|number| *number != 0);
        let bucket = text(&storage.bucket_name);
        let limit = storage.transfer_max_bandwidth.clone().unwrap_or_else(|| defaults::BANDWIDTH.to_owned());
        let credentials = !local && !storage.is_role_based();
        Some(Self {
            provider,
            bucket: bucket.or_else(|| local.then(|| LOCAL_BUCKET.to_owned())).unwrap_or_default(),
            prefix: text(&storage.prefix).unwrap_or_else(|| prefix.to_owned()),
            secret: storage.secret_name().filter(|_| credentials).map(str::to_owned),
            max_backup_age: storage.max_backup_age.unwrap_or_default(),
            max_backup_count: storage.max_backup_count.unwrap_or_default(),
            api_profile: text(&storage.api_profile),
            transfer_max_bandwidth: Some(limit).filter(|limit| !limit.is_empty()).map(with_unit),
            concurrent_transfers: storage.concurrent_transfers.unwrap_or_default().max(1),
            multi_part_upload_threshold: number(
                storage.multi_part_upload_threshold.or(Some(defaults::MULTIPART)),
            ),
            host: text(&storage.host),
            region: text(&storage.region),
            port: number(storage.port),
            secure: storage.secure.unwrap_or_default(),
            ssl_verify: storage.ssl_verify.unwrap_or_default(),
            backup_grace_period_in_days: number(storage.backup_grace_period_in_days),
            pod_storage: local.then(|| volume(storage.pod_storage.as_ref())),
        })
    }
}

/// Medusa 0.29 cannot read a speed without a unit, and then does nothing at all; newer ones take it for bytes.
fn with_unit(speed: String) -> String {
    let number = speed.strip_suffix("/s").unwrap_or(&speed).trim_end();
    if number.ends_with(|c: char| c.is_ascii_digit()) { format!("{number}B/s") } else { speed }
}

fn volume(asked: Option<&PodStorage>) -> PodStorage {
    let asked = asked.cloned().unwrap_or_default();
    PodStorage {
        storage_class_name: asked.storage_class_name,
        size: asked.size.or_else(|| Some(IntOrString::String(defaults::SIZE.to_owned()))),
        access_modes: if asked.access_modes.is_empty() {
            vec!["ReadWriteOnce".to_owned()]
        } else {
            asked.access_modes
        },
    }
}

#[cfg(test)]
#[path = "storage_tests.rs"]
mod tests;
