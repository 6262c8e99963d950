//! What the deployment works with.

use std::sync::Arc;

use kube::Client;
use tokio::sync::watch;

use super::{pod::image::Image, report::Reports, undone};
use crate::{
    control_plane::{
        data_planes::{fleet::Fleet, membership::DatacenterPlace, undone::WriteMemory},
        identity::Identity,
        sources::Sources,
    },
    runtime::{events::Events, reconciles::Reconciles},
};

/// What the deployment needs.
#[derive(Clone)]
pub struct DeploymentContext {
    /// The control plane's own cluster.
    pub client: Client,
    /// Namespace of its FleetClusters.
    pub namespace: String,
    /// The data planes.
    pub fleet: Arc<Fleet>,
    /// What people ask for.
    pub sources: Arc<Sources>,
    /// Who this control plane is.
    pub control_plane: Identity,
    /// Medusa's image unless a K8ssandraCluster asks for another.
    pub image: Image,
    /// Where Events go.
    pub events: Events,
    /// How its passes end.
    pub reconciles: Reconciles,
    /// Where the inventory finds what came of it.
    pub reports: watch::Sender<Reports>,
    /// Our last write to each CassandraDatacenter.
    pub datacenters_written: WriteMemory<DatacenterPlace>,
    /// Our last write to each other object in a data plane: the data plane, the kind and the object.
    pub objects_written: WriteMemory<undone::OwnObject>,
}
