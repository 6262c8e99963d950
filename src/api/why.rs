//! Why something is as it is.

use serde::{Deserialize, Serialize};

use super::Reason;

/// A reason and what people are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// For machines.
    pub reason: Reason,
    /// For people: where something is to be mended, the field and the fix.
    pub message: String,
}

impl Why {
    /// A reason and what to tell people.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}
