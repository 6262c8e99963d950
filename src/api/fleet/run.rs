//! What the kinds of runs over datacenters, FleetBackupJob and FleetTask, say in the same way.

use std::ops::RangeInclusive;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::core::{Message, Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Selector;
use crate::api::{Reason, schema};

/// Holds a field of the spec to what it was when the object was made. The rule is on the object and not on its spec,
/// which is also a schedule's template and may be changed there.
///
/// Spelled with `has()`: of optional values the API server cannot estimate what comparing them costs.
pub(super) fn fixed(kind: &str, field: &str) -> Rule {
    let (now, before) = (format!("self.spec.{field}"), format!("oldSelf.spec.{field}"));
    Rule::new(format!("has({now}) == has({before}) && (!has({now}) || {now} == {before})")).message(
        Message::Message(format!(
            "spec.{field}: a {kind} cannot be changed, only cancelled; create a new one"
        )),
    )
}

/// Lets `spec.cancel` be set, and not be taken back.
pub(super) fn cancelled_once(kind: &str) -> Rule {
    Rule::new(
        "!has(oldSelf.spec.cancel) || !oldSelf.spec.cancel || (has(self.spec.cancel) && self.spec.cancel)",
    )
    .message(Message::Message(format!("spec.cancel: a {kind} that was cancelled stays so; create a new one")))
}

/// Which datacenters a run is about, and how it goes over them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunSpec {
    /// Which datacenters; empty means every datacenter that runs Medusa.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// How many datacenters are at work at a time, and what happens when some fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// What to do about a data plane that does not answer: wait for it, skip its datacenters, or fail
    /// them.
    #[serde(default)]
    pub unreachable_policy: UnreachablePolicy,
    /// How many seconds after its end (`status.finishTime`) this object is deleted, and with it the MedusaBackupJobs or
    /// MedusaTasks that it made in data planes. Absent: all of them stay until somebody deletes them. Backups are never
    /// deleted by it: their data in the storage, MedusaBackups and FleetBackups stay. So does a MedusaBackupJob or
    /// MedusaTask that is still at work, and a MedusaBackupJob without a MedusaBackup, as a purge has to know of it. A data
    /// plane that does not answer delays the end by 10 minutes at most; what is left there is named in Event `LeftBehind`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub ttl_seconds_after_finished: Option<i32>,
    /// Starts nothing more. What runs in a datacenter goes on to its end: Medusa cannot stop it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
    /// Only says in the status what would be done and what would be refused, and ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
}

impl RunSpec {
    /// The rollout, without limits when none is given.
    #[must_use]
    pub fn rollout(&self) -> Rollout {
        self.rollout.clone().unwrap_or_default()
    }

    /// Whether nothing more may start.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancel == Some(true)
    }

    /// Whether nothing may be written in a data plane.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        self.dry_run == Some(true)
    }
}

/// How many datacenters are at work at a time, and what happens when some fail. An empty or zero field sets
/// no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Rollout {
    /// Datacenters of this run at work at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_concurrent_datacenters: Option<i32>,
    /// Datacenters at work at a time in one data plane, other runs' counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_concurrent_per_data_plane: Option<i32>,
    /// Datacenters at work at a time on one bucket, other runs' counted. While the bucket of a Cassandra cluster
    /// is not known, the cluster counts as a bucket of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_concurrent_per_bucket: Option<i32>,
    /// Failed datacenters after which nothing more is started; the rest is skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_failures: Option<i32>,
    /// Further attempts at a datacenter that failed, each under a name of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub retries_per_datacenter: Option<i32>,
    /// Seconds one attempt at a datacenter may take, from the creation of its object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub datacenter_timeout_seconds: Option<i32>,
    /// Seconds without any progress (a datacenter starts or ends, a node ends) after which the run gives up what
    /// is not decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub progress_deadline_seconds: Option<i32>,
    /// Seconds over which the starts are spread. A datacenter's place in the window is the same in every run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400))]
    pub stagger_window_seconds: Option<i32>,
}

/// A limit as a number, `None` when there is none.
#[must_use]
pub fn limit(field: Option<i32>) -> Option<usize> {
    field.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0)
}

/// What to do about a data plane that does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum UnreachablePolicy {
    /// Wait until it answers.
    #[default]
    Wait,
    /// Leave its datacenters out.
    Skip,
    /// Count its datacenters as failed.
    Fail,
}

/// How far a run is, whatever its datacenters do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunStatus {
    /// Generation of the spec this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The verdict so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// When the run started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the last datacenter was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,
    /// When a datacenter last started or ended, or a node last ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_progress_time: Option<Time>,
    /// Datacenters by state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<DatacenterCounts>,
    /// Decided datacenters of all, for people: `7/9`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<String>,
    /// `Complete` and what stands in its way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// State of a run, or of one datacenter in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Phase {
    /// Nothing has started.
    #[default]
    Pending,
    /// Going on.
    Running,
    /// Every datacenter did what was asked.
    Succeeded,
    /// Some did, some did not.
    PartiallyFailed,
    /// None did.
    Failed,
    /// Left out on purpose; a datacenter only.
    Skipped,
    /// Cancelled before everything had started.
    Cancelled,
}

impl Phase {
    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }

    /// The word as it appears in objects.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::PartiallyFailed => "PartiallyFailed",
            Self::Failed => "Failed",
            Self::Skipped => "Skipped",
            Self::Cancelled => "Cancelled",
        }
    }
}

