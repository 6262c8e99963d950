//! The guard against a model of Medusa's own purge, whatever Kubernetes still shows.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    api::retention::Doubt,
    data_plane::medusa::client::proto::{BackupNode, StatusType},
};

const DAY: i64 = 24 * 3600;
const NOW: i64 = 100 * DAY;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn dc() -> CassandraDatacenter {
    serde_json::from_value(json!({"metadata": {"name": "dc1"}, "spec": {}})).unwrap()
}

/// A backup of `nodes` nodes of `datacenter`, of which `finished` are done.
fn summary(name: &str, datacenter: &str, times: (i64, i64), (nodes, finished): (i32, i32)) -> BackupSummary {
    BackupSummary {
        backup_name: name.to_owned(),
        start_time: times.0,
        finish_time: if finished == nodes { times.1 } else { 0 },
        total_nodes: nodes,
        finished_nodes: finished,
        nodes: (0..nodes)
            .map(|n| BackupNode {
                host: format!("n{n}"),
                datacenter: datacenter.to_owned(),
                ..BackupNode::default()
            })
            .collect(),
        status: if finished == nodes { StatusType::Success } else { StatusType::InProgress }.into(),
        ..BackupSummary::default()
    }
}

fn limits(age_days: u32, count: u32) -> Limits {
    Limits { age_days: Some(age_days), count: Some(count), ..Limits::default() }
}

