//! One intent, one object per datacenter (contract §2.2, FleetBackupJob).
//!
//! Each reconcile is `select` (pure) → `plan` (pure) → `apply` (writes) → `rollup` (pure) → publish. One
//! data plane's failure is a value in the status; it never hides the others.

mod apply;
mod controller;
pub mod judge;
pub mod plan;
pub mod rollout;
pub mod rollup;
pub mod select;

pub use controller::{FanoutContext, run};

#[cfg(test)]
pub(crate) mod tests {
    //! Builders for the tests of this folder and of the inventory.

    use std::{collections::BTreeMap, sync::Arc};

    use serde_json::json;

    use crate::{
        api::{
            cassandra::CassandraDatacenter,
            fleet::{DatacenterRun, FleetBackupJob},
        },
        control_plane::{
            fleet::{Snapshot, Usable},
            view::{Contact, ObjectKey, View},
        },
    };

    /// A datacenter of cluster `shop` in namespace `ns`; with size 0 one without Medusa.
    pub(crate) fn datacenter(name: &str, size: i32) -> CassandraDatacenter {
        let containers = if size > 0 { json!([{"name": "medusa", "image": "medusa:1"}]) } else { json!([]) };
        serde_json::from_value(json!({
            "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenter",
            "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}")},
            "spec": {"clusterName": "shop", "size": size, "podTemplateSpec": {"spec": {"containers": containers}}}
        }))
        .unwrap()
    }

    /// A view with everything listed.
    pub(crate) fn live(datacenters: &[CassandraDatacenter]) -> View {
        let mut view = View::unknown();
        for dc in datacenters {
            view.datacenters.items.insert(ObjectKey::of(dc), Arc::new(dc.clone()));
        }
        view.set_synced();
        view
    }

    /// A view of a cluster that never answered.
    pub(crate) fn silent() -> View {
        let mut view = View::unknown();
        view.contact = Contact::Never { why: "connection refused".to_owned() };
        view
    }

    /// A data plane with this view.
    pub(crate) fn plane(name: &str, view: View) -> Snapshot {
        let usable = match &view.contact {
            Contact::Live => Usable::Ready,
            Contact::NotTried => Usable::Connecting,
            Contact::Never { why } => Usable::Unreachable { since: None, why: why.clone() },
            Contact::Lost { since, why } => Usable::Unreachable { since: Some(*since), why: why.clone() },
        };
        Snapshot {
            name: name.to_owned(),
            labels: BTreeMap::new(),
            usable,
            unregistering: false,
            credential_expires_at: None,
            remote: None,
            view: Arc::new(view),
            listing: Arc::default(),
        }
    }

    /// A fleet job.
    pub(crate) fn fleet_job(name: &str) -> FleetBackupJob {
        serde_json::from_value(json!({
            "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetBackupJob",
            "metadata": {"name": name, "namespace": "medusa-fleet", "uid": "0b1c2d3e-0000-0000-0000-000000000000"},
            "spec": {}
        }))
        .unwrap()
    }

    /// An entry that has not started.
    pub(crate) fn pending(plane: &str, datacenter: &str) -> DatacenterRun {
        DatacenterRun {
            data_plane: plane.to_owned(),
            namespace: "ns".to_owned(),
            datacenter: datacenter.to_owned(),
            cluster: format!("shop.ns.{plane}"),
            ..DatacenterRun::default()
        }
    }
}
