//! Which datacenters are being restored now, by whomever: backups, purges and other restores of their clusters wait. Pure.

use std::collections::BTreeMap;

use kube::ResourceExt as _;

use super::child::Child as _;
use crate::{
    api::labels,
    control_plane::data_planes::{
        cluster_of::cluster_of,
        fleet::Snapshot,
        view::{ObjectKey, View},
    },
};

/// Name of each cluster that is being restored, and by what, for people. A data plane that fell silent counts with what it
/// last showed.
#[must_use]
pub fn restoring(planes: &[Snapshot]) -> BTreeMap<String, String> {
    let mut clusters = BTreeMap::new();
    for Restoring { cluster, why, .. } in restores(planes) {
        clusters.entry(cluster).or_insert(why);
    }
    clusters
}

/// A datacenter that is being restored.
pub struct Restoring<'a> {
    pub plane: &'a Snapshot,
    pub cluster: String,
    /// By what, for people.
    pub why: String,
}

/// Every datacenter a restore is at work on, as the data planes show it.
#[must_use]
pub fn restores(planes: &[Snapshot]) -> Vec<Restoring<'_>> {
    let mut found = Vec::new();
    for plane in planes {
        for (place, by) in at_work(&plane.view) {
            let Some(datacenter) = plane.view.datacenters.last(&place) else { continue };
            let why = format!("waits for the end of {by} in data plane `{}`", plane.name);
            let cluster = cluster_of(plane, datacenter).name;
            found.push(Restoring { plane, cluster, why });
        }
    }
    found
}

/// Datacenters a restore is at work on: one that has a MedusaRestoreJob without an end, or one that a data plane has
/// marked and still has to put back (ADR 8).
fn at_work(view: &View) -> Vec<(ObjectKey, String)> {
    let unfinished = view.restores.last_known().iter().filter(|(_, restore)| !restore.is_finished());
    let jobs = unfinished.map(|(key, restore)| {
        let place = ObjectKey::new(&key.namespace, &restore.spec.cassandra_datacenter);
        (place, format!("MedusaRestoreJob {key}"))
    });
    // One that cannot be read may be of any datacenter of its namespace.
    let unreadable = view.restores.unreadable().keys().flat_map(|key| {
        let beside = view.datacenters.last_known().keys().filter(|place| place.namespace == key.namespace);
        beside.map(move |place| (place.clone(), format!("MedusaRestoreJob {key}, which cannot be read,")))
    });
    let marked =
        view.datacenters.last_known().iter().filter(|(_, dc)| dc.annotations().contains_key(labels::RESTORE));
    jobs.chain(unreadable)
        .chain(
            marked.map(|(place, _)| (place.clone(), format!("the restore of CassandraDatacenter {place}"))),
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::control_plane::fanout::tests::{datacenter, live, plane};

    fn with(status: &serde_json::Value) -> Vec<String> {
        let mut view = live(&[datacenter("dc1", 3), datacenter("dc2", 3)]);
        let restore = serde_json::from_value(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaRestoreJob",
            "metadata": {"name": "r", "namespace": "ns"}, "spec": {"backup": "b", "cassandraDatacenter": "dc1"},
            "status": status,
        }));
        view.restores.put(ObjectKey::new("ns", "r"), Arc::new(restore.unwrap()));
        restoring(&[plane("eu", view)]).into_keys().collect()
    }

    #[test]
    fn a_restore_without_an_end_holds_its_whole_cluster() {
        assert_eq!(with(&json!(null)), ["shop.ns.eu"]);
        let running = json!({"restoreKey": "k", "startTime": "2026-01-01T00:00:00Z"});
        assert_eq!(with(&running), ["shop.ns.eu"]);
        assert!(with(&json!({"restoreKey": "k", "finishTime": "2026-01-01T00:00:00Z"})).is_empty());
    }

    #[test]
    fn a_restore_that_cannot_be_read_holds_the_datacenters_beside_it() {
        let mut view = live(&[datacenter("dc1", 3)]);
        view.restores.blur(ObjectKey::new("elsewhere", "r"), "garbage".to_owned());
        assert!(restoring(&[plane("eu", view.clone())]).is_empty());
        view.restores.blur(ObjectKey::new("ns", "r"), "garbage".to_owned());
        assert!(restoring(&[plane("eu", view)])["shop.ns.eu"].contains("ns/r, which cannot be read"));
    }

    #[test]
    fn a_datacenter_that_has_to_be_put_back_is_held_too() {
        let mut marked = datacenter("dc1", 3);
        marked.annotations_mut().insert(labels::RESTORE.to_owned(), "{}".to_owned());
        let held = restoring(&[plane("eu", live(&[marked]))]);
        assert!(held["shop.ns.eu"].contains("ns/dc1"), "{held:?}");
    }
}
