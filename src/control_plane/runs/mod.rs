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

pub(super) mod active_restores;
pub(super) mod buckets;
pub(super) mod child;
pub(super) mod claims;
pub mod compact;
mod controller;
pub(super) mod ending;
pub(super) mod engine;
mod events;
mod expiry;
pub(super) mod holds;
pub(super) mod imports;
pub(super) mod in_flight;
mod kind;
pub(super) mod outcome;
mod publish;
pub(super) mod reach;
pub(super) mod restoring;
pub(super) mod rollout;
pub(super) mod select;
pub(super) mod takeover;
pub(super) mod unreadable;
pub(super) mod verdict;
pub(super) mod write;

pub use controller::RunContext;
pub(super) use controller::{AdvanceError, Driver, ENROL_WAIT, Frame, drive};
pub(super) use engine::{Engine, MISSING, Runs};
pub(super) use expiry::expire;
pub(super) use kind::{Fanned, Run};
pub(super) use publish::{PUBLISH_EVERY, publish, unless_stale};
