//! How what did not go as hoped is tried again: the one table of this role. Pure.
//!
//! | what | first pause, doubled up to the longest | given up after |
//! |---|---|---|
//! | a node goes on, or cannot be reached | `poll_first` … `poll_max` | `silence` |
//! | a node refuses to be asked to start | `poll_first` … `poll_max` | `start` |
//! | Medusa's summary is not whole, or cannot be read | `poll_first` … `poll_max`, the other nodes in between | `summary` |
//! | a call is not answered in time | `hung_first` … `hung_max`: it holds one of Medusa's few threads | `silence` |
//! | Medusa answers that it cannot | 1 s … `input_retry_max` | `summary` |
//! | an object waits for something to heal | 1 s … `input_retry_max` | `input` |
//! | an object waits for other work | 1 s … 2 s: who waits goes on as soon as that ends | `run` |
//!
//! Beside that, the API server is asked again after 50 ms when somebody else was faster, and after 1 s … 1 min when it
//! refused (`context.rs`). The figures are those of [`Timings`], which gives their reasons.

use std::time::Duration;

use super::timings::Timings;
use crate::runtime::backoff;

/// First pause where nothing is known of how long it may take.
const FIRST: Duration = Duration::from_secs(1);
/// Longest pause before other work is looked at again.
const BUSY: Duration = Duration::from_secs(2);

/// What did not go as hoped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// A node goes on, or cannot be reached.
    NotDone,
    /// A node refuses to be asked to start.
    NotStarted,
    /// Medusa's summary is not whole, or cannot be read.
    NotWhole,
    /// A call is not answered in time.
    Hung,
    /// Medusa answers that it cannot.
    Refused,
    /// An object waits for something to heal.
    Waiting,
    /// An object waits for other work.
    Busy,
}

/// How something is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    first: Duration,
    longest: Duration,
    /// How long it may go on so before it is given up.
    pub budget: Duration,
}

impl Retry {
    /// The row of the table.
    #[must_use]
    pub fn of(kind: FailureKind, timings: &Timings) -> Self {
        let Timings { poll_first, poll_max, hung_first, hung_max, input_retry_max, .. } = *timings;
        let (first, longest, budget) = match kind {
            FailureKind::NotDone => (poll_first, poll_max, timings.silence),
            FailureKind::NotStarted => (poll_first, poll_max, timings.start),
            FailureKind::NotWhole => (poll_first, poll_max, timings.summary),
            FailureKind::Hung => (hung_first, hung_max, timings.silence),
            FailureKind::Refused => (FIRST, input_retry_max, timings.summary),
            FailureKind::Waiting => (FIRST, input_retry_max, timings.input),
            FailureKind::Busy => (FIRST, BUSY.min(input_retry_max), timings.run),
        };
        Self { first: first.min(longest), longest, budget }
    }

    /// How long to pause after so many attempts.
    #[must_use]
    pub fn pause(self, attempts: u32) -> Duration {
        backoff::delay(attempts, self.first, self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_whatever_the_figures() {
        let timings = Timings { input_retry_max: Duration::from_millis(100), ..Timings::default() };
        let pauses = |kind| [0, 1, 2, 40].map(|n| Retry::of(kind, &timings).pause(n).as_millis());
        assert_eq!(pauses(FailureKind::Hung), [30_000, 60_000, 120_000, 180_000]);
        assert_eq!(pauses(FailureKind::NotDone), [100, 200, 400, 5_000]);
        assert_eq!(pauses(FailureKind::Busy), [100; 4], "never longer than the longest");
    }
}
