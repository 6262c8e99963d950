//! Looks at any MedusaBackupSchedule, for the tests that make such.

use jiff::Timestamp;

use super::{look, run_index::RunIndex, runs, status};
use crate::{
    api::medusa::MedusaBackupSchedule,
    data_plane::frame::{objects, problem::Problem},
};

/// What it asks for, and what is said about it.
pub(in crate::data_plane) fn follow(schedule: &MedusaBackupSchedule, now: Timestamp) {
    let run_index = RunIndex::default();
    let generation = schedule.metadata.generation;
    let old = schedule.status.clone().unwrap_or_default();
    let tell = |report: &status::Report| _ = status::status(&old, report, generation, now);
    let last = super::last(schedule);
    match look(&run_index, schedule, now) {
        Err(Problem { message, .. }) => assert!(message.starts_with("spec."), "{message}"),
        Ok(view) => {
            let ready = view.datacenter.as_ref().map(|dc| status::purpose(schedule, &view.recipe, dc));
            let ready = ready.map_err(Clone::clone);
            tell(&status::Report { next: None, last, ready, outcome: status::SlotOutcome::Nothing });
            tell(&status::Report {
                next: None,
                last,
                ready: Err(status::never(&view.recipe)),
                outcome: status::SlotOutcome::OnTime,
            });
            let work = schedule.spec.operation_type.into();
            let name = objects::name(schedule);
            let _ = runs::surplus(&[], work, name, view.recipe.keep_good, view.recipe.keep_bad);
        }
    }
}
