//! `fleet.k8ssandra.io/v1alpha1`: our own kinds, in the controller's namespace (docs/README.md).
//!
//! A kind or field is here only when its behaviour is.

mod backup;
mod backup_job;
mod backup_schedule;
mod cluster;
mod data_plane;
mod data_plane_view;
mod registered_from;
mod restore_job;
mod run;
mod selector;
mod task;

pub use backup::{BackupOrigin, FleetBackup, FleetBackupDatacenter, FleetBackupSpec, FleetBackupStatus};
pub use backup_job::{FleetBackupJob, FleetBackupJobSpec, FleetBackupJobStatus};
pub use backup_schedule::{
    CatchUp, ConcurrencyPolicy, CountedSlots, Execution, FleetBackupSchedule, FleetBackupScheduleSpec,
    FleetBackupScheduleStatus, MissedSlots, ScheduleOperation, ScheduleTemplate, ScheduledDataPlane,
    ScheduledDatacenter, ScheduledDatacenters, ScheduledRun,
};
pub use cluster::{
    ClusterDatacenter, CredentialsState, DeploymentState, FleetCluster, FleetClusterSpec, FleetClusterStatus,
    InventoryDrift, K8ssandraClusterRef, KeptField, MedusaChange, MedusaState, StorageState, Undone,
};
pub use data_plane::{
    CredentialStatus, DataPlane, DataPlaneSpec, DataPlaneStatus, DeletionPolicy, KubeconfigSecretRef, Limits,
    MedusaController,
};
pub use data_plane_view::{DataPlaneView, DataPlaneViewSpec};
pub use registered_from::RegisteredFrom;
pub use restore_job::{
    CheckState, FleetRestoreJob, FleetRestoreJobSpec, FleetRestoreJobStatus, RestoreCheck, RestoreDatacenter,
    RestoreOrder, RestorePlan, RestoreRun,
};
pub use run::{
    DatacenterCounts, DatacenterRun, NodeCounts, Phase, Rollout, RunSpec, RunStatus, UnreachablePolicy,
    limit, place,
};
pub use selector::Selector;
pub use task::{DatacenterTask, FleetOperation, FleetTask, FleetTaskSpec, FleetTaskStatus, Purged};

/// API group of the fleet kinds.
pub const GROUP: &str = "fleet.k8ssandra.io";
/// Name of the DataPlane that is the control plane's own cluster.
pub const LOCAL: &str = "local";

/// The manifest that grants the control plane its rights in a data plane, as messages name it. With the first one for a data
/// plane with `spec.namespaces`, its account would have rights in all namespaces.
pub const ROLE: &str =
    "kubeconfigs/data-plane-rbac.yaml (with `spec.namespaces` data-plane-rbac-namespaced.yaml)";
