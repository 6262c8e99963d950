//! medusa.ini: one golden file for each kind of storage and TLS, and what the real Medusa understands of each.
//!
//! Needs the testbed's Medusas: `make testbed`. After a change that is meant, write the files anew with
//! `GOLDEN=write cargo test --test medusa_ini`, and read the difference.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod cases;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use medusa_fleet::{
    api::medusa::StorageProvider,
    control_plane::deployment::config::{
        ini::{CqlCertificates, ENDPOINT},
        storage::Settings,
    },
};
use serde_json::{Value, json};

use self::cases::Case;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/medusa-ini")
}

#[test]
fn the_golden_files_are_what_is_written() {
    let mut expected = BTreeSet::new();
    for case in cases::all() {
        let path = golden().join(format!("{}.ini", case.name));
        if std::env::var_os("GOLDEN").is_some() {
            fs::write(&path, &case.ini).unwrap();
        }
        let held = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(case.ini, held, "{}", path.display());
        assert!(!case.ini.contains('\t'), "upstream's has no tabs either");
        expected.insert(path);
    }
    let found: BTreeSet<PathBuf> =
        fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(found, expected);
}

/// The version in the default image.
const DEFAULT: &str = "0.29.1";
/// The versions of Medusa that are asked.
const VERSIONS: [&str; 2] = [DEFAULT, "0.31.0"];

/// Python with a version of Medusa, beside the testbed.
fn python(version: &str) -> PathBuf {
    let testbed = std::env::var_os("MEDUSA_FLEET_TESTBED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/testbed/testbed"), PathBuf::from);
    let python = testbed.with_file_name(format!("medusa-{version}")).join("bin/python");
    assert!(python.exists(), "there is no Medusa at {}; run `make testbed`", python.display());
    python
}

/// By version, what Medusa understands of every golden file: name to `sections` and `driver`.
static UNDERSTOOD: LazyLock<BTreeMap<&str, Value>> =
    LazyLock::new(|| BTreeMap::from(VERSIONS.map(|version| (version, understood(version)))));

