//! Everything seen of each Cassandra cluster, sorted out of the views. Pure, and nothing but references.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use kube::ResourceExt;

use crate::{
    api::{
        cassandra::CassandraDatacenter,
        fleet::{ClusterDatacenter, FleetBackup, FleetCluster},
        medusa::MedusaBackupSchedule,
        names, operator_names,
    },
    control_plane::{
        data_planes::{
            cluster_of::{ClusterId, cluster_of, unreadable},
            fleet::Snapshot,
            records::BackupRecord,
            view::{ObjectKey, View},
        },
        runs::child::Child as _,
    },
};

/// FleetBackups as published, by name.
pub type PublishedPoints = BTreeMap<String, Arc<FleetBackup>>;
/// FleetClusters as published, by name.
pub type PublishedClusters = BTreeMap<String, Arc<FleetCluster>>;

/// Where a datacenter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place<'a> {
    /// The data plane.
    pub plane: &'a str,
    /// Its namespace there.
    pub namespace: &'a str,
    /// Name of the CassandraDatacenter.
    pub name: &'a str,
}

/// A datacenter that is there.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    /// Where.
    pub place: Place<'a>,
    /// The object.
    pub datacenter: &'a Arc<CassandraDatacenter>,
}

/// A MedusaBackup that is there.
#[derive(Clone, Copy)]
pub struct Found<'a> {
    /// The data plane.
    pub plane: &'a str,
    /// Its namespace and name.
    pub key: &'a ObjectKey,
    /// What is kept of it.
    pub record: &'a Arc<BackupRecord>,
    /// Its datacenter, when that is there.
    pub site: Option<Site<'a>>,
    /// Whether its nodes are called after the pods of another datacenter of the fleet, and none after its own's.
    pub is_elsewhere: bool,
}

/// A MedusaBackupJob of ours or of a delegated schedule that has not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where its datacenter is.
    pub place: Place<'a>,
}

/// What is seen of one cluster.
#[derive(Default)]
pub struct Group<'a> {
    /// Its datacenters.
    pub sites: Vec<Site<'a>>,
    /// Its datacenters of which nothing is seen: in data planes that were not listed since the start, as published, and
    /// those that are there and cannot be read.
    pub unlisted: Vec<Place<'a>>,
    /// Its MedusaBackups.
    pub found: Vec<Found<'a>>,
    /// Its jobs that go on.
    pub unfinished: Vec<Unfinished<'a>>,
    /// MedusaBackupSchedules of its datacenters.
    pub schedules: Vec<&'a MedusaBackupSchedule>,
    /// Its FleetBackups as published.
    pub published: Vec<&'a Arc<FleetBackup>>,
}

/// What is known of every data plane that is registered.
pub struct Planes<'a> {
    /// Every name.
    registered: BTreeSet<&'a str>,
    /// Those that were listed since the start.
    listed: BTreeSet<&'a str>,
    /// Those that answer now.
    live: BTreeSet<&'a str>,
    /// Datacenters that are there and cannot be read.
    unreadable: BTreeSet<Place<'a>>,
}

impl<'a> Planes<'a> {
    /// What the snapshots say.
    #[must_use]
    pub fn of(planes: &'a [Snapshot]) -> Self {
        let named = |keep: fn(&Snapshot) -> bool| {
            planes.iter().filter(|p| keep(p)).map(|p| p.name.as_str()).collect()
        };
        let places = |plane: &'a Snapshot| {
            let keys = plane.view.datacenters.unreadable().keys();
            keys.map(|key| Place { plane: &plane.name, namespace: &key.namespace, name: &key.name })
        };
        Self {
            unreadable: planes.iter().flat_map(places).collect(),
            registered: named(|_| true),
            listed: named(|p| listed(&p.view)),
            live: named(|p| p.view.knows_inventory()),
        }
    }

    /// Whether the data plane is registered.
    #[must_use]
    pub fn has(&self, plane: &str) -> bool {
        self.registered.contains(plane)
    }

    /// Whether it is registered, and was not listed since the start: what was published about it holds.
    #[must_use]
    pub fn is_unasked(&self, plane: &str) -> bool {
        self.has(plane) && !self.listed.contains(plane)
    }

    /// Whether the datacenter is there and cannot be read.
    #[must_use]
    pub fn cannot_read(&self, place: &Place<'_>) -> bool {
        self.unreadable.contains(place)
    }

    /// Whether it answers, so that absence means something.
    #[must_use]
    pub fn is_live(&self, plane: &str) -> bool {
        self.live.contains(plane)
    }
}

