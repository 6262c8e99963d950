//! Restore points: MedusaBackups of all data planes, grouped by Cassandra cluster and name. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use super::grouping::cluster_of;
use crate::{
    api::{
        Reason,
        cassandra::CassandraDatacenter,
        condition::set_condition,
        fleet::{BackupOrigin, FleetBackupDatacenter, FleetBackupStatus, NodeCounts},
        names, size,
    },
    control_plane::{
        fleet::Snapshot,
        view::{BackupRecord, ObjectKey, View},
    },
};

/// Status word of a datacenter that has no MedusaBackup in a restore point.
pub const MISSING: &str = "MISSING";

/// Whether what a data plane's view holds may be read as its backups: it was listed at least once.
fn listed(view: &View) -> bool {
    view.backups.synced && view.datacenters.synced
}

/// Data planes whose backups are known, now or from before they fell silent.
fn known(planes: &[Snapshot]) -> impl Iterator<Item = &Snapshot> {
    planes.iter().filter(|p| listed(&p.view))
}

type Point = (String, String);

#[derive(Default)]
struct Parts {
    entries: Vec<FleetBackupDatacenter>,
    origin: Option<String>,
}

/// Computes every restore point, by FleetBackup name. `old` holds the published ones: what they say about
/// data planes that have not been listed since the start is carried over.
#[must_use]
pub fn restore_points(
    planes: &[Snapshot],
    old: &BTreeMap<String, FleetBackupStatus>,
    now: Timestamp,
) -> BTreeMap<String, FleetBackupStatus> {
    let mut points: BTreeMap<Point, Parts> = BTreeMap::new();
    let mut running: BTreeSet<Point> = BTreeSet::new();
    let orphans = homes(old);
    for plane in known(planes) {
        for (key, record) in &plane.view.backups.items {
            let place = ObjectKey::new(&key.namespace, &record.datacenter);
            let datacenter = plane.view.datacenters.items.get(&place).map(AsRef::as_ref);
            let cluster = match datacenter {
                Some(datacenter) => cluster_of(plane, datacenter).name,
                None => home(&orphans, &plane.name, &place),
            };
            let (point, origin) = names::restore_point(&key.name, &record.datacenter);
            let parts = points.entry((cluster, point)).or_default();
            parts.origin = parts.origin.take().or(origin);
            parts.entries.push(part(&plane.name, key, record, datacenter));
        }
        for (key, job) in &plane.view.jobs.items {
            let place = ObjectKey::new(&key.namespace, &job.spec.cassandra_datacenter);
            let unfinished = job.status.as_ref().is_none_or(|s| s.finish_time.is_none());
            if let (true, Some(datacenter)) = (unfinished, plane.view.datacenters.items.get(&place)) {
                let (point, _) = names::restore_point(&key.name, &place.name);
                running.insert((cluster_of(plane, datacenter).name, point));
            }
        }
    }
    carry_over(&mut points, planes, old);
    points
        .into_iter()
        .map(|((cluster, point), parts)| {
            let name = names::fleet_backup(&point, &cluster);
            let is_running = running.contains(&(cluster.clone(), point));
            let before = old.get(&name).cloned().unwrap_or_default();
            let status = summarize(&cluster, parts, planes, is_running, before, now);
            (name, status)
        })
        .collect()
}

/// Where a datacenter that is gone belonged, from the published restore points.
fn homes(old: &BTreeMap<String, FleetBackupStatus>) -> BTreeMap<(&str, ObjectKey), &str> {
    old.values()
        .flat_map(|status| {
            status.datacenters.iter().map(|dc| {
                ((dc.data_plane.as_str(), ObjectKey::new(&dc.namespace, &dc.name)), status.cluster.as_str())
            })
        })
        .collect()
}

fn home(homes: &BTreeMap<(&str, ObjectKey), &str>, plane: &str, place: &ObjectKey) -> String {
    match homes.get(&(plane, place.clone())) {
        Some(cluster) => (*cluster).to_owned(),
        // Its cluster is not known any more, so it stands for itself.
        None => names::dns_name(&format!("{}.{}.{plane}", place.name, place.namespace)),
    }
}

