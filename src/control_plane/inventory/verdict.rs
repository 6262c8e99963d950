//! The verdicts on one restore point: whether it is complete, and whether it can be restored. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    observe::{Group, Planes},
    origin::Origin,
    points::{FOREIGN_PHASE, IN_PROGRESS, Parts, absent, place},
};
use crate::{
    api::{
        Reason,
        cassandra::CassandraDatacenter,
        condition::set_condition,
        fleet::{FleetBackupDatacenter, FleetBackupStatus, NodeCounts, place as spelt},
        size,
    },
    control_plane::data_planes::records::BackupRecord,
};

/// Whether every node of the datacenter is in the backup.
#[must_use]
pub fn is_whole(entry: &FleetBackupDatacenter) -> bool {
    entry.status == "SUCCESS" && entry.nodes.is_some_and(|n| n.total > 0 && n.finished == n.total)
}

/// How far the clocks of a data plane may be ahead of ours.
const AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// Whether the times of a backup are impossible: it begins in the future, or ended before it began. Nobody knows then when
/// it was made.
#[must_use]
pub fn is_misdated(start: Option<Timestamp>, finish: Option<Timestamp>, now: Timestamp) -> bool {
    let Some(start) = start else { return false };
    start.duration_since(now) > AHEAD || finish.is_some_and(|finish| finish < start)
}

/// Whether nobody knows of what time a restore point is. Nothing may rely on such a one: it is not taken for the newest there
/// is, nor for what a purge leaves.
#[must_use]
pub fn is_timeless(point: &FleetBackupStatus, now: Timestamp) -> bool {
    let at = |time: &Option<Time>| time.as_ref().map(|time| time.0);
    point.datacenters.iter().any(|part| is_misdated(at(&part.start_time), at(&part.finish_time), now))
}

/// Whether a backup's nodes fit the datacenter as it is now: as many nodes, spread over the same racks.
/// cass-operator spreads evenly, the first racks taking the remainder (upstream: Names).
#[must_use]
pub fn topology_matches(record: &BackupRecord, datacenter: &CassandraDatacenter) -> bool {
    let size = i64::from(datacenter.spec.size);
    if record.total_nodes != size {
        return false;
    }
    if record.racks.is_empty() {
        return true; // The backup does not say; older ones did not.
    }
    let racks = datacenter.rack_names();
    let count = i64::try_from(racks.len()).unwrap_or(1).max(1);
    let expected: BTreeMap<String, i64> = racks
        .into_iter()
        .zip(0_i64..)
        .map(|(rack, n)| (rack, size / count + i64::from(n < size % count)))
        .filter(|(_, nodes)| *nodes > 0)
        .collect();
    record.racks == expected
}

/// How long a backup that is said to be in progress is believed to be, where its job is not seen.
const LONGEST: SignedDuration = SignedDuration::from_hours(48);

/// Whether a MedusaBackup is of a datacenter of another name than `datacenter`, as its own nodes say. One that does not
/// say is taken for the datacenter's own; so is one of an equally named datacenter, unless that is in the fleet
/// ([`super::observe::Found::is_elsewhere`]).
#[must_use]
pub fn is_foreign(record: &BackupRecord, datacenter: &CassandraDatacenter) -> bool {
    !record.node_datacenters.is_empty() && !record.node_datacenters.contains(&datacenter.display_name())
}

/// When what is said to be in progress in a restore point is not believed any more.
pub(super) fn given_up_at(status: &FleetBackupStatus, now: Timestamp) -> Option<Timestamp> {
    let waited = status.datacenters.iter().filter(|e| e.status == IN_PROGRESS && e.finish_time.is_none());
    let ends = waited.filter_map(|e| e.start_time.as_ref()?.0.checked_add(LONGEST).ok());
    ends.filter(|end| *end > now).min()
}

/// Whether somebody may still be at work on a MedusaBackup that is said to be in progress. One that has an end is not;
/// nor is one of a job that would be seen, as none is.
fn goes_on(entry: &FleetBackupDatacenter, planes: &Planes<'_>, now: Timestamp) -> bool {
    if entry.status != IN_PROGRESS || entry.finish_time.is_some() {
        return false;
    }
    let start = entry.start_time.as_ref().map(|t| t.0);
    let is_seen = || {
        let name = entry.medusa_backup.as_deref().unwrap_or_default();
        Origin::of(name, &entry.name, start).is_of_fleet()
    };
    if planes.is_live(&entry.data_plane) && is_seen() {
        return false;
    }
    start.is_none_or(|start| now.duration_since(start) < LONGEST)
}

