//! Purges that nobody has begun with and no FleetTask goes on with: they are taken back. Pure.
//!
//! A purge's check holds for a while only, and its FleetTask takes it back when that is over. Once the datacenter is
//! decided, because a deadline passed or because the task was cancelled while the data plane did not answer, or the
//! FleetTask is gone, nobody would: a data plane's controller that comes back after days would purge by a ruling of days
//! ago, beside whatever is at work then.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _, core::DeserializeGuard};

use super::adapter::{START_WITHIN, is_untouched};
use crate::{
    api::{
        fleet::{DatacenterRun, FleetTask},
        labels,
        medusa::{MedusaTask, TaskOperation},
    },
    control_plane::{
        data_planes::{
            fleet::{Snapshot, Usable},
            view::ObjectKey,
        },
        identity::{Identity, uid_of},
        runs::{
            Run as _,
            child::{ExactObject, place},
        },
    },
};

/// Finds them in data planes that answer. `tasks` are all FleetTasks there are.
#[must_use]
pub(super) fn leftovers<'a>(
    planes: &[Snapshot],
    tasks: impl IntoIterator<Item = &'a DeserializeGuard<FleetTask>>,
    control_plane: &Identity,
    now: Timestamp,
) -> Vec<ExactObject> {
    let tasks: BTreeMap<String, &DeserializeGuard<FleetTask>> =
        tasks.into_iter().filter_map(|task| Some((uid_of(task)?.to_owned(), task))).collect();
    let mut found = Vec::new();
    for plane in planes.iter().filter(|plane| plane.usable == Usable::Ready) {
        for child in plane.view.tasks.last_known().values() {
            let is_ours = control_plane.wrote(&child.metadata);
            let owner = child.labels().get(labels::JOB_UID).filter(|_| is_ours && is_open_purge(child));
            let Some(owner) = owner.map(|uid| tasks.get(uid).copied()) else { continue };
            if is_left(&plane.name, child, owner, now) {
                found.extend(ExactObject::of(plane, child.as_ref()));
            }
        }
    }
    found
}

fn is_open_purge(child: &MedusaTask) -> bool {
    child.spec.operation == TaskOperation::Purge
        && child.metadata.deletion_timestamp.is_none()
        && is_untouched(child)
}

