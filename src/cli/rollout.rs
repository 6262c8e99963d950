//! How a run goes over its datacenters, as typed.

use std::time::Duration;

use clap::Args;

use super::duration;
use crate::api::fleet::Rollout;

/// Each option says its heading: `next_help_heading` would also take in what follows these options.
const HEADING: &str = "Rollout";

/// How many at a time, and what happens when some fail. Shown under a heading of its own.
#[derive(Clone, Debug, Default, Args)]
pub struct RolloutArgs {
    /// Datacenters at work at a time [default: all]
    #[arg(long, help_heading = HEADING, value_name = "N", value_parser = count())]
    pub max_concurrent: Option<i32>,
    /// Datacenters at work at a time in one data plane, other runs' counted
    #[arg(long, help_heading = HEADING, value_name = "N", value_parser = count())]
    pub max_concurrent_per_data_plane: Option<i32>,
    /// Datacenters at work at a time on one bucket, other runs' counted
    #[arg(long, help_heading = HEADING, value_name = "N", value_parser = count())]
    pub max_concurrent_per_bucket: Option<i32>,
    /// Failed datacenters after which nothing more is started
    #[arg(long, help_heading = HEADING, value_name = "N", value_parser = count())]
    pub max_failures: Option<i32>,
    /// Further attempts at a datacenter that failed
    #[arg(long, help_heading = HEADING, value_name = "N", value_parser = clap::value_parser!(i32).range(0..=100))]
    pub retries: Option<i32>,
    /// How long one attempt at a datacenter may take
    #[arg(long, help_heading = HEADING, value_name = "DURATION", value_parser = duration::parse)]
    pub datacenter_timeout: Option<Duration>,
    /// How long nothing may go on before the run is given up
    #[arg(long, help_heading = HEADING, value_name = "DURATION", value_parser = duration::parse)]
    pub progress_deadline: Option<Duration>,
    /// Spread the starts over this time
    #[arg(long, help_heading = HEADING, value_name = "DURATION", value_parser = duration::parse)]
    pub stagger: Option<Duration>,
}

fn count() -> clap::builder::RangedI64ValueParser<i32> {
    clap::value_parser!(i32).range(0..=1_000_000)
}

impl RolloutArgs {
    /// The rollout, when anything was said about it.
    #[must_use]
    pub fn rollout(&self) -> Option<Rollout> {
        let rollout = Rollout {
            max_concurrent_datacenters: self.max_concurrent,
            max_concurrent_per_data_plane: self.max_concurrent_per_data_plane,
            max_concurrent_per_bucket: self.max_concurrent_per_bucket,
            max_failures: self.max_failures,
            retries_per_datacenter: self.retries,
            datacenter_timeout_seconds: self.datacenter_timeout.map(seconds),
            progress_deadline_seconds: self.progress_deadline.map(seconds),
            stagger_window_seconds: self.stagger.map(seconds),
        };
        (rollout != Rollout::default()).then_some(rollout)
    }
}

/// Whole seconds, as many as a field of an object takes.
#[must_use]
pub fn seconds(time: Duration) -> i32 {
    i32::try_from(time.as_secs()).unwrap_or(i32::MAX)
}
