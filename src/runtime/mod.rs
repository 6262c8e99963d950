//! Tools that know Kubernetes and nothing of backups.
//!
//! Nothing here may import `control_plane`, `data_plane` or `cli`, or name a Medusa or fleet kind.

pub mod backoff;
pub mod cause;
pub mod client;
pub mod clock;
pub mod controller;
pub mod election;
pub mod events;
pub mod fence;
pub mod follow;
pub mod guard;
pub mod http;
pub mod kubeconfig;
pub mod lease;
mod multiplexed;
pub mod proxy;
pub mod reconciles;
pub mod remembered;
pub mod scope;
pub mod shutdown;
pub mod sync;
pub mod telemetry;
pub mod wire;
pub mod written;
