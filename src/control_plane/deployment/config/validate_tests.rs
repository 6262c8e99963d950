//! Every wrong combination, each alone: which object, which field.

use rstest::rstest;
use serde_json::{Value, json};

use super::*;

/// A cluster whose `spec.medusa` is right, with `change` merged into it.
fn cluster(change: Value) -> K8ssandraCluster {
    let mut object = json!({
        "metadata": {"name": "demo", "namespace": "prod"},
        "spec": {
            "cassandra": {"datacenters": [{"metadata": {"name": "dc1"}}]},
            "medusa": {"storageProperties": {
                "storageProvider": "s3", "bucketName": "backups", "storageSecretRef": {"name": "key"},
            }},
        },
    });
    merge_json(&mut object["spec"], change);
    serde_json::from_value(object).unwrap()
}

fn merge_json(target: &mut Value, change: Value) {
    if let (Some(change), true) = (change.as_object(), target.is_object()) {
        for (key, value) in change {
            merge_json(&mut target[key], value.clone());
        }
    } else {
        *target = change;
    }
}

fn storage(change: Value) -> K8ssandraCluster {
    cluster(json!({"medusa": {"storageProperties": change}}))
}

/// A cluster that refers to a configuration and says `own` of its own.
fn sharing(own: Value, shared: Value) -> (K8ssandraCluster, MedusaConfiguration) {
    let cluster = serde_json::from_value(json!({
        "metadata": {"name": "demo", "namespace": "prod"},
        "spec": {"medusa": {"medusaConfigurationRef": {"name": "s3"}, "storageProperties": own}},
    }));
    let configuration = serde_json::from_value(json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaConfiguration",
        "metadata": {"name": "s3"}, "spec": {"storageProperties": shared},
    }));
    (cluster.unwrap(), configuration.unwrap())
}

/// The one problem there is.
fn only(problems: Vec<Problem>) -> Problem {
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.into_iter().next().unwrap()
}

#[rstest]
#[case::provider(json!({"storageProvider": null}), "storageProvider: set it to one of google_storage,")]
#[case::bucket(json!({"bucketName": ""}), "bucketName: set it")]
#[case::no_credentials(json!({"storageSecretRef": null}), "storageSecretRef: name the Secret")]
#[case::only_a_type(json!({"storageSecretRef": {"name": ""}, "credentialsType": "credential-based"}), "storageSecretRef: name the Secret")]
#[case::both_credentials(json!({"credentialsType": "role-based"}), "credentialsType: `role-based` and the Secret `key` in storageSecretRef exclude each other; remove one")]
#[case::host_of_s3_compatible(json!({"storageProvider": "s3_compatible"}), "host: set it to the host of the storage; provider `s3_compatible`")]
#[case::host_of_s3_rgw(json!({"storageProvider": "s3_rgw", "host": ""}), "host: set it")]
#[case::host_of_ibm_storage(json!({"storageProvider": "ibm_storage"}), "host: set it")]
#[case::url_for_host(json!({"host": "http://minio"}), "host: `http://minio` is no host")]
#[case::port_in_host(json!({"host": "minio:9000"}), "host: `minio:9000` is no host")]
#[case::space_in_host(json!({"host": "a b"}), "host: `a b` is no host")]
#[case::slash_in_bucket(json!({"bucketName": "a/b"}), "bucketName: `a/b` cannot be used")]
#[case::slash_in_prefix(json!({"prefix": "a/b"}), "prefix: `a/b` cannot be used")]
#[case::prefix_of_dots(json!({"prefix": ".."}), "prefix: `..` cannot be used")]
#[case::prefix_medusa_ignores(json!({"prefix": "a"}), "prefix: `a` is too short")]
#[case::line_break(json!({"region": "a\nb = c"}), "region: remove the line break")]
#[case::space_around(json!({"apiProfile": " a"}), "apiProfile: remove the space")]
#[case::part_of_a_byte(json!({"transferMaxBandwidth": "1.5"}), "transferMaxBandwidth: `1.5` cannot be read")]
#[case::speed_in_mebibytes(json!({"transferMaxBandwidth": "50MiB/s"}), "transferMaxBandwidth: `50MiB/s` cannot be read")]
#[case::speed_in_letters(json!({"transferMaxBandwidth": "50M"}), "transferMaxBandwidth: `50M` cannot be read")]
#[case::speed_of_bits(json!({"transferMaxBandwidth": "50Mb/s"}), "transferMaxBandwidth: `50Mb/s` cannot be read")]
#[case::no_speed(json!({"transferMaxBandwidth": "0MB/s"}), "transferMaxBandwidth: `0MB/s` cannot be read")]
#[case::port(json!({"port": 65536}), "port: 65536 is no port")]
#[case::age(json!({"maxBackupAge": -1}), "maxBackupAge: give 0 or more")]
#[case::count(json!({"maxBackupCount": -1}), "maxBackupCount: give 0 or more")]
#[case::transfers(json!({"concurrentTransfers": -1}), "concurrentTransfers: give 0 or more")]
#[case::threshold(json!({"multiPartUploadThreshold": -1}), "multiPartUploadThreshold: give 0 or more")]
#[case::grace(json!({"backupGracePeriodInDays": -1}), "backupGracePeriodInDays: give 0 or more")]
fn a_wrong_storage_property_is_named(#[case] change: Value, #[case] message: &str) {
    let problem = only(settings(&storage(change), None).unwrap_err());
    assert_eq!((problem.fault, problem.reason), (Fault::Cluster, Reason::InvalidSpec));
    let expected = format!("spec.medusa.storageProperties.{message}");
    assert!(problem.message.starts_with(&expected), "{}", problem.message);
}

