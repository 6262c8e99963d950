//! What is written for a schedule in the control plane's own cluster. Every write names the version or the uid it is
//! about, and may be repeated.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Resource, ResourceExt as _,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    ScheduleContext,
    runs::{Run, RunKind},
};
use crate::{
    api::{
        Reason, Why,
        fleet::{DatacenterRun, FleetBackupJob, FleetBackupSchedule, FleetTask, ScheduledRun},
        labels, names,
    },
    control_plane::{
        data_planes::fleet::{Snapshot, Usable},
        runs::{Fanned, expire, unless_stale},
    },
};

/// What came of making a run.
pub(super) enum CreatedRun {
    /// It was made, held.
    New(Run),
    /// It is there, held: made before a crash, or by another control plane.
    Adopted(Run),
    /// It is there and was let go: what is known of the schedule is old.
    Begun,
    /// It cannot be made.
    Refused(Why),
}

impl ScheduleContext {
    fn api<K: Fanned>(&self) -> Api<K> {
        Api::namespaced(self.shared.client.clone(), &self.shared.namespace)
    }

    pub(super) fn schedules(&self) -> Api<FleetBackupSchedule> {
        Api::namespaced(self.shared.client.clone(), &self.shared.namespace)
    }

    /// Makes the run of `slot`, held.
    pub(super) async fn make(
        &self,
        schedule: &FleetBackupSchedule,
        slot: Timestamp,
    ) -> Result<CreatedRun, kube::Error> {
        let (template, window) =
            (schedule.spec.template.clone().unwrap_or_default(), schedule.spec.window_seconds);
        let metadata = metadata(schedule, &names::slot(&schedule.name_any(), slot));
        match schedule.spec.operation.task() {
            None => {
                let job = FleetBackupJob { metadata, spec: template.backup_job(window), status: None };
                self.create(schedule, job).await
            }
            Some(operation) => {
                let task = FleetTask { metadata, spec: template.task(operation, window), status: None };
                self.create(schedule, task).await
            }
        }
    }

