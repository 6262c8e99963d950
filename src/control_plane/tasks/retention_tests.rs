//! The ruling against a model of Medusa's own purge (`medusa/purge.py`).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use rstest::rstest;

use super::*;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// The moment of the ruling.
const NOW: i64 = 100 * DAY;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn part(dc: &str, backup: &str, start: Option<i64>) -> FleetBackupDatacenter {
    FleetBackupDatacenter {
        name: dc.to_owned(),
        data_plane: "eu".to_owned(),
        namespace: "ns".to_owned(),
        medusa_backup: Some(backup.to_owned()),
        status: "SUCCESS".to_owned(),
        start_time: start.map(|s| Time(at(s))),
        ..FleetBackupDatacenter::default()
    }
}

fn point(complete: bool, parts: Vec<FleetBackupDatacenter>) -> FleetBackupStatus {
    FleetBackupStatus {
        cluster: "shop".to_owned(),
        complete,
        start_time: parts.iter().filter_map(|p| p.start_time.clone()).min_by_key(|t| t.0),
        datacenters: parts,
        ..FleetBackupStatus::default()
    }
}

fn ruling(
    points: &BTreeMap<String, FleetBackupStatus>,
    dc: &str,
    held: &[Held],
    limits: Limits,
) -> Result<String, Why> {
    let datacenter = ObjectKey::new("ns", dc);
    let question =
        Question { cluster: "shop", data_plane: "eu", datacenter: &datacenter, points, held, limits };
    rule(&question, at(NOW))
}

fn ended(name: &str, end: Option<i64>) -> Held {
    Held { name: name.to_owned(), end: end.map(at) }
}

/// One complete restore point `p`, and `later` failed backups since.
fn verdict(age: i64, later: usize, age_days: Option<u32>, count: Option<u32>) -> String {
    let start = NOW - age;
    let points = BTreeMap::from([("p".to_owned(), point(true, vec![part("dc1", "p-dc1", Some(start))]))]);
    let mut held = vec![ended("p-dc1", Some(start + 60)), ended("old", Some(start - 60))];
    held.extend((0..later).map(|n| ended(&format!("failed-{n}"), Some(start + 120))));
    match ruling(&points, "dc1", &held, Limits { age_days, count, ..Limits::default() }) {
        Ok(name) => format!("keeps {name}"),
        Err(why) => why.reason.to_string(),
    }
}

const REFUSED: &str = "WouldRemoveLastRestorePoint";

#[rstest]
#[case::no_limits(99 * DAY, 50, Some(0), Some(0), "keeps p")]
#[case::young_enough(7 * DAY - 7 * HOUR, 0, Some(7), Some(0), "keeps p")]
#[case::too_old_before_the_purge_is_over(7 * DAY - 5 * HOUR, 0, Some(7), Some(0), REFUSED)]
#[case::too_old(8 * DAY, 0, Some(7), Some(0), REFUSED)]
#[case::failed_runs_leave_it_in_place(HOUR, 2, Some(0), Some(3), "keeps p")]
#[case::failed_runs_push_it_out(HOUR, 3, Some(0), Some(3), REFUSED)]
#[case::the_newest_of_all_stays(HOUR, 0, Some(1), Some(1), "keeps p")]
#[case::unknown_limits_are_the_strictest(HOUR, 0, None, None, "keeps p")]
#[case::an_unknown_age_is_a_day(19 * HOUR, 0, None, Some(0), REFUSED)]
#[case::an_unknown_count_is_one(HOUR, 1, Some(0), None, REFUSED)]
fn the_newest_complete_restore_point_must_survive(
    #[case] age: i64,
    #[case] later: usize,
    #[case] age_days: Option<u32>,
    #[case] count: Option<u32>,
    #[case] expected: &str,
) {
    assert_eq!(verdict(age, later, age_days, count), expected);
}

#[test]
fn without_a_complete_restore_point_nothing_is_purged() {
    let none = Limits { age_days: Some(0), count: Some(0), ..Limits::default() };
    let refused = |points: &BTreeMap<String, FleetBackupStatus>| ruling(points, "dc1", &[], none).is_err();
    assert!(refused(&BTreeMap::new()));
    let half = point(false, vec![part("dc1", "p-dc1", Some(NOW - HOUR))]);
    assert!(refused(&BTreeMap::from([("p".to_owned(), half)])));
    let mut others = point(true, vec![part("dc1", "p-dc1", Some(NOW - HOUR))]);
    others.cluster = "blog".to_owned();
    assert!(refused(&BTreeMap::from([("p".to_owned(), others)])));
    let undated = point(true, vec![part("dc1", "p-dc1", None)]);
    assert!(refused(&BTreeMap::from([("p".to_owned(), undated)])));
}