#[rstest]
#[case::grpc_port(json!({"medusa": {"serviceProperties": {"grpcPort": 70000}}}), "spec.medusa.serviceProperties.grpcPort: 70000 is no port")]
#[case::negative_grpc_port(json!({"medusa": {"serviceProperties": {"grpcPort": -1}}}), "spec.medusa.serviceProperties.grpcPort: -1 is no port")]
#[case::cassandras_port(json!({"medusa": {"serviceProperties": {"grpcPort": 9042}}}), "spec.medusa.serviceProperties.grpcPort: 9042 is taken")]
#[case::client_secret(json!({"medusa": {"serviceProperties": {"encryption": {"serverSecretName": "s"}}}}), "spec.medusa.serviceProperties.encryption.clientSecretName: name")]
#[case::server_secret(json!({"medusa": {"serviceProperties": {"encryption": {"clientSecretName": "s"}}}}), "spec.medusa.serviceProperties.encryption.serverSecretName: name")]
#[case::readiness(json!({"medusa": {"readinessProbe": {"tcpSocket": {"port": 1}}}}), "spec.medusa.readinessProbe.tcpSocket: remove it")]
#[case::liveness(json!({"medusa": {"livenessProbe": {"exec": {}}}}), "spec.medusa.livenessProbe.exec: remove it")]
#[case::no_truststore(json!({"medusa": {"clientEncryptionStores": {"keystoreSecretRef": {"name": "s", "key": "k"}}}}), "spec.medusa.clientEncryptionStores.truststoreSecretRef: set it")]
#[case::no_key(json!({"medusa": {"clientEncryptionStores": {"keystoreSecretRef": {"name": "s"}, "truststoreSecretRef": {"name": "s", "key": "k"}}}}), "spec.medusa.clientEncryptionStores.keystoreSecretRef.key: name the key")]
#[case::path_for_key(json!({"medusa": {"clientEncryptionStores": {"keystoreSecretRef": {"name": "s", "key": "../k"}, "truststoreSecretRef": {"name": "s", "key": "k"}}}}), "spec.medusa.clientEncryptionStores.keystoreSecretRef.key: name the key")]
#[case::no_name(json!({"medusa": {"clientEncryptionStores": {"keystoreSecretRef": {"key": "k"}, "truststoreSecretRef": {"name": "s", "key": "k"}}}}), "spec.medusa.clientEncryptionStores.keystoreSecretRef.name: name the Secret")]
#[case::unusable_name(json!({"cassandra": {"clusterName": "é!"}}), "spec.cassandra.clusterName: ``")]
#[case::long_name(json!({"cassandra": {"clusterName": "x".repeat(57)}}), "spec.cassandra.clusterName: `xxx")]
#[case::reference_elsewhere(json!({"medusa": {"medusaConfigurationRef": {"namespace": "x"}}}), "spec.medusa.medusaConfigurationRef.namespace: remove it")]
#[case::reference_of_a_kind(json!({"medusa": {"medusaConfigurationRef": {"kind": "x"}}}), "spec.medusa.medusaConfigurationRef.kind: remove it")]
fn a_wrong_field_is_named(#[case] change: Value, #[case] message: &str) {
    let problem = only(settings(&cluster(change), None).unwrap_err());
    assert_eq!(problem.fault, Fault::Cluster);
    assert!(problem.message.starts_with(message), "{}", problem.message);
}

