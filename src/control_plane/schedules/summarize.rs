//! What is written into a FleetBackupSchedule's status. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    by_data_plane::{failed_message, missed_message, remembered},
    recipe::Recipe,
    runs::Run,
};
use crate::api::{
    Conditions as _, Reason, Why,
    cron::Missed,
    fleet::{
        FleetBackupSchedule, FleetBackupScheduleStatus, Phase, ScheduledDataPlane, ScheduledDatacenters,
        ScheduledRun,
    },
    set_condition,
};

/// Condition: whether the next slot will run.
pub const READY: &str = "Ready";
/// Condition: whether slots passed without a run, at the last time one was due.
pub const MISSED: &str = "Missed";
/// Condition: how the last run that ended, ended.
pub const SUCCEEDED: &str = "Succeeded";

/// What became of the slots that were due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotOutcome {
    /// None was due, or it still waits.
    Nothing,
    /// One ran, and none was missed.
    OnTime,
    /// Some were missed: which, and a message that says so with the reason.
    Missed(Missed, String),
    /// Some are missed in data planes that watch the clock themselves: how many more than was known, and where.
    There(usize, String),
}

/// Everything a status says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleReport {
    /// The earliest slot that is not dealt with.
    pub next: Option<Timestamp>,
    /// The latest slot that ran.
    pub last: Option<Timestamp>,
    /// Runs that have not ended.
    pub active: Vec<ScheduledRun>,
    /// What the schedule does, or why it does not.
    pub ready: Result<String, Why>,
    /// What became of the slots that were due.
    pub outcome: SlotOutcome,
    /// How the last run that ended did; `None` when that is not known.
    pub succeeded: Option<(bool, String)>,
    /// When the last run that succeeded ended.
    pub success: Option<Timestamp>,
    /// Datacenters the schedule is for; `None` while they are not known.
    pub datacenters: Option<ScheduledDatacenters>,
    /// What is known of each data plane.
    pub data_planes: Vec<ScheduledDataPlane>,
}

impl ScheduleReport {
    /// One that leaves everything as `old` has it, but for whether it is ready.
    #[must_use]
    pub fn unchanged(old: &FleetBackupScheduleStatus, ready: Result<String, Why>) -> Self {
        Self {
            next: old.next_schedule_time.as_ref().map(|time| time.0),
            last: old.last_schedule_time.as_ref().map(|time| time.0),
            active: old.active.clone(),
            ready,
            outcome: SlotOutcome::Nothing,
            succeeded: None,
            success: None,
            datacenters: None,
            data_planes: remembered(old),
        }
    }
}

/// `old` as `report` makes it.
#[must_use]
pub fn status(
    old: &FleetBackupScheduleStatus,
    report: &ScheduleReport,
    generation: Option<i64>,
    now: Timestamp,
) -> FleetBackupScheduleStatus {
    let mut new = FleetBackupScheduleStatus {
        observed_generation: generation,
        last_schedule_time: report.last.map(Time),
        next_schedule_time: report.next.map(Time),
        last_successful_time: old
            .last_successful_time
            .as_ref()
            .map(|time| time.0)
            .max(report.success)
            .map(Time),
        active: report.active.clone(),
        missed_slots: old.missed_slots,
        data_planes: report.data_planes.clone(),
        counted: Vec::new(),
        datacenters: report.datacenters.or(old.datacenters),
        conditions: old.conditions.clone(),
    };
    let (ready, reason, message) = match &report.ready {
        Ok(message) => (true, Reason::Scheduled, message),
        Err(problem) => (false, problem.reason, &problem.message),
    };
    set_condition(&mut new.conditions, READY, Some(ready), reason, message, generation, now);
    if let Some((good, message)) = &report.succeeded {
        let reason = if *good { Reason::Succeeded } else { Reason::Failed };
        set_condition(&mut new.conditions, SUCCEEDED, Some(*good), reason, message, generation, now);
    }
    let (missed, reason, message) = match &report.outcome {
        SlotOutcome::Nothing => return new,
        SlotOutcome::OnTime => {
            (false, Reason::Scheduled, "the last slot ran, and none before it was left out")
        }
        SlotOutcome::Missed(Missed { count, .. }, message) | SlotOutcome::There(count, message) => {
            new.missed_slots = new.missed_slots.saturating_add(i64::try_from(*count).unwrap_or(i64::MAX));
            (true, Reason::SlotsMissed, message.as_str())
        }
    };
    set_condition(&mut new.conditions, MISSED, Some(missed), reason, message, generation, now);
    new
}