#[test]
fn a_datacenter_that_came_after_the_restore_point_holds_nothing_of_it() {
    let points = BTreeMap::from([("p".to_owned(), point(true, vec![part("dc1", "p", Some(NOW - 9 * DAY))]))]);
    let week = Limits { age_days: Some(7), count: Some(1), ..Limits::default() };
    assert_eq!(ruling(&points, "dc2", &[], week), Ok("p".to_owned()));
}

/// One node's part of one backup.
#[derive(Clone, Debug)]
struct NodeBackup {
    backup: usize,
    started: i64,
}

/// What `purge.py` leaves of one node's backups, run at `now`.
fn medusas_purge(mut backups: Vec<NodeBackup>, age_days: u32, count: u32, now: i64) -> Vec<NodeBackup> {
    let all = backups.clone();
    backups.sort_by_key(|b| b.started);
    let count = usize::try_from(count).unwrap();
    let surplus = if count > 0 { backups.len().saturating_sub(count) } else { 0 };
    let by_count: Vec<usize> = backups.iter().take(surplus).map(|b| b.backup).collect();
    let too_old = |b: &NodeBackup| age_days > 0 && b.started < now - i64::from(age_days) * DAY;
    all.into_iter().filter(|b| !too_old(b) && !by_count.contains(&b.backup)).collect()
}

/// A backup run: when each datacenter's part begins, how long it takes, and which nodes it fails on.
#[derive(Clone, Debug)]
struct Run {
    starts: Vec<i64>,
    seconds: i64,
    fails: Vec<bool>,
    failed_before_start: bool,
}

fn run(datacenters: usize, nodes: usize) -> impl Strategy<Value = Run> {
    let start = (1_i64..12 * DAY)
        .prop_flat_map(move |base| proptest::collection::vec(base..base + 2 * HOUR, datacenters));
    let fails = prop_oneof![
        3 => Just(vec![false; datacenters * nodes]),
        1 => proptest::collection::vec(any::<bool>(), datacenters * nodes),
    ];
    (start, 10_i64..3 * HOUR, fails, any::<bool>()).prop_map(|(ages, seconds, fails, failed_before_start)| {
        Run {
            starts: ages.into_iter().map(|age| NOW - 4 * HOUR - age).collect(),
            seconds,
            fails,
            failed_before_start,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_last_complete_restore_point_is_never_removed_by_a_purge_that_was_started(
        (datacenters, nodes, runs) in (1_usize..4, 1_usize..4).prop_flat_map(|(datacenters, nodes)| {
            (Just(datacenters), Just(nodes), proptest::collection::vec(run(datacenters, nodes), 0..8))
        }),
        (age_days, age_is_known) in (0_u32..9, any::<bool>()),
        (count, count_is_known) in (0_u32..6, any::<bool>()),
        selected in proptest::collection::vec(any::<bool>(), 3),
        delay in 0_i64..6 * HOUR,
    ) {
        let dc = |n: usize| format!("dc{n}");
        let name = |run: usize, n: usize| format!("run{run}-{}", dc(n));
        // What the storage holds, by datacenter and node. A failed node's part is there too, unless it failed early.
        let mut storage: Vec<Vec<Vec<NodeBackup>>> = vec![vec![Vec::new(); nodes]; datacenters];
        let mut points = BTreeMap::new();
        let mut held: Vec<Vec<Held>> = vec![Vec::new(); datacenters];
        let is_complete = |run: &Run| !run.fails.iter().any(|failed| *failed);
        for (number, run) in runs.iter().enumerate() {
            for n in 0..datacenters {
                for (node, stored) in storage[n].iter_mut().enumerate() {
                    let failed = run.fails[n * nodes + node];
                    if !(failed && run.failed_before_start) {
                        // Nodes begin at their own pace.
                        let started = run.starts[n] + run.seconds * i64::try_from(node).unwrap() / 4;
                        stored.push(NodeBackup { backup: number, started });
                    }
                }
                held[n].push(Held { name: name(number, n), end: Some(at(run.starts[n] + run.seconds)) });
            }
            let parts = (0..datacenters).map(|n| part(&dc(n), &name(number, n), Some(run.starts[n]))).collect();
            points.insert(format!("run{number}"), point(is_complete(run), parts));
        }
        let limits = Limits { age_days: age_is_known.then_some(age_days), count: count_is_known.then_some(count), ..Limits::default() };
        let mut purged = false;
        for n in (0..datacenters).filter(|n| selected[*n]) {
            if ruling(&points, &dc(n), &held[n], limits).is_ok() {
                purged = true;
                for node in &mut storage[n] {
                    *node = medusas_purge(std::mem::take(node), age_days, count, NOW + delay);
                }
            }
        }
        let survives = |number: usize| {
            storage.iter().flatten().all(|node| node.iter().any(|b| b.backup == number))
        };
        let left = runs.iter().enumerate().any(|(number, run)| is_complete(run) && survives(number));
        prop_assert!(!purged || left, "no complete restore point is left");
    }
}
