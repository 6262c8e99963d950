//! What must be in a data plane before a backup: copies of MedusaConfigurations and their Secrets
//! (docs/medusaconfiguration.md).
//!
//! One task per data plane writes there; nothing of it waits for another data plane. Nothing here may
//! overwrite or delete an object that is not ours, or log what a Secret holds.

mod apply;
mod content;
mod controller;
mod desired;
mod plan;
mod publish;
mod remove;
mod summarize;
mod targets;
mod worker;

use super::data_planes::watched::Kind;

pub use controller::{ReplicationContext, run};

/// The kinds of which there are copies.
const COPIES: &[Kind] = &[Kind::Secrets, Kind::Configurations];
