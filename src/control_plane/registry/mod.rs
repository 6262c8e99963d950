//! Which clusters exist, and a safe way to each.
//!
//! A Secret, ClientConfig or DataPlane that cannot be used is a condition on the DataPlane; nothing here may end the
//! process or delay another data plane.

mod admit;
mod capability;
mod controller;
mod credential;
mod health;
mod inherited;
mod kubeconfig;
mod link;
mod places;
mod publish;
mod pulse;
mod registration;
mod renew;
mod renewal;
pub mod reports;
mod roll;
mod same_cluster;
mod secrets;
mod settle;
mod share;
mod sources;
mod twins;
mod unique;
mod unreadable;
mod unregister;
mod watch;
mod watches;

pub use controller::{RegistryContext, run};
pub use link::{Link, LinkOptions};
pub use sources::ensure_local;
pub use watches::HeardRequests;
