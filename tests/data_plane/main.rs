//! The data plane against a real API server and scripted Medusas. Needs the testbed: `make testbed`.

#![allow(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    reason = "tests"
)]

#[path = "../fake_medusa/mod.rs"]
#[allow(dead_code, reason = "a script knows more than one test needs")]
mod fake_medusa;

mod cass_operator;
mod cluster;
#[path = "../support/fake_clock.rs"]
mod fake_clock;
#[path = "../support/gate.rs"]
#[allow(dead_code, reason = "only the control plane's tests hold a client up and let it go on")]
mod gate;
mod kubelet;
#[path = "../support/loosened.rs"]
mod loose;
#[path = "../support/page.rs"]
#[allow(dead_code, reason = "only the control plane's tests apply K8ssandraClusters")]
mod manifests;
mod rights;
mod site;
#[path = "../support/testbed.rs"]
#[allow(dead_code, reason = "only the control plane's tests stop API servers")]
mod testbed;
#[path = "../support/uids.rs"]
mod uids;
#[path = "../support/wait.rs"]
mod wait;
mod world;

mod again;
mod configuration;
mod crash;
mod docs;
mod faults;
mod fleet_restore;
mod good;
mod input;
mod loosened;
mod page;
mod restore;
mod restore_crash;
mod restore_faults;
mod restore_input;
mod role;
mod schedule;
mod task;
mod task_crash;
mod task_faults;
mod task_input;
mod task_sync;
mod task_world;
mod tls;
mod turns;
