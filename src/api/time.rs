//! Arithmetic with moments that cannot fail.

use std::time::Duration;

use jiff::Timestamp;

/// Time from `earlier` to `now`; zero when the clock went backwards.
#[must_use]
pub fn since(earlier: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(earlier)).unwrap_or_default()
}

/// `at` moved by `by`; the end of time when that is out of range.
#[must_use]
pub fn after(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_steps_back_shortens_nothing_below_zero() {
        let (early, late) = (Timestamp::from_second(10).unwrap(), Timestamp::from_second(15).unwrap());
        assert_eq!(since(early, late), Duration::from_secs(5));
        assert_eq!(since(late, early), Duration::ZERO);
        assert_eq!(after(early, Duration::from_secs(5)), late);
        assert_eq!(after(Timestamp::MAX, Duration::from_secs(5)), Timestamp::MAX);
    }
}
