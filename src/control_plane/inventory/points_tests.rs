//! Tests of restore points: how MedusaBackups become one, and what is said about it.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use super::{
    digest::Digest,
    memo::Inventory,
    observe::{Planes, PublishedClusters, PublishedPoints, survey},
    points::{MISSING, RestorePoint, UNKNOWN, restore_points},
    verdict::topology_matches,
};
use crate::{
    api::{
        Conditions as _,
        cassandra::CassandraDatacenter,
        fleet::{
            ClusterDatacenter, FleetBackup, FleetBackupStatus, FleetCluster, FleetClusterStatus,
            InventoryDrift,
        },
        labels, names,
    },
    control_plane::{
        data_planes::{
            fleet::Snapshot,
            records::BackupRecord,
            view::{Contact, ObjectKey, View},
        },
        fanout::tests::{datacenter, live, plane, silent},
    },
};

const UID: &str = "0b1c2d3e";
const SLOT: i64 = 1_700_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn now() -> Timestamp {
    at(SLOT + 100)
}

fn labelled(name: &str, size: i32) -> CassandraDatacenter {
    let mut dc = datacenter(name, size);
    dc.metadata.labels = Some(BTreeMap::from([(labels::CLUSTER.to_owned(), "shop".to_owned())]));
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
        node_datacenters: vec![dc.to_owned()],
        ..BackupRecord::default()
    }
}

fn good(dc: &str) -> BackupRecord {
    record(dc, "SUCCESS", 3)
}

fn with(dc: &str, backups: &[(&str, BackupRecord)]) -> View {
    let mut view = live(&[labelled(dc, 3)]);
    for (name, record) in backups {
        view.backups.put(ObjectKey::new("ns", *name), Arc::new(record.clone()));
    }
    view
}

fn lost(mut view: View) -> View {
    view.contact = Contact::Lost { since: now(), why: "refused".to_owned() };
    view
}

type Found = BTreeMap<String, RestorePoint>;

fn look(planes: &[Snapshot], published: &PublishedPoints, clusters: &PublishedClusters) -> Found {
    let known = Planes::of(planes);
    survey(planes, published, clusters)
        .iter()
        .flat_map(|(cluster, group)| restore_points(cluster, group, &known, published, now()))
        .map(|point| (point.name.clone(), point))
        .collect()
}

fn points(planes: &[Snapshot]) -> Found {
    look(planes, &BTreeMap::new(), &BTreeMap::new())
}

fn publish(found: &Found) -> PublishedPoints {
    found
        .iter()
        .map(|(name, point)| {
            let mut object = FleetBackup::new(name, crate::api::fleet::FleetBackupSpec {});
            object.status = Some(point.status.clone());
            (name.clone(), Arc::new(object))
        })
        .collect()
}

fn cluster_of_two() -> PublishedClusters {
    let datacenters = [("eu", "dc1"), ("us", "dc2")].map(|(plane, name)| ClusterDatacenter {
        data_plane: plane.into(),
        namespace: "ns".into(),
        name: name.into(),
        ..ClusterDatacenter::default()
    });
    let mut cluster = FleetCluster::new("shop", crate::api::fleet::FleetClusterSpec {});
    cluster.status =
        Some(FleetClusterStatus { datacenters: datacenters.to_vec(), ..FleetClusterStatus::default() });
    BTreeMap::from([("shop".to_owned(), Arc::new(cluster))])
}

fn verdict(status: &FleetBackupStatus) -> (&str, Option<&str>) {
    (status.phase.as_str(), status.done.as_deref())
}

fn reason(status: &FleetBackupStatus, type_: &str) -> String {
    status.conditions.of_type(type_).unwrap().reason.clone()
}

fn drifts(drift: &[InventoryDrift]) -> Vec<(&str, &str)> {
    drift.iter().map(|d| (d.datacenter.as_str(), d.reason.as_str())).collect()
}

#[test]
fn backups_of_one_run_are_one_restore_point_over_all_datacenters() {
    let planes = [
        plane("eu", with("dc1", &[("nightly-dc1-0b1c2d3e", good("dc1"))])),
        plane("us", with("dc2", &[("nightly-dc2-0b1c2d3e", good("dc2"))])),
    ];
    let status = &points(&planes)["nightly-0b1c2d3e.shop"].status;
    assert!(status.complete && status.restorable);
    assert_eq!(verdict(status), ("Complete", Some("2/2")));
    assert_eq!(status.nodes_done.as_deref(), Some("6/6"));
    assert_eq!(status.size.as_deref(), Some("2.00 KB"));
    assert_eq!(status.origin.as_ref().unwrap().job.as_deref(), Some("nightly"));
}

