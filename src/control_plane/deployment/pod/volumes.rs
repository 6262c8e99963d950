//! The volumes of Medusa's containers and where they are mounted (upstream: Containers). Pure.
//!
//! A volume and its mount are made together, so that neither is there without the other.

use serde_json::{Value, json};

use super::request::{Certificates, Request};
use crate::{
    api::{k8ssandra::SecretKey, names},
    control_plane::deployment::config::ini::paths,
};

const MAX_NAME: usize = 63;
/// Name of the credentials' volume where the Secret's own name cannot be a volume's or is taken.
const CREDENTIALS_VOLUME: &str = "medusa-storage-credentials";
/// Names of volumes that are cass-operator's or ours.
const TAKEN: [&str; 20] = [
    "certfile",
    "certificates",
    "encryption-cred-storage",
    "grpc-server-certs",
    "management-api-server-certs-volume",
    "medusa-backups",
    "medusa-tmp",
    "mgmt-encryption",
    "podinfo",
    "server-config",
    "server-config-base",
    "server-data",
    "server-logs",
    "server-truststore",
    "tmp",
    "usercert",
    "userkey",
    "var-log",
    "vector-lib",
    "volume-mgmt-api",
];

#[derive(Clone, Debug, PartialEq)]
pub struct Mounted {
    /// The volume; `None` when it is cass-operator's.
    pub volume: Option<Value>,
    /// The mount, in both containers.
    pub mount: Value,
}

fn mounted(name: &str, path: &str, source: &str, content: Value) -> Mounted {
    Mounted {
        volume: Some(json!({"name": name, source: content})),
        mount: json!({"name": name, "mountPath": path}),
    }
}

fn secret(volume: &str, path: &str, name: &str) -> Mounted {
    mounted(volume, path, "secret", json!({"secretName": name}))
}

fn of_cass_operator(name: &str, path: &str) -> Mounted {
    Mounted { volume: None, mount: json!({"name": name, "mountPath": path}) }
}

