//! Several replicas for one fleet (ADR 33): each watches the data planes of its shards and publishes what it sees, and one,
//! the leader, decides by that. Kubernetes is all that is between them: Leases and DataPlaneViews.
//!
//! A replica that only watches writes to no data plane; nothing here decides what is done with one.

mod assign;
mod follow;
mod judge;
mod member;
mod publish;
mod queue;
mod table;
mod watch;

pub use follow::Follower;
pub use member::Replicas;
pub use watch::{WatchConfig, run as watch};
