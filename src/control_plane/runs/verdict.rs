//! What becomes of one datacenter of a run: the words that every kind's judge speaks. Pure.

use jiff::SignedDuration;

use crate::api::Reason;

/// How long a finished job's MedusaBackup is awaited: k8ssandra-operator writes it after `finishTime`,
/// and the two arrive by different watches.
pub const GRACE: SignedDuration = SignedDuration::from_secs(60);

/// The verdict on one datacenter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not decided.
    Running { reason: Reason, message: Option<String> },
    /// It did a part, and another attempt has to go on with the rest, however many there were.
    Again { reason: Reason, message: String },
    /// All of it is done.
    Succeeded,
    /// It did not work.
    Failed { reason: Reason, message: String },
}
