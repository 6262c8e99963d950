//! Which datacenters a selector means. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{
    ResourceExt as _,
    core::{Selector as Labels, SelectorExt as _},
};

use super::compact::{BUDGET, fits};
use crate::{
    api::{
        Reason,
        cassandra::CassandraDatacenter,
        fleet::{DatacenterRun, Phase, Selector},
        names::{is_object_name, shorten},
    },
    control_plane::data_planes::{
        cluster_of::{ClusterId, cluster_of, unreadable},
        fleet::{Snapshot, Usable},
        view::{Contact, ObjectKey},
    },
};

/// Labels of the FleetClusters, by name.
pub type ClusterLabels = BTreeMap<String, BTreeMap<String, String>>;

/// A selector with its label selectors read.
struct Reader<'a> {
    selector: &'a Selector,
    clusters: Option<Labels>,
    planes: Option<Labels>,
    datacenters: Option<Labels>,
    cluster_labels: &'a ClusterLabels,
}

fn read(field: &str, selector: Option<&LabelSelector>) -> Result<Option<Labels>, String> {
    selector
        .cloned()
        .map(Labels::try_from)
        .transpose()
        .map_err(|error| format!("`spec.selector.{field}` cannot be read: {error}"))
}

fn listed<T: AsRef<str>>(names: &[T], name: &str) -> bool {
    names.is_empty() || names.iter().any(|n| n.as_ref() == name)
}

/// The first name of a selector that no object can have: it would select nothing for ever.
fn misnamed(selector: &Selector) -> Option<String> {
    let fields = [
        ("clusters", &selector.clusters),
        ("dataPlanes", &selector.data_planes),
        ("namespaces", &selector.namespaces),
        ("datacenters", &selector.datacenters),
    ];
    let mut names = fields.into_iter().flat_map(|(field, names)| names.iter().map(move |name| (field, name)));
    let (field, name) = names.find(|(_, name)| !is_object_name(name))?;
    let shown = shorten(&name.escape_debug().to_string(), 100);
    Some(format!(
        "`spec.selector.{field}`: `{shown}` cannot be an object's name; give one of at most 253 lower case letters, digits, \
         `-` and `.`, that begins and ends with a letter or digit"
    ))
}

impl<'a> Reader<'a> {
    fn new(selector: &'a Selector, cluster_labels: &'a ClusterLabels) -> Result<Self, String> {
        if let Some(invalid) = misnamed(selector) {
            return Err(invalid);
        }
        Ok(Self {
            selector,
            clusters: read("clusterSelector", selector.cluster_selector.as_ref())?,
            planes: read("dataPlaneSelector", selector.data_plane_selector.as_ref())?,
            datacenters: read("datacenterSelector", selector.datacenter_selector.as_ref())?,
            cluster_labels,
        })
    }

    fn wants_plane(&self, plane: &Snapshot) -> bool {
        !plane.unregistering
            && listed(&self.selector.data_planes, &plane.name)
            && self.planes.as_ref().is_none_or(|s| s.matches(&plane.labels))
    }

    fn wants(&self, plane: &Snapshot, datacenter: &CassandraDatacenter) -> bool {
        let cluster = cluster_of(plane, datacenter);
        let none = BTreeMap::new();
        let cluster_labels = self.cluster_labels.get(&cluster.name).unwrap_or(&none);
        let clusters = &self.selector.clusters;
        listed(&self.selector.namespaces, &datacenter.namespace().unwrap_or_default())
            && listed(&self.selector.datacenters, &datacenter.name_any())
            && (clusters.is_empty() || clusters.iter().any(|name| cluster.is_called(name)))
            && self.clusters.as_ref().is_none_or(|s| s.matches(cluster_labels))
            && self.datacenters.as_ref().is_none_or(|s| s.matches(datacenter.labels()))
    }

