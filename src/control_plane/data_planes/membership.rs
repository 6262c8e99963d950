//! Who may say that a datacenter belongs to a cluster (ADR 19): what the control plane knows from its own cluster, and
//! what a person allows a data plane. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{cluster_of::of_k8ssandra, view::ObjectKey};

/// A CassandraDatacenter that a K8ssandraCluster lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatacenterPlace {
    /// The data plane it is in.
    pub plane: String,
    /// Its namespace and name there.
    pub object: ObjectKey,
}

/// Data plane to its datacenters that K8ssandraClusters list, each with its K8ssandraCluster.
pub type ListedDatacenters = BTreeMap<String, BTreeMap<ObjectKey, ObjectKey>>;

/// Hex digits that a name has at its end where it had to be changed, with their dash.
const HASH: usize = 9;

/// The K8ssandraClusters that are known here. Each decides by its own list which datacenters belong to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    lists: BTreeMap<ObjectKey, BTreeSet<DatacenterPlace>>,
    /// By the name of its FleetCluster.
    named: BTreeMap<String, ObjectKey>,
    /// What people call them for short.
    short: BTreeSet<String>,
}

impl Known {
    /// Of every K8ssandraCluster, with the datacenters it lists.
    #[must_use]
    pub fn of(lists: BTreeMap<ObjectKey, BTreeSet<DatacenterPlace>>) -> Self {
        let named = lists.keys().map(|key| (of_k8ssandra(key).name, key.clone())).collect();
        let short = lists.keys().map(|key| key.name.clone()).collect();
        Self { lists, named, short }
    }

    /// Whether the K8ssandraCluster is known.
    #[must_use]
    pub fn has(&self, cluster: &ObjectKey) -> bool {
        self.lists.contains_key(cluster)
    }

    /// Whether the K8ssandraCluster lists the datacenter at `place` in `plane`.
    #[must_use]
    pub fn lists(&self, cluster: &ObjectKey, plane: &str, place: &ObjectKey) -> bool {
        let Some(list) = self.lists.get(cluster) else { return false };
        list.contains(&DatacenterPlace { plane: plane.to_owned(), object: place.clone() })
    }

    /// The K8ssandraCluster that lists the datacenter at `place` in `plane`.
    #[must_use]
    pub fn lister(&self, plane: &str, place: &ObjectKey) -> Option<&ObjectKey> {
        self.lists.keys().find(|cluster| self.lists(cluster, plane, place))
    }

    /// Whether one of them decides who belongs to the FleetCluster.
    #[must_use]
    pub fn decides(&self, fleet_cluster: &str) -> bool {
        self.named.contains_key(fleet_cluster)
    }

    /// Whether one of them decides who belongs to the FleetCluster, and the datacenter does not.
    #[must_use]
    pub fn disowns(&self, fleet_cluster: &str, plane: &str, namespace: &str, name: &str) -> bool {
        let place = ObjectKey::new(namespace, name);
        self.named.get(fleet_cluster).is_some_and(|cluster| !self.lists(cluster, plane, &place))
    }

    /// Whether a K8ssandraCluster is called so, in full or for short.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.short.contains(name) || self.decides(name)
    }
}

/// The FleetClusters that the datacenters of a data plane may join by their labels, as a person says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MayJoin {
    any: bool,
    names: BTreeSet<String>,
}

impl MayJoin {
    /// Reads a list of names, or `*` for any. Empty is none.
    #[must_use]
    pub fn read(list: &str) -> Self {
        let names = || list.split([',', ' ', '\n', '\t']).map(str::trim).filter(|name| !name.is_empty());
        Self {
            any: names().any(|name| name == "*"),
            names: names().filter(|name| *name != "*").map(str::to_owned).collect(),
        }
    }

    /// Whether the FleetCluster is among them.
    #[must_use]
    pub fn allows(&self, fleet_cluster: &str) -> bool {
        self.any || self.names.contains(fleet_cluster)
    }
}

/// What decides, besides its datacenters themselves, which clusters those of a data plane belong to.
#[derive(Clone, Debug, Default)]
pub struct Membership {
    /// The K8ssandraClusters.
    pub known: Arc<Known>,
    /// Every data plane's name.
    pub peers: Arc<BTreeSet<String>>,
    /// What a person allows this data plane.
    pub may_join: Option<Arc<MayJoin>>,
}