#[test]
fn of_a_datacenter_that_cannot_be_read_nothing_is_known() {
    let mut planes = [
        plane("eu", with("dc1", &[("nightly-dc1-0b1c2d3e", good("dc1"))])),
        plane("us", with("dc2", &[("nightly-dc2-0b1c2d3e", good("dc2"))])),
    ];
    let before = publish(&points(&planes));
    let blurred = |backups: &[(&str, BackupRecord)]| {
        let mut view = with("dc2", backups);
        view.datacenters.blur(ObjectKey::new("ns", "dc2"), "no".to_owned());
        plane("us", view)
    };
    // It has its part: that is whole, and whether it can be restored is not known.
    planes[1] = blurred(&[("nightly-dc2-0b1c2d3e", good("dc2"))]);
    let found = look(&planes, &before, &cluster_of_two());
    let status = &found["nightly-0b1c2d3e.shop"].status;
    assert_eq!(verdict(status), ("Complete", Some("2/2")));
    assert_eq!(reason(status, "Restorable"), "DatacenterUnreadable");
    assert_eq!(drifts(&found["nightly-0b1c2d3e.shop"].drift), []);
    // It has none: nothing else makes a restore point of one datacenter complete.
    planes[1] = blurred(&[]);
    let found = look(&planes, &PublishedPoints::new(), &cluster_of_two());
    let status = &found["nightly-0b1c2d3e.shop"].status;
    assert_eq!(verdict(status), ("Unknown", Some("1/2")));
    assert_eq!(reason(status, "Complete"), "DatacenterUnreadable");
    // A K8ssandraCluster that lists it says so without anything published.
    planes[0] = plane("eu", with("dc1", &[]));
    let demo = ObjectKey::new("k8s", "demo");
    planes[1] = blurred(&[("b-dc2-0b1c2d3e", good("dc2"))]);
    planes[1].listing = Arc::new(BTreeMap::from([(ObjectKey::new("ns", "dc2"), demo)]));
    assert_eq!(points(&planes).into_keys().collect::<Vec<_>>(), ["b-0b1c2d3e.demo.k8s"]);
}

#[test]
fn a_restore_point_of_a_time_to_come_protects_nobody() {
    let at_last = Some(at(SLOT + 100_000));
    let later = BackupRecord { start_time: at_last, finish_time: at_last, ..good("dc1") };
    let planes =
        [plane("eu", with("dc1", &[("now-dc1-0b1c2d3e", good("dc1")), ("later-dc1-1b1c2d3e", later)]))];
    let list: Vec<RestorePoint> = points(&planes).into_values().collect();
    assert_eq!(list.iter().filter(|point| point.status.complete).count(), 2);
    assert_eq!(Digest::of(&list, now()).last.unwrap().0, "now-0b1c2d3e.shop");
    assert_eq!(Digest::of(&list, at(SLOT + 100_000)).last.unwrap().0, "later-1b1c2d3e.shop");
}

#[test]
fn of_several_attempts_the_whole_one_counts() {
    let backups =
        [("nightly-dc1-r2x0b1c2d3e", record("dc1", "FAILED", 3)), ("nightly-dc1-0b1c2d3e", good("dc1"))];
    let status = &points(&[plane("eu", with("dc1", &backups))])["nightly-0b1c2d3e.shop"].status;
    assert_eq!(verdict(status), ("Complete", Some("1/1")));
    assert_eq!(status.datacenters[0].medusa_backup.as_deref(), Some("nightly-dc1-0b1c2d3e"));
}

#[test]
fn one_slot_of_one_schedule_is_one_restore_point_although_the_names_differ_by_a_moment() {
    let slot = |second: i64| format!("weekly-{second}");
    let (early, late, next) = (slot(SLOT), slot(SLOT + 47), slot(SLOT + 3_600));
    let planes = [
        plane("eu", with("dc1", &[(&late, good("dc1"))])),
        plane("us", with("dc2", &[(&early, good("dc2")), (&next, BackupRecord::default())])),
    ];
    let found = points(&planes);
    let status = &found[&format!("{early}.shop")].status;
    assert_eq!(verdict(status), ("Complete", Some("2/2")));
    assert_eq!(status.origin.as_ref().unwrap().schedule.as_deref(), Some("weekly"));
    assert!(!found.contains_key(&format!("{late}.shop")));
    // The first to be seen gives the name, and keeps it.
    let first = points(&planes[..1]);
    assert!(first.contains_key(&format!("{late}.shop")));
    let later = look(&planes, &publish(&first), &BTreeMap::new());
    assert!(later[&format!("{late}.shop")].status.complete, "{later:#?}");
    assert!(!later.contains_key(&format!("{early}.shop")));
}

