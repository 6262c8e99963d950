//! How often each Cassandra cluster should have a backup, and when the next comes, as fleet schedules say. Plain data
//! that the inventory reads.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use jiff::{SignedDuration, Timestamp};

use crate::runtime::{remembered::Remembered, sync::lock};

/// What a schedule promises the clusters it covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expectation {
    /// The longest time between two of its slots, when it has two.
    pub interval: Option<SignedDuration>,
    /// Its next slot, when it has one.
    pub next: Option<Timestamp>,
}

impl Expectation {
    /// What two promises come to: the shorter interval and the earlier slot.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            interval: self.interval.into_iter().chain(other.interval).min(),
            next: self.next.into_iter().chain(other.next).min(),
        }
    }
}

/// By schedule: the FleetClusters it covers, and what it promises them.
type Promises = Remembered<String, (BTreeSet<String>, Expectation)>;

/// What all schedules promise. Clones share the table.
#[derive(Clone, Debug, Default)]
pub struct Expectations(Arc<Mutex<Promises>>);

impl Expectations {
    /// What `schedule` of that uid promises `clusters` from now on.
    pub fn set(&self, schedule: &str, uid: &str, clusters: BTreeSet<String>, promise: Expectation) {
        lock(&self.0).set(schedule.to_owned(), uid, (clusters, promise));
    }

    /// `schedule` has that uid now: what an earlier schedule of its name promised does not hold any longer.
    pub fn is_now(&self, schedule: &str, uid: &str) {
        lock(&self.0).is_now(&schedule.to_owned(), uid);
    }

    /// `schedule` promises nothing any more.
    pub fn forget(&self, schedule: &str) {
        lock(&self.0).forget(&schedule.to_owned());
    }

    /// By FleetCluster: the shortest interval and the earliest next slot of all schedules that cover it. A cluster
    /// that none covers is not there.
    #[must_use]
    pub fn by_cluster(&self) -> BTreeMap<String, Expectation> {
        let mut found: BTreeMap<String, Expectation> = BTreeMap::new();
        for (clusters, promise) in lock(&self.0).values() {
            for cluster in clusters {
                let known = found.entry(cluster.clone()).or_default();
                *known = known.and(*promise);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promise(hours: i64, next: i64) -> Expectation {
        Expectation {
            interval: Some(SignedDuration::from_hours(hours)),
            next: Timestamp::from_second(next).ok(),
        }
    }

    #[test]
    fn the_shortest_interval_and_the_earliest_slot_count() {
        let all = Expectations::default();
        let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        all.set("weekly", "w", of(&["shop", "payments"]), promise(168, 50));
        all.set("nightly", "n", of(&["shop"]), promise(24, 100));
        all.set("never", "u", of(&["payments"]), Expectation::default());
        let found = all.by_cluster();
        assert_eq!(found["shop"], Expectation { next: Timestamp::from_second(50).ok(), ..promise(24, 0) });
        assert_eq!(found["payments"], promise(168, 50));
        all.forget("weekly");
        assert_eq!(all.by_cluster()["shop"], promise(24, 100));
        assert_eq!(all.by_cluster()["payments"], Expectation::default());
        all.is_now("nightly", "n");
        assert_eq!(all.by_cluster()["shop"], promise(24, 100));
        all.is_now("nightly", "another, which cannot be read");
        assert_eq!(all.by_cluster().get("shop"), None);
    }
}