fn part(
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
        status: if record.status.is_empty() { "UNKNOWN".to_owned() } else { record.status.clone() },
        start_time: record.start_time.map(Time),
        finish_time: record.finish_time.map(Time),
        nodes: Some(NodeCounts { total: record.total_nodes, finished: record.finished_nodes, failed: 0 }),
        files: record.files,
        size_bytes: record.size_bytes,
        topology_matches: datacenter.is_some_and(|dc| topology_matches(record, dc)),
    }
}

/// Whether a backup's nodes fit the datacenter as it is now: as many nodes, spread over the same racks.
/// cass-operator spreads evenly, the first racks taking the remainder (upstream §1.13).
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

/// Adds what was published about data planes that cannot be asked yet.
fn carry_over(
    points: &mut BTreeMap<Point, Parts>,
    planes: &[Snapshot],
    old: &BTreeMap<String, FleetBackupStatus>,
) {
    let unasked: BTreeSet<&str> =
        planes.iter().filter(|p| !listed(&p.view)).map(|p| p.name.as_str()).collect();
    for status in old.values() {
        for entry in status.datacenters.iter().filter(|e| unasked.contains(e.data_plane.as_str())) {
            let Some(backup) = &entry.medusa_backup else { continue };
            let (point, origin) = names::restore_point(backup, &entry.name);
            let parts = points.entry((status.cluster.clone(), point)).or_default();
            parts.origin = parts.origin.take().or(origin);
            parts.entries.push(entry.clone());
        }
    }
}

/// Datacenters the cluster had when the backup started and that are not in it.
fn absent(
    cluster: &str,
    entries: &[FleetBackupDatacenter],
    planes: &[Snapshot],
    old: &FleetBackupStatus,
) -> Vec<FleetBackupDatacenter> {
    let start = entries.iter().filter_map(|e| e.start_time.as_ref()).map(|t| t.0).min();
    let there = |plane: &str, place: &ObjectKey| {
        entries
            .iter()
            .any(|e| e.data_plane == plane && e.namespace == place.namespace && e.name == place.name)
    };
    let missing = |plane: &str, place: &ObjectKey| FleetBackupDatacenter {
        name: place.name.clone(),
        data_plane: plane.to_owned(),
        namespace: place.namespace.clone(),
        status: MISSING.to_owned(),
        ..FleetBackupDatacenter::default()
    };
    let mut absent = Vec::new();
    for plane in known(planes) {
        for (place, datacenter) in &plane.view.datacenters.items {
            let born = datacenter.creation_timestamp().map(|t| t.0);
            let old_enough = start.zip(born).is_none_or(|(start, born)| born <= start);
            if old_enough && cluster_of(plane, datacenter).name == cluster && !there(&plane.name, place) {
                absent.push(missing(&plane.name, place));
            }
        }
    }
    let unasked = |name: &str| planes.iter().any(|p| p.name == name && !listed(&p.view));
    for entry in old.datacenters.iter().filter(|e| e.medusa_backup.is_none() && unasked(&e.data_plane)) {
        let place = ObjectKey::new(&entry.namespace, &entry.name);
        if !there(&entry.data_plane, &place) {
            absent.push(missing(&entry.data_plane, &place));
        }
    }
    absent
}

fn is_whole(entry: &FleetBackupDatacenter) -> bool {
    entry.status == "SUCCESS" && entry.nodes.is_some_and(|n| n.total > 0 && n.finished == n.total)
}

