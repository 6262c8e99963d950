//! What the MedusaBackupSchedule of one datacenter has made: its runs and their backups, by slot. Pure.
//!
//! Both controllers name a run `<schedule>-<unix seconds>` (upstream: Schedules): ours with the slot, k8ssandra-operator with
//! the moment it came to it. So a run belongs to the latest slot that is not after the time in its name.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;

use super::delegate::since;
use crate::{
    api::{
        fleet::ScheduledRun,
        medusa::{MedusaBackupSchedule, ScheduledOperation},
        names,
    },
    control_plane::{
        data_planes::{
            fleet::Snapshot,
            records::{BackupRecord, RunRecord},
            view::ObjectKey,
        },
        runs::verdict::GRACE,
    },
};

/// Everything that is known of the runs of one MedusaBackupSchedule.
pub struct History<'a> {
    pub schedule: &'a MedusaBackupSchedule,
    /// Its runs that are there, by the time in their names.
    pub runs: BTreeMap<Timestamp, (&'a ObjectKey, &'a RunRecord)>,
    /// The MedusaBackups they left, likewise.
    backups: BTreeMap<Timestamp, &'a BackupRecord>,
}

/// How a run ended: when it was done, or why it was not.
pub type RunEnd = Result<Timestamp, String>;

impl<'a> History<'a> {
    /// Of the MedusaBackupSchedule `key` in `plane`; `None` while nobody knows.
    #[must_use]
    pub fn of(plane: &'a Snapshot, key: &ObjectKey) -> Option<Self> {
        let view = &plane.view;
        let schedule = view.schedules.last(key)?;
        let operation = schedule.spec.operation_type;
        let runs = by_slot(view.scheduled_runs(operation)?, key);
        let backups = match operation {
            ScheduledOperation::Backup => by_slot(view.listing(&view.backups).known()?, key),
            ScheduledOperation::Purge => BTreeMap::new(),
        };
        let backups = backups.into_iter().map(|(at, (_, record))| (at, record)).collect();
        Some(Self { schedule, runs, backups })
    }

    /// Every time something ran at, as far as there is a trace of it.
    #[must_use]
    pub fn times(&self) -> BTreeSet<Timestamp> {
        self.runs.keys().chain(self.backups.keys()).copied().chain(self.last_execution()).collect()
    }

    /// The last slot that ran, as the schedule's status says. k8ssandra-operator also writes there when it was created,
    /// and each slot that came while it was disabled.
    fn last_execution(&self) -> Option<Timestamp> {
        let last = self.schedule.status.as_ref()?.last_execution.as_ref()?.0;
        let created = self.schedule.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let ran = self.schedule.spec.disabled != Some(true) && created.max(since(self.schedule)) < Some(last);
        ran.then_some(last)
    }

    /// The runs that have not ended, oldest first, as a status names those in data plane `plane`.
    pub fn active(&self, plane: &str) -> impl Iterator<Item = ScheduledRun> {
        let kind = match self.schedule.spec.operation_type {
            ScheduledOperation::Backup => "MedusaBackupJob",
            ScheduledOperation::Purge => "MedusaTask",
        };
        self.runs.values().filter(|(_, run)| run.is_active()).map(move |(key, run)| ScheduledRun {
            kind: kind.to_owned(),
            name: key.name.clone(),
            uid: run.uid.clone(),
            data_plane: Some(plane.to_owned()),
            namespace: Some(key.namespace.clone()),
        })
    }

    /// The latest run that is decided at `now`, by the time in its name.
    #[must_use]
    pub fn latest(&self, now: Timestamp) -> Option<(Timestamp, RunEnd)> {
        self.times().into_iter().rev().find_map(|at| Some((at, self.verdict(at, now)?)))
    }

    /// When the latest run that went well was done.
    #[must_use]
    pub fn success(&self, now: Timestamp) -> Option<Timestamp> {
        self.times().into_iter().rev().find_map(|at| self.verdict(at, now)?.ok())
    }

