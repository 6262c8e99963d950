//! What is put into a datacenter and beside it: the pod template's containers and volumes, Medusa's user, the Secrets that
//! they need and the schedule that purges.
//!
//! Pure. Nothing here may decide whether Medusa is wanted.

pub mod containers;
pub mod fields;
pub mod image;
pub mod objects;
pub mod purge;
pub mod request;
pub mod secrets;
pub mod template;
pub mod users;
pub mod volumes;
