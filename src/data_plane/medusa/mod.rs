//! The Medusas of a datacenter: where they are, how they are spoken to, and how each of them is asked.
//!
//! In reading order: `pods`, `summary` (pure) ← `tls`, `client` (one Medusa over gRPC), `pool` ← `inputs` (what is read before
//! they are asked) ← `medusa_pods` ← `calls` (asking every one), `ask_any`
//! (asking until one answers). Nothing here may write to the API server, or decide what an answer
//! means for a backup or a task.

pub mod ask_any;
pub mod calls;
pub mod client;
pub mod inputs;
pub mod medusa_pods;
pub mod pods;
pub mod pool;
pub mod summary;
pub mod tls;
