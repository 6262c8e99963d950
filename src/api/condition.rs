//! Standard Kubernetes conditions, set by one pure function.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::Reason;

/// Longest message metav1.Condition accepts is 32768; ours stay readable.
const MAX_MESSAGE: usize = 1024;

/// Sets `type_` in `conditions`. `lastTransitionTime` moves only when the status flips.
///
/// `status` is `Some(true)`, `Some(false)` or `None` for `Unknown`.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    type_: &str,
    status: Option<bool>,
    reason: Reason,
    message: impl Into<String>,
    generation: Option<i64>,
    now: Timestamp,
) {
    let status = match status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let mut message: String = message.into();
    message.truncate(message.floor_char_boundary(MAX_MESSAGE));
    let new = Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.as_str().to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: Time(now),
    };
    match conditions.iter_mut().find(|c| c.type_ == type_) {
        Some(old) => {
            let since = if old.status == new.status {
                old.last_transition_time.clone()
            } else {
                new.last_transition_time.clone()
            };
            *old = Condition { last_transition_time: since, ..new };
        }
        None => conditions.push(new),
    }
}

/// Reading a condition list.
pub trait Conditions {
    /// The condition of that type.
    fn of_type(&self, type_: &str) -> Option<&Condition>;

    /// Whether the condition of that type is `True`.
    fn is_true(&self, type_: &str) -> bool {
        self.of_type(type_).is_some_and(|c| c.status == "True")
    }
}

impl Conditions for [Condition] {
    fn of_type(&self, type_: &str) -> Option<&Condition> {
        self.iter().find(|c| c.type_ == type_)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn transition_time_moves_only_when_the_status_flips() {
        let mut list = Vec::new();
        set_condition(&mut list, "Ready", None, Reason::Connecting, "a", Some(1), at(1));
        set_condition(&mut list, "Ready", None, Reason::Unreachable, "b", Some(2), at(2));
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].last_transition_time.0, at(1));
        assert_eq!(list[0].reason, "Unreachable");
        set_condition(&mut list, "Ready", Some(true), Reason::Ready, "c", Some(2), at(3));
        assert_eq!(list[0].last_transition_time.0, at(3));
        assert!(list.is_true("Ready"));
    }

    #[test]
    fn long_messages_are_cut_on_a_character_boundary() {
        let mut list = Vec::new();
        set_condition(&mut list, "Ready", Some(false), Reason::Failed, "é".repeat(2000), None, at(1));
        assert!(list[0].message.len() <= MAX_MESSAGE);
    }
}
