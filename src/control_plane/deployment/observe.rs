//! One K8ssandraCluster and everything a decision on it depends on, as the sources and the views have it. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;

use super::{pod::purge, rollout::stability};
use crate::{
    api::{
        Seen,
        cassandra::CassandraDatacenter,
        fleet::LOCAL,
        k8ssandra::{DatacenterTemplate, K8ssandraCluster},
        labels,
        medusa::{MedusaBackupSchedule, MedusaConfiguration, ScheduledOperation},
    },
    control_plane::{
        data_planes::{fleet::Snapshot, membership::DatacenterPlace, view::ObjectKey},
        identity::{Identity, deployer},
        sources::{self, SourceObjects, datacenters_of, secret_names},
    },
};

/// Most K8ssandraClusters that are gone and looked at because of one data plane at a time.
pub(super) const MOST_GONE: usize = 64;

/// A datacenter a K8ssandraCluster's Medusa is for, or was.
#[derive(Clone)]
pub struct DatacenterTarget {
    pub place: DatacenterPlace,
    /// What the K8ssandraCluster says about it; `None` when it does not ask for Medusa there (any more).
    pub wanted: Option<DatacenterTemplate>,
    /// Its data plane, when that is registered.
    pub plane: Option<Snapshot>,
    pub datacenter: Seen<Arc<CassandraDatacenter>>,
    /// Another K8ssandraCluster that has it.
    pub claimed_by: Option<ObjectKey>,
    /// Why nothing may be copied to where it is.
    pub refused: Option<&'static str>,
}

/// A data plane, and what of ours it holds for a K8ssandraCluster besides datacenters.
#[derive(Clone)]
pub struct Holder {
    pub plane: Snapshot,
    pub pieces: Pieces,
}

/// What stands in a data plane for a K8ssandraCluster besides datacenters.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    pub config_maps: Vec<ObjectKey>,
    /// Its purge schedules.
    pub schedules: Vec<ObjectKey>,
}

/// One K8ssandraCluster and what surrounds it.
#[derive(Clone)]
pub struct ClusterInputs {
    pub key: ObjectKey,
    /// The K8ssandraCluster; `None` when it is gone.
    pub cluster: Option<Arc<K8ssandraCluster>>,
    /// Why it cannot be understood as it is now.
    pub unreadable: Option<String>,
    /// The MedusaConfiguration it refers to, when it is there.
    pub configuration: Option<Arc<MedusaConfiguration>>,
    /// Whether every MedusaConfiguration is known.
    pub configurations_listed: bool,
    /// The datacenters it asks Medusa for, in its order, then those that still have it.
    pub targets: Vec<DatacenterTarget>,
    /// Data planes that are live and hold something of ours for it besides datacenters.
    pub holders: Vec<Holder>,
    /// Whether its order to remove is certain: the cluster is known to be as it is, or known to be gone.
    pub may_remove: bool,
}

/// Whether a datacenter, by its metadata, has Medusa because of the K8ssandraCluster this returns.
#[must_use]
pub fn deployed_for(datacenter: &ObjectMeta, control_plane: &Identity) -> Option<ObjectKey> {
    let ours = deployer(datacenter).is_some_and(|(fleet, _)| control_plane.is_own(fleet));
    let source = datacenter.annotations.as_ref().and_then(|all| all.get(labels::MEDUSA_FOR));
    source.filter(|_| ours).and_then(|text| ObjectKey::read(text))
}

/// The K8ssandraCluster a purge schedule of ours is for. Other schedules of ours have other names.
#[must_use]
pub fn schedule_for(schedule: &MedusaBackupSchedule, control_plane: &Identity) -> Option<ObjectKey> {
    let ours = control_plane.wrote(&schedule.metadata);
    let purges =
        schedule.spec.operation_type == ScheduledOperation::Purge && purge::is_name(&schedule.name_any());
    schedule
        .annotations()
        .get(labels::SOURCE)
        .filter(|_| ours && purges)
        .and_then(|text| ObjectKey::read(text))
}

