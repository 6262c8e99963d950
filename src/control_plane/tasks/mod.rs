//! One sync or purge over the fleet, one MedusaTask per datacenter (contract §2.2, FleetTask).
//!
//! Each pass is `select` (pure) → `advance` and `end` (pure: what the data planes show, what the task no longer goes on
//! with) → `plan` (pure: whose turn it is) → `starts` (reads and writes, in the background) → `summary` (pure); what
//! surrounds it is the frame of all runs. A purge starts only through `gate`, which looks at the whole Cassandra cluster,
//! and `retention`, which leaves it a complete restore point; one that nobody begins with is taken back, by `repairs`
//! while its task goes on and by `sweep` afterwards.

mod advance;
mod child;
mod controller;
pub mod gate;
mod judge;
pub mod limits;
mod observe;
mod pass;
mod plan;
pub mod retention;
mod starts;
mod summary;
mod sweep;
mod traces;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    data_planes::{cluster_of::apart, fleet::Snapshot},
    runs::{desk, ending::Terms},
};
use crate::api::{
    Reason,
    fleet::{FleetTask, Rollout, limit},
};

pub use controller::run;

/// First and longest pause before what could not be done is tried again.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Pause before a purge that has to wait is looked at again.
const WAITING: Duration = Duration::from_secs(5);

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
    /// What the task goes by. A dry run looks at all datacenters at once.
    fn terms(&self) -> Terms {
        let spec = &self.task.spec;
        let rollout = if spec.run.is_dry_run() { Rollout::default() } else { spec.run.rollout() };
        let apart = if limit(rollout.max_failures).is_some() {
            apart(&self.planes.values().copied().collect::<Vec<_>>())
        } else {
            BTreeSet::new()
        };
        Terms {
            rollout,
            apart,
            unreachable_policy: spec.run.unreachable_policy,
            is_cancelled: spec.run.is_cancelled(),
            begun: self.begun,
            now: self.now,
        }
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

impl desk::Outcome for Outcome {
    fn retry(&self) -> Option<(Duration, Duration)> {
        match self {
            Self::NotNow(
                Reason::BackupRunning | Reason::RestoreInProgress | Reason::RestorePointsUnknown,
                _,
            ) => Some((WAITING, WAITING)),
            Self::NotNow(..) => Some(AGAIN),
            Self::There(_) | Self::Would(_) | Self::Conflict | Self::Shut(..) | Self::Withdrawn => None,
        }
    }

    fn not_now(reason: Reason, message: String) -> Self {
        Self::NotNow(reason, message)
    }
}

#[cfg(test)]
#[path = "arbitrary_tests.rs"]
pub(super) mod arbitrary;
#[cfg(test)]
pub(crate) mod tests;
