//! The sources as plain data, and what K8ssandraClusters list and refer to. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{guard::Never, malformed::Malformed};
use crate::{
    api::{
        fleet::LOCAL,
        k8ssandra::{ClientConfig, K8ssandraCluster},
        medusa::{MedusaConfiguration, Storage},
        names,
    },
    control_plane::data_planes::{
        membership::{DatacenterPlace, ListedDatacenters},
        view::ObjectKey,
    },
};

/// A source Secret as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretState {
    NotRead,
    Absent,
    Read {
        uid: String,
        /// Hash of its content.
        hash: String,
        keys: BTreeSet<String>,
        /// Why it is none that is copied.
        never: Option<Never>,
    },
}

/// What is known of a kind as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nothing yet.
    #[default]
    NotListed,
    Listed,
    /// Its definition is not installed: there are no objects, but that nobody wants any is not said.
    NotServed,
    /// We may not list it.
    Forbidden,
}

/// The objects of one kind.
#[derive(Clone, Debug)]
pub struct Kept<K> {
    /// The objects, each as it was last understood.
    pub items: BTreeMap<ObjectKey, Arc<K>>,
    /// Objects that exist and cannot be understood as they are now, and why.
    pub unreadable: BTreeMap<ObjectKey, String>,
    /// What could be read of those all the same.
    pub malformed: BTreeMap<ObjectKey, Arc<Malformed>>,
    /// Whether the above are all.
    pub standing: Standing,
}

impl<K> Default for Kept<K> {
    fn default() -> Self {
        Self {
            items: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            malformed: BTreeMap::new(),
            standing: Standing::NotListed,
        }
    }
}

/// What the control plane holds.
#[derive(Clone, Debug, Default)]
pub struct SourceObjects {
    /// Namespace of the controller.
    pub home: String,
    /// Namespaces whose MedusaConfigurations and K8ssandraClusters are followed; every one when empty. The others'
    /// are not kept.
    pub within: BTreeSet<String>,
    /// DataPlane to the Secret it names.
    pub named: BTreeMap<String, ObjectKey>,
    /// Whether the DataPlanes were listed.
    pub planes_listed: bool,
    /// Every MedusaConfiguration.
    pub configurations: Kept<MedusaConfiguration>,
    /// Every K8ssandraCluster.
    pub clusters: Kept<K8ssandraCluster>,
    /// Every ClientConfig. Nothing is copied or deployed because of one.
    pub client_configs: Kept<ClientConfig>,
    pub secrets: BTreeMap<ObjectKey, SecretState>,
    pub secrets_listed: bool,
}

impl SourceObjects {
    /// Whether everything that may be wanted is known, but for what [`SourceObjects::in_doubt`] says: before that
    /// nothing may be removed anywhere.
    #[must_use]
    pub fn complete(&self) -> bool {
        let known = |standing| matches!(standing, Standing::Listed | Standing::NotServed);
        self.secrets_listed && known(self.configurations.standing) && known(self.clusters.standing)
    }

    /// Sources that an object which cannot be read may ask to be copied: those beside it that it mentions, and the
    /// Secrets of MedusaConfigurations among them. What was copied of them stays.
    #[must_use]
    pub fn in_doubt(&self) -> BTreeSet<ObjectKey> {
        let mut doubtful = BTreeSet::new();
        let (configurations, clusters) =
            (self.configurations.malformed.iter(), self.clusters.malformed.iter());
        for (at, malformed) in configurations.chain(clusters) {
            for name in &malformed.mentions {
                let key = ObjectKey::new(&at.namespace, name);
                let of = self.configurations.items.get(&key).and_then(|c| secret_of(&key, c));
                doubtful.extend(of);
                if let Some(other) = self.configurations.malformed.get(&key) {
                    doubtful.extend(other.mentions.iter().map(|name| ObjectKey::new(&at.namespace, name)));
                }
                doubtful.insert(key);
            }
        }
        doubtful
    }

    /// Whether objects of a namespace are followed.
    #[must_use]
    pub fn follows(&self, namespace: &str) -> bool {
        self.within.is_empty() || self.within.contains(namespace)
    }

    /// Whether a K8ssandraCluster is known to be gone; of one that is not followed nobody knows.
    #[must_use]
    pub fn lacks_cluster(&self, key: &ObjectKey) -> bool {
        self.follows(&key.namespace)
            && self.clusters.standing == Standing::Listed
            && !self.clusters.items.contains_key(key)
            && !self.clusters.unreadable.contains_key(key)
    }
}