#[test]
fn two_runs_of_one_schedule_in_one_datacenter_are_two_restore_points() {
    let names = [format!("minutely-{SLOT}"), format!("minutely-{}", SLOT + 60)];
    let backups: Vec<(&str, BackupRecord)> = names.iter().map(|n| (n.as_str(), good("dc1"))).collect();
    assert_eq!(points(&[plane("eu", with("dc1", &backups))]).len(), 2);
}

#[test]
fn a_delegated_schedules_slots_are_restore_points_of_the_cluster() {
    let named = |dc: &str| format!("{}-{SLOT}", names::child("nightly", dc, UID));
    let planes = [
        plane("eu", with("dc1", &[(&named("dc1"), good("dc1"))])),
        plane("us", with("dc2", &[(&named("dc2"), good("dc2"))])),
    ];
    let status = &points(&planes)[&format!("nightly-{UID}-{SLOT}.shop")].status;
    assert!(status.complete);
    let origin = status.origin.as_ref().unwrap();
    assert_eq!((origin.schedule.as_deref(), origin.job.as_deref()), (Some("nightly"), None));
}

#[test]
fn a_datacenter_without_its_part_makes_it_incomplete() {
    let planes = [plane("eu", with("dc1", &[("b1", good("dc1"))])), plane("us", with("dc2", &[]))];
    let point = &points(&planes)["b1.shop"];
    assert_eq!(verdict(&point.status), ("Incomplete", Some("1/2")));
    assert_eq!(point.status.datacenters[1].status, MISSING);
    assert_eq!(drifts(&point.drift), [("dc2", "MedusaBackupMissing")]);
}

#[test]
fn a_datacenter_born_later_was_not_expected_and_cannot_be_restored_along() {
    let mut young = labelled("dc2", 3);
    young.metadata.creation_timestamp = Some(Time(at(SLOT + 2_000)));
    let planes = [plane("eu", with("dc1", &[("b1", good("dc1"))])), plane("us", live(&[young]))];
    let status = &points(&planes)["b1.shop"].status;
    assert!(status.complete && !status.restorable);
    assert_eq!(reason(status, "Restorable"), "TopologyMismatch");
}

#[test]
fn a_datacenter_made_anew_stays_expected() {
    let planes = |dc2| [plane("eu", with("dc1", &[("b1", good("dc1"))])), plane("us", live(&[dc2]))];
    let published = publish(&points(&planes(labelled("dc2", 3))));
    let mut anew = labelled("dc2", 3);
    anew.metadata.creation_timestamp = Some(Time(at(SLOT + 2_000)));
    let found = look(&planes(anew), &published, &BTreeMap::new());
    assert_eq!(verdict(&found["b1.shop"].status), ("Incomplete", Some("1/2")));
}

#[test]
fn what_a_silent_data_plane_held_is_carried_over() {
    let parts =
        [plane("eu", with("dc1", &[("b1", good("dc1"))])), plane("us", with("dc2", &[("b1", good("dc2"))]))];
    let published = publish(&points(&parts));
    let found = look(&[parts[0].clone(), plane("us", silent())], &published, &BTreeMap::new());
    assert!(found["b1.shop"].status.complete, "{:?}", found["b1.shop"]);
    let gone = [plane("eu", silent()), plane("us", silent())];
    assert_eq!(look(&gone, &published, &BTreeMap::new()).len(), 1);
}

#[test]
fn a_datacenter_nobody_can_ask_is_unknown_and_not_missing() {
    let eu = plane("eu", with("dc1", &[("b1", good("dc1"))]));
    for us in [silent(), lost(with("dc2", &[]))] {
        let found = look(&[eu.clone(), plane("us", us)], &BTreeMap::new(), &cluster_of_two());
        let point = &found["b1.shop"];
        assert_eq!(verdict(&point.status), ("Unknown", Some("1/2")));
        assert_eq!(point.status.datacenters[1].status, UNKNOWN);
        assert_eq!(reason(&point.status, "Complete"), "DataPlaneUnreachable");
        assert!(point.drift.is_empty(), "nobody knows");
    }
}

#[test]
fn what_is_known_to_be_missing_decides_although_another_is_silent() {
    let planes = [
        plane("eu", with("dc1", &[("b1", record("dc1", "FAILED", 3))])),
        plane("us", lost(with("dc2", &[]))),
    ];
    assert_eq!(verdict(&points(&planes)["b1.shop"].status).0, "Incomplete");
}

