//! Events about a restore: what was decided, datacenter by datacenter, and how it ended.

use kube::Resource as _;

use super::summarize::COMPLETE;
use crate::{
    api::{
        Conditions as _, Reason,
        fleet::{FleetRestoreJob, FleetRestoreJobStatus, Phase, RestoreRun, place},
    },
    runtime::events::Events,
};

/// Tells what changed between two published statuses.
pub(super) fn tell(
    events: &Events,
    job: &FleetRestoreJob,
    old: &FleetRestoreJobStatus,
    new: &FleetRestoreJobStatus,
) {
    let about = || job.object_ref(&());
    if old.checked_time.is_none() && new.checked_time.is_some() {
        let note = format!("every check of {} datacenters passed", new.plan.len());
        events.normal(about(), Reason::ChecksPassed, "CheckRestore", note);
    }
    let verdict = |status: &FleetRestoreJobStatus| status.conditions.of_type(COMPLETE).cloned();
    if new.phase == Some(Phase::Pending)
        && new.checked_time.is_none()
        && let Some(now) = verdict(new)
        && verdict(old).is_none_or(|before| before.reason != now.reason)
    {
        let reason = Reason::of(&now.reason).unwrap_or(Reason::Pending);
        events.warning(about(), reason, "CheckRestore", now.message);
    }
    for (number, run) in new.datacenters.iter().enumerate() {
        let before = old.datacenters.get(number);
        let place = place([&run.data_plane, &run.namespace, &run.datacenter]);
        if run.job_uid.is_some() && before.is_none_or(|b| b.job_uid.is_none()) {
            let note = format!("{place}: MedusaRestoreJob {}", run.job.as_deref().unwrap_or_default());
            events.normal(about(), Reason::JobCreated, "Restore", note);
        }
        if run.phase.is_final() && before.is_none_or(|b| !b.phase.is_final()) {
            ended(events, job, run, &place);
        }
    }
    if !new.phase.is_some_and(Phase::is_final) {
        return;
    }
    let Some(verdict) = verdict(new) else { return };
    let reason = Reason::of(&verdict.reason).unwrap_or(Reason::Failed);
    if new.phase == Some(Phase::Succeeded) {
        events.normal(about(), reason, "Restore", &verdict.message);
    } else {
        events.warning(about(), reason, "Restore", &verdict.message);
    }
}

fn ended(events: &Events, job: &FleetRestoreJob, run: &RestoreRun, place: &str) {
    let reason = run.reason.as_deref().and_then(Reason::of).unwrap_or(Reason::Failed);
    if run.phase == Phase::Succeeded {
        events.normal(job.object_ref(&()), reason, "Restore", format!("{place}: restored"));
    } else {
        let why = run.message.as_deref().unwrap_or("not restored");
        events.warning(job.object_ref(&()), reason, "Restore", format!("{place}: {why}"));
    }
}