/// What stands in the data planes because of each K8ssandraCluster. Found once for all of them, as looking through every
/// data plane for each takes minutes in a large fleet.
pub struct Deployed<'a> {
    planes: BTreeMap<&'a str, &'a Snapshot>,
    /// Datacenters that have Medusa because of it.
    datacenters: BTreeMap<ObjectKey, Vec<DatacenterPlace>>,
    /// Data planes with a ConfigMap or a purge schedule for it.
    holders: BTreeMap<ObjectKey, BTreeMap<&'a str, Pieces>>,
}

/// K8ssandraClusters that something has to be done, or reported, for.
#[derive(Debug, Default)]
pub struct Concerned {
    pub keys: BTreeSet<ObjectKey>,
    /// How many that are gone wait until others of their data plane are cleaned up, by data plane.
    pub waiting: BTreeMap<String, usize>,
}

impl<'a> Deployed<'a> {
    /// Looks through the data planes.
    #[must_use]
    pub fn of(planes: &'a [Snapshot], control_plane: &Identity) -> Self {
        let mut all = Self {
            planes: planes.iter().map(|plane| (plane.name.as_str(), plane)).collect(),
            datacenters: BTreeMap::new(),
            holders: BTreeMap::new(),
        };
        for plane in planes {
            for (object, datacenter) in plane.view.datacenters.last_known() {
                if let Some(key) = deployed_for(&datacenter.metadata, control_plane) {
                    let place = DatacenterPlace { plane: plane.name.clone(), object: object.clone() };
                    all.datacenters.entry(key).or_default().push(place);
                }
            }
            for (object, map) in plane.view.config_maps.last_known() {
                if let Some(key) = ObjectKey::read(&map.source) {
                    all.pieces(key, plane).config_maps.push(object.clone());
                }
            }
            for (object, schedule) in plane.view.schedules.last_known() {
                if let Some(key) = schedule_for(schedule, control_plane) {
                    all.pieces(key, plane).schedules.push(object.clone());
                }
            }
        }
        all
    }

    fn pieces(&mut self, key: ObjectKey, plane: &'a Snapshot) -> &mut Pieces {
        self.holders.entry(key).or_default().entry(&plane.name).or_default()
    }

    /// K8ssandraClusters that something has to be done, or reported, for. Which of them are gone a data plane says itself, so
    /// that those of one data plane are at most [`MOST_GONE`] at a time.
    #[must_use]
    pub fn concerned(&self, sources: &SourceObjects) -> Concerned {
        let clusters = &sources.clusters;
        let asking = clusters.items.iter().filter(|(_, c)| c.spec.medusa.is_some()).map(|(key, _)| key);
        let mut all = Concerned::default();
        all.keys.extend(asking.chain(clusters.unreadable.keys()).cloned());
        let standing: BTreeSet<&ObjectKey> = self.datacenters.keys().chain(self.holders.keys()).collect();
        let mut gone: BTreeMap<&str, usize> = BTreeMap::new();
        for key in standing.into_iter().filter(|key| !clusters.unreadable.contains_key(*key)) {
            if !clusters.items.contains_key(key) {
                let planes = self.planes_of(key);
                if planes.iter().all(|plane| gone.get(plane).is_some_and(|count| *count >= MOST_GONE)) {
                    for plane in planes {
                        *all.waiting.entry(plane.to_owned()).or_default() += 1;
                    }
                    continue;
                }
                for plane in planes {
                    *gone.entry(plane).or_default() += 1;
                }
            }
            all.keys.insert(key.clone());
        }
        all
    }

    /// Data planes where something stands because of a K8ssandraCluster.
    fn planes_of(&self, key: &ObjectKey) -> BTreeSet<&str> {
        let datacenters = self.datacenters.get(key).into_iter().flatten().map(|place| place.plane.as_str());
        datacenters.chain(self.holders.get(key).into_iter().flatten().map(|(plane, _)| *plane)).collect()
    }

