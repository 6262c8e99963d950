//! The Secrets a datacenter's Medusa needs, and whether they are in place: nothing of a datacenter is written before
//! all are (upstream: Secrets). Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::{
        Reason, Why,
        k8ssandra::{DatacenterTemplate, EncryptionStores, K8ssandraCluster},
        medusa::CREDENTIALS_KEY,
    },
    control_plane::{
        data_planes::{records::CopyRecord, view::ObjectKey},
        sources::{Copyable, SecretState, user_secret},
    },
};

/// Keys of a Secret with a certificate and its key.
const TLS_KEYS: [&str; 3] = ["ca.crt", "tls.crt", "tls.key"];
/// Keys of `certificatesSecretRef` (upstream: spec.medusa).
const CERTIFICATES_KEYS: [&str; 3] = ["rootca.crt", "client.crt_signed", "client.key"];

/// A Secret that Medusa's pods, or who calls them, cannot do without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    pub name: String,
    /// Keys it must have, with values.
    pub keys: BTreeSet<String>,
    /// The field that names it.
    pub field: &'static str,
    /// Whether pods read it only when they start, so that they restart when it changes.
    pub restarts: bool,
}

/// Whether a needed Secret is where it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// It is, with this content hash.
    InPlace(String),
    /// No copy of ours is there: it has to be looked for in the data plane.
    Ask,
    /// It is on its way, or not known yet.
    Wait(Why),
    /// A person has to make or mend it.
    Missing(Why),
}

/// Whether a Secret is not in place yet although nobody has to mend anything: the datacenters after it wait for that. Whatever
/// else keeps it away, such as a refusal of that data plane, somebody has to mend, and no other datacenter waits for that.
#[must_use]
pub fn is_on_its_way(why: &Why) -> bool {
    [Reason::Replicating, Reason::Connecting, Reason::DataPlaneUnreachable].contains(&why.reason)
}

/// Every Secret Medusa in `datacenter` needs, each once. `storage` is the bucket's, where there is one.
#[must_use]
pub fn needed(
    cluster: &K8ssandraCluster,
    datacenter: &DatacenterTemplate,
    storage: Option<&str>,
) -> Vec<Needed> {
    let Some(medusa) = &cluster.spec.medusa else { return Vec::new() };
    let mut list: Vec<Needed> = Vec::new();
    let mut need = |name: &str, keys: &[&str], field: &'static str, restarts: bool| {
        if name.is_empty() {
            return;
        }
        let keys = keys.iter().map(|key| (*key).to_owned());
        match list.iter_mut().find(|known| known.name == name) {
            Some(known) => {
                known.keys.extend(keys);
                known.restarts |= restarts;
            }
            None => list.push(Needed { name: name.to_owned(), keys: keys.collect(), field, restarts }),
        }
    };
    if let Some(storage) = storage {
        need(storage, &[CREDENTIALS_KEY], "storageProperties.storageSecretRef", false);
    }
    if let Some(user) = user_secret(cluster) {
        need(&user, &["username", "password"], "cassandraUserSecretRef", true);
    }
    if !cluster.secrets_are_external() {
        match &medusa.certificates_secret_ref {
            Some(certificates) if !certificates.name.is_empty() => {
                need(&certificates.name, &CERTIFICATES_KEYS, "certificatesSecretRef", false);
            }
            Some(_) | None => {
                for (_, store) in medusa.client_encryption_stores.iter().flat_map(EncryptionStores::keys) {
                    let key = store.key.as_deref().filter(|key| !key.is_empty());
                    need(&store.name, key.as_slice(), "clientEncryptionStores", false);
                }
            }
        }
    }
    if let Some(encryption) = medusa.encryption() {
        need(
            &encryption.server_secret_name,
            &TLS_KEYS,
            "serviceProperties.encryption.serverSecretName",
            true,
        );
        need(
            &encryption.client_secret_name,
            &TLS_KEYS,
            "serviceProperties.encryption.clientSecretName",
            false,
        );
    }
    if let Some(auth) = cluster.management_api_auth(datacenter) {
        need(&auth.client_secret_name, &TLS_KEYS, "managementApiAuth.manual.clientSecretName", false);
    }
    let pull = medusa.container_image.as_ref().and_then(|image| image.pull_secret_ref.as_ref());
    if let Some(pull) = pull {
        need(&pull.name, &[], "containerImage.pullSecretRef", false);
    }
    list
}

