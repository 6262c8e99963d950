//! What a listing of the storage means for the MedusaBackups of one datacenter.
//!
//! Pure. An object is made or refreshed from what is listed; one is removed only where its absence is
//! certain. It is not where
//! - the object was not there before the storage was listed (`known` is read before), so that a backup that
//!   ended meanwhile may be missing from the list;
//! - a job of its name is not over;
//! - its nodes are of another datacenter, whatever its spec says;
//! - nothing that is known here is listed, so that bucket or prefix may be another, or the listing empty;
//! - a second listing, by another pod where there is one, does not say the same ([`SyncPlan::confirm`]).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ObjectMeta, Preconditions};

use crate::{
    api::{
        cassandra::CassandraDatacenter,
        medusa::{
            BackupNode, BackupType, MedusaBackup, MedusaBackupJob, MedusaBackupSpec, MedusaBackupStatus,
        },
        names, size,
    },
    data_plane::{
        frame::objects::this_version,
        medusa::{
            client::proto::{BackupSummary, StatusType},
            summary::{fitting, is_ours, own_nodes},
        },
    },
};

/// Why an object that cannot be read, or one that is called like it, is left alone.
const UNREADABLE: &str = "what stands in Kubernetes under that name cannot be read; correct it, or delete it";
/// Most names in one note.
const MAX_NAMES: usize = 5;

/// What the namespace held before the storage was listed.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Its MedusaBackups, whatever their datacenter.
    pub backups: Vec<MedusaBackup>,
    /// Its MedusaBackupJobs.
    pub jobs: Vec<MedusaBackupJob>,
    /// Names of those of either kind that cannot be read: nothing of these names is touched.
    pub unreadable: BTreeSet<String>,
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum SyncChange {
    /// A MedusaBackup is to be made, status and all.
    Create(Box<MedusaBackup>),
    /// A MedusaBackup's status is to become this.
    Refresh {
        /// Its name.
        name: String,
        /// The version this was decided on.
        this: Preconditions,
        /// The whole status.
        status: Box<MedusaBackupStatus>,
    },
    /// A MedusaBackup is to go, and before it the finished job that made it.
    Remove {
        /// Its name.
        name: String,
        /// The version this was decided on.
        this: Preconditions,
        /// The job's, where there is one.
        job: Option<Preconditions>,
    },
}

/// What to do, and what is left alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SyncPlan {
    /// Creations and refreshments.
    pub changes: Vec<SyncChange>,
    /// Removals, to be confirmed.
    pub removals: Vec<SyncChange>,
    /// How many listed backups are this datacenter's.
    pub listed: usize,
    /// What was left alone and why, for people.
    pub notes: Vec<String>,
    /// Why nothing may be removed though something is not listed.
    pub doubt: Option<String>,
}