/// The datacenters the K8ssandraCluster `key` lists, in its order: an empty context is the control plane's own
/// cluster, an empty namespace the K8ssandraCluster's; a context no object can be called is its `dns_name`.
#[must_use]
pub fn datacenters_of(key: &ObjectKey, cluster: &K8ssandraCluster) -> Vec<DatacenterPlace> {
    cluster
        .datacenters()
        .map(|dc| {
            let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
            let namespace = given(&dc.metadata.namespace).unwrap_or_else(|| key.namespace.clone());
            let context = given(&dc.k8s_context).unwrap_or_else(|| LOCAL.to_owned());
            DatacenterPlace {
                plane: names::dns_name(&context),
                object: ObjectKey::new(namespace, &dc.metadata.name),
            }
        })
        .collect()
}

/// Which datacenters belong to which K8ssandraCluster; `None` while that is not known. A datacenter that two
/// list belongs to the first by name.
#[must_use]
pub fn listing(sources: &SourceObjects) -> Option<ListedDatacenters> {
    if sources.clusters.standing == Standing::NotListed {
        return None;
    }
    let mut listing = ListedDatacenters::new();
    for (key, cluster) in &sources.clusters.items {
        for place in datacenters_of(key, cluster) {
            listing.entry(place.plane).or_default().entry(place.object).or_insert_with(|| key.clone());
        }
    }
    Some(listing)
}

/// Every K8ssandraCluster that is known, with the datacenters it lists.
#[must_use]
pub fn lists(sources: &SourceObjects) -> BTreeMap<ObjectKey, BTreeSet<DatacenterPlace>> {
    let clusters = sources.clusters.items.iter();
    clusters.map(|(key, cluster)| (key.clone(), datacenters_of(key, cluster).into_iter().collect())).collect()
}

/// The Secret a MedusaConfiguration needs, in its own namespace.
#[must_use]
pub fn secret_of(key: &ObjectKey, configuration: &MedusaConfiguration) -> Option<ObjectKey> {
    let name = configuration.spec.storage_properties.as_ref().and_then(Storage::secret_name)?;
    Some(ObjectKey::new(&key.namespace, name))
}

/// The Secret with the CQL user of a K8ssandraCluster's Medusa: the one it names, else one that is made under the
/// cluster's name (upstream: Rules for Medusa in a datacenter); `None` when somebody else hands out the users' secrets.
#[must_use]
pub fn user_secret(cluster: &K8ssandraCluster) -> Option<String> {
    let medusa = cluster.spec.medusa.as_ref().filter(|_| !cluster.secrets_are_external())?;
    let named = medusa.cassandra_user_secret_ref.as_ref().map(|r| r.name.clone()).filter(|n| !n.is_empty());
    Some(named.unwrap_or_else(|| format!("{}-medusa", cluster.sanitized_name())))
}

/// Names of every Secret a K8ssandraCluster's Medusa needs, all in its namespace.
#[must_use]
pub fn secret_names(cluster: &K8ssandraCluster) -> BTreeSet<String> {
    let Some(medusa) = &cluster.spec.medusa else { return BTreeSet::new() };
    let management = cluster.datacenters().filter_map(|dc| cluster.management_api_auth(dc));
    let mut names: BTreeSet<String> = medusa.secret_names().into_iter().collect();
    names.extend(user_secret(cluster));
    names.extend(management.map(|auth| auth.client_secret_name.clone()).filter(|name| !name.is_empty()));
    names
}