/// Everything that is mounted for `request`, in upstream's order.
#[must_use]
pub fn all(request: &Request<'_>) -> Vec<Mounted> {
    let config = names::shorten(&format!("{}-medusa", request.sanitized), MAX_NAME);
    let ini = json!({
        "name": request.config_map,
        "items": [{"key": request.ini_key, "path": "medusa.ini"}],
    });
    let labels = json!({"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]});
    let mut all = vec![
        of_cass_operator("server-config", "/etc/cassandra"),
        of_cass_operator("server-data", "/var/lib/cassandra"),
        mounted(&config, "/etc/medusa", "configMap", ini),
        mounted("podinfo", "/etc/podinfo", "downwardAPI", labels),
        mounted("medusa-tmp", "/tmp", "emptyDir", json!({})),
    ];
    all.extend(certificates(request.certificates));
    if let Some(name) = request.grpc_server_secret() {
        all.push(secret("grpc-server-certs", paths::GRPC_CERTIFICATES, name));
    }
    if let Some(name) = request.storage_secret {
        all.push(secret(credentials_volume(name, &config), paths::STORAGE_SECRET, name));
    }
    if let Some(name) = request.management_secret {
        all.push(secret("mgmt-encryption", paths::MANAGEMENT_API, name));
    }
    if let Some(claim) = request.backups_claim {
        let content = json!({"claimName": claim});
        all.push(mounted("medusa-backups", paths::LOCAL_BACKUPS, "persistentVolumeClaim", content));
    }
    all
}

fn certificates(certificates: Certificates<'_>) -> Vec<Mounted> {
    let stores = match certificates {
        Certificates::None => return Vec::new(),
        Certificates::Secret(name) => return vec![secret("certificates", paths::CERTIFICATES, name)],
        Certificates::Stores(stores) => stores,
    };
    // What is not named has neither volume nor mount (upstream: Containers).
    let one = |volume: &str, key: &Option<SecretKey>| {
        let name = key.as_ref().map(|key| key.name.as_str()).filter(|name| !name.is_empty())?;
        Some(secret(volume, &format!("{}/{volume}", paths::CERTIFICATES), name))
    };
    [
        one("certfile", &stores.keystore_secret_ref),
        one("usercert", &stores.truststore_secret_ref),
        one("userkey", &stores.truststore_password_secret_ref),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Upstream calls the volume like the Secret; a Secret may have a name that no volume can have.
fn credentials_volume<'a>(secret: &'a str, config: &str) -> &'a str {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_label = secret.len() <= MAX_NAME
        && secret.starts_with(fine)
        && secret.ends_with(fine)
        && secret.chars().all(|c| fine(c) || c == '-');
    if is_label && secret != config && !TAKEN.contains(&secret) { secret } else { CREDENTIALS_VOLUME }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rstest::rstest;

    use super::*;
    use crate::{
        api::k8ssandra::EncryptionStores,
        control_plane::deployment::pod::template::tests::{full, request},
    };

    fn names(request: &Request<'_>) -> Vec<String> {
        all(request).iter().map(|m| m.mount["name"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_least_is_mounted_in_upstreams_order() {
        let found = all(&request());
        assert_eq!(
            found.iter().map(|m| m.mount["mountPath"].as_str().unwrap()).collect::<Vec<_>>(),
            ["/etc/cassandra", "/var/lib/cassandra", "/etc/medusa", "/etc/podinfo", "/tmp"]
        );
        assert_eq!(
            names(&request()),
            ["server-config", "server-data", "shop-medusa", "podinfo", "medusa-tmp"]
        );
    }

    #[test]
    fn every_mount_has_its_volume_and_no_name_is_used_twice() {
        for request in [request(), full()] {
            let found = all(&request);
            for m in &found {
                match &m.volume {
                    Some(volume) => assert_eq!(volume["name"], m.mount["name"]),
                    None => assert!(["server-config", "server-data"].iter().any(|n| m.mount["name"] == *n)),
                }
            }
            assert_eq!(names(&request).iter().collect::<BTreeSet<_>>().len(), found.len());
            let paths: BTreeSet<String> = found.iter().map(|m| m.mount["mountPath"].to_string()).collect();
            assert_eq!(paths.len(), found.len());
        }
    }

    #[test]
    fn the_bucket_secret_is_mounted_under_its_own_name() {
        let request = Request { storage_secret: Some("medusa-bucket-key"), ..request() };
        let last = all(&request).pop().unwrap();
        let volume = json!({"name": "medusa-bucket-key", "secret": {"secretName": "medusa-bucket-key"}});
        assert_eq!(last.volume, Some(volume));
        assert_eq!(last.mount, json!({"name": "medusa-bucket-key", "mountPath": "/etc/medusa-secrets"}));
    }

    #[rstest]
    #[case("my.bucket.key")]
    #[case("certificates")]
    #[case("server-data")]
    #[case("shop-medusa")]
    #[case("a234567890123456789012345678901234567890123456789012345678901234")]
    fn a_secret_whose_name_no_volume_may_have_is_mounted_all_the_same(#[case] name: &str) {
        let request = Request { storage_secret: Some(name), ..request() };
        let last = all(&request).pop().unwrap();
        let volume = json!({"name": "medusa-storage-credentials", "secret": {"secretName": name}});
        assert_eq!(last.volume, Some(volume));
    }

    #[test]
    fn the_management_apis_certificates_are_mounted() {
        let request = Request { management_secret: Some("mgmt-client"), ..request() };
        let last = all(&request).pop().unwrap();
        assert_eq!(
            last.volume,
            Some(json!({"name": "mgmt-encryption", "secret": {"secretName": "mgmt-client"}}))
        );
        assert_eq!(last.mount["mountPath"], "/etc/encryption/mgmt");
    }

    #[test]
    fn client_certificates_come_from_one_secret_or_from_three_keys() {
        let one = Request { certificates: Certificates::Secret("certs"), ..request() };
        assert_eq!(names(&one).last().map(String::as_str), Some("certificates"));
        let key = |name: &str| Some(SecretKey { name: name.to_owned(), key: Some("k".to_owned()) });
        let stores = EncryptionStores {
            keystore_secret_ref: key("ca"),
            truststore_secret_ref: key("cert"),
            truststore_password_secret_ref: key("key"),
            keystore_password_secret_ref: key("unused"),
        };
        let three = Request { certificates: Certificates::Stores(&stores), ..request() };
        let found = all(&three);
        let mounts: Vec<String> = found
            .iter()
            .skip(5)
            .map(|m| {
                format!("{} {}", m.volume.as_ref().unwrap()["secret"]["secretName"], m.mount["mountPath"])
            })
            .collect();
        assert_eq!(
            mounts,
            [
                r#""ca" "/etc/certificates/certfile""#,
                r#""cert" "/etc/certificates/usercert""#,
                r#""key" "/etc/certificates/userkey""#
            ]
        );
        let two = EncryptionStores { truststore_password_secret_ref: None, ..stores };
        let two = Request { certificates: Certificates::Stores(&two), ..request() };
        assert!(!names(&two).contains(&"userkey".to_owned()), "neither volume nor mount");
    }

    #[test]
    fn each_datacenter_reads_its_own_key_of_the_config_map() {
        let request = Request { ini_key: "dc2.ini", ..request() };
        let volume = all(&request)[2].volume.clone().unwrap();
        let items = json!([{"key": "dc2.ini", "path": "medusa.ini"}]);
        assert_eq!(volume["configMap"], json!({"name": "shop-medusa", "items": items}));
    }

    #[test]
    fn local_backups_have_a_claim() {
        let request = Request { backups_claim: Some("shop-dc1-medusa"), ..request() };
        let last = all(&request).pop().unwrap();
        assert_eq!(last.volume.unwrap()["persistentVolumeClaim"]["claimName"], "shop-dc1-medusa");
        assert_eq!(last.mount["mountPath"], paths::LOCAL_BACKUPS);
    }
}
