//! What is counted while it happens, for `metrics.rs` to show: requests to data planes, how far copies are behind, how
//! long fan-outs and reconciles take. Counting decides nothing.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http::{StatusCode, Version};
use prometheus_client::{
    metrics::histogram::Histogram,
    registry::{Registry, Unit},
};

use crate::{
    api::fleet::{DatacenterCounts, Phase},
    runtime::{reconciles::Reconciles, sync::lock},
};

/// Upper bounds in seconds: a fan-out takes as long as the limits of its rollout make it.
const FANOUT_SECONDS: [f64; 10] = [0.1, 0.3, 1.0, 3.0, 10.0, 60.0, 300.0, 1_800.0, 7_200.0, 43_200.0];

/// Copies in one data plane, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    /// Those that are as they should be.
    pub synced: usize,
    /// Those that are still to be made, corrected or taken back.
    pub pending: usize,
    /// Those where that was refused.
    pub failed: usize,
}

/// Figures of one data plane. They outlive a rotated credential.
#[derive(Debug, Default)]
pub struct PlaneMeters {
    answers: Mutex<BTreeMap<Option<u16>, u64>>,
    shares_connections: AtomicBool,
    copies: Mutex<(Copies, Option<Instant>)>,
}

impl PlaneMeters {
    /// A request ended: with an HTTP status in this version of HTTP, or without any answer.
    pub fn answered(&self, answer: Option<(StatusCode, Version)>) {
        if let Some((_, version)) = answer {
            self.shares_connections.store(version == Version::HTTP_2, Ordering::Release);
        }
        *lock(&self.answers).entry(answer.map(|(status, _)| status.as_u16())).or_default() += 1;
    }

    /// Whether its watches share a connection that says by itself when it is dead, as HTTP/2 has it.
    #[must_use]
    pub fn shares_connections(&self) -> bool {
        self.shares_connections.load(Ordering::Acquire)
    }

    /// Requests so far, by HTTP status; `None` are those that got no answer.
    #[must_use]
    pub fn answers(&self) -> BTreeMap<Option<u16>, u64> {
        lock(&self.answers).clone()
    }

    /// How the copies are.
    pub fn set_copies(&self, copies: Copies) {
        let mut state = lock(&self.copies);
        let behind = copies.pending + copies.failed > 0;
        *state = (copies, behind.then(|| state.1.unwrap_or_else(Instant::now)));
    }

    /// How the copies were when it was last known.
    #[must_use]
    pub fn copies(&self) -> Copies {
        lock(&self.copies).0
    }

    /// For how long the copies have not all been as they should be; none when they are.
    #[must_use]
    pub fn lag(&self) -> Duration {
        lock(&self.copies).1.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

/// Figures of the whole control plane.
#[derive(Debug)]
pub struct Meters {
    leads: AtomicBool,
    fanout: Histogram,
    /// How the looks of its controllers end.
    pub reconciles: Reconciles,
    /// Datacenters by state of the runs that go on, by kind and name.
    runs: Mutex<BTreeMap<(&'static str, String), DatacenterCounts>>,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            leads: AtomicBool::new(false),
            fanout: Histogram::new(FANOUT_SECONDS),
            reconciles: Reconciles::default(),
            runs: Mutex::default(),
        }
    }
}

impl Meters {
    /// Makes the counters and histograms appear in `registry`.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "fanout_duration",
            "From the start of a FleetBackupJob until its last datacenter started",
            Unit::Seconds,
            self.fanout.clone(),
        );
        self.reconciles.register(registry);
    }

    /// Whether this process does the work.
    pub fn set_leads(&self, leads: bool) {
        self.leads.store(leads, Ordering::Release);
    }

    /// Whether this process does the work.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leads.load(Ordering::Acquire)
    }

    /// A FleetBackupJob has started all its datacenters.
    pub fn fanned_out(&self, took: Duration) {
        self.fanout.observe(took.as_secs_f64());
    }

    /// How far a run is that goes on.
    pub fn goes_on(&self, kind: &'static str, name: &str, datacenters: DatacenterCounts) {
        lock(&self.runs).insert((kind, name.to_owned()), datacenters);
    }

    /// A run goes on no longer.
    pub fn ended(&self, kind: &'static str, name: &str) {
        lock(&self.runs).remove(&(kind, name.to_owned()));
    }

    /// Datacenters of all runs that go on, by state; cancelled ones count as skipped.
    #[must_use]
    pub fn datacenters(&self) -> [(&'static str, i64); 5] {
        let runs = lock(&self.runs);
        let sum = |of: fn(&DatacenterCounts) -> i64| runs.values().map(of).fold(0, i64::saturating_add);
        let counts = [
            (Phase::Pending, sum(|c| c.pending)),
            (Phase::Running, sum(|c| c.running)),
            (Phase::Succeeded, sum(|c| c.succeeded)),
            (Phase::Failed, sum(|c| c.failed)),
            (Phase::Skipped, sum(|c| c.skipped)),
        ];
        counts.map(|(phase, count)| (phase.as_str(), count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_begins_with_the_first_copy_that_is_behind_and_ends_with_the_last() {
        let meters = PlaneMeters::default();
        meters.set_copies(Copies { synced: 4, pending: 1, failed: 0 });
        let since = lock(&meters.copies).1;
        meters.set_copies(Copies { synced: 4, pending: 0, failed: 1 });
        assert_eq!(lock(&meters.copies).1, since, "one has been behind all the time");
        meters.set_copies(Copies { synced: 5, ..Copies::default() });
        assert_eq!(meters.lag(), Duration::ZERO);
    }
}
