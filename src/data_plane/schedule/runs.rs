//! Backup jobs and tasks, as far as schedules look at them.
//!
//! Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};

use crate::{
    api::{
        Conditions as _, labels,
        medusa::{MedusaBackupJob, MedusaTask, ScheduledOperation, TaskOperation},
        names,
    },
    data_plane::frame::outcome::FAILED,
};

/// Suffix of the name of the sync that follows a purge (upstream: Tasks).
const FOLLOW_UP: &str = "-sync";

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScheduledWork {
    /// A MedusaBackupJob.
    Backup,
    /// A MedusaTask of operation `purge`.
    Purge,
    /// Any other MedusaTask.
    Other,
}

impl From<ScheduledOperation> for ScheduledWork {
    fn from(operation: ScheduledOperation) -> Self {
        match operation {
            ScheduledOperation::Backup => Self::Backup,
            ScheduledOperation::Purge => Self::Purge,
        }
    }
}

impl ScheduledWork {
    /// The kind of its objects.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Backup => "MedusaBackupJob",
            Self::Purge | Self::Other => "MedusaTask",
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every pod succeeded.
    Good,
    /// Anything else.
    Bad,
}

/// A MedusaBackupJob or a MedusaTask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleRun {
    /// What it does.
    pub work: ScheduledWork,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid; empty while its creation is not answered.
    pub uid: String,
    /// The CassandraDatacenter it works on.
    pub datacenter: String,
    /// The schedule that made it, as its label says.
    pub schedule: Option<String>,
    /// Its uid, as its annotation says: one that is made again under its name is another.
    pub schedule_uid: Option<String>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// How it ended, if it has.
    pub ending: Option<Ending>,
    /// Whether it is being deleted: nobody works on it any more.
    pub is_deleted: bool,
}

impl ScheduleRun {
    /// A MedusaBackupJob.
    #[must_use]
    pub fn of_job(job: &MedusaBackupJob) -> Self {
        let status = job.status.clone().unwrap_or_default();
        let is_whole = status.failed.is_empty() && !status.finished.is_empty();
        let ending = ending(status.finish_time.as_ref(), is_whole, &status.conditions);
        Self::new(ScheduledWork::Backup, &job.metadata, &job.spec.cassandra_datacenter, ending)
    }

    /// A MedusaTask.
    #[must_use]
    pub fn of_task(task: &MedusaTask) -> Self {
        let work = match task.spec.operation {
            TaskOperation::Purge => ScheduledWork::Purge,
            TaskOperation::Sync | TaskOperation::PrepareRestore => ScheduledWork::Other,
        };
        let status = task.status.clone().unwrap_or_default();
        let is_whole = status.failed.is_empty() && !status.finished.is_empty();
        let ending = ending(status.finish_time.as_ref(), is_whole, &status.conditions);
        Self::new(work, &task.metadata, &task.spec.cassandra_datacenter, ending)
    }

    fn new(work: ScheduledWork, meta: &ObjectMeta, datacenter: &str, ending: Option<Ending>) -> Self {
        Self {
            work,
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            datacenter: datacenter.to_owned(),
            schedule: meta.labels.as_ref().and_then(|all| all.get(labels::SCHEDULE)).cloned(),
            schedule_uid: meta.annotations.as_ref().and_then(|all| all.get(labels::SCHEDULE_UID)).cloned(),
            created: meta.creation_timestamp.as_ref().map(|time| time.0),
            ending,
            is_deleted: meta.deletion_timestamp.is_some(),
        }
    }

    /// Whether it still goes on, or will.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.ending.is_none() && !self.is_deleted
    }

    /// Whether `schedule` made it.
    #[must_use]
    pub fn is_of(&self, schedule: &str) -> bool {
        self.schedule.as_deref() == Some(names::label_value(schedule).as_str())
    }

    /// The slot of `schedule` it was made for.
    #[must_use]
    pub fn slot(&self, schedule: &str) -> Option<Timestamp> {
        names::slot_of(schedule, &self.name).filter(|_| self.is_of(schedule))
    }
}

