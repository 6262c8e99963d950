//! Decisions of the gate, cluster by cluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::medusa::MedusaRestoreJob,
    control_plane::{
        data_planes::{capabilities::Capabilities, records::BackupRecord, view::View},
        fanout::tests::{datacenter, fleet_job, live, pending, plane, silent},
    },
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

const NOW: i64 = 1_000_000;

fn record(dc: &str, finish: i64) -> BackupRecord {
    BackupRecord {
        datacenter: dc.to_owned(),
        status: "SUCCESS".to_owned(),
        start_time: Some(at(finish - 60)),
        finish_time: Some(at(finish)),
        total_nodes: 1,
        finished_nodes: 1,
        ..BackupRecord::default()
    }
}

/// A view of `dc` of cluster `shop` that has the backup `p`.
fn with_backup(dc: &str) -> View {
    let mut object = datacenter(dc, 1);
    object.metadata.labels =
        Some(BTreeMap::from([("fleet.k8ssandra.io/cluster".to_owned(), "shop".to_owned())]));
    let mut view = live(&[object]);
    view.backups.put(ObjectKey::new("ns", "p"), Arc::new(record(dc, NOW - 3600)));
    view
}

fn job(plane: &str, name: &str, dc: Option<&str>, end: Option<i64>) -> ObservedJob {
    ObservedJob {
        data_plane: plane.to_owned(),
        key: ObjectKey::new("ns", name),
        datacenter: dc.map(str::to_owned),
        end: end.map(at),
    }
}

fn decided(planes: &[Snapshot], jobs: &[ObservedJob], runs: &[FleetBackupJob], count: u32) -> String {
    let points = points("shop", planes, &PublishedPoints::new(), &PublishedClusters::new(), at(NOW));
    let mut run = pending("eu", "dc1");
    run.cluster = "shop".to_owned();
    let limits = Limits { age_days: Some(7), count: Some(count), ..Limits::default() };
    let runs: Vec<_> = runs.iter().map(|run| Arc::new(DeserializeGuard(Ok(run.clone())))).collect();
    let facts = Facts { planes, cluster: None, points: &points, runs: &runs, jobs, limits };
    told(&run, &facts)
}

fn told(run: &DatacenterRun, facts: &Facts<'_>) -> String {
    match decide(run, facts, at(NOW)) {
        Ok(point) => format!("keeps {point}"),
        Err(Outcome::NotNow(reason, _)) => format!("waits: {reason}"),
        Err(Outcome::Refused(reason, _)) => format!("refused: {reason}"),
        Err(other) => panic!("{other:?}"),
    }
}

fn two() -> [Snapshot; 2] {
    [plane("eu", with_backup("dc1")), plane("us", with_backup("dc2"))]
}

#[test]
fn a_cluster_at_rest_with_a_complete_restore_point_may_be_purged() {
    assert_eq!(decided(&two(), &[], &[], 1), "keeps p.shop");
    let old = job("eu", "old", Some("dc1"), Some(NOW - 9000));
    assert_eq!(decided(&two(), &[old], &[], 1), "keeps p.shop");
}

#[test]
fn failed_runs_since_count_whoever_made_them_and_so_does_what_cannot_be_read() {
    let failed = job("eu", "failed", Some("dc1"), Some(NOW - 60));
    let refused = "refused: WouldRemoveLastRestorePoint";
    assert_eq!(decided(&two(), std::slice::from_ref(&failed), &[], 1), refused);
    assert_eq!(decided(&two(), &[failed], &[], 2), "keeps p.shop");
    assert_eq!(decided(&two(), &[job("eu", "garbage", None, None)], &[], 1), refused);
    let elsewhere = job("us", "failed", Some("dc2"), Some(NOW - 60));
    assert_eq!(decided(&two(), &[elsewhere], &[], 1), "keeps p.shop");
    let mut view = with_backup("dc1");
    view.backups.blur(ObjectKey::new("ns", "garbage"), "it cannot be read".to_owned());
    let planes = [plane("eu", view), two()[1].clone()];
    assert_eq!(decided(&planes, &[], &[], 1), refused, "also a MedusaBackup");
}

