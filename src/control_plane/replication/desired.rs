//! Which copies should be where. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{
    api::{Reason, Why, fleet::LOCAL, labels},
    control_plane::{
        sources::{SecretState, SourceObjects, datacenters_of, hash_configuration, secret_names, secret_of},
        view::ObjectKey,
    },
};

/// Kinds that are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CopyKind {
    /// `v1` Secret.
    Secret,
    /// `medusa.k8ssandra.io/v1alpha1` MedusaConfiguration.
    MedusaConfiguration,
}

/// A copy in some data plane.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CopyKey {
    /// Its kind.
    pub kind: CopyKind,
    /// Its namespace and name there.
    pub object: ObjectKey,
}

impl fmt::Display for CopyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            CopyKind::Secret => "Secret",
            CopyKind::MedusaConfiguration => "MedusaConfiguration",
        };
        write!(f, "{kind} {}", self.object)
    }
}

/// What a copy should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its source in the control plane, of the same kind.
    pub source: ObjectKey,
    /// The source's uid and content hash; `None` while the source has not been read: then the copy is
    /// neither written nor removed.
    pub content: Option<(String, String)>,
}

/// What is known of the data planes.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Data plane to the namespaces that host a datacenter there, as last seen.
    pub hosting: BTreeMap<String, BTreeSet<String>>,
    /// Data planes whose datacenters were all listed when this was taken.
    pub listed: BTreeSet<String>,
    /// Data plane to the namespaces in which pods may still use copies that nobody wants any more.
    pub held: BTreeMap<String, BTreeSet<String>>,
    /// Data planes that are being unregistered: nothing is wanted there, whoever lists them.
    pub leaving: BTreeSet<String>,
}

/// Every copy that should be, and who asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Data plane to its copies.
    pub copies: BTreeMap<String, BTreeMap<CopyKey, Wanted>>,
    /// MedusaConfiguration to the copies it asked for.
    pub claims: BTreeMap<ObjectKey, BTreeSet<(String, CopyKey)>>,
    /// MedusaConfiguration to what a person must mend about its targets.
    pub problems: BTreeMap<ObjectKey, Vec<Why>>,
    /// Data planes where a copy that is not wanted may be removed: every source was known, and every
    /// datacenter there.
    pub complete_for: BTreeSet<String>,
    /// Namespaces in which nothing is removed yet, by data plane.
    pub held: BTreeMap<String, BTreeSet<String>>,
}

/// Computes every copy (contract §4): for each K8ssandraCluster with `spec.medusa` its configuration and
/// Secrets into each cluster and namespace that hosts one of its datacenters; for each annotated
/// MedusaConfiguration it and its Secret into its targets.
#[must_use]
pub fn desired(sources: &SourceObjects, places: &Places) -> Desired {
    let mut desired = Desired { held: places.held.clone(), ..Desired::default() };
    if sources.complete() {
        desired.complete_for.clone_from(&places.listed);
    }
    for key in sources.configurations.items.keys() {
        desired.claims.entry(key.clone()).or_default();
    }
    for (key, cluster) in &sources.clusters.items {
        let Some(medusa) = &cluster.spec.medusa else { continue };
        let targets: BTreeSet<(String, String)> = datacenters_of(key, cluster)
            .into_iter()
            .map(|place| (place.plane, place.object.namespace))
            .filter(|(plane, _)| !places.leaving.contains(plane))
            .collect();
        let configuration = medusa.configuration().map(|name| ObjectKey::new(&key.namespace, name));
        for (plane, namespace) in &targets {
            if let Some(configuration) = &configuration {
                want_configuration(&mut desired, sources, configuration, plane, namespace);
            }
            for name in secret_names(cluster) {
                want_secret(
                    &mut desired,
                    sources,
                    None,
                    &ObjectKey::new(&key.namespace, name),
                    plane,
                    namespace,
                );
            }
        }
    }
    for (key, configuration) in &sources.configurations.items {
        let Some(annotation) =
            configuration.metadata.annotations.as_ref().and_then(|a| a.get(labels::TARGETS))
        else {
            continue;
        };
        let (targets, problems) = targets(annotation, places);
        if !problems.is_empty() {
            desired.problems.entry(key.clone()).or_default().extend(problems);
        }
        for (plane, namespace) in targets {
            want_configuration(&mut desired, sources, key, &plane, &namespace);
        }
    }
    desired
}

