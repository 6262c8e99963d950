//! Which copies should be where. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use super::targets::targets;
use crate::{
    api::{Reason, Why, fleet::LOCAL, labels, names},
    control_plane::{
        data_planes::{copies::hash_configuration, view::ObjectKey},
        sources::{Copyable, SourceObjects, datacenters_of, secret_names, secret_of},
    },
};

/// Longest word of somebody else in a message.
pub(super) const SHOWN: usize = 80;

/// Kinds that are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CopyKind {
    Secret,
    MedusaConfiguration,
}

/// A copy in some data plane.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CopyKey {
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
    /// Data plane to the namespaces in which Medusa is being taken out, each with the namespace of a K8ssandraCluster that
    /// had it there: what was copied for that one stays.
    pub ending: BTreeMap<String, BTreeSet<(String, String)>>,
    /// Data planes that are being unregistered: nothing is wanted there, whoever lists them.
    pub leaving: BTreeSet<String>,
    /// Data plane to the namespaces that are worked in; every one where none is named.
    pub within: BTreeMap<String, Arc<BTreeSet<String>>>,
}

impl Places {
    /// Whether a namespace of a data plane is worked in: what is in another is not seen.
    fn are_within(&self, plane: &str, namespace: &str) -> bool {
        self.within.get(plane).is_none_or(|within| within.is_empty() || within.contains(namespace))
    }
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
    /// K8ssandraCluster to what a person must mend about what it refers to, and where.
    pub cluster_problems: BTreeMap<ObjectKey, Vec<Why>>,
    /// Data planes where a copy that is not wanted may be removed: every source was known, and every
    /// datacenter there.
    pub complete_for: BTreeSet<String>,
    /// Namespaces in which nothing is removed yet, by data plane.
    pub held: BTreeMap<String, BTreeSet<String>>,
    /// Namespaces in which nothing is removed yet that comes from these, by data plane.
    pub ending: BTreeMap<String, BTreeSet<(String, String)>>,
    /// Data planes that are being unregistered.
    pub leaving: BTreeSet<String>,
    /// Sources whose copies stay, wanted or not: what cannot be read may ask for them.
    pub in_doubt: BTreeSet<ObjectKey>,
    /// Secrets whose copies are taken back at once, whoever uses them.
    pub ways_in: BTreeSet<ObjectKey>,
}

/// Computes every copy (docs/medusaconfiguration.md): for each K8ssandraCluster with `spec.medusa` its configuration and
/// Secrets into each cluster and namespace that hosts one of its datacenters; for each annotated
/// MedusaConfiguration it and its Secret into its targets.
#[must_use]
pub fn desired(sources: &SourceObjects, places: &Places) -> Desired {
    let mut desired = Desired {
        held: places.held.clone(),
        ending: places.ending.clone(),
        leaving: places.leaving.clone(),
        in_doubt: sources.in_doubt(),
        ways_in: sources.ways_in(),
        ..Desired::default()
    };
    let known = sources.complete();
    desired.complete_for =
        places.listed.iter().filter(|p| known || places.leaving.contains(*p)).cloned().collect();
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
        let mut asked = Asked { desired: &mut desired, sources, places, cluster: Some(key) };
        for (plane, namespace) in &targets {
            if !names::is_namespace(namespace) {
                let message = format!(
                    "spec.cassandra.datacenters: no namespace can be called `{}`; correct `metadata.namespace`",
                    names::shown(namespace, SHOWN)
                );
                asked.tell(None, Why::new(Reason::InvalidSpec, message));
                continue;
            }
            if let Some(configuration) = &configuration {
                asked.want_configuration(configuration, plane, namespace);
            }
            for name in secret_names(cluster) {
                asked.want_secret(None, &ObjectKey::new(&key.namespace, name), plane, namespace);
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
        let mut asked = Asked { desired: &mut desired, sources, places, cluster: None };
        for problem in problems {
            asked.tell(Some(key), problem);
        }
        for (plane, namespace) in targets {
            asked.want_configuration(key, &plane, &namespace);
        }
    }
    desired
}

/// What one MedusaConfiguration or K8ssandraCluster asks for.
struct Asked<'a> {
    desired: &'a mut Desired,
    sources: &'a SourceObjects,
    places: &'a Places,
    /// The K8ssandraCluster that asks, if one does.
    cluster: Option<&'a ObjectKey>,
}