/// Whether what a view holds may be read as the cluster's objects, now or from before it fell silent.
fn listed(view: &View) -> bool {
    view.backups.trust.is_listed() && view.datacenters.trust.is_listed()
}

/// Everything by FleetCluster name.
#[must_use]
pub fn survey<'a>(
    planes: &'a [Snapshot],
    points: &'a PublishedPoints,
    clusters: &'a PublishedClusters,
) -> BTreeMap<String, Group<'a>> {
    let mut groups: BTreeMap<String, Group<'a>> = BTreeMap::new();
    let shown =
        planes.iter().filter(|p| listed(&p.view)).flat_map(|p| p.view.datacenters.last_known().values());
    let pods: HashSet<String> = shown.flat_map(|datacenter| pods_begin(datacenter)).collect();
    let mut homes = Homes { points, clusters, known: None };
    for plane in planes.iter().filter(|p| listed(&p.view)) {
        let mut sites: HashMap<(&str, &str), (String, Site<'a>)> = HashMap::new();
        let is_elsewhere = |record: &BackupRecord, site: Site<'_>| {
            let own = pods_begin(site.datacenter);
            !record.stateful_sets.is_empty()
                && !record.stateful_sets.iter().any(|set| own.iter().any(|own| set.starts_with(own)))
                && record.stateful_sets.iter().all(|set| {
                    set.match_indices('-').any(|(dash, _)| set.get(..=dash).is_some_and(|s| pods.contains(s)))
                })
        };
        for (key, datacenter) in plane.view.datacenters.last_known() {
            let place = Place { plane: &plane.name, namespace: &key.namespace, name: &key.name };
            let ClusterId { name, .. } = cluster_of(plane, datacenter);
            let site = Site { place, datacenter };
            groups.entry(name.clone()).or_default().sites.push(site);
            sites.insert((&key.namespace, &key.name), (name, site));
        }
        let mut listed: BTreeMap<&ObjectKey, String> = BTreeMap::new();
        for (key, cluster) in unreadable(plane) {
            let Some(ClusterId { name, .. }) = cluster else { continue };
            let place = Place { plane: &plane.name, namespace: &key.namespace, name: &key.name };
            groups.entry(name.clone()).or_default().unlisted.push(place);
            listed.insert(key, name);
        }
        for (key, record) in plane.view.backups.last_known() {
            let at_home = sites.get(&(key.namespace.as_str(), record.datacenter.as_str()));
            let found = Found {
                plane: &plane.name,
                key,
                record,
                site: at_home.map(|(_, site)| *site),
                is_elsewhere: at_home.is_some_and(|(_, site)| is_elsewhere(record, *site)),
            };
            if let Some(group) = at_home.and_then(|(cluster, _)| groups.get_mut(cluster)) {
                group.found.push(found);
            } else {
                let place = Place { plane: &plane.name, namespace: &key.namespace, name: &record.datacenter };
                let lister = listed.get(&ObjectKey::new(&key.namespace, &record.datacenter)).cloned();
                groups.entry(lister.unwrap_or_else(|| homes.of(place))).or_default().found.push(found);
            }
        }
        for (key, schedule) in plane.view.schedules.last_known() {
            let datacenter = schedule.spec.backup_spec.cassandra_datacenter.as_str();
            if let Some((cluster, _)) = sites.get(&(key.namespace.as_str(), datacenter))
                && let Some(group) = groups.get_mut(cluster)
            {
                group.schedules.push(schedule);
            }
        }
        let jobs = plane.view.jobs.last_known().iter().filter(|(_, job)| !job.is_finished());
        let runs = plane.view.scheduled_jobs.last_known().iter().filter(|(_, run)| run.is_active());
        let at_work = jobs.map(|(key, job)| (key, job.datacenter()));
        for (key, datacenter) in at_work.chain(runs.map(|(key, run)| (key, run.datacenter.as_str()))) {
            if let Some((cluster, site)) = sites.get(&(key.namespace.as_str(), datacenter))
                && let Some(group) = groups.get_mut(cluster)
            {
                group.unfinished.push(Unfinished { name: &key.name, place: site.place });
            }
        }
    }
    let known = Planes::of(planes);
    for (name, cluster) in clusters {
        let entries = cluster.status.iter().flat_map(|status| &status.datacenters);
        let decided = planes.first().map(|plane| &plane.membership.known);
        let is_part = |e: &ClusterDatacenter| {
            decided.is_none_or(|known| !known.disowns(name, &e.data_plane, &e.namespace, &e.name))
        };
        for entry in entries.filter(|e| is_part(e)) {
            let place = Place { plane: &entry.data_plane, namespace: &entry.namespace, name: &entry.name };
            if known.is_unasked(place.plane) || known.cannot_read(&place) {
                let unlisted = &mut groups.entry(name.clone()).or_default().unlisted;
                if !unlisted.contains(&place) {
                    unlisted.push(place);
                }
            }
        }
    }
    for point in points.values() {
        if let Some(status) = &point.status {
            groups.entry(status.cluster.clone()).or_default().published.push(point);
        }
    }
    groups
}