#[test]
fn a_name_of_one_character_needs_a_prefix() {
    let mut short = storage(json!({}));
    short.metadata.name = Some("a".to_owned());
    assert!(only(settings(&short, None).unwrap_err()).message.contains("prefix: `a` is too short"));
    short = storage(json!({"prefix": "aa"}));
    short.metadata.name = Some("a".to_owned());
    assert_eq!(settings(&short, None).unwrap().prefix, "aa");
}

#[test]
fn a_configuration_that_is_not_there_is_the_one_problem() {
    let (cluster, _) = sharing(json!({"prefix": "p1"}), json!({}));
    let problem = only(settings(&cluster, None).unwrap_err());
    assert_eq!((problem.fault, problem.reason), (Fault::Cluster, Reason::ConfigurationNotFound));
    assert!(problem.message.contains("`s3` in namespace `prod`"), "{}", problem.message);
}

#[rstest]
#[case::prefix(json!({}), json!({}), Fault::Cluster, "spec.medusa.storageProperties.prefix: set it")]
#[case::shared_prefix(json!({}), json!({"prefix": "shared"}), Fault::Cluster, "spec.medusa.storageProperties.prefix: set it")]
#[case::provider(json!({"prefix": "demo"}), json!({"storageProvider": null}), Fault::Configuration, "spec.storageProperties.storageProvider: set it")]
#[case::bucket(json!({"prefix": "demo"}), json!({"bucketName": null}), Fault::Configuration, "spec.storageProperties.bucketName: set it")]
#[case::bucket_taken_away(json!({"prefix": "demo", "bucketName": ""}), json!({}), Fault::Cluster, "spec.medusa.storageProperties.bucketName: set it")]
#[case::shared_port(json!({"prefix": "demo"}), json!({"port": -1}), Fault::Configuration, "spec.storageProperties.port: -1 is no port")]
#[case::own_port(json!({"prefix": "demo", "port": -1}), json!({"port": 1}), Fault::Cluster, "spec.medusa.storageProperties.port: -1 is no port")]
#[case::shared_host(json!({"prefix": "demo"}), json!({"storageProvider": "s3_rgw"}), Fault::Configuration, "spec.storageProperties.host: set it")]
#[case::own_provider_without_host(json!({"prefix": "demo", "storageProvider": "s3_rgw"}), json!({}), Fault::Cluster, "spec.medusa.storageProperties.host: set it")]
#[case::host_taken_away(json!({"prefix": "demo", "host": ""}), json!({"storageProvider": "s3_rgw", "host": "h"}), Fault::Cluster, "spec.medusa.storageProperties.host: set it")]
#[case::shared_both(json!({"prefix": "demo"}), json!({"credentialsType": "role-based"}), Fault::Configuration, "spec.storageProperties.credentialsType: `role-based` and the Secret `key`")]
#[case::own_type(json!({"prefix": "demo", "credentialsType": "role-based"}), json!({}), Fault::Cluster, "spec.medusa.storageProperties.credentialsType: `role-based`")]
#[case::own_secret(json!({"prefix": "demo", "storageSecretRef": {"name": "s"}}), json!({"storageSecretRef": null, "credentialsType": "role-based"}), Fault::Cluster, "spec.medusa.storageProperties.credentialsType: `role-based`")]
#[case::neither(json!({"prefix": "demo", "storageSecretRef": {"name": ""}}), json!({}), Fault::Cluster, "spec.medusa.storageProperties.storageSecretRef: name the Secret")]
fn the_object_to_mend_is_the_one_the_value_is_from(
    #[case] own: Value,
    #[case] change: Value,
    #[case] fault: Fault,
    #[case] message: &str,
) {
    let mut shared = json!({"storageProvider": "s3", "bucketName": "b", "storageSecretRef": {"name": "key"}});
    merge_json(&mut shared, change);
    let (cluster, configuration) = sharing(own, shared);
    let problem = only(settings(&cluster, Some(&configuration)).unwrap_err());
    assert_eq!(problem.fault, fault);
    assert!(problem.message.starts_with(message), "{}", problem.message);
}

#[test]
fn an_empty_name_and_role_based_take_the_shared_secret_away() {
    let (cluster, configuration) = sharing(
        json!({"prefix": "demo", "credentialsType": "role-based", "storageSecretRef": {"name": ""}}),
        json!({"storageProvider": "s3", "bucketName": "b", "storageSecretRef": {"name": "key"}}),
    );
    let settings = settings(&cluster, Some(&configuration)).unwrap();
    assert_eq!((settings.secret, settings.bucket.as_str(), settings.prefix.as_str()), (None, "b", "demo"));
}

#[test]
fn everything_wrong_is_said_at_once() {
    let problems = settings(&storage(json!({"storageProvider": null, "port": -1, "prefix": "/"})), None);
    assert_eq!(problems.unwrap_err().len(), 4, "a prefix of one character is too short, too");
}

