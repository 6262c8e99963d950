//! Whether a purge of a datacenter leaves its cluster a complete restore point. Pure.
//!
//! Medusa's purge knows one node and nothing of restore points. On each node it removes every backup that began
//! more than `max_backup_age` days ago, and then all but the `max_backup_count` that began last. Backups that failed
//! or are not complete count like any other, so a few failed runs are enough to push out the last good one.
//!
//! The rule: of the complete restore points the newest is looked at. What a purge leaves of an older one it leaves
//! of the newest too. The datacenter's part in it must
//! - be younger than `max_backup_age` by [`ALLOWANCE`], because pods purge one after the other, by their own clocks;
//! - be among the `max_backup_count` newest even if every backup that may have begun later on some node did: all
//!   MedusaBackups and MedusaBackupJobs of the datacenter, whatever became of them, that did not end before the
//!   part began.
//!
//! A limit nobody could read counts as the strictest there is, one day or one backup.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::limits::Limits;
use crate::{
    api::{
        Reason,
        fleet::{FleetBackupDatacenter, FleetBackupStatus},
    },
    control_plane::view::ObjectKey,
};

/// How much younger than `max_backup_age` a restore point must be: a purge that may start now is over by then.
pub const ALLOWANCE: SignedDuration = SignedDuration::from_hours(6);

/// One backup that the datacenter's nodes hold or may hold, complete or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its name.
    pub name: String,
    /// When its last node ended; `None` when that is not known.
    pub end: Option<Timestamp>,
}

/// What the ruling is about.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The FleetCluster.
    pub cluster: &'a str,
    /// The data plane of the datacenter.
    pub data_plane: &'a str,
    /// The datacenter.
    pub datacenter: &'a ObjectKey,
    /// All restore points, by name.
    pub points: &'a BTreeMap<String, FleetBackupStatus>,
    /// Every backup of the datacenter that Kubernetes shows.
    pub held: &'a [Held],
    /// What the purge works by.
    pub limits: Limits,
}

/// Whether the purge may start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It may: this complete restore point stays.
    Keeps(String),
    /// It may not.
    Refused {
        /// Why, for machines.
        reason: Reason,
        /// Why, for people.
        message: String,
    },
}

/// Rules on one datacenter at `now`.
#[must_use]
pub fn rule(question: &Question<'_>, now: Timestamp) -> Ruling {
    let refused = |message: String| Ruling::Refused { reason: Reason::WouldRemoveLastRestorePoint, message };
    let cluster = question.cluster;
    let newest = question
        .points
        .iter()
        .filter(|(_, point)| point.cluster == cluster && point.complete)
        .max_by_key(|(name, point)| (point.start_time.as_ref().map(|t| t.0), *name));
    let Some((name, point)) = newest else {
        return refused(format!(
            "FleetCluster `{cluster}` has no complete restore point, so what a purge removes may be all there is: \
             back the cluster up first"
        ));
    };
    let Some(part) = point.datacenters.iter().find(|part| is_of(part, question)) else {
        // The datacenter came later: nothing of that restore point is on its nodes.
        return Ruling::Keeps(name.clone());
    };
    let Some(start) = part.start_time.as_ref().map(|t| t.0) else {
        return refused(format!(
            "nobody knows when `{name}`, the newest complete restore point, began in this datacenter, so a purge may \
             remove it: back the cluster up first"
        ));
    };
    let days = question.limits.age_days.unwrap_or(1);
    let age = now.duration_since(start);
    if days > 0 && age.saturating_add(ALLOWANCE) >= SignedDuration::from_hours(24 * i64::from(days)) {
        return refused(format!(
            "the newest complete restore point `{name}` is {} h old here, and a purge removes what is older than \
             {days} d{}, {} h allowed for the purge itself: back the cluster up first",
            age.as_hours(),
            unknown(question.limits.age_days),
            ALLOWANCE.as_hours(),
        ));
    }
    let count = question.limits.count.unwrap_or(1);
    let later = question
        .held
        .iter()
        .filter(|held| Some(&held.name) != part.medusa_backup.as_ref())
        .filter(|held| held.end.is_none_or(|end| end >= start))
        .count();
    if count > 0 && later >= usize::try_from(count).unwrap_or(usize::MAX) {
        return refused(format!(
            "a purge leaves {count} backups on each node{}, complete or not, and {later} may have begun after `{name}`, \
             the newest complete restore point: back the cluster up first, or raise the limit",
            unknown(question.limits.count),
        ));
    }
    Ruling::Keeps(name.clone())
}

fn is_of(part: &FleetBackupDatacenter, question: &Question<'_>) -> bool {
    part.data_plane == question.data_plane
        && part.namespace == question.datacenter.namespace
        && part.name == question.datacenter.name
}

fn unknown<T>(limit: Option<T>) -> &'static str {
    if limit.is_some() {
        ""
    } else {
        " (its medusa.ini could not be read, so the strictest limit is assumed)"
    }
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
