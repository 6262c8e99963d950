//! Many answers, one truth: which clusters there are, which restore points, and who is protected.
//!
//! Everything but `publish` is pure. What a silent data plane last said is kept, marked as such, and
//! never counted as gone.

pub mod clusters;
pub mod deployed;
pub mod grouping;
pub mod points;
mod publish;

pub use publish::{InventoryContext, run};
