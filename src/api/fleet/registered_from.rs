//! What a DataPlane of the controller's making was made for, as its annotation says.

use std::fmt;

/// Begins the annotation of a DataPlane that was made for a ClientConfig. No Secret's name has a slash.
const CLIENT_CONFIG: &str = "ClientConfig/";

/// What asks for a DataPlane (docs/dataplane.md).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RegisteredFrom {
    /// A labelled Secret in the controller's namespace.
    Secret(String),
    /// A ClientConfig.
    ClientConfig {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl RegisteredFrom {
    /// What the annotation `registered-from` says.
    #[must_use]
    pub fn read(annotation: &str) -> Self {
        let key = annotation.strip_prefix(CLIENT_CONFIG).and_then(|rest| rest.split_once('/'));
        key.map_or_else(
            || Self::Secret(annotation.to_owned()),
            |(namespace, name)| Self::ClientConfig { namespace: namespace.to_owned(), name: name.to_owned() },
        )
    }

    /// The annotation's value.
    #[must_use]
    pub fn written(&self) -> String {
        match self {
            Self::Secret(name) => name.clone(),
            Self::ClientConfig { namespace, name } => format!("{CLIENT_CONFIG}{namespace}/{name}"),
        }
    }

    /// The kind of object it is.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Secret(_) => "Secret",
            Self::ClientConfig { .. } => "ClientConfig",
        }
    }
}

impl fmt::Display for RegisteredFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(name) => write!(f, "Secret `{name}`"),
            Self::ClientConfig { namespace, name } => write!(f, "ClientConfig `{namespace}/{name}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_annotation_says_is_read_as_it_was_written() {
        let name = "eu".to_owned();
        let config = RegisteredFrom::ClientConfig { namespace: "ops".to_owned(), name: name.clone() };
        for from in [RegisteredFrom::Secret(name), config] {
            assert_eq!(RegisteredFrom::read(&from.written()), from);
        }
    }
}
