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

use super::{
    limits::Limits,
    retention::{Held, Question, Ruling, rule},
};
use crate::{
    api::{
        Reason,
        fleet::{DatacenterRun, FleetBackupJob, FleetBackupStatus, FleetClusterStatus},
    },
    control_plane::{
        capabilities::RESTORES,
        fanout::holds::restoring,
        fleet::{Snapshot, Usable},
        inventory::{
            grouping::cluster_of,
            points::restore_points,
            survey::{Planes, PublishedClusters, PublishedPoints, survey},
        },
        runs::{Run as _, child::Child as _},
        view::ObjectKey,
    },
};

/// A MedusaBackupJob somebody made, as far as it could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFact {
    /// The data plane it is in.
    pub data_plane: String,
    /// Its namespace and name.
    pub key: ObjectKey,
    /// Name of its CassandraDatacenter; `None` when the object cannot be read.
    pub datacenter: Option<String>,
    /// When it ended.
    pub end: Option<Timestamp>,
}

impl JobFact {
    fn may_be_of(&self, data_plane: &str, datacenter: &ObjectKey) -> bool {
        self.data_plane == data_plane
            && self.key.namespace == datacenter.namespace
            && self.datacenter.as_ref().is_none_or(|name| *name == datacenter.name)
    }
}

/// What a decision is made of.
pub struct Facts<'a> {
    /// The data planes.
    pub planes: &'a [Snapshot],
    /// The published FleetCluster, when there is one.
    pub cluster: Option<&'a FleetClusterStatus>,
    /// All restore points, by name.
    pub points: &'a BTreeMap<String, FleetBackupStatus>,
    /// The FleetBackupJobs, also those that cannot be read.
    pub runs: &'a [Arc<DeserializeGuard<FleetBackupJob>>],
    /// Every MedusaBackupJob in the namespaces of the cluster's datacenters.
    pub jobs: &'a [JobFact],
    /// What the purge works by.
    pub limits: Limits,
}

