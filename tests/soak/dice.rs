//! Chance by seed: the same seed, the same throws, on every machine. Pure.

use proptest::{
    prelude::RngExt as _,
    test_runner::{RngAlgorithm, TestRng},
};

/// A source of chance.
pub struct Dice(TestRng);

impl Dice {
    /// Throws that depend on nothing but the seed.
    pub fn new(seed: u64) -> Self {
        // All zeros would be thrown for ever.
        let bytes = [seed.to_le_bytes(), (!seed).to_le_bytes()].concat();
        Self(TestRng::from_seed(RngAlgorithm::XorShift, &bytes))
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.random_range(low..=high.max(low))
    }

    /// Whether something of this chance, in percent, happens.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.between(1, 100) <= chance
    }

    /// One of these; `None` when there are none.
    pub fn one<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let last = u64::try_from(of.len()).ok()?.checked_sub(1)?;
        of.get(usize::try_from(self.between(0, last)).ok()?)
    }

    /// So many of these, or all, in their order.
    pub fn some<T: Clone>(&mut self, of: &[T], count: usize) -> Vec<T> {
        let mut left: Vec<(usize, T)> = of.iter().cloned().enumerate().collect();
        let mut taken = Vec::new();
        while taken.len() < count && !left.is_empty() {
            let last = u64::try_from(left.len()).unwrap_or(1) - 1;
            taken.push(left.swap_remove(usize::try_from(self.between(0, last)).unwrap_or_default()));
        }
        taken.sort_by_key(|(at, _)| *at);
        taken.into_iter().map(|(_, item)| item).collect()
    }

    /// One of these, as often as its weight says.
    pub fn weighted<T: Copy>(&mut self, of: &[(u64, T)]) -> Option<T> {
        let all: u64 = of.iter().map(|(weight, _)| weight).sum();
        let mut at = self.between(1, all.max(1));
        of.iter().find_map(|(weight, item)| {
            if at <= *weight {
                return Some(*item);
            }
            at -= weight;
            None
        })
    }
}
