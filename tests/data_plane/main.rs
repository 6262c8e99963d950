//! The data plane against a real API server and scripted Medusas. Needs the testbed: `make testbed`.

#![allow(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]

#[path = "../fake_medusa/mod.rs"]
#[allow(dead_code, reason = "a script knows more than one test needs")]
mod fake_medusa;

#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each program of tests uses its part of the support")]
mod support;

mod cass_operator;
mod kubelet;
mod restorable_datacenter;
mod rights;
mod scripted_datacenter;
mod shared_cluster;

mod again;
mod configuration;
mod crash;
mod docs;
mod faults;
mod fleet_restore;
mod good;
mod input;
mod loosened;
mod medusa_tasks;
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
mod tls;
mod turns;
