//! Whether memory grows: samples, a line through them, and how sure that is. Pure but for the reading of a sample.

use std::time::Duration;

/// Resident memory at a moment after the beginning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When.
    pub at: Duration,
    /// How much, in MiB.
    pub mib: f64,
}

/// A line through samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slope {
    /// MiB an hour.
    pub per_hour: f64,
    /// Its standard error. Samples that follow each other are alike, so it is taken from the means of a twelfth each.
    pub error: f64,
    /// Memory at the end of the line.
    pub last: f64,
}

/// More than this grows.
pub const MOST_PER_HOUR: f64 = 1.0;
/// Parts whose means the line is drawn through.
const PARTS: usize = 12;

impl Slope {
    /// The line of least squares; `None` from fewer samples than parts.
    pub fn of(samples: &[Sample]) -> Option<Self> {
        let size = samples.len() / PARTS;
        let points: Vec<(f64, f64)> = samples.chunks(size.max(1)).take(PARTS).map(mean).collect();
        if size == 0 {
            return None;
        }
        let count = points.iter().map(|_| 1.0).sum::<f64>();
        let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
        let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
        let spread = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>();
        let per_hour = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / spread;
        let off = points.iter().map(|(x, y)| (y - mean_y - per_hour * (x - mean_x)).powi(2)).sum::<f64>();
        let error = (off / (count - 2.0) / spread).sqrt();
        let end = points.last().map_or(mean_x, |(x, _)| *x);
        Some(Self { per_hour, error, last: mean_y + per_hour * (end - mean_x) })
    }

    /// Whether memory grows by more than is allowed, beyond what chance explains (two standard errors).
    pub fn grows(&self) -> bool {
        self.per_hour - 2.0 * self.error > MOST_PER_HOUR
    }
}

/// Hours and MiB in the middle of samples.
fn mean(samples: &[Sample]) -> (f64, f64) {
    let count = samples.iter().map(|_| 1.0).sum::<f64>();
    let hours = samples.iter().map(|one| one.at.as_secs_f64() / 3600.0).sum::<f64>();
    (hours / count, samples.iter().map(|one| one.mib).sum::<f64>() / count)
}

/// The samples that are judged: those of the process that lives at the end, without its first quarter.
pub fn after_warming_up(samples: &[Sample], started: Duration) -> Vec<Sample> {
    let own: Vec<Sample> = samples.iter().copied().filter(|one| one.at >= started).collect();
    own.iter().copied().skip(own.len() / 4).collect()
}
