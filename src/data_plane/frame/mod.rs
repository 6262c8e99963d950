//! What every kind of this role is carried out in: its controller, what is remembered of an object between two looks, how it
//! waits, goes on and ends in its status.
//!
//! In reading order: `timings`, `retry`, `problem`, `progress`, `outcome` (pure) ← `objects`, `metrics` ← `context`, `controllers` ←
//! `lifecycle`. `presence` says in the cluster that this role runs there. Nothing here may know what a kind does, or talk to a
//! Medusa.

pub mod context;
pub mod controllers;
pub mod lifecycle;
pub mod metrics;
pub mod objects;
pub mod outcome;
pub mod presence;
pub mod problem;
pub mod progress;
pub mod retry;
pub mod timings;
