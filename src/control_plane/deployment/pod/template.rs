//! What is applied to a CassandraDatacenter so that its pods run Medusa (upstream: Containers). Pure.
//!
//! The body holds our fields and nothing else: what is not in it stays whoever's it is, and what was in it and no
//! longer is goes. [`empty`] therefore takes Medusa out again.

use serde_json::{Value, json};

use super::{
    containers,
    fields::FieldPath,
    image,
    request::{Request, SERVER_CONFIG},
    volumes,
};
use crate::{
    api::{labels, names},
    control_plane::data_planes::view::ObjectKey,
};

/// The body that puts Medusa into the datacenter.
#[must_use]
pub fn body(request: &Request<'_>) -> Value {
    let pull = image::resolve(request.image, request.medusa.container_image.as_ref());
    let mounted = volumes::all(request);
    let mounts: Vec<Value> = mounted.iter().map(|m| m.mount.clone()).collect();
    let volumes: Vec<Value> = mounted.into_iter().filter_map(|m| m.volume).collect();
    let mut annotations = json!({
        labels::MEDUSA_FOR: request.source.to_string(),
        labels::MEDUSA_FOR_CONTROL_PLANE: request.control_plane.fleet(),
    });
    if let Some((key, installation)) = request.control_plane.mark() {
        set(&mut annotations, &key, Some(Value::from(installation)));
    }
    set(&mut annotations, labels::GRPC_CLIENT_SECRET, request.grpc_client_secret().map(Value::from));
    let port = request.medusa.grpc_port();
    set(&mut annotations, labels::GRPC_PORT, port.map(|port| Value::from(port.to_string())));
    let mut pod = json!({
        "containers": [containers::medusa(request, &pull, &mounts)],
        "initContainers": [{"name": SERVER_CONFIG}, containers::restore(request, &pull, &mounts)],
        "volumes": volumes,
    });
    set(&mut pod, "imagePullSecrets", pull.secret.map(|name| json!([{"name": name}])));
    let mut template = json!({"spec": pod});
    let secrets = request.secrets.map(|hash| json!({"annotations": {labels::MEDUSA_SECRETS: hash}}));
    set(&mut template, "metadata", secrets);
    let mut body = empty(request.datacenter, request.uid);
    set(&mut body, "spec", Some(json!({"podTemplateSpec": template})));
    if let Some(metadata) = body.get_mut("metadata") {
        set(metadata, "annotations", Some(annotations));
    }
    body
}

/// The body that takes everything out of the datacenter that was put there.
#[must_use]
pub fn empty(datacenter: &ObjectKey, uid: &str) -> Value {
    json!({
        "apiVersion": "cassandra.datastax.com/v1beta1",
        "kind": "CassandraDatacenter",
        "metadata": {"name": datacenter.name, "namespace": datacenter.namespace, "uid": uid},
    })
}

fn set(object: &mut Value, field: &str, value: Option<Value>) {
    if let (Some(object), Some(value)) = (object.as_object_mut(), value) {
        object.insert(field.to_owned(), value);
    }
}

/// One short text for the Secrets that pods read only when they start: a change of any of them changes it, and
/// with it the pods. Takes each one's uid and content hash, in a fixed order.
#[must_use]
pub fn checksum<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<String> {
    let all: Vec<String> = secrets.into_iter().map(|(uid, hash)| format!("{uid}/{hash}")).collect();
    (!all.is_empty()).then(|| names::sha256_hex(all.join("\n").as_bytes()).chars().take(16).collect())
}

/// Where a CassandraDatacenter has its pods' template.
#[must_use]
pub fn pod_template() -> FieldPath {
    FieldPath::of(&["spec", "podTemplateSpec"])
}

/// Where the template has the pods' spec.
#[must_use]
pub fn pod_spec() -> FieldPath {
    pod_template().field("spec")
}

