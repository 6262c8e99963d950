//! The only place that reads the wall clock. Decisions take `now` as an argument.

use jiff::Timestamp;

/// The current time, cut to whole microseconds, the most Kubernetes stores.
#[must_use]
pub fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}
