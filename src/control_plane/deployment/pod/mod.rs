//! What is put into a datacenter and beside it: the pod template's containers and volumes, Medusa's user, the Secrets that
//! they need and the schedule that purges.
//!
//! Pure. Nothing here may decide whether Medusa is wanted.

pub(crate) mod account;
pub(crate) mod containers;
pub(crate) mod fields;
pub mod image;
pub(crate) mod objects;
pub(crate) mod purge;
pub mod request;
pub(crate) mod secrets;
pub mod template;
pub mod users;
pub(crate) mod volumes;
