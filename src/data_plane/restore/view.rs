//! What a restore sees of its datacenter: the object itself, its StatefulSets and its pods.
//!
//! Pure. Read from the objects as JSON, as types of ours would drop what a patch has to keep.

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ContainerStatus, Pod},
};
use serde_json::Value;

use super::{
    lock::LockHolder,
    template::{self, Holds},
};
use crate::{api::labels, data_plane::medusa::pods::ready_since};

/// Longest part of a container's last words that is passed on.
const MAX_SAID: usize = 300;

/// Everything at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The datacenter; nothing when it is gone.
    pub datacenter: Option<Datacenter>,
    /// Its StatefulSets.
    pub sets: Vec<Set>,
    /// Its pods.
    pub pods: Vec<RestorePod>,
}

/// The CassandraDatacenter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are the object's own")]
pub struct Datacenter {
    /// `spec.stopped`.
    pub stopped: bool,
    /// cass-operator says that it is stopped.
    pub is_stopped: bool,
    /// cass-operator says that it is ready and has nothing left to do.
    pub is_ready: bool,
    /// cass-operator says that it is changing StatefulSets.
    pub is_updating: bool,
    /// Whose orders its pod template holds.
    pub orders: Holds,
    /// Who is at work on it.
    pub claim: LockHolder,
}

/// A StatefulSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// Replicas it is told to have.
    pub replicas: i32,
    /// Whose orders its template holds.
    pub orders: Holds,
    /// Every pod it is told to have is there, ready and made from its present template.
    pub is_rolled_out: bool,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestorePod {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Whose orders it was made with.
    pub orders: Holds,
    /// Since when it is ready, if it is.
    pub ready_since: Option<Timestamp>,
    /// Its init container `medusa-restore`.
    pub restore: Restore,
}

/// The state of an init container `medusa-restore`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restore {
    /// It has not run yet, and what the kubelet says about that.
    Pending(String),
    /// It runs.
    Running(Option<Timestamp>),
    /// It ended with 0, which does not say that anything was restored.
    Exited(Option<Timestamp>),
    /// It ended with something else and will be run again.
    Failing {
        /// How often it was started again.
        restarts: i32,
        /// How it ended, in words.
        how: String,
        /// When.
        at: Option<Timestamp>,
    },
}

impl Datacenter {
    /// Reads the CassandraDatacenter `object`, seen from the restore with that uid, key and backup.
    #[must_use]
    pub fn of(object: &Value, uid: &str, key: &str, backup: &str) -> Self {
        let condition = |type_: &str| {
            let mut all =
                object.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
            let found = all.find(|c| c.get("type").and_then(Value::as_str) == Some(type_));
            found.and_then(|c| c.get("status")).and_then(Value::as_str) == Some("True")
        };
        let progress = object.pointer("/status/cassandraOperatorProgress").and_then(Value::as_str);
        let annotations = object.pointer("/metadata/annotations");
        let lock = annotations.and_then(|a| a.get(labels::RESTORE)).and_then(Value::as_str);
        Self {
            stopped: object.pointer("/spec/stopped").and_then(Value::as_bool).unwrap_or_default(),
            is_stopped: condition("Stopped"),
            is_ready: condition("Ready") && progress == Some("Ready"),
            is_updating: condition("Updating"),
            orders: template::holds(pod_spec(object), backup, key),
            claim: LockHolder::read(lock, uid),
        }
    }
}

/// The pod spec in a CassandraDatacenter's pod template; null when there is none.
#[must_use]
pub fn pod_spec(datacenter: &Value) -> &Value {
    datacenter.pointer("/spec/podTemplateSpec/spec").unwrap_or(&Value::Null)
}

impl Set {
    /// Reads a StatefulSet.
    #[must_use]
    pub fn of(set: &StatefulSet, key: &str, backup: &str) -> Self {
        let spec = set.spec.as_ref();
        let template = spec.and_then(|s| s.template.spec.as_ref());
        let template = serde_json::to_value(template).unwrap_or_default();
        let replicas = spec.and_then(|s| s.replicas).unwrap_or(1);
        let is_rolled_out = set.status.as_ref().is_some_and(|status| {
            status.observed_generation.unwrap_or_default() >= set.metadata.generation.unwrap_or_default()
                && status.replicas == replicas
                && status.ready_replicas.unwrap_or_default() == replicas
                && (replicas == 0 || status.updated_replicas.unwrap_or_default() == replicas)
        });
        Self {
            name: set.metadata.name.clone().unwrap_or_default(),
            replicas,
            orders: template::holds(&template, backup, key),
            is_rolled_out,
        }
    }
}

