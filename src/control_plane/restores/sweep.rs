//! Which MedusaRestoreJobs and syncs have done their work and are deleted, and which may go at all. Pure.
//!
//! k8ssandra-operator runs a finished MedusaRestoreJob again when it restarts (upstream: Restores), so none is left
//! behind. First the end is recorded, then the job is deleted: a crash between the two leaves only the job.
//! Likewise a job is made with our finalizer, which is taken off once its uid is recorded.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::{ResourceExt as _, core::ObjectMeta};

use super::judge::can_be_called_off;
use crate::{
    api::{
        fleet::{FleetRestoreJob, MedusaController, RestoreRun},
        labels,
        medusa::MedusaRestoreJob,
    },
    control_plane::{
        data_planes::fleet::{Snapshot, Usable},
        identity::{Identity, uid_of},
        runs::{
            Run as _,
            child::{Child as _, ExactObject},
            imports::Wordless,
        },
    },
};

/// What is to be done about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chore {
    /// Take our finalizer off a MedusaRestoreJob; these stay.
    LetGo(Vec<String>),
    DeleteRestore,
    DeleteTask,
}

/// Finds what is left in data planes that answer, with what to do about each object. `jobs` are all FleetRestoreJobs
/// there are.
#[must_use]
pub fn leftovers(
    planes: &[Snapshot],
    jobs: &[FleetRestoreJob],
    control_plane: &Identity,
) -> Vec<(ExactObject, Chore)> {
    let jobs: BTreeMap<String, &FleetRestoreJob> =
        jobs.iter().filter_map(|job| Some((uid_of(job)?.to_owned(), job))).collect();
    let mut found = Vec::new();
    for plane in planes.iter().filter(|p| p.usable == Usable::Ready) {
        let ours = |meta: &ObjectMeta| {
            let uid = meta.labels.as_ref()?.get(labels::JOB_UID)?;
            control_plane.wrote(meta).then(|| uid.clone())
        };
        for restore in plane.view.restores.last_known().values() {
            let Some(uid) = ours(&restore.metadata) else { continue };
            let job = jobs.get(&uid).copied();
            if job.is_none() && control_plane.is_inherited(&restore.metadata) {
                continue;
            }
            if let Some(chore) = chore(plane, restore, job) {
                found.extend(ExactObject::of(plane, restore.as_ref()).map(|object| (object, chore)));
            }
        }
        for task in plane.view.tasks.last_known().values() {
            let job = ours(&task.metadata).and_then(|uid| jobs.get(&uid));
            // A sync that is not whole is made again once it is gone.
            let is_unwhole =
                || Wordless::of(task, &plane.view, Timestamp::MIN).is_some_and(|w| w.is_unwhole());
            if job.is_some_and(|job| job.is_over() || is_unwhole()) {
                let object = ExactObject::of(plane, task.as_ref());
                found.extend(object.map(|object| (object, Chore::DeleteTask)));
            }
        }
    }
    found
}

/// What to do about a MedusaRestoreJob in a data plane, by what is recorded of it. It may vanish when its uid is recorded, or its
/// datacenter is decided, or nobody is left to record anything. It is deleted when it has ended and that is
/// recorded, or nobody is left to record it; or when it was made after its start had been given up or after
/// its predecessor had ended, by a request that was carried out late, and has harmed nothing.
fn chore(plane: &Snapshot, restore: &MedusaRestoreJob, job: Option<&FleetRestoreJob>) -> Option<Chore> {
    let mine = |run: &&RestoreRun| {
        // Datacenters of one name in several data planes have jobs of one name.
        run.data_plane == plane.name
            && run.job.as_deref() == restore.metadata.name.as_deref()
            && Some(run.namespace.as_str()) == restore.metadata.namespace.as_deref()
    };
    let runs = job.and_then(|job| job.status.as_ref()).map(|s| s.datacenters.as_slice()).unwrap_or_default();
    let run = runs.iter().find(mine);
    let is_recorded = |run: &RestoreRun| run.job_uid == restore.metadata.uid;
    let others: Vec<String> =
        restore.finalizers().iter().filter(|f| *f != labels::UNRECORDED).cloned().collect();
    if others.len() < restore.finalizers().len() {
        let is_known = job.is_none() || run.is_some_and(|run| is_recorded(run) || run.phase.is_final());
        return (is_known && !is_cut_off(plane, restore)).then_some(Chore::LetGo(others));
    }
    if restore.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let is_done = match (job, run.filter(|run| run.phase.is_final())) {
        (None, _) => restore.is_finished(),
        (Some(_), None) => false,
        (Some(_), Some(run)) => restore.is_finished() || (!is_recorded(run) && can_be_called_off(restore)),
    };
    is_done.then_some(Chore::DeleteRestore)
}