#[test]
fn odd_but_possible_values_pass() {
    for change in [
        json!({"prefix": "100% [real] ; # = é", "region": "#1"}),
        json!({"transferMaxBandwidth": "1.5 GB/s"}),
        json!({"transferMaxBandwidth": "52428800"}),
        json!({"transferMaxBandwidth": "1000.0/s"}),
        json!({"transferMaxBandwidth": ""}),
        json!({"host": "[fd00::1]", "port": 0}),
        json!({"storageProvider": "local", "bucketName": null, "storageSecretRef": null}),
    ] {
        settings(&storage(change.clone()), None).unwrap_or_else(|e| panic!("{change}: {e:?}"));
    }
}

#[rstest]
#[case::plain(json!({}), &[])]
#[case::encrypted(json!({"cassandra": {"config": {"cassandraYaml": {"client_encryption_options": {"enabled": true}}}}}), &["spec.medusa.certificatesSecretRef: datacenter `dc1` speaks TLS"])]
#[case::with_certificates(json!({"cassandra": {"config": {"cassandraYaml": {"client_encryption_options": {"enabled": true}}}}, "medusa": {"certificatesSecretRef": {"name": "c"}}}), &[])]
#[case::with_stores(json!({"cassandra": {"config": {"cassandraYaml": {"client_encryption_options": {"enabled": true}}}}, "medusa": {"clientEncryptionStores": {"keystoreSecretRef": {"name": "s", "key": "k"}}}}), &[])]
#[case::external(json!({"secretsProvider": "external", "cassandra": {"config": {"cassandraYaml": {"client_encryption_options": {"enabled": true}}}}}), &[])]
#[case::management(json!({"cassandra": {"managementApiAuth": {"manual": {"serverSecretName": "s"}}}}), &["managementApiAuth.manual.clientSecretName of datacenter `dc1`: name"])]
fn a_datacenters_own_problems_are_named(#[case] change: Value, #[case] messages: &[&str]) {
    let cluster = cluster(change);
    let problems = datacenter(&cluster, cluster.datacenters().next().unwrap());
    assert_eq!(problems.len(), messages.len(), "{problems:?}");
    for (problem, message) in problems.iter().zip(messages) {
        assert!(problem.message.starts_with(message), "{}", problem.message);
    }
}

#[test]
fn one_secret_wins_over_stores() {
    let stores = json!({"keystoreSecretRef": {"name": "s", "key": "ca"}, "truststoreSecretRef": {"name": "s", "key": "crt"}});
    let read = |change: Value| cluster(json!({"medusa": change})).spec.medusa.unwrap();
    let files = certificates(&read(json!({"clientEncryptionStores": stores})));
    let expected = CqlCertificates::Files { certfile: "ca".into(), usercert: "crt".into(), userkey: None };
    assert_eq!(files, expected);
    let both = read(json!({"clientEncryptionStores": stores, "certificatesSecretRef": {"name": "c"}}));
    assert_eq!(certificates(&both), CqlCertificates::OneSecret);
    assert_eq!(grpc_port(&both), 50051);
}

proptest::proptest! {
    /// Whatever stands in a text of the storage: it is refused, naming the field, or it is one line of medusa.ini.
    #[test]
    fn no_value_of_the_storage_ends_its_line(
        field in proptest::sample::select(vec!["bucketName", "prefix", "apiProfile", "host", "region", "transferMaxBandwidth"]),
        value in proptest::prop_oneof![
            proptest::arbitrary::any::<String>(), ".{1,4}\\PC?[\r\n\u{85}\u{b}]\\[x\\].{0,4}", "[a-z%;#=\\[\\] ]{0,12}",
        ],
    ) {
        use crate::control_plane::deployment::config::ini::{IniInput, medusa_ini};
        match settings(&storage(json!({field: value})), None) {
            Err(problems) => {
                let named = problems.iter().all(|problem| problem.message.contains(field));
                proptest::prop_assert!(named, "{problems:?}");
            }
            Ok(settings) => {
                let text = medusa_ini(&IniInput {
                    settings: &settings,
                    grpc_port: 50051,
                    grpc_tls: false,
                    certificates: CqlCertificates::None,
                    management_api_tls: false,
                });
                let odd = text.lines().find(|line| !line.is_empty() && !line.contains(" = ") && !line.starts_with('['));
                proptest::prop_assert_eq!(odd, None);
                proptest::prop_assert_eq!(text.lines().filter(|line| line.starts_with('[')).count(), 5);
            }
        }
    }
}
