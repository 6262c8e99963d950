//! Whether a purge of one datacenter may start now, seen from its whole Cassandra cluster. Pure.
//!
//! It waits while anything of the cluster is unknown or at work, and is refused where it could remove the last
//! complete restore point.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use kube::{ResourceExt as _, core::DeserializeGuard};

use super::retention::{Question, rule};
use crate::{
    api::{
        Reason,
        fleet::{DatacenterRun, FleetBackupJob, FleetBackupStatus, FleetClusterStatus, Phase, ROLE},
        retention::{Held, Limits, begun_by},
    },
    control_plane::{
        data_planes::{
            capabilities::RESTORES,
            cluster_of::{cluster_of, unreadable},
            fleet::{Snapshot, Usable},
            view::ObjectKey,
        },
        inventory::{
            observe::{Planes, PublishedClusters, PublishedPoints, survey},
            points::restore_points,
            verdict::{is_foreign, is_misdated},
        },
        runs::{
            Run as _,
            child::{Child as _, child_key, place},
            outcome::Outcome,
            restoring::restoring,
        },
    },
};

/// A MedusaBackupJob somebody made, as far as it could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedJob {
    pub data_plane: String,
    pub key: ObjectKey,
    /// Name of its CassandraDatacenter; `None` when the object cannot be read.
    pub datacenter: Option<String>,
    pub end: Option<Timestamp>,
}

impl ObservedJob {
    fn may_be_of(&self, data_plane: &str, datacenter: &ObjectKey) -> bool {
        self.data_plane == data_plane
            && self.key.namespace == datacenter.namespace
            && self.datacenter.as_ref().is_none_or(|name| *name == datacenter.name)
    }
}

/// What a decision is made of.
pub struct Facts<'a> {
    pub planes: &'a [Snapshot],
    /// The published FleetCluster, when there is one.
    pub cluster: Option<&'a FleetClusterStatus>,
    pub points: &'a BTreeMap<String, FleetBackupStatus>,
    /// The FleetBackupJobs, also those that cannot be read.
    pub runs: &'a [Arc<DeserializeGuard<FleetBackupJob>>],
    /// Every MedusaBackupJob in the namespaces of the cluster's datacenters.
    pub jobs: &'a [ObservedJob],
    /// What the purge works by.
    pub limits: Limits,
}

/// The restore points of a FleetCluster, by name, from what the data planes show at `now`. What was published stands
/// for those that were not listed since the start.
#[must_use]
pub fn points(
    cluster: &str,
    planes: &[Snapshot],
    backups: &PublishedPoints,
    clusters: &PublishedClusters,
    now: Timestamp,
) -> BTreeMap<String, FleetBackupStatus> {
    let groups = survey(planes, backups, clusters);
    let found = groups
        .get(cluster)
        .map(|group| restore_points(cluster, group, &Planes::of(planes), backups, now))
        .unwrap_or_default();
    found.into_iter().map(|point| (point.name, point.status)).collect()
}

/// Datacenters of a FleetCluster, by data plane and place: as the data planes show them, and for those that were
/// not listed since the start, or cannot be read, as they were published.
#[must_use]
pub fn members(
    name: &str,
    planes: &[Snapshot],
    published: Option<&FleetClusterStatus>,
) -> BTreeSet<(String, ObjectKey)> {
    let mut found = BTreeSet::new();
    for plane in planes {
        for (place, datacenter) in plane.view.datacenters.last_known() {
            if cluster_of(plane, datacenter).name == name {
                found.insert((plane.name.clone(), place.clone()));
            }
        }
        let listed = unreadable(plane).filter(|(_, id)| id.as_ref().is_some_and(|id| id.name == name));
        found.extend(listed.map(|(place, _)| (plane.name.clone(), place.clone())));
        let unlisted = !plane.view.datacenters.trust.is_listed();
        for entry in published.iter().flat_map(|status| &status.datacenters) {
            let is_anothers =
                plane.membership.known.disowns(name, &plane.name, &entry.namespace, &entry.name);
            let is_unseen = unlisted || plane.cannot_read(&entry.namespace, &entry.name);
            if is_unseen && entry.data_plane == plane.name && !is_anothers {
                found.insert((plane.name.clone(), ObjectKey::new(&entry.namespace, &entry.name)));
            }
        }
    }
    found
}

