//! One Cassandra cluster restored: one MedusaRestoreJob per datacenter (docs/fleetrestorejob.md).
//!
//! Each pass is observe (reads) → `plan` or `execute` (pure, by `machine`) → `apply` (writes) → `status` (pure) →
//! publish. Nothing stops before every check of every datacenter has passed twice: once to be recorded, and
//! once more when the record is published. What has ended is recorded first and deleted then (`sweep`). ADR 14.

mod apply;
pub mod check;
pub mod checks;
mod controller;
mod events;
pub mod execute;
pub mod judge;
pub mod machine;
mod observe;
pub mod plan;
pub mod resolve;
pub mod summarize;
mod sweep;

pub use controller::run;

#[cfg(test)]
#[path = "arbitrary_tests.rs"]
pub(super) mod arbitrary;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod simulation;

#[cfg(test)]
pub(crate) mod tests {
    //! Builders for the tests of this folder.

    use serde_json::{Value, json};

    use crate::api::{
        cassandra::CassandraDatacenter,
        fleet::{FleetRestoreJob, FleetRestoreJobStatus, Phase, RestorePlan, RestoreRun},
    };
    pub(crate) use crate::control_plane::fanout::tests::{live, plane, silent};

    /// A FleetRestoreJob of a FleetBackup.
    pub(crate) fn restore_job(name: &str, backup: &str) -> FleetRestoreJob {
        job_with(name, json!({"backup": backup}))
    }

    /// A FleetRestoreJob with this spec.
    pub(crate) fn job_with(name: &str, spec: Value) -> FleetRestoreJob {
        let mut spec = spec;
        for (field, value) in
            [("order", json!("Parallel")), ("startDeadlineSeconds", json!(1800)), ("dryRun", json!(false))]
        {
            spec.as_object_mut().unwrap().entry(field).or_insert(value);
        }
        serde_json::from_value(json!({
            "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetRestoreJob",
            "metadata": {"name": name, "namespace": "medusa-fleet", "creationTimestamp": "2026-01-01T00:00:00Z",
                "uid": "0b1c2d3e-0000-0000-0000-000000000000"},
            "spec": spec,
        }))
        .unwrap()
    }

    /// A datacenter of three nodes in cluster `shop`, ready to be restored.
    pub(crate) fn datacenter(name: &str, cluster: &str) -> CassandraDatacenter {
        serde_json::from_value(json!({
            "apiVersion": "cassandra.datastax.com/v1beta1", "kind": "CassandraDatacenter",
            "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}"),
                "labels": {"fleet.k8ssandra.io/cluster": cluster}},
            "spec": {"clusterName": cluster, "size": 3, "podTemplateSpec": {"spec": {
                "initContainers": [{"name": "medusa-restore"}], "containers": [{"name": "medusa", "image": "m:1"}]}}}
        }))
        .unwrap()
    }

    /// The status of a restore `back` that has begun in these datacenters, named `<plane>/<datacenter>`.
    pub(crate) fn running(places: &[&str]) -> FleetRestoreJobStatus {
        let split = |place: &str| {
            let (plane, dc) = place.split_once('/').unwrap();
            (plane.to_owned(), dc.to_owned(), format!("back-{dc}-0b1c2d3e"))
        };
        FleetRestoreJobStatus {
            phase: Some(Phase::Running),
            cluster: Some("shop".to_owned()),
            plan: places
                .iter()
                .map(|place| {
                    let (data_plane, datacenter, job) = split(place);
                    let (namespace, medusa_backup) = ("ns".to_owned(), "b1".to_owned());
                    RestorePlan {
                        data_plane,
                        namespace,
                        datacenter,
                        medusa_backup,
                        job,
                        ..RestorePlan::default()
                    }
                })
                .collect(),
            datacenters: places
                .iter()
                .map(|place| {
                    let (data_plane, datacenter, job) = split(place);
                    let namespace = "ns".to_owned();
                    RestoreRun { data_plane, namespace, datacenter, job: Some(job), ..RestoreRun::default() }
                })
                .collect(),
            ..FleetRestoreJobStatus::default()
        }
    }
}
