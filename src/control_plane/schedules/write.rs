//! What is written for a schedule in the control plane's own cluster. Every write names the version or the uid it is
//! about, and may be repeated.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy},
};
use serde_json::json;

use super::{
    ScheduleContext,
    recipe::Problem,
    runs::{Run, RunKind},
};
use crate::api::{
    Reason,
    fleet::{FleetBackupJob, FleetBackupSchedule, FleetBackupScheduleStatus, ScheduledRun},
    labels, names,
};

/// What came of making a run.
pub(super) enum Made {
    /// It was made, held.
    New(Run),
    /// It is there, held: made before a crash, or by another control plane.
    Adopted(Run),
    /// It is there and was let go: what is known of the schedule is old.
    Begun,
    /// It cannot be made.
    Refused(Problem),
}

/// Whether a write held to a version that is none any more.
pub(super) fn is_stale(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 404 | 409))
}

impl ScheduleContext {
    fn jobs(&self) -> Api<FleetBackupJob> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(super) fn schedules(&self) -> Api<FleetBackupSchedule> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Makes the run of `slot`, held.
    pub(super) async fn make(
        &self,
        schedule: &FleetBackupSchedule,
        slot: jiff::Timestamp,
    ) -> Result<Made, kube::Error> {
        let name = names::slot(&schedule.name_any(), slot);
        let params =
            PostParams { field_manager: Some(labels::MANAGER_CONTROL_PLANE.to_owned()), ..PostParams::default() };
        let made = match RunKind::from(schedule.spec.operation) {
            RunKind::Backup => {
                let job = job(schedule, metadata(schedule, &name));
                self.jobs().create(&params, &job).await.map(|made| Run::of_job(&made))
            }
            RunKind::Task => {
                return Ok(Made::Refused(Problem::new(
                    Reason::NotServed,
                    "spec.operation: this control plane makes no FleetTasks; use `backup`",
                )));
            }
        };
        match made {
            Ok(Some(run)) => Ok(Made::New(run)),
            Ok(None) => Ok(Made::Refused(taken(schedule, &name))),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let there = self.find(RunKind::from(schedule.spec.operation), &name).await?;
                let ours = there.filter(|run| run.schedule.1 == schedule.uid().unwrap_or_default());
                Ok(match ours {
                    Some(run) if run.is_held() => Made::Adopted(run),
                    Some(_) => Made::Begun,
                    None => Made::Refused(taken(schedule, &name)),
                })
            }
            Err(kube::Error::Api(status)) if status.is_forbidden() || status.is_invalid() => {
                Ok(Made::Refused(Problem::new(
                    Reason::WriteRefused,
                    format!("the API server refuses `{name}`: {}", status.message),
                )))
            }
            Err(error) => Err(error),
        }
    }

    /// The run of that kind and name, if it exists and a schedule owns it.
    pub(super) async fn find(&self, kind: RunKind, name: &str) -> Result<Option<Run>, kube::Error> {
        match kind {
            RunKind::Backup => Ok(self.jobs().get_opt(name).await?.and_then(|job| Run::of_job(&job))),
            RunKind::Task => Ok(None),
        }
    }

    /// Lets a held run go. One that is being deleted goes for good.
    pub(super) async fn release(&self, run: &Run) -> Result<(), kube::Error> {
        let rest: Vec<&String> = run.finalizers.iter().filter(|f| *f != labels::HELD).collect();
        let patch = Patch::Merge(json!({
            "metadata": {"uid": run.uid, "resourceVersion": run.version, "finalizers": rest}
        }));
        match run.kind {
            RunKind::Backup => match self.jobs().patch(&run.name, &manager(), &patch).await {
                Ok(job) => match Run::of_job(&job) {
                    Some(now) if !run.is_deleted => self.children.put(now),
                    _ => self.children.remove(run),
                },
                // Changed meanwhile: the watch shows how.
                Err(error) if is_stale(&error) => {}
                Err(error) => return Err(error),
            },
            RunKind::Task => {}
        }
        Ok(())
    }

    /// Deletes a run, if it is still the one that was seen.
    pub(super) async fn delete(&self, run: &Run) -> Result<(), kube::Error> {
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(run.uid.clone()), resource_version: None }),
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        let deleted = match run.kind {
            RunKind::Backup => self.jobs().delete(&run.name, &params).await.map(drop),
            RunKind::Task => Ok(()),
        };
        match deleted {
            Err(error) if !is_stale(&error) => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Takes back a held run that must not start: deleted first, so that letting go of it starts nothing.
    pub(super) async fn discard(&self, run: &Run) -> Result<(), kube::Error> {
        if !run.is_deleted {
            self.delete(run).await?;
        }
        if let Some(there) = self.find(run.kind, &run.name).await?.filter(|there| there.uid == run.uid) {
            if !there.is_deleted {
                return Ok(());
            }
            self.release(&there).await?;
        }
        self.children.remove(run);
        Ok(())
    }

    /// Writes a status on the version it was decided on; `None` when there is another version by now.
    pub(super) async fn publish(
        &self,
        schedule: &FleetBackupSchedule,
        status: &FleetBackupScheduleStatus,
    ) -> Result<Option<FleetBackupSchedule>, kube::Error> {
        let name = schedule.name_any();
        let body = json!({
            "apiVersion": FleetBackupSchedule::api_version(&()), "kind": FleetBackupSchedule::kind(&()),
            "metadata": {"name": name, "uid": schedule.uid(), "resourceVersion": schedule.resource_version()},
            "status": status,
        });
        let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE).force();
        match self.schedules().patch_status(&name, &params, &Patch::Apply(&body)).await {
            Ok(written) => Ok(Some(written)),
            Err(error) if is_stale(&error) => Ok(None),
            Err(error) => Err(error),
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
        match self.schedules().patch(&schedule.name_any(), &manager(), &patch).await {
            Ok(written) => Ok(Some(written)),
            Err(error) if is_stale(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Those of `active` that certainly exist no more. Asked only about runs that no watch shows.
    pub(super) async fn gone(&self, active: &[ScheduledRun], known: &[Run]) -> Result<Vec<String>, kube::Error> {
        let mut gone = Vec::new();
        for run in active.iter().filter(|run| !known.iter().any(|known| known.uid == run.uid)) {
            match self.find(RunKind::of(&run.kind), &run.name).await? {
                Some(there) if there.uid == run.uid => self.children.put(there),
                Some(_) | None => gone.push(run.uid.clone()),
            }
        }
        Ok(gone)
    }
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

fn job(schedule: &FleetBackupSchedule, metadata: ObjectMeta) -> FleetBackupJob {
    let template = schedule.spec.template.clone().unwrap_or_default();
    FleetBackupJob { metadata, spec: template.backup_job(schedule.spec.window_seconds), status: None }
}

fn taken(schedule: &FleetBackupSchedule, name: &str) -> Problem {
    let kind = RunKind::from(schedule.spec.operation).as_str();
    Problem::new(
        Reason::NameConflict,
        format!(
            "a {kind} `{name}` exists that this schedule has not made; delete it, or give the schedule another name"
        ),
    )
}
