//! What people ask for in the control plane's own cluster: MedusaConfigurations, K8ssandraClusters, and the
//! Secrets they refer to. Replication, deployment and inventory share this one watch.
//!
//! Nothing here writes, and nothing here may log what a Secret holds.

mod guard;
mod named;
mod objects;
mod payload;
mod spoilt;
mod watch;

pub use guard::{Copyable, Never};
pub use objects::{
    Kept, SecretState, SourceObjects, Standing, datacenters_of, listing, lists, secret_names, secret_of,
    user_secret,
};
pub use payload::Payload;
pub use spoilt::Spoilt;
pub use watch::Sources;