/// Reads a `targets` annotation: `*`, or `<dataPlane>/<namespace>` separated by commas or white space;
/// either side may be `*`, meaning every data plane, and every namespace there that hosts a datacenter.
fn targets(annotation: &str, places: &Places) -> (BTreeSet<(String, String)>, Vec<Why>) {
    let mut targets = BTreeSet::new();
    let mut problems = Vec::new();
    let words = annotation.split(|c: char| c == ',' || c.is_whitespace()).filter(|w| !w.is_empty());
    for word in words {
        let (plane, namespace) = match word.split_once('/') {
            _ if word == "*" => ("*", "*"),
            Some((plane, namespace))
                if !plane.is_empty() && !namespace.is_empty() && !namespace.contains('/') =>
            {
                (plane, namespace)
            }
            Some(_) | None => {
                problems.push(Why {
                    reason: Reason::InvalidTargets,
                    message: format!(
                        "annotation `{}` holds `{word}`; write `*` or `<dataPlane>/<namespace>`",
                        labels::TARGETS
                    ),
                });
                continue;
            }
        };
        if plane != "*" && !places.hosting.contains_key(plane) {
            problems.push(Why {
                reason: Reason::UnknownDataPlane,
                message: format!(
                    "annotation `{}` names data plane `{plane}`, which is not registered",
                    labels::TARGETS
                ),
            });
            continue;
        }
        for (name, hosting) in places.hosting.iter().filter(|(name, _)| plane == "*" || *name == plane) {
            if namespace == "*" {
                targets.extend(hosting.iter().map(|ns| (name.clone(), ns.clone())));
            } else {
                targets.insert((name.clone(), namespace.to_owned()));
            }
        }
    }
    (targets, problems)
}

fn want_configuration(
    desired: &mut Desired,
    sources: &SourceObjects,
    key: &ObjectKey,
    plane: &str,
    namespace: &str,
) {
    let Some(configuration) = sources.configurations.items.get(key) else { return };
    let content =
        configuration.metadata.uid.clone().map(|uid| (uid, hash_configuration(&configuration.spec)));
    want(desired, Some(key), CopyKind::MedusaConfiguration, key, content, plane, namespace);
    if let Some(secret) = secret_of(key, configuration) {
        want_secret(desired, sources, Some(key), &secret, plane, namespace);
    }
}

fn want_secret(
    desired: &mut Desired,
    sources: &SourceObjects,
    claimant: Option<&ObjectKey>,
    secret: &ObjectKey,
    plane: &str,
    namespace: &str,
) {
    let content = match sources.secrets.get(secret) {
        Some(SecretState::Read { uid, hash, .. }) => Some((uid.clone(), hash.clone())),
        Some(SecretState::Absent) => return,
        Some(SecretState::NotRead) | None => None,
    };
    want(desired, claimant, CopyKind::Secret, secret, content, plane, namespace);
}

