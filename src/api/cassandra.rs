//! The part of cass-operator's `CassandraDatacenter` that we read.
//!
//! Every field is optional on the way in, so that an object of an older or newer operator never fails
//! to decode; nothing here is ever written back.

use kube::{CustomResource, ResourceExt as _};
use serde::{Deserialize, Serialize};

use super::labels;

/// What we read of a CassandraDatacenter's spec (upstream: CassandraDatacenter).
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "cassandra.datastax.com",
    version = "v1beta1",
    kind = "CassandraDatacenter",
    plural = "cassandradatacenters",
    namespaced,
    status = "CassandraDatacenterStatus",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase", default)]
pub struct CassandraDatacenterSpec {
    /// Name of the Cassandra cluster.
    pub cluster_name: String,
    /// Cassandra's own name of the datacenter, when it differs from the object's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datacenter_name: Option<String>,
    /// Number of nodes.
    pub size: i32,
    /// Whether the datacenter is scaled to zero on purpose.
    pub stopped: bool,
    /// Racks, in order; empty means one rack called `default`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub racks: Vec<Rack>,
    /// Secret with the superuser; empty means cass-operator's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub superuser_secret_name: Option<String>,
    /// Users that cass-operator creates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
    /// The pods' template: we only look at its containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_template_spec: Option<PodTemplateSpec>,
}

/// One rack of a datacenter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rack {
    /// The rack's name.
    pub name: String,
}

/// A Cassandra user that cass-operator creates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    /// Secret with its name and password.
    pub secret_name: String,
}

/// The part of a pod template we look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodTemplateSpec {
    /// The pod's spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<PodSpec>,
}

/// The part of a pod spec we look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Its containers.
    pub containers: Vec<Container>,
    /// Its init containers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub init_containers: Vec<Container>,
}

/// The part of a container we look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Container {
    /// The container's name.
    pub name: String,
    /// Its image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// What we read of a CassandraDatacenter's status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CassandraDatacenterStatus {
    /// Name cass-operator settled on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datacenter_name: Option<String>,
    /// `Updating` or `Ready`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cassandra_operator_progress: Option<String>,
    /// cass-operator's conditions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<DatacenterCondition>,
    /// The generation cass-operator has finished with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// One of cass-operator's conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DatacenterCondition {
    /// Its type, such as `Ready`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
}

/// Name of the container that runs Medusa beside Cassandra (upstream: Containers).
pub const MEDUSA_CONTAINER: &str = "medusa";
/// Name of the init container that restores (upstream: Containers).
pub const RESTORE_CONTAINER: &str = "medusa-restore";
/// Controller of k8ssandra-operator that makes CassandraDatacenters, as its labels name it.
const UPSTREAM_CONTROLLER: &str = "k8ssandracluster-controller";
/// k8ssandra-operator, as its `app.kubernetes.io/name` names it.
const UPSTREAM_NAME: &str = "k8ssandra-operator";
/// The rack every node is in when a datacenter names none (upstream: Names).
pub const DEFAULT_RACK: &str = "default";

impl CassandraDatacenter {
    /// The name Cassandra itself uses for the datacenter; it is what Medusa writes into backups.
    #[must_use]
    pub fn display_name(&self) -> String {
        self.spec
            .datacenter_name
            .clone()
            .filter(|n| !n.is_empty())
            .or_else(|| self.metadata.name.clone())
            .unwrap_or_default()
    }

    /// The Medusa container of the pod template, when there is one.
    #[must_use]
    pub fn medusa_container(&self) -> Option<&Container> {
        let pod = self.spec.pod_template_spec.as_ref()?.spec.as_ref()?;
        pod.containers.iter().find(|c| c.name == MEDUSA_CONTAINER)
    }

    /// Whether the pod template has the init container that restores.
    #[must_use]
    pub fn has_restore_container(&self) -> bool {
        let pod = self.spec.pod_template_spec.as_ref().and_then(|template| template.spec.as_ref());
        pod.is_some_and(|pod| pod.init_containers.iter().any(|c| c.name == RESTORE_CONTAINER))
    }

    /// Whether cass-operator says the datacenter is ready to serve.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.status
            .as_ref()
            .is_some_and(|s| s.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
    }

    /// Whether k8ssandra-operator manages the datacenter (docs/k8ssandracluster.md): it undoes what others write into it. Any one
    /// sign counts, for which of them it sets changed between its releases.
    #[must_use]
    pub fn is_managed_by_k8ssandra_operator(&self) -> bool {
        let signs = [
            (labels::CLEANED_UP_BY, UPSTREAM_CONTROLLER),
            (labels::CREATED_BY, UPSTREAM_CONTROLLER),
            (labels::APP_NAME, UPSTREAM_NAME),
        ];
        signs.iter().any(|(label, value)| self.labels().get(*label).is_some_and(|v| v == value))
            || self.finalizers().iter().any(|finalizer| finalizer == labels::UPSTREAM_FINALIZER)
    }

    /// Rack names; the one default rack when none is named.
    #[must_use]
    pub fn rack_names(&self) -> Vec<String> {
        if self.spec.racks.is_empty() {
            return vec![DEFAULT_RACK.to_owned()];
        }
        self.spec.racks.iter().map(|r| r.name.clone()).collect()
    }

    /// The two labels cass-operator puts on everything of this datacenter (upstream: Labels and annotations). k8ssandra's
    /// `Forbid` rule counts only jobs that carry both (upstream: Schedules).
    #[must_use]
    pub fn datacenter_labels(&self) -> [(String, String); 2] {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        [
            (labels::CASSANDRA_CLUSTER.to_owned(), labels::clean_value(&self.spec.cluster_name)),
            (labels::CASSANDRA_DATACENTER.to_owned(), labels::clean_value(name)),
        ]
    }
}