/// What the names of a datacenter's pods begin with (upstream: Names).
fn pods_begin(datacenter: &CassandraDatacenter) -> [String; 2] {
    let cluster = operator_names::label(&datacenter.spec.cluster_name);
    let begin = |name: &str| format!("{cluster}-{}-", operator_names::label(name));
    [begin(&datacenter.display_name()), begin(datacenter.metadata.name.as_deref().unwrap_or_default())]
}

/// Where datacenters that are gone belonged, from what was published; sorted out when first asked.
struct Homes<'a> {
    points: &'a PublishedPoints,
    clusters: &'a PublishedClusters,
    known: Option<HashMap<Place<'a>, &'a str>>,
}

impl Homes<'_> {
    fn of(&mut self, place: Place<'_>) -> String {
        let (points, clusters) = (self.points, self.clusters);
        let known = self.known.get_or_insert_with(|| {
            let in_points = points.values().filter_map(|p| p.status.as_ref()).flat_map(|status| {
                status.datacenters.iter().map(|dc| {
                    let place = Place { plane: &dc.data_plane, namespace: &dc.namespace, name: &dc.name };
                    (place, status.cluster.as_str())
                })
            });
            let in_clusters = clusters.values().flat_map(|cluster| {
                let name = cluster.metadata.name.as_deref().unwrap_or_default();
                cluster.status.iter().flat_map(|s| &s.datacenters).map(move |dc| {
                    (Place { plane: &dc.data_plane, namespace: &dc.namespace, name: &dc.name }, name)
                })
            });
            in_clusters.chain(in_points).collect()
        });
        match known.get(&place) {
            Some(cluster) => (*cluster).to_owned(),
            // Its cluster is not known any more, so it stands for itself.
            None => names::dns_name(&format!("{}.{}.{}", place.name, place.namespace, place.plane)),
        }
    }
}

/// Published objects by name, for [`survey`].
#[must_use]
pub fn by_name<K: ResourceExt>(objects: Vec<Arc<K>>) -> BTreeMap<String, Arc<K>> {
    objects.into_iter().map(|object| (object.name_any(), object)).collect()
}