fn summarize(
    cluster: &str,
    parts: Parts,
    planes: &[Snapshot],
    is_running: bool,
    old: FleetBackupStatus,
    now: Timestamp,
) -> FleetBackupStatus {
    let mut entries = parts.entries;
    let absent = absent(cluster, &entries, planes, &old);
    entries.extend(absent);
    entries
        .sort_by(|a, b| (&a.data_plane, &a.namespace, &a.name).cmp(&(&b.data_plane, &b.namespace, &b.name)));
    let whole = entries.iter().filter(|e| is_whole(e)).count();
    let complete = whole == entries.len();
    let restorable = complete && entries.iter().all(|e| e.topology_matches);
    let silent: Vec<&str> = planes
        .iter()
        .filter(|p| !p.view.is_live() && entries.iter().any(|e| e.data_plane == p.name && !is_whole(e)))
        .map(|p| p.name.as_str())
        .collect();
    let in_progress = is_running || entries.iter().any(|e| e.status == "IN_PROGRESS");
    let phase = match (complete, in_progress, silent.is_empty()) {
        (true, ..) => "Complete",
        (false, true, _) => "InProgress",
        (false, false, false) => "Unknown",
        (false, false, true) => "Incomplete",
    };
    let sum = |pick: fn(&NodeCounts) -> i64| -> i64 {
        entries.iter().filter_map(|e| e.nodes.as_ref()).map(pick).sum()
    };
    let bytes: Vec<i64> = entries.iter().filter_map(|e| e.size_bytes).collect();
    let start = entries.iter().filter_map(|e| e.start_time.as_ref()).map(|t| t.0).min();
    let finish = entries.iter().filter_map(|e| e.finish_time.as_ref()).map(|t| t.0).max();
    let mut status = FleetBackupStatus {
        observed_generation: old.observed_generation,
        cluster: cluster.to_owned(),
        phase: phase.to_owned(),
        complete,
        restorable,
        start_time: start.map(Time),
        finish_time: finish.filter(|_| complete).map(Time),
        size_bytes: (!bytes.is_empty()).then(|| size::total(&bytes)),
        size: (!bytes.is_empty()).then(|| size::humanize(size::total(&bytes))),
        done: Some(format!("{whole}/{}", entries.len())),
        nodes_done: Some(format!("{}/{}", sum(|n| n.finished), sum(|n| n.total))),
        origin: parts.origin.map(|job| BackupOrigin { job: Some(job) }),
        datacenters: entries,
        conditions: old.conditions,
    };
    explain(&mut status, &silent, now);
    status
}

