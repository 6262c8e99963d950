//! What stands in the way of a start, and how long it may.
//!
//! Pure. A [`Problem`] names the field and what to do about it.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    retry::{FailureKind, Retry},
    timings::{Timings, after, since},
};
use crate::api::{Reason, names};

/// Why something does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// For machines.
    pub reason: Reason,
    /// For people: what is wrong with which field, and what to do.
    pub message: String,
    /// The pods it is about, if any.
    pub pods: Vec<String>,
    /// Whether waiting may help.
    pub may_heal: bool,
    /// Whether it is work that will end by itself, which is waited for as long as a run may take.
    pub is_busy: bool,
}

impl Problem {
    /// A problem that may go away by itself or by somebody's doing.
    #[must_use]
    pub fn new(reason: Reason, message: String) -> Self {
        Self { reason, message, pods: Vec::new(), may_heal: true, is_busy: false }
    }

    /// A problem that no waiting will solve.
    #[must_use]
    pub fn for_good(reason: Reason, message: String) -> Self {
        Self { may_heal: false, ..Self::new(reason, message) }
    }

    /// Other work has to end first.
    #[must_use]
    pub fn busy(reason: Reason, message: String) -> Self {
        Self { is_busy: true, ..Self::new(reason, message) }
    }
}

/// Why a step was not taken.
#[derive(Debug)]
pub enum Obstacle {
    /// Something is in the way that the object has to tell.
    Problem(Problem),
    /// The API server could not be asked, or refused. The step is tried again.
    ApiServer(kube::Error),
}

impl Obstacle {
    /// The problem, for whoever tells it.
    ///
    /// # Errors
    /// When the obstacle is the API server.
    pub fn problem(self) -> Result<Problem, kube::Error> {
        match self {
            Self::Problem(problem) => Ok(problem),
            Self::ApiServer(error) => Err(error),
        }
    }
}

impl From<Problem> for Obstacle {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<kube::Error> for Obstacle {
    fn from(error: kube::Error) -> Self {
        Self::ApiServer(error)
    }
}

/// Whether `name`, the value of `field`, can be an object's. What cannot must never be asked for: `dc1?x` would be read
/// as `dc1`, and waiting does not make it a name.
///
/// # Errors
/// When it cannot.
pub fn named(field: &str, name: &str) -> Result<(), Problem> {
    if names::is_object_name(name) {
        return Ok(());
    }
    Err(Problem::for_good(
        Reason::InvalidSpec,
        format!(
            "{field}: `{}` cannot be an object's name; give one of at most 253 lower case letters, digits, `-` and `.`, \
             that begins and ends with a letter or digit",
            names::shorten(&name.escape_debug().to_string(), 100)
        ),
    ))
}

/// What an object that cannot start has told so far, and since when it waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    begun: Timestamp,
    /// From when the time for healing is counted: when the waiting began, or when other work was last in the way, as waiting
    /// for that does not count.
    since: Timestamp,
    looks: u32,
    reported: Option<(Reason, String)>,
}

impl Waiting {
    /// Begins to wait.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self { begun: now, since: now, looks: 0, reported: None }
    }

    /// Whether `problem` ends the waiting: nothing can heal it, or the budget is spent.
    #[must_use]
    pub fn is_over(&mut self, problem: &Problem, timings: &Timings, now: Timestamp) -> bool {
        if problem.is_busy {
            self.since = now;
            return since(self.begun, now) >= Retry::of(FailureKind::Busy, timings).budget;
        }
        !problem.may_heal || since(self.since, now) >= Retry::of(FailureKind::Waiting, timings).budget
    }

    /// Whether `problem` has not been reported yet.
    #[must_use]
    pub fn is_news(&self, problem: &Problem) -> bool {
        self.reported
            .as_ref()
            .is_none_or(|(reason, told)| *reason != problem.reason || *told != problem.message)
    }

    /// `problem` is in the status now.
    pub fn reported(&mut self, problem: &Problem) {
        self.reported = Some((problem.reason, problem.message.clone()));
    }

    /// How long to wait before the next look at `problem`. The last look comes when the budget ends, not a pause later.
    pub fn pause(&mut self, problem: &Problem, timings: &Timings, now: Timestamp) -> Duration {
        let kind = if problem.is_busy { FailureKind::Busy } else { FailureKind::Waiting };
        let wait = Retry::of(kind, timings).pause(self.looks);
        self.looks = self.looks.saturating_add(1);
        wait.min(since(now, after(self.since, timings.input)))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_may_heal_is_waited_for_until_the_budget_is_spent() {
        let timings = Timings { input: Duration::from_secs(100), ..Timings::default() };
        let mut waiting = Waiting::new(at(0));
        let problem = Problem::new(Reason::NoPods, "none".to_owned());
        assert!(waiting.is_news(&problem));
        waiting.reported(&problem);
        assert!(!waiting.is_news(&problem));
        assert!(waiting.is_news(&Problem::new(Reason::NoPods, "one".to_owned())));
        let pauses: Vec<u64> = (0..6).map(|_| waiting.pause(&problem, &timings, at(0)).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30]);
        assert_eq!(waiting.pause(&problem, &timings, at(90)), Duration::from_secs(10));
        assert!(!waiting.is_over(&problem, &timings, at(99)));
        assert!(waiting.is_over(&problem, &timings, at(100)));
        let lost = Problem::for_good(Reason::NameConflict, "taken".to_owned());
        assert!(waiting.is_over(&lost, &timings, at(0)));
    }

    #[test]
    fn other_work_is_waited_for_longer_and_not_counted() {
        let timings = Timings { input: Duration::from_secs(100), ..Timings::default() };
        let mut waiting = Waiting::new(at(0));
        let busy = Problem::busy(Reason::RestoreRunning, "restore".to_owned());
        let none = Problem::new(Reason::NoPods, "none".to_owned());
        assert!(!waiting.is_over(&busy, &timings, at(5000)));
        assert!(!waiting.is_over(&none, &timings, at(5099)));
        assert!(waiting.is_over(&none, &timings, at(5100)));
        assert!(waiting.is_over(&busy, &timings, at(86_400)));
        let pauses: Vec<u64> = (0..4).map(|_| waiting.pause(&busy, &timings, at(5100)).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 2, 2], "its end is noticed soon");
    }

    #[rstest]
    #[case("dc 1", "`dc 1`")]
    #[case("dc1?x", "`dc1?x`")]
    #[case("dc%31", "`dc%31`")]
    #[case("dc1#x", "`dc1#x`")]
    #[case("..", "`..`")]
    #[case("DC1", "`DC1`")]
    #[case("a\u{1b}[2Jb\n", "`a\\u{1b}[2Jb\\n`")]
    fn what_is_no_name_ends_the_run_and_is_shown_escaped(#[case] name: &str, #[case] shown: &str) {
        let problem = named("spec.cassandraDatacenter", name).unwrap_err();
        assert_eq!((problem.reason, problem.may_heal), (Reason::InvalidSpec, false));
        assert!(problem.message.starts_with("spec.cassandraDatacenter: "), "{}", problem.message);
        assert!(problem.message.contains(shown), "{}", problem.message);
        assert!(named("spec.cassandraDatacenter", "dc1").is_ok());
    }
}
