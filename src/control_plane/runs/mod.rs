//! What the runs have in common: FleetBackupJobs, FleetTasks and, as far as the frame goes, FleetRestoreJobs.
//!
//! ```text
//! controller ──> engine: recall ──> the kind's own pass ──> pace, fit, publish, tell ──> after the end: expire
//!                                    │ end (pure)
//!                                    └ desk: writes under way
//! ```
//!
//! A kind says in `kind.rs` what it is, and in its own folder what a datacenter of it comes to and what is to be done.
//! Nothing here decides what a backup, a purge or a restore is.

pub mod active_restores;
pub mod buckets;
pub mod child;
pub mod claims;
pub mod compact;
mod controller;
pub mod desk;
pub mod ending;
pub mod engine;
mod expiry;
pub mod imports;
mod kind;
mod publish;
pub mod reach;
pub mod restoring;
pub mod rollout;
pub mod select;
mod telling;
pub mod unreadable;
pub mod verdict;
pub mod write;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use controller::{About, Driver, ENROL_WAIT, Feed, Frame, RunContext, RunError, drive};
pub use engine::{Engine, MISSING, Memory, Noted, Runs};
pub use expiry::expire;
pub use kind::{Fanned, Run, Words};
pub use publish::{PUBLISH_EVERY, publish};

/// What the mutex holds, also after a panic elsewhere.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