fn want(
    desired: &mut Desired,
    claimant: Option<&ObjectKey>,
    kind: CopyKind,
    source: &ObjectKey,
    content: Option<(String, String)>,
    plane: &str,
    namespace: &str,
) {
    if plane == LOCAL && namespace == source.namespace {
        return; // The source is already there.
    }
    let key = CopyKey { kind, object: ObjectKey::new(namespace, &source.name) };
    let copies = desired.copies.entry(plane.to_owned()).or_default();
    let holder = copies.entry(key.clone()).or_insert_with(|| Wanted { source: source.clone(), content });
    if holder.source != *source {
        if let Some(claimant) = claimant {
            desired.problems.entry(claimant.clone()).or_default().push(Why {
                reason: Reason::NameConflict,
                message: format!("{key} in data plane `{plane}` is already the copy of {}", holder.source),
            });
        }
        return;
    }
    if let Some(claimant) = claimant {
        desired.claims.entry(claimant.clone()).or_default().insert((plane.to_owned(), key));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::{
        api::{k8ssandra::K8ssandraCluster, medusa::MedusaConfiguration},
        control_plane::sources::Standing,
    };

    fn configuration(targets: Option<&str>, secret: &str) -> Arc<MedusaConfiguration> {
        let mut annotations = serde_json::Map::new();
        if let Some(targets) = targets {
            annotations.insert(labels::TARGETS.to_owned(), json!(targets));
        }
        Arc::new(
            serde_json::from_value(json!({
                "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaConfiguration",
                "metadata": {"name": "s3", "namespace": "src", "uid": "c", "annotations": annotations},
                "spec": {"storageProperties": {"bucketName": "b", "storageSecretRef": {"name": secret}}}
            }))
            .unwrap(),
        )
    }

    fn sources(targets: Option<&str>) -> SourceObjects {
        let mut sources = SourceObjects {
            secrets: BTreeMap::from([(
                ObjectKey::new("src", "key"),
                SecretState::Read { uid: "s".into(), hash: "h".into(), keys: BTreeSet::new() },
            )]),
            secrets_listed: true,
            ..SourceObjects::default()
        };
        sources.configurations.standing = Standing::Listed;
        sources.configurations.items.insert(ObjectKey::new("src", "s3"), configuration(targets, "key"));
        sources.clusters.standing = Standing::Listed;
        sources
    }

    fn places() -> Places {
        let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        Places {
            hosting: BTreeMap::from([
                ("eu".to_owned(), set(&["cass", "src"])),
                ("us".to_owned(), set(&[])),
                (LOCAL.to_owned(), set(&["src"])),
            ]),
            listed: set(&["eu", "us", LOCAL]),
            ..Places::default()
        }
    }

    fn planned(desired: &Desired) -> Vec<String> {
        desired.copies.iter().flat_map(|(p, c)| c.keys().map(move |k| format!("{p}: {k}"))).collect()
    }

    #[test]
    fn a_star_reaches_every_namespace_that_hosts_a_datacenter() {
        let desired = desired(&sources(Some("*")), &places());
        assert_eq!(
            planned(&desired),
            [
                "eu: Secret cass/key",
                "eu: Secret src/key",
                "eu: MedusaConfiguration cass/s3",
                "eu: MedusaConfiguration src/s3"
            ]
        );
    }

    #[test]
    fn a_list_reaches_what_it_names_and_says_what_it_cannot_read() {
        let desired = desired(&sources(Some("us/backup, nowhere/x bad a/b/c")), &places());
        assert_eq!(planned(&desired), ["us: Secret backup/key", "us: MedusaConfiguration backup/s3"]);
        let problems = &desired.problems[&ObjectKey::new("src", "s3")];
        let reasons: Vec<_> = problems.iter().map(|p| p.reason).collect();
        assert_eq!(reasons, [Reason::UnknownDataPlane, Reason::InvalidTargets, Reason::InvalidTargets]);
    }

    #[test]
    fn without_annotation_or_cluster_nothing_is_copied() {
        assert!(planned(&desired(&sources(None), &places())).is_empty());
    }

    #[test]
    fn a_cluster_brings_its_configuration_and_secrets_to_its_datacenters() {
        let mut sources = sources(None);
        let cluster: K8ssandraCluster = serde_json::from_value(json!({
            "apiVersion": "k8ssandra.io/v1alpha1", "kind": "K8ssandraCluster",
            "metadata": {"name": "demo", "namespace": "src"},
            "spec": {
                "cassandra": {"datacenters": [
                    {"metadata": {"name": "dc1"}},
                    {"metadata": {"name": "dc2", "namespace": "cass"}, "k8sContext": "eu"}
                ]},
                "medusa": {
                    "medusaConfigurationRef": {"name": "s3"},
                    "cassandraUserSecretRef": {"name": "user"},
                    "storageProperties": {"prefix": "demo"}
                }
            }
        }))
        .unwrap();
        sources.clusters.items.insert(ObjectKey::new("src", "demo"), Arc::new(cluster));
        let desired = desired(&sources, &places());
        assert_eq!(
            planned(&desired),
            ["eu: Secret cass/key", "eu: Secret cass/user", "eu: MedusaConfiguration cass/s3"]
        );
        let user = CopyKey { kind: CopyKind::Secret, object: ObjectKey::new("cass", "user") };
        assert_eq!(desired.copies["eu"][&user].content, None, "not read yet, so neither written nor removed");

        let leaving = Places { leaving: BTreeSet::from(["eu".to_owned()]), ..places() };
        assert_eq!(planned(&super::desired(&sources, &leaving)), Vec::<String>::new(), "it is unregistered");
    }

    #[test]
    fn a_source_secret_that_is_gone_is_not_wanted_anywhere() {
        let mut sources = sources(Some("us/backup"));
        sources.secrets.insert(ObjectKey::new("src", "key"), SecretState::Absent);
        assert_eq!(planned(&desired(&sources, &places())), ["us: MedusaConfiguration backup/s3"]);
    }
}
