//! FleetBackupSchedules that do not run, missed a slot, or whose last run ended badly. Pure.

use jiff::Timestamp;

use super::{Finding, Severity, object, unseen};
use crate::{
    api::{Conditions as _, Reason, fleet::FleetBackupSchedule},
    cli::views::name,
    control_plane::schedules::summarize::{MISSED, READY, SUCCEEDED},
};

/// Every schedule.
pub(super) fn schedules(schedules: &[FleetBackupSchedule], now: Timestamp) -> Vec<Finding> {
    schedules.iter().flat_map(|schedule| one(schedule, now)).collect()
}

fn one(schedule: &FleetBackupSchedule, now: Timestamp) -> Vec<Finding> {
    let object = object("schedule", &schedule.metadata);
    let Some(status) = &schedule.status else {
        return unseen(&schedule.metadata, object, now).into_iter().collect();
    };
    let describe = format!("`kubectl medusa describe schedule/{}`", name(&schedule.metadata));
    let mut found = Vec::new();
    if let Some(ready) = status.conditions.of_type(READY).filter(|c| c.status != "True") {
        let (severity, fix) = match Reason::of(&ready.reason) {
            Some(Reason::Paused) => {
                (Severity::Notice, format!("`kubectl medusa schedule resume {}`", name(&schedule.metadata)))
            }
            Some(Reason::PreviousRunUnfinished) => (
                Severity::Warning,
                "see to the run that goes on; `concurrencyPolicy: Replace` would cancel it".to_owned(),
            ),
            Some(_) | None => (Severity::Error, format!("mend what it names; {describe}")),
        };
        found.push(Finding::of(severity, object.clone(), ready, fix));
    }
    if let Some(missed) = status.conditions.of_type(MISSED).filter(|c| c.status == "True") {
        let fix = format!("if the backup is missed, make one now: `kubectl medusa backup`; {describe}");
        found.push(Finding::of(Severity::Warning, object.clone(), missed, fix));
    }
    if let Some(last) = status.conditions.of_type(SUCCEEDED).filter(|c| c.status == "False") {
        found.push(Finding::of(
            Severity::Error,
            object,
            last,
            format!("see why its last run failed: {describe}"),
        ));
    }
    found
}