/// A data plane of the cluster that cannot be asked: why, for machines and for people. One that is being connected is
/// waited for whatever the policy says of those that do not answer: it was not asked yet.
#[must_use]
pub fn silence(members: &BTreeSet<(String, ObjectKey)>, planes: &[Snapshot]) -> Option<(Reason, String)> {
    let silent = members.iter().filter_map(|(name, place)| {
        let plane = planes.iter().find(|p| p.name == *name)?;
        let (reason, why) = match &plane.usable {
            Usable::Ready if plane.cannot_read(&place.namespace, &place.name) => {
                (Reason::RestorePointsUnknown, "cannot be read".to_owned())
            }
            Usable::Ready if plane.view.knows_inventory() => return None,
            Usable::Ready => {
                (Reason::RestorePointsUnknown, "does not show what it holds".to_owned())
            }
            Usable::Connecting => (Reason::Connecting, "is being connected".to_owned()),
            Usable::Unreachable { why, .. } => {
                (Reason::RestorePointsUnknown, format!("does not answer: {why}"))
            }
            Usable::NotReady { reason, why } => {
                (Reason::RestorePointsUnknown, format!("is not ready ({reason}): {why}"))
            }
        };
        let message = format!(
            "whether the cluster keeps a complete restore point cannot be told: data plane `{name}` with its datacenter \
             {place} {why}"
        );
        Some((reason, message))
    });
    // What will be known in a moment decides nothing; what is known to be silent does.
    silent.max_by_key(|(reason, _)| *reason == Reason::RestorePointsUnknown)
}

/// Adds the MedusaBackupJobs of fleet runs that the views show and a listing made before does not have.
pub fn add_begun(jobs: &mut Vec<ObservedJob>, members: &BTreeSet<(String, ObjectKey)>, planes: &[Snapshot]) {
    let known: BTreeSet<(String, ObjectKey)> =
        jobs.iter().map(|job| (job.data_plane.clone(), job.key.clone())).collect();
    for plane in planes {
        for (key, job) in plane.view.jobs.last_known().iter().filter(|(_, job)| !job.is_finished()) {
            let datacenter = job.spec.cassandra_datacenter.clone();
            let of_cluster =
                members.contains(&(plane.name.clone(), ObjectKey::new(&key.namespace, &datacenter)));
            if of_cluster && !known.contains(&(plane.name.clone(), key.clone())) {
                jobs.push(ObservedJob {
                    data_plane: plane.name.clone(),
                    key: key.clone(),
                    datacenter: Some(datacenter),
                    end: None,
                });
            }
        }
    }
}

/// Decides on the datacenter of `run` at `now`: returns the name of the complete restore point that stays.
///
/// # Errors
/// Why the purge may not start: [`Outcome::NotNow`], or [`Outcome::Refused`].
pub fn decide(run: &DatacenterRun, facts: &Facts<'_>, now: Timestamp) -> Result<String, Outcome> {
    let members = members(&run.cluster, facts.planes, facts.cluster);
    if let Some((reason, message)) = silence(&members, facts.planes) {
        return Err(Outcome::NotNow(reason, message));
    }
    if let Some(message) = hidden_restores(&members, facts.planes) {
        return Err(Outcome::Refused(Reason::NotAuthorized, message));
    }
    if let Some(message) = restoring(facts.planes).remove(&run.cluster) {
        return Err(Outcome::NotNow(Reason::RestoreInProgress, message));
    }
    if let Some(message) = backup_at_work(&run.cluster, &members, facts) {
        return Err(Outcome::NotNow(Reason::BackupRunning, message));
    }
    let datacenter = ObjectKey::new(&run.namespace, &run.datacenter);
    let held = held(&run.data_plane, &datacenter, facts, now);
    let question = Question {
        cluster: &run.cluster,
        data_plane: &run.data_plane,
        datacenter: &datacenter,
        points: facts.points,
        held: &held,
        limits: facts.limits,
    };
    rule(&question, now).map_err(|why| Outcome::Refused(why.reason, why.message))
}

/// A data plane of the cluster where nobody can see whether a restore is at work.
fn hidden_restores(members: &BTreeSet<(String, ObjectKey)>, planes: &[Snapshot]) -> Option<String> {
    members.iter().find_map(|(name, _)| {
        let may = &planes.iter().find(|p| p.name == *name)?.view.capabilities;
        let is_served = may.not_served.as_ref().is_none_or(|not_served| !not_served.contains(RESTORES));
        let is_seen = may.watchable(RESTORES) == Some(true) && !may.refused.contains_key(RESTORES);
        (is_served && !is_seen).then(|| {
            format!(
                "data plane `{name}` does not permit to list {RESTORES}, so nobody can say whether a restore is at \
                 work; apply {ROLE} there"
            )
        })
    })
}

