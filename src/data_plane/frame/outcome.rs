//! How the start, the waiting and the end of a run are put into a status, the same for every kind that has
//! a start and an end.
//!
//! Pure. Clusters with upstream's definitions drop `message` and `conditions` of some kinds; nothing may be
//! needed to go on that stands only there.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde::Serialize;
use serde_json::{Value, json};

use super::problem::Problem;
use crate::api::{
    Reason,
    medusa::{MedusaBackupJobStatus, MedusaRestoreJobStatus, MedusaTaskStatus},
    set_condition,
};

/// Condition: whether the run ended well.
pub const COMPLETE: &str = "Complete";
/// Condition: whether the run ended badly.
pub const FAILED: &str = "Failed";

/// The fields that every kind with a start and an end has.
pub trait RunStatus {
    /// `startTime` and `finishTime`.
    fn times(&self) -> (Option<Timestamp>, Option<Timestamp>);

    /// Whether it has started and not ended.
    fn is_under_way(&self) -> bool {
        matches!(self.times(), (Some(_), None))
    }

    /// `finishTime`, `message` and `conditions`.
    fn ending(&mut self) -> (&mut Option<Time>, &mut Option<String>, &mut Vec<Condition>);
}

macro_rules! run_status {
    ($($status:ty),+) => {
        $(impl RunStatus for $status {
            fn times(&self) -> (Option<Timestamp>, Option<Timestamp>) {
                let time = |time: &Option<Time>| time.as_ref().map(|time| time.0);
                (time(&self.start_time), time(&self.finish_time))
            }

            fn ending(&mut self) -> (&mut Option<Time>, &mut Option<String>, &mut Vec<Condition>) {
                (&mut self.finish_time, &mut self.message, &mut self.conditions)
            }
        })+
    };
}

run_status!(MedusaBackupJobStatus, MedusaRestoreJobStatus, MedusaTaskStatus);

/// The status as a merge patch that only applies to `version`. Of `fields`, those that the status leaves out
/// are emptied: left out of the patch as well, their old content would stay.
#[must_use]
pub fn patch(version: &str, status: &impl Serialize, fields: &[&str]) -> Value {
    let mut status = json!(status);
    if let Some(written) = status.as_object_mut() {
        for field in fields {
            written.entry(*field).or_insert(Value::Null);
        }
    }
    json!({"metadata": {"resourceVersion": version}, "status": status})
}

/// The run waits for `problem` to go away.
pub fn wait(status: &mut impl RunStatus, problem: &Problem, generation: Option<i64>, now: Timestamp) {
    let (_, message, _) = status.ending();
    *message = Some(problem.message.clone());
    conclude(status, (None, Some(false)), problem.reason, &problem.message, generation, now);
}

/// The run goes on; `reason` and `message` say with what.
pub fn step(
    status: &mut impl RunStatus,
    reason: Reason,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let (_, old, _) = status.ending();
    *old = None;
    conclude(status, (None, Some(false)), reason, message, generation, now);
}

/// The run ended well.
pub fn succeed(status: &mut impl RunStatus, message: &str, generation: Option<i64>, now: Timestamp) {
    let (finish, old, _) = status.ending();
    *finish = Some(Time(now));
    *old = None;
    conclude(status, (Some(true), Some(false)), Reason::Succeeded, message, generation, now);
}

/// The run ended badly.
pub fn fail(
    status: &mut impl RunStatus,
    reason: Reason,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let (finish, old, _) = status.ending();
    *finish = Some(Time(now));
    *old = Some(message.to_owned());
    conclude(status, (Some(false), Some(true)), reason, message, generation, now);
}

fn conclude(
    status: &mut impl RunStatus,
    (complete, failed): (Option<bool>, Option<bool>),
    reason: Reason,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let (_, _, conditions) = status.ending();
    set_condition(conditions, COMPLETE, complete, reason, message, generation, now);
    set_condition(conditions, FAILED, failed, reason, message, generation, now);
}
