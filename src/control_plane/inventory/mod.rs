//! Many answers, one truth: which clusters there are, which restore points, and who is protected.
//!
//! Everything but `publish` is pure. What a silent data plane last said is kept, marked as such, and
//! never counted as gone.

pub(super) mod clusters;
pub(super) mod deployed;
pub(super) mod digest;
pub(super) mod drift;
pub mod expectation;
pub(super) mod fit;
pub mod memo;
pub mod observe;
pub(super) mod origin;
pub(super) mod points;
#[cfg(test)]
mod points_tests;
pub(super) mod protection;
mod publish;
mod slots;
pub(super) mod verdict;
#[cfg(test)]
mod voice_tests;

pub(super) use publish::{InventoryContext, run};
