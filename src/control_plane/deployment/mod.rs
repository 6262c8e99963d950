//! Deploying Medusa: from `spec.medusa` of a K8ssandraCluster to what its datacenters run (contract §5, upstream §2).
//!
//! `written` and `storage` resolve the storage properties, `validate` judges them together with the rest of
//! `spec.medusa`, `ini` writes Medusa's configuration. All of it is pure.
//!
//! A CassandraDatacenter is somebody else's object (ADR 10). What we put in is [`template::body`], applied without
//! force in this order: [`conflict::yield_kinds`] with the object as it is; a dry run, and after a 409
//! [`conflict::leave`] and another; [`diff::compare`], which refuses what would cost others something and says what
//! would change; the apply. Taking it out is [`removal::plan`], a dry run of its patch, [`removal::Removal::diff`], and
//! the patch. Medusa's user comes and goes with [`users::patch`].

pub mod conflict;
pub mod containers;
pub mod diff;
pub mod fields;
pub mod image;
pub mod ini;
pub mod ownership;
pub mod purge;
pub mod removal;
pub mod storage;
pub mod template;
pub mod users;
pub mod validate;
pub mod volumes;
pub mod written;

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
