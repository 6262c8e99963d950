//! The containers `medusa` and `medusa-restore` (upstream: Containers). Pure.

use serde_json::{Map, Value, json};

use super::{
    image::Pull,
    request::{RESTORE, Request},
};
use crate::{
    api::{
        cassandra::MEDUSA_CONTAINER,
        k8ssandra::{Probe, RawObject},
    },
    control_plane::deployment::config::ini::{DEFAULT_GRPC_PORT, ENDPOINT, paths::GRPC_CERTIFICATES},
};

/// The container that serves backups.
#[must_use]
pub fn medusa(request: &Request<'_>, pull: &Pull, mounts: &[Value]) -> Value {
    let medusa = request.medusa;
    let port = medusa.grpc_port().unwrap_or(i64::from(DEFAULT_GRPC_PORT));
    let encrypted = request.grpc_server_secret().is_some();
    let mut container = common(request, pull, mounts, "GRPC", medusa.container_resources.as_ref());
    container.insert("name".to_owned(), json!(MEDUSA_CONTAINER));
    container.insert("ports".to_owned(), json!([{"name": "grpc", "containerPort": port, "protocol": "TCP"}]));
    let probes = [("readinessProbe", &medusa.readiness_probe), ("livenessProbe", &medusa.liveness_probe)];
    for (field, asked) in probes {
        container.insert(field.to_owned(), probe(port, encrypted, asked.as_ref()));
    }
    Value::Object(container)
}

/// The init container that restores when it is told to.
#[must_use]
pub fn restore(request: &Request<'_>, pull: &Pull, mounts: &[Value]) -> Value {
    let resources = request.medusa.init_container_resources.as_ref();
    let mut container = common(request, pull, mounts, "RESTORE", resources);
    container.insert("name".to_owned(), json!(RESTORE));
    Value::Object(container)
}

fn common(
    request: &Request<'_>,
    pull: &Pull,
    mounts: &[Value],
    mode: &str,
    resources: Option<&RawObject>,
) -> Map<String, Value> {
    let mut container = Map::new();
    let mut set = |field: &str, value: Value| container.insert(field.to_owned(), value);
    set("image", json!(pull.image));
    set("imagePullPolicy", json!(pull.policy));
    set("env", Value::Array(env(mode, request)));
    set("volumeMounts", json!(mounts));
    set("resources", resources.map_or_else(default_resources, |asked| Value::Object(asked.clone())));
    if let Some(context) = &request.medusa.security_context {
        set("securityContext", Value::Object(context.clone()));
    }
    container
}

fn default_resources() -> Value {
    json!({"requests": {"cpu": "100m", "memory": "100Mi"}, "limits": {"memory": "8Gi"}})
}

