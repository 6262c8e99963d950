//! `MedusaConfiguration`: storage settings that several clusters share (upstream: MedusaConfiguration).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Storage;
use crate::api::{
    Reason,
    condition::ConditionVerdict,
    names::{is_object_name, shorten},
    schema,
};

/// Shared storage settings.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "medusa.k8ssandra.io",
    version = "v1alpha1",
    kind = "MedusaConfiguration",
    plural = "medusaconfigurations",
    namespaced,
    status = "MedusaConfigurationStatus",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase")]
pub struct MedusaConfigurationSpec {
    /// The storage backend and how to reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_properties: Option<Storage>,
}

/// Whether the configuration can be used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MedusaConfigurationStatus {
    /// `SecretAvailable`, `Ready`, and in the control plane `Replicated`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// The key of a storage secret that Medusa reads (upstream: medusa.ini).
pub const CREDENTIALS_KEY: &str = "credentials";

/// Condition: whether the storage secret is as it must be (upstream: MedusaConfiguration).
pub const SECRET_AVAILABLE: &str = "SecretAvailable";
/// Condition: whether the configuration can be used (upstream: MedusaConfiguration).
pub const READY: &str = "Ready";

/// What is known of the storage secret a configuration names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageSecret {
    /// It exists.
    Present {
        /// Whether it has the key [`CREDENTIALS_KEY`], with a value.
        has_credentials: bool,
    },
    /// There is none of that name.
    Absent,
    /// Nobody has read it yet.
    Unread,
    /// The API server does not let us read it.
    Forbidden,
}

/// The conditions [`SECRET_AVAILABLE`] and [`READY`] of a configuration in `namespace` (upstream: MedusaConfiguration). They are
/// judged here, once, so that the two controllers that may look at one object write the same.
#[must_use]
pub fn readiness(
    configuration: &MedusaConfigurationSpec,
    namespace: &str,
    secret: StorageSecret,
) -> [(&'static str, ConditionVerdict); 2] {
    let storage = configuration.storage_properties.clone().unwrap_or_default();
    let available = secret_available(&storage, namespace, secret);
    let ready = match &available {
        (Some(true), ..) => (Some(true), Reason::Ready, "the configuration can be used".to_owned()),
        other => other.clone(),
    };
    [(SECRET_AVAILABLE, available), (READY, ready)]
}

fn secret_available(storage: &Storage, namespace: &str, secret: StorageSecret) -> ConditionVerdict {
    let Some(name) = storage.secret_name() else {
        return if storage.is_role_based() {
            (Some(true), Reason::RoleBased, "credentials come from the pods' cloud identity".to_owned())
        } else {
            (Some(true), Reason::NoSecretNeeded, "`storageSecretRef` names no Secret".to_owned())
        };
    };
    if storage.is_role_based() {
        let message = format!(
            "spec.storageProperties: `credentialsType: role-based` and `storageSecretRef` `{name}` exclude \
             each other; remove one"
        );
        return (Some(false), Reason::InvalidSpec, message);
    }
    if !is_object_name(name) {
        let message = format!(
            "spec.storageProperties.storageSecretRef.name: `{}` cannot be a Secret's name; give one of at most 253 lower \
             case letters, digits, `-` and `.`",
            shorten(&name.escape_debug().to_string(), 100)
        );
        return (Some(false), Reason::InvalidSpec, message);
    }
    match secret {
        StorageSecret::Present { has_credentials: true } => {
            (Some(true), Reason::SecretAvailable, format!("Secret `{name}` has key `{CREDENTIALS_KEY}`"))
        }
        StorageSecret::Present { has_credentials: false } => (
            Some(false),
            Reason::SecretKeyMissing,
            format!(
                "Secret `{name}` has no key `{CREDENTIALS_KEY}`; Medusa reads its credentials file from there"
            ),
        ),
        StorageSecret::Absent => (
            Some(false),
            Reason::SecretNotFound,
            format!("Secret `{name}` does not exist in namespace `{namespace}`; create it there"),
        ),
        StorageSecret::Unread => (None, Reason::Connecting, format!("Secret `{name}` was not read yet")),
        StorageSecret::Forbidden => (
            None,
            Reason::PermissionsMissing,
            format!("Secret `{name}` may not be read; grant `get` on secrets in namespace `{namespace}`"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    const WHOLE: StorageSecret = StorageSecret::Present { has_credentials: true };

    #[rstest]
    #[case::no_storage(json!(null), StorageSecret::Absent, Some(true), Reason::NoSecretNeeded)]
    #[case::empty_name(json!({"storageSecretRef": {"name": ""}}), StorageSecret::Absent, Some(true), Reason::NoSecretNeeded)]
    #[case::role_based(json!({"credentialsType": "role-based"}), StorageSecret::Absent, Some(true), Reason::RoleBased)]
    #[case::both(json!({"credentialsType": "role-based", "storageSecretRef": {"name": "s"}}), WHOLE, Some(false), Reason::InvalidSpec)]
    #[case::whole(json!({"storageSecretRef": {"name": "s"}}), WHOLE, Some(true), Reason::SecretAvailable)]
    #[case::no_key(json!({"storageSecretRef": {"name": "s"}}), StorageSecret::Present { has_credentials: false }, Some(false), Reason::SecretKeyMissing)]
    #[case::absent(json!({"storageSecretRef": {"name": "s"}}), StorageSecret::Absent, Some(false), Reason::SecretNotFound)]
    #[case::unread(json!({"storageSecretRef": {"name": "s"}}), StorageSecret::Unread, None, Reason::Connecting)]
    #[case::no_name(json!({"storageSecretRef": {"name": "my secret"}}), StorageSecret::Unread, Some(false), Reason::InvalidSpec)]
    #[case::another_path(json!({"storageSecretRef": {"name": "s?x"}}), WHOLE, Some(false), Reason::InvalidSpec)]
    #[case::forbidden(json!({"storageSecretRef": {"name": "s"}}), StorageSecret::Forbidden, None, Reason::PermissionsMissing)]
    fn a_configuration_is_ready_when_its_credentials_are_there(
        #[case] storage: Value,
        #[case] secret: StorageSecret,
        #[case] status: Option<bool>,
        #[case] reason: Reason,
    ) {
        let spec = serde_json::from_value(json!({"storageProperties": storage})).unwrap();
        let [(_, available), (_, ready)] = readiness(&spec, "ns", secret);
        assert_eq!((available.0, available.1), (status, reason));
        assert_eq!(ready.0, status);
        assert_eq!(ready.1, if status == Some(true) { Reason::Ready } else { reason });
    }
}
