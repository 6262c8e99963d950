//! The ground floor: what every part of the control plane shares about the data planes. The table of them, what is seen of
//! each, which Cassandra cluster a datacenter belongs to, how to write to one, what is counted.
//!
//! Nothing here imports another folder of the control plane, and nothing here decides what is to be done.

pub(super) mod capabilities;
pub(super) mod cluster_of;
pub(super) mod copies;
pub mod encoded;
pub mod fleet;
pub(super) mod freshness;
pub mod membership;
pub(super) mod meters;
pub(super) mod metrics;
pub mod published;
pub mod records;
pub mod remote;
pub(super) mod section;
pub(super) mod trust;
pub(super) mod undone;
pub mod view;
pub(super) mod watched;
pub(super) mod weight;
