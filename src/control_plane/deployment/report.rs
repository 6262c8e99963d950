//! What deploying Medusa has come to, as plain data: the deployment writes it, the inventory and the replication read
//! it. Pure.

use std::{collections::BTreeMap, sync::Arc};

use super::Problem;
use crate::{
    api::{
        Reason,
        fleet::{CredentialsState, DeploymentState, KeptField, MedusaChange, StorageState},
    },
    control_plane::{sources::DatacenterPlace, view::ObjectKey},
};

/// Why something is as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// For machines.
    pub reason: Reason,
    /// For people.
    pub message: String,
}

impl Why {
    /// A reason and what to tell people.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// What came of one datacenter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatacenterReport {
    /// The datacenter.
    pub place: DatacenterPlace,
    /// How far it is.
    pub state: DeploymentState,
    /// Why it is no further; also a remark on one that is deployed.
    pub why: Option<Why>,
    /// What will be changed.
    pub changes: Vec<MedusaChange>,
    /// How many changes are not listed.
    pub more_changes: usize,
    /// Whether the changes restart pods; `None` without changes.
    pub restarts_pods: Option<bool>,
    /// Fields left to others.
    pub kept: Vec<KeptField>,
    /// The Secrets, when they were looked at.
    pub credentials: Option<CredentialsState>,
}

impl DatacenterReport {
    /// A state and why.
    #[must_use]
    pub fn new(place: &DatacenterPlace, state: DeploymentState, why: Option<Why>) -> Self {
        Self {
            place: place.clone(),
            state,
            why,
            changes: Vec::new(),
            more_changes: 0,
            restarts_pods: None,
            kept: Vec::new(),
            credentials: None,
        }
    }
}

/// What came of one K8ssandraCluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterReport {
    /// What is wrong with what was asked for.
    pub problems: Vec<Problem>,
    /// The MedusaConfiguration it refers to.
    pub configuration: Option<ObjectKey>,
    /// Where the backups go, when that is known.
    pub storage: Option<StorageState>,
    /// K8ssandraClusters that put their backups into the same place.
    pub shares_with: Vec<ObjectKey>,
    /// Its datacenters, in its order.
    pub datacenters: Vec<DatacenterReport>,
}

/// What came of every K8ssandraCluster that asks, or asked, for Medusa and was looked at.
pub type Reports = BTreeMap<ObjectKey, Arc<ClusterReport>>;
