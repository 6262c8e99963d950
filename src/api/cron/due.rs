//! Which slot is due.
//!
//! Pure. A schedule remembers two times in its status: the earliest slot that is not dealt with (`nextSchedule` of a
//! MedusaBackupSchedule, `nextScheduleTime` of a FleetBackupSchedule), and the latest that ran (`lastExecution`,
//! `lastScheduleTime`). So slots before the first are never caught up with, and slots up to the second never run
//! again, whatever the clock does.

use std::{fmt, time::Duration};

use jiff::Timestamp;

use super::CronExpr;
use crate::api::time::{after, since};

/// Missed slots are counted up to this.
pub const MANY: usize = 100;
/// How far the latest slot that ran may be ahead of the clock without a word: two clocks are never equal.
const AHEAD: Duration = Duration::from_mins(5);

/// What is known of a schedule's past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// When it was created.
    pub created: Timestamp,
    /// Whether its spec is still the one it was created with.
    pub is_unchanged: bool,
    /// The earliest slot that is not dealt with, if one was written down.
    pub next: Option<Timestamp>,
    /// The latest slot that ran.
    pub last: Option<Timestamp>,
}

/// Slots that passed without a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// How many; [`MANY`] means at least as many.
    pub count: usize,
    /// The first of them.
    pub first: Timestamp,
}

/// The beginning of a sentence: how many, since when.
impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => write!(f, "1 slot")?,
            MANY.. => write!(f, "{MANY} slots or more")?,
            few => write!(f, "{few} slots")?,
        }
        write!(f, " passed without a run, the first at {}", self.first)
    }
}

/// What the clock asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing before `next`; nothing ever when there is none.
    Later {
        /// The next slot.
        next: Option<Timestamp>,
        /// Slots that are too late to run now.
        missed: Option<Missed>,
    },
    /// A slot has come and has not run.
    Now {
        /// The earliest slot that has not run: what the status says until it is dealt with.
        since: Timestamp,
        /// The latest slot that has come: the one to run.
        slot: Timestamp,
        /// Those before it.
        missed: Option<Missed>,
        /// The slot after now.
        next: Option<Timestamp>,
        /// Until when it may run.
        until: Option<Timestamp>,
    },
}

/// What is due at `now`. A slot may run until `deadline` after it has come; without one, as late as need be.
///
/// An unchanged schedule that has no next slot is new, and its first slot is the first after its
/// creation. A changed one was disabled, or could not be read: its slots of that time are not caught up with.
#[must_use]
pub fn due(cron: &CronExpr, deadline: Option<Duration>, past: &Past, now: Timestamp) -> Due {
    let anchor = past.last.unwrap_or(past.created);
    let upcoming = || cron.next_after(anchor, anchor.max(now));
    let first = match past.next {
        Some(next) if next <= now && past.last.is_none_or(|last| next > last) => cron.slots_from(next).next(),
        Some(next) if next <= now => cron.next_after(anchor, anchor),
        None if past.is_unchanged => cron.next_after(anchor, anchor),
        Some(_) | None => upcoming(),
    };
    let Some(first) = first.filter(|first| *first <= now) else {
        return Due::Later { next: first, missed: None };
    };
    let slot = cron.latest(first, now).unwrap_or(first);
    let missed = |count| (count > 0).then_some(Missed { count, first });
    let before = cron.count(first, slot, MANY);
    let until = deadline.map(|deadline| after(slot, deadline));
    let next = cron.next_after(slot, now);
    if until.is_some_and(|until| now > until) {
        return Due::Later { next, missed: missed(before.saturating_add(1).min(MANY)) };
    }
    Due::Now { since: first, slot, missed: missed(before), next, until }
}

