//! What the specs of the runs over datacenters, FleetBackupJob and FleetTask, say in the same way.

use kube::core::{Message, Rule};

/// Holds a field of the spec to what it was when the object was made. The rule is on the object and not on its spec,
/// which is also a schedule's template and may be changed there.
///
/// Spelled with `has()`: of optional values the API server cannot estimate what comparing them costs.
pub(super) fn fixed(kind: &str, field: &str) -> Rule {
    let (now, before) = (format!("self.spec.{field}"), format!("oldSelf.spec.{field}"));
    Rule::new(format!("has({now}) == has({before}) && (!has({now}) || {now} == {before})")).message(
        Message::Message(format!(
            "spec.{field}: a {kind} cannot be changed, only cancelled; create a new one"
        )),
    )
}

/// Lets `spec.cancel` be set, and not be taken back.
pub(super) fn cancelled_once(kind: &str) -> Rule {
    Rule::new(
        "!has(oldSelf.spec.cancel) || !oldSelf.spec.cancel || (has(self.spec.cancel) && self.spec.cancel)",
    )
    .message(Message::Message(format!("spec.cancel: a {kind} that was cancelled stays so; create a new one")))
}

/// What every part asks of such a spec.
macro_rules! run_spec {
    ($spec:ty) => {
        impl $spec {
            /// The rollout, without limits when none is given.
            #[must_use]
            pub fn rollout(&self) -> $crate::api::fleet::Rollout {
                self.rollout.clone().unwrap_or_default()
            }

            /// Whether nothing more may start.
            #[must_use]
            pub fn is_cancelled(&self) -> bool {
                self.cancel == Some(true)
            }

            /// Whether nothing may be written in a data plane.
            #[must_use]
            pub fn is_dry_run(&self) -> bool {
                self.dry_run == Some(true)
            }
        }
    };
}
pub(super) use run_spec;
