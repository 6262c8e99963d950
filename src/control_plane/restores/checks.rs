//! The pre-checks of one datacenter. All of them pass in every datacenter before any stops. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use super::{
    check::Topic,
    resolve::{Place, Target},
};
use crate::{
    api::{
        Reason, Seen, Why,
        cassandra::CassandraDatacenter,
        fleet::{MedusaController, RestoreCheck},
        labels,
        medusa::{MedusaBackupJob, MedusaRestoreJob, MedusaTask, TaskOperation},
        unreadable::UnreadableWork,
    },
    control_plane::{
        data_planes::{capabilities::Feature, fleet::Snapshot, records::BackupRecord, view::ObjectKey},
        inventory::verdict::topology_matches,
        runs::{
            child::Child,
            imports::{self, Wordless},
            reach::obstacle,
        },
    },
};

/// What is at work in one namespace, whoever began it.
#[derive(Clone, Debug, Default)]
pub struct Works {
    pub backups: Vec<MedusaBackupJob>,
    pub tasks: Vec<MedusaTask>,
    pub restores: Vec<MedusaRestoreJob>,
    /// Any of these that cannot be read.
    pub unreadable: Vec<UnreadableWork>,
}

/// What was read of the data planes for the checks: fresher and wider than the views, which leave out other
/// people's jobs.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// By data plane and namespace; an error says why it is not known.
    pub works: BTreeMap<(String, String), Result<Works, String>>,
    /// The MedusaBackups of the plan that exist, by data plane. Read after the works, so that what a finished
    /// sync made is among them.
    pub backups: BTreeMap<(String, ObjectKey), BackupRecord>,
}

/// Checks one target. `own` is the name and label of what this FleetRestoreJob makes there.
#[must_use]
pub fn checks(
    target: &Target,
    planes: &[Snapshot],
    observed: &Observed,
    own: &Own<'_>,
    now: Timestamp,
) -> Vec<RestoreCheck> {
    let place = &target.place;
    let plane = match reach(place, planes) {
        Ok(plane) => plane,
        Err(Why { reason: reason @ Reason::UnknownDataPlane, message }) => {
            return vec![Topic::DataPlane.failed(reason, message)];
        }
        Err(Why { reason, message }) => return vec![Topic::DataPlane.waiting(reason, message)],
    };
    let mut checks = vec![Topic::DataPlane.passed(), capability(plane)];
    let datacenter = match plane.view.seen(&plane.view.datacenters, &place.key) {
        Seen::Known(datacenter) if datacenter.metadata.deletion_timestamp.is_none() => datacenter,
        Seen::Known(_) | Seen::Absent => {
            let message = format!("CassandraDatacenter {} does not exist (any more)", place.key);
            checks.push(Topic::Datacenter.failed(Reason::DatacenterNotFound, message));
            return checks;
        }
        Seen::Unknown { why, .. } => {
            checks.push(Topic::Datacenter.waiting(Reason::DataPlaneUnreachable, why));
            return checks;
        }
    };
    checks.push(if datacenter.annotations().contains_key(labels::RESTORE) {
        Topic::Datacenter.waiting(Reason::RestoreRunning, "a MedusaRestoreJob is at work on it")
    } else if datacenter.spec.stopped {
        stopped(plane)
    } else {
        Topic::Datacenter.passed()
    });
    checks.push(medusa(datacenter));
    let works = match observed.works.get(&(place.data_plane.clone(), place.key.namespace.clone())) {
        Some(Ok(works)) => works,
        Some(Err(why)) => {
            checks.push(Topic::Backup.waiting(Reason::DataPlaneUnreachable, why.clone()));
            return checks;
        }
        None => {
            checks.push(Topic::Backup.waiting(Reason::Connecting, "it was not looked at yet"));
            return checks;
        }
    };
    let record = target.backup.as_ref().and_then(|name| {
        observed.backups.get(&(place.data_plane.clone(), ObjectKey::new(&place.key.namespace, name)))
    });
    match (&target.backup, record) {
        (None, _) => checks.push(Topic::Backup.failed(
            Reason::WrongDatacenter,
            format!(
                "the backup has no part of a datacenter that Cassandra calls `{}`; name one in \
                 spec.datacenters[].medusaBackup",
                datacenter.display_name()
            ),
        )),
        (Some(name), None) => checks.push(absent(name, plane, (datacenter, works), own, now)),
        (Some(name), Some(record)) => {
            checks.push(whole(name, record, datacenter));
            checks.push(topology(record, datacenter));
        }
    }
    checks.push(idle(&place.key.name, works, own));
    checks
}

