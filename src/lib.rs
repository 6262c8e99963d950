//! medusa-fleet: one truth about the backups of many Cassandra datacenters in many Kubernetes clusters.
//!
//! Modules in reading order; each may import only those above it:
//! `api` (words) ← `runtime` (Kubernetes tools) ← `control_plane` | `data_plane` (the two roles) ←
//! `cli` (what people type).

pub mod api;
pub mod runtime;

pub mod control_plane;
pub mod data_plane;

pub mod cli;
