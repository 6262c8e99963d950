//! Fleets of real API servers for tests, and the real binary against them.
//!
//! A test owns everything it starts: [`Fleet::start`] brings up one etcd, a control-plane cluster and data-plane
//! clusters in a directory of their own, [`ControlPlane::spawn`] the controller. All of it ends when the values are
//! dropped, also when the test panics; then the directory stays and the controller's log is shown.
//!
//! Nothing here waits by sleeping for a fixed time: [`eventually`] asks until what was expected is there, and says
//! what it saw last when it never came. Tests run on a multi-threaded runtime.

pub mod client_configs;
mod cluster;
mod controller;
mod credentials;
mod fleet;
pub mod hands;
mod medusa;
mod objects;
pub mod page;
pub mod refusals;
pub mod restores;
mod secrecy;
pub mod testbed;
pub mod uids;
mod wait;

pub use cluster::Cluster;
pub use controller::{ControlPlane, answer_of};
pub use credentials::{grant, kubeconfig, medusa_fleet, token, with_token};
pub use fleet::{Fleet, medusa_definitions};
pub use medusa::{Play, finish, finish_task, follow_up, node_names, write_backup};
pub use objects::{CASS, FLEET, backup_job, condition, configuration, datacenter, secret};
pub use secrecy::assert_unseen;
pub use wait::{eventually, eventually_within};