/// What slots too late to run have come to.
#[must_use]
pub fn too_late(missed: Missed, recipe: &Recipe) -> SlotOutcome {
    let deadline = recipe.deadline.unwrap_or_default().as_secs();
    SlotOutcome::Missed(missed, format!("{missed}: more than {deadline} s ago, after which none may start"))
}

/// What became of slots in data planes: `count` more are missed than were known; `is_over` says that none is missed any
/// more.
#[must_use]
pub fn missed_there(
    old: &FleetBackupScheduleStatus,
    planes: &[ScheduledDataPlane],
    count: usize,
    is_over: bool,
) -> SlotOutcome {
    match missed_message(planes) {
        Some(message) => SlotOutcome::There(count, message),
        None if is_over && old.conditions.is_true(MISSED) => SlotOutcome::OnTime,
        None => SlotOutcome::Nothing,
    }
}

/// How the last runs in data planes ended; `None` while that is not known of all, and none is known to have gone wrong.
#[must_use]
pub fn succeeded_there(
    planes: &[ScheduledDataPlane],
    is_good: bool,
    operation: &str,
) -> Option<(bool, String)> {
    let good = || is_good.then(|| (true, format!("the last {operation} of every datacenter succeeded")));
    failed_message(planes).map(|message| (false, message)).or_else(good)
}

/// What the slots before `slot`, which runs, have come to.
#[must_use]
pub fn caught_up(missed: Option<Missed>, slot: Timestamp) -> SlotOutcome {
    missed.map_or(SlotOutcome::OnTime, |missed| {
        SlotOutcome::Missed(missed, format!("{missed}; only the latest, of {slot}, was caught up with"))
    })
}

/// What a Coordinated schedule does.
#[must_use]
pub fn purpose(schedule: &FleetBackupSchedule, kind: &str, recipe: &Recipe) -> String {
    format!("creates a {kind} ({}) at each slot of {}", schedule.spec.operation.as_str(), recipe.cron)
}

/// How the latest of the runs that have ended since `old` was written did, and when one last succeeded.
#[must_use]
pub fn results(old: &FleetBackupScheduleStatus, runs: &[Run]) -> (Option<(bool, String)>, Option<Timestamp>) {
    let went_on = |run: &&Run| old.active.iter().any(|active| active.uid == run.uid);
    let ended = runs.iter().filter(|run| run.phase.is_final() && !run.is_held()).filter(went_on);
    let last = ended.max_by_key(|run| (run.slot, run.finish)).map(|run| {
        let (kind, name) = (run.kind.as_str(), &run.name);
        (run.phase == Phase::Succeeded, format!("{kind} `{name}` is {}", run.phase.as_str()))
    });
    let success = runs.iter().filter(|run| run.phase == Phase::Succeeded).filter_map(|run| run.finish).max();
    (last, success)
}

/// The schedule is suspended.
#[must_use]
pub fn suspended() -> Why {
    Why::new(Reason::Paused, "spec.suspend is true: nothing runs, and what is left out is not caught up with")
}

/// The slot of `since` waits for `active` to end.
#[must_use]
pub fn busy(active: &[ScheduledRun], since: Timestamp) -> Why {
    let first = active.first().cloned().unwrap_or_default();
    let (kind, name) = (&first.kind, &first.name);
    let place = first.data_plane.map(|plane| format!(" in data plane `{plane}`")).unwrap_or_default();
    let namespace = first.namespace.map(|namespace| format!(" -n {namespace}")).unwrap_or_default();
    Why::new(
        Reason::PreviousRunUnfinished,
        format!(
            "the slot of {since} waits: {kind} `{name}`{place} has not ended, and spec.concurrencyPolicy is Forbid. It runs when \
             that ends; if it never does, see why and cancel or delete it: kubectl describe {} {name}{namespace}",
            kind.to_lowercase()
        ),
    )
}

