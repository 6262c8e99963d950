//! Waiting with a deadline.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use super::Result;

/// Far longer than anything here takes, also on a machine that is four times slower than most.
pub const DEADLINE: Duration = Duration::from_mins(3);
/// First and longest pause between two looks: what comes at once is seen at once, and what takes long is not asked for too
/// often.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(100));

/// Asks `look` until it answers `Ok`. Its `Err` is what was seen instead, for the failure's message.
pub async fn within<T, E: Display>(
    deadline: Duration,
    what: impl Display,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    let mut pause = PAUSES.0;
    loop {
        match look().await {
            Ok(seen) => return Ok(seen),
            Err(seen) if Instant::now() >= end => {
                return Err(format!("not within {} s: {what}; last seen: {seen}", deadline.as_secs()).into());
            }
            Err(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}
