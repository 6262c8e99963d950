//! `DataPlaneView`: what one replica of the control plane sees in one data plane, for the one that decides.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// Written by the replica that watches the data plane, where there are several (docs/replicas.md). Nobody else writes it,
/// and nothing in it is meant to be read by people but the columns.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "fleet.k8ssandra.io",
    version = "v1alpha1",
    kind = "DataPlaneView",
    plural = "dataplaneviews",
    shortname = "dpv",
    namespaced,
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Shard","type":"integer","jsonPath":".spec.shard"}"#,
    printcolumn = r#"{"name":"Replica","type":"string","jsonPath":".spec.holder"}"#,
    printcolumn = r#"{"name":"Epoch","type":"integer","jsonPath":".spec.epoch"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct DataPlaneViewSpec {
    /// Uid of the DataPlane of the same name.
    #[serde(default)]
    pub data_plane_uid: String,
    /// The shard that the data plane belongs to.
    #[serde(default)]
    pub shard: i32,
    /// The replica that wrote this.
    #[serde(default)]
    pub holder: String,
    /// How often the shard had changed hands when it did: what an earlier holder writes never replaces what a later one wrote.
    #[serde(default)]
    pub epoch: i32,
    /// A hash of the address, the limits and the namespaces by which the data plane was reached.
    #[serde(default)]
    pub address_hash: String,
    /// How `data` is to be read.
    #[serde(default)]
    pub format: i32,
    /// What was seen, compressed, in base64.
    #[serde(default)]
    pub data: String,
}
