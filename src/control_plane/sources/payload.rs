//! What a Secret or a MedusaConfiguration holds, and its hash. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use sha2::{Digest as _, Sha256};

use super::guard::Never;
use crate::api::{medusa::MedusaConfigurationSpec, names};

/// What a copy holds. It has no `Debug` on purpose: the content of a Secret must not reach a log.
pub enum Payload {
    /// A Secret's type and data.
    Secret {
        /// Its type; empty means Opaque.
        type_: Option<String>,
        /// Its data.
        data: BTreeMap<String, ByteString>,
        /// Why it may not be copied.
        never: Option<Never>,
    },
    /// A MedusaConfiguration's spec.
    Configuration(Box<MedusaConfigurationSpec>),
}

impl Payload {
    /// Takes the content out of a source Secret.
    #[must_use]
    pub fn of_secret(secret: Secret) -> Self {
        let never = Never::of(&secret);
        Self::Secret { type_: secret.type_, data: secret.data.unwrap_or_default(), never }
    }

    /// Hash of the content.
    #[must_use]
    pub fn hash(&self) -> String {
        match self {
            Self::Secret { type_, data, .. } => hash_data(type_.as_deref(), data),
            Self::Configuration(spec) => hash_configuration(spec),
        }
    }
}

/// SHA-256 over type, keys and values, each with its length so that no two contents read the same.
pub(crate) fn hash_data(type_: Option<&str>, data: &BTreeMap<String, ByteString>) -> String {
    let mut hasher = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hasher.update(bytes.len().to_be_bytes());
        hasher.update(bytes);
    };
    add(type_.filter(|t| !t.is_empty()).unwrap_or("Opaque").as_bytes());
    for (key, value) in data {
        add(key.as_bytes());
        add(&value.0);
    }
    names::hex(&hasher.finalize())
}

/// Hash of a MedusaConfiguration's spec.
#[must_use]
pub fn hash_configuration(spec: &MedusaConfigurationSpec) -> String {
    names::sha256_hex(serde_json::to_string(spec).unwrap_or_default().as_bytes())
}