/// Whether a job is being deleted that its data plane goes on with all the same, as k8ssandra-operator does (upstream: Restores):
/// it would vanish with the datacenter stopped. The data-plane role holds such a job itself.
fn is_cut_off(plane: &Snapshot, restore: &MedusaRestoreJob) -> bool {
    let controller = plane.view.capabilities.controller.as_ref();
    if controller.is_none_or(|controller| controller.name != MedusaController::UPSTREAM) {
        return false;
    }
    restore.metadata.deletion_timestamp.is_some() && !restore.is_finished() && !can_be_called_off(restore)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::fleet::Phase,
        control_plane::{
            data_planes::view::ObjectKey,
            restores::tests::{live, plane, restore_job, running},
        },
    };

    fn child(status: Value) -> MedusaRestoreJob {
        serde_json::from_value(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaRestoreJob",
            "metadata": {"name": "back-dc1-0b1c2d3e", "namespace": "ns", "uid": "c", "resourceVersion": "7",
                "labels": {"fleet.k8ssandra.io/control-plane": "cp",
                    "fleet.k8ssandra.io/job-uid": "0b1c2d3e-0000-0000-0000-000000000000"}},
            "spec": {"backup": "b1", "cassandraDatacenter": "dc1"}, "status": status,
        }))
        .unwrap()
    }

    fn chores(child: &MedusaRestoreJob, jobs: &[FleetRestoreJob]) -> Vec<Chore> {
        let mut view = live(&[]);
        view.restores.put(ObjectKey::of(child), std::sync::Arc::new(child.clone()));
        leftovers(&[plane("eu", view)], jobs, &Identity::named("cp"))
            .into_iter()
            .map(|(_, chore)| chore)
            .collect()
    }

    fn left(child: &MedusaRestoreJob, jobs: &[FleetRestoreJob]) -> usize {
        chores(child, jobs).len()
    }

    #[test]
    fn the_end_is_recorded_before_a_job_goes() {
        let done = child(json!({"restoreKey": "k", "finishTime": "2026-01-01T00:00:00Z"}));
        let mut job = restore_job("back", "b1");
        job.status = Some(running(&["eu/dc1"]));
        assert_eq!(left(&done, std::slice::from_ref(&job)), 0, "not recorded yet");
        job.status.as_mut().unwrap().datacenters[0].phase = Phase::Failed;
        assert_eq!(left(&done, std::slice::from_ref(&job)), 1);
        assert_eq!(left(&done, &[]), 1, "its FleetRestoreJob is gone");
        let going_on = child(json!({"restoreKey": "k", "restorePrepared": true}));
        assert_eq!(left(&going_on, &[]), 0, "one that goes on is left alone");
        assert_eq!(left(&going_on, &[job]), 0, "given up, but it may still end well");
    }

    #[test]
    fn one_that_appears_after_its_start_was_given_up_is_called_off() {
        let late = child(json!({"restoreKey": "k"}));
        let mut job = restore_job("back", "b1");
        job.status = Some(running(&["eu/dc1"]));
        job.status.as_mut().unwrap().datacenters[0].phase = Phase::Failed;
        assert_eq!(left(&late, std::slice::from_ref(&job)), 1);
        job.status.as_mut().unwrap().datacenters[0].job_uid = Some("c".to_owned());
        assert_eq!(left(&late, std::slice::from_ref(&job)), 0, "it was seen running and timed out");
        job.status.as_mut().unwrap().datacenters[0].job_uid = Some("its predecessor".to_owned());
        assert_eq!(left(&late, &[job]), 1, "it would restore a second time");
    }

    #[test]
    fn a_job_may_vanish_once_its_uid_is_recorded() {
        let mut held = child(json!({"restoreKey": "k"}));
        let finalizers = [labels::UNRECORDED, labels::RESTORE_FINALIZER].map(str::to_owned);
        held.metadata.finalizers = Some(finalizers.to_vec());
        let let_go = vec![Chore::LetGo(vec![labels::RESTORE_FINALIZER.to_owned()])];
        let mut job = restore_job("back", "b1");
        assert_eq!(chores(&held, std::slice::from_ref(&job)), [], "nothing is known of it");
        job.status = Some(running(&["eu/dc1"]));
        for is_deleted in [false, true] {
            if is_deleted {
                held.metadata.deletion_timestamp = job.metadata.creation_timestamp.clone();
            }
            let run = |change: &dyn Fn(&mut RestoreRun)| {
                let mut job = job.clone();
                change(&mut job.status.as_mut().unwrap().datacenters[0]);
                chores(&held, &[job])
            };
            assert_eq!(run(&|_| {}), [], "it was named, not seen");
            assert_eq!(run(&|run| run.job_uid = Some("another".to_owned())), []);
            assert_eq!(run(&|run| run.job_uid = Some("c".to_owned())), let_go);
            assert_eq!(run(&|run| run.phase = Phase::Cancelled), let_go);
            assert_eq!(chores(&held, &[]), let_go, "its FleetRestoreJob is gone");
        }
    }

    #[test]
    fn a_job_that_k8ssandra_operator_goes_on_with_does_not_vanish_before_it_has_ended() {
        let mut job = restore_job("back", "b1");
        job.status = Some(running(&["eu/dc1"]));
        job.status.as_mut().unwrap().datacenters[0].job_uid = Some("c".to_owned());
        let chores = |controller: &str, status: Value, is_deleted: bool| {
            let mut held = child(status);
            held.metadata.finalizers = Some(vec![labels::UNRECORDED.to_owned()]);
            held.metadata.deletion_timestamp = job.metadata.creation_timestamp.clone().filter(|_| is_deleted);
            let mut view = live(&[]);
            std::sync::Arc::make_mut(&mut view.capabilities).controller =
                Some(MedusaController { name: controller.to_owned(), version: None });
            view.restores.put(ObjectKey::of(&held), std::sync::Arc::new(held));
            leftovers(&[plane("eu", view)], std::slice::from_ref(&job), &Identity::named("cp")).len()
        };
        let begun = || json!({"restoreKey": "k", "restorePrepared": true});
        let ended =
            || json!({"restoreKey": "k", "restorePrepared": true, "finishTime": "2026-01-01T00:00:00Z"});
        assert!(job.metadata.creation_timestamp.is_some());
        assert_eq!(chores(MedusaController::UPSTREAM, begun(), true), 0, "the datacenter would stay stopped");
        for free in [
            chores(MedusaController::UPSTREAM, begun(), false),
            chores(MedusaController::UPSTREAM, ended(), true),
            chores(MedusaController::UPSTREAM, json!({"restoreKey": "k"}), true),
            chores(MedusaController::OURS, begun(), true),
        ] {
            assert_eq!(free, 1);
        }
    }

    #[test]
    fn a_job_is_not_taken_for_one_of_its_name_in_another_data_plane() {
        let mut job = restore_job("back", "b1");
        job.status = Some(running(&["us/dc1", "eu/dc1"]));
        let runs = &mut job.status.as_mut().unwrap().datacenters;
        (runs[0].job_uid, runs[0].phase) = (Some("of us".to_owned()), Phase::Succeeded);
        let mut begins = child(json!({"restoreKey": "k"}));
        begins.metadata.finalizers = Some(vec![labels::UNRECORDED.to_owned()]);
        assert_eq!(left(&begins, std::slice::from_ref(&job)), 0, "it may not vanish yet");
        job.status.as_mut().unwrap().datacenters[1].job_uid = Some("c".to_owned());
        assert_eq!(chores(&begins, std::slice::from_ref(&job)), [Chore::LetGo(Vec::new())]);
        begins.metadata.finalizers = None;
        assert_eq!(left(&begins, &[job]), 0, "it would be called off because of the other");
    }

    #[test]
    fn what_an_earlier_installation_made_stays_until_its_job_is_back() {
        let mut done = child(json!({"restoreKey": "k", "finishTime": "2026-01-01T00:00:00Z"}));
        let earlier = [(labels::INSTALLATION.to_owned(), "earlier".to_owned())];
        done.metadata.annotations = Some(earlier.into());
        assert_eq!(left(&done, &[]), 0, "its FleetRestoreJob may be created again");
        let mut job = restore_job("back", "b1");
        job.status = Some(running(&["eu/dc1"]));
        job.status.as_mut().unwrap().datacenters[0].phase = Phase::Succeeded;
        assert_eq!(left(&done, &[job]), 1);
    }

    #[test]
    fn nothing_of_others_is_touched() {
        let mut foreign = child(json!({"restoreKey": "k", "finishTime": "2026-01-01T00:00:00Z"}));
        foreign.metadata.labels.as_mut().unwrap().remove("fleet.k8ssandra.io/control-plane");
        assert_eq!(left(&foreign, &[]), 0);
    }
}
