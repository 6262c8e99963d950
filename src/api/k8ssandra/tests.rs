//! K8ssandraClusters as people and upstream write them.

use serde_json::{Value, json};

use super::*;

fn cluster(spec: Value) -> K8ssandraCluster {
    serde_json::from_value(json!({
        "metadata": {"name": "demo", "namespace": "prod"}, "spec": spec,
    }))
    .unwrap()
}

#[test]
fn a_manifest_of_upstream_with_every_field_we_read_decodes() {
    let read = cluster(json!({
        "auth": true, "secretsProvider": "internal", "externalDatacenters": ["old"], "reaper": {"autoScheduling": {}},
        "cassandra": {
            "clusterName": "First Cluster", "serverType": "cassandra", "serverVersion": "4.1.10",
            "config": {"cassandraYaml": {"client_encryption_options": {"enabled": true}}, "jvmOptions": {"heapSize": "1G"}},
            "clientEncryptionStores": {
                "keystoreSecretRef": {"name": "stores", "key": "keystore"},
                "truststoreSecretRef": {"name": "stores", "key": "truststore"},
            },
            "managementApiAuth": {"manual": {
                "clientSecretName": "mgmt-client", "serverSecretName": "mgmt-server", "skipSecretValidation": true,
            }},
            "datacenters": [
                {"metadata": {"name": "dc1", "labels": {"a": "b"}, "pods": {}}, "k8sContext": "eu", "size": 3,
                 "datacenterName": "Real DC", "racks": [{"name": "r1"}], "stopped": false},
                {"metadata": {"name": "dc2", "namespace": "us"}, "managementApiAuth": {"insecure": {}},
                 "config": {"cassandraYaml": {"client_encryption_options": {"enabled": false}}}},
            ],
        },
        "medusa": {
            "containerImage": {"registry": "r", "repository": "k", "name": "m", "tag": "1", "pullPolicy": "Always",
                               "pullSecretRef": {"name": "pull"}},
            "securityContext": {"runAsUser": 999},
            "containerResources": {"limits": {"cpu": 1, "memory": "8Gi"}},
            "initContainerResources": {"limits": {"memory": "8Gi"}},
            "readinessProbe": {"periodSeconds": 5, "httpGet": {"port": 1}},
            "serviceProperties": {"grpcPort": 55055, "encryption": {"clientSecretName": "gc", "serverSecretName": "gs"}},
            "clientEncryptionStores": {
                "keystoreSecretRef": {"name": "pem", "key": "ca"}, "truststoreSecretRef": {"name": "pem", "key": "crt"},
                "truststorePasswordSecretRef": {"name": "key", "key": "key"},
            },
            "certificatesSecretRef": {"name": "certs"}, "cassandraUserSecretRef": {"name": "user"},
            "purgeBackups": false,
            "storageProperties": {"storageProvider": "local", "storageSecretRef": {"name": "bucket"},
                                  "podStorage": {"size": "1Gi"}},
        },
    }));
    let medusa = read.spec.medusa.as_ref().unwrap();
    assert_eq!(read.sanitized_name(), "firstcluster");
    assert_eq!(medusa.secret_names(), ["bucket", "certs", "gc", "gs", "key", "pem", "pull", "user"]);
    assert_eq!(medusa.grpc_port(), Some(55055));
    assert_eq!(medusa.readiness_probe.as_ref().unwrap().handler(), Some("httpGet"));
    assert_eq!(medusa.container_resources.as_ref().unwrap()["limits"]["cpu"], 1, "as it was written");
    let [first, second] = &read.spec.cassandra.as_ref().unwrap().datacenters[..] else { panic!("two") };
    assert_eq!((first.display_name(), second.display_name()), ("Real DC", "dc2"));
    assert_eq!(read.management_api_auth(first).unwrap().client_secret_name, "mgmt-client");
    assert_eq!(read.management_api_auth(second), None, "the datacenter's own setting stands");
    assert!(read.requires_client_encryption(first));
    assert!(!read.requires_client_encryption(second));
}

#[test]
fn what_is_absent_is_nothing() {
    let read = cluster(
        json!({"medusa": {"medusaConfigurationRef": {"name": ""}, "serviceProperties": {"grpcPort": 0}}}),
    );
    let medusa = read.spec.medusa.as_ref().unwrap();
    assert_eq!((read.sanitized_name().as_str(), read.datacenters().count()), ("demo", 0));
    assert_eq!((medusa.configuration(), medusa.grpc_port(), medusa.encryption()), (None, None, None));
    assert!(medusa.secret_names().is_empty() && !read.secrets_are_external());
}

#[test]
fn our_definition_has_no_defaults_and_keeps_what_it_does_not_know() {
    use kube::CustomResourceExt as _;
    let crds = crate::api::crds::all().unwrap();
    let name = K8ssandraCluster::crd_name();
    let crd = crds.iter().find(|crd| crd.metadata.name.as_deref() == Some(name)).unwrap();
    let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap()["openAPIV3Schema"].clone();
    assert!(!schema.to_string().contains("\"default\":"), "{schema}");
    let medusa = schema.pointer("/properties/spec/properties/medusa/properties").unwrap();
    for path in [
        "/storageProperties",
        "/containerImage",
        "/serviceProperties",
        "/clientEncryptionStores",
        "/readinessProbe",
    ] {
        let kept = medusa.pointer(path).unwrap().get("x-kubernetes-preserve-unknown-fields");
        assert_eq!(kept, Some(&json!(true)), "{path}");
    }
    let providers = medusa.pointer("/storageProperties/properties/storageProvider/enum").unwrap();
    assert!(providers.as_array().unwrap().contains(&json!("local")));
}
