//! What a remote read tells us.

use jiff::Timestamp;
use serde::Serialize;

/// The outcome of looking for something in another cluster. A cluster that did not answer, or did not show a whole kind,
/// says nothing about what it holds: nothing may be deleted, created anew or counted as failed from `Unknown`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Seen<T> {
    /// The cluster answered, and has it.
    Known(T),
    /// The cluster answered, and does not have it.
    Absent,
    /// Nobody knows: the cluster did not answer, does not show the kind, or shows something that cannot be read.
    Unknown {
        /// Since when, when that is known.
        since: Option<Timestamp>,
        /// Why, for people.
        why: String,
    },
}

impl<T> Seen<T> {
    /// The same about what `change` makes of the value.
    pub fn map<R>(self, change: impl FnOnce(T) -> R) -> Seen<R> {
        match self {
            Self::Known(value) => Seen::Known(change(value)),
            Self::Absent => Seen::Absent,
            Self::Unknown { since, why } => Seen::Unknown { since, why },
        }
    }

    /// The value, when the cluster answered and has it.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent | Self::Unknown { .. } => None,
        }
    }
}
