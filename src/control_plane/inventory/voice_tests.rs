//! Tests of restore points: whose backups count, which belong together, and who is at work on them.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};

use super::{
    digest::Digest,
    memo::Inventory,
    observe::{Planes, PublishedPoints, survey},
    points::{RestorePoint, restore_points},
};
use crate::{
    api::{Conditions as _, labels, names},
    control_plane::{
        data_planes::{
            fleet::Snapshot,
            records::{BackupRecord, RunRecord},
            view::{ObjectKey, View},
        },
        fanout::tests::{datacenter, fleet_job, live, made, pending, plane},
    },
};

const SLOT: i64 = 1_700_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn record(dc: &str, status: &str) -> BackupRecord {
    BackupRecord {
        datacenter: dc.into(),
        status: status.into(),
        total_nodes: 3,
        finished_nodes: 3,
        start_time: Some(at(SLOT)),
        finish_time: Some(at(SLOT + 60)),
        racks: BTreeMap::from([("default".to_owned(), 3)]),
        node_datacenters: vec![dc.to_owned()],
        ..BackupRecord::default()
    }
}

fn with(dc: &str, backups: &[(&str, BackupRecord)]) -> View {
    let mut object = datacenter(dc, 3);
    object.metadata.labels = Some(BTreeMap::from([(labels::CLUSTER.to_owned(), "shop".to_owned())]));
    let mut view = live(&[object]);
    for (name, record) in backups {
        view.backups.put(ObjectKey::new("ns", *name), Arc::new(record.clone()));
    }
    view
}

fn points_at(planes: &[Snapshot], now: Timestamp) -> BTreeMap<String, RestorePoint> {
    let (known, published) = (Planes::of(planes), PublishedPoints::new());
    survey(planes, &published, &BTreeMap::new())
        .iter()
        .flat_map(|(cluster, group)| restore_points(cluster, group, &known, &published, now))
        .map(|point| (point.name.clone(), point))
        .collect()
}

fn points(planes: &[Snapshot]) -> BTreeMap<String, RestorePoint> {
    points_at(planes, at(SLOT + 100))
}

fn phase(found: &BTreeMap<String, RestorePoint>, name: &str) -> String {
    found.get(name).map_or_else(|| format!("none of {:?}", found.keys()), |p| p.status.phase.clone())
}

#[test]
fn an_import_of_a_datacenter_that_is_not_in_the_cluster_protects_nobody() {
    let foreign = || BackupRecord { datacenter: "dc1".into(), ..record("dc2", "SUCCESS") };
    let found = points(&[plane("eu", with("dc1", &[("base-dc2-86c86fc9", foreign())]))]);
    let point = &found["base-86c86fc9.shop"];
    assert!(!point.status.complete && !point.status.restorable && point.drift.is_empty());
    assert_eq!(
        (point.status.phase.as_str(), point.status.datacenters[0].status.as_str()),
        ("Foreign", "FOREIGN")
    );
    assert_eq!(point.status.conditions.of_type("Complete").unwrap().reason, "ForeignBackup");
    let digest = Digest::of(&found.into_values().collect::<Vec<_>>(), at(SLOT + 100));
    assert_eq!((digest.complete, digest.last, digest.foreign), (0, None, 1));
    assert!(digest.newest.is_empty(), "nor is it the datacenter's newest backup");
    // Beside one's own of the same run it is no part either.
    let own = record("dc1", "SUCCESS");
    let both = [("base-dc1-86c86fc9", own), ("base-dc2-86c86fc9", foreign())];
    let found = points(&[plane("eu", with("dc1", &both))]);
    let status = &found["base-86c86fc9.shop"].status;
    assert_eq!((status.phase.as_str(), status.done.as_deref()), ("Complete", Some("1/1")));
}

#[test]
fn an_equally_named_datacenter_of_another_cluster_of_the_fleet_is_told_apart_by_its_pods() {
    let of = |cluster: &str| BackupRecord {
        stateful_sets: vec![format!("{cluster}-dc1-default")],
        ..record("dc1", "SUCCESS")
    };
    let mut copy = datacenter("dc1", 3);
    copy.spec.cluster_name = "copy".to_owned();
    let mut view = live(&[copy]);
    view.backups.put(ObjectKey::new("ns", "b1"), Arc::new(of("shop")));
    view.backups.put(ObjectKey::new("ns", "own"), Arc::new(of("copy")));
    view.backups.put(ObjectKey::new("ns", "odd"), Arc::new(of("nobodys")));
    let planes = [plane("eu", with("dc1", &[("b1", of("shop"))])), plane("us", view)];
    let found = points(&planes);
    assert_eq!(phase(&found, "b1.shop"), "Complete");
    assert_eq!(phase(&found, "b1.copy.ns.us"), "Foreign");
    assert_eq!(phase(&found, "own.copy.ns.us"), "Complete");
    assert_eq!(phase(&found, "odd.copy.ns.us"), "Complete", "nobody knows better");
}

