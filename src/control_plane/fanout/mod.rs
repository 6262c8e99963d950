//! One intent, one object per datacenter (docs/fleetbackupjob.md): the engine of all runs
//! ([`super::runs::engine`]) with what only backups know. A backup waits for restores and purges of its cluster.

mod adapter;
mod controller;
pub mod holds;
pub mod judge;
mod summarize;

pub use controller::run;

#[cfg(test)]
pub(crate) mod tests {
    //! Builders for the tests of this folder and of the inventory.

    use std::{collections::BTreeMap, sync::Arc};

    use jiff::Timestamp;
    use serde_json::json;

    use crate::{
        api::{
            cassandra::CassandraDatacenter,
            fleet::{DatacenterRun, FleetBackupJob},
            labels,
            medusa::MedusaBackupJob,
        },
        control_plane::{
            data_planes::{
                fleet::{Snapshot, Usable},
                membership::Membership,
                view::{Contact, ObjectKey, View},
            },
            runs::{buckets::Buckets, child::child_key, engine::RunInputs},
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
            view.datacenters.put(ObjectKey::of(dc), Arc::new(dc.clone()));
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
            uid: format!("uid-of-{name}"),
            labels: BTreeMap::new(),
            usable,
            unregistering: false,
            credential_expires_at: None,
            credential_renewal_at: None,
            max_concurrent_backups: None,
            within: Arc::default(),
            remote: None,
            view: Arc::new(view),
            meters: Arc::default(),
            refusals: Arc::default(),
            listing: Arc::default(),
            membership: Membership::default(),
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

    /// Inputs in which the run began at second 0.
    pub(crate) fn inputs<'a>(
        job: &'a FleetBackupJob,
        planes: &'a [Snapshot],
        second: i64,
    ) -> RunInputs<'a, FleetBackupJob> {
        static NONE: std::sync::LazyLock<Buckets> = std::sync::LazyLock::new(Buckets::default);
        let now = Timestamp::from_second(second).unwrap();
        RunInputs::new(job, planes, &NONE, Timestamp::UNIX_EPOCH, now)
    }

    /// The child of the first attempts at an entry, with this status.
    pub(crate) fn made(
        job: &FleetBackupJob,
        entry: &DatacenterRun,
        attempt: usize,
        status: serde_json::Value,
    ) -> (ObjectKey, Arc<MedusaBackupJob>) {
        let key = child_key(job, entry, attempt);
        let child = json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackupJob",
            "metadata": {
                "name": key.name, "namespace": key.namespace, "labels": {labels::JOB_UID: job.metadata.uid},
                "uid": format!("uid-{}", key.name), "resourceVersion": "7",
            },
            "spec": {"cassandraDatacenter": entry.datacenter}, "status": status
        });
        (key, serde_json::from_value(child).map(Arc::new).unwrap())
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
