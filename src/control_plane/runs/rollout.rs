//! Which of the datacenters that wait may start now: limits, stagger, retries, failure budget. Pure, and the same
//! for every fleet kind that has a `rollout`.

use std::{collections::BTreeMap, fmt};

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use crate::api::fleet::{Rollout, limit};

/// Pause before the first retry of a datacenter; it doubles with every attempt.
const RETRY_PAUSE: SignedDuration = SignedDuration::from_secs(10);
/// Longest pause between two attempts.
const MAX_RETRY_PAUSE: SignedDuration = SignedDuration::from_mins(5);

/// A datacenter that could start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting<'a> {
    /// The data plane it is in.
    pub data_plane: &'a str,
    /// Identity of the bucket it writes to.
    pub bucket: &'a str,
    /// Its place in the stagger window, or the end of its pause before a retry.
    pub not_before: Timestamp,
}

/// What becomes of one that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It starts.
    Now,
    /// Its time has not come.
    NotBefore(Timestamp),
    /// As many are at work as may be.
    Full(Limit),
}

/// A limit on the number of datacenters at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `rollout.maxConcurrentDatacenters`.
    Run(usize),
    /// `rollout.maxConcurrentPerDataPlane`.
    PerDataPlane(usize),
    /// `limits.maxConcurrentBackups` of the DataPlane.
    DataPlane(usize),
    /// `rollout.maxConcurrentPerBucket`.
    Bucket(usize),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, of, field) = match self {
            Self::Run(n) => (n, "in this run", "spec.rollout.maxConcurrentDatacenters"),
            Self::PerDataPlane(n) => (n, "in its data plane", "spec.rollout.maxConcurrentPerDataPlane"),
            Self::DataPlane(n) => {
                (n, "in its data plane", "spec.limits.maxConcurrentBackups of the DataPlane")
            }
            Self::Bucket(n) => (n, "on its bucket", "spec.rollout.maxConcurrentPerBucket"),
        };
        write!(f, "waits for its turn: {number} at a time {of} ({field})")
    }
}

/// Datacenters at work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    run: usize,
    data_planes: BTreeMap<String, usize>,
    buckets: BTreeMap<String, usize>,
}

impl Load {
    /// Counts one that is at work, of this run or of another.
    pub fn add(&mut self, of_this_run: bool, data_plane: &str, bucket: &str) {
        self.run += usize::from(of_this_run);
        *self.data_planes.entry(data_plane.to_owned()).or_default() += 1;
        *self.buckets.entry(bucket.to_owned()).or_default() += 1;
    }

    fn full(
        &self,
        rollout: &Rollout,
        own_limits: &BTreeMap<String, usize>,
        waiting: &Waiting<'_>,
    ) -> Option<Limit> {
        let there = self.data_planes.get(waiting.data_plane).copied().unwrap_or(0);
        let bucket = self.buckets.get(waiting.bucket).copied().unwrap_or(0);
        let reached = |count: usize, limit: Option<usize>| limit.filter(|n| count >= *n);
        reached(self.run, limit(rollout.max_concurrent_datacenters))
            .map(Limit::Run)
            .or_else(|| reached(there, own_limits.get(waiting.data_plane).copied()).map(Limit::DataPlane))
            .or_else(|| reached(there, limit(rollout.max_concurrent_per_data_plane)).map(Limit::PerDataPlane))
            .or_else(|| reached(bucket, limit(rollout.max_concurrent_per_bucket)).map(Limit::Bucket))
    }
}

