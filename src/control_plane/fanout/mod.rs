//! One intent, one object per datacenter (contract §2.2, FleetBackupJob).
//!
//! Each reconcile is
//!
//! ```text
//! select ──> advance ──> end ──> load, turns, plan ──> writes ──> advance ──> summarize ──> fit, publish
//!  (pure)     (pure)    (pure)        (pure)          (desk: IO)   (pure)       (pure)     (runs: IO)
//! ```
//!
//! One data plane's failure is a value in the status; it never hides the others, and a write that hangs is not
//! waited for.

pub mod child;
mod controller;
pub mod holds;
pub mod judge;
pub mod load;
mod pass;
pub mod plan;
pub mod rehearsal;
pub mod rollup;
#[cfg(test)]
mod scenarios;
pub mod summary;
pub mod write;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use self::holds::Holds;
use super::{
    data_planes::{cluster_of::apart, fleet::Snapshot},
    runs::{buckets::Buckets, ending::Terms},
};
use crate::api::fleet::{FleetBackupJob, limit};

pub use controller::run;

/// Everything one pass over one run decides by.
pub struct Scene<'a> {
    /// The run.
    pub job: &'a FleetBackupJob,
    /// When it began.
    pub begun: Timestamp,
    /// The data planes, by name.
    pub planes: BTreeMap<&'a str, &'a Snapshot>,
    /// Their limits of backups at a time, where they have one.
    pub own_limits: BTreeMap<String, usize>,
    /// Where the clusters' backups go.
    pub buckets: &'a Buckets,
    /// What waits for a restore or a purge.
    pub holds: Holds,
    /// Value of the control-plane label.
    pub control_plane: &'a str,
    /// The time.
    pub now: Timestamp,
}

impl<'a> Scene<'a> {
    /// A scene over these data planes, in which nothing is held.
    #[must_use]
    pub fn new(
        job: &'a FleetBackupJob,
        planes: &'a [Snapshot],
        buckets: &'a Buckets,
        control_plane: &'a str,
        begun: Timestamp,
        now: Timestamp,
    ) -> Self {
        let own_limits = planes.iter().filter_map(|p| Some((p.name.clone(), p.max_concurrent_backups?)));
        Self {
            job,
            begun,
            own_limits: own_limits.collect(),
            planes: planes.iter().map(|p| (p.name.as_str(), p)).collect(),
            buckets,
            holds: Holds::new(),
            control_plane,
            now,
        }
    }

    /// What the run goes by.
    #[must_use]
    pub fn terms(&self) -> Terms {
        let rollout = self.job.spec.run.rollout();
        let apart = if limit(rollout.max_failures).is_some() {
            apart(&self.planes.values().copied().collect::<Vec<_>>())
        } else {
            BTreeSet::new()
        };
        Terms {
            rollout,
            apart,
            unreachable_policy: self.job.spec.run.unreachable_policy,
            is_cancelled: self.job.spec.run.is_cancelled(),
            begun: self.begun,
            now: self.now,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    //! Builders for the tests of this folder and of the inventory.

    use std::{collections::BTreeMap, sync::Arc};

    use jiff::Timestamp;
    use serde_json::json;

    use super::{Buckets, Scene};
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
            runs::child::child_key,
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
            labels: BTreeMap::new(),
            usable,
            unregistering: false,
            credential_expires_at: None,
            max_concurrent_backups: None,
            remote: None,
            view: Arc::new(view),
            meters: Arc::default(),
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

    /// A scene in which the run began at second 0.
    pub(crate) fn scene<'a>(job: &'a FleetBackupJob, planes: &'a [Snapshot], second: i64) -> Scene<'a> {
        static NONE: std::sync::LazyLock<Buckets> = std::sync::LazyLock::new(Buckets::default);
        let now = Timestamp::from_second(second).unwrap();
        Scene::new(job, planes, &NONE, "cp", Timestamp::UNIX_EPOCH, now)
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