/// Datacenters of a run by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct DatacenterCounts {
    /// All of them.
    #[schemars(schema_with = "schema::count")]
    pub total: i64,
    /// Not started.
    #[schemars(schema_with = "schema::count")]
    pub pending: i64,
    /// Going on.
    #[schemars(schema_with = "schema::count")]
    pub running: i64,
    /// Backed up.
    #[schemars(schema_with = "schema::count")]
    pub succeeded: i64,
    /// Not backed up.
    #[schemars(schema_with = "schema::count")]
    pub failed: i64,
    /// Left out, or cancelled before they started.
    #[schemars(schema_with = "schema::count")]
    pub skipped: i64,
}

impl DatacenterCounts {
    /// Datacenters by state.
    #[must_use]
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a DatacenterRun>) -> Self {
        let mut counts = Self::default();
        for entry in entries {
            counts.total += 1;
            *match entry.phase {
                Phase::Pending => &mut counts.pending,
                Phase::Running => &mut counts.running,
                Phase::Succeeded => &mut counts.succeeded,
                Phase::Failed | Phase::PartiallyFailed => &mut counts.failed,
                Phase::Skipped | Phase::Cancelled => &mut counts.skipped,
            } += 1;
        }
        counts
    }
}

/// One datacenter's part of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct DatacenterRun {
    /// The data plane it is in.
    pub data_plane: String,
    /// Its namespace there.
    #[serde(default)]
    pub namespace: String,
    /// Name of the CassandraDatacenter; empty while the data plane's datacenters are not known.
    #[serde(default)]
    pub datacenter: String,
    /// The FleetCluster it belongs to.
    #[serde(default)]
    pub cluster: String,
    /// Name of the MedusaBackupJob made for it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// MedusaBackupJobs made for it so far.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(schema_with = "schema::count")]
    pub attempts: i64,
    /// Its state.
    #[serde(default)]
    pub phase: Phase,
    /// Why, for machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When that MedusaBackupJob was made, by the control plane's clock; kept until it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_time: Option<Time>,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it was decided, or its last attempt ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,
    /// Its nodes by state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeCounts>,
    /// Bytes backed up; upstream prints sizes with two decimals, which limits the precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub size_bytes: Option<i64>,
}

impl DatacenterRun {
    /// Attempts made; a status of an earlier version names the object only.
    #[must_use]
    pub fn attempts(&self) -> usize {
        usize::try_from(self.attempts).unwrap_or(0).max(usize::from(self.job.is_some()))
    }

    /// The numbers of its attempts so far, the latest thousand at most: a status may hold any number.
    #[must_use]
    pub fn latest_attempts(&self) -> RangeInclusive<usize> {
        let latest = self.attempts();
        latest.saturating_sub(999).max(1)..=latest
    }

    /// Whether it is in its phase for this reason.
    #[must_use]
    pub fn has_reason(&self, reason: Reason) -> bool {
        self.reason.as_deref() == Some(reason.as_str())
    }

    /// `dataPlane/namespace/datacenter`, or what of it is known, for people.
    #[must_use]
    pub fn place(&self) -> String {
        place([&self.data_plane, &self.namespace, &self.datacenter])
    }
}

/// `dataPlane/namespace/name`, or what of it is known, for people.
#[must_use]
pub fn place(parts: [&str; 3]) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
pub(super) fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl AsRef<DatacenterRun> for DatacenterRun {
    fn as_ref(&self) -> &DatacenterRun {
        self
    }
}

impl AsMut<DatacenterRun> for DatacenterRun {
    fn as_mut(&mut self) -> &mut DatacenterRun {
        self
    }
}

/// Nodes of one datacenter by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct NodeCounts {
    /// All of them.
    #[schemars(schema_with = "schema::count")]
    pub total: i64,
    /// Backed up.
    #[schemars(schema_with = "schema::count")]
    pub finished: i64,
    /// Not backed up.
    #[serde(default)]
    #[schemars(schema_with = "schema::count")]
    pub failed: i64,
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt as _;
    use serde_json::Value;

    use crate::api::fleet::{FleetBackupJob, FleetRestoreJob, FleetTask};

    /// The fields of the spec that no rule compares with what they were.
    fn mutable(definition: &Value) -> Vec<String> {
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let spec = &schema["properties"]["spec"];
        let rules: Vec<&str> = [schema, spec]
            .iter()
            .filter_map(|schema| schema["x-kubernetes-validations"].as_array())
            .flatten()
            .filter_map(|rule| rule["rule"].as_str())
            .collect();
        let is_fixed = |field: &str| {
            let compared = [
                format!("self.spec.{field} == oldSelf.spec.{field}"),
                format!("self.{field} == oldSelf.{field}"),
            ];
            rules.iter().any(|rule| compared.iter().any(|equation| rule.contains(equation)))
        };
        let fields = spec["properties"].as_object().unwrap().keys();
        fields.filter(|field| !is_fixed(field)).cloned().collect()
    }

    #[test]
    fn of_a_run_only_cancel_can_be_changed() {
        for definition in [FleetBackupJob::crd(), FleetTask::crd(), FleetRestoreJob::crd()] {
            let definition = serde_json::to_value(definition).unwrap();
            assert_eq!(mutable(&definition), ["cancel"], "{}", definition["metadata"]["name"]);
        }
    }
}
