//! The ground floor: what every part of the control plane shares about the data planes. The table of them, what is seen of
//! each, which Cassandra cluster a datacenter belongs to, how to write to one, what is counted.
//!
//! Nothing here imports another folder of the control plane, and nothing here decides what is to be done.

pub mod capabilities;
pub mod cluster_of;
pub mod copies;
pub mod fleet;
pub mod freshness;
pub mod membership;
pub mod meters;
pub mod metrics;
pub mod records;
pub mod remote;
pub mod section;
pub mod undone;
pub mod view;
pub mod watched;
pub mod weight;