/// Where a needed Secret has to be.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub plane: &'a str,
    /// Namespace and name there.
    pub object: &'a ObjectKey,
    /// Whether that is where its source is.
    pub is_source: bool,
}

/// Judges a Secret by its source in the control plane, whether that may be copied, and its copy at `target`; a target
/// that is the source's own place needs no copy.
#[must_use]
pub fn check(
    needed: &Needed,
    source: Option<&SecretState>,
    copyable: &Copyable,
    copy: Option<&CopyRecord>,
    target: Target<'_>,
) -> Check {
    if let Copyable::Never { why, takes_back } = copyable {
        // A way into a cluster is nothing for Medusa's pods, wherever they are.
        if *takes_back || copy.is_some() || why.reason == Reason::InvalidSpec {
            return Check::Missing(refused(needed, why));
        }
        if !target.is_source {
            return Check::Ask;
        }
    }
    match source {
        None | Some(SecretState::NotRead) => {
            let message = format!("Secret `{}` was not read yet", needed.name);
            Check::Wait(Why::new(Reason::Connecting, message))
        }
        Some(SecretState::Absent) if target.is_source => missing(needed, target),
        Some(SecretState::Absent) => match copy {
            // It is being taken back.
            Some(_) => missing(needed, target),
            None => Check::Ask,
        },
        Some(SecretState::Read { uid, hash, keys, .. }) => {
            if let Some(lacking) = lacking(needed, keys, "the control plane", target.object) {
                return Check::Missing(lacking);
            }
            let in_place =
                |c: &CopyRecord| c.source_uid == *uid && c.declared_hash == *hash && c.content_hash == *hash;
            match copy {
                _ if target.is_source => Check::InPlace(hash.clone()),
                Some(copy) if in_place(copy) => Check::InPlace(hash.clone()),
                Some(_) => Check::Wait(replicating(needed, target)),
                None => Check::Ask,
            }
        }
    }
}

/// Judges a Secret of which the data plane has no copy of ours, by its keys and content hash there. What holds the same
/// as its source is as good as a copy, whoever made it.
#[must_use]
pub fn check_found(
    needed: &Needed,
    copyable: &Copyable,
    found: Option<(BTreeSet<String>, String)>,
    target: Target<'_>,
) -> Check {
    match (copyable, found) {
        (Copyable::Yes { hash, .. }, Some((_, held))) if *hash == held => Check::InPlace(held),
        (Copyable::Yes { .. }, Some(_)) => Check::Missing(Why::new(
            Reason::NameConflict,
            format!(
                "Secret `{}` ({}) in namespace `{}` of data plane `{}` is somebody else's, and not the same as beside \
                 the K8ssandraCluster: make the two equal, or name another",
                needed.name, needed.field, target.object.namespace, target.plane
            ),
        )),
        (Copyable::Yes { .. }, None) | (Copyable::Unknown, _) => Check::Wait(replicating(needed, target)),
        (Copyable::InDoubt(why), _) => Check::Wait(refused(needed, why)),
        (Copyable::Never { why, .. }, None) => Check::Missing(refused(needed, why)),
        (Copyable::Absent, None) => missing(needed, target),
        (Copyable::Absent | Copyable::Never { .. }, Some((keys, hash))) => {
            match lacking(needed, &keys, &format!("data plane `{}`", target.plane), target.object) {
                Some(why) => Check::Missing(why),
                None => Check::InPlace(hash),
            }
        }
    }
}

fn refused(needed: &Needed, why: &Why) -> Why {
    Why::new(why.reason, format!("{}: {}", needed.field, why.message))
}

