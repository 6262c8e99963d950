//! One sync or purge over the fleet, one MedusaTask per datacenter (contract §2.2, FleetTask).
//!
//! Each reconcile is `select` (pure, the fan-out's) → `advance` and `ending` (pure: what the data planes show, what
//! the task no longer goes on with) → `plan` (pure: whose turn it is) → `starts` (reads and writes, in the
//! background) → `rollup` (pure) → publish. A purge starts only through `gate`, which looks at the whole Cassandra
//! cluster, and `retention`, which leaves it a complete restore point.

mod advance;
mod child;
mod controller;
mod ending;
pub mod gate;
mod judge;
pub mod limits;
mod observe;
mod plan;
pub mod retention;
mod rollup;
mod starts;
mod telling;

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::fleet::Snapshot;
use crate::api::{
    Reason,
    fleet::{FleetTask, Rollout},
};

pub use controller::{TasksContext, run};

/// One look at one task.
struct Scene<'a> {
    task: &'a FleetTask,
    /// The data planes, by name.
    planes: BTreeMap<&'a str, &'a Snapshot>,
    /// When the task was first looked at.
    begun: Timestamp,
    now: Timestamp,
}

impl Scene<'_> {
    /// How the task goes over its datacenters. A dry run looks at all of them at once.
    fn rollout(&self) -> Rollout {
        if self.task.spec.is_dry_run() { Rollout::default() } else { self.task.spec.rollout() }
    }
}

/// What became of a start, a follow-up or a withdrawal.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// The child is there, and ours. A purge leaves the restore point named in place.
    There(Option<String>),
    /// It would be made, were this no dry run.
    Would(Option<String>),
    /// An object of that name is there and is not ours.
    Conflict,
    /// It may not be made.
    Shut(Reason, String),
    /// It could not be made for now.
    NotNow(Reason, String),
    /// The child is gone before anybody began with it.
    Withdrawn,
}

#[cfg(test)]
pub(crate) mod tests;
