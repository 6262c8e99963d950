//! K8ssandraClusters and MedusaConfigurations from which the golden files are made.

use medusa_fleet::{
    api::{k8ssandra::K8ssandraCluster, medusa::MedusaConfiguration},
    control_plane::deployment::config::{
        ini::{CqlCertificates, IniInput, endpoint, medusa_ini},
        storage::Settings,
        validate,
    },
};
use serde_json::{Value, json};

/// One medusa.ini: what was asked for, and what was made of it.
pub struct Case {
    /// Name of the golden file.
    pub name: &'static str,
    /// The storage asked for.
    pub settings: Settings,
    /// The certificates asked for.
    pub certificates: CqlCertificates,
    /// The port asked for.
    pub grpc_port: u16,
    /// Whether gRPC speaks TLS.
    pub grpc_tls: bool,
    /// Whether the management API does.
    pub management_api_tls: bool,
    /// The file.
    pub ini: String,
    /// The address in the pods' environment.
    pub endpoint: Option<String>,
}

fn case(name: &'static str, medusa: Value, cassandra: Value, configuration: Option<Value>) -> Case {
    let cluster: K8ssandraCluster = serde_json::from_value(json!({
        "metadata": {"name": "demo", "namespace": "prod"}, "spec": {"medusa": medusa, "cassandra": cassandra},
    }))
    .unwrap();
    let configuration: Option<MedusaConfiguration> = configuration.map(|storage| {
        serde_json::from_value(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaConfiguration",
            "metadata": {"name": "shared"}, "spec": {"storageProperties": storage},
        }))
        .unwrap()
    });
    let settings = validate::settings(&cluster, configuration.as_ref()).unwrap();
    let datacenter = cluster.datacenters().next().cloned().unwrap_or_default();
    assert_eq!(validate::datacenter(&cluster, &datacenter), []);
    let template = cluster.spec.medusa.as_ref().unwrap();
    let mut case = Case {
        name,
        certificates: validate::certificates(template),
        grpc_port: validate::grpc_port(template),
        grpc_tls: template.encryption().is_some(),
        management_api_tls: cluster.management_api_auth(&datacenter).is_some(),
        endpoint: endpoint(&settings),
        settings,
        ini: String::new(),
    };
    case.ini = medusa_ini(&IniInput {
        settings: &case.settings,
        grpc_port: case.grpc_port,
        grpc_tls: case.grpc_tls,
        certificates: case.certificates.clone(),
        management_api_tls: case.management_api_tls,
    });
    case
}

fn storage(name: &'static str, properties: Value) -> Case {
    case(name, json!({"storageProperties": properties}), json!({}), None)
}

/// Every case: each provider with little and with much, credentials of both kinds, every kind of TLS.
pub fn all() -> Vec<Case> {
    [of_aws(), of_s3_speakers(), of_others(), of_tls()].into_iter().flatten().collect()
}

/// Storage properties that say no more than they must.
fn s3() -> Value {
    json!({"storageProvider": "s3", "bucketName": "backups", "storageSecretRef": {"name": "key"}})
}

fn of_aws() -> Vec<Case> {
    vec![
        storage("s3", s3()),
        storage(
            "s3-full",
            json!({
                "storageProvider": "s3", "credentialsType": "credential-based", "storageSecretRef": {"name": "key"},
                "bucketName": "backups", "prefix": "shop", "maxBackupAge": 14, "maxBackupCount": 30,
                "apiProfile": "other", "transferMaxBandwidth": "1.5 GB/s", "concurrentTransfers": 4,
                "multiPartUploadThreshold": 20_971_520, "region": "us-west-2", "secure": true, "sslVerify": true,
                "backupGracePeriodInDays": 7,
            }),
        ),
        case(
            "s3-role-based-over-shared",
            json!({
                "medusaConfigurationRef": {"name": "shared"},
                "storageProperties": {
                    "prefix": "demo", "credentialsType": "role-based", "storageSecretRef": {"name": ""},
                },
            }),
            json!({}),
            Some(json!({
                "storageProvider": "s3", "region": "us-west-2", "bucketName": "backups", "maxBackupCount": 5,
                "storageSecretRef": {"name": "key"}, "transferMaxBandwidth": "", "multiPartUploadThreshold": 0,
            })),
        ),
    ]
}