fn replicating(needed: &Needed, target: Target<'_>) -> Why {
    let message = format!(
        "Secret `{}` is not yet copied into namespace `{}` of data plane `{}`",
        needed.name, target.object.namespace, target.plane
    );
    Why::new(Reason::Replicating, message)
}

fn missing(needed: &Needed, target: Target<'_>) -> Check {
    let keys = quoted(needed.keys.iter());
    let with = if keys.is_empty() { String::new() } else { format!(" with {keys}") };
    let message = format!(
        "Secret `{}` ({}) does not exist: create it{with} beside the K8ssandraCluster, or in namespace `{}` of data \
         plane `{}`",
        needed.name, needed.field, target.object.namespace, target.plane
    );
    Check::Missing(Why::new(Reason::SecretNotFound, message))
}

fn lacking(needed: &Needed, keys: &BTreeSet<String>, place: &str, target: &ObjectKey) -> Option<Why> {
    let lacking = quoted(needed.keys.difference(keys));
    (!lacking.is_empty()).then(|| Why {
        reason: Reason::SecretKeyMissing,
        message: format!(
            "Secret `{}` ({}) in {place} has no {lacking}, which Medusa in namespace `{}` reads: add it",
            needed.name, needed.field, target.namespace
        ),
    })
}

fn quoted<'a>(keys: impl Iterator<Item = &'a String>) -> String {
    keys.map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}

/// What the checks of a datacenter's Secrets come to: hashes by name when all are in place, else the worst of them.
///
/// # Errors
/// The why, and whether it heals by itself.
pub fn all_in_place(checks: Vec<(Needed, Check)>) -> Result<InPlace, (Why, bool)> {
    let mut in_place = InPlace::default();
    let mut waits: Option<Why> = None;
    // What somebody has to mend is told before what comes by itself.
    let mut wait = |why: Why| {
        if waits.as_ref().is_none_or(is_on_its_way) {
            waits = Some(why);
        }
    };
    for (needed, check) in checks {
        match check {
            Check::InPlace(hash) => {
                if needed.restarts {
                    in_place.restarting.insert(needed.name.clone(), hash.clone());
                }
                in_place.all.insert(needed.name, hash);
            }
            Check::Missing(why) => return Err((why, false)),
            Check::Wait(why) => wait(why),
            Check::Ask => {
                let message = format!("Secret `{}` was not looked for yet", needed.name);
                wait(Why::new(Reason::Connecting, message));
            }
        }
    }
    waits.map_or(Ok(in_place), |why| Err((why, true)))
}

