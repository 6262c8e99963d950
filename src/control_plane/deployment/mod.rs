//! Deployment of Medusa into CassandraDatacenters, as `spec.medusa` of a K8ssandraCluster asks (contract §5).
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
pub mod ownership;
pub mod purge;
pub mod removal;
pub mod template;
pub mod users;
pub mod volumes;
