//! Brings any FleetRestoreJob further over any data planes, for the tests that make such.

use jiff::Timestamp;

use super::{
    checks::{Observed, Works},
    execute::{WriteOutcome, fold},
    machine::{has_begun, pass},
    plan::RestoreInputs,
    resolve::Clusters,
    summarize::executing,
    sweep::leftovers,
};
use crate::control_plane::identity::Identity;
use crate::{
    api::fleet::{FleetBackupStatus, FleetRestoreJob},
    control_plane::data_planes::{fleet::Snapshot, view::ObjectKey},
};

/// A few passes, each over the status of the one before, with all there is observed.
pub(in crate::control_plane) fn bring_further(
    job: &FleetRestoreJob,
    backup: Option<&FleetBackupStatus>,
    clusters: &Clusters,
    rivals: &[FleetRestoreJob],
    planes: &[Snapshot],
    now: Timestamp,
) {
    let mut observed = Observed::default();
    for plane in planes {
        let works = Works {
            backups: plane.view.jobs.last_known().values().map(|job| (**job).clone()).collect(),
            tasks: plane.view.tasks.last_known().values().map(|task| (**task).clone()).collect(),
            restores: plane.view.restores.last_known().values().map(|job| (**job).clone()).collect(),
            ..Works::default()
        };
        observed.works.insert((plane.name.clone(), "ns".to_owned()), Ok(works));
        let backups = plane.view.backups.last_known().iter();
        observed
            .backups
            .extend(backups.map(|(key, record)| ((plane.name.clone(), key.clone()), (**record).clone())));
    }
    let mut job = job.clone();
    for _ in 0..4 {
        let inputs = RestoreInputs {
            job: &job,
            planes,
            backup,
            clusters,
            rivals,
            observed: &observed,
            control_plane: &Identity::named("cp"),
            now,
        };
        let decided = pass(&inputs);
        let mut status = decided.status;
        for plan in status.plan.clone() {
            let key = ObjectKey::new(&plan.namespace, &plan.job);
            fold(&mut status, &plan.data_plane, &key, WriteOutcome::There(String::new()));
        }
        if has_begun(&status) {
            let runs = std::mem::take(&mut status.datacenters);
            status = executing(&job, &status, runs, now);
        }
        let _ = leftovers(planes, std::slice::from_ref(&job), &Identity::named("cp"));
        job.status = Some(status);
    }
}