/// Whether `path` is one annotation, of the datacenter or of its pods.
#[must_use]
pub fn is_annotation(path: &FieldPath) -> bool {
    let places = [FieldPath::default(), pod_template()].map(|at| at.field("metadata").field("annotations"));
    places.iter().any(|place| path.is_within(place) && path != place)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::LazyLock;

    use super::{
        super::{image::Image, request::Certificates},
        *,
    };
    use crate::api::k8ssandra::{EncryptionStores, MedusaTemplate};
    use crate::control_plane::identity::Identity;

    static DATACENTER: LazyLock<ObjectKey> = LazyLock::new(|| ObjectKey::new("cassandra", "dc1"));
    static SOURCE: LazyLock<ObjectKey> = LazyLock::new(|| ObjectKey::new("prod", "shop"));
    static CONTROL_PLANE: LazyLock<Identity> = LazyLock::new(|| Identity::named("fleet.0001"));
    static PLAIN: LazyLock<MedusaTemplate> = LazyLock::new(MedusaTemplate::default);
    static IMAGE: LazyLock<Image> = LazyLock::new(Image::default);
    static ALL: LazyLock<MedusaTemplate> = LazyLock::new(|| {
        serde_json::from_value(json!({
            "containerImage": {"pullSecretRef": {"name": "registry"}},
            "securityContext": {"runAsUser": 999},
            "serviceProperties": {
                "grpcPort": 55055,
                "encryption": {"clientSecretName": "grpc-client", "serverSecretName": "grpc-server"},
            },
        }))
        .unwrap()
    });
    static STORES: LazyLock<EncryptionStores> = LazyLock::new(|| {
        serde_json::from_value(json!({
            "keystoreSecretRef": {"name": "certs", "key": "ca"},
            "truststoreSecretRef": {"name": "certs", "key": "cert"},
            "truststorePasswordSecretRef": {"name": "certs", "key": "key"},
        }))
        .unwrap()
    });

    /// The least there is.
    pub(crate) fn request() -> Request<'static> {
        Request {
            datacenter: &DATACENTER,
            uid: "u1",
            source: &SOURCE,
            control_plane: &CONTROL_PLANE,
            sanitized: "shop",
            medusa: &PLAIN,
            image: &IMAGE,
            config_map: "shop-medusa",
            ini_key: "medusa.ini",
            storage_secret: None,
            endpoint: None,
            backups_claim: None,
            user_secret: None,
            certificates: Certificates::None,
            management_secret: None,
            secrets: None,
        }
    }

    /// Everything at once.
    pub(crate) fn full() -> Request<'static> {
        Request {
            medusa: &ALL,
            storage_secret: Some("medusa-bucket-key"),
            endpoint: Some("https://ceph.example.com:7480"),
            backups_claim: Some("shop-dc1-medusa"),
            user_secret: Some("shop-medusa"),
            certificates: Certificates::Stores(&STORES),
            management_secret: Some("mgmt-client"),
            secrets: Some("0123456789abcdef"),
            ..request()
        }
    }

    /// The body of [`full`].
    pub(crate) fn everything() -> Value {
        body(&full())
    }

    #[test]
    fn a_datacenter_gets_medusa() {
        insta::assert_yaml_snapshot!(body(&Request {
            storage_secret: Some("medusa-bucket-key"),
            user_secret: Some("shop-medusa"),
            ..request()
        }));
    }

    #[test]
    fn a_datacenter_gets_everything_at_once() {
        insta::assert_yaml_snapshot!(everything());
    }

    #[test]
    fn cassandras_configuration_is_written_before_a_restore_reads_it() {
        let body = body(&request());
        let pod = &body["spec"]["podTemplateSpec"]["spec"];
        let names = |list: &str| -> Vec<String> {
            pod[list].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names("initContainers"), ["server-config-init", "medusa-restore"]);
        assert_eq!(
            pod["initContainers"][0],
            json!({"name": "server-config-init"}),
            "the rest is cass-operator's"
        );
        assert_eq!(names("containers"), ["medusa"]);
    }

    #[test]
    fn both_containers_mount_a_folder_for_temporary_files() {
        let body = everything();
        let pod = &body["spec"]["podTemplateSpec"]["spec"];
        let tmp = json!({"name": "medusa-tmp", "mountPath": "/tmp"});
        for container in [&pod["containers"][0], &pod["initContainers"][1]] {
            assert!(container["volumeMounts"].as_array().unwrap().contains(&tmp));
        }
    }

    #[test]
    fn callers_learn_of_port_and_client_secret_from_annotations() {
        let full = everything();
        let annotations = &full["metadata"]["annotations"];
        assert_eq!(annotations[labels::GRPC_PORT], "55055");
        assert_eq!(annotations[labels::GRPC_CLIENT_SECRET], "grpc-client");
        let plain = body(&request());
        let plain = plain["metadata"]["annotations"].as_object().unwrap();
        assert_eq!(plain.len(), 2, "{plain:?}");
    }

    #[test]
    fn the_pull_secret_reaches_the_pods() {
        let pod = |body: Value| body["spec"]["podTemplateSpec"]["spec"].clone();
        assert_eq!(pod(everything())["imagePullSecrets"], json!([{"name": "registry"}]));
        assert_eq!(pod(body(&request())).get("imagePullSecrets"), None);
    }

    #[test]
    fn a_changed_secret_changes_the_checksum() {
        let one = checksum([("u1", "h1"), ("u2", "h2")]).unwrap();
        assert_eq!(one.len(), 16);
        assert_ne!(Some(one), checksum([("u1", "h1"), ("u2", "h3")]));
        assert_eq!(checksum([]), None);
    }

    #[test]
    fn annotations_are_told_from_the_list_of_them() {
        let list = FieldPath::of(&["metadata", "annotations"]);
        assert!(is_annotation(&list.field("a")) && !is_annotation(&list));
        assert!(is_annotation(&pod_template().field("metadata").field("annotations").field("a")));
        assert!(!is_annotation(&pod_spec().field("containers")));
    }
}
