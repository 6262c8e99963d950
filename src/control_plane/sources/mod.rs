//! What people ask for in the control plane's own cluster: MedusaConfigurations, K8ssandraClusters, and the
//! Secrets they refer to. Replication, deployment and inventory share this one watch.
//!
//! Nothing here writes, and nothing here may log what a Secret holds.

mod guard;
mod malformed;
mod named;
mod objects;
mod payload;
mod watch;

pub use guard::Copyable;
pub use malformed::Malformed;
pub use objects::{
    Kept, SecretState, SourceObjects, Standing, datacenters_of, secret_names, secret_of, secrets_needed,
    user_secret,
};
pub use payload::Payload;
pub use watch::Sources;
#[cfg(test)]
pub use {guard::Never, objects::listing};
