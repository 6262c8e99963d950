//! One sync or purge over the fleet, one MedusaTask per datacenter (docs/fleettask.md): the engine of all runs
//! ([`super::runs::engine`]) with what only tasks know.
//!
//! A purge starts only through `admit` (reads), `gate`, which looks at the whole Cassandra cluster, and `retention`,
//! which leaves it a complete restore point; one that nobody begins with is taken back, by the engine while its task goes
//! on and by `sweep` afterwards.

mod adapter;
mod admit;
mod controller;
pub mod gate;
mod judge;
mod observe;
pub mod retention;
mod summarize;
mod sweep;
mod traces;

pub use controller::run;

#[cfg(test)]
#[path = "arbitrary_tests.rs"]
pub(super) mod arbitrary;
#[cfg(test)]
pub(crate) mod tests;