/// Whether nobody goes on with a purge that nobody has begun with. A FleetTask that cannot be read is not looked at
/// either, and may be read again: its purges have the time they would have had.
fn is_left(
    data_plane: &str,
    child: &MedusaTask,
    owner: Option<&DeserializeGuard<FleetTask>>,
    now: Timestamp,
) -> bool {
    let Some(owner) = owner.filter(|owner| owner.meta().deletion_timestamp.is_none()) else { return true };
    let Ok(task) = &owner.0 else {
        let made = child.creation_timestamp().map(|made| made.0);
        return made.is_some_and(|made| now.duration_since(made) >= START_WITHIN);
    };
    let namespace = child.metadata.namespace.clone().unwrap_or_default();
    let datacenter = ObjectKey::new(namespace, &child.spec.cassandra_datacenter);
    let mut entries = task.status.iter().flat_map(|status| &status.datacenters).map(|entry| &entry.run);
    let is_of = |run: &DatacenterRun| run.data_plane == data_plane && place(run) == datacenter;
    task.is_over() || entries.any(|run| is_of(run) && run.phase.is_final())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::control_plane::fanout::tests::{datacenter, live, plane};

    const UID: &str = "0b1c2d3e-0000-0000-0000-000000000000";

    fn purge(status: &Value) -> Value {
        json!({
            "metadata": {"name": "weekly-dc1-0b1c2d3e", "namespace": "ns", "uid": "c", "resourceVersion": "7",
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {labels::CONTROL_PLANE: "cp", labels::JOB_UID: UID}},
            "spec": {"cassandraDatacenter": "dc1", "operation": "purge"}, "status": status,
        })
    }

    /// The FleetTask of the purge, with one datacenter in each of two data planes.
    fn task(phase: &str, eu: &str) -> Value {
        let entry = |plane: &str, phase: &str| {
            json!({"dataPlane": plane, "namespace": "ns", "datacenter": "dc1", "cluster": "shop", "phase": phase,
                "attempts": 1})
        };
        json!({
            "metadata": {"name": "weekly", "namespace": "medusa-fleet", "uid": UID},
            "spec": {"operation": "purge"},
            "status": {"phase": phase, "datacenters": [entry("us", "Failed"), entry("eu", eu)]},
        })
    }

    fn planes(child: &Value) -> [Snapshot; 1] {
        let mut view = live(&[datacenter("dc1", 1)]);
        let child: MedusaTask = serde_json::from_value(child.clone()).unwrap();
        view.tasks.put(ObjectKey::of(&child), Arc::new(child));
        [plane("eu", view)]
    }

    fn is_taken_back(child: &Value, tasks: &[Value], now: &str) -> bool {
        let tasks: Vec<DeserializeGuard<FleetTask>> =
            tasks.iter().map(|task| serde_json::from_value(task.clone()).unwrap()).collect();
        let left = leftovers(&planes(child), &tasks, &Identity::named("cp"), now.parse().unwrap());
        let key = ObjectKey::new("ns", "weekly-dc1-0b1c2d3e");
        let this = ExactObject { data_plane: "eu".into(), key, uid: "c".into(), version: "7".into() };
        assert!(left.is_empty() || left == [this], "{left:?}");
        !left.is_empty()
    }

    const SOON: &str = "2026-01-01T00:10:00Z";
    const LATE: &str = "2026-01-01T01:00:00Z";

    #[test]
    fn a_purge_is_taken_back_once_its_datacenter_is_decided_or_its_task_over_or_gone() {
        let untouched = purge(&json!(null));
        let is_left = |tasks: &[Value]| is_taken_back(&untouched, tasks, SOON);
        assert!(!is_left(&[task("Running", "Running")]), "its task goes on with it");
        assert!(!is_left(&[task("Running", "Pending")]), "made before a crash it is adopted");
        assert!(is_left(&[task("Running", "Failed")]), "it timed out, and others go on");
        assert!(is_left(&[task("Cancelled", "Cancelled")]));
        assert!(is_left(&[]), "its task was deleted");
        let mut going = task("Running", "Running");
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(is_left(&[going]), "its task is being deleted, and nobody looks at it");
    }

    #[test]
    fn one_that_does_not_say_which_it_is_or_in_which_version_is_left_alone() {
        for field in ["uid", "resourceVersion"] {
            for value in [json!(null), json!("")] {
                let mut nameless = purge(&json!(null));
                nameless["metadata"][field] = value;
                assert!(!is_taken_back(&nameless, &[], SOON), "{field}");
            }
        }
    }

    #[test]
    fn a_purge_that_was_begun_with_is_left_alone() {
        let begun = json!({"startTime": "2026-01-01T00:00:01Z"});
        let ended = json!({"finishTime": "2026-01-01T00:00:01Z"});
        for status in [begun, ended] {
            assert!(!is_taken_back(&purge(&status), &[], LATE), "{status}");
        }
    }

    #[test]
    fn what_is_silent_or_unreadable_is_unknown_and_nothing_of_others_is_touched() {
        let untouched = purge(&json!(null));
        let mut silent = planes(&untouched);
        silent[0].usable = Usable::Unreachable { since: None, why: "no route".to_owned() };
        assert_eq!(leftovers(&silent, [], &Identity::named("cp"), LATE.parse().unwrap()), []);
        assert_eq!(
            leftovers(&planes(&untouched), [], &Identity::named("another"), LATE.parse().unwrap()),
            []
        );
        let mut sync = untouched.clone();
        sync["spec"]["operation"] = json!("sync");
        assert!(!is_taken_back(&sync, &[], LATE), "a sync harms nobody");
        let mut odd = task("Failed", "Failed");
        odd["spec"]["operation"] = json!(7);
        assert!(!is_taken_back(&untouched, std::slice::from_ref(&odd), SOON));
        assert!(is_taken_back(&untouched, &[odd], LATE), "what was checked does not hold any longer");
    }
}