#[test]
fn a_datacenter_of_the_cluster_that_cannot_be_read_holds_a_purge_up() {
    let mut view = with_backup("dc1");
    view.datacenters.blur(ObjectKey::new("ns", "dc2"), "it cannot be read".to_owned());
    let planes = [plane("eu", view)];
    let datacenters = json!([{"dataPlane": "eu", "namespace": "ns", "name": "dc2", "size": 1, "medusa": {"deployed": true}}]);
    let cluster: FleetClusterStatus = serde_json::from_value(json!({"datacenters": datacenters})).unwrap();
    let mut published = crate::api::fleet::FleetCluster::new("shop", crate::api::fleet::FleetClusterSpec {});
    published.status = Some(cluster.clone());
    let published = PublishedClusters::from([("shop".to_owned(), Arc::new(published))]);
    let points = points("shop", &planes, &PublishedPoints::new(), &published, at(NOW));
    assert!(points.values().all(|point| !point.complete), "{points:?}");
    let mut run = pending("eu", "dc1");
    run.cluster = "shop".to_owned();
    let limits = Limits { age_days: Some(7), count: Some(9), ..Limits::default() };
    let facts = |cluster| Facts { planes: &planes, cluster, points: &points, runs: &[], jobs: &[], limits };
    assert_eq!(told(&run, &facts(Some(&cluster))), "waits: RestorePointsUnknown");
    let Err(Outcome::NotNow(_, message)) = decide(&run, &facts(Some(&cluster)), at(NOW)) else {
        panic!("waits")
    };
    assert!(message.contains("ns/dc2 cannot be read"), "{message}");
}

#[test]
fn a_backup_of_a_time_to_come_is_nothing_a_purge_leaves_and_counts_as_begun_later() {
    let with = |name: &str, start: i64, finish: i64| {
        let mut view = with_backup("dc1");
        let odd = BackupRecord { start_time: Some(at(start)), ..record("dc1", finish) };
        view.backups.put(ObjectKey::new("ns", name), Arc::new(odd));
        [plane("eu", view), two()[1].clone()]
    };
    let hour = 3_600;
    let refused = "refused: WouldRemoveLastRestorePoint";
    let forged = with("q", NOW + hour, NOW + hour + 60);
    assert_eq!(
        decided(&forged[..1], &[], &[], 1),
        refused,
        "it is not the newest, and may have begun after `p`"
    );
    assert_eq!(decided(&forged, &[], &[], 2), "keeps p.shop");
    let backwards = with("q", NOW - 60, NOW - 9_000);
    assert_eq!(decided(&backwards, &[], &[], 1), refused, "it ended before it began");
    let ahead = with("q", NOW + 60, NOW + 120);
    assert_eq!(decided(&ahead[..1], &[], &[], 1), "keeps q.shop", "clocks differ by a minute");
}

/// A run `night-<n>` that made `attempts` attempts at dc1 and failed `ago` seconds ago.
fn failed_run(n: usize, ago: i64, attempts: i64, more: &Value) -> FleetBackupJob {
    let end = Time(at(NOW - ago));
    let mut run = fleet_job(&format!("night-{n}"));
    run.metadata.uid = Some(format!("{n:08x}"));
    let mut entry = json!({"dataPlane": "eu", "namespace": "ns", "datacenter": "dc1", "cluster": "shop",
        "phase": "Failed", "attempts": attempts, "startTime": at(NOW - ago - 60), "finishTime": end});
    entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let status = json!({"phase": "Failed", "finishTime": end, "datacenters": [entry]});
    run.status = Some(serde_json::from_value(status).unwrap());
    run
}

/// The MedusaBackupJobs a run has left.
fn left_by(run: &FleetBackupJob) -> Vec<ObservedJob> {
    let entry = &run.status.as_ref().unwrap().datacenters[0];
    let names = (1..=entry.attempts()).map(|n| child_key(run, entry, n).name);
    names
        .map(|name| job("eu", &name, Some("dc1"), Some(entry.finish_time.as_ref().unwrap().0.as_second())))
        .collect()
}

/// Of eight nights that failed only three FleetBackupJobs are kept. Their MedusaBackupJobs are all there, as those
/// that tell alone of a backup are left when a run goes.
#[test]
fn failed_runs_that_are_not_kept_are_counted_by_what_they_left() {
    let runs: Vec<_> = (0..8).map(|n| failed_run(n, 60, 1, &json!({}))).collect();
    let jobs: Vec<_> = runs.iter().flat_map(left_by).collect();
    assert_eq!(decided(&two(), &jobs, &runs[5..], 7), "refused: WouldRemoveLastRestorePoint");
    assert_eq!(decided(&two(), &jobs, &runs[5..], 9), "keeps p.shop");
    assert_eq!(
        decided(&two(), &jobs[..6], &runs[5..], 7),
        "refused: WouldRemoveLastRestorePoint",
        "six and two"
    );
}