fn task(annotations: &serde_json::Value) -> MedusaTask {
    let metadata = json!({"name": "t", "annotations": annotations});
    let spec = json!({"cassandraDatacenter": "dc1", "operation": "purge"});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

fn told(annotations: &serde_json::Value, limits: Limits, listing: &[BackupSummary]) -> String {
    match Guard::of(&task(annotations), limits) {
        None => "unguarded".to_owned(),
        Some(guard) => match guard.check(listing, &dc(), at(NOW)) {
            Ok(()) => "purges".to_owned(),
            Err(problem) => {
                assert_eq!((problem.reason, problem.may_heal), (Reason::WouldRemoveLastRestorePoint, false));
                problem.message
            }
        },
    }
}

/// Eight nights failed on one node after `p`, and nothing of that is left in Kubernetes.
#[test]
fn backups_that_failed_count_though_no_object_tells_of_them() {
    let mut listing = vec![summary("p", "dc1", (NOW - 9 * 3600, NOW - 8 * 3600), (3, 3))];
    listing.extend((0..8).map(|n| {
        let start = NOW - 3600 - n * 60;
        summary(&format!("failed-{n}"), "dc1", (start, start), (3, 2))
    }));
    let message = told(&json!({}), limits(0, 7), &listing);
    assert!(
        message.contains("leaves 7 backups") && message.contains("8 may have begun after `p`"),
        "{message}"
    );
    assert_eq!(told(&json!({}), limits(0, 9), &listing), "purges");
    assert_eq!(told(&json!({}), limits(7, 0), &listing), "purges");
    assert!(
        told(&json!({}), Limits { age_days: Some(0), count: Some(8), ..Limits::default() }, &listing)
            .contains("`p`")
    );
    for backup in &mut listing[1..] {
        *backup = summary(&backup.backup_name, "dc2", (backup.start_time, 0), (3, 2));
    }
    assert_eq!(
        told(&json!({}), limits(0, 1), &listing),
        "purges",
        "another datacenter's nodes are not purged here"
    );
}

#[test]
fn the_restore_point_of_the_whole_cluster_is_kept_also_where_the_datacenter_has_newer_backups() {
    let listing = [
        summary("p", "dc1", (NOW - 9 * 3600, NOW - 8 * 3600), (3, 3)),
        summary("half", "dc1", (NOW - 7 * 3600, NOW - 6 * 3600), (3, 3)),
    ];
    let keep = |name: &str| json!({labels::KEEP: name});
    assert_eq!(told(&json!({}), limits(0, 1), &listing), "purges", "the newest whole one stays");
    assert!(told(&keep("p"), limits(0, 1), &listing).contains("`p`, which is to be kept"));
    assert_eq!(told(&keep("p"), limits(0, 2), &listing), "purges");
    assert!(told(&keep("gone"), limits(0, 2), &listing).contains("does not hold"));
}

#[test]
fn unknown_limits_are_the_strictest_and_no_configuration_at_all_stops_a_control_planes_purge_only() {
    let listing = [
        summary("p", "dc1", (NOW - 9 * 3600, NOW - 8 * 3600), (3, 3)),
        summary("failed", "dc1", (NOW - 7 * 3600, 0), (3, 2)),
    ];
    assert_eq!(told(&json!({}), Limits::default(), &listing), "unguarded");
    assert!(told(&json!({labels::KEEP: "p"}), Limits::default(), &listing).contains("could not be read"));
    assert!(
        told(&json!({}), Limits::unknown(Doubt::ChangedLately), &listing)
            .contains("changed less than 5 min ago")
    );
    let half = Limits { age_days: Some(7), ..Limits::default() };
    assert!(told(&json!({}), half, &listing).contains("leaves 1 backups"), "the count is no number");
    assert_eq!(told(&json!({labels::PURGE_UNCHECKED: "true"}), limits(0, 1), &listing), "unguarded");
    assert!(told(&json!({labels::PURGE_UNCHECKED: "no"}), limits(0, 1), &listing).contains("`p`"));
    assert_eq!(told(&json!({}), limits(0, 0), &[]), "unguarded", "only orphans go");
    assert_eq!(told(&json!({}), limits(1, 1), &[]), "purges", "there is nothing to keep");
}

/// Else they would count until they are purged, and never are.
#[test]
fn backups_that_failed_long_before_the_newest_whole_one_do_not_count_for_ever() {
    let failed = |days: i64| summary(&format!("f{days}"), "dc1", (NOW - days * DAY, 0), (3, 2));
    let mut listing: Vec<BackupSummary> = (4..12).map(failed).collect();
    listing.push(summary("p", "dc1", (NOW - 2 * DAY, NOW - 2 * DAY + 60), (3, 3)));
    assert_eq!(told(&json!({}), limits(0, 1), &listing), "purges");
    listing.push(failed(3));
    assert!(
        told(&json!({}), limits(0, 1), &listing).contains("1 may have begun after"),
        "a node may have begun late"
    );
}

#[test]
fn the_last_whole_backup_is_not_purged_for_its_age() {
    let listing = [summary("p", "dc1", (NOW - 9 * DAY, NOW - 9 * DAY + 60), (1, 1))];
    assert!(told(&json!({}), limits(7, 0), &listing).contains("216 h old"));
    let mut newer = listing.to_vec();
    newer.push(summary("q", "dc1", (NOW - DAY, NOW - DAY + 60), (1, 1)));
    assert_eq!(told(&json!({}), limits(7, 0), &newer), "purges");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Every node's parts, however they went; what Kubernetes shows of them plays no part at all.
    #[test]
    fn the_newest_whole_backup_survives_every_purge_that_is_let_through(
        backups in prop::collection::vec(
            (4 * 3600_i64..12 * DAY, 10_i64..3 * 3600, prop::collection::vec(0_u8..4, 3)), 0..8,
        ),
        (age_days, count) in (0_u32..9, 0_u32..6),
        delay in 0_i64..6 * 3600,
    ) {
        let nodes = 3_i32;
        let mut stored: BTreeMap<usize, Vec<(usize, i64)>> = BTreeMap::new();
        let mut listing = Vec::new();
        for (number, (age, takes, fates)) in backups.iter().enumerate() {
            let start = NOW - age;
            let mut finished = 0;
            let mut begun = Vec::new();
            // Of a node's part: 0 is none, 1 unfinished, else done.
            for (node, fate) in fates.iter().enumerate() {
                let own = start + takes * i64::try_from(node).unwrap() / 4;
                if *fate > 0 {
                    stored.entry(node).or_default().push((number, own));
                    begun.push(own);
                }
                finished += i32::from(*fate > 1);
            }
            if let Some(first) = begun.iter().min() {
                listing.push(summary(&format!("b{number}"), "dc1", (*first, start + takes), (nodes, finished)));
            }
        }
        let newest = listing.iter().filter(|s| s.finished_nodes == nodes).max_by_key(|s| (s.start_time, &s.backup_name));
        let newest = newest.map(|s| s.backup_name[1..].parse::<usize>().unwrap());
        let guard = Guard::of(&task(&json!({})), limits(age_days, count));
        let is_let_through = guard.is_none_or(|guard| guard.check(&listing, &dc(), at(NOW)).is_ok());
        if let Some(newest) = newest.filter(|_| is_let_through) {
            for parts in stored.values() {
                let mut by_age: Vec<&(usize, i64)> = parts.iter().collect();
                by_age.sort_by_key(|(_, start)| *start);
                let count = usize::try_from(count).unwrap();
                let surplus = if count > 0 { parts.len().saturating_sub(count) } else { 0 };
                let oldest = NOW + delay - i64::from(age_days) * DAY;
                let goes = |place: usize, start: i64| place < surplus || (age_days > 0 && start < oldest);
                let survives = by_age.iter().enumerate().any(|(place, (backup, start))| {
                    *backup == newest && !goes(place, *start)
                });
                prop_assert!(survives, "b{newest} is gone: {listing:?}");
            }
        }
    }
}
