//! Runs that do not come on, and restores that wait for a person. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};

use super::{Finding, Severity, object, seconds, unseen};
use crate::{
    api::{
        Conditions as _, Reason,
        fleet::{DatacenterRun, FleetBackupJob, FleetRestoreJob, FleetTask, Phase, RestoreRun},
    },
    cli::{duration, views::name},
};

/// How long a datacenter may wait for its data plane or an object before somebody should know.
const WAITS_SECONDS: i64 = 600;
/// How long nothing may move in a run: uploads of large nodes take hours.
const STANDS_SECONDS: i64 = 6 * 3600;
/// Reasons of a datacenter that pass only if somebody does something.
const OBSTACLES: [Reason; 8] = [
    Reason::DataPlaneUnreachable,
    Reason::DataPlaneNotReady,
    Reason::NotServed,
    Reason::NotAuthorized,
    Reason::WriteRefused,
    Reason::NameConflict,
    Reason::RestoreInProgress,
    Reason::RestorePointsUnknown,
];

/// FleetBackupJobs.
pub(super) fn jobs(jobs: &[FleetBackupJob], now: Timestamp) -> Vec<Finding> {
    let runs = jobs.iter().map(|job| {
        let status = job.status.as_ref();
        Run {
            object: object("job", &job.metadata),
            metadata: &job.metadata,
            phase: status.and_then(|s| s.phase),
            moved: status.and_then(|s| s.last_progress_time.clone().or(s.start_time.clone())),
            open: status.into_iter().flat_map(|s| &s.datacenters).filter(|dc| !dc.phase.is_final()).collect(),
        }
    });
    runs.filter_map(|run| run.judge(now)).collect()
}

/// FleetTasks.
pub(super) fn tasks(tasks: &[FleetTask], now: Timestamp) -> Vec<Finding> {
    let runs = tasks.iter().map(|task| {
        let status = task.status.as_ref();
        let datacenters = status.into_iter().flat_map(|s| &s.datacenters).map(|dc| &dc.run);
        Run {
            object: object("task", &task.metadata),
            metadata: &task.metadata,
            phase: status.and_then(|s| s.phase),
            moved: status.and_then(|s| s.last_progress_time.clone().or(s.start_time.clone())),
            open: datacenters.filter(|dc| !dc.phase.is_final()).collect(),
        }
    });
    runs.filter_map(|run| run.judge(now)).collect()
}

/// What a FleetBackupJob and a FleetTask have in common.
struct Run<'a> {
    object: String,
    metadata: &'a ObjectMeta,
    phase: Option<Phase>,
    /// When something last happened in it.
    moved: Option<Time>,
    /// Its datacenters that are not decided.
    open: Vec<&'a DatacenterRun>,
}

impl Run<'_> {
    fn judge(self, now: Timestamp) -> Option<Finding> {
        let Some(phase) = self.phase else { return unseen(self.metadata, self.object, now) };
        if phase.is_final() {
            return None;
        }
        let moved = self.moved.or(self.metadata.creation_timestamp.clone())?;
        let stands = seconds(&moved, now);
        let obstacle = self.open.iter().find_map(|dc| {
            let reason = OBSTACLES.iter().find(|r| dc.reason.as_deref() == Some(r.as_str()))?;
            Some((place(&dc.data_plane, &dc.namespace, &dc.datacenter), reason, dc.message.clone()))
        });
        let fix = format!(
            "`kubectl medusa describe {0}`; `kubectl medusa cancel {0}` starts nothing more",
            self.object
        );
        let finding = match obstacle {
            Some((place, reason, message)) if stands > WAITS_SECONDS => {
                let why = message.unwrap_or_else(|| reason.to_string());
                let what = format!("{} of its datacenters are open: {place}: {why}", self.open.len());
                Finding::new(Severity::Warning, self.object, reason.as_str(), what, fix)
            }
            _ if stands > STANDS_SECONDS => {
                let what = format!("nothing has moved in it for {}", duration::short(stands));
                Finding::new(Severity::Warning, self.object, "Stuck", what, fix)
            }
            _ => return None,
        };
        Some(finding.since(Some(moved)))
    }
}