    /// Puts together what concerns one K8ssandraCluster.
    #[must_use]
    pub fn observe(
        &self,
        key: &ObjectKey,
        sources: &SourceObjects,
        control_plane: &Identity,
    ) -> ClusterInputs {
        let cluster = sources.clusters.items.get(key).cloned();
        let unreadable = sources.clusters.unreadable.get(key).cloned();
        let medusa = cluster.as_ref().and_then(|c| c.spec.medusa.as_ref());
        let configuration =
            medusa.and_then(|m| m.configuration()).map(|name| ObjectKey::new(&key.namespace, name));
        let mut known = BTreeSet::new();
        let mut targets = Vec::new();
        if let Some(cluster) = cluster.as_ref().filter(|_| medusa.is_some()) {
            for (place, template) in datacenters_of(key, cluster).into_iter().zip(cluster.datacenters()) {
                if known.insert(place.clone()) {
                    let wanted = Some(template.clone());
                    targets.push(target(place, wanted, &self.planes, key, sources, control_plane));
                }
            }
        }
        for place in self.datacenters.get(key).into_iter().flatten() {
            let Some(plane) = self.planes.get(place.plane.as_str()) else { continue };
            if !known.contains(place) && !wanted_elsewhere(plane, &place.object, key, sources) {
                targets.push(target(place.clone(), None, &self.planes, key, sources, control_plane));
            }
        }
        let holders = self.holders.get(key).into_iter().flatten().filter_map(|(name, pieces)| {
            let plane = self.planes.get(name).filter(|plane| plane.view.is_live())?;
            Some(Holder { plane: (*plane).clone(), pieces: pieces.clone() })
        });
        ClusterInputs {
            key: key.clone(),
            configuration: configuration.and_then(|key| sources.configurations.items.get(&key).cloned()),
            configurations_listed: sources.configurations.standing != sources::Standing::NotListed,
            targets,
            holders: holders.collect(),
            may_remove: unreadable.is_none() && (cluster.is_some() || sources.lacks_cluster(key)),
            cluster,
            unreadable,
        }
    }
}

/// Whether another K8ssandraCluster that asks for Medusa lists the datacenter.
pub(super) fn wanted_elsewhere(
    plane: &Snapshot,
    object: &ObjectKey,
    key: &ObjectKey,
    sources: &SourceObjects,
) -> bool {
    plane.listing.get(object).filter(|other| *other != key).is_some_and(|other| {
        sources.clusters.unreadable.contains_key(other)
            || sources.clusters.items.get(other).is_some_and(|c| c.spec.medusa.is_some())
    })
}

fn target(
    place: DatacenterPlace,
    wanted: Option<DatacenterTemplate>,
    planes: &BTreeMap<&str, &Snapshot>,
    key: &ObjectKey,
    sources: &SourceObjects,
    control_plane: &Identity,
) -> DatacenterTarget {
    let plane = planes.get(place.plane.as_str()).map(|plane| (*plane).clone());
    let datacenter = match &plane {
        None => Seen::Unknown { since: None, why: format!("data plane `{}` is not registered", place.plane) },
        Some(plane) => plane.view.seen(&plane.view.datacenters, &place.object).map(Arc::clone),
    };
    let listed_by = plane.as_ref().and_then(|plane| plane.listing.get(&place.object)).cloned();
    // Who deployed Medusa there and still wants it keeps it.
    let held_by = datacenter
        .known()
        .and_then(|dc| deployed_for(&dc.metadata, control_plane))
        .filter(|other| plane.as_ref().is_some_and(|p| listed_by_too(p, &place.object, other, sources)));
    let claimed_by = held_by.or(listed_by).filter(|other| other != key);
    // Where the sources themselves are, nothing is copied.
    let is_home = place.plane == LOCAL && place.object.namespace == key.namespace;
    let refused = sources.target_refusal(&place.object.namespace).filter(|_| !is_home);
    DatacenterTarget { place, wanted, plane, datacenter, claimed_by, refused }
}

