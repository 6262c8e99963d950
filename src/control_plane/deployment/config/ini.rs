//! medusa.ini (upstream: medusa.ini). Pure: the same input gives the same text, byte for byte.
//!
//! Where it differs from upstream's, and why (each is checked with Medusa's own loader in `tests/medusa_ini`):
//! - `s3_rgw` and `ibm_storage` always have a region. Without one, or with one called `default`, Medusa does not start
//!   (0.29.1 both, 0.31 `s3_rgw`); it gets the one Medusa itself uses for `s3_compatible`.
//! - `local` is back, with `base_path`.
//! - The log level is INFO. Upstream's DEBUG shows requests to the storage; INFO has every line a restore is judged by.
//! - `port` is always written for gRPC, and no path ends in `/` because a key was left out (`validate` asks for it).
//!
//! Medusa reads `host`, `port`, `secure` and `ssl_verify` of `s3_rgw` (and, in 0.29.1, `ibm_storage`) and then connects
//! to AWS all the same. So the pods have the address in their environment too ([`endpoint`]), where botocore looks for
//! it. What it does not look for there is `ssl_verify`: it verifies certificates. Who cannot have that uses
//! `s3_compatible`; the two speak S3 as well.

use super::storage::Settings;
use crate::api::medusa::CREDENTIALS_KEY;

/// Port of Medusa's gRPC service where none is asked for.
pub const DEFAULT_GRPC_PORT: u16 = 50051;

/// Variable in which botocore is told where S3 is. A driver that gives the address itself is not affected, nor is STS.
pub const ENDPOINT: &str = "AWS_ENDPOINT_URL_S3";
/// The region of storage that has none, as in Medusa.
const NO_REGION: &str = "us-east-1";

/// Where the containers find what the file speaks of. The volume mounts are made of the same constants.
pub mod paths {
    /// Directory of the bucket secret.
    pub const STORAGE_SECRET: &str = "/etc/medusa-secrets";
    /// Directory of the client certificates.
    pub const CERTIFICATES: &str = "/etc/certificates";
    /// Directory of the gRPC server's certificates.
    pub const GRPC_CERTIFICATES: &str = "/etc/certificates/grpc-server-certs";
    /// Directory of the certificates for the management API.
    pub const MANAGEMENT_API: &str = "/etc/encryption/mgmt";
    /// Directory of the volume of `local` storage.
    pub const LOCAL_BACKUPS: &str = "/mnt/backups";
}

/// The certificates Medusa presents to Cassandra.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CqlCertificates {
    /// Cassandra asks for none.
    #[default]
    None,
    /// One Secret with fixed keys (`certificatesSecretRef`).
    OneSecret,
    /// Files of their own (`clientEncryptionStores`), each named by the key of its Secret.
    Files {
        /// Cassandra's authority.
        certfile: String,
        /// Medusa's certificate.
        usercert: String,
        /// Medusa's key, when there is one.
        userkey: Option<String>,
    },
}

/// Everything the file depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IniInput<'a> {
    /// The storage.
    pub settings: &'a Settings,
    /// Port of the gRPC service.
    pub grpc_port: u16,
    /// Whether the gRPC service speaks TLS.
    pub grpc_tls: bool,
    /// What Medusa presents to Cassandra.
    pub certificates: CqlCertificates,
    /// Whether the management API asks for certificates.
    pub management_api_tls: bool,
}

#[derive(Default)]
struct Lines(Vec<String>);

impl Lines {
    fn section(&mut self, name: &str) {
        if !self.0.is_empty() {
            self.0.push(String::new());
        }
        self.0.push(format!("[{name}]"));
    }

    fn set(&mut self, key: &str, value: impl std::fmt::Display) {
        self.0.push(format!("{key} = {value}"));
    }

    fn maybe(&mut self, key: &str, value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            self.set(key, value);
        }
    }

    /// Booleans as Python writes them.
    fn flag(&mut self, key: &str, value: bool) {
        self.set(key, if value { "True" } else { "False" });
    }

    fn tls(&mut self, folder: &str) {
        for (key, file) in [("ca_cert", "ca.crt"), ("tls_cert", "tls.crt"), ("tls_key", "tls.key")] {
            self.set(key, format!("{folder}/{file}"));
        }
    }
}