    async fn create<K: Fanned + Serialize>(
        &self,
        schedule: &FleetBackupSchedule,
        new: K,
    ) -> Result<CreatedRun, kube::Error> {
        let params = PostParams {
            field_manager: Some(labels::MANAGER_CONTROL_PLANE.to_owned()),
            ..PostParams::default()
        };
        let name = new.name_any();
        let taken = || {
            let kind = K::kind(&());
            let message = format!(
                "a {kind} `{name}` exists that this schedule has not made; delete it, or give the schedule another name"
            );
            CreatedRun::Refused(Why::new(Reason::NameConflict, message))
        };
        match self.api::<K>().create(&params, &new).await {
            Ok(made) => Ok(Run::of(&made).map_or_else(taken, CreatedRun::New)),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let there = self.get::<K>(&name).await?;
                let ours = there.filter(|run| run.schedule.1 == schedule.uid().unwrap_or_default());
                Ok(match ours {
                    Some(run) if run.is_held() => CreatedRun::Adopted(run),
                    Some(run) => {
                        self.children.put(run);
                        CreatedRun::Begun
                    }
                    None => taken(),
                })
            }
            Err(kube::Error::Api(status))
                if status.is_forbidden() || status.is_invalid() || status.code == 404 =>
            {
                let message = format!("the API server refuses {} `{name}`: {}", K::kind(&()), status.message);
                Ok(CreatedRun::Refused(Why::new(Reason::WriteRefused, message)))
            }
            Err(error) => Err(error),
        }
    }

    /// The run of that kind and name, if it exists and a schedule owns it.
    async fn find(&self, kind: RunKind, name: &str) -> Result<Option<Run>, kube::Error> {
        match kind {
            RunKind::Backup => self.get::<FleetBackupJob>(name).await,
            RunKind::Task => self.get::<FleetTask>(name).await,
        }
    }

    async fn get<K: Fanned>(&self, name: &str) -> Result<Option<Run>, kube::Error> {
        Ok(self.api::<K>().get_opt(name).await?.as_ref().and_then(Run::of))
    }

    /// Merges `patch` into a run, which must still be the version it names. One that has changed meanwhile is left:
    /// the watch shows how.
    async fn merge(&self, run: &Run, patch: Value) -> Result<Option<Run>, kube::Error> {
        let patch = Patch::Merge(patch);
        let (name, manager) = (&run.name, manager());
        let patched = match run.kind {
            RunKind::Backup => {
                self.api::<FleetBackupJob>().patch(name, &manager, &patch).await.map(|job| Run::of(&job))
            }
            RunKind::Task => {
                self.api::<FleetTask>().patch(name, &manager, &patch).await.map(|task| Run::of(&task))
            }
        };
        Ok(unless_stale(patched)?.flatten())
    }

    /// Lets a held run go. One that is being deleted goes for good.
    pub(super) async fn release(&self, run: &Run) -> Result<(), kube::Error> {
        let rest: Vec<&String> = run.finalizers.iter().filter(|f| *f != labels::HELD).collect();
        let patch = json!({"metadata": {"uid": run.uid, "resourceVersion": run.version, "finalizers": rest}});
        match self.merge(run, patch).await? {
            Some(_) if run.is_deleted => self.children.remove(run),
            Some(now) => self.children.put(now),
            None => {}
        }
        Ok(())
    }

    /// Cancels a run that goes on: it starts nothing more.
    pub(super) async fn cancel(&self, run: &ScheduledRun) -> Result<(), kube::Error> {
        let kind = RunKind::of(&run.kind);
        let Some(there) = self.find(kind, &run.name).await?.filter(|there| there.uid == run.uid) else {
            return Ok(());
        };
        if there.is_active() && !there.is_cancelled {
            let patch = json!({"metadata": {"uid": run.uid}, "spec": {"cancel": true}});
            if let Some(now) = self.merge(&there, patch).await? {
                self.children.put(now);
            }
        }
        Ok(())
    }

    /// Deletes a run, if it is still the very version that was seen: whoever makes it his own keeps it.
    pub(super) async fn delete(&self, run: &Run) -> Result<(), kube::Error> {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(run.uid.clone()),
                resource_version: run.version.clone(),
            }),
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        let deleted = match run.kind {
            RunKind::Backup => self.api::<FleetBackupJob>().delete(&run.name, &params).await.map(drop),
            RunKind::Task => self.api::<FleetTask>().delete(&run.name, &params).await.map(drop),
        };
        unless_stale(deleted).map(drop)
    }

    /// Deletes an ended run, with what it made in the data planes. One that does not answer is waited for, though not
    /// for ever; what is left there is named in an Event.
    pub(super) async fn retire(&self, run: &Run, now: Timestamp) -> Result<(), kube::Error> {
        let planes = self.shared.fleet.snapshot();
        if !self.shared.fleet.is_enrolled() {
            return Ok(());
        }
        match run.kind {
            RunKind::Backup => self.expire::<FleetBackupJob>(run, &planes, now).await,
            RunKind::Task => self.expire::<FleetTask>(run, &planes, now).await,
        }
    }

    async fn expire<K: Fanned>(
        &self,
        run: &Run,
        planes: &[Snapshot],
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        let there = self.api::<K>().get_opt(&run.name).await?;
        // Also one that is not the schedule's any more stays.
        let is_its = |there: &K| {
            Run::of(there).is_some_and(|seen| seen.uid == run.uid && seen.schedule.1 == run.schedule.1)
        };
        let Some(there) = there.filter(is_its) else { return Ok(()) };
        let overdue = run.finish.map(|finish| now.duration_since(finish)).unwrap_or_default();
        let status = there.status().cloned().unwrap_or_default();
        if waits_for_one(&K::entries(&status), planes) {
            return Ok(());
        }
        expire(&self.shared.client, &self.shared.events, &there, &status, planes, overdue).await.map(drop)
    }

    /// Takes back a held run that must not start: deleted first, so that letting go of it starts nothing.
    pub(super) async fn discard(&self, run: &Run) -> Result<(), kube::Error> {
        if !run.is_deleted {
            self.delete(run).await?;
        }
        match self.find(run.kind, &run.name).await? {
            Some(there) if there.uid == run.uid && !there.is_deleted => Ok(()),
            Some(there) if there.uid == run.uid => self.release(&there).await,
            Some(_) | None => {
                self.children.remove(run);
                Ok(())
            }
        }
    }

    /// Sets or removes our finalizer; `None` when there is another version by now.
    pub(super) async fn set_finalizer(
        &self,
        schedule: &FleetBackupSchedule,
        wanted: bool,
    ) -> Result<Option<FleetBackupSchedule>, kube::Error> {
        let mut finalizers: Vec<String> =
            schedule.finalizers().iter().filter(|f| *f != labels::DELEGATED).cloned().collect();
        if wanted {
            finalizers.push(labels::DELEGATED.to_owned());
        }
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": schedule.resource_version(), "finalizers": finalizers}
        }));
        unless_stale(self.schedules().patch(&schedule.name_any(), &manager(), &patch).await)
    }

    /// Those of `active` that were made here and certainly exist no more. Asked only about runs that no watch shows.
    pub(super) async fn gone(
        &self,
        active: &[ScheduledRun],
        known: &[Run],
    ) -> Result<Vec<String>, kube::Error> {
        let mut gone = Vec::new();
        let own = active.iter().filter(|run| run.data_plane.is_none());
        for run in own.filter(|run| !known.iter().any(|known| known.uid == run.uid)) {
            match self.find(RunKind::of(&run.kind), &run.name).await? {
                Some(there) if there.uid == run.uid => self.children.put(there),
                Some(_) | None => gone.push(run.uid.clone()),
            }
        }
        Ok(gone)
    }
}

