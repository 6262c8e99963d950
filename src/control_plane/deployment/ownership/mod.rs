//! Whose a field of a CassandraDatacenter is, and what may be written or taken out without loss to others (ADR 10). Pure.

pub mod conflict;
pub mod diff;
pub(crate) mod managed_fields;
pub(crate) mod references;
pub mod removal;
