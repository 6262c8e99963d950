//! Every Medusa this role talks to, once: jobs on one datacenter share the connection to each of its pods.
//!
//! The pool keeps nothing alive. A connection closes when the last run that asked for it has let go of it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, Weak},
};

use prometheus_client::metrics::gauge::Gauge;

use super::{client::Medusa, tls::ClientTls};
use crate::{
    data_plane::frame::timings::Timings,
    runtime::{fence::Fence, sync::lock},
};

/// The Medusas in use. Clones share them.
#[derive(Clone)]
pub struct Pool {
    timings: Timings,
    open: Gauge,
    fence: Fence,
    medusas: Arc<Mutex<HashMap<SocketAddr, Vec<Weak<Medusa>>>>>,
}

impl Pool {
    /// A pool whose Medusas keep to `timings` and `fence`; connections that stand are counted in `open`.
    #[must_use]
    pub fn new(timings: Timings, open: Gauge, fence: Fence) -> Self {
        Self { timings, open, fence, medusas: Arc::default() }
    }

    /// The Medusa at `address`, spoken to with `tls`; nothing is dialled yet. Other TLS material is another
    /// connection.
    #[must_use]
    pub fn medusa(&self, address: SocketAddr, tls: Option<&ClientTls>) -> Arc<Medusa> {
        let mut medusas = lock(&self.medusas);
        let here = medusas.entry(address).or_default();
        let known = here.iter().filter_map(Weak::upgrade).find(|medusa| medusa.tls() == tls);
        let medusa = known.unwrap_or_else(|| {
            let (open, fence) = (self.open.clone(), self.fence.clone());
            let new = Arc::new(Medusa::new(address, tls.cloned(), self.timings, open, fence));
            here.push(Arc::downgrade(&new));
            new
        });
        medusas.retain(|_, here| {
            here.retain(|medusa| medusa.strong_count() > 0);
            !here.is_empty()
        });
        medusa
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_medusa_is_shared_while_somebody_has_it_and_forgotten_after() {
        let pool = Pool::new(Timings::default(), Gauge::default(), Fence::open());
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let first = pool.medusa(at(1), None);
        assert!(Arc::ptr_eq(&first, &pool.medusa(at(1), None)));
        assert!(!Arc::ptr_eq(&first, &pool.medusa(at(2), None)));
        drop(first);
        let _other = pool.medusa(at(3), None);
        let left: Vec<SocketAddr> = pool.medusas.lock().unwrap().keys().copied().collect();
        assert_eq!(left, [at(3)]);
    }
}
