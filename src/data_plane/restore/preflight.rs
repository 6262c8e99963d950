//! Whether a restore can end well. Everything here is asked before anything stops.
//!
//! Pure. What stands in the way is a [`Problem`]: it names the field and what to do about it.

use std::collections::BTreeSet;

use super::{
    hostmap,
    lock::LockHolder,
    names::RackSet,
    template::{self, CONTAINER, CREDENTIALS_PATH},
    view::Set,
};
use crate::{
    api::{
        Reason,
        cassandra::CassandraDatacenter,
        labels,
        medusa::{
            BackupNode, CREDENTIALS_KEY, MedusaBackup, MedusaBackupJob, MedusaRestoreJob, MedusaTask,
            RestoreMapping, TaskOperation,
        },
        unreadable::UnreadableWork,
    },
    data_plane::{
        frame::{outcome::RunStatus, problem::Problem},
        medusa::client::{
            CallError,
            proto::{BackupSummary, StatusType},
        },
    },
};

/// Whether the pod template can be told to restore.
///
/// # Errors
/// When it has no container `medusa-restore`.
pub fn can_restore(datacenter: &str, template: &serde_json::Value) -> Result<(), Problem> {
    if template::has_container(template) {
        return Ok(());
    }
    Err(Problem::new(
        Reason::RestoreContainerMissing,
        format!(
            "spec.podTemplateSpec of CassandraDatacenter `{datacenter}` has no init container `{CONTAINER}`; \
             deploy Medusa there (spec.medusa of its cluster)"
        ),
    ))
}

/// What else goes on in the job's namespace.
#[derive(Clone, Debug, Default)]
pub struct Elsewhere {
    /// Restores, this one among them.
    pub restores: Vec<MedusaRestoreJob>,
    /// Backups.
    pub backups: Vec<MedusaBackupJob>,
    /// Tasks.
    pub tasks: Vec<MedusaTask>,
    /// Any of these that cannot be read.
    pub unreadable: Vec<UnreadableWork>,
}

/// Whether nobody else is at work on the datacenter: `claim` is what its annotation says. Of two restores that
/// could begin at the same time the older one does. A running backup would fail, and a running purge may
/// delete what is to be restored.
///
/// # Errors
/// Who is in the way.
pub fn is_alone(job: &MedusaRestoreJob, claim: &LockHolder, elsewhere: &Elsewhere) -> Result<(), Problem> {
    let datacenter = &job.spec.cassandra_datacenter;
    let busy = |other: &str| {
        Problem::new(
            Reason::RestoreRunning,
            format!(
                "MedusaRestoreJob `{other}` is at work on CassandraDatacenter `{datacenter}`; this one begins \
                 when that has ended or is deleted"
            ),
        )
    };
    match claim {
        LockHolder::Other(lock) => return Err(busy(&lock.job)),
        LockHolder::Unreadable => {
            return Err(Problem::new(
                Reason::RestoreRunning,
                format!(
                    "annotation {} of CassandraDatacenter `{datacenter}` cannot be read; remove it if no \
                     restore is at work there",
                    labels::RESTORE
                ),
            ));
        }
        LockHolder::Free | LockHolder::Ours(_) | LockHolder::Orphan(_) => {}
    }
    if let Some(other) = elsewhere.restores.iter().find(|other| goes_first(other, job)) {
        return Err(busy(other.metadata.name.as_deref().unwrap_or_default()));
    }
    let wait = |reason, kind: &str, name: Option<&String>| {
        let name = name.map(String::as_str).unwrap_or_default();
        Err(Problem::new(
            reason,
            format!(
                "{kind} `{name}` is at work on CassandraDatacenter `{datacenter}`; the restore begins when it \
                 has ended or is deleted"
            ),
        ))
    };
    let backup = elsewhere.backups.iter().find(|backup| {
        backup.metadata.deletion_timestamp.is_none()
            && backup.spec.cassandra_datacenter == *datacenter
            && backup.status.as_ref().is_some_and(RunStatus::is_under_way)
    });
    if let Some(backup) = backup {
        return wait(Reason::BackupRunning, "MedusaBackupJob", backup.metadata.name.as_ref());
    }
    let purge = elsewhere.tasks.iter().find(|task| {
        task.metadata.deletion_timestamp.is_none()
            && task.spec.operation == TaskOperation::Purge
            && task.spec.cassandra_datacenter == *datacenter
            && task.status.as_ref().is_some_and(RunStatus::is_under_way)
    });
    if let Some(purge) = purge {
        return wait(Reason::PurgeRunning, "the purge MedusaTask", purge.metadata.name.as_ref());
    }
    // A restore that cannot be read is none that this controller works on; what it had begun is in the claim.
    let is_work =
        |work: &&UnreadableWork| work.kind != "MedusaRestoreJob" && work.may_be_at_work_on(datacenter);
    match elsewhere.unreadable.iter().find(is_work) {
        Some(work) => Err(Problem::new(
            work.reason(),
            format!(
                "{} `{}` cannot be read and may be at work on CassandraDatacenter `{datacenter}`; correct it, or \
                 delete it",
                work.kind,
                work.name()
            ),
        )),
        None => Ok(()),
    }
}

