//! k8ssandra-operator's ClientConfigs, as its script writes them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

/// Upstream's definition.
pub fn client_config_definition() -> CustomResourceDefinition {
    let spec = json!({"type": "object", "properties": {
        "contextName": {"type": "string"},
        "kubeConfigSecret": {
            "type": "object", "x-kubernetes-map-type": "atomic",
            "properties": {"name": {"type": "string", "default": ""}},
        },
    }});
    let schema = json!({"type": "object", "properties": {
        "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}, "spec": spec,
    }});
    let definition = json!({
        "metadata": {"name": "clientconfigs.config.k8ssandra.io"},
        "spec": {
            "group": "config.k8ssandra.io", "scope": "Namespaced",
            "names": {
                "kind": "ClientConfig", "listKind": "ClientConfigList",
                "plural": "clientconfigs", "singular": "clientconfig",
            },
            "versions": [{
                "name": "v1beta1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
            }],
        },
    });
    serde_json::from_value(definition).expect("a definition")
}

/// A ClientConfig.
pub fn client_config(namespace: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "config.k8ssandra.io/v1beta1", "kind": "ClientConfig",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec,
    })
}

/// The spec of one about `context`.
pub fn about(context: &str, secret: &str) -> Value {
    json!({"contextName": context, "kubeConfigSecret": {"name": secret}})
}
