//! What all tests of whole clusters and the benchmarks run: the testbed's clusters, and the program in them.
//!
//! Nothing in here panics but [`testbed::command`], which only tests call: a benchmark goes on to its next measurement. What
//! cannot be done is a [`Failure`] that says what was tried. Tests unwrap it.

#![allow(dead_code, unused_imports, reason = "each program uses its part")]

mod answered;
mod cluster;
mod program;
pub mod testbed;
mod wait;

use std::error::Error;

pub use answered::Answered;
pub use cluster::{Cluster, Kind, connection, resource};
pub use program::{BINARY, Program, memory};
pub use testbed::Testbed;
pub use wait::{DEADLINE, within};

/// Why something could not be done.
pub type Failure = Box<dyn Error + Send + Sync>;
/// What was done, or why it could not be.
pub type Result<T, E = Failure> = std::result::Result<T, E>;