/// The decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It may start; this complete restore point stays.
    Open(String),
    /// Not now.
    Wait(Reason, String),
    /// Not at all.
    Shut(Reason, String),
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
/// not listed since the start as they were published.
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
        let unlisted = !plane.view.datacenters.trust.is_listed();
        for entry in published.iter().flat_map(|status| &status.datacenters) {
            if unlisted && entry.data_plane == plane.name {
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
pub fn add_begun(jobs: &mut Vec<JobFact>, members: &BTreeSet<(String, ObjectKey)>, planes: &[Snapshot]) {
    let known: BTreeSet<(String, ObjectKey)> =
        jobs.iter().map(|job| (job.data_plane.clone(), job.key.clone())).collect();
    for plane in planes {
        for (key, job) in plane.view.jobs.last_known().iter().filter(|(_, job)| !job.is_finished()) {
            let datacenter = job.spec.cassandra_datacenter.clone();
            let of_cluster =
                members.contains(&(plane.name.clone(), ObjectKey::new(&key.namespace, &datacenter)));
            if of_cluster && !known.contains(&(plane.name.clone(), key.clone())) {
                jobs.push(JobFact {
                    data_plane: plane.name.clone(),
                    key: key.clone(),
                    datacenter: Some(datacenter),
                    end: None,
                });
            }
        }
    }
}

/// Decides on the datacenter of `run` at `now`.
#[must_use]
pub fn decide(run: &DatacenterRun, facts: &Facts<'_>, now: Timestamp) -> Gate {
    let members = members(&run.cluster, facts.planes, facts.cluster);
    if let Some((reason, message)) = silence(&members, facts.planes) {
        return Gate::Wait(reason, message);
    }
    if let Some(message) = hidden_restores(&members, facts.planes) {
        return Gate::Shut(Reason::NotAuthorized, message);
    }
    if let Some(message) = restoring(facts.planes).remove(&run.cluster) {
        return Gate::Wait(Reason::RestoreInProgress, message);
    }
    if let Some(message) = backup_at_work(&run.cluster, &members, facts) {
        return Gate::Wait(Reason::BackupRunning, message);
    }
    let datacenter = ObjectKey::new(&run.namespace, &run.datacenter);
    let held = held(&run.data_plane, &datacenter, facts);
    let question = Question {
        cluster: &run.cluster,
        data_plane: &run.data_plane,
        datacenter: &datacenter,
        points: facts.points,
        held: &held,
        limits: facts.limits,
    };
    match rule(&question, now) {
        Ruling::Keeps(point) => Gate::Open(point),
        Ruling::Refused { reason, message } => Gate::Shut(reason, message),
    }
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
                 work; apply kubeconfigs/data-plane-rbac.yaml there"
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
    let of_cluster = |job: &JobFact| {
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
    let is_at_work = run.spec.dry_run != Some(true)
        && !run.is_over()
        && entries.any(|e| e.cluster == cluster && !e.phase.is_final());
    is_at_work.then(|| {
        format!(
            "waits for FleetBackupJob `{name}` to be done with the cluster; cancel it if it never will be"
        )
    })
}

/// Every backup of the datacenter that Kubernetes shows, complete or not, each once.
fn held(data_plane: &str, datacenter: &ObjectKey, facts: &Facts<'_>) -> Vec<Held> {
    let view = facts.planes.iter().find(|p| p.name == data_plane).map(|p| &p.view);
    let mut held: BTreeMap<&str, Option<Timestamp>> = BTreeMap::new();
    for job in facts.jobs.iter().filter(|job| job.may_be_of(data_plane, datacenter)) {
        held.insert(&job.key.name, job.end);
    }
    let backups = view.iter().flat_map(|view| view.backups.last_known());
    for (key, record) in backups {
        if key.namespace == datacenter.namespace && record.datacenter == datacenter.name {
            // The later of the two ends: both are only as exact as who wrote them.
            let end = held
                .get(key.name.as_str())
                .copied()
                .map_or(record.finish_time, |job| record.finish_time.zip(job).map(|(a, b)| a.max(b)));
            held.insert(&key.name, end);
        }
    }
    held.into_iter().map(|(name, end)| Held { name: name.to_owned(), end }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        api::{fleet::Phase, medusa::MedusaRestoreJob},
        control_plane::{
            capabilities::Capabilities,
            fanout::tests::{datacenter, fleet_job, live, pending, plane, silent},
            view::{BackupRecord, View},
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

    fn job(plane: &str, name: &str, dc: Option<&str>, end: Option<i64>) -> JobFact {
        JobFact {
            data_plane: plane.to_owned(),
            key: ObjectKey::new("ns", name),
            datacenter: dc.map(str::to_owned),
            end: end.map(at),
        }
    }

    fn decided(planes: &[Snapshot], jobs: &[JobFact], runs: &[FleetBackupJob], count: u32) -> String {
        let points = points("shop", planes, &PublishedPoints::new(), &PublishedClusters::new(), at(NOW));
        let mut run = pending("eu", "dc1");
        run.cluster = "shop".to_owned();
        let limits = Limits { age_days: Some(7), count: Some(count) };
        let runs: Vec<_> = runs.iter().map(|run| Arc::new(DeserializeGuard(Ok(run.clone())))).collect();
        let facts = Facts { planes, cluster: None, points: &points, runs: &runs, jobs, limits };
        told(&run, &facts)
    }

    fn told(run: &DatacenterRun, facts: &Facts<'_>) -> String {
        match decide(run, facts, at(NOW)) {
            Gate::Open(point) => format!("keeps {point}"),
            Gate::Wait(reason, _) => format!("waits: {reason}"),
            Gate::Shut(reason, _) => format!("refused: {reason}"),
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
    }

    #[test]
    fn a_backup_that_began_after_the_listing_is_seen_in_the_views() {
        let mut view = with_backup("dc2");
        let made = |name: &str, dc: &str, status| {
            let job =
                json!({"metadata": {"name": name}, "spec": {"cassandraDatacenter": dc}, "status": status});
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
        let odd =
            json!({"metadata": {"name": "odd"}, "spec": {"dryRun": "é"}, "status": {"phase": "Failed"}});
        let runs = [Arc::new(serde_json::from_value(odd).unwrap())];
        let limits = Limits { age_days: Some(7), count: Some(1) };
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
        run.status.as_mut().unwrap().phase = Some(Phase::Failed);
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
}