/// What is to be published about backups of datacenters that are not in the cluster.
pub(super) fn foreign(
    cluster: &str,
    parts: &Parts<'_>,
    old: Option<&FleetBackupStatus>,
    now: Timestamp,
) -> FleetBackupStatus {
    let mut datacenters = parts.foreign.clone();
    datacenters.sort_by(|a, b| (place(a), &a.medusa_backup).cmp(&(place(b), &b.medusa_backup)));
    let start = datacenters.iter().filter_map(|e| e.start_time.as_ref()).map(|t| t.0).min();
    let mut status = FleetBackupStatus {
        observed_generation: old.and_then(|old| old.observed_generation),
        cluster: cluster.to_owned(),
        phase: FOREIGN_PHASE.to_owned(),
        start_time: start.map(Time),
        origin: parts.origin.clone(),
        conditions: old.map(|old| old.conditions.clone()).unwrap_or_default(),
        datacenters,
        ..FleetBackupStatus::default()
    };
    let mut names: Vec<&str> = status.datacenters.iter().map(|e| e.name.as_str()).collect();
    names.dedup();
    let message = format!(
        "it is of datacenter {}, which is not in this cluster; the storage is shared, and for this cluster it counts for \
         nothing",
        names.join(", ")
    );
    for type_ in ["Complete", "Restorable"] {
        let (reason, generation) = (Reason::ForeignBackup, status.observed_generation);
        set_condition(&mut status.conditions, type_, Some(false), reason, message.clone(), generation, now);
    }
    status
}

/// What is to be published about the restore point made of `parts`.
pub(super) fn summarize(
    cluster: &str,
    parts: &Parts<'_>,
    group: &Group<'_>,
    planes: &Planes<'_>,
    old: Option<&FleetBackupStatus>,
    now: Timestamp,
) -> FleetBackupStatus {
    let mut entries = parts.entries.clone();
    entries.extend(absent(&entries, parts, group, planes, old));
    entries.sort_by(|a, b| place(a).cmp(&place(b)));
    let whole = entries.iter().filter(|e| is_whole(e)).count();
    let complete = whole == entries.len();
    let joined: Vec<&str> = group
        .sites
        .iter()
        .filter(|site| !entries.iter().any(|e| place(e) == site.place))
        .map(|site| site.place.name)
        .collect();
    let restorable = complete && joined.is_empty() && entries.iter().all(|e| e.topology_matches);
    let is_unread = |e: &&FleetBackupDatacenter| planes.cannot_read(&place(e));
    let is_mute = |e: &&FleetBackupDatacenter| planes.has(&e.data_plane) && !planes.is_live(&e.data_plane);
    let is_silent = |e: &&FleetBackupDatacenter| is_mute(e) || is_unread(e);
    let lacking = || entries.iter().filter(|e| !is_whole(e));
    let in_progress = !parts.running.is_empty() || entries.iter().any(|e| goes_on(e, planes, now));
    let phase = match (complete, in_progress, lacking().all(|e| is_silent(&e))) {
        (true, ..) => "Complete",
        (false, true, _) => "InProgress",
        (false, false, true) => "Unknown",
        (false, false, false) => "Incomplete",
    };
    let mut silent: Vec<&str> = lacking().filter(is_mute).map(|e| e.data_plane.as_str()).collect();
    silent.dedup();
    let silent = silent.join(", ");
    let sum = |pick: fn(&NodeCounts) -> i64| -> i64 {
        entries.iter().filter_map(|e| e.nodes.as_ref()).map(pick).fold(0, i64::saturating_add)
    };
    let bytes: Vec<i64> = entries.iter().filter_map(|e| e.size_bytes).collect();
    // Whoever is not done has no size to miss.
    let counted = entries.iter().filter(|e| e.size_bytes.is_some() || is_whole(e));
    let sizes: Vec<Option<i64>> = counted.map(|e| e.size_bytes).collect();
    let start = entries.iter().filter_map(|e| e.start_time.as_ref()).map(|t| t.0).min();
    let finish = entries.iter().filter_map(|e| e.finish_time.as_ref()).map(|t| t.0).max();
    let mut status = FleetBackupStatus {
        observed_generation: old.and_then(|old| old.observed_generation),
        cluster: cluster.to_owned(),
        phase: phase.to_owned(),
        complete,
        restorable,
        start_time: start.map(Time),
        finish_time: finish.filter(|_| complete).map(Time),
        size_bytes: (!bytes.is_empty()).then(|| size::total(&bytes)),
        size: size::of_known(&sizes),
        done: Some(format!("{whole}/{}", entries.len())),
        nodes_done: Some(format!("{}/{}", sum(|n| n.finished), sum(|n| n.total))),
        origin: parts.origin.clone(),
        conditions: old.map(|old| old.conditions.clone()).unwrap_or_default(),
        datacenters: Vec::new(),
        more_datacenters: None,
    };
    let unread: Vec<String> =
        entries.iter().filter(is_unread).map(|e| spelt([&e.data_plane, &e.namespace, &e.name])).collect();
    let unread = unread.join(", ");
    let obstacles =
        Obstacles { silent, unread, joined: joined.join(", "), gone: gone(&entries, group, planes) };
    status.datacenters = entries;
    explain(&mut status, &obstacles, now);
    status
}

