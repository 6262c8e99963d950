//! What the runs have in common: FleetBackupJobs, FleetTasks and, as far as the frame goes, FleetRestoreJobs.
//!
//! ```text
//! controller ──> engine: recall ──> pass ──> pace, fit, publish, tell ──> after the end: expire
//!                                    │ adapter (pure): judge, child, summarize
//!                                    └ in_flight: writes under way
//! ```
//!
//! A kind says in `kind.rs` what it is, and in the adapter in its own folder what a datacenter of it comes to.
//! Nothing here decides what a backup, a purge or a restore is.

pub mod active_restores;
pub mod buckets;
pub mod child;
pub mod claims;
pub mod compact;
mod controller;
pub mod ending;
pub mod engine;
mod events;
mod expiry;
pub mod holds;
pub mod imports;
pub mod in_flight;
mod kind;
pub mod outcome;
mod publish;
pub mod reach;
pub mod restoring;
pub mod rollout;
pub mod select;
pub mod unreadable;
pub mod verdict;
pub mod write;

pub use controller::{Driver, ENROL_WAIT, Feed, Frame, RunContext, RunError, drive};
pub use engine::{Engine, FirstSeen, MISSING, Runs, StatusOf};
pub use expiry::expire;
pub use kind::{EventText, Fanned, Run};
pub use publish::{PUBLISH_EVERY, publish, unless_stale};