fn understood(version: &str) -> Value {
    let name = format!("medusa-ini-{version}-{}", std::process::id());
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    for entry in fs::read_dir(golden()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, directory.join(path.file_name().unwrap())).unwrap();
    }
    let environments: BTreeMap<_, _> = cases::all()
        .into_iter()
        .filter_map(|case| Some((case.name, json!({ENDPOINT: case.endpoint?}))))
        .collect();
    fs::write(directory.join("environments.json"), json!(environments).to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/medusa_ini/understood.py");
    let output = Command::new(python(version))
        .arg(script)
        .arg(&directory)
        .env_clear()
        // In a pod the name of the node is looked up; here nothing has to be.
        .env("POD_IP", "192.0.2.1")
        .env("PYTHONUTF8", "1")
        .output()
        .expect("run Medusa");
    fs::remove_dir_all(&directory).unwrap();
    assert!(output.status.success(), "Medusa {version}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The region asked for, or that of nowhere: the providers that Medusa takes for AWS do not start with its own word.
fn region(settings: &Settings) -> &str {
    let aws = [StorageProvider::S3Rgw, StorageProvider::IbmStorage].contains(&settings.provider);
    let nowhere = if aws { "us-east-1" } else { "default" };
    settings.region.as_deref().filter(|name| *name != "default").unwrap_or(nowhere)
}

/// Section and key to what was asked of a version; null where Medusa must know of nothing.
fn asked(case: &Case, version: &str) -> BTreeMap<(&'static str, &'static str), Value> {
    let settings = &case.settings;
    let text = |number: i64| json!(number.to_string());
    let flag = |on: bool| json!(if on { "True" } else { "False" });
    let (certfile, usercert, userkey) = match &case.certificates {
        CqlCertificates::None => (Value::Null, Value::Null, Value::Null),
        CqlCertificates::OneSecret => (
            json!("/etc/certificates/rootca.crt"),
            json!("/etc/certificates/client.crt_signed"),
            json!("/etc/certificates/client.key"),
        ),
        CqlCertificates::Files { certfile, usercert, userkey } => (
            json!(format!("/etc/certificates/certfile/{certfile}")),
            json!(format!("/etc/certificates/usercert/{usercert}")),
            json!(userkey.as_ref().map(|key| format!("/etc/certificates/userkey/{key}"))),
        ),
    };
    let file = |on: bool, folder: &str, name: &str, off: Value| {
        if on { json!(format!("{folder}/{name}")) } else { off }
    };
    let (grpc, management) = (case.grpc_tls, case.management_api_tls);
    let (grpc_folder, management_folder) = ("/etc/certificates/grpc-server-certs", "/etc/encryption/mgmt");
    let url = if management { "https" } else { "http" };
    let local = settings.provider == StorageProvider::Local;
    let part_size = if version == DEFAULT { "20971520" } else { "20MB" };
    BTreeMap::from([
        (("storage", "storage_provider"), json!(settings.provider.as_str())),
        (("storage", "bucket_name"), json!(settings.bucket)),
        (("storage", "prefix"), json!(settings.prefix)),
        (
            ("storage", "key_file"),
            settings.secret.as_ref().map_or(Value::Null, |_| json!("/etc/medusa-secrets/credentials")),
        ),
        (("storage", "base_path"), if local { json!("/mnt/backups") } else { Value::Null }),
        (("storage", "max_backup_age"), text(settings.max_backup_age)),
        (("storage", "max_backup_count"), text(settings.max_backup_count)),
        (("storage", "region"), json!(region(settings))),
        (("storage", "host"), json!(settings.host)),
        (("storage", "port"), settings.port.map_or(Value::Null, text)),
        (("storage", "secure"), flag(settings.secure)),
        (("storage", "ssl_verify"), flag(settings.ssl_verify)),
        (
            ("storage", "backup_grace_period_in_days"),
            text(settings.backup_grace_period_in_days.unwrap_or(10)),
        ),
        (("storage", "api_profile"), json!(settings.api_profile.as_deref().unwrap_or_default())),
        (
            ("storage", "transfer_max_bandwidth"),
            json!(settings.transfer_max_bandwidth.as_deref().unwrap_or("50MB/s")),
        ),
        (("storage", "concurrent_transfers"), text(settings.concurrent_transfers)),
        (
            ("storage", "multi_part_upload_threshold"),
            settings.multi_part_upload_threshold.map_or(json!(part_size), text),
        ),
        (("storage", "use_sudo_for_restore"), json!("False")),
        (("storage", "k8s_mode"), json!("True")),
        (("cassandra", "use_sudo"), json!("False")),
        (("cassandra", "certfile"), certfile),
        (("cassandra", "usercert"), usercert),
        (("cassandra", "userkey"), userkey),
        (("grpc", "enabled"), json!("True")),
        (("grpc", "port"), json!(case.grpc_port.to_string())),
        (("grpc", "ca_cert"), file(grpc, grpc_folder, "ca.crt", Value::Null)),
        (("grpc", "tls_cert"), file(grpc, grpc_folder, "tls.crt", Value::Null)),
        (("grpc", "tls_key"), file(grpc, grpc_folder, "tls.key", Value::Null)),
        (("logging", "level"), json!("INFO")),
        (("kubernetes", "enabled"), json!("True")),
        (("kubernetes", "use_mgmt_api"), json!("1")),
        (("kubernetes", "cassandra_url"), json!(format!("{url}://127.0.0.1:8080/api/v0/ops/node/snapshots"))),
        (("kubernetes", "ca_cert"), file(management, management_folder, "ca.crt", json!(""))),
        (("kubernetes", "tls_cert"), file(management, management_folder, "tls.crt", json!(""))),
        (("kubernetes", "tls_key"), file(management, management_folder, "tls.key", json!(""))),
    ])
}

/// Section and key of every line of the file.
fn keys(ini: &str) -> Vec<(&str, &str)> {
    let mut section = "";
    let mut keys = Vec::new();
    for line in ini.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(name) => section = name,
            None => keys.push((section, line.split_once(" = ").unwrap().0)),
        }
    }
    keys
}