impl Asked<'_> {
    /// Notes what a person must mend: on the MedusaConfiguration it is about, and on who asks.
    fn tell(&mut self, configuration: Option<&ObjectKey>, why: Why) {
        let add = |list: &mut Vec<Why>, why: Why| {
            if !list.contains(&why) {
                list.push(why);
            }
        };
        if let Some(key) = configuration {
            add(self.desired.problems.entry(key.clone()).or_default(), why.clone());
        }
        if let Some(key) = self.cluster {
            add(self.desired.cluster_problems.entry(key.clone()).or_default(), why);
        }
    }

    fn want_configuration(&mut self, key: &ObjectKey, plane: &str, namespace: &str) {
        let Some(configuration) = self.sources.configurations.items.get(key) else { return };
        let content =
            configuration.metadata.uid.clone().map(|uid| (uid, hash_configuration(&configuration.spec)));
        self.want(Some(key), CopyKind::MedusaConfiguration, key, content, plane, namespace);
        if let Some(secret) = secret_of(key, configuration) {
            self.want_secret(Some(key), &secret, plane, namespace);
        }
    }

    fn want_secret(
        &mut self,
        claimant: Option<&ObjectKey>,
        secret: &ObjectKey,
        plane: &str,
        namespace: &str,
    ) {
        if is_at_its_source(secret, plane, namespace) {
            return;
        }
        let content = match self.sources.copyable(secret) {
            Copyable::Yes { uid, hash } => Some((uid, hash)),
            Copyable::Absent => return,
            Copyable::Unknown => None,
            Copyable::InDoubt(why) => {
                self.tell(claimant, why);
                None
            }
            Copyable::Never { why, .. } => return self.tell(claimant, why),
        };
        self.want(claimant, CopyKind::Secret, secret, content, plane, namespace);
    }

    fn want(
        &mut self,
        claimant: Option<&ObjectKey>,
        kind: CopyKind,
        source: &ObjectKey,
        content: Option<(String, String)>,
        plane: &str,
        namespace: &str,
    ) {
        if is_at_its_source(source, plane, namespace) {
            return;
        }
        if let Some(why) = self.sources.target_refusal(namespace) {
            let fix = match self.cluster {
                Some(_) => {
                    "put the datacenter into another namespace (spec.cassandra.datacenters)".to_owned()
                }
                None => format!("take it out of annotation `{}`", labels::TARGETS),
            };
            let message = format!(
                "nothing is copied into namespace `{namespace}` of data plane `{plane}`: {why}; {fix}"
            );
            return self.tell(claimant, Why::new(Reason::TargetRefused, message));
        }
        if !self.places.are_within(plane, namespace) {
            let message = format!(
                "nothing is copied into namespace `{namespace}` of data plane `{plane}`: it is none of those that its \
                 DataPlane works in; name it in `spec.namespaces` there, and grant the rights in it"
            );
            return self.tell(claimant, Why::new(Reason::TargetRefused, message));
        }
        let key = CopyKey { kind, object: ObjectKey::new(namespace, &source.name) };
        let copies = self.desired.copies.entry(plane.to_owned()).or_default();
        let holder = copies.entry(key.clone()).or_insert_with(|| Wanted { source: source.clone(), content });
        if holder.source != *source {
            let message = format!("{key} in data plane `{plane}` is already the copy of {}", holder.source);
            return self.tell(claimant, Why::new(Reason::NameConflict, message));
        }
        if let Some(claimant) = claimant {
            self.desired.claims.entry(claimant.clone()).or_default().insert((plane.to_owned(), key));
        }
    }
}

/// Whether the place is where the source itself is.
fn is_at_its_source(source: &ObjectKey, plane: &str, namespace: &str) -> bool {
    plane == LOCAL && namespace == source.namespace
}

#[cfg(test)]
#[path = "desired_tests.rs"]
mod tests;
