//! Many answers, one truth: which clusters there are, which restore points, and who is protected.
//!
//! Everything but `publish` is pure. What a silent data plane last said is kept, marked as such, and
//! never counted as gone.

pub mod clusters;
pub mod deployed;
pub mod digest;
pub mod drift;
pub mod expectation;
pub mod fit;
pub mod memo;
pub mod observe;
pub mod origin;
pub mod points;
#[cfg(test)]
mod points_tests;
pub mod protection;
mod publish;
mod slots;
pub mod verdict;
#[cfg(test)]
mod voice_tests;

pub use publish::{InventoryContext, run};