fn of_s3_speakers() -> Vec<Case> {
    vec![
        storage(
            "s3_compatible",
            json!({
                "storageProvider": "s3_compatible", "storageSecretRef": {"name": "medusa-bucket-key"},
                "bucketName": "k8ssandra-medusa", "prefix": "test", "host": "minio.minio.svc.cluster.local",
                "port": 9000, "secure": false,
            }),
        ),
        storage(
            "s3_compatible-https",
            json!({
                "storageProvider": "s3_compatible", "storageSecretRef": {"name": "key"}, "bucketName": "backups",
                "host": "storage.example.com", "port": 443, "secure": true, "sslVerify": true, "region": "eu-1",
            }),
        ),
        storage(
            "s3_rgw",
            json!({
                "storageProvider": "s3_rgw", "storageSecretRef": {"name": "key"}, "bucketName": "backups",
                "host": "ceph.example.com", "port": 7480,
            }),
        ),
        storage(
            "s3_rgw-https",
            json!({
                "storageProvider": "s3_rgw", "storageSecretRef": {"name": "key"}, "bucketName": "backups",
                "host": "ceph.example.com", "secure": true, "sslVerify": true, "region": "default",
            }),
        ),
        storage(
            "s3_rgw-role-based",
            json!({
                "storageProvider": "s3_rgw", "credentialsType": "role-based", "bucketName": "backups",
                "host": "[2001:db8::1]", "port": 7480, "region": "zone-1",
            }),
        ),
        storage(
            "ibm_storage-without-region",
            json!({
                "storageProvider": "ibm_storage", "storageSecretRef": {"name": "key"}, "bucketName": "backups",
                "host": "s3.eu-de.cloud-object-storage.appdomain.cloud", "secure": true,
            }),
        ),
        storage(
            "ibm_storage",
            json!({
                "storageProvider": "ibm_storage", "storageSecretRef": {"name": "key"}, "bucketName": "backups",
                "host": "s3.eu-de.cloud-object-storage.appdomain.cloud", "port": 443, "secure": true,
                "region": "eu-de", "apiProfile": "default",
            }),
        ),
    ]
}

fn of_others() -> Vec<Case> {
    vec![
        storage(
            "azure_blobs",
            json!({"storageProvider": "azure_blobs", "storageSecretRef": {"name": "key"}, "bucketName": "container"}),
        ),
        storage(
            "azure_blobs-china",
            json!({
                "storageProvider": "azure_blobs", "storageSecretRef": {"name": "key"}, "bucketName": "container",
                "host": "chinacloudapi.cn", "port": 443,
            }),
        ),
        storage(
            "google_storage",
            json!({"storageProvider": "google_storage", "storageSecretRef": {"name": "key"}, "bucketName": "backups"}),
        ),
        storage(
            "google_storage-role-based",
            json!({"storageProvider": "google_storage", "credentialsType": "role-based", "bucketName": "backups"}),
        ),
        storage("local", json!({"storageProvider": "local", "podStorage": {"size": "100Mi"}})),
        storage(
            "odd-values",
            json!({
                "storageProvider": "s3", "storageSecretRef": {"name": "key"}, "bucketName": "[100%] ; # = %(here)s ${é}",
                "prefix": "# 50 % ; [storage]", "region": "= : x", "transferMaxBandwidth": "7000000",
            }),
        ),
    ]
}

fn of_tls() -> Vec<Case> {
    let stores = json!({
        "keystoreSecretRef": {"name": "pem", "key": "ca.pem"}, "truststoreSecretRef": {"name": "pem", "key": "user.pem"},
    });
    let mut stores_with_key = stores.clone();
    stores_with_key["truststorePasswordSecretRef"] = json!({"name": "pem", "key": "user.key"});
    vec![
        case(
            "tls-everywhere",
            json!({
                "storageProperties": s3(), "certificatesSecretRef": {"name": "certs"},
                "serviceProperties": {
                    "grpcPort": 55055, "encryption": {"clientSecretName": "gc", "serverSecretName": "gs"},
                },
            }),
            json!({
                "config": {"cassandraYaml": {"client_encryption_options": {"enabled": true}}},
                "managementApiAuth": {"manual": {"clientSecretName": "mc", "serverSecretName": "ms"}},
                "datacenters": [{"metadata": {"name": "dc1"}}],
            }),
            None,
        ),
        case(
            "tls-stores",
            json!({"storageProperties": s3(), "clientEncryptionStores": stores}),
            json!({}),
            None,
        ),
        case(
            "tls-stores-with-key",
            json!({"storageProperties": s3(), "clientEncryptionStores": stores_with_key}),
            json!({}),
            None,
        ),
    ]
}