/// Decides for each that waits, in the order given; whose time came first goes first. Those that start are added
/// to `load`. `own_limits` holds the DataPlanes' `maxConcurrentBackups`. Where a limit is reached, the others go on.
pub fn turns(
    rollout: &Rollout,
    own_limits: &BTreeMap<String, usize>,
    load: &mut Load,
    waiting: &[Waiting<'_>],
    now: Timestamp,
) -> Vec<Turn> {
    let mut order: Vec<(usize, &Waiting<'_>)> = waiting.iter().enumerate().collect();
    order.sort_by_key(|(_, waiting)| waiting.not_before);
    let mut turns: Vec<(usize, Turn)> = order
        .into_iter()
        .map(|(place, waiting)| {
            if waiting.not_before > now {
                return (place, Turn::NotBefore(waiting.not_before));
            }
            if let Some(limit) = load.full(rollout, own_limits, waiting) {
                return (place, Turn::Full(limit));
            }
            load.add(true, waiting.data_plane, waiting.bucket);
            (place, Turn::Now)
        })
        .collect();
    turns.sort_by_key(|(place, _)| *place);
    turns.into_iter().map(|(_, turn)| turn).collect()
}

/// Whether counting what is at work can change anything.
#[must_use]
pub fn is_limited(rollout: &Rollout, own_limits: &BTreeMap<String, usize>) -> bool {
    let fields = [
        rollout.max_concurrent_datacenters,
        rollout.max_concurrent_per_data_plane,
        rollout.max_concurrent_per_bucket,
    ];
    !own_limits.is_empty() || fields.into_iter().any(|field| limit(field).is_some())
}

/// A datacenter's place in the stagger window, the same in every run: whole seconds after the run's start.
#[must_use]
pub fn stagger(rollout: &Rollout, data_plane: &str, namespace: &str, datacenter: &str) -> SignedDuration {
    let Some(window) = limit(rollout.stagger_window_seconds).and_then(|n| u64::try_from(n).ok()) else {
        return SignedDuration::ZERO;
    };
    let digest = Sha256::digest(format!("{data_plane}/{namespace}/{datacenter}").as_bytes());
    let number = digest.iter().take(8).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    SignedDuration::from_secs(i64::try_from(number % window).unwrap_or(0))
}

/// Whether another attempt may follow `attempts` of them.
#[must_use]
pub fn may_retry(rollout: &Rollout, attempts: usize) -> bool {
    attempts <= limit(rollout.retries_per_datacenter).unwrap_or(0)
}

/// Pause between the end of attempt number `attempts` and the next.
#[must_use]
pub fn retry_pause(attempts: usize) -> SignedDuration {
    let doubled = u32::try_from(attempts.saturating_sub(1)).ok().and_then(|n| 1_i32.checked_shl(n.min(30)));
    doubled.map_or(MAX_RETRY_PAUSE, |factor| RETRY_PAUSE.saturating_mul(factor).min(MAX_RETRY_PAUSE))
}

/// Whether so many failed datacenters end the run.
#[must_use]
pub fn is_spent(rollout: &Rollout, failed: usize) -> bool {
    limit(rollout.max_failures).is_some_and(|budget| failed >= budget)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn rollout(run: i32, plane: i32, bucket: i32) -> Rollout {
        Rollout {
            max_concurrent_datacenters: Some(run),
            max_concurrent_per_data_plane: Some(plane),
            max_concurrent_per_bucket: Some(bucket),
            ..Rollout::default()
        }
    }

    fn waiting<'a>(data_plane: &'a str, bucket: &'a str) -> Waiting<'a> {
        Waiting { data_plane, bucket, not_before: NOW }
    }

    #[test]
    fn without_limits_everything_starts() {
        let all = [waiting("eu", "a"), waiting("eu", "a"), waiting("us", "b")];
        let turns = turns(&Rollout::default(), &BTreeMap::new(), &mut Load::default(), &all, NOW);
        assert_eq!(turns, [Turn::Now; 3]);
        assert!(!is_limited(&rollout(0, 0, 0), &BTreeMap::new()), "zero is no limit");
    }

    #[test]
    fn a_full_data_plane_does_not_hold_up_the_others() {
        let all = [waiting("eu", "a"), waiting("eu", "b"), waiting("us", "c")];
        let turns = turns(&rollout(0, 1, 0), &BTreeMap::new(), &mut Load::default(), &all, NOW);
        assert_eq!(turns, [Turn::Now, Turn::Full(Limit::PerDataPlane(1)), Turn::Now]);
    }

    #[test]
    fn what_other_runs_do_counts_for_data_plane_and_bucket_and_not_for_the_run() {
        let mut load = Load::default();
        load.add(false, "eu", "a");
        let all = [waiting("eu", "b"), waiting("us", "a"), waiting("us", "b")];
        let own = BTreeMap::from([("eu".to_owned(), 1)]);
        assert_eq!(
            turns(&rollout(1, 0, 1), &own, &mut load, &all, NOW),
            [Turn::Full(Limit::DataPlane(1)), Turn::Full(Limit::Bucket(1)), Turn::Now]
        );
    }

    #[test]
    fn whose_time_came_first_goes_first() {
        let later = Waiting { not_before: Timestamp::from_second(5).unwrap(), ..waiting("eu", "a") };
        let never = Waiting { not_before: Timestamp::from_second(50).unwrap(), ..waiting("eu", "a") };
        let at = Timestamp::from_second(10).unwrap();
        let turns = turns(
            &rollout(1, 0, 0),
            &BTreeMap::new(),
            &mut Load::default(),
            &[later, waiting("eu", "a"), never],
            at,
        );
        assert_eq!(turns, [Turn::Full(Limit::Run(1)), Turn::Now, Turn::NotBefore(never.not_before)]);
    }

    #[test]
    fn retries_pause_ever_longer_and_end() {
        let twice = Rollout { retries_per_datacenter: Some(2), ..Rollout::default() };
        assert!(may_retry(&twice, 1) && may_retry(&twice, 2) && !may_retry(&twice, 3));
        assert!(!may_retry(&Rollout::default(), 1));
        let pauses: Vec<i64> = [1, 2, 3, 6, 60].into_iter().map(|n| retry_pause(n).as_secs()).collect();
        assert_eq!(pauses, [10, 20, 40, 300, 300]);
    }

    #[test]
    fn the_budget_is_spent_with_the_last_failure_it_allows() {
        let two = Rollout { max_failures: Some(2), ..Rollout::default() };
        assert!(!is_spent(&two, 1) && is_spent(&two, 2) && is_spent(&two, 3));
        assert!(!is_spent(&Rollout::default(), 1000));
    }

    /// What happens to a run: a datacenter ends, or everybody looks.
    #[derive(Clone, Debug)]
    enum Step {
        Look(i64),
        End(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![(0_i64..40).prop_map(Step::Look), (0_usize..64).prop_map(Step::End)];
        proptest::collection::vec(step, 1..60)
    }

    proptest! {
        #[test]
        fn no_limit_is_ever_exceeded_whatever_order_events_come_in(
            places in proptest::collection::vec((0_usize..3, 0_usize..3), 1..40),
            (run, plane, bucket, own) in (0_i32..5, 0_i32..4, 0_i32..4, 0_usize..4),
            others in proptest::collection::vec((0_usize..3, 0_usize..3), 0..4),
            window in 0_i32..60,
            steps in steps(),
        ) {
            let names = ["x", "y", "z"];
            let spec = Rollout { stagger_window_seconds: Some(window), ..rollout(run, plane, bucket) };
            let own_limits: BTreeMap<String, usize> =
                if own > 0 { names.iter().map(|n| ((*n).to_owned(), own)).collect() } else { BTreeMap::new() };
            let mut running: Vec<usize> = Vec::new();
            let mut ended: Vec<usize> = Vec::new();
            let mut now = NOW;
            for step in steps {
                match step {
                    Step::End(n) => if !running.is_empty() { ended.push(running.remove(n % running.len())); },
                    Step::Look(seconds) => {
                        now = now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
                        let mut load = Load::default();
                        for (p, b) in &others { load.add(false, names[*p], names[*b]); }
                        for n in &running { load.add(true, names[places[*n].0], names[places[*n].1]); }
                        let before = load.clone();
                        let idle: Vec<usize> =
                            (0..places.len()).filter(|n| !running.contains(n) && !ended.contains(n)).collect();
                        let waiting: Vec<Waiting<'_>> = idle.iter().map(|n| {
                            let (plane, bucket) = (names[places[*n].0], names[places[*n].1]);
                            let not_before = NOW.checked_add(stagger(&spec, plane, "ns", &n.to_string())).unwrap();
                            Waiting { data_plane: plane, bucket, not_before }
                        }).collect();
                        let decided = turns(&spec, &own_limits, &mut load, &waiting, now);
                        prop_assert_eq!(decided.len(), waiting.len());
                        for ((n, turn), w) in idle.iter().zip(&decided).zip(&waiting) {
                            match turn {
                                Turn::Now => { prop_assert!(w.not_before <= now); running.push(*n); }
                                Turn::NotBefore(at) => prop_assert!(*at > now),
                                // A limit that holds somebody back is really reached.
                                Turn::Full(_) => prop_assert!(load.full(&spec, &own_limits, w).is_some()),
                            }
                        }
                        let over = |count: usize, before: usize, max: usize| max > 0 && count > max.max(before);
                        let max = |n: i32| usize::try_from(n).unwrap();
                        prop_assert!(!over(running.len(), 0, max(run)));
                        for (name, count) in &load.data_planes {
                            let was = before.data_planes.get(name).copied().unwrap_or(0);
                            prop_assert!(!over(*count, was, max(plane)) && !over(*count, was, own));
                        }
                        for (name, count) in &load.buckets {
                            let was = before.buckets.get(name).copied().unwrap_or(0);
                            prop_assert!(!over(*count, was, max(bucket)));
                        }
                    }
                }
            }
        }

        #[test]
        fn a_place_in_the_window_is_stable_and_inside_it(plane in "[a-z]{1,9}", dc in "[a-z]{1,9}", window in 1_i32..86_400) {
            let spec = Rollout { stagger_window_seconds: Some(window), ..Rollout::default() };
            let place = stagger(&spec, &plane, "ns", &dc);
            prop_assert!(place >= SignedDuration::ZERO && place < SignedDuration::from_secs(i64::from(window)));
            prop_assert_eq!(place, stagger(&spec.clone(), &plane, "ns", &dc));
        }
    }

    #[test]
    fn a_window_spreads_the_starts() {
        let spec = Rollout { stagger_window_seconds: Some(100), ..Rollout::default() };
        let mut tenths = [0_usize; 10];
        for n in 0..1000 {
            let second = stagger(&spec, "eu", "ns", &format!("dc{n}")).as_secs();
            tenths[usize::try_from(second / 10).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|n| (50..150).contains(n)), "{tenths:?}");
    }
}