/// Whether a data plane that a run was in is just being connected: nobody knows yet what it holds of the run.
fn waits_for_one(entries: &[&DatacenterRun], planes: &[Snapshot]) -> bool {
    let mut connecting = planes.iter().filter(|plane| plane.usable == Usable::Connecting);
    connecting.any(|plane| entries.iter().any(|entry| entry.data_plane == plane.name))
}

fn manager() -> PatchParams {
    PatchParams { field_manager: Some(labels::MANAGER_CONTROL_PLANE.to_owned()), ..PatchParams::default() }
}

/// Names, labels and owner of a run, and what holds it.
fn metadata(schedule: &FleetBackupSchedule, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: schedule.namespace(),
        labels: Some(
            [
                (labels::FLEET_SCHEDULE.to_owned(), names::label_value(&schedule.name_any())),
                (labels::FLEET_SCHEDULE_UID.to_owned(), schedule.uid().unwrap_or_default()),
            ]
            .into(),
        ),
        owner_references: Some(vec![OwnerReference {
            api_version: FleetBackupSchedule::api_version(&()).into_owned(),
            kind: FleetBackupSchedule::kind(&()).into_owned(),
            name: schedule.name_any(),
            uid: schedule.uid().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: None,
        }]),
        finalizers: Some(vec![labels::HELD.to_owned()]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_plane::{
        data_planes::view::View,
        fanout::tests::{datacenter, live, plane},
    };

    #[test]
    fn only_a_data_plane_that_the_run_was_in_is_waited_for() {
        let planes = [plane("eu", live(&[datacenter("dc1", 1)])), plane("us", View::unknown())];
        assert_eq!(planes[1].usable, Usable::Connecting);
        let within = |name: &str| DatacenterRun { data_plane: name.to_owned(), ..DatacenterRun::default() };
        let (eu, us) = (within("eu"), within("us"));
        assert!(!waits_for_one(&[&eu], &planes));
        assert!(waits_for_one(&[&eu, &us], &planes));
        assert!(!waits_for_one(&[], &planes));
    }
}