/// Whether `other` has to end before `job` may begin: it is past its checks, or it is older. One that waits
/// for something else (its message says for what) lets younger ones go first.
fn goes_first(other: &MedusaRestoreJob, job: &MedusaRestoreJob) -> bool {
    let order = |j: &MedusaRestoreJob| {
        (j.metadata.creation_timestamp.clone().map(|time| time.0), j.metadata.name.clone())
    };
    let status = other.status.as_ref();
    let is_under_way = status.is_some_and(|s| s.restore_prepared == Some(true));
    let is_waiting = status.is_some_and(|s| s.message.is_some());
    other.metadata.uid != job.metadata.uid
        && other.spec.cassandra_datacenter == job.spec.cassandra_datacenter
        && status.is_none_or(|s| s.finish_time.is_none())
        && (is_under_way
            || (other.metadata.deletion_timestamp.is_none() && !is_waiting && order(other) < order(job)))
}

/// Whether the storage's credentials are there: `secret` names the Secret mounted for them, `keys` are its
/// keys, nothing when it does not exist.
///
/// # Errors
/// What is missing.
pub fn has_credentials(secret: &str, keys: Option<&BTreeSet<String>>) -> Result<(), Problem> {
    let missing = |reason, what: &str| {
        Err(Problem::new(
            reason,
            format!(
                "Secret `{secret}`, mounted at {CREDENTIALS_PATH} of container `{CONTAINER}`, {what}; without \
                 it no pod can read the storage"
            ),
        ))
    };
    match keys {
        None => missing(Reason::SecretNotFound, "does not exist"),
        Some(keys) if !keys.contains(CREDENTIALS_KEY) => {
            missing(Reason::SecretKeyMissing, &format!("has no key `{CREDENTIALS_KEY}`"))
        }
        Some(_) => Ok(()),
    }
}

/// Whether the datacenter's StatefulSets have the names we expect: host mapping and progress go by them.
///
/// # Errors
/// Which one is missing.
pub fn has_sets(racks: &[RackSet], sets: &[Set]) -> Result<(), Problem> {
    match racks.iter().find(|rack| !sets.iter().any(|set| set.name == rack.set)) {
        None => Ok(()),
        Some(rack) => Err(Problem::new(
            Reason::TopologyMismatch,
            format!(
                "rack `{}` has no StatefulSet `{}`; is cass-operator done creating the datacenter?",
                rack.rack, rack.set
            ),
        )),
    }
}

/// There is no MedusaBackup of that name.
#[must_use]
pub fn unknown_backup(name: &str, namespace: &str) -> Problem {
    Problem::new(
        Reason::BackupNotFound,
        format!(
            "spec.backup: there is no MedusaBackup `{name}` in namespace `{namespace}`; a MedusaTask with \
             operation `sync` creates the MedusaBackups of what the storage holds"
        ),
    )
}

/// Nobody can be asked about the backup.
#[must_use]
pub fn nobody_to_ask() -> Problem {
    Problem::new(
        Reason::NodeUnreachable,
        "no pod of the datacenter has a Medusa with an address, so nobody can confirm the backup; start the \
         datacenter, or stop it (spec.stopped) to restore it by its MedusaBackup alone"
            .to_owned(),
    )
}

/// Medusa did not confirm the backup: it did not answer, or says that it cannot.
#[must_use]
pub fn unanswered(name: &str, error: CallError) -> Problem {
    match error {
        CallError::Refused(why) => refused(name, &why),
        CallError::Silent(why) => Problem::new(
            Reason::NodeUnreachable,
            format!("GetBackup: no Medusa has confirmed backup `{name}` yet: {why}"),
        ),
    }
}

