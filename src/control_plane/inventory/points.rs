//! Restore points: MedusaBackups of all data planes, grouped by Cassandra cluster and name. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use super::{
    drift::drift,
    observe::{Group, Place, Planes, PublishedPoints},
    origin::Origin,
    slots::slots,
    verdict::{foreign, is_foreign, is_whole, summarize, topology_matches},
};
use crate::{
    api::{
        cassandra::CassandraDatacenter,
        fleet::{BackupOrigin, FleetBackupDatacenter, FleetBackupStatus, InventoryDrift, NodeCounts},
        names,
    },
    control_plane::data_planes::{records::BackupRecord, view::ObjectKey},
};

/// Status word of a datacenter that has no MedusaBackup in a restore point.
pub const MISSING: &str = "MISSING";
/// Status word of a MedusaBackup that is being made.
pub const IN_PROGRESS: &str = "IN_PROGRESS";
/// Status word of a MedusaBackup of a datacenter that is not in the cluster.
pub const FOREIGN: &str = "FOREIGN";
/// Phase of a FleetBackup that holds nothing but such MedusaBackups.
pub const FOREIGN_PHASE: &str = "Foreign";
/// Status word of a datacenter of which nobody knows whether it has one, and of a MedusaBackup without status.
pub const UNKNOWN: &str = "UNKNOWN";

/// One restore point.
#[derive(Clone, Debug, PartialEq)]
pub struct RestorePoint {
    /// Name of its FleetBackup.
    pub name: String,
    /// What is published about it.
    pub status: FleetBackupStatus,
    /// What does not agree about it.
    pub drift: Vec<InventoryDrift>,
}

/// One MedusaBackup's share of a restore point.
pub(super) struct Part<'a> {
    pub(super) origin: Origin,
    pub(super) kind: PartKind<'a>,
}

pub(super) enum PartKind<'a> {
    /// A datacenter's backup.
    Entry(FleetBackupDatacenter),
    /// A datacenter's backup that only the listing of another one shows, which shares its storage.
    Stored(Place<'a>),
    /// The backup of a datacenter that is not in the cluster, which a listing shows all the same. It is called as that
    /// datacenter is.
    Foreign(FleetBackupDatacenter),
    /// A datacenter's backup that is being made.
    Running(Place<'a>),
}

/// The parts of one restore point.
#[derive(Default)]
pub(super) struct Parts<'a> {
    /// One per datacenter that has a backup.
    pub(super) entries: Vec<FleetBackupDatacenter>,
    /// Datacenters whose backup the storage holds, as another datacenter's listing shows.
    pub(super) stored: BTreeSet<Place<'a>>,
    /// Backups of datacenters that are not in the cluster.
    pub(super) foreign: Vec<FleetBackupDatacenter>,
    /// Datacenters whose backup is being made.
    pub(super) running: BTreeSet<Place<'a>>,
    /// What made it.
    pub(super) origin: Option<BackupOrigin>,
}

impl<'a> Parts<'a> {
    pub(super) fn add(&mut self, part: Part<'a>) {
        match part.kind {
            PartKind::Entry(entry) => self.entries.push(entry),
            PartKind::Stored(place) => _ = self.stored.insert(place),
            PartKind::Foreign(entry) => self.foreign.push(entry),
            PartKind::Running(place) => _ = self.running.insert(place),
        }
        let Origin { job, schedule, .. } = part.origin;
        if job.is_some() || schedule.is_some() {
            self.origin = Some(BackupOrigin { job, schedule });
        }
    }

    /// One entry per datacenter: its best. A second attempt of a fleet job leaves two.
    fn settle(&mut self, planes: &Planes<'_>) {
        self.entries.sort_by(|a, b| {
            let rank = |e: &FleetBackupDatacenter| {
                (is_whole(e), e.start_time.as_ref().map(|t| t.0), e.medusa_backup.clone())
            };
            place(a).cmp(&place(b)).then_with(|| rank(b).cmp(&rank(a)))
        });
        self.entries.dedup_by(|later, first| place(later) == place(first));
        // A cluster that was registered anew under another name has its backups only once.
        let there: BTreeSet<(String, String)> = self
            .entries
            .iter()
            .filter(|e| planes.has(&e.data_plane))
            .map(|e| (e.namespace.clone(), e.name.clone()))
            .collect();
        self.entries
            .retain(|e| planes.has(&e.data_plane) || !there.contains(&(e.namespace.clone(), e.name.clone())));
    }
}

