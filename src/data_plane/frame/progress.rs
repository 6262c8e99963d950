//! How a run over many pods is told: when its lists are worth a write, and what its failures come to.
//!
//! Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::timings::since;
use crate::api::Reason;

/// Longest time a change of the lists goes unwritten.
const STALE: Duration = Duration::from_mins(5);
/// Shortest time between two writes of progress.
const QUICK: Duration = Duration::from_secs(1);

/// How many pods of a run are in which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Pods still working.
    pub in_progress: usize,
    /// Pods that ended well.
    pub finished: usize,
    /// Pods that did not.
    pub failed: usize,
}

impl Counts {
    /// All pods of the run.
    #[must_use]
    pub fn total(self) -> usize {
        self.in_progress + self.finished + self.failed
    }
}

/// Whether `new` should be written though the run goes on; `written` stands since `last`. It should at the
/// first failure, at each quarter of the pods, and when a change has gone unwritten for long. So a run of any
/// size costs at most three such writes in its first minutes.
#[must_use]
pub fn is_due(written: Counts, new: Counts, last: Timestamp, now: Timestamp) -> bool {
    let total = new.total();
    let quarter = |counts: Counts| {
        (counts.finished + counts.failed).saturating_mul(4).checked_div(total).unwrap_or_default()
    };
    let waited = since(last, now);
    (written.finished, written.failed) != (new.finished, new.failed)
        && (waited >= STALE
            || (waited >= QUICK
                && (quarter(written) < quarter(new) || (written.failed == 0 && new.failed > 0))))
}

/// What failed in a run over `total` pods: the reason the failures share, and each pod by name. A failure is
/// a pod, a reason and an explanation. Nothing when there are none.
#[must_use]
pub fn verdict<'a>(
    failures: impl IntoIterator<Item = (&'a str, Reason, &'a str)>,
    total: usize,
) -> Option<(Reason, String)> {
    let mut reasons = BTreeSet::new();
    let mut whys: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (pod, reason, why) in failures {
        reasons.insert(reason);
        whys.entry(why).or_default().push(pod);
    }
    let first = reasons.pop_first()?;
    let reason = if reasons.is_empty() { first } else { Reason::NodesFailed };
    let failed: usize = whys.values().map(Vec::len).sum();
    let list: Vec<String> =
        whys.into_iter().map(|(why, pods)| format!("{}: {why}", pods.join(", "))).collect();
    Some((reason, format!("{failed} of {total} pods failed. {}", list.join("; "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_message_names_the_failed_pods_and_why() {
        let gone = [("a", Reason::PodGone, "gone"), ("c", Reason::PodGone, "gone")];
        let (reason, message) = verdict(gone, 3).unwrap();
        assert_eq!((reason, message.as_str()), (Reason::PodGone, "2 of 3 pods failed. a, c: gone"));
        let mixed = [("a", Reason::PodGone, "gone"), ("b", Reason::MedusaRestarted, "again")];
        assert_eq!(verdict(mixed, 3).unwrap().0, Reason::NodesFailed);
        assert_eq!(verdict([], 3), None);
    }

    #[test]
    fn progress_is_written_at_quarters_at_the_first_failure_and_when_stale() {
        let of = |(finished, failed): (usize, usize)| Counts {
            in_progress: 30 - finished - failed,
            finished,
            failed,
        };
        let due = |old, new, seconds| is_due(of(old), of(new), at(0), at(seconds));
        assert!(!due((0, 0), (7, 0), 100));
        assert!(due((0, 0), (8, 0), 1));
        assert!(!due((0, 0), (8, 0), 0));
        assert!(due((0, 0), (0, 1), 1));
        assert!(!due((0, 1), (0, 2), 1));
        assert!(due((0, 0), (1, 0), 300));
        assert!(!due((1, 0), (1, 0), 3000));
    }
}