/// FleetRestoreJobs: of each cluster those that go on, and the last one that touched anything.
pub(super) fn restores(jobs: &[FleetRestoreJob], now: Timestamp) -> Vec<Finding> {
    let mut found: Vec<Finding> = jobs.iter().filter_map(|job| going_on(job, now)).collect();
    let mut last: BTreeMap<String, &FleetRestoreJob> = BTreeMap::new();
    for job in jobs {
        let Some(status) = job.status.as_ref().filter(|s| s.datacenters.iter().any(|run| run.job.is_some()))
        else {
            continue;
        };
        let newest = last.entry(status.cluster.clone().unwrap_or_default()).or_insert(job);
        if newest.metadata.creation_timestamp.as_ref().map(|t| t.0)
            < job.metadata.creation_timestamp.as_ref().map(|t| t.0)
        {
            *newest = job;
        }
    }
    found.extend(last.into_values().filter_map(left_behind));
    found
}

fn complete(job: &FleetRestoreJob) -> Option<&Condition> {
    job.status.as_ref()?.conditions.of_type("Complete")
}

/// A restore that is not over and waits for somebody.
fn going_on(job: &FleetRestoreJob, now: Timestamp) -> Option<Finding> {
    let object = object("restore", &job.metadata);
    let Some(status) = &job.status else { return unseen(&job.metadata, object, now) };
    let phase = status.phase.unwrap_or_default();
    if phase.is_final() {
        return None;
    }
    let since = status.start_time.clone().or(job.metadata.creation_timestamp.clone())?;
    let age = seconds(&since, now);
    if status.datacenters.is_empty() {
        let said = complete(job)?;
        let fix = format!(
            "clear what it waits for within {} s of its creation, or cancel it: `kubectl medusa cancel {object}`",
            job.spec.start_deadline_seconds
        );
        return (age > UNTOUCHED_SECONDS).then(|| Finding::of(Severity::Warning, object, said, fix));
    }
    let waits = |run: &&RestoreRun| {
        let is_obstacle = OBSTACLES.iter().any(|r| run.reason.as_deref() == Some(r.as_str()));
        !run.phase.is_final() && is_obstacle
    };
    let fix =
        format!("look at the datacenter, and at its MedusaRestoreJob; `kubectl medusa describe {object}`");
    let waiting = status.datacenters.iter().find(waits);
    if let Some(run) = waiting.filter(|_| age > UNTOUCHED_SECONDS) {
        let place = place(&run.data_plane, &run.namespace, &run.datacenter);
        let what = format!("{place}: {}", run.message.as_deref().unwrap_or_default());
        let reason = run.reason.clone().unwrap_or_default();
        return Some(Finding::new(Severity::Warning, object, &reason, what, fix).since(Some(since)));
    }
    (age > STANDS_SECONDS).then(|| {
        let what = format!("it has gone on for {}", duration::short(age));
        Finding::new(Severity::Warning, object, "Stuck", what, fix).since(Some(since))
    })
}

/// How long a restore may wait for anything.
const UNTOUCHED_SECONDS: i64 = 60;

/// A cluster whose last restore left it with something else than the backup's data in every datacenter.
fn left_behind(job: &FleetRestoreJob) -> Option<Finding> {
    let status = job.status.as_ref()?;
    let is_bad = |run: &&RestoreRun| run.phase == Phase::Failed && run.job_uid.is_some();
    let is_half = status.phase == Some(Phase::PartiallyFailed)
        || (status.phase.is_some_and(Phase::is_final) && status.datacenters.iter().any(|run| is_bad(&run)));
    if !is_half {
        return None;
    }
    let object = object("restore", &job.metadata);
    let said = complete(job)?;
    let fix = format!(
        "look at the datacenters; write nothing, and restore again: `kubectl medusa restore {} --from BACKUP` (`describe {}`)",
        status.cluster.as_deref().unwrap_or("CLUSTER"),
        object
    );
    Some(Finding {
        object: format!("restore/{}", name(&job.metadata)),
        ..Finding::of(Severity::Error, object, said, fix)
    })
}

fn place(data_plane: &str, namespace: &str, datacenter: &str) -> String {
    [data_plane, namespace, datacenter]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("/")
}
