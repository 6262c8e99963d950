//! Cassandra clusters whose backups wait, because they are being restored (reason `RestoreInProgress`) or purged
//! (`PurgeRunning`). Pure.
//!
//! What a data plane says holds up the whole cluster where a K8ssandraCluster known here lists the datacenter, or a run of
//! ours is at work there by its own status. Where labels alone make the cluster, it holds up the cluster's datacenters
//! in that data plane and nobody else's (ADR 19): a purge and a restore are about the pods and the nodes' backups of
//! one datacenter, so what is elsewhere is not in danger.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use crate::{
    api::{
        Reason,
        cassandra::CassandraDatacenter,
        fleet::{FleetOperation, FleetTask},
        labels,
        medusa::{MedusaTask, TaskOperation},
    },
    control_plane::{
        data_planes::{
            cluster_of::cluster_of,
            fleet::{Snapshot, Usable},
            view::ObjectKey,
        },
        identity::{Identity, uid_of},
        runs::{
            Run as _,
            child::Child as _,
            ending::ENDS_WITHIN,
            holds::Holds,
            restoring::{Restoring, restores},
        },
    },
};

/// How long a purge may go without an end before backups no longer wait for it. A data plane of ours ends every purge
/// within a day, and so one that is older is one that nobody works on: k8ssandra-operator never comes back to a purge it
/// was stopped in. A backup that is made beside a purge may have to be made again, and one that is not made cannot.
pub const ABANDONED_AFTER: SignedDuration = ENDS_WITHIN;

/// What the data planes show at `now` to the control plane of this label. `tasks` are the FleetTasks.
#[must_use]
pub fn holds<'a>(
    planes: &[Snapshot],
    control_plane: &Identity,
    tasks: impl IntoIterator<Item = &'a FleetTask>,
    now: Timestamp,
) -> Holds {
    let tasks: BTreeMap<String, &FleetTask> = tasks
        .into_iter()
        .filter(|task| task.spec.operation == FleetOperation::Purge && !task.is_over())
        .filter_map(|task| Some((uid_of(task)?.to_owned(), task)))
        .collect();
    let mut holds = Holds::default();
    for purge in purges(planes).filter(|purge| purge.is_awaited(control_plane, now)) {
        let task = purge.task.labels().get(labels::JOB_UID).and_then(|uid| tasks.get(uid));
        let is_ours = task.is_some_and(|task| is_at(task, &purge));
        holds.add(purge.plane, purge.cluster(), is_ours, (Reason::PurgeRunning, purge.why(now)));
    }
    for Restoring { plane, cluster, why } in restores(planes) {
        holds.add(plane, cluster, false, (Reason::RestoreInProgress, why));
    }
    holds
}

/// Whether the FleetTask is not done with the datacenter of `purge`, by its own status.
fn is_at(task: &FleetTask, purge: &Purge<'_>) -> bool {
    let mut entries = task.status.iter().flat_map(|status| &status.datacenters).map(|entry| &entry.run);
    entries.any(|entry| {
        entry.data_plane == purge.plane.name
            && entry.namespace == purge.key.namespace
            && entry.datacenter == purge.task.spec.cassandra_datacenter
            && !entry.phase.is_final()
    })
}

/// Clusters with a purge that has gone so long without an end that backups no longer wait for it, and which, for people.
#[must_use]
pub fn abandoned(planes: &[Snapshot], now: Timestamp) -> BTreeMap<String, String> {
    purges(planes)
        .filter(|purge| purge.task.is_started() && purge.age(now) >= ABANDONED_AFTER)
        .map(|purge| {
            let what = format!(
                "the purge of MedusaTask {} in data plane `{}` has been at work for {} h without an end, so nobody may be \
                 at work on it: backups do not wait for it any more; delete it",
                purge.key,
                purge.plane.name,
                purge.age(now).as_hours()
            );
            (purge.cluster(), what)
        })
        .collect()
}

/// A purge without an end, of a datacenter that is there, in a data plane that answers.
struct Purge<'a> {
    plane: &'a Snapshot,
    key: &'a ObjectKey,
    task: &'a MedusaTask,
    datacenter: &'a CassandraDatacenter,
}