    /// How the run at `at` ended. A backup went well only when its MedusaBackup says so of every node (upstream: Backups);
    /// one whose job is gone is judged by that alone.
    fn verdict(&self, at: Timestamp, now: Timestamp) -> Option<RunEnd> {
        let run = self.runs.get(&at);
        let finish = run.and_then(|(_, run)| run.finish_time);
        if let Some((key, failure)) = run.and_then(|(key, run)| Some((key, run.failure.as_ref()?))) {
            return Some(Err(format!("`{}`: {failure}", key.name)));
        }
        if self.schedule.spec.operation_type == ScheduledOperation::Purge {
            return finish.map(Ok);
        }
        let backup = self.backups.get(&at);
        match backup.map_or("", |backup| backup.status.as_str()) {
            "SUCCESS" => {
                let backup = backup?;
                if backup.finished_nodes < backup.total_nodes {
                    let (done, all) = (backup.finished_nodes, backup.total_nodes);
                    return Some(Err(format!("the backup of {at} covers {done} of {all} nodes")));
                }
                backup.finish_time.or(finish).map(Ok)
            }
            word @ ("" | "IN_PROGRESS") => {
                // The two come by different watches.
                finish.filter(|finish| now.duration_since(*finish) >= GRACE)?;
                let says = if word.is_empty() { "there is none" } else { "it is IN_PROGRESS" };
                Some(Err(format!("the run of {at} ended without a complete MedusaBackup: {says}")))
            }
            word => Some(Err(format!("the backup of {at} is {word}"))),
        }
    }
}

