//! What a FleetRestoreJob does next: plan, what is seen and the time in; the new status and the writes out.
//!
//! ```text
//! checks ──(a sync looks for backups)── all passed: recorded ── passed again: names recorded ── made ── watched
//!    └── one failed, deadline, cancelled: the end, nothing touched                                        │
//!                                                              ended: recorded, then deleted (sweep.rs) ──┘
//! ```
//!
//! Pure. Nothing is made in a data plane that an earlier, published status does not name: so a pass that
//! crashed anywhere is made again from what is recorded, and finds what it had made.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use super::{
    check::waits_for,
    execute::advance,
    plan::{Plan, RestoreInputs, plan},
    summarize::{ended, executing, planned},
};
use crate::{
    api::{
        Reason,
        fleet::{CheckState, FleetRestoreJob, FleetRestoreJobStatus, Phase, RestoreOrder, RestoreRun},
        medusa::{MedusaRestoreJob, MedusaTask, TaskOperation},
    },
    control_plane::{
        data_planes::view::ObjectKey,
        runs::child::{ExactObject, task},
    },
};

/// One write in a data plane.
#[derive(Clone, Debug, PartialEq)]
pub enum RestoreWrite {
    /// Look for a backup in the storage of a datacenter in this data plane.
    Sync(String, Box<MedusaTask>),
    /// Restore a datacenter in this data plane.
    Restore(String, Box<MedusaRestoreJob>),
    /// Delete a MedusaRestoreJob that has not stopped its datacenter.
    CallOff(ExactObject),
}

impl RestoreWrite {
    /// The data plane it is for.
    #[must_use]
    pub fn data_plane(&self) -> &str {
        match self {
            Self::Sync(plane, _) | Self::Restore(plane, _) => plane,
            Self::CallOff(object) => &object.data_plane,
        }
    }
}

/// The outcome of one pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Pass {
    /// The status to publish once the actions have been tried.
    pub status: FleetRestoreJobStatus,
    /// Writes that the status as published before allows.
    pub actions: Vec<RestoreWrite>,
}

/// Whether any datacenter may have been touched: from then on the plan is only executed.
#[must_use]
pub fn has_begun(status: &FleetRestoreJobStatus) -> bool {
    status.datacenters.iter().any(|run| run.job.is_some())
}

/// Decides one pass.
#[must_use]
pub fn pass(inputs: &RestoreInputs<'_>) -> Pass {
    let old = inputs.job.status.clone().unwrap_or_default();
    if has_begun(&old) {
        let (runs, actions) = advance(inputs, &old);
        return Pass { status: executing(inputs.job, &old, runs, inputs.now), actions };
    }
    let plan = plan(inputs);
    let end = |phase, reason, message: &str| Pass {
        status: ended(inputs.job, &old, &plan, (phase, reason, message), inputs.now),
        actions: Vec::new(),
    };
    let (failed, waiting) = (plan.why(CheckState::Failed), plan.why(CheckState::Waiting));
    let state = plan.state();
    if inputs.job.spec.cancel {
        return end(Phase::Cancelled, Reason::Cancelled, "cancelled before anything was touched");
    }
    if state == CheckState::Failed {
        let also = if waiting.1.is_empty() { String::new() } else { format!("; besides: {}", waiting.1) };
        return end(Phase::Failed, failed.0, &format!("{}{also}. Nothing was touched", failed.1));
    }
    if inputs.job.spec.dry_run {
        let is_known = !plan.all().any(|(_, c)| waits_for(c, Reason::Connecting));
        if state == CheckState::Passed {
            return end(Phase::Succeeded, Reason::DryRun, "every check passed; a dry run does nothing more");
        }
        if is_known && plan.waits_for_syncs_only() {
            let message =
                format!("nothing stands in the way so far, but a dry run makes no sync: {}", waiting.1);
            return end(Phase::Succeeded, Reason::DryRun, &message);
        }
        if is_known {
            return end(Phase::Failed, waiting.0, &format!("it would have to wait: {}", waiting.1));
        }
    }
    if inputs.now > deadline(inputs) {
        let why = if waiting.1.is_empty() { "no control plane was at work".to_owned() } else { waiting.1 };
        let limit = inputs.job.spec.start_deadline_seconds;
        let message =
            format!("it could not begin within {limit} s of its creation: {why}. Nothing was touched");
        return end(Phase::Failed, Reason::DeadlineExceeded, &message);
    }
    if state == CheckState::Passed {
        let mut status = planned(inputs.job, &old, &plan, inputs.now);
        if old.checked_time.is_none() || !plan.is_same(&old.plan) {
            status.checked_time = Some(Time(inputs.now));
            return Pass { status, actions: Vec::new() };
        }
        status.checked_time.clone_from(&old.checked_time);
        let runs = begin(&plan, inputs.job.spec.order, inputs.now);
        return Pass { status: executing(inputs.job, &status, runs, inputs.now), actions: Vec::new() };
    }
    let actions = if plan.waits_for_syncs_only() { syncs(inputs, &old, &plan) } else { Vec::new() };
    Pass { status: planned(inputs.job, &old, &plan, inputs.now), actions }
}