impl RestorePod {
    /// Reads a pod.
    #[must_use]
    pub fn of(pod: &Pod, key: &str, backup: &str) -> Self {
        let status = pod.status.as_ref();
        let container = status
            .and_then(|s| s.init_container_statuses.as_ref())
            .and_then(|all| all.iter().find(|c| c.name == template::CONTAINER));
        let spec = serde_json::to_value(pod.spec.as_ref()).unwrap_or_default();
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
            orders: template::holds(&spec, backup, key),
            ready_since: ready_since(pod),
            restore: container.map_or_else(|| Restore::Pending("not started yet".to_owned()), restore),
        }
    }

    /// When something was last seen to move in it.
    #[must_use]
    pub fn moved(&self) -> Option<Timestamp> {
        let restore = match &self.restore {
            Restore::Pending(_) => None,
            Restore::Running(at) | Restore::Exited(at) | Restore::Failing { at, .. } => *at,
        };
        self.created.max(self.ready_since).max(restore)
    }
}

fn restore(container: &ContainerStatus) -> Restore {
    let state = container.state.as_ref();
    if let Some(running) = state.and_then(|s| s.running.as_ref()) {
        return Restore::Running(running.started_at.as_ref().map(|time| time.0));
    }
    let last = container.last_state.as_ref().and_then(|s| s.terminated.as_ref());
    let ended = state.and_then(|s| s.terminated.as_ref());
    match (ended, last) {
        (Some(end), _) if end.exit_code == 0 => Restore::Exited(end.finished_at.as_ref().map(|time| time.0)),
        (Some(end), _) | (None, Some(end)) if end.exit_code != 0 => {
            let said: String =
                end.message.as_deref().unwrap_or_default().trim().chars().take(MAX_SAID).collect();
            let said = if said.is_empty() { said } else { format!(": {said}") };
            let reason = end.reason.as_deref().unwrap_or("Error");
            Restore::Failing {
                restarts: container.restart_count,
                how: format!("exit code {} ({reason}){said}", end.exit_code),
                at: end.finished_at.as_ref().map(|time| time.0),
            }
        }
        _ => {
            let waiting = state.and_then(|s| s.waiting.as_ref());
            let why = waiting.and_then(|w| w.reason.clone()).unwrap_or_else(|| "not started yet".to_owned());
            Restore::Pending(why)
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(json!({}), Restore::Pending("not started yet".to_owned()))]
    #[case(json!({"state": {"waiting": {"reason": "ErrImagePull"}}}), Restore::Pending("ErrImagePull".to_owned()))]
    #[case(json!({"state": {"running": {}}}), Restore::Running(None))]
    #[case(json!({"state": {"terminated": {"exitCode": 0}}}), Restore::Exited(None))]
    #[case(
        json!({"restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
               "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "no disk\n"}}}),
        Restore::Failing { restarts: 3, how: "exit code 1 (Error): no disk".to_owned(), at: None }
    )]
    #[case(
        json!({"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}),
        Restore::Failing { restarts: 0, how: "exit code 137 (OOMKilled)".to_owned(), at: None }
    )]
    #[case(
        json!({"state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1}}}),
        Restore::Running(None)
    )]
    fn the_kubelets_word_on_a_restore_is_read(#[case] status: Value, #[case] expected: Restore) {
        let mut status = status;
        status["name"] = json!("medusa-restore");
        for (field, value) in [("image", json!("")), ("imageID", json!("")), ("ready", json!(true))] {
            status[field] = value;
        }
        let status: ContainerStatus = serde_json::from_value(status).unwrap();
        assert_eq!(restore(&status), expected);
    }

    #[rstest]
    #[case("True", "Ready", true)]
    #[case("True", "Updating", false)]
    #[case("False", "Ready", false)]
    fn a_datacenter_is_ready_when_its_operator_has_nothing_left_to_do(
        #[case] ready: &str,
        #[case] progress: &str,
        #[case] expected: bool,
    ) {
        let object = json!({
            "spec": {"stopped": true},
            "status": {
                "cassandraOperatorProgress": progress,
                "conditions": [{"type": "Ready", "status": ready}, {"type": "Stopped", "status": "False"}]
            }
        });
        let read = Datacenter::of(&object, "u1", "k1", "b1");
        assert_eq!(read.is_ready, expected);
        assert!(read.stopped && !read.is_stopped && !read.is_updating);
    }
}
