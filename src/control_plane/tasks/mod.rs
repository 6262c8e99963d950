//! One sync or purge over the fleet, one MedusaTask per datacenter (contract §2.2, FleetTask).

pub mod limits;
pub mod retention;