#[test]
fn what_is_in_progress_with_an_end_or_without_a_job_is_not_in_progress() {
    let left = record("dc1", "IN_PROGRESS");
    let open = BackupRecord { finish_time: None, finished_nodes: 1, ..left.clone() };
    let see = |name: &str, record: &BackupRecord, now: i64| {
        let found = points_at(&[plane("eu", with("dc1", &[(name, record.clone())]))], at(now));
        found.into_values().next().unwrap().status
    };
    let status = see("phantom", &left, SLOT + 100);
    assert_eq!(status.phase, "Incomplete");
    let complete = status.conditions.of_type("Complete").unwrap();
    assert!(
        complete.reason == "BackupIncomplete" && complete.message.contains("nobody is at work"),
        "{complete:?}"
    );
    assert_eq!(see("by-hand", &open, SLOT + 100).phase, "InProgress");
    assert_eq!(see("by-hand", &open, SLOT + 60 * 3_600).phase, "Incomplete");
    // A job of the fleet would be seen.
    assert_eq!(see("nightly-dc1-0b1c2d3e", &open, SLOT + 100).phase, "Incomplete");
    let job = fleet_job("nightly");
    let mut view = with("dc1", &[("nightly-dc1-0b1c2d3e", open)]);
    view.jobs.items_mut().extend([made(&job, &pending("eu", "dc1"), 1, serde_json::json!({}))]);
    assert_eq!(phase(&points(&[plane("eu", view)]), "nightly-0b1c2d3e.shop"), "InProgress");
}

#[test]
fn a_backup_nobody_finishes_is_given_up_although_nothing_else_happens() {
    let open = BackupRecord { finish_time: None, ..record("dc1", "IN_PROGRESS") };
    let planes = [plane("eu", with("dc1", &[("by-hand", open)]))];
    let (mut inventory, none, unpublished) = (Inventory::default(), BTreeMap::new(), BTreeMap::new());
    let mut phase = |hours: i64| {
        let now = at(SLOT).checked_add(SignedDuration::from_hours(hours)).unwrap();
        let look = inventory.look(&planes, &unpublished, &none, BTreeMap::new(), now);
        look.unwritten[0].1.phase.clone()
    };
    assert_eq!(
        (phase(1), phase(47), phase(49)),
        ("InProgress".into(), "InProgress".into(), "Incomplete".into())
    );
}

#[test]
fn a_delegated_slot_is_in_progress_until_its_slowest_datacenter_is_done() {
    let named = |dc: &str| format!("{}-{SLOT}", names::child("nightly", dc, "0b1c2d3e"));
    let mut slow = with("dc1", &[]);
    let run = RunRecord { datacenter: "dc1".to_owned(), ..RunRecord::default() };
    slow.scheduled_jobs.put(ObjectKey::new("ns", named("dc1")), Arc::new(run.clone()));
    let done = plane("us", with("dc2", &[(&named("dc2"), record("dc2", "SUCCESS"))]));
    let point = |slow: View| points(&[plane("eu", slow), done.clone()]).into_values().next().unwrap();
    let found = point(slow.clone());
    assert_eq!((found.status.phase.as_str(), found.status.done.as_deref()), ("InProgress", Some("1/2")));
    assert!(found.drift.is_empty(), "a sync would help nobody");
    let over = RunRecord { finish_time: Some(at(SLOT + 90)), ..run };
    slow.scheduled_jobs.put(ObjectKey::new("ns", named("dc1")), Arc::new(over));
    assert_eq!(point(slow).status.phase, "Incomplete");
}

#[test]
fn a_late_run_takes_nobodys_partner() {
    // The first looks late, right before its next slot; the second was on time.
    let named = |second: i64| format!("weekly-{second}");
    let slots = |dc: &str, seconds: &[i64]| {
        let names: Vec<(String, i64)> =
            seconds.iter().map(|second| (named(SLOT + second), SLOT + second)).collect();
        let made = |second: i64| BackupRecord { start_time: Some(at(second)), ..record(dc, "SUCCESS") };
        let backups: Vec<(&str, BackupRecord)> =
            names.iter().map(|(name, second)| (name.as_str(), made(*second))).collect();
        with(dc, &backups)
    };
    let joined = |one: &[i64], other: &[i64]| {
        let planes = [plane("eu", slots("dc1", one)), plane("us", slots("dc2", other))];
        let found = points(&planes);
        let whole = found.iter().filter(|(_, point)| point.status.complete);
        whole.map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    let point = |second: i64| format!("{}.shop", named(SLOT + second));
    assert_eq!(joined(&[0, 279, 360], &[0, 300, 360]), [point(0), point(279), point(360)]);
    assert_eq!(joined(&[-90, 5], &[0]), [point(0)], "the nearest, not the first");
    assert_eq!(joined(&[-60, 0], &[0, 60]), [point(0)], "the very same name is the same slot");
}
