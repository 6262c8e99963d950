//! The merge: what a person wrote wins, and only that.

use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Map, Value, json};

use super::*;

/// A field with the values it may have; the first is upstream's default where `defaulted`.
struct Field {
    name: &'static str,
    values: Vec<Value>,
    defaulted: bool,
}

fn fields() -> Vec<Field> {
    let field = |name, defaulted, values: Value| Field {
        name,
        defaulted,
        values: values.as_array().unwrap().clone(),
    };
    vec![
        field("storageProvider", false, json!(["s3", "local", "google_storage"])),
        field("credentialsType", false, json!(["role-based", "credential-based"])),
        field("storageSecretRef", false, json!([{"name": ""}, {"name": "a"}, {"name": "b"}])),
        field("bucketName", false, json!(["", "a", "b"])),
        field("maxBackupAge", true, json!([0, 1, 2])),
        field("maxBackupCount", true, json!([0, 1, 2])),
        field("apiProfile", false, json!(["", "a", "b"])),
        field("transferMaxBandwidth", true, json!(["50MB/s", "", "1GB/s"])),
        field("concurrentTransfers", true, json!([0, 1, 2])),
        field("multiPartUploadThreshold", true, json!([104_857_600, 0, 1])),
        field("host", false, json!(["", "a", "b"])),
        field("region", false, json!(["", "a", "b"])),
        field("port", false, json!([0, 1, 2])),
        field("secure", false, json!([false, true])),
        field("sslVerify", false, json!([false, true])),
        field("backupGracePeriodInDays", false, json!([0, 1, 2])),
        field("podStorage.storageClassName", false, json!(["", "a", "b"])),
        field("podStorage.size", true, json!(["10Gi", "1Gi", 7])),
    ]
}

fn set(object: &mut Map<String, Value>, field: &str, value: &Value) {
    match field.split_once('.') {
        Some((outer, inner)) => {
            object.entry(outer).or_insert_with(|| json!({}))[inner] = value.clone();
        }
        None => drop(object.insert(field.to_owned(), value.clone())),
    }
}

fn get<'a>(storage: &'a Value, field: &str) -> Option<&'a Value> {
    storage.pointer(&format!("/{}", field.replace('.', "/")))
}

/// For each field: which of its values the cluster and the configuration have, if any, and whether there is evidence
/// that a person wrote the cluster's.
fn layers() -> impl Strategy<Value = Vec<(Option<usize>, Option<usize>, bool)>> {
    let count = fields().len();
    prop::collection::vec((prop::option::of(0..3usize), prop::option::of(0..3usize), any::<bool>()), count)
}

proptest! {
    #[test]
    fn what_a_person_wrote_wins_and_nothing_else(picked in layers(), everything: bool) {
        let (mut own, mut shared, mut evidence) = (Map::new(), Map::new(), BTreeSet::new());
        for (field, (mine, theirs, evident)) in fields().iter().zip(&picked) {
            let value = |index: &usize| &field.values[index % field.values.len()];
            if let Some(index) = mine {
                set(&mut own, field.name, value(index));
            }
            if let Some(index) = theirs {
                set(&mut shared, field.name, value(index));
            }
            if *evident {
                evidence.insert(field.name.to_owned());
            }
        }
        let written = if everything { WrittenStorage::Everything } else { WrittenStorage::Only(evidence.clone()) };
        let (own, shared) = (Value::Object(own), Value::Object(shared));
        let merged = merge(
            &serde_json::from_value(own.clone()).unwrap(),
            &written,
            &serde_json::from_value(shared.clone()).unwrap(),
        );
        let result = serde_json::to_value(&merged.storage).unwrap();
        for field in fields() {
            let (mine, theirs) = (get(&own, field.name), get(&shared, field.name));
            let by_default = field.defaulted && mine == field.values.first();
            let wrote = mine.is_some() && (everything || !by_default || evidence.contains(field.name));
            let expected = if wrote { mine } else { theirs.or(mine) };
            prop_assert_eq!(get(&result, field.name), expected, "{}", field.name);
            let from = if wrote || theirs.is_none() { Fault::Cluster } else { Fault::Configuration };
            prop_assert_eq!(merged.fault(field.name), from, "{}", field.name);
        }
    }
}

fn storage(value: Value) -> Storage {
    serde_json::from_value(value).unwrap()
}

