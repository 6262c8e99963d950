//! What is watched in every data plane: one declaration for each kind. Pure.
//!
//! To add a kind: a line in [`watched_kinds`], its declaration below, and what it needs of RBAC in
//! [`super::capabilities::NEEDS`]. Its section in [`super::view::View`], its watch, and what is concluded from a watch that
//! fails or is refused come of these.

use k8s_openapi::{
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry,
};
use kube::ResourceExt;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    capabilities::{CONFIG_MAPS, RESTORES, SCHEDULES, TASKS},
    copies::{changed_by, config_map_record, configuration_record, secret_record},
    records::{BackupRecord, CopyRecord, RunRecord},
};
use crate::{
    api::{
        cassandra::CassandraDatacenter,
        labels,
        medusa::{
            MedusaBackup, MedusaBackupJob, MedusaBackupSchedule, MedusaConfiguration, MedusaRestoreJob,
            MedusaTask, ScheduledOperation, TaskOperation,
        },
        names,
    },
    control_plane::identity::Identity,
    runtime::follow::Followed,
};

/// The kinds, each with the name of its section. `$then` is a macro that makes something of them.
macro_rules! watched_kinds {
    ($then:ident) => {
        $then! {
            /// Its CassandraDatacenters.
            datacenters: Datacenters,
            /// MedusaBackupJobs that fleet jobs made.
            jobs: Jobs,
            /// Its MedusaBackups.
            backups: Backups,
            /// Our Secret copies.
            secrets: Secrets,
            /// Our MedusaConfiguration copies.
            configurations: Configurations,
            /// Its MedusaBackupSchedules, whoever made them.
            schedules: Schedules,
            /// MedusaTasks that fleet objects made.
            tasks: Tasks,
            /// Its MedusaRestoreJobs, whoever made them: no backup runs beside a restore.
            restores: Restores,
            /// Our ConfigMaps.
            config_maps: ConfigMaps,
            /// MedusaBackupJobs that MedusaBackupSchedules of delegated schedules made: ask [`View::scheduled_runs`].
            scheduled_jobs: ScheduledJobs,
            /// MedusaTasks that they made, likewise.
            scheduled_tasks: ScheduledTasks,
        }
    };
}
pub(crate) use watched_kinds;

/// Where a kind is watched, and what waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It is watched everywhere, and a data plane is not worked with before it is listed.
    Always,
    /// The same, where there are datacenters or some are expected.
    Datacenters,
    /// It is watched where this resource, as [`super::capabilities::NEEDS`] names it, is served and permitted. A data plane
    /// may lack it and be used all the same.
    IfServed(&'static str),
    /// It is watched where a delegated schedule of that operation is, and the resource, if one is given, is served and
    /// permitted. Nothing but schedules waits for it.
    IfDelegated(ScheduledOperation, Option<&'static str>),
}

/// Which objects of a kind are watched, by their labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Every,
    /// What the control plane of this fleet wrote.
    Ours,
    /// What fleet objects made.
    MadeForRuns,
    /// What schedules made. Both controllers put the datacenter's label on it, and nothing else that tells both
    /// (upstream: Schedules): the name says whether one of ours made it.
    MadeBySchedules,
}

impl Which {
    /// The label selector of their watch.
    #[must_use]
    pub fn selector(self, control_plane: &Identity) -> String {
        match self {
            Self::Every => String::new(),
            Self::Ours => control_plane.selector(),
            Self::MadeForRuns => labels::JOB_UID.to_owned(),
            Self::MadeBySchedules => format!("{},!{}", labels::CASSANDRA_DATACENTER, labels::JOB_UID),
        }
    }
}

/// Reads of an object the name of the fleet object that it was made for.
pub type MadeFor<T> = fn(&T) -> Option<&str>;

/// The declaration of a kind.
pub trait Watched: 'static {
    /// What the API server sends.
    type Object: Followed;
    /// What is kept of it.
    type Kept: Serialize + DeserializeOwned + PartialEq + Send + Sync + 'static;
    /// Where it is watched, and what waits for it.
    const WANTED: Wanted;
    /// Which of them are watched.
    const WHICH: Which = Which::Every;
    /// How the fleet object is found that one of them was made for, where only that object has to know of a change. A change of
    /// any other kind is told to everyone who follows the kind.
    const MADE_FOR: Option<MadeFor<Self::Kept>> = None;

    /// What is kept of `object`; `None` of one that is not meant.
    fn keep(object: &Self::Object) -> Option<Self::Kept>;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $section:ident: $kind:ident,)*) => {
        /// A kind that is watched.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// Where it is watched, and what waits for it.
            #[must_use]
            pub fn wanted(self) -> Wanted {
                match self {
                    $(Self::$kind => <$kind as Watched>::WANTED,)*
                }
            }
        }

        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub enum $kind {}
        )*
    };
}
watched_kinds!(kinds);

impl Watched for Datacenters {
    type Object = CassandraDatacenter;
    type Kept = CassandraDatacenter;
    const WANTED: Wanted = Wanted::Datacenters;