/// Writes medusa.ini. Whether the values can stand in such a file is `validate`'s business.
#[must_use]
pub fn medusa_ini(input: &IniInput<'_>) -> String {
    let mut lines = Lines::default();
    lines.section("cassandra");
    lines.set("use_sudo", "false");
    certificates(&mut lines, &input.certificates);
    lines.section("storage");
    storage(&mut lines, input.settings);
    lines.section("grpc");
    lines.set("enabled", 1);
    lines.set("port", input.grpc_port);
    if input.grpc_tls {
        lines.tls(paths::GRPC_CERTIFICATES);
    }
    lines.section("logging");
    lines.set("level", "INFO");
    lines.section("kubernetes");
    lines.set("enabled", 1);
    lines.set("use_mgmt_api", 1);
    let scheme = if input.management_api_tls { "https" } else { "http" };
    lines.set("cassandra_url", format!("{scheme}://127.0.0.1:8080/api/v0/ops/node/snapshots"));
    if input.management_api_tls {
        lines.tls(paths::MANAGEMENT_API);
    }
    lines.0.join("\n") + "\n"
}

fn certificates(lines: &mut Lines, certificates: &CqlCertificates) {
    let folder = paths::CERTIFICATES;
    match certificates {
        CqlCertificates::None => {}
        CqlCertificates::OneSecret => {
            lines.set("certfile", format!("{folder}/rootca.crt"));
            lines.set("usercert", format!("{folder}/client.crt_signed"));
            lines.set("userkey", format!("{folder}/client.key"));
        }
        CqlCertificates::Files { certfile, usercert, userkey } => {
            lines.set("certfile", format!("{folder}/certfile/{certfile}"));
            lines.set("usercert", format!("{folder}/usercert/{usercert}"));
            lines.maybe("userkey", userkey.as_ref().map(|key| format!("{folder}/userkey/{key}")));
        }
    }
}

/// The value of [`ENDPOINT`] in both containers: the storage's address, for the providers whose `host` Medusa does not
/// use; `None` for the others.
#[must_use]
pub fn endpoint(settings: &Settings) -> Option<String> {
    let host = settings.host.as_ref().filter(|_| settings.provider.is_taken_for_aws())?;
    let scheme = if settings.secure { "https" } else { "http" };
    let port = settings.port.map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{scheme}://{host}{port}"))
}

fn region(settings: &Settings) -> Option<&str> {
    let region = settings.region.as_deref();
    if settings.provider.is_taken_for_aws() {
        return Some(region.filter(|name| *name != "default").unwrap_or(NO_REGION));
    }
    region
}

fn storage(lines: &mut Lines, settings: &Settings) {
    lines.set("use_sudo_for_restore", "false");
    lines.set("storage_provider", settings.provider.as_str());
    lines.set("bucket_name", &settings.bucket);
    if !settings.provider.has_bucket() {
        lines.set("base_path", paths::LOCAL_BACKUPS);
    }
    let key_file = settings.secret.as_ref().map(|_| format!("{}/{CREDENTIALS_KEY}", paths::STORAGE_SECRET));
    lines.maybe("key_file", key_file);
    lines.set("prefix", &settings.prefix);
    lines.set("max_backup_age", settings.max_backup_age);
    lines.set("max_backup_count", settings.max_backup_count);
    lines.maybe("region", region(settings));
    lines.maybe("host", settings.host.as_ref());
    lines.maybe("port", settings.port);
    lines.flag("secure", settings.secure);
    lines.flag("ssl_verify", settings.ssl_verify);
    lines.maybe("backup_grace_period_in_days", settings.backup_grace_period_in_days);
    lines.maybe("api_profile", settings.api_profile.as_ref());
    lines.maybe("transfer_max_bandwidth", settings.transfer_max_bandwidth.as_ref());
    lines.set("concurrent_transfers", settings.concurrent_transfers);
    lines.maybe("multi_part_upload_threshold", settings.multi_part_upload_threshold);
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn address(storage: Value) -> Option<String> {
        endpoint(&Settings::of(&serde_json::from_value(storage).unwrap(), "demo").unwrap())
    }

    #[rstest]
    #[case("s3_rgw", true)]
    #[case("ibm_storage", true)]
    #[case("s3_compatible", false)]
    #[case("s3", false)]
    #[case("azure_blobs", false)]
    #[case("google_storage", false)]
    #[case("local", false)]
    fn botocore_is_told_of_a_host_that_medusa_does_not_use(#[case] provider: &str, #[case] told: bool) {
        let address = |other: Value| {
            let mut storage = json!({"storageProvider": provider, "host": "ceph"});
            storage.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
            address(storage)
        };
        let expected = |url: &str| told.then(|| url.to_owned());
        assert_eq!(address(json!({})), expected("http://ceph"));
        assert_eq!(address(json!({"port": 7480, "secure": false})), expected("http://ceph:7480"));
        assert_eq!(address(json!({"port": 443, "secure": true})), expected("https://ceph:443"));
        assert_eq!(address(json!({"host": ""})), None);
    }
}