    /// Whether a datacenter that is there and cannot be read may be meant. `cluster` is its own, where that is known.
    fn may_want(&self, plane: &Snapshot, key: &ObjectKey, cluster: Option<&ClusterId>) -> bool {
        let known = &plane.membership.known;
        let none = BTreeMap::new();
        let clusters = &self.selector.clusters;
        // What a K8ssandraCluster that is known here does not list is none of its datacenters.
        let is_called = |name: &String| cluster.map_or_else(|| !known.is_called(name), |c| c.is_called(name));
        let has_labels = |labels: &Labels| {
            cluster.is_none_or(|c| labels.matches(self.cluster_labels.get(&c.name).unwrap_or(&none)))
        };
        listed(&self.selector.namespaces, &key.namespace)
            && listed(&self.selector.datacenters, &key.name)
            && (clusters.is_empty() || clusters.iter().any(is_called))
            && self.clusters.as_ref().is_none_or(has_labels)
    }
}

/// The datacenters `selector` means, when a run over them can be told; else why it cannot be done, for machines and
/// for people. `known` are the entries of an earlier pass. Where they are too many, the data planes that add most are
/// left out, each with an entry that says so: nobody's backups end for what another data plane shows. A datacenter that cannot
/// be read has an entry, but not where clusters are selected and no K8ssandraCluster lists it.
///
/// # Errors
/// When a label selector cannot be read, or so many datacenters match that no status could hold them.
pub fn select_fitting(
    selector: &Selector,
    planes: &[Snapshot],
    cluster_labels: &ClusterLabels,
    known: &[DatacenterRun],
) -> Result<Vec<DatacenterRun>, (Reason, String)> {
    let mut entries =
        select(selector, planes, cluster_labels, known).map_err(|why| (Reason::InvalidSelector, why))?;
    // A run of certain clusters does not fail for an object that nothing says is of them.
    if !selector.clusters.is_empty() || selector.cluster_selector.is_some() {
        entries.retain(|entry| !(is_unreadable(entry) && entry.cluster.is_empty()));
    }
    let total = entries.len();
    while !fits(&entries, BUDGET) {
        let mut new: BTreeMap<&str, usize> = BTreeMap::new();
        let fixed: BTreeSet<_> = known.iter().map(key).collect();
        let added = entries.iter().filter(|e| !is_placeholder(e) && !fixed.contains(&key(e)));
        added.for_each(|entry| *new.entry(&entry.data_plane).or_default() += 1);
        let is_only =
            entries.iter().all(|e| e.phase.is_final() || new.len() == 1 && !fixed.contains(&key(e)));
        let most = new.iter().max_by_key(|(_, count)| **count).filter(|_| !is_only);
        let Some((plane, count)) = most.map(|(plane, count)| ((*plane).to_owned(), *count)) else {
            let message = format!(
                "`spec.selector` matches {total} datacenters, more than one status can tell about; make several runs that \
                 select by `dataPlanes`, `clusters` or labels"
            );
            return Err((Reason::TooManyDatacenters, message));
        };
        entries.retain(|e| e.data_plane != plane || fixed.contains(&key(e)));
        entries.push(too_many(&plane, count));
        entries.sort_by(|a, b| key(a).cmp(&key(b)));
    }
    Ok(entries)
}

/// An entry that is decided before anything is begun with it.
fn decided(plane: &str, datacenter: &str, phase: Phase, reason: Reason, message: String) -> DatacenterRun {
    DatacenterRun {
        data_plane: plane.to_owned(),
        datacenter: datacenter.to_owned(),
        phase,
        reason: Some(reason.as_str().to_owned()),
        message: Some(message),
        ..DatacenterRun::default()
    }
}

/// The entry of a data plane that has more datacenters than the run can tell about.
fn too_many(plane: &str, count: usize) -> DatacenterRun {
    let message = format!(
        "data plane `{plane}` was left out: `spec.selector` matches {count} datacenters of it, and one status cannot \
         tell about all; make other runs for it, by `clusters`, `namespaces` or labels"
    );
    decided(plane, "", Phase::Failed, Reason::TooManyDatacenters, message)
}

