//! Keeps a backup and a purge of one Cassandra cluster from being started in the same moment, each because it does not
//! see the other yet.
//!
//! Whoever starts one claims the cluster first, then looks for the other kind of work in the views, and lets go once
//! what it made shows there.

use crate::runtime::sync::lock;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// What is being started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartKind {
    /// Backups.
    Backup,
    /// Purges.
    Purge,
}

/// Clusters on which something is being started in this process, and how many times.
#[derive(Debug, Default)]
pub struct Claims(Mutex<BTreeMap<String, (StartKind, usize)>>);

/// One claim, until it is dropped.
#[derive(Debug)]
pub struct Claim {
    claims: Arc<Claims>,
    cluster: String,
}

impl Claims {
    /// Claims a cluster for one kind of work; not while it is claimed for the other.
    #[must_use]
    pub fn claim(self: &Arc<Self>, work: StartKind, cluster: &str) -> Option<Claim> {
        let mut claims = lock(&self.0);
        let (held_for, count) = claims.entry(cluster.to_owned()).or_insert((work, 0));
        if *held_for != work {
            return None;
        }
        *count += 1;
        Some(Claim { claims: self.clone(), cluster: cluster.to_owned() })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claims = lock(&self.claims.0);
        if let Some((_, count)) = claims.get_mut(&self.cluster) {
            *count -= 1;
            if *count == 0 {
                claims.remove(&self.cluster);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_claimed_for_one_kind_of_work_until_the_last_has_let_go() {
        let claims = Arc::new(Claims::default());
        let (one, two) = (claims.claim(StartKind::Backup, "shop"), claims.claim(StartKind::Backup, "shop"));
        assert!(one.is_some() && two.is_some());
        assert!(claims.claim(StartKind::Purge, "blog").is_some(), "another cluster");
        drop(one);
        assert!(claims.claim(StartKind::Purge, "shop").is_none());
        drop(two);
        let purge = claims.claim(StartKind::Purge, "shop");
        assert!(purge.is_some() && claims.claim(StartKind::Backup, "shop").is_none());
    }
}
