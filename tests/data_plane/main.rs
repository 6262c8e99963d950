//! The data plane against a real API server and scripted Medusas. Needs `target/testbed/testbed`.

#![allow(clippy::pedantic, reason = "tests")]

#[path = "../fake_medusa/mod.rs"]
#[allow(dead_code, reason = "a script knows more than one test needs")]
mod fake_medusa;

mod cluster;
mod gate;
mod world;

mod crash;
mod faults;
mod good;
mod input;
mod role;
mod tls;
