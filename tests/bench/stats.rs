//! Medians, worst cases and ratios.

use serde::Serialize;

/// What several runs of one measurement came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Runs that ended.
    pub runs: usize,
    /// The fastest.
    pub min: f64,
    /// The one in the middle.
    pub median: f64,
    /// The 99th percentile; with fewer than 100 runs, the slowest.
    pub p99: f64,
}

impl Summary {
    /// Sums up `values`; `None` when there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index.min(sorted.len().saturating_sub(1))).copied();
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(at(middle.saturating_sub(1))?, at(middle)?)
        } else {
            at(middle)?
        };
        Some(Self {
            runs: sorted.len(),
            min: at(0)?,
            median,
            p99: at((sorted.len() * 99).div_ceil(100).saturating_sub(1))?,
        })
    }
}
