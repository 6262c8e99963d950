//! Waiting for what a test expects.

use std::{
    fmt::{Debug, Display},
    panic::Location,
    time::Duration,
};

use super::harness::{DEADLINE, within};

/// Asks `look` until it answers `Ok`. `Err` is what was seen instead, for the failure message.
#[track_caller]
pub fn eventually<T, E: Display>(
    what: impl Display,
    look: impl AsyncFnMut() -> Result<T, E>,
) -> impl Future<Output = T> {
    eventually_within(DEADLINE, what, look)
}

/// [`eventually`], with a deadline of its own.
#[track_caller]
pub fn eventually_within<T, E: Display>(
    deadline: Duration,
    what: impl Display,
    look: impl AsyncFnMut() -> Result<T, E>,
) -> impl Future<Output = T> {
    let at = Location::caller();
    async move { within(deadline, what, look).await.unwrap_or_else(|failure| panic!("{at}: {failure}")) }
}

/// `seen`, once it is as `wanted`; what it is instead, for the failure message.
pub fn like<T: Debug>(seen: T, wanted: impl FnOnce(&T) -> bool) -> Result<T, String> {
    if wanted(&seen) { Ok(seen) } else { Err(format!("{seen:?}")) }
}