impl Membership {
    /// Why the datacenters of `plane` do not join the FleetCluster by their labels, where they do not.
    #[must_use]
    pub fn refuses(&self, fleet_cluster: &str, plane: &str) -> Option<String> {
        if self.known.is_called(fleet_cluster) {
            return Some("a K8ssandraCluster of that name is known here and does not list it".to_owned());
        }
        if self.is_of_peer(fleet_cluster, plane) {
            return Some("that is what a cluster of another data plane is called".to_owned());
        }
        let allows = self.may_join.as_ref().is_none_or(|list| list.allows(fleet_cluster));
        (!allows).then(|| {
            format!("annotation `{}` of its DataPlane does not name it", crate::api::labels::MAY_JOIN)
        })
    }

    /// Whether a datacenter of `plane` that stands for itself cannot have this name, as somebody else's may.
    #[must_use]
    pub fn is_taken(&self, name: &str, plane: &str) -> bool {
        self.known.is_called(name) || self.is_of_peer(name, plane)
    }

    /// Whether `name` has the shape of a cluster of its own of another data plane: a cluster's name, a namespace and the
    /// data plane, and perhaps a hash.
    fn is_of_peer(&self, name: &str, plane: &str) -> bool {
        let bare = name.len().checked_sub(HASH).and_then(|at| name.split_at_checked(at));
        let bare = bare.filter(|(_, hash)| {
            hash.strip_prefix('-').is_some_and(|hash| hash.bytes().all(|b| b.is_ascii_hexdigit()))
        });
        let ends = |text: &str| {
            text.match_indices('.').skip(1).any(|(dot, _)| {
                let end = text.get(dot + 1..).unwrap_or_default();
                end != plane && self.peers.contains(end)
            })
        };
        ends(name) || bare.is_some_and(|(bare, _)| ends(bare))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn peers(names: &[&str]) -> Membership {
        let peers = names.iter().map(|name| (*name).to_owned()).collect();
        Membership { peers: Arc::new(peers), ..Membership::default() }
    }

    #[test]
    fn what_another_data_planes_cluster_is_called_cannot_be_joined() {
        let fleet = peers(&["eu", "us", "b.c", "c"]);
        for name in ["shop.ns.eu", "my-shop.ns.eu-37f05324", "a.b.c.eu"] {
            assert!(fleet.refuses(name, "us").is_some(), "{name}");
            assert_eq!(fleet.refuses(name, "eu"), None, "{name}: it is its own");
        }
        for name in ["shop", "shop.eu", "shop.ns", "shop.ns.neu", "eu", "shop-37f05324"] {
            assert_eq!(fleet.refuses(name, "us"), None, "{name}");
        }
        // Whose it is cannot be told.
        assert!(fleet.is_taken("shop.a.b.c", "c") && fleet.is_taken("shop.a.b.c", "b.c"));
    }

    #[test]
    fn a_person_says_what_a_data_plane_may_join() {
        let with =
            |list: &str| Membership { may_join: Some(Arc::new(MayJoin::read(list))), ..peers(&["eu"]) };
        assert!(with("").refuses("shop", "eu").is_some_and(|why| why.contains("may-join")));
        assert!(with("blog").refuses("shop", "eu").is_some());
        assert_eq!(with("blog, shop").refuses("shop", "eu"), None);
        assert_eq!(with(" * ").refuses("shop", "eu"), None);
    }

    #[test]
    fn a_cluster_that_is_known_cannot_be_joined_under_any_of_its_names_whatever_a_person_allows() {
        let place = DatacenterPlace { plane: "eu".into(), object: ObjectKey::new("ns", "dc1") };
        let shop = ObjectKey::new("k8s", "shop");
        let known = Known::of(BTreeMap::from([(shop.clone(), BTreeSet::from([place]))]));
        let all = Membership {
            known: Arc::new(known),
            may_join: Some(Arc::new(MayJoin::read("*"))),
            ..peers(&["eu"])
        };
        assert!(all.refuses("shop.k8s", "us").is_some() && all.refuses("shop", "us").is_some());
        assert!(all.known.lists(&shop, "eu", &ObjectKey::new("ns", "dc1")));
        assert!(all.known.disowns("shop.k8s", "us", "ns", "dc1"));
        assert!(
            !all.known.disowns("shop.k8s", "eu", "ns", "dc1")
                && !all.known.disowns("blog", "us", "ns", "dc1")
        );
    }

    proptest! {
        #[test]
        fn no_name_is_too_odd(name in any::<String>(), plane in any::<String>()) {
            let fleet = peers(&["eu", "ü.eu"]);
            let _ = fleet.refuses(&name, &plane);
            let _ = MayJoin::read(&name).allows(&plane);
        }
    }
}