/// The variables, in upstream's order, and where the storage is; without a user secret Medusa reads its user elsewhere.
fn env(mode: &str, request: &Request<'_>) -> Vec<Value> {
    let mut env = vec![
        json!({"name": "MEDUSA_MODE", "value": mode}),
        json!({"name": "MEDUSA_TMP_DIR", "value": "/var/lib/cassandra"}),
        json!({"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
    ];
    if let Some(secret) = request.user_secret {
        env.extend([("CQL_USERNAME", "username"), ("CQL_PASSWORD", "password")].map(
            |(name, key)| json!({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}),
        ));
    }
    env.extend(request.endpoint.map(|url| json!({"name": ENDPOINT, "value": url})));
    env
}

/// Asks the gRPC service whether it is well. Numbers are the user's where they gave any; what the probe does
/// is not theirs to change, and is refused before it comes here.
fn probe(port: i64, encrypted: bool, asked: Option<&Probe>) -> Value {
    let mut command = vec!["/bin/grpc_health_probe".to_owned(), format!("--addr=:{port}")];
    if encrypted {
        command.push("--tls".to_owned());
        let files = [("ca-cert", "ca.crt"), ("client-cert", "tls.crt"), ("client-key", "tls.key")];
        command.extend(files.map(|(flag, file)| format!("--tls-{flag}={GRPC_CERTIFICATES}/{file}")));
    }
    let asked = asked.cloned().unwrap_or_default();
    let mut probe = json!({
        "exec": {"command": command},
        "initialDelaySeconds": asked.initial_delay_seconds.unwrap_or(10),
        "timeoutSeconds": asked.timeout_seconds.unwrap_or(1),
        "periodSeconds": asked.period_seconds.unwrap_or(10),
        "successThreshold": asked.success_threshold.unwrap_or(1),
        "failureThreshold": asked.failure_threshold.unwrap_or(10),
    });
    if let (Some(seconds), Some(probe)) = (asked.termination_grace_period_seconds, probe.as_object_mut()) {
        probe.insert("terminationGracePeriodSeconds".to_owned(), json!(seconds));
    }
    probe
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::{
        api::k8ssandra::MedusaTemplate,
        control_plane::deployment::pod::{
            image::{Image, resolve},
            template::tests::request,
        },
    };

    fn made(template: Value) -> (Value, Value) {
        let template: MedusaTemplate = serde_json::from_value(template).unwrap();
        let request = Request { medusa: &template, ..request() };
        let pull = resolve(&Image::default(), template.container_image.as_ref());
        (medusa(&request, &pull, &[]), restore(&request, &pull, &[]))
    }

    fn variables(container: &Value) -> Vec<&str> {
        container["env"].as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap()).collect()
    }

    #[test]
    fn default_resources_and_the_default_port() {
        let (medusa, restore) = made(json!({}));
        let resources = json!({"requests": {"cpu": "100m", "memory": "100Mi"}, "limits": {"memory": "8Gi"}});
        assert_eq!((&medusa["resources"], &restore["resources"]), (&resources, &resources));
        assert_eq!(medusa["ports"], json!([{"name": "grpc", "containerPort": 50051, "protocol": "TCP"}]));
        assert_eq!(restore.get("ports"), None);
        assert_eq!((&medusa["name"], &restore["name"]), (&json!("medusa"), &json!("medusa-restore")));
    }

    #[test]
    fn custom_resources_replace_the_defaults_and_a_port_is_probed() {
        let (medusa, restore) = made(json!({
            "containerResources": {"limits": {"cpu": "2"}},
            "initContainerResources": {"requests": {"memory": "1Gi"}},
            "serviceProperties": {"grpcPort": 55055},
        }));
        assert_eq!(medusa["resources"], json!({"limits": {"cpu": "2"}}));
        assert_eq!(restore["resources"], json!({"requests": {"memory": "1Gi"}}));
        assert_eq!(medusa["ports"][0]["containerPort"], 55055);
        for probe in ["readinessProbe", "livenessProbe"] {
            let command = json!(["/bin/grpc_health_probe", "--addr=:55055"]);
            assert_eq!(medusa[probe]["exec"]["command"], command);
        }
    }

    #[test]
    fn with_external_secrets_there_are_exactly_three_variables() {
        let (medusa, restore) = made(json!({}));
        let three = ["MEDUSA_MODE", "MEDUSA_TMP_DIR", "POD_NAME"];
        assert_eq!((variables(&medusa), variables(&restore)), (three.to_vec(), three.to_vec()));
        assert_eq!(
            (&medusa["env"][0]["value"], &restore["env"][0]["value"]),
            (&json!("GRPC"), &json!("RESTORE"))
        );
    }

    #[test]
    fn the_user_comes_from_its_secret() {
        let template = MedusaTemplate::default();
        let request = Request { medusa: &template, user_secret: Some("shop-medusa"), ..request() };
        let made = medusa(&request, &resolve(&Image::default(), None), &[]);
        assert_eq!(variables(&made)[3..], ["CQL_USERNAME", "CQL_PASSWORD"]);
        let from = json!({"secretKeyRef": {"name": "shop-medusa", "key": "password"}});
        assert_eq!(made["env"][4]["valueFrom"], from);
    }

    #[test]
    fn both_are_told_where_the_storage_is_when_medusa_itself_does_not_look() {
        let template = MedusaTemplate::default();
        let request = Request { medusa: &template, endpoint: Some("http://ceph:7480"), ..request() };
        let pull = resolve(&Image::default(), None);
        for made in [medusa(&request, &pull, &[]), restore(&request, &pull, &[])] {
            assert_eq!(made["env"][3], json!({"name": "AWS_ENDPOINT_URL_S3", "value": "http://ceph:7480"}));
        }
    }

    #[rstest]
    #[case("readinessProbe", "livenessProbe")]
    #[case("livenessProbe", "readinessProbe")]
    fn a_probes_numbers_are_the_users_and_the_others_the_defaults(#[case] set: &str, #[case] unset: &str) {
        let (medusa, _) = made(json!({set: {
            "initialDelaySeconds": 100, "timeoutSeconds": 200, "terminationGracePeriodSeconds": 5,
        }}));
        let numbers = |probe: &str, field: &str| medusa[probe][field].as_i64();
        assert_eq!(
            [
                "initialDelaySeconds",
                "timeoutSeconds",
                "periodSeconds",
                "successThreshold",
                "failureThreshold"
            ]
            .map(|field| (numbers(set, field), numbers(unset, field))),
            [(100, 10), (200, 1), (10, 10), (1, 1), (10, 10)].map(|(a, b)| (Some(a), Some(b)))
        );
        assert_eq!(medusa[set]["terminationGracePeriodSeconds"], 5);
        assert_eq!(medusa[unset].get("terminationGracePeriodSeconds"), None);
    }

    #[test]
    fn an_encrypted_service_is_probed_with_its_own_certificates() {
        let secrets = json!({"clientSecretName": "client", "serverSecretName": "server"});
        let (medusa, _) = made(json!({"serviceProperties": {"encryption": secrets}}));
        let folder = "/etc/certificates/grpc-server-certs";
        assert_eq!(
            medusa["readinessProbe"]["exec"]["command"],
            json!([
                "/bin/grpc_health_probe",
                "--addr=:50051",
                "--tls",
                format!("--tls-ca-cert={folder}/ca.crt"),
                format!("--tls-client-cert={folder}/tls.crt"),
                format!("--tls-client-key={folder}/tls.key"),
            ])
        );
    }

    #[test]
    fn image_and_security_context_are_those_of_both() {
        let (medusa, restore) = made(json!({
            "containerImage": {"registry": "mirror", "pullPolicy": "Always"},
            "securityContext": {"runAsUser": 1000, "unknown": {"kept": true}},
        }));
        for container in [medusa, restore] {
            assert_eq!(container["image"], "mirror/k8ssandra/medusa:0.29.1");
            assert_eq!(container["imagePullPolicy"], "Always");
            assert_eq!(container["securityContext"], json!({"runAsUser": 1000, "unknown": {"kept": true}}));
        }
    }
}
