//! Which Cassandra cluster a datacenter belongs to (docs/fleetcluster.md). Pure.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt as _;

use super::{fleet::Snapshot, membership::Known, view::ObjectKey};
use crate::api::{cassandra::CassandraDatacenter, fleet::K8ssandraClusterRef, labels, names};

/// A Cassandra cluster of the fleet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterId {
    pub name: String,
    /// Name and namespace of its K8ssandraCluster, when one owns the datacenters.
    pub k8ssandra: Option<(String, String)>,
}

impl ClusterId {
    /// Whether `name` means this cluster: as FleetCluster or as K8ssandraCluster.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.k8ssandra.as_ref().is_some_and(|(cluster, _)| cluster == name)
    }

    /// The K8ssandraCluster as it appears in status.
    #[must_use]
    pub fn k8ssandra_ref(&self) -> Option<K8ssandraClusterRef> {
        let (name, namespace) = self.k8ssandra.clone()?;
        Some(K8ssandraClusterRef { name, namespace })
    }
}

/// A cluster that a datacenter says it belongs to, and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedCluster {
    pub cluster: String,
    /// Why it does not, for people.
    pub why: String,
}

/// What the labels of a datacenter say.
enum Said {
    /// k8ssandra-operator's: the K8ssandraCluster.
    Cluster(ObjectKey),
    /// Ours: a name.
    Name(String),
}

impl Said {
    fn of(datacenter: &CassandraDatacenter) -> Option<Self> {
        let own = datacenter.labels();
        let label = |key: &str| own.get(key).filter(|v| !v.is_empty()).cloned();
        let named = label(labels::K8SSANDRA_CLUSTER_NAME).zip(label(labels::K8SSANDRA_CLUSTER_NAMESPACE));
        match named {
            Some((name, namespace)) => Some(Self::Cluster(ObjectKey::new(namespace, name))),
            None => label(labels::CLUSTER).map(Self::Name),
        }
    }

    fn id(&self, known: &Known) -> ClusterId {
        match self {
            Self::Cluster(key) => {
                let id = of_k8ssandra(key);
                // What is known here is not called by what a data plane says for short.
                if known.is_called(&key.name) { ClusterId { k8ssandra: None, ..id } } else { id }
            }
            Self::Name(name) => ClusterId { name: names::dns_name(name), k8ssandra: None },
        }
    }
}

/// The cluster of a datacenter in `plane`: the K8ssandraCluster known here that lists it, else by k8ssandra-operator's
/// labels, else by our label, else each data plane, namespace and cluster name is a cluster of its own. Labels join
/// nothing that is not theirs to join ([`claim_of`]): then it is one of its own too.
#[must_use]
pub fn cluster_of(plane: &Snapshot, datacenter: &CassandraDatacenter) -> ClusterId {
    belonging(plane, datacenter).0
}

/// Datacenters of `plane` that are there and cannot be read, each with its cluster where a K8ssandraCluster that is known
/// here lists it: nothing else says anything of it.
pub fn unreadable(plane: &Snapshot) -> impl Iterator<Item = (&ObjectKey, Option<ClusterId>)> {
    plane.view.datacenters.unreadable().keys().map(|key| {
        let known = &plane.membership.known;
        (key, plane.listing.get(key).or_else(|| known.lister(&plane.name, key)).map(of_k8ssandra))
    })
}

/// The cluster a datacenter says it belongs to, and does not.
#[must_use]
pub fn claim_of(plane: &Snapshot, datacenter: &CassandraDatacenter) -> Option<ClaimedCluster> {
    belonging(plane, datacenter).1
}

fn belonging(plane: &Snapshot, datacenter: &CassandraDatacenter) -> (ClusterId, Option<ClaimedCluster>) {
    let key = ObjectKey::of(datacenter);
    let known = &plane.membership.known;
    let said = Said::of(datacenter);
    if let Some(Said::Cluster(cluster)) = &said
        && known.lists(cluster, &plane.name, &key)
    {
        return (of_k8ssandra(cluster), None);
    }
    if let Some(cluster) = plane.listing.get(&key) {
        return (of_k8ssandra(cluster), None);
    }
    let Some(said) = said else { return (own_cluster(plane, datacenter), None) };
    let id = said.id(known);
    match plane.membership.refuses(&id.name, &plane.name) {
        None => (id, None),
        Some(why) => (own_cluster(plane, datacenter), Some(ClaimedCluster { cluster: id.name, why })),
    }
}

