//! Exponential delays per key, for retries of our own, and how many that began together are spread over a time.

use std::{
    hash::{DefaultHasher, Hash, Hasher as _},
    time::Duration,
};

use super::remembered::Remembered;

/// Delay before attempt number `attempt` (0 is the first retry): doubling from `base`, at most `max`.
#[must_use]
pub fn delay(attempt: u32, base: Duration, max: Duration) -> Duration {
    base.saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(max)
}

/// A part of the way from `least` to `most`, always the same for one `who`: those that began together do not act together.
#[must_use]
pub fn spread(who: &impl Hash, least: Duration, most: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    who.hash(&mut hasher);
    let part = u32::try_from(hasher.finish() % 1_000).unwrap_or_default();
    least + most.saturating_sub(least) * part / 1_000
}

/// Counts failures per key and says how long to wait.
#[derive(Debug)]
pub struct Backoff<K> {
    base: Duration,
    max: Duration,
    failures: Remembered<K, u32>,
}

impl<K: Ord + Clone> Backoff<K> {
    /// Delays doubling from `base` up to `max`.
    #[must_use]
    pub fn new(base: Duration, max: Duration) -> Self {
        Self { base, max, failures: Remembered::default() }
    }

    /// Records one more failure of `key`, which no other ever has, and returns how long to wait before the next attempt.
    pub fn failed(&mut self, key: &K) -> Duration {
        self.failed_as(key, "")
    }

    /// The same where `key` is a name: the failures of another object that had it, with another uid, do not count.
    pub fn failed_as(&mut self, key: &K, uid: &str) -> Duration {
        let count = self.failures.entry(key.clone(), uid, || 0);
        let wait = delay(*count, self.base, self.max);
        *count = count.saturating_add(1);
        wait
    }

    /// Forgets the failures of those whose keys do not pass.
    pub fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.failures.retain(keep);
    }

    /// Forgets the failures of `key`.
    pub fn succeeded(&mut self, key: &K) {
        self.failures.forget(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_again_has_not_failed_yet() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(9));
        let waits = ["u", "u", "u", "v", "v"].map(|uid| backoff.failed_as(&"a", uid).as_secs());
        assert_eq!(waits, [1, 2, 4, 1, 2]);
    }

    #[test]
    fn many_are_spread_over_the_whole_time_and_each_keeps_its_place() {
        let (least, most) = (Duration::from_secs(100), Duration::from_secs(200));
        let all: Vec<Duration> =
            (0..1_000).map(|number| spread(&format!("dp-{number}"), least, most)).collect();
        assert!(all.iter().all(|at| (least..most).contains(at)));
        for tenth in 0..10 {
            let from = least + Duration::from_secs(10) * tenth;
            let there = all.iter().filter(|at| (from..from + Duration::from_secs(10)).contains(*at)).count();
            assert!((50..200).contains(&there), "{there}");
        }
        assert_eq!(spread(&"dp-1", least, most), spread(&"dp-1", least, most));
    }

    #[test]
    fn delays_double_up_to_the_limit_and_start_anew_after_success() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        let waits: Vec<u64> = (0..5).map(|_| backoff.failed(&"a").as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        backoff.succeeded(&"a");
        assert_eq!(backoff.failed(&"a").as_secs(), 1);
        assert_eq!(delay(200, Duration::from_secs(1), Duration::from_secs(9)).as_secs(), 9);
    }
}
