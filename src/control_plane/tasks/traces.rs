//! MedusaBackupJobs that were left when their FleetBackupJob went, as they alone told of what nodes hold: they go once no
//! purge has to know of it any more. Pure.
//!
//! A purge keeps the newest complete restore point, and so only what began after that matters (`retention.rs`).

use std::collections::BTreeSet;

use kube::{Resource as _, ResourceExt as _};

use crate::{
    api::{fleet::FleetBackupStatus, labels, medusa::MedusaBackupJob},
    control_plane::{
        data_planes::{
            fleet::{Snapshot, Usable},
            view::ObjectKey,
        },
        identity::Identity,
        runs::child::{Child as _, ExactObject},
    },
};

/// Finds those in data planes that answer. `runs` are the uids of all FleetBackupJobs there are, `points` all
/// restore points.
#[must_use]
pub(super) fn outlived(
    planes: &[Snapshot],
    runs: &BTreeSet<String>,
    points: &[&FleetBackupStatus],
    control_plane: &Identity,
) -> Vec<ExactObject> {
    let mut found = Vec::new();
    for plane in planes.iter().filter(|plane| plane.usable == Usable::Ready) {
        for (key, job) in plane.view.jobs.last_known() {
            let is_ours = control_plane.wrote(&job.metadata) && !control_plane.is_inherited(&job.metadata);
            let is_left = job.labels().get(labels::JOB_UID).is_some_and(|uid| !runs.contains(uid));
            let is_deleted = job.meta().deletion_timestamp.is_some();
            let is_trace = job.is_finished() && job.is_only_trace(&plane.view, key);
            if is_ours && is_left && is_trace && !is_deleted && is_outlived(&plane.name, key, job, points) {
                found.extend(ExactObject::of(plane, job.as_ref()));
            }
        }
    }
    found
}

/// Whether a complete restore point began in the job's datacenter after the job had ended.
fn is_outlived(
    data_plane: &str,
    key: &ObjectKey,
    job: &MedusaBackupJob,
    points: &[&FleetBackupStatus],
) -> bool {
    let end = job.status.as_ref().and_then(|status| status.finish_time.as_ref()).map(|time| time.0);
    let Some(end) = end else { return false };
    points.iter().filter(|point| point.complete).flat_map(|point| &point.datacenters).any(|part| {
        part.data_plane == data_plane
            && part.namespace == key.namespace
            && part.name == job.spec.cassandra_datacenter
            && part.start_time.as_ref().is_some_and(|start| start.0 > end)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::control_plane::{
        data_planes::records::BackupRecord,
        fanout::tests::{datacenter, live, plane},
    };

    fn job(uid: &str, control_plane: &str, status: &Value) -> MedusaBackupJob {
        let labels = json!({labels::CONTROL_PLANE: control_plane, labels::JOB_UID: uid});
        let metadata =
            json!({"name": "n", "namespace": "ns", "uid": "u", "resourceVersion": "7", "labels": labels});
        serde_json::from_value(
            json!({"metadata": metadata, "spec": {"cassandraDatacenter": "dc1"}, "status": status}),
        )
        .unwrap()
    }

    fn point(complete: bool, start: &str) -> FleetBackupStatus {
        serde_json::from_value(json!({"cluster": "shop", "complete": complete, "datacenters": [
            {"dataPlane": "eu", "namespace": "ns", "name": "dc1", "medusaBackup": "p", "startTime": start},
        ]}))
        .unwrap()
    }

    const BEFORE: &str = "2026-01-01T00:00:00Z";
    const AFTER: &str = "2026-01-03T00:00:00Z";

    #[test]
    fn a_trace_goes_once_its_run_is_gone_and_a_newer_complete_restore_point_is_there() {
        let ended = json!({"startTime": "2026-01-02T00:00:00Z", "finishTime": "2026-01-02T00:01:00Z"});
        let found = |job: MedusaBackupJob, has_backup: bool, point: &FleetBackupStatus| {
            let mut view = live(&[datacenter("dc1", 1)]);
            let key = ObjectKey::new("ns", "n");
            if has_backup {
                view.backups.put(key.clone(), Arc::new(BackupRecord::default()));
            }
            view.jobs.put(key, Arc::new(job));
            outlived(&[plane("eu", view)], &["there".to_owned()].into(), &[point], &Identity::named("cp"))
                .len()
        };
        assert_eq!(found(job("gone", "cp", &ended), false, &point(true, AFTER)), 1);
        assert_eq!(
            found(job("there", "cp", &ended), false, &point(true, AFTER)),
            0,
            "its run goes on events of it"
        );
        assert_eq!(found(job("gone", "other", &ended), false, &point(true, AFTER)), 0, "it is another's");
        let mut earlier = job("gone", "cp", &ended);
        earlier.metadata.annotations = Some([(labels::INSTALLATION.to_owned(), "earlier".to_owned())].into());
        assert_eq!(found(earlier, false, &point(true, AFTER)), 0, "its run may be created again");
        assert_eq!(found(job("gone", "cp", &ended), true, &point(true, AFTER)), 0, "a person deletes that");
        assert_eq!(
            found(job("gone", "cp", &ended), false, &point(true, BEFORE)),
            0,
            "a purge has to count it"
        );
        assert_eq!(
            found(job("gone", "cp", &ended), false, &point(false, AFTER)),
            0,
            "that is no restore point"
        );
        let goes_on = json!({"startTime": "2026-01-02T00:00:00Z"});
        assert_eq!(found(job("gone", "cp", &goes_on), false, &point(true, AFTER)), 0);
    }
}
