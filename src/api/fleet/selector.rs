//! Which datacenters a fleet operation is about.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::schema;

/// Selects datacenters; every given field narrows the choice, an empty selector means every
/// datacenter that runs Medusa.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Selector {
    /// Names of FleetClusters or K8ssandraClusters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
    /// Labels of the FleetCluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub cluster_selector: Option<LabelSelector>,
    /// Names of DataPlanes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data_planes: Vec<String>,
    /// Labels of the DataPlane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub data_plane_selector: Option<LabelSelector>,
    /// Namespaces in the data planes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Names of CassandraDatacenter objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datacenters: Vec<String>,
    /// Labels of the CassandraDatacenter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub datacenter_selector: Option<LabelSelector>,
}
