//! Fragments of OpenAPI schema that Rust types cannot say by themselves, written to be equal to the
//! ones upstream serves (`medusa.k8ssandra.io`) or to metav1's.

use schemars::{Schema, SchemaGenerator, json_schema};

/// `metav1.Condition[]` as a list map keyed by `type`, with metav1's limits.
pub fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "lastTransitionTime": {"type": "string", "format": "date-time"},
                "message": {"type": "string", "maxLength": 32768},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
                "reason": {
                    "type": "string", "minLength": 1, "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
                },
                "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                "type": {
                    "type": "string", "maxLength": 316,
                    "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
                }
            }
        }
    })
}

/// An integer without a format, as controller-gen writes Go's `int`.
pub fn plain_integer(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer"})
}

/// A count that may not be negative.
pub fn count(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "format": "int64", "minimum": 0})
}

/// Go's `int` with default 0.
pub fn integer_default_0(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "default": 0})
}

/// `multiPartUploadThreshold` with its default of 100 MiB.
pub fn multipart_threshold(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "default": 104_857_600})
}

/// `transferMaxBandwidth` with its default.
pub fn bandwidth(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "default": "50MB/s"})
}

/// `corev1.LocalObjectReference`.
#[must_use]
pub fn local_object_reference() -> Schema {
    json_schema!({
        "type": "object",
        "properties": {"name": {"type": "string", "default": ""}},
        "x-kubernetes-map-type": "atomic"
    })
}

/// `resource.Quantity` with default `10Gi`.
pub fn quantity_default_10gi(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "default": "10Gi",
        "pattern": "^(\\+|-)?(([0-9]+(\\.[0-9]*)?)|(\\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\\+|-)?(([0-9]+(\\.[0-9]*)?)|(\\.[0-9]+))))?$",
        "x-kubernetes-int-or-string": true
    })
}

/// `metav1.LabelSelector`.
pub fn label_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": {"type": "object", "additionalProperties": {"type": "string"}},
            "matchExpressions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {"type": "string"},
                        "operator": {"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
                        "values": {"type": "array", "items": {"type": "string"}}
                    }
                }
            }
        }
    })
}
