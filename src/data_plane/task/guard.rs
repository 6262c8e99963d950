//! Whether a purge leaves its datacenter the newest backup that is whole, by what the storage itself holds.
//!
//! Pure. Kubernetes' objects do not tell of all that Medusa counts: a failed backup has no MedusaBackup, and
//! its MedusaBackupJob may be deleted by anybody. Medusa's own listing has every backup of which a node has written a part,
//! whatever became of it and whoever began it, so this holds whatever was deleted (ADR 22).
//!
//! It counts for every purge, also one that a person or a schedule made. Limits that nobody knows count at their worst.
//! Only where no `medusa.ini` is found at all, as Medusa was deployed by somebody else in a way of their own, is a purge
//! let through that no control plane made: one that a control plane made has a restore point to keep and says which.

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::sync_plan::is_whole;
use crate::{
    api::{
        Reason,
        cassandra::CassandraDatacenter,
        labels,
        medusa::{MedusaTask, TaskOperation},
        retention::{Held, Limits, begun_by, survives},
    },
    data_plane::{
        frame::problem::Problem,
        medusa::{client::proto::BackupSummary, summary::own_nodes},
    },
};

/// What a purge must not remove, and by which limits it works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The backup that the task names as the one to be kept.
    keep: Option<String>,
    limits: Limits,
}

impl Guard {
    /// What `task` has to be held to; nothing when it is no purge, somebody wants it unchecked, or its limits remove
    /// nothing.
    #[must_use]
    pub fn of(task: &MedusaTask, limits: Limits) -> Option<Self> {
        if task.spec.operation != TaskOperation::Purge || is_unchecked(task) {
            return None;
        }
        let keep = task.annotations().get(labels::KEEP).cloned().filter(|name| !name.is_empty());
        let is_found = limits != Limits::default();
        (!limits.are_none() && (is_found || keep.is_some())).then_some(Self { keep, limits })
    }

    /// Whether a purge of `dc` at `now` leaves what it must, when the storage holds what `listing` says.
    ///
    /// # Errors
    /// What it might remove, by which limit, and what to do.
    pub fn check(
        &self,
        listing: &[BackupSummary],
        dc: &CassandraDatacenter,
        now: Timestamp,
    ) -> Result<(), Problem> {
        let time = |second: i64| Timestamp::from_second(second).ok().filter(|_| second > 0);
        // A summary without nodes may be of any datacenter's.
        let may_be_ours =
            |summary: &&BackupSummary| summary.nodes.is_empty() || !own_nodes(summary, dc).is_empty();
        let own: Vec<&BackupSummary> = listing.iter().filter(may_be_ours).collect();
        let ended = |summary: &BackupSummary| {
            time(summary.finish_time).or_else(|| begun_by(time(summary.start_time)?))
        };
        let held: Vec<Held> = own
            .iter()
            .map(|summary| Held { name: summary.backup_name.clone(), end: ended(summary) })
            .collect();
        let whole = own.iter().copied().filter(|summary| {
            let nodes = own_nodes(summary, dc);
            !nodes.is_empty() && is_whole(summary, &nodes)
        });
        let newest = whole.max_by_key(|summary| (summary.start_time, &summary.backup_name));
        let named = self.keep.as_ref().map(|keep| {
            let found = own.iter().copied().find(|summary| summary.backup_name == *keep);
            found.ok_or_else(|| {
                refused(format!(
                    "annotation {} asks to keep backup `{keep}`, which the storage does not hold; make a sync, so that \
                     the control plane learns of it",
                    labels::KEEP
                ))
            })
        });
        let named = named.transpose()?;
        for summary in newest.into_iter().chain(named) {
            let name = &summary.backup_name;
            let what = if Some(name) == self.keep.as_ref() {
                format!("`{name}`, which is to be kept,")
            } else {
                format!("`{name}`, the newest whole backup of the datacenter,")
            };
            let Some(start) = time(summary.start_time) else {
                return Err(refused(format!("Medusa does not say when {what} began")));
            };
            survives(Some(name), start, &held, self.limits, now)
                .map_err(|loss| refused(loss.told(&what, self.limits)))?;
        }
        Ok(())
    }
}

/// Whether somebody said that the purge may remove anything.
#[must_use]
pub fn is_unchecked(task: &MedusaTask) -> bool {
    task.annotations().get(labels::PURGE_UNCHECKED).is_some_and(|value| value == "true")
}

fn refused(why: String) -> Problem {
    Problem::for_good(
        Reason::WouldRemoveLastRestorePoint,
        format!(
            "nothing was purged: {why}. Back the datacenter up and purge then, raise the limit, or annotate the task with \
             {}=true to purge all the same",
            labels::PURGE_UNCHECKED
        ),
    )
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
