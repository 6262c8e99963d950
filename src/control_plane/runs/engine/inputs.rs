//! Everything one pass over one run decides by. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::adapter::Adapter;
use crate::{
    api::fleet::limit,
    control_plane::{
        data_planes::{cluster_of::apart, fleet::Snapshot, view::ObjectKey},
        runs::{buckets::Buckets, ending::Terms, holds::Holds},
    },
};

/// Everything one pass over one run decides by.
pub struct RunInputs<'a, R> {
    pub run: &'a R,
    /// What it goes by.
    pub terms: Terms,
    pub planes: BTreeMap<&'a str, &'a Snapshot>,
    /// Their own limits of this kind's children at a time, where they have one.
    pub own_limits: BTreeMap<String, usize>,
    /// Where the clusters' backups go.
    pub buckets: &'a Buckets,
    /// What waits for a restore or a purge.
    pub holds: Holds,
    /// The only datacenters in which a child may be made, where the published status has to name them first
    /// ([`Adapter::NAMED_FIRST`]).
    pub named: Option<BTreeSet<(String, ObjectKey)>>,
}

impl<'a, R: Adapter> RunInputs<'a, R> {
    /// Inputs over these data planes, in which nothing is held.
    #[must_use]
    pub fn new(
        run: &'a R,
        planes: &'a [Snapshot],
        buckets: &'a Buckets,
        begun: Timestamp,
        now: Timestamp,
    ) -> Self {
        let (spec, rollout) = (run.run(), run.rollout());
        let apart = if limit(rollout.max_failures).is_some() {
            apart(&planes.iter().collect::<Vec<_>>())
        } else {
            BTreeSet::new()
        };
        let terms = Terms {
            rollout,
            apart,
            unreachable_policy: spec.unreachable_policy,
            is_cancelled: spec.is_cancelled(),
            begun,
            now,
        };
        Self {
            run,
            terms,
            planes: planes.iter().map(|p| (p.name.as_str(), p)).collect(),
            own_limits: planes.iter().filter_map(|p| Some((p.name.clone(), R::own_limit(p)?))).collect(),
            buckets,
            holds: Holds::default(),
            named: None,
        }
    }

    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.terms.now
    }
}
