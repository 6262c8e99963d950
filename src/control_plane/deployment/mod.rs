//! Deployment of Medusa into CassandraDatacenters, as `spec.medusa` of a K8ssandraCluster asks (contract §5).

pub mod conflict;
pub mod containers;
pub mod diff;
pub mod fields;
pub mod image;
pub mod ownership;
pub mod purge;
pub mod template;
pub mod users;
pub mod volumes;
