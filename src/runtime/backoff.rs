//! Exponential delays per key, for retries of our own.

use std::{collections::HashMap, hash::Hash, time::Duration};

/// Delay before attempt number `attempt` (0 is the first retry): doubling from `base`, at most `max`.
#[must_use]
pub fn delay(attempt: u32, base: Duration, max: Duration) -> Duration {
    base.saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(max)
}

/// Counts failures per key and says how long to wait.
#[derive(Debug)]
pub struct Backoff<K> {
    base: Duration,
    max: Duration,
    failures: HashMap<K, u32>,
}

impl<K: Eq + Hash + Clone> Backoff<K> {
    /// Delays doubling from `base` up to `max`.
    #[must_use]
    pub fn new(base: Duration, max: Duration) -> Self {
        Self { base, max, failures: HashMap::new() }
    }

    /// Records one more failure of `key` and returns how long to wait before the next attempt.
    pub fn failed(&mut self, key: &K) -> Duration {
        let count = self.failures.entry(key.clone()).or_insert(0);
        let wait = delay(*count, self.base, self.max);
        *count = count.saturating_add(1);
        wait
    }

    /// Forgets the failures of `key`.
    pub fn succeeded(&mut self, key: &K) {
        self.failures.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