/// The cluster of a datacenter that stands for itself. No other data plane's can have its name.
fn own_cluster(plane: &Snapshot, datacenter: &CassandraDatacenter) -> ClusterId {
    let (cluster, namespace) = (&datacenter.spec.cluster_name, datacenter.namespace().unwrap_or_default());
    let plain = names::dns_name(&format!("{cluster}.{namespace}.{}", plane.name));
    if !plane.membership.is_taken(&plain, &plane.name) {
        return ClusterId { name: plain, k8ssandra: None };
    }
    let parts = serde_json::json!([cluster, namespace, plane.name]).to_string();
    let hash: String = names::sha256_hex(parts.as_bytes()).chars().take(8).collect();
    let name = names::dns_name(&format!("{cluster}.{namespace}.{hash}.{}", plane.name));
    ClusterId { name, k8ssandra: None }
}

/// Datacenters whose word counts for their own data plane only: those whose labels alone say that they belong to a
/// cluster which has datacenters in other data planes too, or claim to.
#[must_use]
pub fn apart(planes: &[&Snapshot]) -> BTreeSet<(String, ObjectKey)> {
    let mut claiming = BTreeSet::new();
    let mut joined: BTreeMap<String, Vec<(String, ObjectKey)>> = BTreeMap::new();
    for plane in planes {
        for (key, datacenter) in plane.view.datacenters.last_known() {
            let (id, claim) = belonging(plane, datacenter);
            let place = (plane.name.clone(), key.clone());
            if claim.is_some() {
                claiming.insert(place);
            } else if !plane.membership.known.decides(&id.name) {
                joined.entry(id.name).or_default().push(place);
            }
        }
    }
    let spans = |places: &Vec<(String, ObjectKey)>| {
        places.first().is_some_and(|(first, _)| places.iter().any(|(plane, _)| plane != first))
    };
    claiming.extend(joined.into_values().filter(spans).flatten());
    claiming
}

