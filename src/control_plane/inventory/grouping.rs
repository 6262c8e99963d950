//! Which Cassandra cluster a datacenter belongs to (contract §2.2, FleetCluster). Pure.

use kube::ResourceExt as _;

use crate::{
    api::{cassandra::CassandraDatacenter, fleet::K8ssandraClusterRef, labels, names},
    control_plane::{fleet::Snapshot, view::ObjectKey},
};

/// A Cassandra cluster of the fleet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterId {
    /// Name of its FleetCluster.
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

/// The cluster of a datacenter in `plane`: by k8ssandra-operator's labels, else by our label, else by the
/// K8ssandraCluster that lists it, else each data plane, namespace and cluster name is a cluster of its own.
#[must_use]
pub fn cluster_of(plane: &Snapshot, datacenter: &CassandraDatacenter) -> ClusterId {
    let own = datacenter.labels();
    let label = |key: &str| own.get(key).filter(|v| !v.is_empty()).cloned();
    if let (Some(name), Some(namespace)) =
        (label(labels::K8SSANDRA_CLUSTER_NAME), label(labels::K8SSANDRA_CLUSTER_NAMESPACE))
    {
        return of_k8ssandra(&ObjectKey::new(namespace, name));
    }
    let named = |name: &str| ClusterId { name: names::dns_name(name), k8ssandra: None };
    if let Some(label) = label(labels::CLUSTER) {
        return named(&label);
    }
    if let Some(cluster) = plane.listing.get(&ObjectKey::of(datacenter)) {
        return of_k8ssandra(cluster);
    }
    let namespace = datacenter.namespace().unwrap_or_default();
    named(&format!("{}.{namespace}.{}", datacenter.spec.cluster_name, plane.name))
}

/// The cluster of a K8ssandraCluster.
#[must_use]
pub fn of_k8ssandra(cluster: &ObjectKey) -> ClusterId {
    ClusterId {
        name: names::dns_name(&format!("{}.{}", cluster.name, cluster.namespace)),
        k8ssandra: Some((cluster.name.clone(), cluster.namespace.clone())),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use serde_json::json;

    use super::*;
    use crate::control_plane::fanout::tests::{live, plane};

    fn datacenter(labels: serde_json::Value) -> CassandraDatacenter {
        serde_json::from_value(json!({
            "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenter",
            "metadata": {"name": "dc1", "namespace": "ns", "labels": labels},
            "spec": {"clusterName": "shop"}
        }))
        .unwrap()
    }

    #[test]
    fn datacenters_are_grouped_by_k8ssandra_then_by_label_then_by_listing_then_by_place() {
        let (mut eu, us) = (plane("eu", live(&[])), plane("us", live(&[])));
        let managed = json!({"k8ssandra.io/cluster-name": "demo", "k8ssandra.io/cluster-namespace": "k8s",
            "fleet.k8ssandra.io/cluster": "other"});
        let id = cluster_of(&eu, &datacenter(managed));
        assert_eq!(id.name, "demo.k8s");
        assert!(id.is_called("demo") && id.is_called("demo.k8s") && !id.is_called("other"));
        let labelled = datacenter(json!({"fleet.k8ssandra.io/cluster": "shop"}));
        assert_eq!(cluster_of(&eu, &datacenter(json!({}))).name, "shop.ns.eu");
        eu.listing =
            Arc::new(BTreeMap::from([(ObjectKey::new("ns", "dc1"), ObjectKey::new("k8s", "listed"))]));
        assert_eq!(cluster_of(&eu, &labelled), cluster_of(&us, &labelled));
        assert_eq!(cluster_of(&eu, &labelled).name, "shop");
        let listed = cluster_of(&eu, &datacenter(json!({})));
        assert!(listed.name == "listed.k8s" && listed.is_called("listed"));
        assert_eq!(cluster_of(&us, &datacenter(json!({}))).name, "shop.ns.us");
    }
}
