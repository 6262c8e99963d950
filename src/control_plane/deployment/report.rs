//! What deploying Medusa has come to, as plain data: the deployment writes it, the inventory and the replication read
//! it. Pure.

use std::{collections::BTreeMap, sync::Arc};

use kube::api::ObjectMeta;

use super::{Fault, Problem};
use crate::{
    api::{
        Reason, Why,
        fleet::{CredentialsState, DeploymentState, KeptField, MedusaChange, StorageState, Undone},
        k8ssandra::K8ssandraCluster,
        medusa::MedusaConfiguration,
    },
    control_plane::{
        data_planes::{membership::DatacenterPlace, view::ObjectKey},
        sources::SourceObjects,
    },
};

/// What came of one datacenter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatacenterReport {
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
    /// What of ours somebody took back.
    pub undone: Option<Undone>,
}

impl DatacenterReport {
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
            undone: None,
        }
    }
}

/// What came of one K8ssandraCluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterReport {
    /// Uid of the K8ssandraCluster, while there is one: what came of another that had its name says nothing of it.
    pub uid: Option<String>,
    /// What was judged: the K8ssandraCluster's and the MedusaConfiguration's versions.
    pub basis: String,
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

impl ClusterReport {
    /// Why the first of its datacenters is refused, or not known, that is; nothing when none is.
    #[must_use]
    pub fn failure(&self) -> Option<Reason> {
        let has_failed = |state| matches!(state, DeploymentState::Refused | DeploymentState::Unknown);
        let mut failed = self.datacenters.iter().filter(|datacenter| has_failed(datacenter.state));
        failed.find_map(|datacenter| datacenter.why.as_ref().map(|why| why.reason))
    }
}

/// The versions of what is asked for.
#[must_use]
pub fn basis(cluster: Option<&K8ssandraCluster>, configuration: Option<&MedusaConfiguration>) -> String {
    let version = |meta: &ObjectMeta| (meta.uid.clone(), meta.generation);
    format!("{:?}", (cluster.map(|c| version(&c.metadata)), configuration.map(|c| version(&c.metadata))))
}

/// What came of every K8ssandraCluster that asks, or asked, for Medusa and was looked at.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    pub clusters: BTreeMap<ObjectKey, Arc<ClusterReport>>,
    /// Whether all have been looked at: before that, a report that is not there means nothing.
    pub whole: bool,
}

impl Reports {
    /// Whether a datacenter is as its K8ssandraCluster asks now, and its pods all run that.
    #[must_use]
    pub fn is_settled(
        &self,
        cluster: &ObjectKey,
        sources: &SourceObjects,
        plane: &str,
        object: &ObjectKey,
    ) -> bool {
        let Some(report) = self.clusters.get(cluster) else { return false };
        let asked = sources.clusters.items.get(cluster).map(AsRef::as_ref);
        let configuration =
            report.configuration.as_ref().and_then(|key| sources.configurations.items.get(key));
        report.basis == basis(asked, configuration.map(AsRef::as_ref))
            && report.datacenters.iter().any(|dc| {
                dc.place.plane == plane && dc.place.object == *object && dc.state == DeploymentState::Deployed
            })
    }

    /// What is wrong with a MedusaConfiguration, as the clusters that refer to it found.
    #[must_use]
    pub fn faults_of(&self, configuration: &ObjectKey) -> Vec<&Problem> {
        let using =
            self.clusters.values().filter(|report| report.configuration.as_ref() == Some(configuration));
        let mut faults: Vec<&Problem> =
            using.flat_map(|report| &report.problems).filter(|p| p.fault == Fault::Configuration).collect();
        faults.sort_by(|a, b| a.message.cmp(&b.message));
        faults.dedup();
        faults
    }
}