/// Until when the restore may begin.
fn deadline(inputs: &RestoreInputs<'_>) -> Timestamp {
    let since = inputs.job.creation_timestamp().map_or(inputs.now, |t| t.0);
    since.saturating_add(start_limit(inputs.job)).unwrap_or(Timestamp::MAX)
}

/// How long the start of a restore, and then of each datacenter, may take: `spec.startDeadlineSeconds`.
#[must_use]
pub fn start_limit(job: &FleetRestoreJob) -> SignedDuration {
    SignedDuration::from_secs(job.spec.start_deadline_seconds)
}

/// The entries of a restore that begins. An entry whose turn it is has the name of the job that will be made for it: every
/// entry when they go in parallel, else the first only.
fn begin(plan: &Plan, order: RestoreOrder, now: Timestamp) -> Vec<RestoreRun> {
    let entries = plan.entries.iter().enumerate();
    entries
        .map(|(number, entry)| {
            let mut run = RestoreRun {
                data_plane: entry.data_plane.clone(),
                namespace: entry.namespace.clone(),
                datacenter: entry.datacenter.clone(),
                reason: Some(Reason::Pending.as_str().to_owned()),
                ..RestoreRun::default()
            };
            if number == 0 || order == RestoreOrder::Parallel {
                turn(&mut run, &entry.job, now);
            }
            run
        })
        .collect()
}

/// It is this datacenter's turn.
pub(super) fn turn(run: &mut RestoreRun, job: &str, now: Timestamp) {
    run.job = Some(job.to_owned());
    run.start_time = Some(Time(now));
    run.reason = Some(Reason::Starting.as_str().to_owned());
    run.message = None;
}

/// The syncs that are missing, of entries whose need of one is published already.
fn syncs(inputs: &RestoreInputs<'_>, old: &FleetRestoreJobStatus, plan: &Plan) -> Vec<RestoreWrite> {
    if !plan.is_same(&old.plan) {
        return Vec::new();
    }
    let needed = plan.entries.iter().filter(|e| e.checks.iter().any(|c| waits_for(c, Reason::SyncNeeded)));
    needed
        .filter_map(|entry| {
            let plane = inputs.planes.iter().find(|p| p.name == entry.data_plane)?;
            let key = ObjectKey::new(&entry.namespace, &entry.datacenter);
            let datacenter = plane.view.datacenters.last(&key)?;
            let child = ObjectKey::new(&entry.namespace, &entry.job);
            let task = task(inputs.job, child, TaskOperation::Sync, datacenter, inputs.control_plane);
            Some(RestoreWrite::Sync(entry.data_plane.clone(), Box::new(task)))
        })
        .collect()
}
