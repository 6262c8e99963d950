//! Deploying Medusa: from `spec.medusa` of a K8ssandraCluster to what its datacenters run (docs/k8ssandracluster.md,
//! upstream: Rules for Medusa in a datacenter).
//!
//! One pass over a K8ssandraCluster: `observe` puts together what concerns it, `config` judges what was asked for and makes
//! medusa.ini of it, `plan` decides for each datacenter, `pass` looks at the objects themselves and writes (`apply`),
//! `rollout` says who may restart, `status` what came of it. What is put into a datacenter and beside it is made in `pod`;
//! `ownership` keeps what belongs to others. Nothing here may change or lose a field of somebody else's.
//!
//! A CassandraDatacenter is somebody else's object (ADR 10). What we put in is [`pod::template::body`], applied without
//! force in this order: [`ownership::conflict::yield_kinds`] with the object as it is; a dry run, and after a 409
//! [`ownership::conflict::leave`] and another; [`ownership::diff::compare`], which refuses what would cost others something and says what
//! would change; the apply. Taking it out is [`ownership::removal::plan`], a dry run of its patch, [`ownership::removal::Removal::diff`], and
//! the patch. Medusa's user comes and goes with [`pod::users::patch`]. What pods mount is deleted last (`clean_up`), and only
//! when no datacenter refers to it any more ([`ownership::references`], ADR 31).

mod apply;
mod clean_up;
pub mod config;
mod context;
mod controller;
pub(super) mod in_use;
pub(super) mod observe;
pub mod ownership;
mod pass;
mod plan;
pub mod pod;
pub(super) mod report;
mod rollout;
mod summarize;
mod undone;
mod user;
mod write;

pub use context::DeploymentContext;
pub use controller::run;

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