#[test]
fn a_datacenter_that_left_is_said_to_have_left() {
    let eu = plane("eu", with("dc1", &[("b1", good("dc1"))]));
    let us = || with("dc2", &[("b1", good("dc2"))]);
    let published = publish(&points(&[eu.clone(), plane("us", us())]));
    // Its data plane is not registered any more.
    let found = look(std::slice::from_ref(&eu), &published, &BTreeMap::new());
    let point = &found["b1.shop"];
    assert!(point.status.complete && !point.status.restorable);
    assert_eq!(reason(&point.status, "Restorable"), "DatacenterNotFound");
    assert_eq!(drifts(&point.drift), [("dc2", "DatacenterNotFound")]);
    // Only the datacenter is gone, and its MedusaBackups are there.
    let mut bare = us();
    bare.datacenters.clear();
    let found = look(&[eu.clone(), plane("us", bare)], &published, &BTreeMap::new());
    let point = &found["b1.shop"];
    assert!(point.status.complete && !point.status.restorable);
    assert_eq!(drifts(&point.drift), [("dc2", "DatacenterNotFound")]);
    // The same cluster registered under another name speaks for itself.
    let found = look(&[eu.clone(), plane("us-1", us())], &published, &BTreeMap::new());
    let point = &found["b1.shop"];
    assert!(point.status.restorable && point.drift.is_empty(), "{point:#?}");
    // Nothing of it is left anywhere.
    let found = look(&[plane("eu", with("dc1", &[]))], &published, &BTreeMap::new());
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_backup_that_only_anothers_listing_shows_wants_a_sync() {
    // Two datacenters share their storage, and k8ssandra-operator's sync lists everything in it.
    let named = |dc: &str| names::child("nightly", dc, UID);
    let foreign = BackupRecord { datacenter: "dc1".into(), ..good("dc2") };
    let eu = with("dc1", &[(&named("dc1"), good("dc1")), (&named("dc2"), foreign)]);
    let found = points(&[plane("eu", eu.clone()), plane("us", with("dc2", &[]))]);
    assert_eq!(found.keys().collect::<Vec<_>>(), [&format!("nightly-{UID}.shop")]);
    let point = &found[&format!("nightly-{UID}.shop")];
    assert_eq!(verdict(&point.status), ("Incomplete", Some("1/2")));
    assert_eq!(drifts(&point.drift), [("dc2", "NotSynced")]);
    let us = with("dc2", &[(&named("dc2"), good("dc2"))]);
    let found = points(&[plane("eu", eu), plane("us", us)]);
    assert!(found[&format!("nightly-{UID}.shop")].status.restorable);
}

#[test]
fn a_backup_without_status_is_unknown_not_complete() {
    let bare = BackupRecord { datacenter: "dc1".into(), ..BackupRecord::default() };
    let found = points(&[plane("eu", with("dc1", &[("b1", bare)]))]);
    assert!(!found["b1.shop"].status.complete);
    assert_eq!(found["b1.shop"].status.datacenters[0].status, UNKNOWN);
}

#[test]
fn topology_is_size_and_racks() {
    let dc = datacenter("dc1", 3);
    assert!(topology_matches(&good("dc1"), &dc));
    assert!(!topology_matches(&record("dc1", "SUCCESS", 2), &dc));
    let mut racked = datacenter("dc1", 3);
    racked.spec.racks = ["a", "b"].map(|name| crate::api::cassandra::Rack { name: name.into() }).to_vec();
    let mut split = good("dc1");
    split.racks = BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 1)]);
    assert!(topology_matches(&split, &racked));
    split.racks = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]);
    assert!(!topology_matches(&split, &racked));
}