fn ending(finish: Option<&Time>, is_whole: bool, conditions: &[Condition]) -> Option<Ending> {
    // A cluster with upstream's definitions has no conditions; then the lists alone tell.
    let is_good = is_whole && !conditions.is_true(FAILED);
    finish.map(|_| if is_good { Ending::Good } else { Ending::Bad })
}

/// The latest slot of `schedule` that one of `runs` was made for, among those after its creation: a slot
/// that has a run needs none, also where the status does not say so yet. A run of another that had its name is none of
/// its own, whatever slot it was for: our clock may be ahead of the API server's.
#[must_use]
pub fn latest_slot(
    runs: &[ScheduleRun],
    work: ScheduledWork,
    (schedule, uid): (&str, Option<&str>),
    created: Timestamp,
) -> Option<Timestamp> {
    let is_its = |run: &&ScheduleRun| match (&run.schedule_uid, uid) {
        (Some(made_by), Some(uid)) => made_by == uid,
        // Made by k8ssandra-operator, or by an earlier release.
        (None, _) | (_, None) => run.created.is_none_or(|made| made >= created),
    };
    let of_work = runs.iter().filter(|run| run.work == work).filter(is_its);
    of_work.filter_map(|run| run.slot(schedule)).filter(|slot| *slot > created).max()
}

