//! Waiting with a deadline.

use std::{
    fmt::Display,
    panic::Location,
    time::{Duration, Instant},
};

/// Far longer than anything here takes on an idle machine; tests share theirs.
const DEADLINE: Duration = Duration::from_secs(90);
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

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
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> impl Future<Output = T> {
    let at = Location::caller();
    async move {
        let end = Instant::now() + deadline;
        loop {
            match look().await {
                Ok(seen) => return seen,
                Err(seen) if Instant::now() >= end => {
                    panic!("{at}: not within {} s: {what}; last seen: {seen}", deadline.as_secs())
                }
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }
}