#[test]
fn only_the_cluster_that_changed_is_computed_again() {
    let mut planes = [plane("eu", with("dc1", &[("b1", good("dc1"))])), plane("us", live(&[]))];
    let elsewhere = datacenter("dc9", 3);
    Arc::make_mut(&mut planes[1].view).datacenters.put(ObjectKey::of(&elsewhere), Arc::new(elsewhere));
    let none = BTreeMap::new();
    let mut inventory = Inventory::default();
    let unpublished = BTreeMap::new();
    let first = inventory.look(&planes, &unpublished, &none, BTreeMap::new(), now());
    assert_eq!((first.computed, first.unwritten.len()), (2, 1));
    let published = publish(&points(&planes));
    let second = inventory.look(&planes, &published, &none, BTreeMap::new(), now());
    assert_eq!((second.computed, second.unwritten.len()), (1, 0), "its FleetBackup is new");
    assert_eq!(inventory.look(&planes, &published, &none, BTreeMap::new(), now()).computed, 0);
    let backup = Arc::new(good("dc1"));
    Arc::make_mut(&mut planes[0].view).backups.put(ObjectKey::new("ns", "b2"), backup);
    let third = inventory.look(&planes, &published, &none, BTreeMap::new(), now());
    assert_eq!((third.computed, third.unwritten.len()), (1, 1));
    assert_eq!(third.digests["shop"].complete, 2);
    Arc::make_mut(&mut planes[0].view).backups.clear();
    let fourth = inventory.look(&planes, &published, &none, BTreeMap::new(), now());
    assert_eq!((fourth.unwritten.len(), fourth.gone), (0, vec!["b1.shop"]));
}

/// Backups of up to four data planes: a number, what made it, and Medusa's word.
type Backups = Vec<Vec<(i64, u8, &'static str)>>;

fn backups() -> impl Strategy<Value = Backups> {
    let words = prop_oneof![Just("SUCCESS"), Just("SUCCESS"), Just("FAILED"), Just("IN_PROGRESS"), Just("")];
    prop::collection::vec(prop::collection::vec((0..4_i64, 0..3_u8, words), 0..6), 1..5)
}

/// Data planes with one datacenter of the cluster each, and these backups in them.
fn fleet(backups: Backups) -> Vec<Snapshot> {
    let planes = backups.into_iter().enumerate();
    planes
        .map(|(number, backups)| {
            let dc = format!("dc{number}");
            let mut view = with(&dc, &[]);
            for (n, kind, status) in backups {
                let name = match kind {
                    0 => format!("manual{n}"),
                    1 => names::child(&format!("job{n}"), &dc, UID),
                    _ => format!("weekly-{}", SLOT + n * 50),
                };
                let mut record = record(&dc, status, 3);
                record.start_time = Some(at(SLOT + n * 50));
                view.backups.put(ObjectKey::new("ns", name), Arc::new(record));
            }
            plane(&format!("dp{number}"), view)
        })
        .collect()
}

proptest! {
    #[test]
    fn roll_ups_do_not_depend_on_the_order(backups in backups(), turn in 0..4_usize) {
        let planes = fleet(backups);
        let mut turned = planes.clone();
        turned.reverse();
        let len = turned.len();
        turned.rotate_left(turn % len);
        let (one, other) = (points(&planes), points(&turned));
        prop_assert_eq!(&one, &other);
        let mut list: Vec<RestorePoint> = one.into_values().collect();
        let digest = Digest::of(&list, now());
        list.reverse();
        prop_assert_eq!(digest, Digest::of(&list, now()));
    }

    #[test]
    fn what_is_published_is_settled(backups in backups()) {
        let planes = fleet(backups);
        let first = points(&planes);
        prop_assert_eq!(&look(&planes, &publish(&first), &BTreeMap::new()), &first);
    }

    #[test]
    fn unknown_never_counts_as_absent(
        backups in backups(), silenced in prop::collection::vec(any::<bool>(), 4), forgotten in any::<bool>(),
    ) {
        let planes = fleet(backups);
        let before = points(&planes);
        let published = publish(&before);
        let mut after = planes.clone();
        for (plane_, _) in after.iter_mut().zip(&silenced).filter(|(_, silent)| **silent) {
            let view = if forgotten { silent() } else { lost((*plane_.view).clone()) };
            *plane_ = plane(&plane_.name, view);
        }
        let found = look(&after, &published, &BTreeMap::new());
        let is_silent = |name: &str| after.iter().any(|p| p.name == name && !p.view.is_live());
        for (name, old) in &before {
            let point = found.get(name);
            prop_assert!(point.is_some(), "{} vanished", name);
            let status = &point.unwrap().status;
            prop_assert_eq!(status.complete, old.status.complete, "{}", name);
            for entry in status.datacenters.iter().filter(|e| is_silent(&e.data_plane)) {
                prop_assert_ne!(&entry.status, MISSING);
            }
            let lacking: Vec<_> =
                status.datacenters.iter().filter(|e| !super::verdict::is_whole(e)).collect();
            if !lacking.is_empty() && lacking.iter().all(|e| is_silent(&e.data_plane)) {
                prop_assert!(matches!(status.phase.as_str(), "Unknown" | "InProgress"), "{}", name);
            }
            prop_assert!(point.unwrap().drift.iter().all(|d| !is_silent(&d.data_plane)));
        }
    }
}
