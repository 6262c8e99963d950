//! Runs that do not come on, and restores that wait for a person. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};

use super::{Finding, Severity, object, seconds, unseen};
use crate::{
    api::{
        Conditions as _, Reason,
        fleet::{
            DataPlane, DatacenterRun, FleetBackupJob, FleetRestoreJob, FleetTask, Phase, RestoreRun,
            RunStatus, place,
        },
    },
    cli::{duration, views::name},
};

/// How long a restore may wait for anything before it has touched something.
const UNTOUCHED_SECONDS: i64 = 60;
/// How long a datacenter may wait for its data plane or an object before somebody should know.
const WAITS_SECONDS: i64 = 600;
/// How long nothing may move in a run: uploads of large nodes take hours.
const STANDS_SECONDS: i64 = 6 * 3600;
/// What is wrong with a datacenter of that reason that says no more.
const NOT_BEGUN: &str = "nobody there has begun with it: see that a controller of the Medusa kinds runs there and that every \
                         pod of the datacenter runs Medusa";
/// Reasons of a datacenter that pass only if its data plane comes back.
const SILENCE: [Reason; 2] = [Reason::DataPlaneUnreachable, Reason::DataPlaneNotReady];
/// Reasons of a datacenter that may pass only if somebody does something.
const OBSTACLES: [Reason; 13] = [
    // Nobody has begun with what was made there.
    Reason::JobCreated,
    Reason::Stalled,
    Reason::NotServed,
    Reason::NotAuthorized,
    Reason::WriteRefused,
    Reason::DeniedByPolicy,
    Reason::QuotaExceeded,
    Reason::NamespaceTerminating,
    Reason::NameConflict,
    Reason::RestoreInProgress,
    Reason::RestorePointsUnknown,
    // An object that never ends, which the message names.
    Reason::PurgeRunning,
    Reason::BackupRunning,
];

/// Since when each data plane is not ready, `None` if it is.
pub(super) type NotReady = BTreeMap<String, Option<Timestamp>>;

/// What the DataPlanes say of themselves.
pub(super) fn not_ready(planes: &[DataPlane]) -> NotReady {
    let said = planes.iter().filter_map(|plane| {
        let ready = plane.status.as_ref()?.conditions.of_type("Ready")?;
        Some((name(&plane.metadata), (ready.status != "True").then_some(ready.last_transition_time.0)))
    });
    said.collect()
}

/// FleetBackupJobs.
pub(super) fn jobs(jobs: &[FleetBackupJob], planes: &NotReady, now: Timestamp) -> Vec<Finding> {
    let runs = jobs.iter().map(|job| {
        let status = job.status.as_ref().map(|status| (&status.run, status.datacenters.as_slice()));
        RunFacts::of("job", &job.metadata, status)
    });
    runs.filter_map(|run| run.judge(planes, now)).collect()
}

/// FleetTasks.
pub(super) fn tasks(tasks: &[FleetTask], planes: &NotReady, now: Timestamp) -> Vec<Finding> {
    let runs = tasks.iter().map(|task| {
        let status = task.status.as_ref().map(|status| (&status.run, status.datacenters.as_slice()));
        RunFacts::of("task", &task.metadata, status)
    });
    runs.filter_map(|run| run.judge(planes, now)).collect()
}

/// What the kinds that work on many datacenters have in common.
struct RunFacts<'a> {
    object: String,
    metadata: &'a ObjectMeta,
    phase: Option<Phase>,
    /// When something last happened in it.
    moved: Option<Time>,
    /// Its datacenters that are not decided.
    open: Vec<Open<'a>>,
}

/// A datacenter that is not decided.
struct Open<'a> {
    /// Data plane, namespace, name.
    place: [&'a str; 3],
    reason: Option<&'a str>,
    message: Option<&'a str>,
}

impl<'a> Open<'a> {
    fn of(run: &'a DatacenterRun) -> Option<Self> {
        let place = [run.data_plane.as_str(), &run.namespace, &run.datacenter];
        let (reason, message) = (run.reason.as_deref(), run.message.as_deref());
        (!run.phase.is_final()).then_some(Self { place, reason, message })
    }

    fn of_restore(run: &'a RestoreRun) -> Option<Self> {
        let place = [run.data_plane.as_str(), &run.namespace, &run.datacenter];
        let (reason, message) = (run.reason.as_deref(), run.message.as_deref());
        (!run.phase.is_final()).then_some(Self { place, reason, message })
    }

    fn is_for(&self, reasons: &[Reason]) -> Option<Reason> {
        reasons.iter().copied().find(|r| self.reason == Some(r.as_str()))
    }
}

