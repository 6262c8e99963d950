//! What a purge works by, and what it leaves: Medusa's own rules, which the data plane's controller goes by too. Pure.

pub use crate::api::retention::{Held, Limits, Loss, begun_by, config_key, in_force, survives};
