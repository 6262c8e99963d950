//! The control plane against real API servers: one control-plane cluster, up to three data planes, the real binary.
//!
//! The data planes' own work is played by the tests (`support::medusa`). Needs the testbed: `make testbed`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests fail by panicking and explain themselves on stderr"
)]

#[path = "../support/mod.rs"]
mod support;

mod crashes;
mod credentials;
mod fanout;
mod garbage;
mod inventory;
mod kubeconfigs;
mod registration;
mod replication;
mod rollouts;
mod silence;
mod tasks;
mod tasks_refused;
