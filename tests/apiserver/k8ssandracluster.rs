//! Our K8ssandraCluster definition in a real API server: what it takes, what it refuses and how; and, under a
//! definition with upstream's defaults, what a person wrote.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, CustomResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use medusa_fleet::{
    api::{k8ssandra::K8ssandraCluster, medusa::MedusaConfiguration},
    control_plane::deployment::config::{storage::Settings, validate},
};
use serde_json::{Value, json};

use crate::support::{
    Cluster, FLEET, Fleet, eventually,
    page::{CLUSTER, OPTIONS, ROLE, SHARED, filled},
};

fn clusters(client: &Client) -> Api<K8ssandraCluster> {
    Api::namespaced(client.clone(), FLEET)
}

/// Applies a manifest as kubectl does, refusing unknown fields.
async fn apply(home: &Cluster, manifest: &Value) -> kube::Result<K8ssandraCluster> {
    let params = PatchParams::apply("somebody").force().validation_strict();
    clusters(&home.client).patch("demo", &params, &Patch::Apply(manifest)).await
}

fn configuration(storage: Value) -> MedusaConfiguration {
    serde_json::from_value(json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaConfiguration",
        "metadata": {"name": "medusaconfiguration-s3"}, "spec": {"storageProperties": storage},
    }))
    .unwrap()
}

fn shared() -> MedusaConfiguration {
    configuration(json!({
        "storageProvider": "s3", "region": "us-west-2", "bucketName": "k8ssandra-medusa",
        "storageSecretRef": {"name": "medusa-bucket-key"}, "transferMaxBandwidth": "7MB/s", "maxBackupCount": 9,
        "multiPartUploadThreshold": 1000, "concurrentTransfers": 3, "secure": true,
    }))
}

