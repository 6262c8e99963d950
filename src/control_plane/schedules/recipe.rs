//! What a FleetBackupSchedule asks for: its spec, read and checked. Pure.

use std::time::Duration;

use crate::api::{
    Reason, Why,
    cron::{CronError, CronExpr},
    fleet::{CatchUp, FleetBackupScheduleSpec},
};

/// How late a slot may run that is not to be caught up with: long enough for another control plane to take over.
const ON_TIME: Duration = Duration::from_mins(1);
/// Ended runs that are kept where the spec does not say.
const KEPT: usize = 3;

/// A spec that can be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    pub cron: CronExpr,
    /// How late a slot may still run; absent: as late as need be.
    pub deadline: Option<Duration>,
    /// How many runs that succeeded are kept.
    pub keep_good: usize,
    /// How many runs that did not are kept.
    pub keep_bad: usize,
}

/// Reads `spec`.
///
/// # Errors
/// The first field that cannot be used.
pub fn read(spec: &FleetBackupScheduleSpec) -> Result<Recipe, Why> {
    let cron = CronExpr::parse(&spec.schedule, spec.time_zone.as_deref()).map_err(|error| {
        let (reason, field) = match &error {
            CronError::Expression(_) => (Reason::InvalidSpec, "spec.schedule"),
            CronError::TimeZone(_) => (Reason::InvalidSpec, "spec.timeZone"),
            CronError::NeverFires(_) => (Reason::NeverFires, "spec.schedule"),
        };
        Why::new(reason, format!("{field}: {error}"))
    })?;
    let given = count("startingDeadlineSeconds", spec.starting_deadline_seconds)?.map(Duration::from_secs);
    let deadline = match spec.catch_up {
        CatchUp::Latest => given,
        CatchUp::None => Some(given.unwrap_or(ON_TIME).min(ON_TIME)),
    };
    let keep = |field, limit| {
        count(field, limit).map(|limit| limit.map_or(KEPT, |n| usize::try_from(n).unwrap_or(usize::MAX)))
    };
    Ok(Recipe {
        cron,
        deadline,
        keep_good: keep("successfulJobsHistoryLimit", spec.successful_jobs_history_limit)?,
        keep_bad: keep("failedJobsHistoryLimit", spec.failed_jobs_history_limit)?,
    })
}

fn count(field: &str, value: Option<i64>) -> Result<Option<u64>, Why> {
    value.map(u64::try_from).transpose().map_err(|_| {
        let given = value.unwrap_or_default();
        let message = format!("spec.{field}: {given} is below 0; give 0 or more, or leave it out");
        Why::new(Reason::InvalidSpec, message)
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn spec(more: Value) -> FleetBackupScheduleSpec {
        let mut spec = json!({"schedule": "@daily"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    #[rstest]
    #[case(json!({"schedule": "0 2 * *"}), Reason::InvalidSpec, "spec.schedule: `0 2 * *` has 4 fields")]
    #[case(json!({"schedule": "0 0 30 2 *"}), Reason::NeverFires, "spec.schedule")]
    #[case(json!({"timeZone": "Berlin"}), Reason::InvalidSpec, "spec.timeZone")]
    #[case(json!({"schedule": "TZ=UTC @daily", "timeZone": "UTC"}), Reason::InvalidSpec, "twice")]
    #[case(json!({"startingDeadlineSeconds": -1}), Reason::InvalidSpec, "spec.startingDeadlineSeconds: -1")]
    #[case(json!({"failedJobsHistoryLimit": -2}), Reason::InvalidSpec, "spec.failedJobsHistoryLimit: -2")]
    fn what_cannot_be_used_is_named(#[case] more: Value, #[case] reason: Reason, #[case] mentions: &str) {
        let problem = read(&spec(more)).unwrap_err();
        assert_eq!(problem.reason, reason);
        assert!(problem.message.contains(mentions), "{}", problem.message);
    }

    #[rstest]
    #[case(json!({}), None)]
    #[case(json!({"startingDeadlineSeconds": 7200}), Some(7200))]
    #[case(json!({"catchUp": "None"}), Some(60))]
    #[case(json!({"catchUp": "None", "startingDeadlineSeconds": 7200}), Some(60))]
    #[case(json!({"catchUp": "None", "startingDeadlineSeconds": 5}), Some(5))]
    fn without_catching_up_a_slot_runs_on_time_or_not_at_all(
        #[case] more: Value,
        #[case] seconds: Option<u64>,
    ) {
        assert_eq!(read(&spec(more)).unwrap().deadline, seconds.map(Duration::from_secs));
    }
}
