//! The inventory from one look to the next: a cluster of which nothing has changed is not computed again. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    digest::Digest,
    expectation::Expectation,
    observe::{Group, Place, Planes, PublishedClusters, PublishedPoints, survey},
    points::{RestorePoint, restore_points},
    protection::{Intervals, expected},
    verdict::given_up_at,
};
use crate::{
    api::{
        cassandra::CassandraDatacenter,
        fleet::{FleetBackup, FleetBackupStatus},
    },
    control_plane::data_planes::{fleet::Snapshot, records::BackupRecord},
};

/// What is remembered between two looks.
#[derive(Default)]
pub struct Inventory {
    clusters: BTreeMap<String, Memo>,
    intervals: Intervals,
}

/// What came of one cluster.
struct Memo {
    basis: Basis,
    /// When what came of it changes by itself.
    until: Option<Timestamp>,
    names: Vec<String>,
    unwritten: Vec<(String, FleetBackupStatus)>,
    digest: Digest,
}

/// What a cluster's restore points were computed from. It keeps the objects alive, so that another object can never
/// be taken for one of them.
#[derive(Default)]
struct Basis {
    planes: Arc<Vec<(String, bool, bool)>>,
    sites: Vec<Arc<CassandraDatacenter>>,
    records: Vec<Arc<BackupRecord>>,
    elsewhere: Vec<bool>,
    published: Vec<Arc<FleetBackup>>,
    unfinished: Vec<(String, (String, String, String))>,
    unlisted: Vec<(String, String, String)>,
}

impl Basis {
    fn of(group: &Group<'_>, planes: Arc<Vec<(String, bool, bool)>>) -> Self {
        let text = |t: &str| t.to_owned();
        let place = |place: &Place<'_>| (text(place.plane), text(place.namespace), text(place.name));
        Self {
            planes,
            sites: group.sites.iter().map(|site| site.datacenter.clone()).collect(),
            elsewhere: group.found.iter().map(|found| found.is_elsewhere).collect(),
            records: group.found.iter().map(|found| found.record.clone()).collect(),
            published: group.published.iter().map(|point| Arc::clone(point)).collect(),
            unfinished: group.unfinished.iter().map(|j| (text(j.name), place(&j.place))).collect(),
            unlisted: group.unlisted.iter().map(place).collect(),
        }
    }

    /// Whether nothing has changed: the very same objects, in the same state of every data plane.
    fn is(&self, other: &Self) -> bool {
        fn same<T>(one: &[Arc<T>], other: &[Arc<T>]) -> bool {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| Arc::ptr_eq(a, b))
        }
        self.planes == other.planes
            && same(&self.sites, &other.sites)
            && same(&self.records, &other.records)
            && same(&self.published, &other.published)
            && self.elsewhere == other.elsewhere
            && self.unfinished == other.unfinished
            && self.unlisted == other.unlisted
    }
}

/// What one look found.
#[derive(Debug)]
pub struct InventoryChanges<'a> {
    /// FleetBackups that are not published as they are.
    pub unwritten: Vec<(&'a str, &'a FleetBackupStatus)>,
    /// Published FleetBackups that stand for nothing any more. They may be deleted only where every data plane they
    /// speak of answers.
    pub gone: Vec<&'a str>,
    /// Each cluster's restore points in short.
    pub digests: BTreeMap<String, Digest>,
    /// What schedules promise each cluster.
    pub expected: BTreeMap<String, Expectation>,
    /// How many clusters were computed.
    pub computed: usize,
}

impl Inventory {
    /// Looks at everything, and computes the restore points of the clusters of which something has changed.
    /// `promises` are those of the fleet's schedules; MedusaBackupSchedules come to them.
    pub fn look<'a>(
        &'a mut self,
        snapshots: &[Snapshot],
        points: &'a PublishedPoints,
        clusters: &PublishedClusters,
        mut promises: BTreeMap<String, Expectation>,
        now: Timestamp,
    ) -> InventoryChanges<'a> {
        let planes = Planes::of(snapshots);
        let flags = |p: &Snapshot| (p.name.clone(), planes.is_unasked(&p.name), planes.is_live(&p.name));
        let flags: Arc<Vec<(String, bool, bool)>> = Arc::new(snapshots.iter().map(flags).collect());
        let groups = survey(snapshots, points, clusters);
        let there: BTreeSet<&str> = groups.keys().map(String::as_str).collect();
        self.clusters.retain(|cluster, _| there.contains(cluster.as_str()));
        let mut computed = 0;
        for (cluster, group) in &groups {
            let promise = expected(&group.schedules, &mut self.intervals, now);
            let known = promises.entry(cluster.clone()).or_default();
            *known = known.and(promise);
            let basis = Basis::of(group, flags.clone());
            let holds = |memo: &Memo| memo.basis.is(&basis) && memo.until.is_none_or(|until| now < until);
            if self.clusters.get(cluster).is_some_and(holds) {
                continue;
            }
            computed += 1;
            let found = restore_points(cluster, group, &planes, points, now);
            let digest = Digest::of(&found, now);
            let comes =
                |point: &RestorePoint| point.status.start_time.as_ref().map(|t| t.0).filter(|t| *t > now);
            let until = found
                .iter()
                .flat_map(|point| given_up_at(&point.status, now).into_iter().chain(comes(point)))
                .min();
            let names = found.iter().map(|point| point.name.clone()).collect();
            let is_news = |name: &str, status: &FleetBackupStatus| {
                points.get(name).is_none_or(|old| old.status.as_ref() != Some(status))
            };
            let unwritten = found
                .into_iter()
                .filter(|point| is_news(&point.name, &point.status))
                .map(|point| (point.name, point.status))
                .collect();
            self.clusters.insert(cluster.clone(), Memo { basis, until, names, unwritten, digest });
        }
        let memos = &self.clusters;
        let all: HashSet<&str> = memos.values().flat_map(|m| &m.names).map(String::as_str).collect();
        InventoryChanges {
            unwritten: memos
                .values()
                .flat_map(|memo| &memo.unwritten)
                .map(|(name, status)| (name.as_str(), status))
                .collect(),
            gone: points.keys().map(String::as_str).filter(|name| !all.contains(name)).collect(),
            digests: memos.iter().map(|(name, memo)| (name.clone(), memo.digest.clone())).collect(),
            expected: promises,
            computed,
        }
    }
}
