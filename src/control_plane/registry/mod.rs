//! Which clusters exist, and a safe way to each.
//!
//! A Secret or DataPlane that cannot be used is a condition on the DataPlane; nothing here may end the
//! process or delay another data plane.

pub mod capability;
mod controller;
mod credential;
mod expiry;
pub mod health;
pub mod kubeconfig;
mod link;
mod publish;
pub mod remote;
mod sources;
mod unregister;
mod watch;
mod watches;

pub use controller::{RegistryContext, run as run_controller};
pub use link::{Link, LinkOptions};
pub use sources::{ensure_local, run as run_sources};
