//! Which image Medusa's containers run (upstream: Containers). Pure.
//!
//! `spec.medusa.containerImage` replaces the default image's parts one by one: who names a registry gets the same
//! image from there. Upstream's definition fills in the tag `latest` as soon as `containerImage` is there, and what is
//! in the object counts; ours fills in nothing.

use std::{fmt, str::FromStr};

use crate::api::{k8ssandra::ContainerImage, medusa::SecretRef};

/// The image that is deployed unless somebody asks for another.
pub const DEFAULT_IMAGE: &str = "docker.io/k8ssandra/medusa:0.29.1";
/// The policy unless somebody asks for another.
const PULL_POLICY: &str = "IfNotPresent";

/// A reference to an image, by its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    registry: Option<String>,
    repository: Option<String>,
    name: String,
    /// `:tag`, `@digest`, both or nothing.
    version: String,
}

impl Default for Image {
    fn default() -> Self {
        DEFAULT_IMAGE.parse().unwrap_or(Self {
            registry: None,
            repository: None,
            name: "medusa".to_owned(),
            version: String::new(),
        })
    }
}

impl FromStr for Image {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fine = |c: char| c.is_ascii_alphanumeric() || "._-/:@[]".contains(c);
        let refuse = || format!("`{text}` is not an image such as `{DEFAULT_IMAGE}`");
        let (path, last) = text.rsplit_once('/').map_or((None, text), |(path, last)| (Some(path), last));
        let end = last.find([':', '@']).unwrap_or(last.len());
        let (name, version) = last.split_at(end);
        let whole = !name.is_empty() && !version.ends_with([':', '@']);
        if !whole || !text.chars().all(fine) || text.contains("//") || text.starts_with('/') {
            return Err(refuse());
        }
        // As in any image reference: what looks like a host is one.
        let is_host = |part: &str| part.contains(['.', ':']) || part == "localhost";
        let (registry, repository) = match path.map(|path| path.split_once('/').unwrap_or((path, ""))) {
            Some((first, rest)) if is_host(first) => (Some(first), rest),
            Some(_) => (None, path.unwrap_or_default()),
            None => (None, ""),
        };
        let owned = |part: &str| (!part.is_empty()).then(|| part.to_owned());
        Ok(Self {
            registry: registry.and_then(owned),
            repository: owned(repository),
            name: name.to_owned(),
            version: version.to_owned(),
        })
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.registry.iter().chain(&self.repository) {
            write!(f, "{part}/")?;
        }
        write!(f, "{}{}", self.name, self.version)
    }
}

/// How the containers get their image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull {
    /// The image.
    pub image: String,
    /// When the kubelet asks the registry.
    pub policy: String,
    /// Secret with the registry's credentials.
    pub secret: Option<String>,
}

/// `default` with the parts that `asked`, a `containerImage`, names.
#[must_use]
pub fn resolve(default: &Image, asked: Option<&ContainerImage>) -> Pull {
    let part = |part: fn(&ContainerImage) -> Option<&String>| {
        asked.and_then(part).map(|v| v.trim().trim_matches('/')).filter(|v| !v.is_empty()).map(str::to_owned)
    };
    let image = Image {
        registry: part(|i| i.registry.as_ref()).or_else(|| default.registry.clone()),
        repository: part(|i| i.repository.as_ref()).or_else(|| default.repository.clone()),
        name: part(|i| i.name.as_ref()).unwrap_or_else(|| default.name.clone()),
        version: part(|i| i.tag.as_ref()).map_or_else(|| default.version.clone(), |tag| format!(":{tag}")),
    };
    let secret = |SecretRef { name }: &SecretRef| (!name.is_empty()).then(|| name.clone());
    Pull {
        image: image.to_string(),
        policy: part(|i| i.pull_policy.as_ref()).unwrap_or_else(|| PULL_POLICY.to_owned()),
        secret: asked.and_then(|i| i.pull_secret_ref.as_ref()).and_then(secret),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn asked(image: Value) -> ContainerImage {
        serde_json::from_value(image).unwrap()
    }

    #[rstest]
    #[case(DEFAULT_IMAGE)]
    #[case("medusa")]
    #[case("medusa:1")]
    #[case("team/medusa:1")]
    #[case("registry:5000/medusa")]
    #[case("localhost/a/b/medusa@sha256:0123")]
    #[case("registry.example.com:5000/a/b/medusa:1@sha256:0123")]
    fn an_image_is_printed_as_it_was_written(#[case] text: &str) {
        assert_eq!(text.parse::<Image>().unwrap().to_string(), text);
    }

    #[rstest]
    #[case("")]
    #[case("medusa:")]
    #[case("a/:1")]
    #[case("/medusa")]
    #[case("a//b")]
    #[case("medusa latest")]
    fn what_is_no_image_is_refused(#[case] text: &str) {
        assert!(text.parse::<Image>().is_err());
    }

    #[rstest]
    #[case(json!({}), DEFAULT_IMAGE)]
    #[case(json!({"registry": "mirror:5000"}), "mirror:5000/k8ssandra/medusa:0.29.1")]
    #[case(json!({"repository": "team"}), "docker.io/team/medusa:0.29.1")]
    #[case(json!({"repository": "team", "tag": "latest"}), "docker.io/team/medusa:latest")]
    #[case(json!({"name": "other", "tag": "1"}), "docker.io/k8ssandra/other:1")]
    #[case(json!({"tag": ""}), DEFAULT_IMAGE)]
    #[case(json!({"registry": "mirror/", "repository": "/team/a/"}), "mirror/team/a/medusa:0.29.1")]
    fn the_parts_somebody_names_replace_the_defaults(#[case] image: Value, #[case] expected: &str) {
        assert_eq!(resolve(&Image::default(), Some(&asked(image))).image, expected);
    }

    #[test]
    fn a_mirror_serves_the_same_digest() {
        let default = "docker.io/k8ssandra/medusa@sha256:0123".parse().unwrap();
        let pull = resolve(&default, Some(&asked(json!({"registry": "mirror"}))));
        assert_eq!(pull.image, "mirror/k8ssandra/medusa@sha256:0123");
    }

    #[test]
    fn policy_and_pull_secret_come_along() {
        let pull = resolve(&Image::default(), None);
        assert_eq!((pull.policy.as_str(), pull.secret), ("IfNotPresent", None));
        let image = asked(json!({"pullPolicy": "Always", "pullSecretRef": {"name": "registry"}}));
        let pull = resolve(&Image::default(), Some(&image));
        assert_eq!((pull.policy.as_str(), pull.secret.as_deref()), ("Always", Some("registry")));
    }
}
