//! The Medusas of one datacenter: which pods there are now, and one connection to each that is talked to.
//!
//! Dropping the value closes the connections. Nothing here may write to the API server.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    client::Medusa,
    inputs::{self, Inputs},
    pods::PodView,
    pool::Pool,
    tls::ClientTls,
};
use crate::{
    api::cassandra::CassandraDatacenter,
    data_plane::frame::{context::Tools, problem::Obstacle},
};

/// A datacenter's pods and the connections to their Medusas.
pub struct MedusaPods {
    /// The datacenter as it was when the run began or was taken over.
    pub datacenter: CassandraDatacenter,
    /// Its pods as last listed, by name.
    pub pods: BTreeMap<String, PodView>,
    /// When they were listed.
    pub listed: Timestamp,
    tls: Option<ClientTls>,
    pool: Pool,
    medusas: HashMap<String, Arc<Medusa>>,
}

impl MedusaPods {
    /// The pods of `inputs`, which was read at `now`; nothing is dialled yet.
    #[must_use]
    pub fn new(inputs: Inputs, now: Timestamp) -> Self {
        Self {
            datacenter: inputs.datacenter,
            pods: by_name(inputs.pods),
            listed: now,
            tls: inputs.tls,
            pool: inputs.medusas,
            medusas: HashMap::new(),
        }
    }

    /// Lists the pods anew, and reads the TLS Secret again, as either may be why a node does not answer.
    /// Connections to pods that are gone close. What cannot be read stays as it was.
    pub async fn look(&mut self, tools: &Tools) {
        let namespace = self.datacenter.metadata.namespace.as_deref();
        self.listed = tools.clock.now();
        match inputs::pods(&tools.client, &self.datacenter).await {
            Ok(views) => {
                self.pods = by_name(views);
                self.medusas.retain(|pod, _| self.pods.contains_key(pod));
            }
            Err(error) => tracing::warn!(namespace, %error, "cannot list the datacenter's pods"),
        }
        if self.tls.is_none() {
            return;
        }
        match inputs::tls(&tools.client, &self.datacenter).await {
            Ok(tls) if tls != self.tls => {
                self.tls = tls;
                self.medusas.clear();
            }
            Ok(_) | Err(Obstacle::Problem(_)) => {}
            Err(Obstacle::ApiServer(error)) => {
                tracing::warn!(namespace, %error, "cannot read the TLS Secret for Medusa");
            }
        }
    }

    /// The one Medusa of that pod; another address is another connection. `None` while the pod is gone or
    /// has no address.
    pub fn medusa(&mut self, pod: &str) -> Option<Arc<Medusa>> {
        let address = self.pods.get(pod)?.address?;
        if let Some(known) = self.medusas.get(pod).filter(|m| m.address() == address) {
            return Some(Arc::clone(known));
        }
        let medusa = self.pool.medusa(address, self.tls.as_ref());
        self.medusas.insert(pod.to_owned(), Arc::clone(&medusa));
        Some(medusa)
    }
}

fn by_name(pods: Vec<PodView>) -> BTreeMap<String, PodView> {
    pods.into_iter().map(|pod| (pod.name.clone(), pod)).collect()
}