impl Purge<'_> {
    fn cluster(&self) -> String {
        cluster_of(self.plane, self.datacenter).name
    }

    /// How long it has been at work. A start in the future was written by a clock that is ahead and does not count.
    fn age(&self, now: Timestamp) -> SignedDuration {
        let started = self.task.started().map(|time| time.0);
        let made = self.task.creation_timestamp().map(|time| time.0);
        let since = started.filter(|at| *at <= now).or(made).unwrap_or(now);
        now.duration_since(since)
    }

    /// Whether backups wait for it: a purge deletes the objects that no backup refers to which it knows, and a backup that
    /// is just being made may need them.
    ///
    /// Backups also wait for a purge of ours that no data plane has begun with, even when its FleetTask is over or gone:
    /// until it is taken back, it may begin at any moment. They do not wait for one that is [`abandoned`].
    fn is_awaited(&self, control_plane: &Identity, now: Timestamp) -> bool {
        if self.task.is_started() {
            return self.age(now) < ABANDONED_AFTER;
        }
        control_plane.wrote(&self.task.metadata)
    }

    /// Why backups wait, for people.
    fn why(&self, now: Timestamp) -> String {
        let hours = self.age(now).as_hours();
        let since = if hours >= 1 { format!(", at work for {hours} h,") } else { String::new() };
        format!(
            "waits for the purge of MedusaTask {} in data plane `{}`{since} to end; delete it if it never will",
            self.key, self.plane.name
        )
    }
}

