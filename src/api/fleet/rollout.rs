//! How a fleet operation goes over its datacenters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