/// What stands in the way of a restore, for people; empty where nothing does.
struct Obstacles {
    silent: String,
    unread: String,
    joined: String,
    gone: String,
}

fn gone(entries: &[FleetBackupDatacenter], group: &Group<'_>, planes: &Planes<'_>) -> String {
    let names: Vec<&str> =
        entries.iter().filter(|e| has_left(e, group, planes)).map(|e| e.name.as_str()).collect();
    names.join(", ")
}

/// Whether the datacenter of an entry is known not to be there any more.
pub(super) fn has_left(entry: &FleetBackupDatacenter, group: &Group<'_>, planes: &Planes<'_>) -> bool {
    let there = group.sites.iter().any(|site| site.place == place(entry));
    let is_known = !planes.has(&entry.data_plane) || planes.is_live(&entry.data_plane);
    !there && is_known && !planes.cannot_read(&place(entry))
}

fn cannot_be_read(places: &str) -> String {
    format!("CassandraDatacenter {places} cannot be read; condition Synced of the DataPlane says why")
}

fn explain(status: &mut FleetBackupStatus, obstacles: &Obstacles, now: Timestamp) {
    let lacking: Vec<String> = status
        .datacenters
        .iter()
        .filter(|e| !is_whole(e))
        .map(|e| {
            let stands = status.phase == "Incomplete" && e.status == IN_PROGRESS;
            let rest = if stands { ", and nobody is at work on it any more" } else { "" };
            format!("{} is {}{rest}", spelt([&e.data_plane, &e.namespace, &e.name]), e.status)
        })
        .collect();
    let generation = status.observed_generation;
    let (complete, reason, message) = match status.phase.as_str() {
        "Complete" => (Some(true), Reason::Succeeded, "every node of every datacenter is in it".to_owned()),
        "InProgress" => (None, Reason::Running, lacking.join(", ")),
        "Unknown" if obstacles.silent.is_empty() => {
            (None, Reason::DatacenterUnreadable, cannot_be_read(&obstacles.unread))
        }
        "Unknown" => {
            (None, Reason::DataPlaneUnreachable, format!("no answer from data plane {}", obstacles.silent))
        }
        _ => (Some(false), Reason::BackupIncomplete, lacking.join(", ")),
    };
    set_condition(&mut status.conditions, "Complete", complete, reason, message, generation, now);
    let changed: Vec<&str> =
        status.datacenters.iter().filter(|e| !e.topology_matches).map(|e| e.name.as_str()).collect();
    let (restorable, reason, message) = if status.restorable {
        (
            Some(true),
            Reason::Succeeded,
            "complete, and every datacenter still has the topology it was taken from".to_owned(),
        )
    } else if !status.complete {
        (complete.map(|_| false), Reason::BackupIncomplete, "it is not complete".to_owned())
    } else if !obstacles.gone.is_empty() {
        let message = format!("{} is not in the cluster any more", obstacles.gone);
        (Some(false), Reason::DatacenterNotFound, message)
    } else if !obstacles.unread.is_empty() {
        (None, Reason::DatacenterUnreadable, cannot_be_read(&obstacles.unread))
    } else if changed.is_empty() {
        let message = format!("{} joined the cluster since and is not in it", obstacles.joined);
        (Some(false), Reason::TopologyMismatch, message)
    } else {
        let message = format!("the size or racks of {} changed since", changed.join(", "));
        (Some(false), Reason::TopologyMismatch, message)
    };
    set_condition(&mut status.conditions, "Restorable", restorable, reason, message, generation, now);
}
