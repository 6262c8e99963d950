//! Standard Kubernetes conditions, set by one pure function.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::Reason;

/// Every type of condition: the kind that bears it, its name, and what it says when it is `True`.
pub const TYPES: &[(&str, &str, &str)] = &[
    (
        "DataPlane",
        "Ready",
        "The data plane can be used. It has the status and reason of the first other one that is not `True`.",
    ),
    ("DataPlane", "Accepted", "The kubeconfig is readable and safe."),
    ("DataPlane", "Reachable", "The API server answers."),
    ("DataPlane", "Authenticated", "The API server accepts the credential."),
    ("DataPlane", "Authorized", "What backups need is permitted."),
    ("DataPlane", "Served", "The definitions that backups need are there."),
    ("DataPlane", "Synced", "What is known of it is whole and fresh."),
    ("DataPlane", "Unique", "No other DataPlane is the same cluster."),
    (
        "DataPlane",
        "RegistrationsAccepted",
        "There only while it is `False`: somebody else asks for its name.",
    ),
    (
        "DataPlane",
        "Inherited",
        "An earlier installation left things there that nothing here asks for; there only while it is `True`.",
    ),
    ("FleetBackup", "Complete", "Every node of every datacenter that the cluster had at the time is in it."),
    (
        "FleetBackup",
        "Restorable",
        "It is complete, and the cluster still has these datacenters, with the same sizes and racks.",
    ),
    ("FleetBackupJob", "Complete", "Everything that was asked for is backed up. `Unknown` until the end."),
    ("FleetBackupSchedule", "Ready", "The next slot will run, in every datacenter that it is for."),
    ("FleetBackupSchedule", "Missed", "Slots were left out the last time that one was due."),
    ("FleetBackupSchedule", "Succeeded", "The last run ended well."),
    ("FleetCluster", "Protected", "A complete restore point is young enough."),
    (
        "FleetCluster",
        "MedusaDeployed",
        "Medusa runs in every datacenter, as its K8ssandraCluster asks for where there is one.",
    ),
    (
        "FleetCluster",
        "CredentialsInSync",
        "The Secrets that Medusa needs are in place in every datacenter's namespace.",
    ),
    (
        "FleetCluster",
        "PrefixUnique",
        "No other cluster has its backups under the same prefix of the same bucket.",
    ),
    ("FleetCluster", "InventoryConsistent", "The data planes agree about every restore point."),
    (
        "FleetCluster",
        "ClusterClaimed",
        "One of its datacenters says that it belongs to another cluster; there only while it is `True`.",
    ),
    ("FleetCluster", "Conflict", "Somebody takes back what is deployed; there only while it is `True`."),
    ("FleetRestoreJob", "ChecksPassed", "Nothing stands in the way of the restore."),
    (
        "FleetRestoreJob",
        "Complete",
        "Every datacenter holds the data of the backup. `Unknown` until the end.",
    ),
    ("FleetTask", "Complete", "Everything that was asked for is done. `Unknown` until the end."),
    ("MedusaBackupJob", "Complete", "Every node is backed up. `Unknown` until the end."),
    ("MedusaBackupJob", "Failed", "It is not. `Unknown` until the end."),
    ("MedusaBackupSchedule", "Ready", "The next slot will run."),
    ("MedusaBackupSchedule", "Missed", "Slots were left out the last time that one was due."),
    ("MedusaConfiguration", "Ready", "The configuration can be used."),
    (
        "MedusaConfiguration",
        "SecretAvailable",
        "The Secret that it refers to is there and has the key `credentials`, or none is needed.",
    ),
    (
        "MedusaConfiguration",
        "Replicated",
        "Every copy is in place, or shared. Only in the control plane's cluster.",
    ),
    (
        "MedusaRestoreJob",
        "Complete",
        "Every pod has restored its data. `Unknown` until the end; its reason says what is going on.",
    ),
    ("MedusaRestoreJob", "Failed", "It has not. `Unknown` until the end."),
    ("MedusaTask", "Complete", "Every pod that was asked has done it. `Unknown` until the end."),
    ("MedusaTask", "Failed", "It has not. `Unknown` until the end."),
];

/// Longest message metav1.Condition accepts is 32768; ours stay readable.
const MAX_MESSAGE: usize = 1024;

/// A condition's status (`None` is unknown), reason and message.
pub type ConditionVerdict = (Option<bool>, Reason, String);

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
