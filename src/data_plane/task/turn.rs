//! Of a backup and a purge of one datacenter, which goes first.
//!
//! Pure. A purge deletes files that no finished backup needs, and a backup under way may count on them, so neither ever
//! begins beside the other: what was made first goes first, and nothing waits for what has ended, is being deleted or was
//! made later and has not begun. The order is the same whoever asks, so the two never wait for each other.
//!
//! Of two that were made within one second a backup is the first. A purge made in that second may not have known of it:
//! it looks only when the second is over ([`SECOND`]).

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    api::medusa::{MedusaBackupJob, MedusaTask, TaskOperation},
    data_plane::frame::outcome::RunStatus,
};

/// How long a purge waits after it was first seen, before it looks who is there: the API server tells when an object was
/// made in whole seconds, and in that time the second is over.
pub const SECOND: Duration = Duration::from_millis(1100);

/// An object's place in the order. One without a time is of a cluster's past.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    made: Option<Timestamp>,
    is_purge: bool,
    uid: String,
}

impl Turn {
    fn of(object: &impl ResourceExt, is_purge: bool) -> Self {
        let made = object.creation_timestamp().map(|time| time.0);
        Self { made, is_purge, uid: object.uid().unwrap_or_default() }
    }
}

/// Backups and purges of one datacenter that are not over.
#[derive(Clone, Copy, Debug)]
pub enum OpenWork<'a> {
    /// A backup.
    Backup(&'a MedusaBackupJob),
    /// A purge.
    Purge(&'a MedusaTask),
}

impl<'a> OpenWork<'a> {
    /// The task as such work; nothing when it is no purge.
    #[must_use]
    pub fn of_task(task: &'a MedusaTask) -> Option<Self> {
        (task.spec.operation == TaskOperation::Purge).then_some(Self::Purge(task))
    }

    fn turn(&self) -> Turn {
        match self {
            Self::Backup(job) => Turn::of(*job, false),
            Self::Purge(task) => Turn::of(*task, true),
        }
    }

    fn datacenter(&self) -> &str {
        match self {
            Self::Backup(job) => &job.spec.cassandra_datacenter,
            Self::Purge(task) => &task.spec.cassandra_datacenter,
        }
    }

    /// Whether it has begun, and whether it is over or never will be.
    fn course(&self) -> (bool, bool) {
        let (times, deleted) = match self {
            Self::Backup(job) => {
                (job.status.as_ref().map(RunStatus::times), &job.metadata.deletion_timestamp)
            }
            Self::Purge(task) => {
                (task.status.as_ref().map(RunStatus::times), &task.metadata.deletion_timestamp)
            }
        };
        let (started, finished) = times.unwrap_or_default();
        (started.is_some(), finished.is_some() || deleted.is_some())
    }

    /// Whether `self`, which has not begun, waits for `other`.
    #[must_use]
    pub fn waits_for(&self, other: &OpenWork<'_>) -> bool {
        let (own, their) = (self.turn(), other.turn());
        let (started, is_over) = other.course();
        let is_itself = own.is_purge == their.is_purge && own.uid == their.uid;
        let may_meet = own.is_purge || their.is_purge;
        self.datacenter() == other.datacenter()
            && may_meet
            && !is_itself
            && !is_over
            && (started || their < own)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const BEGUN: &str = "2026-01-01T00:00:00Z";

    /// What a test knows of one object: its second, whether it is a purge, whether it has begun.
    type Made = (u8, bool, bool);

    fn object<K: serde::de::DeserializeOwned>(n: usize, made: Made, dc: &str) -> K {
        let (second, _, begun) = made;
        serde_json::from_value(json!({
            "metadata": {"name": format!("n{n}"), "uid": format!("u{n}"),
                "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z")},
            "spec": {"cassandraDatacenter": dc, "operation": "purge"},
            "status": if begun { json!({"startTime": BEGUN}) } else { json!({}) },
        }))
        .unwrap()
    }

    /// Whether object 0 waits for object 1.
    fn waits(own: Made, other: Made) -> bool {
        let (job, task): (MedusaBackupJob, MedusaTask) = (object(0, own, "dc1"), object(0, own, "dc1"));
        let (other_job, other_task) = (object(1, other, "dc1"), object(1, other, "dc1"));
        let own = if own.1 { OpenWork::Purge(&task) } else { OpenWork::Backup(&job) };
        let other = if other.1 { OpenWork::Purge(&other_task) } else { OpenWork::Backup(&other_job) };
        own.waits_for(&other)
    }

    #[test]
    fn what_was_made_first_goes_first_and_what_has_begun_is_waited_for() {
        let (backup, purge) = (false, true);
        assert!(
            waits((2, backup, false), (1, purge, false)) && !waits((1, purge, false), (2, backup, false))
        );
        assert!(
            waits((2, purge, false), (1, backup, false)) && !waits((1, backup, false), (2, purge, false))
        );
        assert!(waits((1, backup, false), (2, purge, true)) && waits((1, purge, false), (2, backup, true)));
        assert!(waits((1, purge, false), (1, backup, false)), "in one second the backup is first");
        assert!(!waits((1, backup, false), (1, purge, false)));
        assert!(!waits((2, backup, false), (1, backup, true)), "backups do not wait for each other");
        assert!(waits((2, purge, false), (1, purge, false)) && waits((1, purge, false), (2, purge, true)));
    }

    #[test]
    fn what_is_over_elsewhere_or_being_deleted_is_not_waited_for() {
        let purge: MedusaTask = object(0, (2, true, false), "dc1");
        let job: MedusaBackupJob = object(1, (1, false, true), "dc1");
        let waits = |job: &MedusaBackupJob| OpenWork::Purge(&purge).waits_for(&OpenWork::Backup(job));
        assert!(waits(&job));
        let mut over = job.clone();
        over.status.as_mut().unwrap().finish_time = over.status.as_ref().unwrap().start_time.clone();
        assert!(!waits(&over));
        let mut deleted = job.clone();
        deleted.metadata.deletion_timestamp = deleted.metadata.creation_timestamp.clone();
        assert!(!waits(&deleted));
        assert!(!waits(&object(1, (1, false, true), "dc2")));
        assert!(!OpenWork::Purge(&purge).waits_for(&OpenWork::Purge(&purge)), "nor for itself");
    }

    proptest! {
        /// Of all that has not begun somebody may, and of a backup and a purge never both.
        #[test]
        fn somebody_may_always_begin_and_never_both(
            made in prop::collection::vec((0_u8..3, any::<bool>()), 1..8),
        ) {
            let jobs: Vec<MedusaBackupJob> =
                made.iter().enumerate().map(|(n, (s, p))| object(n, (*s, *p, false), "dc1")).collect();
            let tasks: Vec<MedusaTask> =
                made.iter().enumerate().map(|(n, (s, p))| object(n, (*s, *p, false), "dc1")).collect();
            let work: Vec<OpenWork<'_>> = made
                .iter()
                .enumerate()
                .map(|(n, (_, purge))| if *purge { OpenWork::Purge(&tasks[n]) } else { OpenWork::Backup(&jobs[n]) })
                .collect();
            let free: Vec<&OpenWork<'_>> =
                work.iter().filter(|own| !work.iter().any(|other| own.waits_for(other))).collect();
            prop_assert!(!free.is_empty());
            let purges = free.iter().filter(|work| matches!(work, OpenWork::Purge(_))).count();
            prop_assert!(purges == 0 || free.len() == 1, "{free:?}");
        }
    }
}