/// What `listing` means for the MedusaBackups of `dc`, given what was `known` before it was made.
#[must_use]
pub fn plan(listing: &[BackupSummary], known: &Known, dc: &CassandraDatacenter) -> SyncPlan {
    let listed: BTreeMap<&str, &BackupSummary> =
        listing.iter().map(|summary| (summary.backup_name.as_str(), summary)).collect();
    let existing: BTreeMap<&str, &MedusaBackup> =
        known.backups.iter().filter_map(|b| Some((b.metadata.name.as_deref()?, b))).collect();
    let unfinished: BTreeSet<&str> =
        known.jobs.iter().filter(|job| !is_over(job)).filter_map(|j| j.metadata.name.as_deref()).collect();
    let name = dc.metadata.name.as_deref().unwrap_or_default();
    let is_of_dc = |backup: &MedusaBackup| backup.spec.cassandra_datacenter == name;
    let mut plan = SyncPlan::default();
    let mut left: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, summary) in &listed {
        let nodes = own_nodes(summary, dc);
        match existing.get(name) {
            _ if known.unreadable.contains(*name) => {
                plan.listed += usize::from(!nodes.is_empty());
                left.entry(UNREADABLE).or_default().push(name);
            }
            Some(backup) if is_of_dc(backup) && nodes.is_empty() => {
                left.entry("listed for another datacenter's nodes").or_default().push(name);
            }
            _ if nodes.is_empty() => {}
            Some(backup) if !is_of_dc(backup) => {
                plan.listed += 1;
                left.entry("the name belongs to another datacenter's MedusaBackup").or_default().push(name);
            }
            _ if unfinished.contains(name) => left.entry("its job is not over").or_default().push(name),
            Some(backup) => {
                plan.listed += 1;
                plan.changes.extend(refresh(backup, summary, nodes));
            }
            None if !is_whole(summary, &nodes) => left.entry("not complete").or_default().push(name),
            None if names::dns_name(name) != *name => {
                plan.listed += 1;
                left.entry("not a name Kubernetes accepts").or_default().push(name);
            }
            None => {
                plan.listed += 1;
                plan.changes.push(SyncChange::Create(Box::new(new(summary, nodes, dc))));
            }
        }
    }
    let jobs: BTreeMap<&str, &MedusaBackupJob> =
        known.jobs.iter().filter_map(|j| Some((j.metadata.name.as_deref()?, j))).collect();
    let mut is_any_listed = false;
    for (name, backup) in existing.iter().filter(|(_, backup)| is_of_dc(backup)) {
        if listed.contains_key(name) {
            is_any_listed = true;
        } else if known.unreadable.contains(*name) {
            left.entry(UNREADABLE).or_default().push(name);
        } else if unfinished.contains(name) {
            left.entry("not listed, but its job is not over").or_default().push(name);
        } else if is_foreign(backup, dc) {
            left.entry("not listed, but its nodes are another datacenter's").or_default().push(name);
        } else if backup.metadata.deletion_timestamp.is_none() {
            let job =
                jobs.get(name).filter(|j| j.spec.cassandra_datacenter == backup.spec.cassandra_datacenter);
            plan.removals.push(SyncChange::Remove {
                name: (*name).to_owned(),
                this: this_version(&backup.metadata),
                job: job.map(|job| this_version(&job.metadata)),
            });
        }
    }
    if !is_any_listed && !plan.removals.is_empty() {
        plan.doubt = Some(doubt(listing.len(), &plan.removals, name));
        plan.removals.clear();
    }
    plan.notes =
        left.into_iter().map(|(why, names)| format!("{}: {why}", names::listed(&names, MAX_NAMES))).collect();
    plan
}

impl SyncPlan {
    /// The plan after the `second` listing, nothing when there was none. Only what that does not hold either
    /// is removed; one that holds nothing at all confirms nothing. `first` is the pod that listed first.
    #[must_use]
    pub fn confirm(mut self, first: &str, second: Option<&[BackupSummary]>) -> Self {
        let wanted = self.removals.len();
        let Some(second) = second.filter(|second| !second.is_empty()) else {
            self.removals.clear();
            self.doubt = Some(format!(
                "{wanted} MedusaBackups are not in the storage by the word of {first}, which no second listing \
                 confirms, so none was removed; create another sync"
            ));
            return self;
        };
        let listed: BTreeSet<&str> = second.iter().map(|summary| summary.backup_name.as_str()).collect();
        self.removals.retain(|change| match change {
            SyncChange::Remove { name, .. } => !listed.contains(name.as_str()),
            SyncChange::Create(_) | SyncChange::Refresh { .. } => true,
        });
        let kept = wanted.saturating_sub(self.removals.len());
        if kept > 0 {
            self.notes.push(format!(
                "{kept} MedusaBackups not listed by {first}: another listing, right after, does not say the same"
            ));
        }
        self
    }
}

fn doubt(listed: usize, removals: &[SyncChange], dc: &str) -> String {
    let names: Vec<&str> = removals
        .iter()
        .filter_map(|change| match change {
            SyncChange::Remove { name, .. } => Some(name.as_str()),
            SyncChange::Create(_) | SyncChange::Refresh { .. } => None,
        })
        .collect();
    let found = if listed == 0 { "no backup at all".to_owned() } else { format!("{listed} backups") };
    format!(
        "the storage lists {found}, but none of the {} MedusaBackups of CassandraDatacenter `{dc}` ({}), so \
         none was removed: check bucket and prefix (storageProperties of the cluster and its \
         MedusaConfiguration). If the backups are really gone, delete the objects by hand (kubectl delete \
         medusabackup); that deletes no data",
        names.len(),
        names::listed(&names, MAX_NAMES)
    )
}