/// A backup of the cluster that is at work or about to be.
fn backup_at_work(
    cluster: &str,
    members: &BTreeSet<(String, ObjectKey)>,
    facts: &Facts<'_>,
) -> Option<String> {
    let of_cluster = |job: &ObservedJob| {
        job.datacenter.is_some() && members.iter().any(|(plane, place)| job.may_be_of(plane, place))
    };
    let job = facts.jobs.iter().find(|job| job.end.is_none() && of_cluster(job)).map(|job| {
        let plane = &job.data_plane;
        format!(
            "waits for MedusaBackupJob {} in data plane `{plane}` to end; delete it if it never will",
            job.key
        )
    });
    job.or_else(|| facts.runs.iter().find_map(|run| run_at_work(cluster, run)))
}

/// A FleetBackupJob that is not done with the cluster. Of one that cannot be read nobody can say that it is.
fn run_at_work(cluster: &str, run: &DeserializeGuard<FleetBackupJob>) -> Option<String> {
    let name = run.name_any();
    let Ok(run) = &run.0 else {
        return Some(format!(
            "waits for FleetBackupJob `{name}`, which cannot be read and may be at work on the cluster; delete it if \
             it is not"
        ));
    };
    let mut entries = run.status.iter().flat_map(|status| &status.datacenters);
    let is_at_work = run.spec.run.dry_run != Some(true)
        && !run.is_over()
        && entries.any(|e| e.cluster == cluster && !e.phase.is_final());
    is_at_work.then(|| {
        format!(
            "waits for FleetBackupJob `{name}` to be done with the cluster; cancel it if it never will be"
        )
    })
}

/// Every backup that the datacenter's nodes may hold, complete or not, each once, as far as anything tells of it: the
/// MedusaBackups and MedusaBackupJobs there are, and what FleetBackupJobs say they have begun, whatever became of the
/// MedusaBackupJob since. A backup of which only another datacenter's nodes have a part is none of this one's.
fn held(data_plane: &str, datacenter: &ObjectKey, facts: &Facts<'_>, now: Timestamp) -> Vec<Held> {
    let view = facts.planes.iter().find(|p| p.name == data_plane).map(|p| &p.view);
    let own = view.and_then(|view| view.datacenters.last(datacenter));
    let mut held: BTreeMap<String, Option<Timestamp>> = BTreeMap::new();
    for run in facts.runs.iter().filter_map(|run| run.0.as_ref().ok()) {
        held.extend(begun(run, data_plane, datacenter));
    }
    for job in facts.jobs.iter().filter(|job| job.may_be_of(data_plane, datacenter)) {
        held.insert(job.key.name.clone(), job.end);
    }
    for (key, record) in view.iter().flat_map(|view| view.backups.last_known()) {
        let is_of = key.namespace == datacenter.namespace && record.datacenter == datacenter.name;
        if is_of && !own.is_some_and(|own| is_foreign(record, own)) {
            let is_odd = is_misdated(record.start_time, record.finish_time, now);
            // Of one whose times cannot be, nobody knows when it was.
            let own = record.finish_time.or_else(|| begun_by(record.start_time?)).filter(|_| !is_odd);
            // The later of the two ends: both are only as exact as who wrote them.
            let end = held.get(&key.name).copied().map_or(own, |job| own.zip(job).map(|(a, b)| a.max(b)));
            held.insert(key.name.clone(), end);
        }
    }
    // One that cannot be read may be of any datacenter of its namespace, and may have begun at any time.
    for key in view.iter().flat_map(|view| view.backups.unreadable().keys()) {
        if key.namespace == datacenter.namespace {
            held.insert(key.name.clone(), None);
        }
    }
    held.into_iter().map(|(name, end)| Held { name, end }).collect()
}

/// The backups a run has begun in the datacenter, and when they had ended at the latest: every attempt but a last one
/// that nobody began with. A deadline may have passed over one that goes on, but all have begun by the run's end.
fn begun(
    run: &FleetBackupJob,
    data_plane: &str,
    datacenter: &ObjectKey,
) -> impl Iterator<Item = (String, Option<Timestamp>)> {
    let entries = run.status.iter().flat_map(|status| &status.datacenters);
    let over = run.status.as_ref().and_then(|status| status.run.finish_time.as_ref()).map(|time| time.0);
    entries.filter(move |entry| entry.data_plane == data_plane && place(entry) == *datacenter).flat_map(
        move |entry| {
            let untouched = entry.start_time.is_none()
                && (entry.phase == Phase::Cancelled || entry.has_reason(Reason::NotStarted));
            let end = entry.finish_time.as_ref().map(|time| time.0).or(over);
            let attempts = entry.attempts().saturating_sub(usize::from(untouched));
            let begun = entry.latest_attempts().take_while(move |attempt| *attempt <= attempts);
            begun.map(move |attempt| (child_key(run, entry, attempt).name, end))
        },
    )
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