/// The purges without an end in data planes that answer. Only MedusaTasks that FleetTasks made are seen. One in a data
/// plane that fell silent holds up nothing: a node's purge is about that node's backups, and those wait with it.
fn purges(planes: &[Snapshot]) -> impl Iterator<Item = Purge<'_>> {
    planes.iter().filter(|plane| plane.usable == Usable::Ready).flat_map(|plane| {
        plane.view.tasks.last_known().iter().filter_map(move |(key, task)| {
            let is_open = task.spec.operation == TaskOperation::Purge && !task.is_finished();
            let place = ObjectKey::new(&key.namespace, task.datacenter());
            let datacenter = plane.view.datacenters.last(&place).filter(|_| is_open)?;
            Some(Purge { plane, key, task, datacenter })
        })
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::control_plane::fanout::tests::{datacenter, live, plane};

    #[rstest::rstest]
    #[case::not_begun("purge", json!(null), true, "PurgeRunning")]
    #[case::at_work("purge", json!({"startTime": "2026-01-01T00:00:00Z"}), true, "PurgeRunning")]
    #[case::of_others("purge", json!({"startTime": "2026-01-01T00:00:00Z"}), false, "PurgeRunning")]
    #[case::of_others_who_take_it_back("purge", json!(null), false, "")]
    #[case::done("purge", json!({"finishTime": "2026-01-01T00:00:00Z"}), true, "")]
    #[case::a_sync("sync", json!({"startTime": "2026-01-01T00:00:00Z"}), true, "")]
    fn a_purge_holds_its_whole_cluster_while_it_is_at_work(
        #[case] operation: &str,
        #[case] status: serde_json::Value,
        #[case] is_ours: bool,
        #[case] expected: &str,
    ) {
        let task = serde_json::from_value(json!({
            "metadata": {"name": "t", "namespace": "ns", "labels": {
                labels::JOB_UID: "weekly", labels::CONTROL_PLANE: if is_ours { "cp" } else { "another" }}},
            "spec": {"cassandraDatacenter": "dc1", "operation": operation}, "status": status,
        }));
        let mut view = live(&[datacenter("dc1", 3), datacenter("dc2", 3)]);
        view.tasks.put(ObjectKey::new("ns", "t"), Arc::new(task.unwrap()));
        let mut planes = [plane("eu", view)];
        let reason = |planes: &[Snapshot]| {
            let held = holds(planes, &Identity::named("cp"), [], "2026-01-01T23:59:59Z".parse().unwrap());
            held.of("shop.ns.eu", "eu").map_or_else(String::new, |(reason, _)| reason.as_str().to_owned())
        };
        assert_eq!(reason(&planes), expected);
        planes[0].usable = Usable::Unreachable { since: None, why: "no route".to_owned() };
        assert_eq!(reason(&planes), "", "what is silent waits by itself");
    }

    /// An hour after the purges of these tests began.
    fn soon() -> Timestamp {
        "2026-01-01T01:00:00Z".parse().unwrap()
    }

    fn labelled(name: &str) -> crate::api::cassandra::CassandraDatacenter {
        let mut dc = datacenter(name, 3);
        dc.labels_mut().insert(labels::CLUSTER.to_owned(), "shop".to_owned());
        dc
    }

    fn purge(uid: &str) -> (ObjectKey, Arc<crate::api::medusa::MedusaTask>) {
        let task = serde_json::from_value(json!({
            "metadata": {"name": "t", "namespace": "ns", "labels": {
                labels::JOB_UID: uid, labels::CONTROL_PLANE: "cp"}},
            "spec": {"cassandraDatacenter": "dc2", "operation": "purge"},
            "status": {"startTime": "2026-01-01T00:00:00Z"},
        }));
        (ObjectKey::new("ns", "t"), Arc::new(task.unwrap()))
    }

    #[test]
    fn where_labels_alone_make_a_cluster_a_data_plane_holds_up_only_itself() {
        let mut marked = labelled("dc2");
        marked.annotations_mut().insert(labels::RESTORE.to_owned(), "{}".to_owned());
        let restored = live(&[marked]);
        let mut purged = live(&[labelled("dc2")]);
        purged.tasks.items_mut().extend([purge("whatever")]);
        for view in [restored, purged] {
            let planes = [plane("eu", live(&[labelled("dc1")])), plane("us", view)];
            let held = holds(&planes, &Identity::named("cp"), [], soon());
            assert!(held.of("shop", "us").is_some());
            assert_eq!(held.of("shop", "eu"), None);
        }
    }

    #[test]
    fn a_purge_of_ours_holds_the_whole_cluster_while_its_task_is_at_it() {
        let mut view = live(&[labelled("dc2")]);
        view.tasks.items_mut().extend([purge("u1")]);
        let planes = [plane("eu", live(&[labelled("dc1")])), plane("us", view)];
        let task = |uid: &str, phase: &str| -> FleetTask {
            serde_json::from_value(json!({
                "metadata": {"name": "weekly", "uid": uid}, "spec": {"operation": "purge"},
                "status": {"phase": "Running", "datacenters": [{"dataPlane": "us", "namespace": "ns",
                    "datacenter": "dc2", "cluster": "shop", "phase": phase}]},
            }))
            .unwrap()
        };
        let holds_eu = |task: &FleetTask| {
            holds(&planes, &Identity::named("cp"), [task], soon()).of("shop", "eu").is_some()
        };
        assert!(holds_eu(&task("u1", "Running")));
        assert!(!holds_eu(&task("u2", "Running")), "the uid in a label is a data plane's word");
        assert!(!holds_eu(&task("u1", "Failed")), "it is done with it");
    }

    #[rstest::rstest]
    #[case::at_work("2026-01-01T00:00:00Z", "2026-01-01T23:59:59Z", true)]
    #[case::nobody_works_on_it("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", false)]
    #[case::by_a_clock_that_is_ahead("2030-01-01T00:00:00Z", "2026-01-02T00:00:00Z", false)]
    #[case::by_that_clock_and_young("2030-01-01T00:00:00Z", "2026-01-01T06:00:00Z", true)]
    fn a_purge_that_never_ends_does_not_hold_backups_for_ever(
        #[case] started: &str,
        #[case] now: &str,
        #[case] holds_them: bool,
    ) {
        let task = serde_json::from_value(json!({
            "metadata": {"name": "t", "namespace": "ns", "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {labels::CONTROL_PLANE: "cp"}},
            "spec": {"cassandraDatacenter": "dc1", "operation": "purge"},
            "status": {"startTime": started, "inProgress": ["a"]},
        }));
        let mut view = live(&[datacenter("dc1", 3)]);
        view.tasks.put(ObjectKey::new("ns", "t"), Arc::new(task.unwrap()));
        let (planes, now) = ([plane("eu", view)], now.parse().unwrap());
        let (held, left) = (holds(&planes, &Identity::named("cp"), [], now), abandoned(&planes, now));
        assert_eq!(
            (held.of("shop.ns.eu", "eu").is_some(), left.contains_key("shop.ns.eu")),
            (holds_them, !holds_them)
        );
        for said in held.of("shop.ns.eu", "eu").map(|(_, why)| why).into_iter().chain(left.values()) {
            assert!(said.contains("ns/t") && said.contains(" h") && said.contains("delete it"), "{said}");
        }
    }
}