fn is_over(job: &MedusaBackupJob) -> bool {
    job.status.as_ref().is_some_and(|s| s.finish_time.is_some())
}

/// Whether a MedusaBackup's own nodes say that it is of another datacenter.
fn is_foreign(backup: &MedusaBackup, dc: &CassandraDatacenter) -> bool {
    let nodes = backup.status.iter().flat_map(|s| &s.nodes);
    nodes.filter_map(|n| n.datacenter.as_deref()).any(|datacenter| !is_ours(datacenter, dc))
}

/// Whether every node of the summary is done. One that covers more nodes than its token map names was taken
/// by two datacenters under one name; SUCCESS then holds for the nodes it names (upstream: Backups).
pub(super) fn is_whole(summary: &BackupSummary, own: &[BackupNode]) -> bool {
    let own = i32::try_from(own.len()).unwrap_or(i32::MAX);
    summary.status() == StatusType::Success
        && summary.total_nodes >= own
        && summary.finished_nodes >= summary.total_nodes
}

/// The status a summary asks for. Nodes of other datacenters are not counted; files and bytes are the whole
/// summary's, as Medusa does not tell them apart.
fn status(summary: &BackupSummary, nodes: Vec<BackupNode>) -> MedusaBackupStatus {
    let time = |second: i64| Timestamp::from_second(second).ok().filter(|_| second > 0).map(Time);
    let total = i32::try_from(nodes.len()).unwrap_or(i32::MAX);
    let is_whole = is_whole(summary, &nodes);
    let word = if is_whole || summary.status() != StatusType::Success {
        summary.status()
    } else {
        StatusType::InProgress
    };
    MedusaBackupStatus {
        start_time: time(summary.start_time),
        finish_time: time(summary.finish_time),
        total_nodes: Some(total),
        finished_nodes: Some(if is_whole { total } else { summary.finished_nodes.clamp(0, total) }),
        nodes: fitting(nodes),
        total_files: Some(summary.total_objects),
        total_size: Some(size::humanize(summary.total_size)),
        status: Some(word.as_str_name().to_owned()),
    }
}

fn new(summary: &BackupSummary, nodes: Vec<BackupNode>, dc: &CassandraDatacenter) -> MedusaBackup {
    MedusaBackup {
        metadata: ObjectMeta {
            name: Some(summary.backup_name.clone()),
            namespace: dc.metadata.namespace.clone(),
            labels: Some(dc.datacenter_labels().into()),
            ..ObjectMeta::default()
        },
        spec: MedusaBackupSpec {
            cassandra_datacenter: dc.metadata.name.clone().unwrap_or_default(),
            backup_type: if summary.backup_type == "full" {
                BackupType::Full
            } else {
                BackupType::Differential
            },
        },
        status: Some(status(summary, nodes)),
    }
}

/// The new status of a MedusaBackup that says something else than the storage. Times that it has stay: its
/// job knew them better.
fn refresh(backup: &MedusaBackup, summary: &BackupSummary, nodes: Vec<BackupNode>) -> Option<SyncChange> {
    let old = backup.status.clone().unwrap_or_default();
    let listed = status(summary, nodes);
    let mut new = MedusaBackupStatus {
        start_time: old.start_time.clone().or(listed.start_time),
        finish_time: old.finish_time.clone().or(listed.finish_time),
        ..listed
    };
    if sorted(&old.nodes) == sorted(&new.nodes) {
        new.nodes.clone_from(&old.nodes);
    }
    (new != old).then(|| SyncChange::Refresh {
        name: summary.backup_name.clone(),
        this: this_version(&backup.metadata),
        status: Box::new(new),
    })
}

/// Medusa lists nodes in no order.
fn sorted(nodes: &[BackupNode]) -> Vec<&BackupNode> {
    let mut all: Vec<&BackupNode> = nodes.iter().collect();
    all.sort_unstable_by_key(|n| (&n.host, &n.tokens, &n.datacenter, &n.rack));
    all
}

#[cfg(test)]
#[path = "sync_plan_tests.rs"]
mod tests;