#[rstest::rstest]
#[case::each_attempt_counts(60, 3, json!({}), 3)]
#[case::one_that_ended_before_does_not(7200, 3, json!({}), 0)]
#[case::of_a_shortened_status_the_runs_end_counts(7200, 2, json!({"startTime": null, "finishTime": null}), 0)]
#[case::one_nobody_began_with_does_not(60, 1, json!({"startTime": null, "phase": "Cancelled"}), 0)]
#[case::but_its_attempts_before_do(60, 2, json!({"startTime": null, "reason": "NotStarted"}), 1)]
#[case::another_datacenters_do_not(60, 3, json!({"datacenter": "dc9"}), 0)]
fn a_run_tells_of_backups_whose_objects_somebody_deleted(
    #[case] ago: i64,
    #[case] attempts: i64,
    #[case] more: Value,
    #[case] counted: u32,
) {
    let run = failed_run(1, ago, attempts, &more);
    let decided = |count| decided(&two(), &[], std::slice::from_ref(&run), count);
    assert_eq!(decided(counted + 1), "keeps p.shop");
    if counted > 0 {
        assert_eq!(decided(counted), "refused: WouldRemoveLastRestorePoint");
    }
}

#[test]
fn a_backup_of_another_datacenters_nodes_is_not_counted() {
    let mut view = with_backup("dc1");
    for (name, nodes) in
        [("foreign", vec!["dc2".to_owned()]), ("shared", vec!["dc1".to_owned(), "dc2".to_owned()])]
    {
        let record = BackupRecord {
            node_datacenters: nodes,
            status: "IN_PROGRESS".to_owned(),
            ..record("dc1", NOW - 60)
        };
        view.backups.put(ObjectKey::new("ns", name), Arc::new(record));
    }
    let planes = [plane("eu", view), two()[1].clone()];
    assert_eq!(decided(&planes, &[], &[], 2), "keeps p.shop");
    assert_eq!(
        decided(&planes, &[], &[], 1),
        "refused: WouldRemoveLastRestorePoint",
        "dc1 has a part in one of them"
    );
}

#[test]
fn a_backup_that_began_after_the_listing_is_seen_in_the_views() {
    let mut view = with_backup("dc2");
    let made = |name: &str, dc: &str, status| {
        let job = json!({"metadata": {"name": name}, "spec": {"cassandraDatacenter": dc}, "status": status});
        (ObjectKey::new("ns", name), Arc::new(serde_json::from_value(job).unwrap()))
    };
    let ended = json!({"finishTime": "1970-01-01T00:00:00Z"});
    view.jobs.items_mut().extend([
        made("new", "dc2", json!(null)),
        made("listed", "dc2", json!(null)),
        made("ended", "dc2", ended),
        made("elsewhere", "dc9", json!(null)),
    ]);
    let planes = [two()[0].clone(), plane("us", view)];
    let mut jobs = vec![job("us", "listed", Some("dc2"), Some(NOW - 9000))];
    add_begun(&mut jobs, &members("shop", &planes, None), &planes);
    let names: Vec<&str> = jobs.iter().map(|job| job.key.name.as_str()).collect();
    assert_eq!(names, ["listed", "new"]);
    assert_eq!(decided(&planes, &jobs, &[], 2), "waits: BackupRunning");
}

#[test]
fn a_silent_data_plane_of_the_cluster_leaves_it_undecided_and_others_do_not_matter() {
    let mut lost = plane("us", with_backup("dc2"));
    lost.usable = Usable::Unreachable { since: None, why: "no route".to_owned() };
    assert_eq!(decided(&[two()[0].clone(), lost], &[], &[], 1), "waits: RestorePointsUnknown");
    let [eu, us] = two();
    assert_eq!(decided(&[eu, us, plane("ap", silent())], &[], &[], 1), "keeps p.shop");
}