#[must_use]
pub fn of_k8ssandra(cluster: &ObjectKey) -> ClusterId {
    ClusterId {
        name: names::dns_name(&format!("{}.{}", cluster.name, cluster.namespace)),
        k8ssandra: Some((cluster.name.clone(), cluster.namespace.clone())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::control_plane::{
        data_planes::membership::{DatacenterPlace, MayJoin, Membership},
        fanout::tests::{live, plane},
    };

    fn datacenter(labels: serde_json::Value) -> CassandraDatacenter {
        serde_json::from_value(json!({
            "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenter",
            "metadata": {"name": "dc1", "namespace": "ns", "labels": labels},
            "spec": {"clusterName": "shop"}
        }))
        .unwrap()
    }

    /// `eu` and `us`, where the K8ssandraCluster k8s/demo lists `ns/dc1` of `eu`.
    fn fleet() -> (Snapshot, Snapshot) {
        let (mut eu, mut us) = (plane("eu", live(&[])), plane("us", live(&[])));
        let (place, demo) = (ObjectKey::new("ns", "dc1"), ObjectKey::new("k8s", "demo"));
        eu.listing = Arc::new(BTreeMap::from([(place.clone(), demo.clone())]));
        let listed = DatacenterPlace { plane: "eu".to_owned(), object: place };
        let membership = Membership {
            known: Arc::new(Known::of(BTreeMap::from([(demo, BTreeSet::from([listed]))]))),
            peers: Arc::new(["eu", "us"].map(str::to_owned).into()),
            may_join: None,
        };
        (eu.membership, us.membership) = (membership.clone(), membership);
        (eu, us)
    }

    fn managed(name: &str, namespace: &str) -> serde_json::Value {
        json!({"k8ssandra.io/cluster-name": name, "k8ssandra.io/cluster-namespace": namespace})
    }

    #[test]
    fn datacenters_are_grouped_by_listing_then_by_k8ssandra_then_by_label_then_by_place() {
        let (eu, us) = fleet();
        let labels = json!({"k8ssandra.io/cluster-name": "lab", "k8ssandra.io/cluster-namespace": "far",
            "fleet.k8ssandra.io/cluster": "other"});
        let id = cluster_of(&us, &datacenter(labels.clone()));
        assert_eq!(id.name, "lab.far");
        assert!(id.is_called("lab") && id.is_called("lab.far") && !id.is_called("other"));
        let labelled = datacenter(json!({"fleet.k8ssandra.io/cluster": "shop"}));
        for labels in
            [labels, json!({}), json!({"fleet.k8ssandra.io/cluster": "shop"}), managed("demo", "k8s")]
        {
            let listed = cluster_of(&eu, &datacenter(labels));
            assert!(listed.name == "demo.k8s" && listed.is_called("demo"), "its list alone decides");
        }
        assert_eq!(cluster_of(&us, &labelled).name, "shop");
        assert_eq!(cluster_of(&us, &datacenter(json!({}))).name, "shop.ns.us");
    }

    #[test]
    fn who_claims_a_cluster_that_is_known_is_one_of_its_own() {
        let (_, us) = fleet();
        for labels in [
            managed("demo", "k8s"),
            json!({"fleet.k8ssandra.io/cluster": "demo.k8s"}),
            json!({"fleet.k8ssandra.io/cluster": "demo"}),
            json!({"fleet.k8ssandra.io/cluster": "shop.ns.eu"}),
            managed("shop.ns", "eu"),
        ] {
            let claiming = datacenter(labels.clone());
            let id = cluster_of(&us, &claiming);
            assert_eq!(id.name, "shop.ns.us", "{labels}");
            assert!(!id.is_called("demo"), "{labels}");
            assert!(claim_of(&us, &claiming).is_some(), "{labels}");
        }
        assert_eq!(claim_of(&us, &datacenter(json!({}))), None);
    }

    #[test]
    fn a_cluster_elsewhere_is_not_called_like_one_that_is_known() {
        let (_, us) = fleet();
        let id = cluster_of(&us, &datacenter(managed("demo", "evil")));
        assert_eq!(id.name, "demo.evil");
        assert!(!id.is_called("demo") && id.k8ssandra_ref().is_none());
    }

    #[test]
    fn a_name_that_two_could_have_is_nobodys() {
        let (mut one, mut other) = (plane("c", live(&[])), plane("b.c", live(&[])));
        let peers = Arc::new(["c", "b.c"].map(str::to_owned).into());
        let membership = Membership { peers, ..Membership::default() };
        (one.membership, other.membership) = (membership.clone(), membership);
        let mut dotted = datacenter(json!({}));
        (dotted.spec.cluster_name, dotted.metadata.namespace) = ("shop.a".into(), Some("b".into()));
        let mut plain = datacenter(json!({}));
        plain.metadata.namespace = Some("a".into());
        let (dotted, plain) = (cluster_of(&one, &dotted).name, cluster_of(&other, &plain).name);
        assert_ne!(dotted, plain);
        assert!(dotted.strip_suffix(".c").is_some() && plain.strip_suffix(".b.c").is_some());
    }

    #[test]
    fn where_nobody_is_known_labels_join_unless_a_person_says_no() {
        let (eu, mut us) = (plane("eu", live(&[])), plane("us", live(&[])));
        let labelled = datacenter(json!({"fleet.k8ssandra.io/cluster": "shop"}));
        assert_eq!(cluster_of(&eu, &labelled), cluster_of(&us, &labelled));
        us.membership.may_join = Some(Arc::new(MayJoin::read("")));
        assert_eq!(cluster_of(&us, &labelled).name, "shop.ns.us");
        assert!(claim_of(&us, &labelled).is_some_and(|claim| claim.cluster == "shop"));
    }

    #[test]
    fn a_word_counts_for_ones_own_data_plane_where_labels_alone_join() {
        let labelled = |name: &str| {
            let mut dc = datacenter(json!({"fleet.k8ssandra.io/cluster": name}));
            dc.metadata.name = Some(format!("of-{name}"));
            dc
        };
        let eu = plane("eu", live(&[labelled("shop"), labelled("alone")]));
        let us = plane("us", live(&[labelled("shop"), datacenter(json!({}))]));
        let found = apart(&[&eu, &us]);
        let place = |plane: &str| (plane.to_owned(), ObjectKey::new("ns", "of-shop"));
        assert_eq!(found, BTreeSet::from([place("eu"), place("us")]));
        let (_, listed) = fleet();
        let claims = Snapshot { view: Arc::new(live(&[labelled("demo")])), ..listed };
        assert_eq!(apart(&[&claims]).len(), 1);
    }
}
