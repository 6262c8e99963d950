//! What a remote read tells us.

use jiff::Timestamp;
use serde::Serialize;

/// The outcome of looking for something in another cluster. A cluster that did not answer says nothing
/// about what it holds: nothing may be deleted, created anew or counted as failed from `Unknown`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Seen<T> {
    /// The cluster answered, and has it.
    Known(T),
    /// The cluster answered, and does not have it.
    Absent,
    /// The cluster did not answer.
    Unknown {
        /// Since when, when that is known.
        since: Option<Timestamp>,
        /// Why, for people.
        why: String,
    },
}

impl<T> Seen<T> {
    /// The value, when the cluster answered and has it.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent | Self::Unknown { .. } => None,
        }
    }
}