/// Where an entry's datacenter is.
pub(super) fn place(entry: &FleetBackupDatacenter) -> Place<'_> {
    Place { plane: &entry.data_plane, namespace: &entry.namespace, name: &entry.name }
}

/// The restore points of one cluster, by name. What was published about data planes that were not listed since
/// the start is carried over, and what was published about those that are not registered any more as long as
/// another datacenter's part is there.
#[must_use]
pub fn restore_points(
    cluster: &str,
    group: &Group<'_>,
    planes: &Planes<'_>,
    published: &PublishedPoints,
    now: Timestamp,
) -> Vec<RestorePoint> {
    let mut points: BTreeMap<String, Parts<'_>> = BTreeMap::new();
    let mut families: BTreeMap<String, Vec<Part<'_>>> = BTreeMap::new();
    for part in found(group).chain(carried(group, planes)).chain(running(group)) {
        match part.origin.moment {
            Some(_) => families.entry(part.origin.point.clone()).or_default().push(part),
            None => points.entry(part.origin.point.clone()).or_default().add(part),
        }
    }
    for parts in families.into_values() {
        for (name, slot) in slots(parts, cluster, published) {
            points.insert(name, slot);
        }
    }
    points
        .into_iter()
        .filter_map(|(point, mut parts)| {
            parts.settle(planes);
            parts.foreign.retain(|e| planes.has(&e.data_plane));
            let seen = parts.entries.iter().any(|e| planes.has(&e.data_plane)) || !parts.stored.is_empty();
            let name = names::fleet_backup(&point, cluster);
            let old = published.get(&name).and_then(|b| b.status.as_ref());
            if seen {
                let status = summarize(cluster, &parts, group, planes, old, now);
                let drift = drift(&name, &status, &parts.stored, group, planes);
                return Some(RestorePoint { name, status, drift });
            }
            (!parts.foreign.is_empty()).then(|| {
                let status = foreign(cluster, &parts, old, now);
                RestorePoint { name, status, drift: Vec::new() }
            })
        })
        .collect()
}

fn found<'a>(group: &'a Group<'a>) -> impl Iterator<Item = Part<'a>> {
    group.found.iter().map(|found| {
        let record = found.record.as_ref();
        let is_other_name = found.site.is_some_and(|site| is_foreign(record, site.datacenter));
        let is_of_another = is_other_name || found.is_elsewhere;
        let owner = group
            .sites
            .iter()
            .filter(|_| is_other_name)
            .find(|site| record.node_datacenters.contains(&site.datacenter.display_name()));
        let theirs = record.node_datacenters.first().map(String::as_str);
        let datacenter = match owner {
            Some(site) => site.place.name,
            None => theirs.filter(|_| is_of_another).unwrap_or(&record.datacenter),
        };
        let origin = Origin::of(&found.key.name, datacenter, record.start_time);
        let made = |datacenter| entry(found.plane, found.key, record, datacenter);
        let kind = match owner {
            Some(site) => PartKind::Stored(site.place),
            None if is_of_another => PartKind::Foreign(FleetBackupDatacenter {
                name: datacenter.to_owned(),
                status: FOREIGN.to_owned(),
                ..made(None)
            }),
            None => PartKind::Entry(made(found.site.map(|site| site.datacenter.as_ref()))),
        };
        Part { origin, kind }
    })
}

fn running<'a>(group: &'a Group<'a>) -> impl Iterator<Item = Part<'a>> {
    group.unfinished.iter().map(|job| Part {
        origin: Origin::of(job.name, job.place.name, None),
        kind: PartKind::Running(job.place),
    })
}