/// What this FleetRestoreJob makes in a datacenter.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    /// Name of the MedusaRestoreJob, and of the MedusaTask.
    pub name: &'a str,
    /// Uid of the FleetRestoreJob, on the label of both.
    pub uid: &'a str,
}

/// The data plane of a place, when it can be used.
///
/// # Errors
/// Why it cannot: [`Reason::UnknownDataPlane`] when it is not registered.
pub fn reach<'a>(place: &Place, planes: &'a [Snapshot]) -> Result<&'a Snapshot, Why> {
    let name = &place.data_plane;
    let plane = planes.iter().find(|p| p.name == *name && !p.unregistering);
    let plane = plane.ok_or_else(|| {
        Why::new(Reason::UnknownDataPlane, format!("data plane `{name}` is not registered"))
    })?;
    obstacle(plane).map_or(Ok(plane), Err)
}

fn capability(plane: &Snapshot) -> RestoreCheck {
    // Without tasks nobody sees a running purge; where they are not served there is none.
    let tasks = plane.view.capabilities.allow(Feature::Tasks);
    let tasks = tasks.or_else(|lack| if lack.reason == Reason::NotServed { Ok(()) } else { Err(lack) });
    match plane.view.capabilities.allow(Feature::Restores).and(tasks) {
        Ok(()) => Topic::Capability.passed(),
        Err(lack) if lack.reason == Reason::Connecting => {
            Topic::Capability.waiting(lack.reason, lack.message)
        }
        Err(lack) => Topic::Capability.failed(lack.reason, lack.message),
    }
}

/// Whether a stopped datacenter can be restored: by the `data-plane` role. k8ssandra-operator asks a running Medusa
/// first, and without one tries for ever (upstream: Restores).
fn stopped(plane: &Snapshot) -> RestoreCheck {
    match plane.view.capabilities.controller.as_ref().map(|controller| controller.name.as_str()) {
        Some(MedusaController::OURS) => Topic::Datacenter.passed(),
        Some(other) => {
            let message = format!(
                "it is stopped, and {other} restores only a datacenter that runs; start it (spec.stopped: false, in its \
                 K8ssandraCluster if it has one)"
            );
            Topic::Datacenter.failed(Reason::DatacenterStopped, message)
        }
        None => {
            let message = "it is stopped, and no controller was found in its data plane that is known to restore such a \
                           datacenter; start it, or run `medusa-fleet data-plane` there and let the control plane see its \
                           Lease (kubeconfigs/data-plane-rbac.yaml)";
            Topic::Datacenter.waiting(Reason::DatacenterStopped, message)
        }
    }
}

fn medusa(datacenter: &CassandraDatacenter) -> RestoreCheck {
    if datacenter.medusa_container().is_none() {
        let message = "its pods have no container `medusa`; deploy Medusa there (spec.medusa of its cluster)";
        return Topic::Medusa.failed(Reason::MedusaNotDeployed, message);
    }
    if !datacenter.has_restore_container() {
        let message = "its pods have no init container `medusa-restore`; deploy Medusa there (spec.medusa of its cluster)";
        return Topic::Medusa.failed(Reason::RestoreContainerMissing, message);
    }
    Topic::Medusa.passed()
}

/// There is no MedusaBackup of that name: one `sync` looks for it in the storage.
fn absent(
    name: &str,
    plane: &Snapshot,
    (datacenter, works): (&CassandraDatacenter, &Works),
    own: &Own<'_>,
    now: Timestamp,
) -> RestoreCheck {
    let task = works.tasks.iter().find(|t| t.metadata.name.as_deref() == Some(own.name));
    let Some(task) = task else {
        if let Err(lack) = plane.view.capabilities.allow(Feature::Tasks) {
            let message =
                format!("there is no MedusaBackup `{name}`, and no sync can look for it: {}", lack.message);
            return Topic::Backup.failed(lack.reason, message);
        }
        if datacenter.spec.stopped {
            let message = format!(
                "there is no MedusaBackup `{name}`, and no Medusa runs that could look for it; start the datacenter"
            );
            return Topic::Backup.failed(Reason::DatacenterStopped, message);
        }
        let message =
            format!("there is no MedusaBackup `{name}` yet; a sync has to look for it in the storage");
        return Topic::Backup.waiting(Reason::SyncNeeded, message);
    };
    if task.labels().get(labels::JOB_UID).map(String::as_str) != Some(own.uid) {
        let message = format!("MedusaTask `{}` exists and was not made by this restore", own.name);
        return Topic::Backup.failed(Reason::NameConflict, message);
    }
    let status = task.status.clone().unwrap_or_default();
    if status.finish_time.is_none() {
        let said = status.message.map(|m| format!(": {m}")).unwrap_or_default();
        let message =
            format!("MedusaTask `{}` looks for MedusaBackup `{name}` in the storage{said}", own.name);
        return Topic::Backup.waiting(Reason::Syncing, message);
    }
    // k8ssandra-operator calls a sync finished that no pod answered (upstream: Tasks).
    if let Some(said) = Wordless::of(task, &plane.view, now).and_then(|wordless| wordless.says()) {
        return Topic::Backup
            .waiting(Reason::Syncing, format!("there is no MedusaBackup `{name}` yet; {said}"));
    }
    if !status.failed.is_empty() || status.finished.is_empty() {
        let said = status.message.unwrap_or_else(|| "no pod answered it".to_owned());
        return Topic::Backup.failed(Reason::SyncFailed, format!("the sync `{}` failed: {said}", own.name));
    }
    // MedusaBackups and MedusaTasks come by different ways: what it found may be on its way. A clock that is ahead does not
    // make that longer.
    let ended = status.finish_time.map_or(now, |time| time.0);
    if (SignedDuration::ZERO..imports::GRACE).contains(&now.duration_since(ended)) {
        let message = format!("MedusaTask `{}` has ended; what it found is awaited", own.name);
        return Topic::Backup.waiting(Reason::Syncing, message);
    }
    let message = format!(
        "a sync found no backup `{name}` in the datacenter's storage; see that bucket and prefix are those of the backup"
    );
    Topic::Backup.failed(Reason::BackupNotFound, message)
}

