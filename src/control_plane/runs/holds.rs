//! Which backups wait for a restore or a purge, by Cassandra cluster and data plane. Pure. Each kind of run finds out what it
//! waits for by itself.

use std::collections::BTreeMap;

use crate::{api::Reason, control_plane::data_planes::fleet::Snapshot};

/// Why something waits, for machines and for people.
pub type Hold = (Reason, String);

/// What waits, and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Holds {
    clusters: BTreeMap<String, Hold>,
    /// By cluster and data plane.
    parts: BTreeMap<(String, String), Hold>,
}

impl Holds {
    /// The backups of a whole cluster wait.
    pub fn insert(&mut self, cluster: String, why: Hold) {
        self.clusters.insert(cluster, why);
    }

    /// Why the backups of a cluster's datacenters in a data plane wait, if they do.
    #[must_use]
    pub fn of(&self, cluster: &str, data_plane: &str) -> Option<&Hold> {
        let part = || self.parts.get(&(cluster.to_owned(), data_plane.to_owned()));
        self.clusters.get(cluster).or_else(part)
    }

    /// The backups of a cluster wait for what a data plane shows: all of them where that may hold up others, else those in
    /// this data plane. `is_ours` says that a run of ours is at work there by its own status.
    pub fn add(&mut self, plane: &Snapshot, cluster: String, is_ours: bool, why: Hold) {
        if is_ours || plane.membership.known.decides(&cluster) {
            self.clusters.insert(cluster, why);
        } else {
            self.parts.insert((cluster, plane.name.clone()), why);
        }
    }
}