/// Resolves `selector` into one entry per datacenter.
///
/// `known` holds the entries of an earlier pass; they stay as they are, because a run's datacenters are
/// fixed when it starts. Only a data plane that had not been listed then (an entry without a datacenter)
/// is resolved later.
///
/// # Errors
/// When a label selector cannot be read.
pub fn select(
    selector: &Selector,
    planes: &[Snapshot],
    cluster_labels: &ClusterLabels,
    known: &[DatacenterRun],
) -> Result<Vec<DatacenterRun>, String> {
    let reader = Reader::new(selector, cluster_labels)?;
    let first = known.is_empty();
    let waiting: BTreeSet<&str> =
        known.iter().filter(|e| is_placeholder(e)).map(|e| e.data_plane.as_str()).collect();
    let mut entries: Vec<DatacenterRun> = known.iter().filter(|e| !is_placeholder(e)).cloned().collect();
    // A data plane that is gone was not looked at: its entry stays, and is decided for that.
    let is_gone = |e: &&DatacenterRun| is_placeholder(e) && !planes.iter().any(|p| p.name == e.data_plane);
    entries.extend(known.iter().filter(is_gone).cloned());
    for plane in planes {
        let is_meant = if first { reader.wants_plane(plane) } else { waiting.contains(plane.name.as_str()) };
        if !is_meant {
            continue;
        }
        let old = known.iter().find(|e| is_placeholder(e) && e.data_plane == plane.name);
        if old.is_some_and(|e| e.phase.is_final()) {
            entries.extend(old.cloned());
            continue;
        }
        if let Usable::NotReady { reason: Reason::DuplicateCluster, why } = &plane.usable {
            entries.push(duplicate(selector, &plane.name, why));
            continue;
        }
        // What a cluster last said about its datacenters holds while it is silent.
        let listed_once =
            plane.view.datacenters.trust.is_listed() || plane.view.datacenters.last_known().keys().len() > 0;
        if !listed_once || (plane.view.contact == Contact::Live && !plane.view.datacenters.trust.is_listed())
        {
            entries.push(old.cloned().unwrap_or_else(|| DatacenterRun {
                data_plane: plane.name.clone(),
                ..DatacenterRun::default()
            }));
            continue;
        }
        let chosen = plane.view.datacenters.last_known().values().filter(|dc| reader.wants(plane, dc));
        entries.extend(chosen.map(|dc| entry(selector, plane, dc)));
        let unread = unreadable(plane).filter(|(key, cluster)| reader.may_want(plane, key, cluster.as_ref()));
        entries.extend(unread.map(|(key, cluster)| unread_entry(plane, key, cluster)));
    }
    if !entries.iter().any(|e| is_placeholder(e) && !e.phase.is_final()) {
        entries.extend(unmatched(selector, planes, &entries));
    }
    entries.sort_by(|a, b| key(a).cmp(&key(b)));
    Ok(entries)
}

/// Whether a run whose datacenters are not fixed yet has found nothing, or not everything that its selector names. `known`
/// are the entries of an earlier pass.
#[must_use]
pub fn is_lacking<E: AsRef<DatacenterRun>>(entries: &[E], known: &[E]) -> bool {
    let is_missing = |e: &E| {
        let e = e.as_ref();
        e.phase == Phase::Failed && (e.data_plane.is_empty() || e.namespace.is_empty())
    };
    known.iter().all(|e| is_placeholder(e.as_ref())) && (entries.is_empty() || entries.iter().any(is_missing))
}

/// The part of `known` that a run does not resolve again. While it `settles` and has found nothing but data planes that it
/// still waits for, that is nothing: a data plane that was listed without the datacenter that is meant, because that had
/// just been made, is then resolved again. An entry of a data plane that is gone stays, as it was not looked at.
#[must_use]
pub fn fixed<'a, E: AsRef<DatacenterRun>>(known: &'a [E], planes: &[Snapshot], settles: bool) -> &'a [E] {
    let waits = |e: &DatacenterRun| {
        is_placeholder(e) && !e.phase.is_final() && planes.iter().any(|plane| plane.name == e.data_plane)
    };
    if settles && known.iter().all(|e| waits(e.as_ref())) { &[] } else { known }
}

fn key(entry: &DatacenterRun) -> (&str, &str, &str) {
    (&entry.data_plane, &entry.namespace, &entry.datacenter)
}