/// The storage no longer holds the backup, or Medusa cannot say what it holds: `why` are its words.
fn refused(name: &str, why: &str) -> Problem {
    if why.contains("does not exist") {
        return Problem::for_good(
            Reason::BackupNotFound,
            format!(
                "spec.backup: Medusa finds no backup `{name}` in the storage ({why}); the MedusaBackup is out \
                 of date: a MedusaTask with operation `sync` removes it"
            ),
        );
    }
    Problem::new(
        Reason::NodeUnreachable,
        format!("Medusa could not say whether backup `{name}` is whole: {why}"),
    )
}

/// What the MedusaBackup says about the backup: its nodes.
///
/// # Errors
/// When it is not a whole backup of this datacenter.
pub fn of_object(backup: &MedusaBackup, dc: &CassandraDatacenter) -> Result<Vec<BackupNode>, Problem> {
    let status = backup.status.clone().unwrap_or_default();
    let facts = PreflightFacts {
        name: backup.metadata.name.as_deref().unwrap_or_default(),
        source: "status of the MedusaBackup",
        is_success: status.status.as_deref() == Some("SUCCESS"),
        has_ended: status.finish_time.is_some(),
        total: status.total_nodes.unwrap_or_default(),
        finished: status.finished_nodes.unwrap_or_default(),
    };
    check(&facts, &status.nodes, dc)?;
    Ok(status.nodes)
}

/// The same from Medusa itself.
///
/// # Errors
/// When it is not a whole backup of this datacenter.
pub fn of_summary(summary: &BackupSummary, dc: &CassandraDatacenter) -> Result<Vec<BackupNode>, Problem> {
    let facts = PreflightFacts {
        name: &summary.backup_name,
        source: "storage, as Medusa reads it now",
        is_success: summary.status() == StatusType::Success,
        has_ended: summary.finish_time > 0,
        total: summary.total_nodes,
        finished: summary.finished_nodes,
    };
    let nodes: Vec<BackupNode> = summary
        .nodes
        .iter()
        .map(|node| BackupNode {
            host: Some(node.host.clone()),
            tokens: Vec::new(),
            datacenter: Some(node.datacenter.clone()),
            rack: Some(node.rack.clone()),
        })
        .collect();
    check(&facts, &nodes, dc)?;
    Ok(nodes)
}

/// The mapping of a whole backup's nodes onto the datacenter's pods.
///
/// # Errors
/// When the topologies differ.
pub fn mapping(nodes: &[BackupNode], racks: &[RackSet]) -> Result<RestoreMapping, Problem> {
    hostmap::map(nodes, racks)
        .map_err(|problem| Problem { message: format!("spec.backup: {}", problem.message), ..problem })
}

struct PreflightFacts<'a> {
    name: &'a str,
    source: &'a str,
    is_success: bool,
    has_ended: bool,
    total: i32,
    finished: i32,
}

fn check(facts: &PreflightFacts<'_>, nodes: &[BackupNode], dc: &CassandraDatacenter) -> Result<(), Problem> {
    let PreflightFacts { name, source, is_success, has_ended, total, finished } = *facts;
    if !is_success || !has_ended || finished != total || total == 0 {
        let end = if has_ended { "" } else { ", without a finish time" };
        let state = if is_success { "SUCCESS" } else { "not SUCCESS" };
        return Err(Problem::for_good(
            Reason::BackupIncomplete,
            format!(
                "spec.backup: `{name}` is not a whole backup: the {source} says {state} with {finished} of \
                 {total} nodes{end}; restore another one"
            ),
        ));
    }
    let other = nodes.iter().filter_map(|n| n.datacenter.as_deref()).find(|d| *d != dc.display_name());
    if let Some(other) = other {
        return Err(Problem::for_good(
            Reason::WrongDatacenter,
            format!(
                "spec.backup: `{name}` is a backup of Cassandra datacenter `{other}`, not of `{}`; data can be \
                 restored only into a datacenter of the same Cassandra name",
                dc.display_name()
            ),
        ));
    }
    let count = i32::try_from(nodes.len()).unwrap_or(i32::MAX);
    if total != dc.spec.size || count != total {
        return Err(Problem::for_good(
            Reason::TopologyMismatch,
            format!(
                "spec.backup: `{name}` has {total} nodes ({count} listed), the datacenter {}; scale the \
                 datacenter to the backup's size first",
                dc.spec.size
            ),
        ));
    }
    Ok(())
}
