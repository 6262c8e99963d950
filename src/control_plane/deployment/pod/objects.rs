//! What else is made for Medusa: the Secret of its user, and the volume for backups of the `local` provider. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Secret},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::Resource as _;
use serde_json::json;

use crate::{
    api::{k8ssandra::K8ssandraCluster, labels, medusa::PodStorage},
    control_plane::{data_planes::view::ObjectKey, identity::Identity},
};

/// Characters of a password: upstream's (upstream: Rules for Medusa in a datacenter), 63 of them.
const ALPHABET: &[u8] = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const PASSWORD: usize = 20;

/// Random bytes that a password is made of: enough that nearly always enough of them are below a multiple of the
/// number of characters.
pub const ENTROPY: usize = 64;

/// A password from random bytes; `None` when too few of them can be used without preferring some characters.
#[must_use]
pub fn password(random: &[u8]) -> Option<String> {
    let limit = 256 / ALPHABET.len() * ALPHABET.len();
    let text: String = random
        .iter()
        .filter(|byte| usize::from(**byte) < limit)
        .filter_map(|byte| ALPHABET.get(usize::from(*byte) % ALPHABET.len()))
        .take(PASSWORD)
        .map(|byte| char::from(*byte))
        .collect();
    (text.len() == PASSWORD).then_some(text)
}

/// Whether `text` is a password as [`password`] makes them.
#[must_use]
pub fn is_password(text: &str) -> bool {
    text.len() == PASSWORD && text.bytes().all(|byte| ALPHABET.contains(&byte))
}

/// The Secret of Medusa's user, beside the K8ssandraCluster and going with it.
#[must_use]
pub fn user(cluster: &K8ssandraCluster, namespace: &str, name: &str, password: &str) -> Secret {
    let owner = OwnerReference {
        api_version: K8ssandraCluster::api_version(&()).into_owned(),
        kind: K8ssandraCluster::kind(&()).into_owned(),
        name: cluster.metadata.name.clone().unwrap_or_default(),
        uid: cluster.metadata.uid.clone().unwrap_or_default(),
        controller: None,
        block_owner_deletion: None,
    };
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        string_data: Some(BTreeMap::from([
            ("username".to_owned(), name.to_owned()),
            ("password".to_owned(), password.to_owned()),
        ])),
        ..Secret::default()
    }
}

/// Name of the volume with the backups of a datacenter, with the `local` provider.
#[must_use]
pub fn claim_name(sanitized: &str, datacenter: &str) -> String {
    format!("{sanitized}-{datacenter}-medusa")
}

/// That volume's claim; `storage` has every field filled. Nobody owns it: backups outlive what was backed up.
#[must_use]
pub fn claim(
    place: &ObjectKey,
    source: &ObjectKey,
    source_uid: &str,
    control_plane: &Identity,
    storage: &PodStorage,
) -> Option<PersistentVolumeClaim> {
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": place.name, "namespace": place.namespace,
            "labels": BTreeMap::from([control_plane.label()]),
            "annotations": {labels::SOURCE: source.to_string(), labels::SOURCE_UID: source_uid},
        },
        "spec": {
            "storageClassName": storage.storage_class_name, "accessModes": storage.access_modes,
            "resources": {"requests": {"storage": storage.size}},
        },
    });
    serde_json::from_value(claim).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_of_upstreams_shape_and_prefers_no_character() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(password(&bytes).unwrap(), "-0123456789ABCDEFGHI");
        assert!(
            is_password("-0123456789ABCDEFGHI")
                && !is_password("short")
                && !is_password("x'; DROP USER a --__")
        );
        assert_eq!(password(&[255; 64]), None, "bytes beyond the last multiple are not used");
        let usable: Vec<usize> = (0..252_usize).map(|byte| byte % ALPHABET.len()).collect();
        assert!((0..ALPHABET.len()).all(|c| usable.iter().filter(|u| **u == c).count() == 4));
    }

    #[test]
    fn the_user_goes_with_its_cluster_and_is_no_copy() {
        let cluster: K8ssandraCluster = serde_json::from_value(json!({
            "apiVersion": "k8ssandra.io/v1alpha1", "kind": "K8ssandraCluster",
            "metadata": {"name": "shop", "namespace": "src", "uid": "u"}, "spec": {},
        }))
        .unwrap();
        let secret = user(&cluster, "src", "shop-medusa", "p");
        assert!(secret.metadata.labels.is_none(), "the copy's label would have it taken back");
        assert_eq!(secret.metadata.owner_references.unwrap()[0].uid, "u");
        assert_eq!(secret.string_data.unwrap()["username"], "shop-medusa");
    }

    #[test]
    fn a_claim_asks_for_what_was_said() {
        let storage: PodStorage = serde_json::from_value(json!({
            "size": "100Mi", "storageClassName": "standard", "accessModes": ["ReadWriteOnce"],
        }))
        .unwrap();
        let (place, source) = (ObjectKey::new("cass", "shop-dc1-medusa"), ObjectKey::new("src", "shop"));
        let claim = claim(&place, &source, "u", &Identity::named("cp"), &storage).unwrap();
        let spec = claim.spec.unwrap();
        assert_eq!(spec.access_modes.unwrap(), ["ReadWriteOnce"]);
        assert_eq!(spec.resources.unwrap().requests.unwrap()["storage"].0, "100Mi");
        assert!(claim.metadata.owner_references.is_none());
    }
}
