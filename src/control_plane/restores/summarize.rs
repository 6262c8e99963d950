//! The status of a FleetRestoreJob. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::plan::Plan;
use crate::api::{
    Reason,
    fleet::{CheckState, FleetRestoreJob, FleetRestoreJobStatus, Phase, RestoreRun, place},
    set_condition,
};

/// Condition: whether every check has passed.
pub const CHECKS_PASSED: &str = "ChecksPassed";
/// Condition: whether the restore ended well.
pub const COMPLETE: &str = "Complete";

/// The status of a job that is checked: nothing has been touched.
#[must_use]
pub fn planned(
    job: &FleetRestoreJob,
    old: &FleetRestoreJobStatus,
    plan: &Plan,
    now: Timestamp,
) -> FleetRestoreJobStatus {
    let mut status = FleetRestoreJobStatus {
        observed_generation: job.metadata.generation,
        phase: Some(Phase::Pending),
        cluster: plan.cluster.clone(),
        start_time: old.start_time.clone().or(Some(Time(now))),
        done: Some(format!("0/{}", plan.entries.len())),
        checks: plan.checks.clone(),
        plan: plan.entries.clone(),
        conditions: old.conditions.clone(),
        ..FleetRestoreJobStatus::default()
    };
    let (passed, (reason, message)) = match plan.state() {
        CheckState::Passed => (Some(true), (Reason::ChecksPassed, "nothing stands in the way".to_owned())),
        CheckState::Waiting => (None, plan.why(CheckState::Waiting)),
        CheckState::Failed => (Some(false), plan.why(CheckState::Failed)),
    };
    let generation = job.metadata.generation;
    set_condition(&mut status.conditions, CHECKS_PASSED, passed, reason, &message, generation, now);
    let message = format!("nothing has been touched: {message}");
    set_condition(&mut status.conditions, COMPLETE, None, reason, message, generation, now);
    status
}

/// The status of a job that ends before anything was touched.
#[must_use]
pub fn ended(
    job: &FleetRestoreJob,
    old: &FleetRestoreJobStatus,
    plan: &Plan,
    (phase, reason, message): (Phase, Reason, &str),
    now: Timestamp,
) -> FleetRestoreJobStatus {
    let mut status = planned(job, old, plan, now);
    status.phase = Some(phase);
    status.finish_time = Some(Time(now));
    let (is_good, generation) = (phase == Phase::Succeeded, job.metadata.generation);
    set_condition(&mut status.conditions, COMPLETE, Some(is_good), reason, message, generation, now);
    status
}

/// The status of a restore that has begun: `old` with what became of its datacenters.
#[must_use]
pub fn executing(
    job: &FleetRestoreJob,
    old: &FleetRestoreJobStatus,
    runs: Vec<RestoreRun>,
    now: Timestamp,
) -> FleetRestoreJobStatus {
    let count = |phase: Phase| runs.iter().filter(|run| run.phase == phase).count();
    let good = count(Phase::Succeeded);
    let phase = if !runs.iter().all(|run| run.phase.is_final()) {
        Phase::Running
    } else if good == runs.len() {
        Phase::Succeeded
    } else if count(Phase::Cancelled) > 0 {
        Phase::Cancelled
    } else if good > 0 {
        Phase::PartiallyFailed
    } else {
        Phase::Failed
    };
    let mut status = FleetRestoreJobStatus {
        observed_generation: job.metadata.generation,
        phase: Some(phase),
        finish_time: phase.is_final().then(|| old.finish_time.clone().unwrap_or(Time(now))),
        done: Some(format!("{good}/{}", runs.len())),
        ..old.clone()
    };
    let (complete, reason, message) = verdict(phase, &runs);
    status.datacenters = runs;
    set_condition(&mut status.conditions, COMPLETE, complete, reason, message, job.metadata.generation, now);
    status
}

fn verdict(phase: Phase, runs: &[RestoreRun]) -> (Option<bool>, Reason, String) {
    let told = |wanted: &dyn Fn(&RestoreRun) -> bool| -> String {
        let list: Vec<String> = runs
            .iter()
            .filter(|run| wanted(run))
            .map(|run| {
                let why = [run.reason.as_deref(), run.message.as_deref()];
                let why: Vec<&str> = why.into_iter().flatten().collect();
                let place = place([&run.data_plane, &run.namespace, &run.datacenter]);
                format!("{place}: {}", why.join(", "))
            })
            .collect();
        list.join("; ")
    };
    let open = |run: &RestoreRun| !run.phase.is_final();
    let bad = |run: &RestoreRun| run.phase.is_final() && run.phase != Phase::Succeeded;
    match phase {
        Phase::Succeeded => {
            // Where a datacenter succeeded and has a message, its controller did not report on the pods.
            let unreported = runs.iter().filter(|run| run.message.is_some());
            let places: Vec<String> =
                unreported.map(|run| place([&run.data_plane, &run.namespace, &run.datacenter])).collect();
            let message = if places.is_empty() {
                "every datacenter holds the backup's data".to_owned()
            } else {
                format!(
                    "every MedusaRestoreJob ended well; nobody reports on the pods of {}: compare the data",
                    places.join(", ")
                )
            };
            (Some(true), Reason::Succeeded, message)
        }
        Phase::Cancelled => (Some(false), Reason::Cancelled, told(&bad)),
        Phase::PartiallyFailed => (
            Some(false),
            Reason::PartiallyFailed,
            format!(
                "the datacenters do not hold the same data; restore again before anything is written: {}",
                told(&bad)
            ),
        ),
        Phase::Failed | Phase::Skipped => (Some(false), Reason::Failed, told(&bad)),
        Phase::Pending | Phase::Running => (None, Reason::Running, told(&open)),
    }
}
