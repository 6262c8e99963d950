//! Syncs that ended without the word of a pod, judged by what they left. Pure.
//!
//! Some versions of k8ssandra-operator end a sync after the first MedusaBackup it imports, with no pod in its lists
//! (k8ssandra-operator issue 1788): the sync worked and is not whole, and the next one imports the next. One that found
//! nothing to import ends as it should. Nobody's word and nothing imported is a sync that no pod answered.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use crate::{
    api::{
        Conditions as _,
        medusa::{MedusaTask, TaskOperation},
    },
    control_plane::data_planes::{section::Listing, view::View},
};

/// How long after such an end what it left is awaited: MedusaBackups and MedusaTasks come by different watches.
pub const GRACE: SignedDuration = SignedDuration::from_secs(10);

/// What became of a sync that ended without the word of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wordless {
    /// It imported so many MedusaBackups: another one has to go on.
    Imported(usize),
    /// It cannot be told yet, for this reason.
    Open(String),
    /// It did nothing.
    Nothing,
}

impl Wordless {
    /// Of `task`, in its data plane's `view`, at `now`; `None` for anything but a sync that ended so.
    #[must_use]
    pub fn of(task: &MedusaTask, view: &View, now: Timestamp) -> Option<Self> {
        let status = task.status.as_ref()?;
        let end = status.finish_time.as_ref().filter(|_| task.spec.operation == TaskOperation::Sync)?.0;
        let has_failed = !status.failed.is_empty() || status.conditions.is_true("Failed");
        if has_failed || status.finished.iter().any(|pod| pod.pod_name.is_some()) {
            return None;
        }
        let backups = match view.listing(&view.backups) {
            Listing::Known(backups) => backups,
            Listing::Unknown { why, .. } => return Some(Self::Open(why)),
        };
        let begun = task.creation_timestamp()?.0;
        let (namespace, datacenter) = (task.namespace().unwrap_or_default(), &task.spec.cassandra_datacenter);
        let is_new = |created: Timestamp| created >= begun;
        let imported = backups.iter().filter(|(key, backup)| {
            key.namespace == namespace
                && backup.datacenter == *datacenter
                && backup.created.is_some_and(is_new)
        });
        match imported.count() {
            0 if now.duration_since(end) < GRACE => Some(Self::Open("what it left is awaited".to_owned())),
            0 => Some(Self::Nothing),
            count => Some(Self::Imported(count)),
        }
    }

    /// Whether another sync has to go on.
    #[must_use]
    pub fn is_unwhole(&self) -> bool {
        matches!(self, Self::Imported(_))
    }

    /// What is said of a sync that is not whole; nothing of one that did nothing.
    #[must_use]
    pub fn says(&self) -> Option<String> {
        match self {
            Self::Imported(count) => Some(format!(
                "a sync imported {count} MedusaBackups and ended without the word of a pod; another one goes on"
            )),
            Self::Open(why) => Some(format!("a sync ended without the word of a pod: {why}")),
            Self::Nothing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::control_plane::data_planes::{records::BackupRecord, view::ObjectKey};

    fn sync(status: &Value) -> MedusaTask {
        serde_json::from_value(json!({
            "metadata": {"name": "s", "namespace": "ns", "creationTimestamp": "2026-01-01T00:00:10Z"},
            "spec": {"cassandraDatacenter": "dc1", "operation": "sync"}, "status": status,
        }))
        .unwrap()
    }

    /// The end of a sync, with MedusaBackups made at these seconds.
    fn after(status: &Value, made: &[(&str, i64)], waited: i64) -> Option<Wordless> {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let at = |second: i64| start + SignedDuration::from_secs(second);
        let mut view = View::unknown();
        view.set_synced();
        for (datacenter, second) in made {
            let record = BackupRecord {
                datacenter: (*datacenter).to_owned(),
                created: Some(at(*second)),
                ..BackupRecord::default()
            };
            view.backups.put(ObjectKey::new("ns", format!("{datacenter}-{second}")), Arc::new(record));
        }
        Wordless::of(&sync(status), &view, at(60 + waited))
    }

    #[test]
    fn a_sync_that_no_pod_answered_is_told_from_one_that_ended_early_by_what_it_left() {
        let silent = json!({"startTime": "2026-01-01T00:00:10Z", "finishTime": "2026-01-01T00:01:00Z", "finished": []});
        assert_eq!(after(&silent, &[("dc1", 20)], 0), Some(Wordless::Imported(1)));
        assert_eq!(
            after(&silent, &[("dc1", 9), ("dc2", 20)], 10),
            Some(Wordless::Nothing),
            "none of it is its own"
        );
        assert!(
            matches!(after(&silent, &[], 9), Some(Wordless::Open(_))),
            "the two come by different watches"
        );
        let mut blind = View::unknown();
        blind.set_synced();
        blind.backups.trust.refuse("forbidden");
        let now = Timestamp::MAX;
        assert!(
            matches!(Wordless::of(&sync(&silent), &blind, now), Some(Wordless::Open(why)) if why == "forbidden")
        );
    }

    #[test]
    fn only_a_sync_that_ended_without_a_word_is_judged_by_what_it_left() {
        let mut ends = vec![json!(null), json!({"startTime": "2026-01-01T00:00:10Z"})];
        let ended = |more: Value| {
            let mut status = json!({"finishTime": "2026-01-01T00:01:00Z"});
            status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            status
        };
        ends.push(ended(json!({"finished": [{"podName": "a"}]})));
        ends.push(ended(json!({"failed": ["a"]})));
        for end in ends {
            assert_eq!(after(&end, &[("dc1", 20)], 0), None, "{end}");
        }
    }
}
