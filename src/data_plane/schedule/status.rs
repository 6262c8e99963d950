//! What is written into a schedule's status.
//!
//! Pure. Clusters with upstream's definitions drop `message` and `conditions`; nothing here may be needed to
//! go on, only to explain. The two times alone carry a schedule over a restart.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::{
    recipe::Recipe,
    runs::{ScheduleRun, ScheduledWork},
};
use crate::{
    api::{
        Reason,
        cassandra::CassandraDatacenter,
        medusa::{MedusaBackupSchedule, MedusaBackupScheduleStatus},
        set_condition,
    },
    data_plane::frame::{objects, outcome, problem::Problem},
};

/// Condition: whether the next slot will run.
pub const READY: &str = "Ready";
/// Condition: whether slots passed without a run, at the last time one was due.
pub const MISSED: &str = "Missed";

/// What became of the slots that were due, for the condition `Missed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotOutcome {
    /// None was due, or it still waits.
    Nothing,
    /// One ran, and none was missed.
    OnTime,
    /// Some were missed; the text says how many and why.
    Missed(String),
}

/// Everything a status says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The earliest slot that is not dealt with.
    pub next: Option<Timestamp>,
    /// The latest slot that ran.
    pub last: Option<Timestamp>,
    /// What the schedule does, or why it does not.
    pub ready: Result<String, Problem>,
    /// What became of the slots that were due.
    pub outcome: SlotOutcome,
}

/// `old` as `report` makes it.
#[must_use]
pub fn status(
    old: &MedusaBackupScheduleStatus,
    report: &Report,
    generation: Option<i64>,
    now: Timestamp,
) -> MedusaBackupScheduleStatus {
    let mut new = MedusaBackupScheduleStatus {
        next_schedule: report.next.map(Time),
        last_execution: report.last.map(Time),
        message: report.ready.as_ref().err().map(|problem| problem.message.clone()),
        conditions: old.conditions.clone(),
    };
    let (ready, reason, message) = match &report.ready {
        Ok(message) => (true, Reason::Scheduled, message),
        Err(problem) => (false, problem.reason, &problem.message),
    };
    set_condition(&mut new.conditions, READY, Some(ready), reason, message, generation, now);
    let (missed, reason, message) = match &report.outcome {
        SlotOutcome::Nothing => return new,
        SlotOutcome::OnTime => {
            (false, Reason::Scheduled, "the last slot ran, and none before it was left out")
        }
        SlotOutcome::Missed(message) => (true, Reason::SlotsMissed, message.as_str()),
    };
    set_condition(&mut new.conditions, MISSED, Some(missed), reason, message, generation, now);
    new
}

/// The status as a merge patch that only applies to `resource_version`.
#[must_use]
pub fn patch(resource_version: &str, status: &MedusaBackupScheduleStatus) -> Value {
    let fields = ["nextSchedule", "lastExecution", "message", "conditions"];
    outcome::patch(resource_version, status, &fields)
}

/// What the schedule does.
#[must_use]
pub fn purpose(schedule: &MedusaBackupSchedule, recipe: &Recipe, datacenter: &CassandraDatacenter) -> String {
    let work = ScheduledWork::from(schedule.spec.operation_type);
    format!(
        "creates a {} for CassandraDatacenter `{}` at each slot of {}",
        work.kind(),
        objects::name(datacenter),
        recipe.cron
    )
}

/// The slot of `since` waits for `other` to end.
#[must_use]
pub fn busy(other: &ScheduleRun, since: Timestamp) -> Problem {
    let created = other.created.map(|at| format!(", created {at},")).unwrap_or_default();
    let kind = other.work.kind();
    Problem::new(
        Reason::PreviousRunUnfinished,
        format!(
            "the slot of {since} waits: {kind} `{}`{created} has not finished on CassandraDatacenter `{}`, and \
             spec.concurrencyPolicy is Forbid. It runs when that ends; if it never does, see why and delete it: \
             kubectl describe {} {}",
            other.name,
            other.datacenter,
            kind.to_lowercase(),
            other.name
        ),
    )
}

/// `lastExecution` lies in the future.
#[must_use]
pub fn ahead(schedule: &MedusaBackupSchedule, last: Timestamp) -> Problem {
    Problem::new(
        Reason::ClockSteppedBack,
        format!(
            "status.lastExecution ({last}) is in the future, so the clock was wrong then or is wrong now; no slot \
             up to that time runs. If it was wrong then: kubectl patch medusabackupschedule {} --subresource=status \
             --type=merge -p '{{\"status\":{{\"lastExecution\":null}}}}'",
            objects::name(schedule)
        ),
    )
}

/// There is no next slot.
#[must_use]
pub fn never(recipe: &Recipe) -> Problem {
    Problem::new(
        Reason::NeverFires,
        format!("spec.cronSchedule: {} does not come in the next ten years", recipe.cron),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Conditions as _;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn report(ready: Result<String, Problem>, outcome: SlotOutcome) -> Report {
        Report { next: Some(at(60)), last: None, ready, outcome }
    }

    #[test]
    fn a_status_says_what_it_does_or_why_it_does_not() {
        let fine = report(Ok("runs".to_owned()), SlotOutcome::Nothing);
        let first = status(&MedusaBackupScheduleStatus::default(), &fine, Some(1), at(0));
        assert!(first.conditions.is_true(READY) && first.message.is_none() && first.last_execution.is_none());
        assert!(first.conditions.of_type(MISSED).is_none());
        let problem = Problem::new(Reason::InvalidSpec, "spec.cronSchedule: no".to_owned());
        let missed = report(Err(problem), SlotOutcome::Missed("1 slot".to_owned()));
        let second = status(&first, &missed, Some(2), at(5));
        assert_eq!(second.message.as_deref(), Some("spec.cronSchedule: no"));
        assert!(!second.conditions.is_true(READY) && second.conditions.is_true(MISSED));
        let third = status(&second, &report(Ok(String::new()), SlotOutcome::OnTime), Some(2), at(9));
        assert!(!third.conditions.is_true(MISSED) && third.message.is_none());
        assert_eq!(status(&third, &fine, Some(2), at(10)).conditions.len(), 2, "it stays as it is");
    }

    #[test]
    fn the_patch_empties_what_is_not_there() {
        let patch = patch("7", &MedusaBackupScheduleStatus::default());
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert!(patch["status"]["nextSchedule"].is_null() && patch["status"]["message"].is_null());
        assert_eq!(patch["status"].as_object().unwrap().len(), 4);
    }
}