/// Whether the latest slot that ran is so far ahead that the clock must have stepped back since it was written.
#[must_use]
pub fn is_ahead(last: Option<Timestamp>, now: Timestamp) -> bool {
    last.is_some_and(|last| since(now, last) > AHEAD)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-03-01T{text}Z").parse().unwrap()
    }

    /// An expression, and how many seconds late its slots may run.
    struct Recipe(CronExpr, Option<u64>);

    fn recipe(cron: &str, deadline: Option<u64>) -> Recipe {
        Recipe(CronExpr::parse(cron, None).unwrap(), deadline)
    }

    fn due(Recipe(cron, deadline): &Recipe, past: &Past, now: Timestamp) -> Due {
        super::due(cron, deadline.map(Duration::from_secs), past, now)
    }

    fn fresh() -> Past {
        Past { created: at("10:00:30"), is_unchanged: true, next: None, last: None }
    }

    fn later(next: &str) -> Due {
        Due::Later { next: Some(at(next)), missed: None }
    }

    fn slot(due: Due) -> Option<Timestamp> {
        match due {
            Due::Now { slot, .. } => Some(slot),
            Due::Later { .. } => None,
        }
    }

    #[test]
    fn nothing_runs_before_the_first_slot_after_the_creation() {
        let hourly = recipe("@hourly", None);
        assert_eq!(due(&hourly, &fresh(), at("10:00:30")), later("11:00:00"));
        assert_eq!(due(&hourly, &fresh(), at("10:59:59")), later("11:00:00"));
        assert_eq!(slot(due(&hourly, &fresh(), at("11:00:00"))), Some(at("11:00:00")));
    }

    #[test]
    fn of_missed_slots_the_latest_runs_once_and_the_others_are_counted() {
        let past = Past { next: Some(at("11:00:00")), ..fresh() };
        let Due::Now { since, slot, missed, next, until } =
            due(&recipe("@hourly", None), &past, at("14:30:00"))
        else {
            panic!("due")
        };
        assert_eq!((since, slot, next, until), (at("11:00:00"), at("14:00:00"), Some(at("15:00:00")), None));
        assert_eq!(missed, Some(Missed { count: 3, first: at("11:00:00") }));
    }

    #[test]
    fn a_slot_past_its_deadline_is_missed_too() {
        let past = Past { next: Some(at("11:00:00")), ..fresh() };
        let hourly = recipe("@hourly", Some(600));
        assert_eq!(slot(due(&hourly, &past, at("12:10:00"))), Some(at("12:00:00")));
        let missed = Some(Missed { count: 2, first: at("11:00:00") });
        assert_eq!(due(&hourly, &past, at("12:10:01")), Due::Later { next: Some(at("13:00:00")), missed });
        let at_once = recipe("@hourly", Some(0));
        assert_eq!(slot(due(&at_once, &past, at("11:00:00"))), Some(at("11:00:00")));
    }

    #[test]
    fn a_clock_that_steps_back_runs_nothing_twice() {
        let ran = Past { next: Some(at("12:01:00")), last: Some(at("12:00:00")), ..fresh() };
        let minutely = recipe("* * * * *", None);
        assert_eq!(due(&minutely, &ran, at("11:00:00")), later("12:01:00"));
        assert_eq!(due(&minutely, &ran, at("12:00:59")), later("12:01:00"));
        assert_eq!(slot(due(&minutely, &ran, at("12:01:00"))), Some(at("12:01:00")));
        let old = Past { next: Some(at("11:30:00")), ..ran };
        assert_eq!(due(&minutely, &old, at("11:45:00")), later("12:01:00"));
        assert!(is_ahead(ran.last, at("11:54:59")) && !is_ahead(ran.last, at("11:55:00")));
        assert!(!is_ahead(None, at("11:00:00")));
    }

    #[test]
    fn an_edited_expression_moves_the_next_slot_either_way() {
        let past =
            Past { next: Some(at("15:00:00")), last: Some(at("12:00:00")), is_unchanged: false, ..fresh() };
        assert_eq!(due(&recipe("30 * * * *", None), &past, at("12:10:00")), later("12:30:00"));
        assert_eq!(due(&recipe("0 20 * * *", None), &past, at("12:10:00")), later("20:00:00"));
        assert_eq!(due(&recipe("5 * * * *", None), &past, at("12:10:00")), later("13:05:00"), "not 12:05");
        assert_eq!(due(&recipe("@every 1h", None), &past, at("12:10:00")), later("13:00:00"));
        // Edited while nobody looked: what was promised counts, not what the new expression might have been.
        let late = Past { next: Some(at("12:00:00")), last: Some(at("11:00:00")), ..past };
        assert_eq!(
            due(&recipe("30 10 * * *", None), &late, at("12:10:00")),
            Due::Later { next: Some("2026-03-02T10:30:00Z".parse().unwrap()), missed: None }
        );
    }

    #[test]
    fn slots_of_the_time_it_was_disabled_are_not_caught_up_with() {
        let enabled = Past { is_unchanged: false, last: Some(at("11:00:00")), ..fresh() };
        assert_eq!(due(&recipe("@hourly", None), &enabled, at("14:30:00")), later("15:00:00"));
        assert_eq!(due(&recipe("@every 20m", None), &enabled, at("14:30:00")), later("14:40:00"));
    }

    #[test]
    fn every_keeps_its_rhythm() {
        let every = recipe("@every 10m", None);
        assert_eq!(due(&every, &fresh(), at("10:01:00")), later("10:10:30"));
        let past = Past { next: Some(at("10:10:30")), ..fresh() };
        let Due::Now { slot, next, .. } = due(&every, &past, at("10:35:00")) else { panic!("due") };
        assert_eq!((slot, next), (at("10:30:30"), Some(at("10:40:30"))));
        let ran = Past { next, last: Some(slot), ..past };
        assert_eq!(due(&every, &ran, at("10:35:01")), later("10:40:30"));
    }

    #[test]
    fn missed_slots_are_counted_up_to_a_point() {
        let said = |count| Missed { count, first: Timestamp::UNIX_EPOCH }.to_string();
        assert_eq!(said(1), "1 slot passed without a run, the first at 1970-01-01T00:00:00Z");
        assert!(said(7).starts_with("7 slots ") && said(MANY).starts_with("100 slots or more "));
    }

    proptest! {
        /// Whatever the clock does, each slot runs at most once, none before its time, and after a run the
        /// next is later.
        #[test]
        fn no_slot_runs_twice_over_any_walk_of_the_clock(
            steps in prop::collection::vec(-400_i64..900, 1..60),
            cron in prop::sample::select(vec!["* * * * *", "*/5 * * * *", "@every 100s", "@hourly"]),
            deadline in prop::option::of(0_u64..300),
        ) {
            let recipe = recipe(cron, deadline);
            let (mut past, mut now) = (fresh(), at("10:00:31"));
            let mut ran = Vec::new();
            for step in steps {
                now += SignedDuration::from_secs(step);
                match due(&recipe, &past, now) {
                    Due::Later { next, .. } => past.next = next,
                    Due::Now { since, slot, next, until, .. } => {
                        prop_assert!(since <= slot && slot <= now && slot > past.created);
                        prop_assert!(until.is_none_or(|until| now <= until));
                        prop_assert!(next.is_none_or(|next| next > now));
                        ran.push(slot);
                        (past.next, past.last) = (next, Some(slot));
                    }
                }
            }
            prop_assert!(ran.windows(2).all(|w| w[0] < w[1]), "{ran:?}");
        }

        /// With a clock that only goes forward, no slot of the last period is ever passed over.
        #[test]
        fn the_latest_slot_always_runs(
            steps in prop::collection::vec(1_i64..4_000, 1..40),
            cron in prop::sample::select(vec!["* * * * *", "*/5 * * * *", "17 * * * *", "@every 100s"]),
        ) {
            let recipe = recipe(cron, None);
            let (mut past, mut now) = (fresh(), at("10:00:31"));
            for step in steps {
                now += SignedDuration::from_secs(step);
                match due(&recipe, &past, now) {
                    Due::Later { next, missed } => {
                        prop_assert_eq!(missed, None);
                        prop_assert!(next.unwrap() > now);
                        past.next = next;
                    }
                    Due::Now { slot, next, .. } => {
                        prop_assert_eq!(recipe.0.latest(slot, now), Some(slot));
                        (past.next, past.last) = (next, Some(slot));
                    }
                }
                let anchor = past.last.unwrap_or(past.created);
                prop_assert!(recipe.0.next_after(anchor, anchor).unwrap() > now || past.last.is_none());
            }
        }
    }
}
