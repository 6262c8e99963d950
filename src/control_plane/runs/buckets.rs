//! Which object storage the clusters' backups go to: limits count datacenters by it. Pure.

use std::collections::BTreeMap;

use kube::ResourceExt as _;

use crate::{
    api::fleet::{DatacenterRun, FleetCluster},
    control_plane::data_planes::{cluster_of::cluster_of, fleet::Snapshot, view::ObjectKey},
};

/// Buckets of the Cassandra clusters, as far as they are known.
#[derive(Clone, Debug, Default)]
pub struct Buckets(BTreeMap<String, String>);

impl Buckets {
    /// From the FleetClusters.
    pub fn of_clusters<'a>(clusters: impl IntoIterator<Item = &'a FleetCluster>) -> Self {
        Self(clusters.into_iter().filter_map(|c| Some((c.name_any(), bucket(c)?))).collect())
    }

    /// Identity of the bucket an entry's datacenter writes to.
    #[must_use]
    pub fn of(&self, entry: &DatacenterRun) -> String {
        self.of_cluster(&entry.cluster)
    }

    /// Identity of a cluster's bucket: its datacenters share one by design. While it is unknown, the cluster is taken to have
    /// one of its own.
    #[must_use]
    pub fn of_cluster(&self, cluster: &str) -> String {
        self.0.get(cluster).cloned().unwrap_or_else(|| format!("unknown, of cluster {cluster}"))
    }

    /// Identity of the bucket of the datacenter at `place` in a data plane, as the data planes show it.
    #[must_use]
    pub fn at(&self, planes: &BTreeMap<&str, &Snapshot>, data_plane: &str, place: &ObjectKey) -> String {
        let found = planes.get(data_plane).and_then(|s| Some((s, s.view.datacenters.last(place)?)));
        let cluster = found.map_or_else(|| place.to_string(), |(s, dc)| cluster_of(s, dc).name);
        self.of_cluster(&cluster)
    }
}

fn bucket(cluster: &FleetCluster) -> Option<String> {
    let datacenters = &cluster.status.as_ref()?.datacenters;
    let storage = datacenters.iter().find_map(|dc| dc.storage.as_ref())?;
    Some(format!("{}/{}", storage.provider, storage.bucket))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn clusters_with_one_bucket_share_it() {
        let cluster = |name: &str, bucket: Option<&str>| -> FleetCluster {
            let storage = bucket.map(|b| json!({"provider": "s3", "bucket": b, "prefix": name}));
            let datacenter = json!({"dataPlane": "eu", "namespace": "ns", "name": "dc1", "size": 1,
                "medusa": {"deployed": true}, "storage": storage});
            let status = json!({"size": 1, "restorePoints": 0, "datacenters": [datacenter]});
            serde_json::from_value(json!({
                "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetCluster",
                "metadata": {"name": name}, "spec": {}, "status": status,
            }))
            .unwrap()
        };
        let all = [cluster("shop", Some("b")), cluster("blog", Some("b")), cluster("new", None)];
        let buckets = Buckets::of_clusters(&all);
        assert_eq!(buckets.of_cluster("shop"), buckets.of_cluster("blog"));
        assert_ne!(buckets.of_cluster("new"), buckets.of_cluster("unheard"));
    }
}