/// Content hashes of Secrets that are in place, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InPlace {
    pub all: BTreeMap<String, String>,
    /// Those that pods read only when they start.
    pub restarting: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn cluster(medusa: Value, cassandra: Value) -> K8ssandraCluster {
        let mut cassandra = cassandra;
        cassandra["datacenters"] = json!([{"metadata": {"name": "dc1"}}]);
        serde_json::from_value(json!({
            "apiVersion": "k8ssandra.io/v1alpha1", "kind": "K8ssandraCluster",
            "metadata": {"name": "shop", "namespace": "src"}, "spec": {"cassandra": cassandra, "medusa": medusa},
        }))
        .unwrap()
    }

    fn names_of(cluster: &K8ssandraCluster, storage: Option<&str>) -> Vec<String> {
        let list = needed(cluster, cluster.datacenters().next().unwrap(), storage);
        list.into_iter().map(|n| format!("{} {}", n.name, Vec::from_iter(n.keys).join(","))).collect()
    }

    fn bucket() -> Needed {
        let keys = BTreeSet::from([CREDENTIALS_KEY.to_owned()]);
        Needed {
            name: "bucket".to_owned(),
            keys,
            field: "storageProperties.storageSecretRef",
            restarts: false,
        }
    }

    fn read(keys: &[&str]) -> SecretState {
        let keys = keys.iter().map(|k| (*k).to_owned()).collect();
        SecretState::Read { uid: "u".to_owned(), hash: "h".to_owned(), keys, never: None }
    }

    fn yes() -> Copyable {
        Copyable::Yes { uid: "u".to_owned(), hash: "h".to_owned() }
    }

    fn never(reason: Reason, takes_back: bool) -> Copyable {
        Copyable::Never { why: Why::new(reason, "it is of type `x`"), takes_back }
    }

    fn copy(hash: &str) -> CopyRecord {
        CopyRecord {
            source_uid: "u".to_owned(),
            declared_hash: "h".to_owned(),
            content_hash: hash.to_owned(),
            ..CopyRecord::default()
        }
    }

    #[test]
    fn every_secret_is_needed_with_the_keys_that_are_read() {
        let encrypted = json!({"config": {"cassandraYaml": {"client_encryption_options": {"enabled": true}}},
            "managementApiAuth": {"manual": {"clientSecretName": "mgmt", "serverSecretName": "s"}}});
        let medusa = json!({
            "certificatesSecretRef": {"name": "certs"},
            "serviceProperties": {"encryption": {"clientSecretName": "client", "serverSecretName": "server"}},
            "containerImage": {"pullSecretRef": {"name": "pull"}},
        });
        assert_eq!(
            names_of(&cluster(medusa, encrypted.clone()), Some("bucket")),
            [
                "bucket credentials",
                "shop-medusa password,username",
                "certs client.crt_signed,client.key,rootca.crt",
                "server ca.crt,tls.crt,tls.key",
                "client ca.crt,tls.crt,tls.key",
                "mgmt ca.crt,tls.crt,tls.key",
                "pull ",
            ]
        );
        let stores = json!({"clientEncryptionStores": {
            "keystoreSecretRef": {"name": "stores", "key": "ca"},
            "truststoreSecretRef": {"name": "stores", "key": "cert"},
        }});
        let stores = cluster(stores, encrypted);
        assert_eq!(names_of(&stores, None)[1], "stores ca,cert");
        assert_eq!(names_of(&cluster(json!({}), json!({})), None), ["shop-medusa password,username"]);
    }

    #[test]
    fn a_source_counts_when_its_copy_is_in_place() {
        let target = ObjectKey::new("cass", "bucket");
        let judge = |source: &SecretState, copy: Option<&CopyRecord>, is_source: bool| {
            check(&bucket(), Some(source), &yes(), copy, Target { plane: "eu", object: &target, is_source })
        };
        let whole = read(&["credentials"]);
        assert_eq!(judge(&whole, Some(&copy("h")), false), Check::InPlace("h".to_owned()));
        assert_eq!(judge(&whole, None, true), Check::InPlace("h".to_owned()));
        assert_eq!(judge(&whole, None, false), Check::Ask, "somebody else may have put it there");
        assert!(matches!(judge(&whole, Some(&copy("old")), false), Check::Wait(_)));
        assert!(matches!(judge(&SecretState::NotRead, Some(&copy("h")), false), Check::Wait(_)));
        let Check::Missing(why) = judge(&read(&["credential"]), Some(&copy("h")), false) else { panic!() };
        assert_eq!(why.reason, Reason::SecretKeyMissing);
        assert!(why.message.contains("`bucket`") && why.message.contains("`credentials`"));
        let Check::Missing(why) = judge(&SecretState::Absent, None, true) else { panic!() };
        assert_eq!(why.reason, Reason::SecretNotFound);
        assert!(why.message.contains("`cass`") && why.message.contains("`eu`"), "{}", why.message);
        assert!(matches!(judge(&SecretState::Absent, Some(&copy("h")), false), Check::Missing(_)));
    }

    #[test]
    fn without_a_source_one_that_is_there_counts_when_it_has_the_keys() {
        let object = ObjectKey::new("cass", "bucket");
        let target = Target { plane: "eu", object: &object, is_source: false };
        let judge = |found| check_found(&bucket(), &Copyable::Absent, found, target);
        assert_eq!(check(&bucket(), Some(&SecretState::Absent), &Copyable::Absent, None, target), Check::Ask);
        let found = (BTreeSet::from(["credentials".to_owned()]), "x".to_owned());
        assert_eq!(judge(Some(found)), Check::InPlace("x".to_owned()));
        assert!(matches!(judge(Some((BTreeSet::new(), "x".to_owned()))), Check::Missing(_)));
        assert!(matches!(judge(None), Check::Missing(_)));
    }

    #[test]
    fn one_that_somebody_else_put_there_with_the_same_content_is_in_place() {
        let object = ObjectKey::new("cass", "bucket");
        let target = Target { plane: "eu", object: &object, is_source: false };
        let found = |hash: &str| Some((BTreeSet::from(["credentials".to_owned()]), hash.to_owned()));
        let judge = |found| check_found(&bucket(), &yes(), found, target);
        assert_eq!(judge(found("h")), Check::InPlace("h".to_owned()));
        let Check::Missing(why) = judge(found("other")) else { panic!() };
        assert_eq!(why.reason, Reason::NameConflict);
        assert!(!why.message.contains("delete"), "{}", why.message);
        assert!(matches!(judge(None), Check::Wait(why) if why.reason == Reason::Replicating));
    }

    #[test]
    fn one_that_is_never_copied_is_made_by_hand_or_refused() {
        let object = ObjectKey::new("cass", "bucket");
        let at = |is_source| Target { plane: "eu", object: &object, is_source };
        let judge = |copyable: &Copyable, copy: Option<&CopyRecord>, is_source| {
            check(&bucket(), Some(&read(&["credentials"])), copyable, copy, at(is_source))
        };
        let (type_, way_in) = (never(Reason::SecretRefused, false), never(Reason::SecretRefused, true));
        assert_eq!(judge(&type_, None, false), Check::Ask);
        assert_eq!(judge(&type_, None, true), Check::InPlace("h".to_owned()), "nothing is copied");
        for check in [
            judge(&type_, Some(&copy("h")), false),
            judge(&way_in, None, false),
            judge(&way_in, None, true),
            judge(&never(Reason::InvalidSpec, false), None, true),
            check_found(&bucket(), &type_, None, at(false)),
        ] {
            let Check::Missing(why) = check else { panic!("{check:?}") };
            assert!(why.message.starts_with("storageProperties.storageSecretRef: it is of type"), "{why:?}");
        }
        let found = (BTreeSet::from(["credentials".to_owned()]), "x".to_owned());
        assert_eq!(check_found(&bucket(), &type_, Some(found), at(false)), Check::InPlace("x".to_owned()));
    }

    #[test]
    fn what_a_person_must_mend_is_told_before_what_heals() {
        let wait = Check::Wait(Why { reason: Reason::Replicating, message: String::new() });
        let missing = Check::Missing(Why { reason: Reason::SecretNotFound, message: String::new() });
        let checks = vec![(bucket(), wait.clone()), (bucket(), missing)];
        assert_eq!(all_in_place(checks).unwrap_err().0.reason, Reason::SecretNotFound);
        let denied = Check::Wait(Why { reason: Reason::DeniedByPolicy, message: String::new() });
        for checks in [
            [denied.clone(), wait.clone()],
            [wait.clone(), denied.clone()],
            [Check::Ask, denied.clone()],
            [denied, Check::Ask],
        ] {
            let (why, heals) = all_in_place(checks.map(|check| (bucket(), check)).into()).unwrap_err();
            assert_eq!((why.reason, heals), (Reason::DeniedByPolicy, true));
        }
        assert!(all_in_place(vec![(bucket(), wait), (bucket(), Check::InPlace("h".into()))]).unwrap_err().1);
    }

    #[test]
    fn what_pods_read_only_when_they_start_is_told_apart() {
        let user = Needed { name: "user".to_owned(), restarts: true, ..bucket() };
        let checks = vec![(bucket(), Check::InPlace("a".into())), (user, Check::InPlace("u".into()))];
        let in_place = all_in_place(checks).unwrap();
        assert_eq!(in_place.all.len(), 2);
        assert_eq!(
            in_place.restarting.keys().collect::<Vec<_>>(),
            ["user"],
            "the kubelet renews the bucket's"
        );
    }
}