impl<'a> RunFacts<'a> {
    fn of(
        kind: &str,
        metadata: &'a ObjectMeta,
        status: Option<(&'a RunStatus, &'a [impl AsRef<DatacenterRun>])>,
    ) -> Self {
        let (run, datacenters) = status.unzip();
        Self {
            object: object(kind, metadata),
            metadata,
            phase: run.and_then(|run| run.phase),
            moved: run.and_then(|run| run.last_progress_time.clone().or(run.start_time.clone())),
            open: datacenters.into_iter().flatten().filter_map(|entry| Open::of(entry.as_ref())).collect(),
        }
    }

    fn judge(self, planes: &NotReady, now: Timestamp) -> Option<Finding> {
        let Some(phase) = self.phase else { return unseen(self.metadata, self.object, now) };
        if phase.is_final() {
            return None;
        }
        let moved = self.moved.clone().or(self.metadata.creation_timestamp.clone())?;
        let obstacle = self.open.iter().find_map(|dc| {
            let (reason, since) = match dc.is_for(&SILENCE) {
                Some(reason) => (reason, self.silent_since(planes, &moved)?),
                None => (dc.is_for(&OBSTACLES)?, moved.clone()),
            };
            (seconds(&since, now) > WAITS_SECONDS).then_some((dc, reason, since))
        });
        let fix = format!(
            "`kubectl medusa describe {0}`; `kubectl medusa cancel {0}` starts nothing more",
            self.object
        );
        if let Some((dc, reason, since)) = obstacle {
            let why = match (dc.message, reason) {
                (Some(message), _) => message,
                (None, Reason::JobCreated) => NOT_BEGUN,
                (None, reason) => reason.as_str(),
            };
            let what = format!("{} of its datacenters are open: {}: {why}", self.open.len(), place(dc.place));
            let finding = Finding::new(Severity::Warning, self.object, reason, what, fix);
            return Some(finding.since(Some(since)));
        }
        let stands = seconds(&moved, now);
        (stands > STANDS_SECONDS).then(|| {
            let what = format!("nothing has moved in it for {}", duration::short(stands));
            Finding::new(Severity::Warning, self.object, Reason::Stuck, what, fix).since(Some(moved))
        })
    }

    /// Since when a data plane that the run waits for is not ready. When the run last moved does not tell: in one that is well
    /// nothing may have moved for hours when its data plane falls silent. `None` while all of them are ready again.
    fn silent_since(&self, planes: &NotReady, moved: &Time) -> Option<Time> {
        let waits = self.open.iter().filter(|dc| dc.is_for(&SILENCE).is_some());
        // Of a data plane that was not read nothing else is known.
        let since = waits.filter_map(|dc| planes.get(dc.place[0]).copied().unwrap_or(Some(moved.0)));
        since.min().map(|since| Time(since.max(moved.0)))
    }
}

/// FleetRestoreJobs: of each cluster those that go on, and the last one that touched anything.
pub(super) fn restores(jobs: &[FleetRestoreJob], planes: &NotReady, now: Timestamp) -> Vec<Finding> {
    let mut found: Vec<Finding> = jobs.iter().filter_map(|job| going_on(job, planes, now)).collect();
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
fn going_on(job: &FleetRestoreJob, planes: &NotReady, now: Timestamp) -> Option<Finding> {
    let object = object("restore", &job.metadata);
    let Some(status) = &job.status else { return unseen(&job.metadata, object, now) };
    let phase = status.phase.unwrap_or_default();
    if !phase.is_final() && status.datacenters.is_empty() {
        let said = complete(job)?;
        let since = status.start_time.clone().or(job.metadata.creation_timestamp.clone())?;
        let fix = format!(
            "clear what it waits for within {} s of its creation, or cancel it: `kubectl medusa cancel {object}`",
            job.spec.start_deadline_seconds
        );
        return (seconds(&since, now) > UNTOUCHED_SECONDS)
            .then(|| Finding::of(Severity::Warning, object, said, fix));
    }
    let fix =
        format!("look at the datacenter, and at its MedusaRestoreJob; `kubectl medusa describe {object}`");
    let times =
        status.datacenters.iter().flat_map(|run| [&run.start_time, &run.stopped_time, &run.finish_time]);
    let run = RunFacts {
        object,
        metadata: &job.metadata,
        phase: Some(phase),
        moved: times.chain([&status.start_time, &status.checked_time]).flatten().max_by_key(|t| t.0).cloned(),
        open: status.datacenters.iter().filter_map(Open::of_restore).collect(),
    };
    run.judge(planes, now).map(|finding| Finding { fix, ..finding })
}

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
    Some(Finding::of(Severity::Error, object, said, fix))
}