#[test]
fn medusa_understands_what_was_asked() {
    for (version, understood) in &*UNDERSTOOD {
        for case in cases::all() {
            let asked = asked(&case, version);
            for key in keys(&case.ini) {
                assert!(asked.contains_key(&key), "{}: {key:?} is compared with nothing", case.name);
            }
            for ((section, key), value) in &asked {
                let heard = &understood[case.name]["sections"][section][key];
                assert_eq!(heard, value, "Medusa {version}, {}: [{section}] {key}", case.name);
            }
        }
    }
}

#[test]
fn medusas_storage_driver_goes_where_it_was_sent() {
    for (version, understood) in &*UNDERSTOOD {
        for case in cases::all() {
            expect_driver(&case, &understood[case.name]["driver"], version);
        }
        let bandwidth = |name: &str| understood[name]["driver"]["max_bandwidth"].as_i64().unwrap();
        let limits = [bandwidth("s3"), bandwidth("s3-full"), bandwidth("odd-values")];
        assert_eq!(limits, [50 << 20, 1536 << 20, 7_000_000], "Medusa {version}");
    }
}

fn expect_driver(case: &Case, driver: &Value, version: &str) {
    let settings = &case.settings;
    let which = format!("Medusa {version}, {}", case.name);
    let class = match settings.provider {
        StorageProvider::S3 => "S3Storage",
        StorageProvider::S3Rgw => "S3RGWStorage",
        StorageProvider::S3Compatible | StorageProvider::IbmStorage => "S3BaseStorage",
        StorageProvider::AzureBlobs => "AzureStorage",
        StorageProvider::GoogleStorage => "GoogleStorage",
        StorageProvider::Local => "LocalStorage",
    };
    assert_eq!(driver["class"], class, "{which}");
    assert_eq!(driver["prefix_path"], format!("{}/", settings.prefix), "{which}");
    let scheme = if settings.secure { "https" } else { "http" };
    let host = settings.host.as_deref().unwrap_or_default();
    let port = settings.port.map(|port| format!(":{port}")).unwrap_or_default();
    let url = format!("{scheme}://{host}{port}");
    let is_taken_for_aws = settings.provider == StorageProvider::IbmStorage && version == DEFAULT;
    match class {
        "S3BaseStorage" if !is_taken_for_aws => {
            let connection = json!({"endpoint_url": url, "verify": settings.ssl_verify});
            assert_eq!(driver["connection"], connection, "{which}");
        }
        "S3Storage" | "S3RGWStorage" | "S3BaseStorage" => {
            assert_eq!(driver["connection"], json!({}), "{which}: left to botocore");
        }
        "AzureStorage" => {
            let domain = if host.is_empty() { "windows.net" } else { host };
            assert_eq!(driver["url"], format!("https://account.blob.core.{domain}{port}/"), "{which}");
        }
        _ => assert_eq!(driver["connection"], Value::Null, "{which}"),
    }
    if class.starts_with("S3") {
        let key = match (&settings.secret, settings.api_profile.as_deref()) {
            (None, _) => Value::Null,
            (Some(_), Some("other")) => json!("o"),
            (Some(_), _) => json!("id"),
        };
        assert_eq!(driver["access_key"], key, "{which}");
        let region = Some(region(settings)).filter(|name| *name != "default").unwrap_or("us-east-1");
        assert_eq!(driver["region"], region, "{which}");
        let client = if host.is_empty() {
            Value::Null
        } else {
            json!({"endpoint": url, "bucket": format!("{url}/bucket")})
        };
        assert_eq!(driver["client"], client, "{which}: its requests go there");
    }
}