/// Whether the entry stands for a data plane whose datacenters are not known yet.
#[must_use]
pub fn is_placeholder(entry: &DatacenterRun) -> bool {
    entry.datacenter.is_empty() && !entry.data_plane.is_empty()
}

/// The entry of a data plane that is held for another one, and therefore not looked at.
fn duplicate(selector: &Selector, plane: &str, why: &str) -> DatacenterRun {
    // Named by the user it is a failure; swept up by a wide selector it is merely left out.
    let is_named = selector.data_planes.iter().any(|name| name == plane);
    let phase = if is_named { Phase::Failed } else { Phase::Skipped };
    let message = format!("data plane `{plane}` was not looked at: {why}");
    decided(plane, "", phase, Reason::DuplicateCluster, message)
}

/// The entry of a datacenter that cannot be read: nobody knows whether it is meant, or has Medusa.
fn unread_entry(plane: &Snapshot, key: &ObjectKey, cluster: Option<ClusterId>) -> DatacenterRun {
    let why = plane.view.datacenters.unreadable().get(key).map_or("", String::as_str);
    let message = format!("{}; it was left out of this run", shorten(why, 400));
    DatacenterRun {
        namespace: key.namespace.clone(),
        cluster: cluster.map(|cluster| cluster.name).unwrap_or_default(),
        ..decided(&plane.name, &key.name, Phase::Failed, Reason::DatacenterUnreadable, message)
    }
}

/// Whether the entry is that of a datacenter that cannot be read.
#[must_use]
pub fn is_unreadable(entry: &DatacenterRun) -> bool {
    entry.has_reason(Reason::DatacenterUnreadable)
}

/// Whether the entry was left out for what its data plane shows, which counts for that one only.
#[must_use]
pub fn is_left_out(entry: &DatacenterRun) -> bool {
    is_unreadable(entry) || entry.has_reason(Reason::TooManyDatacenters)
}

fn entry(selector: &Selector, plane: &Snapshot, datacenter: &CassandraDatacenter) -> DatacenterRun {
    let mut entry = DatacenterRun {
        data_plane: plane.name.clone(),
        namespace: datacenter.namespace().unwrap_or_default(),
        datacenter: datacenter.name_any(),
        cluster: cluster_of(plane, datacenter).name,
        ..DatacenterRun::default()
    };
    let obstacle = if datacenter.medusa_container().is_none() {
        Some((Reason::MedusaNotDeployed, "its pods have no `medusa` container; deploy Medusa to back it up"))
    } else if datacenter.spec.stopped {
        Some((Reason::DatacenterStopped, "its `spec.stopped` is set; start it to back it up"))
    } else {
        None
    };
    if let Some((reason, message)) = obstacle {
        // Named by the user it is a failure; swept up by a wide selector it is merely left out.
        let named = selector.datacenters.contains(&entry.datacenter);
        entry.phase = if named { Phase::Failed } else { Phase::Skipped };
        entry.reason = Some(reason.as_str().to_owned());
        entry.message = Some(message.to_owned());
    }
    entry
}

/// Entries for names in the selector that nothing matches, so that a typing error does not pass as
/// success. Called when every data plane is known.
fn unmatched(selector: &Selector, planes: &[Snapshot], entries: &[DatacenterRun]) -> Vec<DatacenterRun> {
    let mut missing = Vec::new();
    if entries.is_empty() && selector.data_planes.is_empty() {
        return missing; // The whole selector matches nothing: that is the job's own reason.
    }
    for name in selector.data_planes.iter().filter(|name| !planes.iter().any(|p| p.name == **name)) {
        let message = format!("`spec.selector.dataPlanes` names `{name}`, which is not registered");
        missing.push(decided(name, "-", Phase::Failed, Reason::UnknownDataPlane, message));
    }
    for name in selector.datacenters.iter().filter(|name| !entries.iter().any(|e| e.datacenter == **name)) {
        let message = format!("`spec.selector.datacenters` names `{name}`, which no selected data plane has");
        missing.push(decided("", name, Phase::Failed, Reason::DatacenterNotFound, message));
    }
    missing.retain(|new| !entries.iter().any(|e| key(e) == key(new)));
    missing
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