    fn keep(datacenter: &CassandraDatacenter) -> Option<CassandraDatacenter> {
        Some(trimmed(datacenter))
    }
}

impl Watched for Jobs {
    type Object = MedusaBackupJob;
    type Kept = MedusaBackupJob;
    const WANTED: Wanted = Wanted::Datacenters;
    const WHICH: Which = Which::MadeForRuns;
    const MADE_FOR: Option<MadeFor<Self::Kept>> = Some(made_for);

    fn keep(job: &MedusaBackupJob) -> Option<MedusaBackupJob> {
        Some(trimmed(job))
    }
}

impl Watched for Backups {
    type Object = MedusaBackup;
    type Kept = BackupRecord;
    const WANTED: Wanted = Wanted::Datacenters;

    fn keep(backup: &MedusaBackup) -> Option<BackupRecord> {
        Some(BackupRecord::from(backup))
    }
}

impl Watched for Secrets {
    type Object = Secret;
    type Kept = CopyRecord;
    const WANTED: Wanted = Wanted::Always;
    const WHICH: Which = Which::Ours;

    fn keep(secret: &Secret) -> Option<CopyRecord> {
        Some(secret_record(secret))
    }
}

impl Watched for Configurations {
    type Object = MedusaConfiguration;
    type Kept = CopyRecord;
    const WANTED: Wanted = Wanted::Always;
    const WHICH: Which = Which::Ours;

    fn keep(configuration: &MedusaConfiguration) -> Option<CopyRecord> {
        Some(configuration_record(configuration))
    }
}

impl Watched for Schedules {
    type Object = MedusaBackupSchedule;
    type Kept = MedusaBackupSchedule;
    const WANTED: Wanted = Wanted::IfServed(SCHEDULES);

    fn keep(schedule: &MedusaBackupSchedule) -> Option<MedusaBackupSchedule> {
        // Who changed it last stays known: when somebody takes a schedule back, they are named.
        let named =
            |manager: &str| ManagedFieldsEntry { manager: Some(manager.to_owned()), ..Default::default() };
        let last = changed_by(&schedule.metadata, labels::MANAGER_CONTROL_PLANE).map(named);
        let mut kept = trimmed(schedule);
        kept.metadata.managed_fields = last.map(|entry| vec![entry]);
        Some(kept)
    }
}

impl Watched for Tasks {
    type Object = MedusaTask;
    type Kept = MedusaTask;
    const WANTED: Wanted = Wanted::IfServed(TASKS);
    const WHICH: Which = Which::MadeForRuns;
    const MADE_FOR: Option<MadeFor<Self::Kept>> = Some(made_for);

    fn keep(task: &MedusaTask) -> Option<MedusaTask> {
        Some(trimmed(task))
    }
}

impl Watched for Restores {
    type Object = MedusaRestoreJob;
    type Kept = MedusaRestoreJob;
    const WANTED: Wanted = Wanted::IfServed(RESTORES);

    fn keep(restore: &MedusaRestoreJob) -> Option<MedusaRestoreJob> {
        Some(trimmed(restore))
    }
}

impl Watched for ConfigMaps {
    type Object = ConfigMap;
    type Kept = CopyRecord;
    const WANTED: Wanted = Wanted::IfServed(CONFIG_MAPS);
    const WHICH: Which = Which::Ours;

    fn keep(map: &ConfigMap) -> Option<CopyRecord> {
        Some(config_map_record(map))
    }
}

impl Watched for ScheduledJobs {
    type Object = MedusaBackupJob;
    type Kept = RunRecord;
    const WANTED: Wanted = Wanted::IfDelegated(ScheduledOperation::Backup, None);
    const WHICH: Which = Which::MadeBySchedules;

    fn keep(job: &MedusaBackupJob) -> Option<RunRecord> {
        names::is_slot_of_child(&job.name_any()).then(|| RunRecord::from(job))
    }
}

impl Watched for ScheduledTasks {
    type Object = MedusaTask;
    type Kept = RunRecord;
    const WANTED: Wanted = Wanted::IfDelegated(ScheduledOperation::Purge, Some(TASKS));
    const WHICH: Which = Which::MadeBySchedules;

    fn keep(task: &MedusaTask) -> Option<RunRecord> {
        let is_purge = task.spec.operation == TaskOperation::Purge;
        (is_purge && names::is_slot_of_child(&task.name_any())).then(|| RunRecord::from(task))
    }
}

/// Name of the fleet object a child was made for, when it carries our label.
pub fn made_for(child: &impl ResourceExt) -> Option<&str> {
    child.labels().get(labels::JOB).map(String::as_str)
}

/// The object without what the API server keeps about its writers, and `kubectl apply` about itself: most of its size, and
/// nothing decides by it.
fn trimmed<K: ResourceExt + Clone>(object: &K) -> K {
    let mut object = object.clone();
    object.meta_mut().managed_fields = None;
    if let Some(annotations) = &mut object.meta_mut().annotations {
        annotations.remove(labels::LAST_APPLIED);
    }
    object
}
