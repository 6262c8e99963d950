//! What becomes of a write into a data plane, and when it is tried again. Pure.

use std::time::Duration;

use crate::api::Reason;

/// First and longest pause before a write that was refused is tried again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Pause before what waits for other work, or for an answer, is looked at again: neither comes sooner by asking more often.
const WAITING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(5));

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The child is there, and ours. Of a purge: the restore point that stays.
    There(Option<String>),
    /// It would be made, were this no dry run. Of a purge: the restore point that would stay.
    Would(Option<String>),
    /// An object of that name is there and is not ours.
    Conflict,
    /// It may not be made.
    Refused(Reason, String),
    /// It could not be done for now.
    NotNow(Reason, String),
    /// The child is gone before anybody began with it.
    Withdrawn,
}

impl Outcome {
    /// First and longest pause before it is tried again; `None` when it came to an end.
    #[must_use]
    pub fn retry(&self) -> Option<(Duration, Duration)> {
        match self {
            Self::NotNow(
                Reason::BackupRunning | Reason::RestoreInProgress | Reason::RestorePointsUnknown,
                _,
            ) => Some(WAITING),
            Self::NotNow(..) => Some(AGAIN),
            Self::There(_) | Self::Would(_) | Self::Conflict | Self::Refused(..) | Self::Withdrawn => None,
        }
    }
}