/// Ended runs of `schedule` that are more than it keeps, oldest first, each with the sync that followed it.
/// A purge whose sync goes on is left for later.
#[must_use]
pub fn surplus(
    runs: &[ScheduleRun],
    work: ScheduledWork,
    schedule: &str,
    good: Option<usize>,
    bad: Option<usize>,
) -> Vec<ScheduleRun> {
    let ours = |run: &&ScheduleRun| run.is_of(schedule) && !run.is_deleted;
    let mut found = Vec::new();
    for (ending, keep) in [(Ending::Good, good), (Ending::Bad, bad)] {
        let Some(keep) = keep else { continue };
        let mut ended: Vec<&ScheduleRun> =
            runs.iter().filter(ours).filter(|run| run.work == work && run.ending == Some(ending)).collect();
        ended.sort_by_key(|run| (run.slot(schedule), run.created, run.name.clone()));
        let over = ended.len().saturating_sub(keep);
        for run in ended.into_iter().take(over) {
            let name = format!("{}{FOLLOW_UP}", run.name);
            let follow_up = runs
                .iter()
                .filter(ours)
                .find(|other| other.work == ScheduledWork::Other && other.name == name);
            if follow_up.is_none_or(|sync| sync.ending.is_some()) {
                found.extend(follow_up.cloned());
                found.push(run.clone());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn job(name: &str, schedule: Option<&str>, status: Value) -> ScheduleRun {
        let labels = schedule.map_or(json!({}), |schedule| json!({labels::SCHEDULE: schedule}));
        let job = json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": labels},
            "spec": {"cassandraDatacenter": "dc1"}, "status": status
        });
        ScheduleRun::of_job(&serde_json::from_value(job).unwrap())
    }

    fn task(name: &str, operation: &str, status: Value) -> ScheduleRun {
        let task = json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {labels::SCHEDULE: "tidy"}},
            "spec": {"cassandraDatacenter": "dc1", "operation": operation}, "status": status
        });
        ScheduleRun::of_task(&serde_json::from_value(task).unwrap())
    }

    fn good() -> Value {
        json!({"finishTime": "2026-03-01T00:00:00Z", "finished": ["a"]})
    }

    fn done() -> Value {
        json!({"finishTime": "2026-03-01T00:00:00Z", "finished": [{"podName": "a"}]})
    }

    fn bad() -> Value {
        json!({"finishTime": "2026-03-01T00:00:00Z", "finished": ["a"], "failed": ["b"]})
    }

    fn names(runs: &[ScheduleRun]) -> Vec<&str> {
        runs.iter().map(|run| run.name.as_str()).collect()
    }

    #[test]
    fn only_a_run_whose_pods_all_succeeded_ended_well() {
        let condition = json!([{
            "type": "Failed", "status": "True", "reason": "X", "message": "", "lastTransitionTime": "2026-03-01T00:00:00Z"
        }]);
        let mut failed = good();
        failed["conditions"] = condition;
        let nothing = json!({"finishTime": "2026-03-01T00:00:00Z"});
        let ending = |status| job("a", None, status).ending;
        assert_eq!(ending(good()), Some(Ending::Good));
        assert_eq!(ending(bad()), Some(Ending::Bad));
        assert_eq!(ending(failed), Some(Ending::Bad));
        assert_eq!(ending(nothing), Some(Ending::Bad), "nothing was backed up");
        assert_eq!(ending(json!({"inProgress": ["a"]})), None);
    }

    #[test]
    fn a_slot_is_read_from_our_own_runs_only() {
        let status = json!({});
        assert_eq!(job("nightly-1000", Some("nightly"), status.clone()).slot("nightly"), Some(at(1000)));
        assert_eq!(job("nightly-1000", None, status.clone()).slot("nightly"), None);
        assert_eq!(job("other-1000", Some("nightly"), status.clone()).slot("nightly"), None);
        assert_eq!(job("nightly-01000", Some("nightly"), status.clone()).slot("nightly"), None);
        assert_eq!(job("nightly", Some("nightly"), status.clone()).slot("nightly"), None);
        let nightly = ("nightly", Some("u2"));
        let runs = [1000, 2000, 3000].map(|n| job(&format!("nightly-{n}"), Some("nightly"), status.clone()));
        assert_eq!(latest_slot(&runs, ScheduledWork::Backup, nightly, at(1500)), Some(at(3000)));
        assert_eq!(latest_slot(&runs, ScheduledWork::Backup, nightly, at(3000)), None);
        assert_eq!(latest_slot(&runs, ScheduledWork::Purge, nightly, at(0)), None);
        let former = runs.clone().map(|run| ScheduleRun { created: Some(at(99)), ..run });
        assert_eq!(
            latest_slot(&former, ScheduledWork::Backup, nightly, at(100)),
            None,
            "it was made before the schedule"
        );
        assert!(latest_slot(&former, ScheduledWork::Backup, nightly, at(99)).is_some());
        let of =
            |uid: &str| runs.clone().map(|run| ScheduleRun { schedule_uid: Some(uid.to_owned()), ..run });
        assert_eq!(
            latest_slot(&of("u1"), ScheduledWork::Backup, nightly, at(0)),
            None,
            "another made it in the same second"
        );
        assert!(latest_slot(&of("u2"), ScheduledWork::Backup, nightly, at(0)).is_some());
    }

    #[test]
    fn the_oldest_ended_runs_of_this_schedule_are_surplus() {
        let runs = [
            job("nightly-3000", Some("nightly"), good()),
            job("nightly-10000", Some("nightly"), good()),
            job("nightly-1000", Some("nightly"), good()),
            job("nightly-2000", Some("nightly"), bad()),
            job("nightly-500", Some("nightly"), json!({"startTime": "2026-03-01T00:00:00Z"})),
            job("nightly-100", None, good()),
            job("other-100", Some("other"), good()),
        ];
        let surplus = |good, bad| surplus(&runs, ScheduledWork::Backup, "nightly", good, bad);
        assert_eq!(names(&surplus(Some(1), None)), ["nightly-1000", "nightly-3000"]);
        assert_eq!(names(&surplus(Some(0), Some(0))).len(), 4);
        assert_eq!(names(&surplus(None, Some(0))), ["nightly-2000"]);
        assert!(surplus(Some(3), Some(1)).is_empty() && surplus(None, None).is_empty());
    }

    #[test]
    fn a_purge_goes_with_the_sync_that_followed_it() {
        let mut runs = vec![task("tidy-1", "purge", done()), task("tidy-1-sync", "sync", json!({}))];
        assert!(surplus(&runs, ScheduledWork::Purge, "tidy", Some(0), None).is_empty());
        runs[1] = task("tidy-1-sync", "sync", done());
        assert_eq!(
            names(&surplus(&runs, ScheduledWork::Purge, "tidy", Some(0), None)),
            ["tidy-1-sync", "tidy-1"]
        );
    }
}