fn explain(status: &mut FleetBackupStatus, silent: &[&str], now: Timestamp) {
    let lacking: Vec<String> = status
        .datacenters
        .iter()
        .filter(|e| !is_whole(e))
        .map(|e| format!("{}/{}/{} is {}", e.data_plane, e.namespace, e.name, e.status))
        .collect();
    let generation = status.observed_generation;
    let (complete, reason, message) = match status.phase.as_str() {
        "Complete" => (Some(true), Reason::Succeeded, "every node of every datacenter is in it".to_owned()),
        "InProgress" => (None, Reason::Running, lacking.join(", ")),
        "Unknown" => {
            (None, Reason::DataPlaneUnreachable, format!("no answer from data plane {}", silent.join(", ")))
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
    } else if status.complete {
        let message = format!("the size or racks of {} changed since, or it is gone", changed.join(", "));
        (Some(false), Reason::WrongDatacenter, message)
    } else {
        (complete.map(|_| false), Reason::BackupIncomplete, "it is not complete".to_owned())
    };
    set_condition(&mut status.conditions, "Restorable", restorable, reason, message, generation, now);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::control_plane::fanout::tests::{datacenter, live, plane, silent};

    fn now() -> Timestamp {
        Timestamp::from_second(1_000).unwrap()
    }

    fn labelled(name: &str, size: i32) -> CassandraDatacenter {
        let mut dc = datacenter(name, size);
        dc.metadata.labels =
            Some(BTreeMap::from([(crate::api::labels::CLUSTER.to_owned(), "shop".to_owned())]));
        dc
    }

    fn record(dc: &str, status: &str, nodes: i64) -> BackupRecord {
        BackupRecord {
            datacenter: dc.into(),
            status: status.into(),
            total_nodes: nodes,
            finished_nodes: nodes,
            size_bytes: Some(1024),
            start_time: Some(now()),
            finish_time: Some(now()),
            racks: BTreeMap::from([("default".to_owned(), nodes)]),
            ..BackupRecord::default()
        }
    }

    fn with(dc: &str, backups: &[(&str, BackupRecord)]) -> View {
        let mut view = live(&[labelled(dc, 3)]);
        for (name, record) in backups {
            view.backups.items.insert(ObjectKey::new("ns", *name), Arc::new(record.clone()));
        }
        view
    }

    fn points(planes: &[Snapshot]) -> BTreeMap<String, FleetBackupStatus> {
        restore_points(planes, &BTreeMap::new(), now())
    }

    #[test]
    fn backups_of_one_run_are_one_restore_point_over_all_datacenters() {
        let planes = [
            plane("eu", with("dc1", &[("nightly-dc1-0b1c2d3e", record("dc1", "SUCCESS", 3))])),
            plane("us", with("dc2", &[("nightly-dc2-0b1c2d3e", record("dc2", "SUCCESS", 3))])),
        ];
        let points = points(&planes);
        let status = &points["nightly-0b1c2d3e.shop"];
        assert!(status.complete && status.restorable);
        assert_eq!(status.done.as_deref(), Some("2/2"));
        assert_eq!(status.nodes_done.as_deref(), Some("6/6"));
        assert_eq!(status.size.as_deref(), Some("2.00 KB"));
        assert_eq!(status.origin.as_ref().unwrap().job.as_deref(), Some("nightly"));
    }

    #[test]
    fn a_datacenter_without_its_part_makes_it_incomplete() {
        let planes =
            [plane("eu", with("dc1", &[("b1", record("dc1", "SUCCESS", 3))])), plane("us", with("dc2", &[]))];
        let points = points(&planes);
        let status = &points["b1.shop"];
        assert_eq!((status.phase.as_str(), status.done.as_deref()), ("Incomplete", Some("1/2")));
        assert_eq!(status.datacenters[1].status, MISSING);
    }

    #[test]
    fn a_datacenter_born_later_was_not_expected() {
        let mut young = labelled("dc2", 3);
        young.metadata.creation_timestamp = Some(Time(Timestamp::from_second(2_000).unwrap()));
        let planes =
            [plane("eu", with("dc1", &[("b1", record("dc1", "SUCCESS", 3))])), plane("us", live(&[young]))];
        assert!(points(&planes)["b1.shop"].complete);
    }

    #[test]
    fn what_a_silent_data_plane_held_is_carried_over() {
        let parts = [
            plane("eu", with("dc1", &[("b1", record("dc1", "SUCCESS", 3))])),
            plane("us", with("dc2", &[("b1", record("dc2", "SUCCESS", 3))])),
        ];
        let old = points(&parts);
        let restarted = [parts[0].clone(), plane("us", silent())];
        let now = restore_points(&restarted, &old, now());
        assert!(now["b1.shop"].complete, "{:?}", now["b1.shop"]);
        let gone = [plane("eu", silent()), plane("us", silent())];
        assert_eq!(restore_points(&gone, &old, super::tests::now()).len(), 1);
    }

    #[test]
    fn a_backup_without_status_is_unknown_not_complete() {
        let planes = [plane(
            "eu",
            with("dc1", &[("b1", BackupRecord { datacenter: "dc1".into(), ..BackupRecord::default() })]),
        )];
        let points = points(&planes);
        assert!(!points["b1.shop"].complete);
        assert_eq!(points["b1.shop"].datacenters[0].status, "UNKNOWN");
    }

    #[test]
    fn topology_is_size_and_racks() {
        let dc = datacenter("dc1", 3);
        assert!(topology_matches(&record("dc1", "SUCCESS", 3), &dc));
        assert!(!topology_matches(&record("dc1", "SUCCESS", 2), &dc));
        let mut racked = datacenter("dc1", 3);
        racked.spec.racks = ["a", "b"].map(|name| crate::api::cassandra::Rack { name: name.into() }).to_vec();
        let mut split = record("dc1", "SUCCESS", 3);
        split.racks = BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 1)]);
        assert!(topology_matches(&split, &racked));
        split.racks = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]);
        assert!(!topology_matches(&split, &racked));
    }
}