fn whole(name: &str, record: &BackupRecord, datacenter: &CassandraDatacenter) -> RestoreCheck {
    let (total, finished) = (record.total_nodes, record.finished_nodes);
    if record.status != "SUCCESS" || finished != total || total <= 0 {
        let word = if record.status.is_empty() { "no status" } else { &record.status };
        let message = format!("MedusaBackup `{name}` says {word} with {finished} of {total} nodes");
        return Topic::Backup.failed(Reason::BackupIncomplete, message);
    }
    let own = datacenter.display_name();
    if record.node_datacenters.iter().any(|dc| *dc != own) {
        let message = format!(
            "MedusaBackup `{name}` is of {}, and Cassandra calls this datacenter `{own}`",
            record.node_datacenters.join(", ")
        );
        return Topic::Backup.failed(Reason::WrongDatacenter, message);
    }
    Topic::Backup.passed()
}

fn topology(record: &BackupRecord, datacenter: &CassandraDatacenter) -> RestoreCheck {
    if topology_matches(record, datacenter) {
        return Topic::Topology.passed();
    }
    let racks: Vec<String> = record.racks.iter().map(|(rack, n)| format!("{rack}: {n}")).collect();
    Topic::Topology.failed(
        Reason::TopologyMismatch,
        format!(
            "the backup has {} nodes ({}), the datacenter {} in racks {}; scale it to the backup's size first",
            record.total_nodes,
            racks.join(", "),
            datacenter.spec.size,
            datacenter.rack_names().join(", ")
        ),
    )
}

fn is_at_work(child: &impl Child, datacenter: &str) -> bool {
    child.datacenter() == datacenter && !child.is_finished()
}

/// Whether nothing is at work there that a restore would break, or that would break it.
fn idle(datacenter: &str, works: &Works, own: &Own<'_>) -> RestoreCheck {
    let is_others = |job: &&MedusaRestoreJob| {
        is_at_work(*job, datacenter) && job.labels().get(labels::JOB_UID).map(String::as_str) != Some(own.uid)
    };
    if let Some(job) = works.restores.iter().find(is_others) {
        let message = format!("MedusaRestoreJob `{}` is not over", job.name_any());
        return Topic::Idle.waiting(Reason::RestoreRunning, message);
    }
    if let Some(job) = works.backups.iter().find(|job| is_at_work(*job, datacenter)) {
        let message = format!("MedusaBackupJob `{}` is not over", job.name_any());
        return Topic::Idle.waiting(Reason::BackupRunning, message);
    }
    let is_purge =
        |task: &&MedusaTask| task.spec.operation == TaskOperation::Purge && is_at_work(*task, datacenter);
    if let Some(task) = works.tasks.iter().find(is_purge) {
        let message = format!("the purge MedusaTask `{}` is not over", task.name_any());
        return Topic::Idle.waiting(Reason::PurgeRunning, message);
    }
    match works.unreadable.iter().find(|work| work.may_concern(datacenter)) {
        Some(work) => {
            let message = format!(
                "{} `{}` cannot be read and may be at work; correct it, or delete it",
                work.kind,
                work.name()
            );
            Topic::Idle.waiting(work.reason(), message)
        }
        None => Topic::Idle.passed(),
    }
}