#[test]
fn one_that_is_being_connected_was_not_asked_yet_unless_another_is_silent() {
    let [eu, mut us] = two();
    us.usable = Usable::Connecting;
    assert_eq!(decided(&[eu.clone(), us.clone()], &[], &[], 1), "waits: Connecting");
    let mut ap = plane("ap", with_backup("dc3"));
    ap.usable = Usable::Unreachable { since: None, why: "no route".to_owned() };
    assert_eq!(decided(&[eu, us, ap], &[], &[], 1), "waits: RestorePointsUnknown");
}

#[test]
fn a_backup_run_that_cannot_be_read_may_be_at_work_anywhere() {
    let planes = two();
    let points = points("shop", &planes, &PublishedPoints::new(), &PublishedClusters::new(), at(NOW));
    let odd = json!({"metadata": {"name": "odd"}, "spec": {"dryRun": "é"}, "status": {"phase": "Failed"}});
    let runs = [Arc::new(serde_json::from_value(odd).unwrap())];
    let limits = Limits { age_days: Some(7), count: Some(1), ..Limits::default() };
    let facts = Facts { planes: &planes, cluster: None, points: &points, runs: &runs, jobs: &[], limits };
    let run = DatacenterRun { cluster: "shop".to_owned(), ..pending("eu", "dc1") };
    assert_eq!(told(&run, &facts), "waits: BackupRunning");
}

#[test]
fn what_was_published_stands_for_a_data_plane_that_was_never_listed() {
    let published: FleetClusterStatus = serde_json::from_value(json!({"size": 1, "datacenters": [
        {"dataPlane": "ap", "namespace": "ns", "name": "dc3", "size": 1, "medusa": {"deployed": true}},
        {"dataPlane": "gone", "namespace": "ns", "name": "dc4", "size": 1, "medusa": {"deployed": true}},
    ]}))
    .unwrap();
    let planes = [plane("eu", with_backup("dc1")), plane("ap", silent())];
    let members = members("shop", &planes, Some(&published));
    let names: Vec<String> = members.iter().map(|(plane, place)| format!("{plane}/{place}")).collect();
    assert_eq!(names, ["ap/ns/dc3", "eu/ns/dc1"]);
    assert!(silence(&members, &planes).unwrap().1.contains("`ap`"));
}

#[test]
fn it_waits_for_backups_and_restores_of_the_whole_cluster() {
    let under_way = job("us", "nightly", Some("dc2"), None);
    assert_eq!(decided(&two(), &[under_way], &[], 1), "waits: BackupRunning");
    let mut run = fleet_job("nightly");
    let mut entry = pending("us", "dc2");
    entry.cluster = "shop".to_owned();
    run.status =
        Some(crate::api::fleet::FleetBackupJobStatus { datacenters: vec![entry], ..Default::default() });
    assert_eq!(decided(&two(), &[], std::slice::from_ref(&run), 1), "waits: BackupRunning");
    run.status.as_mut().unwrap().run.phase = Some(Phase::Failed);
    assert_eq!(decided(&two(), &[], &[run], 1), "keeps p.shop");
    let restore: MedusaRestoreJob = serde_json::from_value(
        json!({"metadata": {"name": "r"}, "spec": {"backup": "p", "cassandraDatacenter": "dc2"}}),
    )
    .unwrap();
    let mut view = with_backup("dc2");
    view.restores.put(ObjectKey::new("ns", "r"), Arc::new(restore));
    let planes = [two()[0].clone(), plane("us", view)];
    assert_eq!(decided(&planes, &[], &[], 1), "waits: RestoreInProgress");
}

#[test]
fn where_restores_may_not_be_listed_nobody_can_say_there_is_none() {
    let mut view = with_backup("dc2");
    let mut capabilities = Capabilities::all();
    capabilities.not_granted =
        Some(BTreeMap::from([(RESTORES.to_owned(), vec!["list".to_owned(), "watch".to_owned()])]));
    view.capabilities = Arc::new(capabilities.clone());
    assert_eq!(
        decided(&[two()[0].clone(), plane("us", view.clone())], &[], &[], 1),
        "refused: NotAuthorized"
    );
    capabilities.not_served = Some([RESTORES.to_owned()].into());
    view.capabilities = Arc::new(capabilities);
    assert_eq!(decided(&[two()[0].clone(), plane("us", view)], &[], &[], 1), "keeps p.shop");
}
