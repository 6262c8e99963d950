//! What a Secret or a MedusaConfiguration holds, and its hash. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};

use super::guard::Never;
use crate::{
    api::medusa::MedusaConfigurationSpec,
    control_plane::data_planes::copies::{hash_configuration, hash_data},
};

/// What a copy holds. It has no `Debug` on purpose: the content of a Secret must not reach a log.
pub enum Payload {
    Secret {
        /// Its type; empty means Opaque.
        type_: Option<String>,
        data: BTreeMap<String, ByteString>,
        /// Why it may not be copied.
        never: Option<Never>,
    },
    Configuration(Box<MedusaConfigurationSpec>),
}

impl Payload {
    /// Takes the content out of a source Secret.
    #[must_use]
    pub fn of_secret(secret: Secret) -> Self {
        let never = Never::of(&secret);
        Self::Secret { type_: secret.type_, data: secret.data.unwrap_or_default(), never }
    }

    #[must_use]
    pub fn hash(&self) -> String {
        match self {
            Self::Secret { type_, data, .. } => hash_data(type_.as_deref(), data),
            Self::Configuration(spec) => hash_configuration(spec),
        }
    }
}
