//! The house rules of ARCHITECTURE.md as tests, and the freshness of generated files.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that cannot go on should say so and end"
)]
#![allow(clippy::wildcard_enum_match_arm, reason = "the enums of `syn` are not exhaustive")]

mod generated;
mod layers;
mod pages;
mod purity;
mod reference;
mod source;
mod spelling;