fn cluster(medusa: Value) -> Value {
    json!({
        "apiVersion": "k8ssandra.io/v1alpha1", "kind": "K8ssandraCluster",
        "metadata": {"name": "demo", "namespace": FLEET},
        "spec": {"cassandra": {"clusterName": "shop", "datacenters": [{"metadata": {"name": "dc1"}, "size": 3}]}, "medusa": medusa},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_write_is_taken_and_what_cannot_be_is_refused_by_field() {
    let fleet = Fleet::start(0).await;
    let home = fleet.home();
    let with_options = format!("{CLUSTER}{}", OPTIONS.trim_start_matches('\n'));
    for manifest in [CLUSTER, &with_options, SHARED, ROLE].map(filled) {
        let stored = apply(home, &manifest).await.unwrap_or_else(|e| panic!("{manifest}: {e}"));
        validate::settings(&stored, Some(&shared())).unwrap_or_else(|e| panic!("{manifest}: {e:?}"));
        // The page's last block has this one field.
        let purge = json!({"spec": {"medusa": {"purgeBackups": false}}});
        let patched = home.patch::<K8ssandraCluster>(FLEET, "demo", purge).await;
        assert_eq!(patched.spec.medusa.unwrap().purge_backups, Some(false));
        home.delete::<K8ssandraCluster>(FLEET, "demo").await;
    }
    refuses(home).await;
    takes(home).await;
}

async fn refuses(home: &Cluster) {
    let s3 = json!({"storageProvider": "s3", "bucketName": "b", "storageSecretRef": {"name": "key"}});
    let with = |change: &str, value: Value| {
        let mut storage = s3.clone();
        storage[change] = value;
        storage.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        json!({"storageProperties": storage})
    };
    let reference = |change: Value| {
        let mut reference = json!({"name": "s3"});
        reference.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        json!({"medusaConfigurationRef": reference, "storageProperties": {"prefix": "demo"}})
    };
    let refused = [
        (json!({}), "storageProperties.storageProvider: set it"),
        (with("storageProvider", Value::Null), "storageProperties.storageProvider: set it"),
        (with("bucketName", Value::Null), "storageProperties.bucketName: set it"),
        (with("bucketName", json!("")), "storageProperties.bucketName: set it"),
        (
            with("storageSecretRef", json!({"name": ""})),
            "storageProperties.storageSecretRef: name the Secret",
        ),
        (with("credentialsType", json!("role-based")), "credentialsType: `role-based` and a Secret"),
        (with("storageProvider", json!("floppy")), "spec.medusa.storageProperties.storageProvider"),
        (json!({"medusaConfigurationRef": {"name": "s3"}}), "storageProperties.prefix: set it"),
        (
            json!({"medusaConfigurationRef": {"name": "s3"}, "storageProperties": {"prefix": ""}}),
            "storageProperties.prefix: set it",
        ),
        (reference(json!({"namespace": "other"})), "namespace: remove it"),
        (reference(json!({"apiVersion": "v1"})), "only `name` may be set"),
        (reference(json!({"kind": "x"})), "only `name` may be set"),
        (reference(json!({"fieldPath": "x"})), "only `name` may be set"),
        (reference(json!({"resourceVersion": "1"})), "only `name` may be set"),
        (reference(json!({"uid": "x"})), "only `name` may be set"),
    ];
    for (medusa, message) in refused {
        let error = apply(home, &cluster(medusa.clone())).await.expect_err(&format!("{medusa} is refused"));
        assert!(error.to_string().contains(message), "{medusa}: {error}");
    }
}

async fn takes(home: &Cluster) {
    let s3 = json!({
        "storageProvider": "s3", "bucketName": "b", "storageSecretRef": {"name": "key"},
        "credentialsType": "credential-based",
    });
    let taken = [
        json!({"storageProperties": s3}),
        json!({"storageProperties": {"storageProvider": "local"}}),
        json!({"storageProperties": {"storageProvider": "s3", "bucketName": "b", "credentialsType": "role-based"}}),
        json!({
            "medusaConfigurationRef": {"name": "s3", "namespace": ""}, "storageProperties": {"prefix": "demo"},
        }),
        json!({"storageProperties": s3, "fieldOfTomorrow": {"a": [1]}, "containerResources": {"limits": {"cpu": 1}}}),
    ];
    for medusa in taken {
        // Not strict: what a later release adds is kept.
        let object = cluster(medusa.clone());
        let params = PatchParams::apply("somebody").force();
        let stored = clusters(&home.client).patch("demo", &params, &Patch::Apply(&object)).await;
        assert!(stored.is_ok(), "{medusa}: {stored:?}");
    }
    let kept = home.dynamic::<K8ssandraCluster>(FLEET).get("demo").await.unwrap().data;
    assert_eq!(kept["spec"]["medusa"]["fieldOfTomorrow"], json!({"a": [1]}));
    let renamed = json!({"spec": {"cassandra": {"clusterName": "another"}}});
    let error = clusters(&home.client)
        .patch("demo", &PatchParams::default(), &Patch::Merge(renamed))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("clusterName cannot be changed"), "{error}");
}

/// Our definition with the defaults upstream's has, in place of ours.
async fn install_defaults(home: &Cluster) {
    let mut definition = serde_json::to_value(K8ssandraCluster::crd()).unwrap();
    let spec = definition
        .pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties")
        .expect("the schema of the spec");
    let mut set = |path: &str, value: Value| spec.pointer_mut(path).expect(path)["default"] = value;
    set("/secretsProvider", json!("internal"));
    set("/medusa/properties/purgeBackups", json!(true));
    for (field, value) in [
        ("maxBackupAge", json!(0)),
        ("maxBackupCount", json!(0)),
        ("concurrentTransfers", json!(0)),
        ("transferMaxBandwidth", json!("50MB/s")),
        ("multiPartUploadThreshold", json!(104_857_600)),
        ("podStorage/properties/size", json!("10Gi")),
        ("storageSecretRef/properties/name", json!("")),
    ] {
        set(&format!("/medusa/properties/storageProperties/properties/{field}"), value);
    }
    let patch = Patch::Merge(json!({"spec": {"versions": definition["spec"]["versions"]}}));
    let api: Api<CustomResourceDefinition> = Api::all(home.client.clone());
    api.patch(K8ssandraCluster::crd_name(), &PatchParams::default(), &patch).await.expect("the definition");
    eventually("the defaults are filled in", async || {
        let probe =
            json!({"medusaConfigurationRef": {"name": "s3"}, "storageProperties": {"prefix": "demo"}});
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let probe = serde_json::from_value(cluster(probe)).unwrap();
        let stored = home
            .dynamic::<K8ssandraCluster>(FLEET)
            .create(&params, &probe)
            .await
            .map_err(|e| e.to_string())?;
        let filled = stored.data.pointer("/spec/medusa/storageProperties/transferMaxBandwidth");
        filled.map(|_| ()).ok_or_else(|| stored.data.to_string())
    })
    .await;
}

/// A manifest that shares a configuration and has more `own` storage properties.
fn sharing(own: &Value) -> Value {
    let mut storage = json!({"prefix": "demo"});
    storage.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    cluster(json!({"medusaConfigurationRef": {"name": "s3"}, "storageProperties": storage}))
}

/// What the object stored in the API server resolves to.
async fn resolved(home: &Cluster) -> Settings {
    let stored = home.get::<K8ssandraCluster>(FLEET, "demo").await;
    validate::settings(&stored, Some(&shared())).unwrap()
}

/// The two settings the tests below look at: bandwidth and concurrency.
fn of(settings: &Settings) -> (&str, i64) {
    (settings.transfer_max_bandwidth.as_deref().unwrap(), settings.concurrent_transfers)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_that_the_definition_fills_in_is_not_what_a_person_wrote() {
    let fleet = Fleet::start(0).await;
    let home = fleet.home();

    // Ours fills nothing in: what is there wins, also when it is a default.
    let asked = json!({"transferMaxBandwidth": "50MB/s"});
    home.create(sharing(&asked)).await;
    assert_eq!(of(&resolved(home).await), ("50MB/s", 3), "created under our definition");
    home.delete::<K8ssandraCluster>(FLEET, "demo").await;

    install_defaults(home).await;
    home.create(sharing(&json!({}))).await;
    let stored = home.dynamic::<K8ssandraCluster>(FLEET).get("demo").await.unwrap();
    assert_eq!(stored.data["spec"]["medusa"]["storageProperties"]["concurrentTransfers"], 0, "filled in");
    let managers = json!(stored.metadata.managed_fields).to_string();
    assert!(managers.contains("f:concurrentTransfers"), "whoever creates owns the defaults: {managers}");
    assert_eq!(of(&resolved(home).await), ("7MB/s", 3), "created without them");
    let settings = resolved(home).await;
    assert_eq!((settings.max_backup_count, settings.multi_part_upload_threshold), (9, Some(1000)));
    assert!(settings.secure);
    assert_eq!(
        settings.secret.as_deref(),
        Some("medusa-bucket-key"),
        "an absent Secret is not a nameless one"
    );

    // Changed away and back by somebody else.
    for value in ["60MB/s", "50MB/s"] {
        let patch = json!({"spec": {"medusa": {"storageProperties": {"transferMaxBandwidth": value}}}});
        let params = PatchParams { field_manager: Some("editor".to_owned()), ..PatchParams::default() };
        clusters(&home.client).patch("demo", &params, &Patch::Merge(patch)).await.unwrap();
        assert_eq!(of(&resolved(home).await), (value, 3), "edited to {value}");
    }
    home.delete::<K8ssandraCluster>(FLEET, "demo").await;

    // Server-side apply: with the field and without.
    apply(home, &sharing(&asked)).await.unwrap();
    assert_eq!(of(&resolved(home).await), ("50MB/s", 3), "applied with one of them");
    apply(home, &sharing(&json!({}))).await.unwrap();
    assert_eq!(of(&resolved(home).await), ("7MB/s", 3), "applied without any");
    home.delete::<K8ssandraCluster>(FLEET, "demo").await;

    // Client-side apply: kubectl creates, and keeps what it was given in an annotation.
    let mut manifest = sharing(&asked);
    manifest["metadata"]["annotations"] =
        json!({"kubectl.kubernetes.io/last-applied-configuration": sharing(&asked).to_string()});
    home.create(manifest).await;
    assert_eq!(of(&resolved(home).await), ("50MB/s", 3), "applied by kubectl's own record");
    home.delete::<K8ssandraCluster>(FLEET, "demo").await;

    // Explicit false is not the absence of true.
    home.create(sharing(&json!({"secure": false}))).await;
    assert!(!resolved(home).await.secure);
    home.delete::<K8ssandraCluster>(FLEET, "demo").await;

    // Defaults within what a person wrote: the name of the Secret, the size of the volume.
    let own = json!({"credentialsType": "role-based", "storageSecretRef": {}, "podStorage": {"storageClassName": "fast"}});
    home.create(sharing(&own)).await;
    let stored = home.dynamic::<K8ssandraCluster>(FLEET).get("demo").await.unwrap().data;
    let storage = &stored["spec"]["medusa"]["storageProperties"];
    assert_eq!(
        (&storage["storageSecretRef"]["name"], &storage["podStorage"]["size"]),
        (&json!(""), &json!("10Gi"))
    );
    let settings = resolved(home).await;
    assert_eq!(
        (settings.secret.as_deref(), of(&settings)),
        (None, ("7MB/s", 3)),
        "created with objects left open"
    );
}