/// Every Secret the sources refer to, but for references that are no name: they would be read as another path.
#[must_use]
pub fn secrets_needed(sources: &SourceObjects) -> BTreeSet<ObjectKey> {
    let of_configurations = sources.configurations.items.iter().filter_map(|(key, c)| secret_of(key, c));
    let of_clusters = sources.clusters.items.iter().flat_map(|(key, cluster)| {
        secret_names(cluster).into_iter().map(|name| ObjectKey::new(&key.namespace, name))
    });
    of_configurations.chain(of_clusters).filter(|key| names::is_object_name(&key.name)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::k8ssandra::MedusaTemplate;

    fn cluster(name: &str) -> Arc<K8ssandraCluster> {
        let cluster = json!({
            "apiVersion": "k8ssandra.io/v1alpha1", "kind": "K8ssandraCluster",
            "metadata": {"name": name, "namespace": "src"},
            "spec": {"cassandra": {"datacenters": [
                {"metadata": {"name": "dc1"}},
                {"metadata": {"name": "dc2", "namespace": "cass"}, "k8sContext": "eu"},
                {"metadata": {"name": "dc3", "namespace": "cass"}, "k8sContext": "gke_shop_us"},
            ]}},
        });
        Arc::new(serde_json::from_value(cluster).unwrap())
    }

    #[test]
    fn a_listed_datacenter_has_a_place_and_one_cluster() {
        let mut sources = SourceObjects::default();
        assert_eq!(listing(&sources), None, "nothing is known yet");
        for name in ["demo", "other"] {
            sources.clusters.items.insert(ObjectKey::new("src", name), cluster(name));
        }
        sources.clusters.standing = Standing::Listed;
        let listing = listing(&sources).unwrap();
        let demo = ObjectKey::new("src", "demo");
        assert_eq!(listing[LOCAL], BTreeMap::from([(ObjectKey::new("src", "dc1"), demo.clone())]));
        assert_eq!(listing["eu"], BTreeMap::from([(ObjectKey::new("cass", "dc2"), demo.clone())]));
        assert_eq!(listing["gke-shop-us-37f05324"], BTreeMap::from([(ObjectKey::new("cass", "dc3"), demo)]));
    }

    #[test]
    fn medusas_user_and_the_management_apis_certificates_are_needed_too() {
        let mut cluster = (*cluster("My Shop")).clone();
        assert!(secret_names(&cluster).is_empty(), "without Medusa nothing is");
        cluster.spec.medusa = Some(MedusaTemplate::default());
        assert_eq!(secret_names(&cluster).into_iter().collect::<Vec<_>>(), ["myshop-medusa"]);
        let auth = json!({"manual": {"clientSecretName": "mgmt", "serverSecretName": "server"}});
        cluster.spec.cassandra.as_mut().unwrap().management_api_auth = serde_json::from_value(auth).unwrap();
        let named =
            json!({"cassandraUserSecretRef": {"name": "cql"}, "certificatesSecretRef": {"name": "tls"}});
        cluster.spec.medusa = serde_json::from_value(named).unwrap();
        assert_eq!(Vec::from_iter(secret_names(&cluster)), ["cql", "mgmt", "tls"]);
        cluster.spec.secrets_provider = serde_json::from_value(json!("external")).unwrap();
        assert_eq!(user_secret(&cluster), None);
    }

    #[test]
    fn a_reference_that_is_no_name_is_never_asked_for() {
        let mut sources = SourceObjects::default();
        let mut cluster = (*cluster("shop")).clone();
        let named =
            json!({"cassandraUserSecretRef": {"name": "../../x"}, "certificatesSecretRef": {"name": "tls"}});
        cluster.spec.medusa = serde_json::from_value(named).unwrap();
        sources.clusters.items.insert(ObjectKey::new("src", "shop"), Arc::new(cluster));
        assert_eq!(secrets_needed(&sources), BTreeSet::from([ObjectKey::new("src", "tls")]));
    }

    #[test]
    fn what_an_unreadable_object_mentions_is_in_doubt_and_nothing_else() {
        let mut sources = SourceObjects::default();
        let configuration = json!({
            "metadata": {}, "spec": {"storageProperties": {"storageSecretRef": {"name": "bucket"}}},
        });
        let configuration: MedusaConfiguration = serde_json::from_value(configuration).unwrap();
        sources.configurations.items.insert(ObjectKey::new("src", "shared"), Arc::new(configuration));
        assert!(sources.in_doubt().is_empty());
        let mentions = ["shared", "cql"].map(str::to_owned).into();
        let malformed = Malformed { mentions, ..Malformed::default() };
        sources.clusters.malformed.insert(ObjectKey::new("src", "shop"), Arc::new(malformed));
        let doubtful = ["bucket", "cql", "shared"].map(|name| ObjectKey::new("src", name));
        assert_eq!(sources.in_doubt(), doubtful.into());
    }

    #[test]
    fn a_cluster_is_gone_only_when_all_are_listed_and_none_is_it() {
        let key = ObjectKey::new("src", "demo");
        let mut sources = SourceObjects { secrets_listed: true, ..SourceObjects::default() };
        sources.configurations.standing = Standing::NotServed;
        for standing in [Standing::NotListed, Standing::NotServed, Standing::Forbidden] {
            sources.clusters.standing = standing;
            assert!(!sources.lacks_cluster(&key), "{standing:?}");
        }
        sources.clusters.standing = Standing::Listed;
        assert!(sources.lacks_cluster(&key) && sources.complete());
        sources.within.insert("other".to_owned());
        assert!(!sources.lacks_cluster(&key), "it is not followed");
        sources.within.insert("src".to_owned());
        assert!(sources.lacks_cluster(&key));
        sources.clusters.unreadable.insert(key.clone(), "no".to_owned());
        assert!(!sources.lacks_cluster(&key));
    }
}
