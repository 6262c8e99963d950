//! Counts how the looks of controllers ended, and how long they took (docs/metrics.md). Counting decides nothing.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Upper bounds in seconds: a look takes milliseconds unless an API server is slow.
const SECONDS: [f64; 8] = [0.005, 0.02, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

/// A controller, and how a look of it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    controller: &'static str,
    result: &'static str,
}

/// A controller, and why a look of it failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failed {
    controller: &'static str,
    reason: &'static str,
}

/// A controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Controller {
    controller: &'static str,
}

/// The figures. Clones share them.
#[derive(Clone, Debug)]
pub struct Reconciles {
    ended: Family<ReconcileLabels, Counter>,
    failed: Family<Failed, Counter>,
    took: Family<Controller, Histogram, fn() -> Histogram>,
}

impl Default for Reconciles {
    fn default() -> Self {
        let took = Family::new_with_constructor((|| Histogram::new(SECONDS)) as fn() -> Histogram);
        Self { ended: Family::default(), failed: Family::default(), took }
    }
}

impl Reconciles {
    /// Makes the figures appear in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("reconcile", "Reconciles, by how they ended", self.ended.clone());
        registry.register("reconcile_failures", "Reconciles that failed, by reason", self.failed.clone());
        registry.register_with_unit(
            "reconcile_duration",
            "How long a reconcile took",
            Unit::Seconds,
            self.took.clone(),
        );
    }

    /// A look of that controller took so long, and failed for that reason, if one is given.
    pub fn count(&self, controller: &'static str, took: Duration, failure: Option<&'static str>) {
        let result = if failure.is_none() { "succeeded" } else { "failed" };
        self.ended.get_or_create(&ReconcileLabels { controller, result }).inc();
        if let Some(reason) = failure {
            self.failed.get_or_create(&Failed { controller, reason }).inc();
        }
        self.took.get_or_create(&Controller { controller }).observe(took.as_secs_f64());
    }

    /// How many looks of that controller failed for that reason, or ended well.
    #[cfg(test)]
    pub fn counted(&self, controller: &'static str, failure: Option<&'static str>) -> u64 {
        match failure {
            None => self.ended.get_or_create(&ReconcileLabels { controller, result: "succeeded" }).get(),
            Some(reason) => self.failed.get_or_create(&Failed { controller, reason }).get(),
        }
    }
}
