//! What runs by the clock?

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{ago, message, moment, name, reason, state};
use crate::{
    api::fleet::{FleetBackupSchedule, FleetBackupScheduleStatus},
    cli::{duration, output::Table},
};

/// One row per schedule.
#[must_use]
pub fn table(schedules: &[FleetBackupSchedule], wide: bool, now: Timestamp) -> Table {
    let header =
        ["NAME", "SCHEDULE", "OPERATION", "EXECUTION", "READY", "DCS", "NEXT", "LAST", "SUCCEEDED", "MISSED"];
    let mut table = Table::wide(wide, &header, &["TIME ZONE", "ACTIVE", "REASON", "MESSAGE"]);
    for schedule in schedules {
        let unknown = FleetBackupScheduleStatus::default();
        let status = schedule.status.as_ref().unwrap_or(&unknown);
        table.row([
            name(&schedule.metadata),
            schedule.spec.schedule.clone(),
            schedule.spec.operation.as_str().to_owned(),
            schedule.spec.execution.as_str().to_owned(),
            state(&status.conditions, "Ready"),
            status.datacenters.map_or_else(String::new, |dcs| format!("{}/{}", dcs.scheduled, dcs.total)),
            coming(status.next_schedule_time.as_ref(), now),
            ago(status.last_schedule_time.as_ref(), now),
            ago(status.last_successful_time.as_ref(), now),
            status.missed_slots.to_string(),
            schedule.spec.time_zone.clone().unwrap_or_else(|| "UTC".to_owned()),
            status.active.iter().map(|run| run.name.clone()).collect::<Vec<_>>().join(","),
            reason(&status.conditions, "Ready"),
            message(&status.conditions, "Ready"),
        ]);
    }
    table
}

/// `in 3h`, or for how long a slot has waited.
#[must_use]
pub fn coming(next: Option<&Time>, now: Timestamp) -> String {
    next.map_or_else(String::new, |next| {
        if next.0 > now {
            format!("in {}", duration::until(next.0, now))
        } else {
            format!("waits {}", duration::age(next.0, now))
        }
    })
}

/// A moment and how far away it is.
#[must_use]
pub fn slot(next: Option<&Time>, now: Timestamp) -> String {
    next.map_or_else(String::new, |time| format!("{} ({})", moment(Some(time)), coming(Some(time), now)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::views::fixtures::{now, schedules};

    #[test]
    fn schedules_show_when_they_run_and_how_it_went() {
        insta::assert_snapshot!(table(&schedules(), false, now()).render(0));
    }

    #[test]
    fn wide_schedules_show_why_not() {
        insta::assert_snapshot!(table(&schedules(), true, now()).render(0));
    }
}