/// Whether `cluster` lists the datacenter and asks for Medusa there.
fn listed_by_too(plane: &Snapshot, object: &ObjectKey, cluster: &ObjectKey, sources: &SourceObjects) -> bool {
    let place = DatacenterPlace { plane: plane.name.clone(), object: object.clone() };
    sources
        .clusters
        .items
        .get(cluster)
        .is_some_and(|c| c.spec.medusa.is_some() && datacenters_of(cluster, c).contains(&place))
}

impl ClusterInputs {
    /// Uid of the K8ssandraCluster, while there is one.
    #[must_use]
    pub fn uid(&self) -> Option<String> {
        self.cluster.as_ref().and_then(|cluster| cluster.uid())
    }

    /// Whether the K8ssandraCluster asks that nothing be changed.
    #[must_use]
    pub fn paused(&self) -> bool {
        let annotations = self.cluster.as_ref().map(|cluster| cluster.annotations());
        annotations.and_then(|a| a.get(labels::PAUSED)).is_some_and(|value| value == "true")
    }

    /// Everything a pass depends on, in one text: a pass over the same text finds the same.
    #[must_use]
    pub fn fingerprint(&self, sources: &SourceObjects, now: Timestamp) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let mut add = |part: &dyn std::fmt::Debug| {
            let _ = write!(text, "{part:?};");
        };
        let identity = |meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
            (meta.uid.clone(), meta.generation, meta.deletion_timestamp.is_some())
        };
        add(&(self.paused(), self.may_remove, &self.unreadable, self.configurations_listed));
        add(&self
            .cluster
            .as_ref()
            .map(|c| (identity(&c.metadata), c.annotations().get(labels::APPLY_AGAIN))));
        add(&self.configuration.as_ref().map(|c| identity(&c.metadata)));
        let names = self.cluster.as_ref().map(|c| secret_names(c)).unwrap_or_default();
        let configured = self.configuration.as_ref().and_then(|c| {
            let storage = c.spec.storage_properties.as_ref()?;
            storage.secret_name().map(str::to_owned)
        });
        let names: BTreeSet<String> = names.into_iter().chain(configured).collect();
        for name in &names {
            add(&sources.secrets.get(&ObjectKey::new(&self.key.namespace, name)));
        }
        for target in &self.targets {
            add(&(&target.place, target.wanted.is_some(), &target.claimed_by));
            let Some(plane) = &target.plane else { continue };
            add(&(&plane.usable, &plane.view.capabilities));
            match &target.datacenter {
                Seen::Known(dc) => add(&(
                    identity(&dc.metadata),
                    dc.annotations(),
                    dc.is_managed_by_k8ssandra_operator(),
                    stability(dc, None, now),
                )),
                Seen::Absent => add(&"absent"),
                Seen::Unknown { why, .. } => add(why),
            }
            for name in &names {
                let copy = ObjectKey::new(&target.place.object.namespace, name);
                add(&(plane.view.secrets.last(&copy), plane.refusals.get(&copy)));
            }
        }
        for Holder { plane, pieces } in &self.holders {
            let Snapshot { view, .. } = plane;
            add(&(&plane.name, &plane.usable));
            for key in &pieces.config_maps {
                add(&(key, view.config_maps.last(key).map(|map| (&map.uid, &map.content_hash))));
            }
            for key in &pieces.schedules {
                let facts =
                    |s: &Arc<MedusaBackupSchedule>| (s.uid(), s.metadata.generation, s.labels().clone());
                add(&(key, view.schedules.last(key).map(facts)));
            }
            // A ConfigMap goes when no datacenter beside it restarts any more, also one where Medusa is not wanted now.
            let beside: BTreeSet<&str> =
                pieces.config_maps.iter().map(|key| key.namespace.as_str()).collect();
            let datacenters = view.datacenters.last_known().iter();
            for (key, dc) in datacenters.filter(|(key, _)| beside.contains(key.namespace.as_str())) {
                add(&(key, stability(dc, None, now)));
            }
        }
        text
    }
}
