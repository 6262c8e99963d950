//! `medusa.k8ssandra.io/v1alpha1`: upstream's kinds, field for field.
//!
//! Existing manifests, objects and CRDs must keep working, so nothing may be renamed, required or
//! defaulted differently here. Our own additions are optional status fields (`conditions`,
//! `message`) that a cluster with upstream's CRDs simply drops.

mod backup;
mod backup_job;
mod backup_schedule;
mod configuration;
mod restore_job;
mod storage;
mod task;

pub use backup::{BackupNode, MedusaBackup, MedusaBackupSpec, MedusaBackupStatus};
pub use backup_job::{MedusaBackupJob, MedusaBackupJobSpec, MedusaBackupJobStatus};
pub use backup_schedule::{
    MedusaBackupSchedule, MedusaBackupScheduleSpec, MedusaBackupScheduleStatus, ScheduledOperation,
};
pub use configuration::{
    CREDENTIALS_KEY, MedusaConfiguration, MedusaConfigurationSpec, MedusaConfigurationStatus, READY,
    SECRET_AVAILABLE, StorageSecret, readiness,
};
pub use restore_job::{
    MappedHost, MedusaRestoreJob, MedusaRestoreJobSpec, MedusaRestoreJobStatus, RestoreMapping,
};
pub use storage::{CredentialsType, PodStorage, SecretRef, Storage, StorageProvider};
pub use task::{MedusaTask, MedusaTaskSpec, MedusaTaskStatus, TaskOperation, TaskPodResult};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// API group of the Medusa kinds.
pub const GROUP: &str = "medusa.k8ssandra.io";

/// How Medusa stores a backup: `differential` shares unchanged files with earlier backups, `full`
/// copies everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum BackupType {
    /// Upload only the files that no earlier backup holds.
    #[default]
    Differential,
    /// Upload every file.
    Full,
}

impl BackupType {
    /// The word used in specs and by Medusa: `differential` or `full`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Differential => "differential",
            Self::Full => "full",
        }
    }
}