/// Those of `items` whose names are those of slots of `schedule`.
fn by_slot<'a, T>(
    items: &'a BTreeMap<ObjectKey, Arc<T>>,
    schedule: &ObjectKey,
) -> BTreeMap<Timestamp, (&'a ObjectKey, &'a T)> {
    let begin = ObjectKey::new(&schedule.namespace, names::slots_begin(&schedule.name));
    items
        .range(begin.clone()..)
        .take_while(|(key, _)| key.namespace == begin.namespace && key.name.starts_with(&begin.name))
        .filter_map(|(key, item)| Some((names::slot_of(&schedule.name, &key.name)?, (key, &**item))))
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::control_plane::{
        data_planes::view::View,
        fanout::tests::{datacenter, live, plane},
    };

    pub(in crate::control_plane::schedules) fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    pub(in crate::control_plane::schedules) fn key(dc: &str) -> ObjectKey {
        ObjectKey::new("ns", format!("nightly-{dc}-0b1c2d3e"))
    }

    /// A view with `dc1` and its hourly schedule since second 0; `more` is merged into its spec.
    pub(in crate::control_plane::schedules) fn view(more: &Value, status: &Value) -> View {
        let mut view = live(&[datacenter("dc1", 1)]);
        let mut spec = json!({"cronSchedule": "@hourly", "backupSpec": {"cassandraDatacenter": "dc1"}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let schedule = json!({
            "metadata": {
                "name": key("dc1").name, "namespace": "ns",
                "labels": {crate::api::labels::FLEET_SCHEDULE_UID: "schedule-uid"},
                "annotations": {crate::api::labels::SCHEDULED_SINCE: at(0).to_string()}
            },
            "spec": spec, "status": status
        });
        view.schedules.put(key("dc1"), Arc::new(serde_json::from_value(schedule).unwrap()));
        view
    }

    fn name(slot: i64) -> ObjectKey {
        ObjectKey::new("ns", format!("{}-{slot}", key("dc1").name))
    }

    /// Adds a MedusaBackup of that slot, taken in ten seconds, with Medusa's word.
    pub(in crate::control_plane::schedules) fn back_up(view: &mut View, slot: i64, word: &str) {
        let record = BackupRecord {
            status: word.to_owned(),
            finish_time: Some(at(slot + 10)),
            ..BackupRecord::default()
        };
        view.backups.put(name(slot), Arc::new(record));
    }

    /// Adds a run of that slot, a job and a task alike: `None` goes on, else it ended after ten seconds, well or not.
    pub(in crate::control_plane::schedules) fn run(view: &mut View, slot: i64, ended: Option<bool>) {
        let record = Arc::new(RunRecord {
            datacenter: "dc1".to_owned(),
            uid: format!("uid-{slot}"),
            finish_time: ended.map(|_| at(slot + 10)),
            failure: ended.filter(|good| !good).map(|_| "it failed on a".to_owned()),
            is_deleted: false,
        });
        view.scheduled_jobs.put(name(slot), record.clone());
        view.scheduled_tasks.put(name(slot), record);
    }

    /// What the history of `dc1` says is the latest verdict at second `now`.
    fn latest(view: View, now: i64) -> Option<(Timestamp, RunEnd)> {
        History::of(&plane("eu", view), &key("dc1")).unwrap().latest(at(now))
    }

    #[test]
    fn a_backup_is_good_only_with_a_medusa_backup_that_says_so() {
        let fresh = || view(&json!({}), &json!({}));
        let mut bare = fresh();
        run(&mut bare, 1_000, Some(true));
        assert_eq!(latest(bare.clone(), 1_069), None, "its MedusaBackup may be on its way");
        assert!(latest(bare.clone(), 1_070).unwrap().1.unwrap_err().contains("there is none"));
        back_up(&mut bare, 1_000, "SUCCESS");
        assert_eq!(latest(bare.clone(), 9_999), Some((at(1_000), Ok(at(1_010)))));
        run(&mut bare, 1_000, Some(false));
        assert!(latest(bare, 9_999).unwrap().1.unwrap_err().contains("it failed on a"));
        let mut partial = fresh();
        back_up(&mut partial, 1_000, "SUCCESS");
        Arc::make_mut(partial.backups.items_mut().get_mut(&name(1_000)).unwrap()).total_nodes = 3;
        assert!(latest(partial, 9_999).unwrap().1.unwrap_err().contains("0 of 3"));
    }

    #[test]
    fn a_run_that_goes_on_hides_nothing_of_the_one_before() {
        let mut view = view(&json!({}), &json!({}));
        run(&mut view, 1_000, Some(false));
        run(&mut view, 2_000, None);
        back_up(&mut view, 2_000, "IN_PROGRESS");
        assert_eq!(latest(view.clone(), 9_999).unwrap().0, at(1_000));
        let plane = plane("eu", view);
        let active: Vec<ScheduledRun> = History::of(&plane, &key("dc1")).unwrap().active("eu").collect();
        assert_eq!((active.len(), active[0].kind.as_str()), (1, "MedusaBackupJob"));
        assert_eq!((active[0].uid.as_str(), active[0].data_plane.as_deref()), ("uid-2000", Some("eu")));
    }

    #[test]
    fn a_purge_is_judged_by_its_task_and_unknown_where_tasks_are() {
        let mut view = view(&json!({"operationType": "purge"}), &json!({}));
        run(&mut view, 1_000, Some(true));
        run(&mut view, 2_000, Some(false));
        assert_eq!(
            History::of(&plane("eu", view.clone()), &key("dc1")).unwrap().success(at(9_999)),
            Some(at(1_010))
        );
        assert!(latest(view.clone(), 9_999).unwrap().1.is_err());
        view.scheduled_tasks.trust.begin();
        assert!(History::of(&plane("eu", view), &key("dc1")).is_none());
    }

    #[test]
    fn only_its_own_runs_count_and_a_time_of_creation_is_no_run() {
        let mut view = view(&json!({}), &json!({"lastExecution": at(500).to_string()}));
        let times = |view: &View| History::of(&plane("eu", view.clone()), &key("dc1")).unwrap().times();
        assert_eq!(times(&view), BTreeSet::from([at(500)]));
        let stored = Arc::make_mut(view.schedules.items_mut().get_mut(&key("dc1")).unwrap());
        stored.spec.disabled = Some(true);
        assert!(times(&view).is_empty(), "a slot that came while it was disabled");
        let stored = Arc::make_mut(view.schedules.items_mut().get_mut(&key("dc1")).unwrap());
        stored.spec.disabled = None;
        stored.metadata.creation_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(500)));
        for other in ["nightly-dc10-0b1c2d3e-1000", "nightly-dc1-0b1c2d3e-1000-sync", "nightly-dc1-0b1c2d3e"]
        {
            view.scheduled_jobs.put(ObjectKey::new("ns", other), Arc::default());
        }
        view.scheduled_jobs.put(ObjectKey::new("other", name(1_000).name), Arc::default());
        assert!(times(&view).is_empty());
    }
}
