//! Waiting with a deadline.

use std::{
    fmt::{Debug, Display},
    panic::Location,
    time::{Duration, Instant},
};

/// Far longer than anything here takes on an idle machine; tests share theirs.
const DEADLINE: Duration = Duration::from_secs(90);
/// First and longest pause between two looks: what comes at once is seen at once, and what takes long is not asked for too
/// often.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(100));

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
        let mut pause = PAUSES.0;
        loop {
            match look().await {
                Ok(seen) => return seen,
                Err(seen) if Instant::now() >= end => {
                    panic!("{at}: not within {} s: {what}; last seen: {seen}", deadline.as_secs())
                }
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// `seen`, once it is as `wanted`; what it is instead, for the failure message.
pub fn like<T: Debug>(seen: T, wanted: impl FnOnce(&T) -> bool) -> Result<T, String> {
    if wanted(&seen) { Ok(seen) } else { Err(format!("{seen:?}")) }
}