#[test]
fn the_fields_above_are_all_there_are() {
    let mut names: Vec<&str> = fields().iter().map(|f| f.name.split('.').next().unwrap()).collect();
    names.extend(["prefix", "podStorage"]);
    let mut generator = schemars::SchemaGenerator::default();
    let schema = <Storage as schemars::JsonSchema>::json_schema(&mut generator);
    for property in schema.get("properties").and_then(Value::as_object).unwrap().keys() {
        assert!(names.contains(&property.as_str()), "{property} is merged by no test");
    }
}

#[test]
fn the_shared_prefix_is_dead() {
    let merged =
        merge(&Storage::default(), &WrittenStorage::Everything, &storage(json!({"prefix": "shared"})));
    assert_eq!(merged.storage.prefix, None);
}

#[test]
fn a_cluster_turns_off_what_the_configuration_turns_on() {
    let shared = storage(json!({"secure": true, "sslVerify": true, "maxBackupCount": 7, "host": "minio"}));
    let own = storage(json!({"secure": false, "maxBackupCount": 0, "host": ""}));
    let merged = merge(&own, &WrittenStorage::Everything, &shared).storage;
    assert_eq!((merged.secure, merged.ssl_verify), (Some(false), Some(true)));
    assert_eq!((merged.max_backup_count, merged.host.as_deref()), (Some(0), Some("")));
}

#[test]
fn access_modes_are_one_value() {
    let own = storage(json!({"podStorage": {"accessModes": ["ReadWriteMany"]}}));
    let shared = storage(json!({"podStorage": {"accessModes": ["ReadWriteOnce"], "size": "1Gi"}}));
    let pod = merge(&own, &WrittenStorage::Everything, &shared).storage.pod_storage.unwrap();
    assert_eq!(pod.access_modes, ["ReadWriteMany"]);
    assert_eq!(pod.size, Some(IntOrString::String("1Gi".to_owned())));
}

#[test]
fn little_said_is_upstreams_defaults() {
    let settings =
        Settings::of(&storage(json!({"storageProvider": "s3", "bucketName": "b"})), "demo").unwrap();
    assert_eq!(settings.prefix, "demo");
    assert_eq!(
        (settings.max_backup_age, settings.max_backup_count, settings.concurrent_transfers),
        (0, 0, 1)
    );
    assert_eq!(settings.transfer_max_bandwidth.as_deref(), Some("50MB/s"));
    assert_eq!(settings.multi_part_upload_threshold, Some(104_857_600));
    assert_eq!((settings.secure, settings.ssl_verify), (false, false));
    assert_eq!((settings.secret, settings.pod_storage, settings.port), (None, None, None));
    assert_eq!(Settings::of(&Storage::default(), "demo"), None);
}

#[rstest]
#[case("52428800", "52428800B/s")]
#[case("52428800/s", "52428800B/s")]
#[case("52428800 /s", "52428800B/s")]
#[case("1.5 GB/s", "1.5 GB/s")]
#[case("7B", "7B")]
fn a_speed_without_a_unit_is_one_of_bytes(#[case] asked: &str, #[case] written: &str) {
    let asked = storage(json!({"storageProvider": "s3", "transferMaxBandwidth": asked}));
    let settings = Settings::of(&asked, "demo").unwrap();
    assert_eq!(settings.transfer_max_bandwidth.as_deref(), Some(written));
}

#[rstest]
#[case::named(json!({"storageProvider": "s3", "storageSecretRef": {"name": "key"}}), Some("key"))]
#[case::unnamed(json!({"storageProvider": "s3", "storageSecretRef": {"name": ""}}), None)]
#[case::role_based(json!({"storageProvider": "s3", "credentialsType": "role-based"}), None)]
#[case::local(json!({"storageProvider": "local", "storageSecretRef": {"name": "key"}}), None)]
fn only_credentials_need_a_secret(#[case] of: Value, #[case] secret: Option<&str>) {
    assert_eq!(Settings::of(&storage(of), "demo").unwrap().secret.as_deref(), secret);
}

#[test]
fn local_storage_has_a_volume_and_a_directory() {
    let settings = Settings::of(&storage(json!({"storageProvider": "local"})), "demo").unwrap();
    let pod = settings.pod_storage.unwrap();
    assert_eq!(
        (settings.bucket.as_str(), &pod.access_modes[..]),
        ("medusa", &["ReadWriteOnce".to_owned()][..])
    );
    assert_eq!(pod.size, Some(IntOrString::String("10Gi".to_owned())));
}