/// `lastScheduleTime` lies in the future.
#[must_use]
pub fn ahead(name: &str, last: Timestamp) -> Why {
    Why::new(
        Reason::ClockSteppedBack,
        format!(
            "status.lastScheduleTime ({last}) is in the future, so the clock was wrong then or is wrong now; no slot up to \
             that time runs. If it was wrong then, delete the runs of that time and: kubectl patch fleetbackupschedule \
             {name} --subresource=status --type=merge -p '{{\"status\":{{\"lastScheduleTime\":null}}}}'"
        ),
    )
}

/// There is no next slot.
#[must_use]
pub fn never(recipe: &Recipe) -> Why {
    Why::new(
        Reason::NeverFires,
        format!("spec.schedule: {} does not come in the next ten years", recipe.cron),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::control_plane::schedules::runs::tests::{ended, held, run};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_status_says_what_it_does_or_why_it_does_not() {
        let old = FleetBackupScheduleStatus::default();
        let fine =
            ScheduleReport { next: Some(at(60)), ..ScheduleReport::unchanged(&old, Ok("runs".to_owned())) };
        let first = status(&old, &fine, Some(1), at(0));
        assert!(first.conditions.is_true(READY) && first.conditions.of_type(MISSED).is_none());
        let missed = Missed { count: 3, first: at(1) };
        let report = ScheduleReport {
            outcome: caught_up(Some(missed), at(180)),
            ready: Err(suspended()),
            ..fine.clone()
        };
        let second = status(&first, &report, Some(2), at(5));
        assert!(!second.conditions.is_true(READY) && second.conditions.is_true(MISSED));
        let third =
            status(&second, &ScheduleReport { outcome: SlotOutcome::OnTime, ..fine.clone() }, Some(2), at(9));
        assert!(!third.conditions.is_true(MISSED));
        assert_eq!((second.missed_slots, third.missed_slots), (3, 3), "the count stays");
    }

    #[test]
    fn what_waits_for_a_run_in_a_data_plane_says_where_that_is() {
        let run = ScheduledRun {
            kind: "MedusaBackupJob".to_owned(),
            name: "nightly-dc1-0b1c2d3e-60".to_owned(),
            uid: "u".to_owned(),
            data_plane: Some("eu".to_owned()),
            namespace: Some("cass".to_owned()),
        };
        let message = busy(&[run], at(60)).message;
        assert!(message.contains("in data plane `eu`"), "{message}");
        assert!(message.ends_with("medusabackupjob nightly-dc1-0b1c2d3e-60 -n cass"), "{message}");
    }

    #[test]
    fn the_last_success_never_goes_back_and_a_run_tells_once_how_it_ended() {
        let runs = [ended(1_000, "Succeeded"), ended(2_000, "Failed"), run(3_000, json!({}))];
        let old = FleetBackupScheduleStatus {
            active: runs.iter().map(Run::named).collect(),
            ..FleetBackupScheduleStatus::default()
        };
        let (last, success) = results(&old, &runs);
        assert_eq!(last, Some((false, "FleetBackupJob `nightly-2000` is Failed".to_owned())));
        let report = ScheduleReport {
            success,
            succeeded: last,
            active: Vec::new(),
            ..ScheduleReport::unchanged(&old, Ok(String::new()))
        };
        let first = status(&old, &report, Some(1), at(0));
        assert_eq!(first.last_successful_time.clone().map(|time| time.0), success);
        assert_eq!(first.conditions.of_type(SUCCEEDED).unwrap().reason, "Failed");
        assert_eq!(results(&first, &runs[..1]).0, None, "what an older run says counts no more");
        let next = status(&first, &ScheduleReport::unchanged(&first, Ok(String::new())), Some(1), at(1));
        assert_eq!(next, first, "the runs may have been deleted since");
        assert_eq!(results(&old, &[held(1)]), (None, None));
    }
}
