//! What the tests of whole clusters have in common: fleets of real API servers, and the real binary against them.
//!
//! A test owns everything it starts, and alone: [`Fleet::start`] brings up one etcd, a control-plane cluster and
//! data-plane clusters, or takes those another test has no use for any more (`testbed_lease`), [`ControlPlane::spawn`] the
//! controller, with the rights that are shipped and no others (`rights`). A controller ends when its value is dropped, a
//! fleet then or with the process; when the test panics, its clusters end, their directory stays, and the controller's log
//! is shown.
//!
//! Nothing here waits by sleeping for a fixed time: [`eventually`] asks until what was expected is there, and says
//! what it saw last when it never came. Tests run on a multi-threaded runtime.

pub mod client_configs;
mod cluster;
pub mod container;
mod controller;
pub mod credentials;
pub mod fake_clock;
pub mod fleet;
pub mod gate;
pub mod harness;
pub mod loosened;
mod medusa;
mod objects;
pub mod page;
pub mod proxy;
pub mod refusals;
pub mod restores;
pub mod rights;
mod secrecy;
mod testbed_lease;
pub mod uids;
mod wait;
pub mod wire;

pub use controller::{ControlPlane, answer_of};
pub use credentials::{client, kubeconfig, medusa_fleet, medusa_fleet_in, token, with_token};
pub use fleet::{Fleet, medusa_definitions};
pub use harness::Cluster;
pub use medusa::{BackupFinisher, finish, finish_task, follow_up, node_names, write_backup};
pub use objects::{CASS, FLEET, backup_job, condition, configuration, datacenter, secret};
pub use secrecy::assert_unseen;
pub use wait::{eventually, eventually_within, like};
