//! Deploying Medusa: from `spec.medusa` of a K8ssandraCluster to what its datacenters run (docs/k8ssandracluster.md,
//! upstream: Rules for Medusa in a datacenter).
//!
//! One pass over a K8ssandraCluster: `observe` puts together what concerns it, `validate` judges what was asked for
//! (`written`, `storage`), `plan` decides for each datacenter, `pass` looks at the objects themselves and writes
//! (`apply`), `rollout` says who may restart, `status` what came of it. What is written is made by `ini`,
//! `config_map`, `template` (`containers`, `volumes`, `image`), `users` and `purge`; `diff` and `conflict` keep what
//! belongs to others. Nothing here may change or lose a field of somebody else's.
//!
//! A CassandraDatacenter is somebody else's object (ADR 10). What we put in is [`template::body`], applied without
//! force in this order: [`conflict::yield_kinds`] with the object as it is; a dry run, and after a 409
//! [`conflict::leave`] and another; [`diff::compare`], which refuses what would cost others something and says what
//! would change; the apply. Taking it out is [`removal::plan`], a dry run of its patch, [`removal::Removal::diff`], and
//! the patch. Medusa's user comes and goes with [`users::patch`].

mod apply;
pub mod config_map;
pub mod conflict;
pub mod containers;
mod controller;
pub mod diff;
pub mod fields;
pub mod image;
pub mod ini;
pub mod objects;
pub mod observe;
pub mod ownership;
mod pass;
pub mod plan;
pub mod prefix;
pub mod purge;
pub mod removal;
pub mod report;
pub mod rollout;
pub mod secrets;
pub mod status;
pub mod storage;
pub mod template;
mod undone;
pub mod users;
pub mod validate;
pub mod volumes;
mod write;
pub mod written;

pub use controller::{DeploymentContext, run};

use crate::api::Reason;

/// Which object a person has to mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The K8ssandraCluster.
    Cluster,
    /// The MedusaConfiguration it refers to.
    Configuration,
}

/// Why Medusa cannot be deployed as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is to be mended.
    pub fault: Fault,
    /// For machines.
    pub reason: Reason,
    /// For people: the field and the fix.
    pub message: String,
}

impl Problem {
    /// A field that is not as it must be.
    #[must_use]
    pub fn invalid(fault: Fault, message: impl Into<String>) -> Self {
        Self { fault, reason: Reason::InvalidSpec, message: message.into() }
    }
}
