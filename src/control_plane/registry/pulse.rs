//! For how long a watch has failed, and whether it goes on again. Pure.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// How long a watch may fail before what it showed is not believed any more: longer than an API server takes to start
/// anew and answer all its watches again, and shorter than anything waits that is decided by what a watch does not show (a
/// finished job's MedusaBackup is awaited for a minute). A cluster that is silent altogether is noticed by the probe.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long a watch request that was answered must hold before the watch counts as well again: what stands in front of an
/// API server may accept a watch and end it at once, each time.
const SETTLED: Duration = Duration::from_secs(5);

/// What is news about a watch by time alone.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// It goes on.
    Well,
    /// It has failed for long, since then and for this reason.
    Failed(Timestamp, String),
}

/// How a watch is, from one good answer to the next.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    failing: Option<Failing>,
}

#[derive(Debug)]
struct Failing {
    begun: Instant,
    since: Timestamp,
    why: String,
    answered: Option<Instant>,
    is_told: bool,
}

impl Pulse {
    pub(super) fn failed(&mut self, now: Instant, at: Timestamp, why: &str) {
        let failing = self.failing.get_or_insert_with(|| Failing {
            begun: now,
            since: at,
            why: String::new(),
            answered: None,
            is_told: false,
        });
        why.clone_into(&mut failing.why);
        failing.answered = None;
    }

    pub(super) fn answered(&mut self, now: Instant) {
        if let Some(failing) = &mut self.failing {
            failing.answered.get_or_insert(now);
        }
    }

    /// It showed something; says whether it had failed before.
    pub(super) fn well(&mut self) -> bool {
        self.failing.take().is_some()
    }

    /// When there will be news unless something happens before.
    pub(super) fn due(&self) -> Option<Instant> {
        let failing = self.failing.as_ref()?;
        let late = (!failing.is_told).then(|| failing.begun + PATIENCE);
        failing.answered.map(|at| at + SETTLED).or(late)
    }

    /// What is news at `now`.
    pub(super) fn beat(&mut self, now: Instant) -> Option<Beat> {
        let failing = self.failing.as_mut()?;
        match failing.answered {
            Some(at) if now >= at + SETTLED => {
                self.failing = None;
                Some(Beat::Well)
            }
            None if !failing.is_told && now >= failing.begun + PATIENCE => {
                failing.is_told = true;
                Some(Beat::Failed(failing.since, failing.why.clone()))
            }
            Some(_) | None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays `what` (second, `x` failed, `a` answered, `o` showed something) and says what was news, and when.
    fn play(what: &[(u64, char)], end: u64) -> Vec<(u64, bool)> {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let (mut pulse, mut news) = (Pulse::default(), Vec::new());
        for second in 0..=end {
            for (_, event) in what.iter().filter(|(moment, _)| *moment == second) {
                match event {
                    'x' => pulse.failed(
                        at(second),
                        Timestamp::from_second(i64::try_from(second).unwrap()).unwrap(),
                        "no",
                    ),
                    'a' => pulse.answered(at(second)),
                    _ => assert!(pulse.well(), "it had failed"),
                }
            }
            let is_due = pulse.due().is_some_and(|due| due <= at(second));
            let beat = pulse.beat(at(second));
            assert_eq!(is_due, beat.is_some(), "it wakes for news, and for nothing else");
            news.extend(beat.map(|beat| (second, beat == Beat::Well)));
        }
        news
    }

    #[test]
    fn a_watch_that_fails_for_long_is_told_once_and_again_when_it_goes_on() {
        let often: Vec<(u64, char)> = (0..50).map(|second| (second, 'x')).collect();
        assert_eq!(play(&often, 100), [(30, false)], "counted from the first failure");
        assert_eq!(play(&[(0, 'x'), (40, 'a')], 100), [(30, false), (45, true)]);
        assert_eq!(play(&[(0, 'x'), (40, 'o')], 100), [(30, false)], "what it shows speaks for itself");
        assert_eq!(play(&[(0, 'x'), (20, 'o'), (25, 'x'), (26, 'a')], 100), [(31, true)]);
    }

    #[test]
    fn a_watch_that_merely_begins_anew_is_no_news() {
        let ends: Vec<(u64, char)> =
            [0, 120, 240].into_iter().flat_map(|second| [(second, 'x'), (second + 1, 'a')]).collect();
        let news = play(&ends, 360);
        assert!(news.iter().all(|(_, is_well)| *is_well), "{news:?}");
    }

    #[test]
    fn one_that_is_accepted_and_ended_at_once_each_time_has_failed() {
        let flaps: Vec<(u64, char)> = (0..60).flat_map(|second| [(second, 'a'), (second, 'x')]).collect();
        assert_eq!(play(&flaps, 60), [(30, false)]);
    }
}
