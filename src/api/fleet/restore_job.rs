//! `FleetRestoreJob`: one restore of one Cassandra cluster, all its datacenters or some.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NodeCounts, Phase};
use crate::api::schema;

/// What to restore, and into what. Every datacenter it is about is stopped, and what was written since the
/// backup is gone afterwards. Only `cancel` can be changed.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "fleet.k8ssandra.io",
    version = "v1alpha1",
    kind = "FleetRestoreJob",
    plural = "fleetrestorejobs",
    shortname = "frj",
    namespaced,
    status = "FleetRestoreJobStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Cluster","type":"string","jsonPath":".status.cluster"}"#,
    printcolumn = r#"{"name":"Backup","type":"string","jsonPath":".spec.backup"}"#,
    printcolumn = r#"{"name":"Done","type":"string","jsonPath":".status.done"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Complete\")].reason"}"#,
    printcolumn = r#"{"name":"Started","type":"date","jsonPath":".status.startTime"}"#,
    printcolumn = r#"{"name":"Finished","type":"date","jsonPath":".status.finishTime"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.backup) || (has(self.datacenters) && size(self.datacenters) > 0 && self.datacenters.all(d, has(d.medusaBackup)))",
        "name the FleetBackup in spec.backup, or a medusaBackup in every entry of spec.datacenters"),
    // Spelled with has(): of optional values the API server cannot estimate what comparing them costs.
    validation = ("has(self.backup) == has(oldSelf.backup) && (!has(self.backup) || self.backup == oldSelf.backup) && has(self.cluster) == has(oldSelf.cluster) && (!has(self.cluster) || self.cluster == oldSelf.cluster) && has(self.datacenters) == has(oldSelf.datacenters) && (!has(self.datacenters) || self.datacenters == oldSelf.datacenters) && has(self.datacenterTimeoutSeconds) == has(oldSelf.datacenterTimeoutSeconds) && (!has(self.datacenterTimeoutSeconds) || self.datacenterTimeoutSeconds == oldSelf.datacenterTimeoutSeconds) && self.order == oldSelf.order && self.startDeadlineSeconds == oldSelf.startDeadlineSeconds && self.dryRun == oldSelf.dryRun",
        "a FleetRestoreJob cannot be changed, only cancelled (spec.cancel); create a new one"),
    validation = ("!oldSelf.cancel || self.cancel", "spec.cancel cannot be taken back; create a new FleetRestoreJob")
)]
pub struct FleetRestoreJobSpec {
    /// Name of the FleetBackup to restore. May be left out when every entry of `datacenters` names its
    /// MedusaBackup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub backup: Option<String>,
    /// FleetCluster or K8ssandraCluster to restore into [default: the cluster the backup is of, or the
    /// datacenters are in]. Another cluster needs the backup's bucket, prefix and topology.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub cluster: Option<String>,
    /// Datacenters to restore, in this order when `order` is `Serial` [default: all of the cluster]. Naming
    /// them says that a part is meant on purpose.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub datacenters: Vec<RestoreDatacenter>,
    /// Whether all datacenters stop at once, or one after the other.
    #[serde(default)]
    pub order: RestoreOrder,
    /// How long after its creation the restore may begin: what stands in the way is waited for until then.
    #[serde(default = "start_deadline")]
    #[schemars(range(min = 1, max = 86400))]
    pub start_deadline_seconds: i64,
    /// How long one datacenter may take before it counts as failed [default: as long as its data plane
    /// allows]. Nothing is stopped by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60))]
    pub datacenter_timeout_seconds: Option<i64>,
    /// Make the plan and all checks, put them into the status, and do nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Start nothing more, and call off what has not stopped its datacenter yet. Cannot be taken back.
    #[serde(default)]
    pub cancel: bool,
}

fn start_deadline() -> i64 {
    1800
}

/// One datacenter to restore.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct RestoreDatacenter {
    /// The data plane it is in; needed only where several datacenters of the cluster have one name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub data_plane: Option<String>,
    /// Its namespace there; needed only where several datacenters of the cluster have one name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub namespace: Option<String>,
    /// Name of the CassandraDatacenter.
    #[schemars(length(min = 1, max = 253))]
    pub datacenter: String,
    /// Name of the MedusaBackup to restore [default: the part of `spec.backup` with this datacenter's name].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub medusa_backup: Option<String>,
}

/// Whether datacenters are restored together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum RestoreOrder {
    /// All at once: none of them serves newer data to one that is restored already.
    #[default]
    Parallel,
    /// One after the other; after a failure no further one is touched.
    Serial,
}

/// The plan, and how far it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetRestoreJobStatus {
    /// Generation of the spec this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The verdict so far. `Pending`: nothing has been touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The FleetCluster that is restored into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// When the job was taken up and its checks began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When every check had passed; from then on the plan is only executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_time: Option<Time>,
    /// When the last datacenter was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,
    /// Restored datacenters of all, for people: `1/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<String>,
    /// Checks of the restore as a whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<RestoreCheck>,
    /// What is restored into which datacenter, in order, with the checks of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<RestorePlan>,
    /// What became of it, in the plan's order; empty until every check has passed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datacenters: Vec<RestoreRun>,
    /// `ChecksPassed` and `Complete`, and what stands in their way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// One datacenter of the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct RestorePlan {
    /// The data plane it is in.
    pub data_plane: String,
    /// Its namespace there.
    #[serde(default)]
    pub namespace: String,
    /// Name of the CassandraDatacenter.
    #[serde(default)]
    pub datacenter: String,
    /// Name of the MedusaBackup; empty when none was found.
    #[serde(default)]
    pub medusa_backup: String,
    /// Name of the MedusaRestoreJob, and of the MedusaTask when a sync is needed.
    #[serde(default)]
    pub job: String,
    /// Whether the MedusaBackup has to be made by a `sync` first: the datacenter did not know it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sync: bool,
    /// Its checks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<RestoreCheck>,
}

/// One check before anything stops.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct RestoreCheck {
    /// What is checked.
    pub name: String,
    /// How it stands.
    pub state: CheckState,
    /// Why, for machines; absent when it passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, and what to do, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How a check stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum CheckState {
    /// It holds.
    Passed,
    /// It does not hold yet, or is not known; it is looked at again until the start deadline.
    #[default]
    Waiting,
    /// It does not hold: the restore is refused.
    Failed,
}

/// What became of one datacenter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct RestoreRun {
    /// The data plane it is in.
    pub data_plane: String,
    /// Its namespace there.
    #[serde(default)]
    pub namespace: String,
    /// Name of the CassandraDatacenter.
    #[serde(default)]
    pub datacenter: String,
    /// Name of its MedusaRestoreJob; written before that is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Uid of its MedusaRestoreJob; written once that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_uid: Option<String>,
    /// Its state.
    #[serde(default)]
    pub phase: Phase,
    /// Why, for machines: while it runs, the step it is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it was its turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the last of its pods had stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_time: Option<Time>,
    /// When it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,
    /// Its nodes by state, where the data plane reports them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeCounts>,
}
