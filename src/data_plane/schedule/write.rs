//! What a schedule creates and deletes.
//!
//! A run has the name of its slot, so creating it again finds it. Deletions hold to the uid.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::{
    Api, Client,
    api::{ObjectMeta, Preconditions},
};
use serde::Serialize;

use super::runs::{ScheduleRun, ScheduledWork};
use crate::{
    api::{
        Reason,
        cassandra::CassandraDatacenter,
        labels,
        medusa::{
            MedusaBackupJob, MedusaBackupJobSpec, MedusaBackupSchedule, MedusaTask, MedusaTaskSpec,
            ScheduledOperation, TaskOperation,
        },
        names,
    },
    data_plane::frame::{
        objects,
        problem::{Obstacle, Problem},
    },
    runtime::follow::Followed,
};

/// What came of creating a run.
pub enum Created {
    /// It was made.
    New(ScheduleRun),
    /// It was there already, from before a crash or by another data plane.
    Adopted(ScheduleRun),
}

/// The run to be created for `slot`, before it has a uid.
#[must_use]
pub fn planned(
    schedule: &MedusaBackupSchedule,
    datacenter: &CassandraDatacenter,
    slot: Timestamp,
    now: Timestamp,
) -> ScheduleRun {
    ScheduleRun {
        work: schedule.spec.operation_type.into(),
        namespace: objects::namespace(schedule).to_owned(),
        name: names::slot(objects::name(schedule), slot),
        uid: String::new(),
        datacenter: objects::name(datacenter).to_owned(),
        schedule: Some(names::label_value(objects::name(schedule))),
        schedule_uid: schedule.metadata.uid.clone(),
        created: Some(now),
        ending: None,
        is_deleted: false,
    }
}

/// Creates what `schedule` asks for under the name of `run`.
///
/// # Errors
/// When the API server cannot be asked; then it may or may not have been made, and doing it again tells. It is a problem
/// when it cannot be made.
pub async fn create(
    client: &Client,
    schedule: &MedusaBackupSchedule,
    datacenter: &CassandraDatacenter,
    run: &ScheduleRun,
) -> Result<Created, Obstacle> {
    let mut all: BTreeMap<String, String> = datacenter.datacenter_labels().into();
    all.insert(labels::SCHEDULE.to_owned(), names::label_value(objects::name(schedule)));
    let metadata = ObjectMeta {
        name: Some(run.name.clone()),
        namespace: Some(run.namespace.clone()),
        labels: Some(all),
        annotations: Some(annotations(schedule)),
        // With an owner upstream's controller starts at once, too (upstream: Backups).
        owner_references: Some(vec![objects::owner(datacenter)]),
        ..ObjectMeta::default()
    };
    let datacenter = objects::name(datacenter).to_owned();
    match schedule.spec.operation_type {
        ScheduledOperation::Backup => {
            let spec =
                MedusaBackupJobSpec { cassandra_datacenter: datacenter, ..schedule.spec.backup_spec.clone() };
            make(client, MedusaBackupJob { metadata, spec, status: None }, schedule, ScheduleRun::of_job)
                .await
        }
        ScheduledOperation::Purge => {
            let spec = MedusaTaskSpec {
                cassandra_datacenter: datacenter,
                operation: TaskOperation::Purge,
                backup_name: None,
                restore_key: None,
            };
            make(client, MedusaTask { metadata, spec, status: None }, schedule, ScheduleRun::of_task).await
        }
    }
}

/// Which schedule this is, and the word that its purges may remove anything, where somebody has given it.
fn annotations(schedule: &MedusaBackupSchedule) -> BTreeMap<String, String> {
    let unchecked = labels::PURGE_UNCHECKED;
    let given = schedule.metadata.annotations.as_ref().and_then(|all| all.get(unchecked));
    let word = given.map(|word| (unchecked.to_owned(), word.clone()));
    let uid = schedule.metadata.uid.clone().map(|uid| (labels::SCHEDULE_UID.to_owned(), uid));
    word.into_iter().chain(uid).collect()
}

async fn make<K: Followed + Serialize>(
    client: &Client,
    new: K,
    schedule: &MedusaBackupSchedule,
    read: impl Fn(&K) -> ScheduleRun,
) -> Result<Created, Obstacle> {
    let name = objects::name(&new).to_owned();
    let api = Api::<K>::namespaced(client.clone(), objects::namespace(&new));
    match api.create(&objects::post_params(), &new).await {
        Ok(made) => Ok(Created::New(read(&made))),
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let there = read(&api.get(&name).await?);
            // k8ssandra-operator's runs bear the same names, without our label.
            let is_ours = there.is_of(objects::name(schedule))
                || (there.schedule.is_none() && there.datacenter == read(&new).datacenter);
            if is_ours { Ok(Created::Adopted(there)) } else { Err(taken(&there).into()) }
        }
        Err(error) => Err(objects::refused(error, |why| {
            let message = format!("the API server refuses {} `{name}`: {why}", K::kind(&()));
            Problem::new(Reason::WriteRefused, message)
        })),
    }
}

fn taken(there: &ScheduleRun) -> Problem {
    Problem::new(
        Reason::NameConflict,
        format!(
            "a {} `{}` exists that this schedule has not made; delete it, or give the schedule another name",
            there.work.kind(),
            there.name
        ),
    )
}

/// Deletes `run`, if it is still the one that was seen. One that is gone is as good.
///
/// # Errors
/// When the API server cannot be asked or refuses.
pub async fn delete(client: &Client, run: &ScheduleRun) -> Result<(), kube::Error> {
    let this = Preconditions { uid: Some(run.uid.clone()), resource_version: None };
    let deleted = match run.work {
        ScheduledWork::Backup => {
            let jobs = Api::<MedusaBackupJob>::namespaced(client.clone(), &run.namespace);
            objects::delete(&jobs, &run.name, this).await
        }
        ScheduledWork::Purge | ScheduledWork::Other => {
            let tasks = Api::<MedusaTask>::namespaced(client.clone(), &run.namespace);
            objects::delete(&tasks, &run.name, this).await
        }
    };
    // A conflict says that another object has taken the name.
    deleted.or_else(|error| if objects::is_conflict(&error) { Ok(()) } else { Err(error) })
}
