//! The words of the project: kinds, names, labels, conditions and reasons.
//!
//! Nothing here may be async, hold a client, read a clock or perform I/O: everything else imports
//! this module, and it imports nothing of ours.

#[cfg(test)]
pub(crate) mod arbitrary;
pub mod cassandra;
pub mod condition;
pub mod crds;
pub mod cron;
pub mod fleet;
pub mod guarded;
pub mod k8ssandra;
pub mod labels;
pub mod medusa;
pub mod names;
pub mod operator;
pub mod operator_names;
pub mod reason;
pub mod retention;
pub mod schema;
pub mod seen;
pub mod size;
pub mod time;
pub mod unreadable;
pub mod why;

pub use condition::{Conditions, set_condition};
pub use reason::Reason;
pub use seen::Seen;
pub use why::Why;
