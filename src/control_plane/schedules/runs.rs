//! FleetBackupJobs and FleetTasks, as far as the schedule that made them looks at them. Pure.

use jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _};

use crate::{
    api::{
        fleet::{FleetBackupSchedule, Phase, ScheduleOperation, ScheduledRun},
        labels, names,
    },
    control_plane::runs::Fanned,
};

/// What kind of object a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunKind {
    /// A FleetBackupJob.
    Backup,
    /// A FleetTask.
    Task,
}

impl From<ScheduleOperation> for RunKind {
    fn from(operation: ScheduleOperation) -> Self {
        match operation {
            ScheduleOperation::Backup => Self::Backup,
            ScheduleOperation::Purge | ScheduleOperation::Sync => Self::Task,
        }
    }
}

impl RunKind {
    /// The kind as objects name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "FleetBackupJob",
            Self::Task => "FleetTask",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn of(kind: &str) -> Self {
        if kind == Self::Task.as_str() { Self::Task } else { Self::Backup }
    }
}

/// One run of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub kind: RunKind,
    pub name: String,
    pub uid: String,
    /// The version that was seen.
    pub version: Option<String>,
    /// The slot it was made for.
    pub slot: Option<Timestamp>,
    /// The schedule it belongs to: name and uid.
    pub schedule: (String, String),
    pub finalizers: Vec<String>,
    pub is_deleted: bool,
    /// Whether it is to start nothing more.
    pub is_cancelled: bool,
    pub phase: Phase,
    pub finish: Option<Timestamp>,
}

impl Run {
    /// `object` as its schedule sees it; `None` when no schedule owns it.
    #[must_use]
    pub fn of<K: Fanned>(object: &K) -> Option<Self> {
        let owner = FleetBackupSchedule::kind(&());
        let owner = object.owner_references().iter().find(|reference| reference.kind == owner)?;
        let (name, progress) = (object.name_any(), object.status().map(K::progress));
        Some(Self {
            kind: RunKind::of(K::KIND),
            slot: names::slot_of(&owner.name, &name),
            name,
            uid: object.uid().unwrap_or_default(),
            version: object.resource_version(),
            schedule: (owner.name.clone(), owner.uid.clone()),
            finalizers: object.finalizers().to_vec(),
            is_deleted: object.meta().deletion_timestamp.is_some(),
            is_cancelled: object.run().is_cancelled(),
            phase: progress.and_then(|progress| progress.phase).unwrap_or_default(),
            finish: progress.and_then(|progress| progress.finish_time.as_ref()).map(|time| time.0),
        })
    }

    /// Whether it may not start, because its slot may not be written down.
    #[must_use]
    pub fn is_held(&self) -> bool {
        labels::is_held(&self.finalizers)
    }

    /// Whether it goes on, or will.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.phase.is_final() && !self.is_deleted
    }

    /// It as the schedule's status names it.
    #[must_use]
    pub fn named(&self) -> ScheduledRun {
        ScheduledRun {
            kind: self.kind.as_str().to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            ..ScheduledRun::default()
        }
    }
}

/// Ended runs that are more than are kept, oldest first. One that is held or goes on is never among them.
#[must_use]
pub fn surplus(runs: &[Run], keep_good: usize, keep_bad: usize) -> Vec<Run> {
    let mut found = Vec::new();
    for (is_good, keep) in [(true, keep_good), (false, keep_bad)] {
        let is_meant = |run: &&Run| {
            run.phase.is_final()
                && !run.is_deleted
                && !run.is_held()
                && (run.phase == Phase::Succeeded) == is_good
        };
        let mut ended: Vec<&Run> = runs.iter().filter(is_meant).collect();
        ended.sort_by_key(|run| (run.slot, run.finish, &run.name));
        let over = ended.len().saturating_sub(keep);
        found.extend(ended.into_iter().take(over).cloned());
    }
    found
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::fleet::FleetBackupJob;

    /// A run of schedule `nightly` at second `slot`.
    pub(in crate::control_plane::schedules) fn run(slot: i64, more: Value) -> Run {
        let mut job = json!({
            "metadata": {
                "name": format!("nightly-{slot}"), "uid": format!("uid-{slot}"), "resourceVersion": "1",
                "ownerReferences": [{
                    "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetBackupSchedule", "name": "nightly",
                    "uid": "schedule-uid"
                }]
            },
            "spec": {}
        });
        for (key, value) in more.as_object().unwrap() {
            match key.as_str() {
                "status" => job["status"] = value.clone(),
                _ => job["metadata"][key] = value.clone(),
            }
        }
        Run::of::<FleetBackupJob>(&serde_json::from_value(job).unwrap()).unwrap()
    }

    /// One whose slot may not be written down.
    pub(in crate::control_plane::schedules) fn held(slot: i64) -> Run {
        run(slot, json!({"finalizers": ["other", labels::HELD]}))
    }

    /// One that ended.
    pub(in crate::control_plane::schedules) fn ended(slot: i64, phase: &str) -> Run {
        run(slot, json!({"status": {"phase": phase, "finishTime": "2026-03-01T12:00:00Z"}}))
    }

    #[test]
    fn a_run_knows_its_slot_and_its_schedule() {
        let found = held(1_000);
        assert_eq!(found.slot, Timestamp::from_second(1_000).ok());
        assert_eq!(found.schedule, ("nightly".to_owned(), "schedule-uid".to_owned()));
        assert!(found.is_held() && found.is_active() && !run(1_000, json!({})).is_held());
        assert!(!ended(1_000, "Failed").is_active());
        let own = json!({"metadata": {"name": "nightly-1000"}, "spec": {}});
        let own: FleetBackupJob = serde_json::from_value(own).unwrap();
        assert_eq!(Run::of(&own), None, "a person's");
    }

    #[test]
    fn the_oldest_ended_runs_are_surplus_and_never_one_that_goes_on() {
        let mut going = held(50);
        going.phase = Phase::Succeeded;
        let runs = [
            ended(3_000, "Succeeded"),
            ended(10_000, "Succeeded"),
            ended(1_000, "Succeeded"),
            ended(2_000, "PartiallyFailed"),
            ended(2_500, "Failed"),
            run(500, json!({"status": {"phase": "Running"}})),
            run(400, json!({})),
            going,
        ];
        let names =
            |good, bad| surplus(&runs, good, bad).iter().map(|run| run.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(1, 9), ["nightly-1000", "nightly-3000"]);
        assert_eq!(names(9, 1), ["nightly-2000"]);
        assert_eq!(names(0, 0).len(), 5);
        assert!(names(3, 2).is_empty());
    }
}