fn carried<'a>(group: &'a Group<'a>, planes: &Planes<'_>) -> impl Iterator<Item = Part<'a>> {
    let entries = group.published.iter().filter_map(|p| p.status.as_ref()).flat_map(|s| &s.datacenters);
    entries.filter_map(|entry| {
        let backup = entry.medusa_backup.as_ref()?;
        let gone = !planes.has(&entry.data_plane);
        if !gone && !planes.is_unasked(&entry.data_plane) {
            return None;
        }
        let origin = Origin::of(backup, &entry.name, entry.start_time.as_ref().map(|t| t.0));
        if entry.status == FOREIGN {
            return Some(Part { origin, kind: PartKind::Foreign(entry.clone()) });
        }
        let topology_matches = entry.topology_matches && !gone;
        Some(Part {
            origin,
            kind: PartKind::Entry(FleetBackupDatacenter { topology_matches, ..entry.clone() }),
        })
    })
}

fn entry(
    plane: &str,
    key: &ObjectKey,
    record: &BackupRecord,
    datacenter: Option<&CassandraDatacenter>,
) -> FleetBackupDatacenter {
    FleetBackupDatacenter {
        name: record.datacenter.clone(),
        data_plane: plane.to_owned(),
        namespace: key.namespace.clone(),
        medusa_backup: Some(key.name.clone()),
        status: if record.status.is_empty() { UNKNOWN.to_owned() } else { record.status.clone() },
        start_time: record.start_time.map(Time),
        finish_time: record.finish_time.map(Time),
        nodes: Some(NodeCounts { total: record.total_nodes, finished: record.finished_nodes, failed: 0 }),
        files: record.files,
        size_bytes: record.size_bytes,
        topology_matches: datacenter.is_some_and(|dc| topology_matches(record, dc)),
    }
}

/// Datacenters the cluster had when the backup started and that have no part in it. `start` is the start of the
/// earliest part.
pub(super) fn absent(
    entries: &[FleetBackupDatacenter],
    parts: &Parts<'_>,
    group: &Group<'_>,
    planes: &Planes<'_>,
    old: Option<&FleetBackupStatus>,
) -> Vec<FleetBackupDatacenter> {
    let start = entries.iter().filter_map(|e| e.start_time.as_ref()).map(|t| t.0).min();
    let there: BTreeSet<Place<'_>> = entries.iter().map(place).collect();
    // What was once expected stays so: a datacenter that was made anew looks younger than the backup.
    let judged = old.filter(|old| old.start_time.is_some());
    let before: Vec<&FleetBackupDatacenter> =
        judged.iter().flat_map(|old| &old.datacenters).filter(|e| e.medusa_backup.is_none()).collect();
    let mut absent: BTreeMap<Place<'_>, &str> = BTreeMap::new();
    for site in &group.sites {
        let born = site.datacenter.creation_timestamp().map(|t| t.0);
        let old_enough = start.zip(born).is_none_or(|(start, born)| born <= start);
        if old_enough || before.iter().any(|e| place(e) == site.place) {
            absent.insert(site.place, if planes.is_live(site.place.plane) { MISSING } else { UNKNOWN });
        }
    }
    for unlisted in &group.unlisted {
        // One that was not expected when that was known has joined since.
        if judged.is_none_or(|old| old.datacenters.iter().any(|e| place(e) == *unlisted)) {
            absent.insert(*unlisted, UNKNOWN);
        }
    }
    for entry in before {
        let place = place(entry);
        let moved = entries.iter().any(|e| (&e.namespace, &e.name) == (&entry.namespace, &entry.name))
            || group.sites.iter().any(|s| (s.place.namespace, s.place.name) == (place.namespace, place.name));
        match (planes.has(place.plane), planes.is_unasked(place.plane)) {
            (true, true) => drop(absent.insert(place, UNKNOWN)),
            // Gone for good; another registration of the same cluster speaks for it.
            (false, _) if !moved => drop(absent.insert(place, MISSING)),
            _ => {}
        }
    }
    absent
        .into_iter()
        .filter(|(place, _)| !there.contains(place))
        .map(|(place, status)| FleetBackupDatacenter {
            name: place.name.to_owned(),
            data_plane: place.plane.to_owned(),
            namespace: place.namespace.to_owned(),
            status: if parts.running.contains(&place) { IN_PROGRESS } else { status }.to_owned(),
            ..FleetBackupDatacenter::default()
        })
        .collect()
}
