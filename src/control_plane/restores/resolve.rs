//! Which cluster is restored into, which of its datacenters, and which MedusaBackup goes into each. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::check::Topic;
use crate::{
    api::{
        Reason,
        cassandra::CassandraDatacenter,
        fleet::{
            ClusterDatacenter, FleetBackupDatacenter, FleetBackupStatus, FleetClusterStatus,
            FleetRestoreJobSpec, RestoreCheck, RestoreDatacenter, place,
        },
        names::{is_object_name, shorten},
    },
    control_plane::data_planes::{cluster_of::cluster_of, fleet::Snapshot, view::ObjectKey},
};

/// The published FleetClusters, by name. They remember the datacenters of data planes that are silent.
pub type Clusters = BTreeMap<String, FleetClusterStatus>;

/// A datacenter in the fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub data_plane: String,
    /// Namespace and name of the CassandraDatacenter.
    pub key: ObjectKey,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.data_plane, self.key)
    }
}

/// One datacenter to restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub place: Place,
    /// The MedusaBackup, when one was found for it.
    pub backup: Option<String>,
}

/// What a spec means.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resolved {
    /// The FleetCluster, when it is clear which.
    pub cluster: Option<String>,
    /// The datacenters, in order.
    pub targets: Vec<Target>,
    /// `RestorePoint` and `Cluster`.
    pub checks: Vec<RestoreCheck>,
}

/// Resolves `spec`. `backup` is the FleetBackup it names, nothing when there is none.
#[must_use]
pub fn resolve(
    spec: &FleetRestoreJobSpec,
    backup: Option<&FleetBackupStatus>,
    clusters: &Clusters,
    planes: &[Snapshot],
) -> Resolved {
    if let Some(check) = misnamed(spec) {
        return Resolved { cluster: None, targets: Vec::new(), checks: vec![check] };
    }
    let mut checks = vec![restore_point(spec, backup)];
    let cluster = match cluster(spec, backup, clusters, planes) {
        Ok(cluster) => cluster,
        Err(check) => {
            checks.push(check);
            return Resolved { cluster: None, targets: Vec::new(), checks };
        }
    };
    let members = members(&cluster, clusters, planes);
    let (chosen, problems) = choose(spec, &cluster, &members);
    let targets: Vec<Target> = chosen
        .into_iter()
        .map(|(place, named)| {
            let backup = named.or_else(|| part(&place, backup?, &cluster, planes));
            Target { place, backup }
        })
        .collect();
    let left = left_over(spec, backup, &targets);
    checks.push(match (problems.is_empty(), left.is_empty()) {
        (false, _) => Topic::Cluster.failed(Reason::DatacenterNotFound, problems.join("; ")),
        (true, false) => Topic::Cluster.failed(
            Reason::WrongDatacenter,
            format!(
                "the backup also holds {}, for which `{cluster}` has no datacenter of that Cassandra name; name in \
                 spec.datacenters what is to be restored",
                left.join(", ")
            ),
        ),
        (true, true) => Topic::Cluster.passed(),
    });
    Resolved { cluster: Some(cluster), targets, checks }
}

/// The first reference that cannot be an object's name: it must not be asked for, as `b?x` would be read as `b`.
fn misnamed(spec: &FleetRestoreJobSpec) -> Option<RestoreCheck> {
    let own =
        [("spec.backup", Topic::RestorePoint, &spec.backup), ("spec.cluster", Topic::Cluster, &spec.cluster)];
    let own =
        own.into_iter().filter_map(|(field, topic, name)| Some((field.to_owned(), topic, name.as_ref()?)));
    let named = spec.datacenters.iter().enumerate().flat_map(|(number, wanted)| {
        let at = |field: &str| format!("spec.datacenters[{number}].{field}");
        let optional = [
            ("dataPlane", Topic::Cluster, &wanted.data_plane),
            ("namespace", Topic::Cluster, &wanted.namespace),
            ("medusaBackup", Topic::RestorePoint, &wanted.medusa_backup),
        ];
        let optional =
            optional.into_iter().filter_map(|(field, topic, name)| Some((field, topic, name.as_ref()?)));
        let all = std::iter::once(("datacenter", Topic::Cluster, &wanted.datacenter)).chain(optional);
        all.map(|(field, topic, name)| (at(field), topic, name)).collect::<Vec<_>>()
    });
    let (field, topic, name) = own.chain(named).find(|(_, _, name)| !is_object_name(name))?;
    let shown = shorten(&name.escape_debug().to_string(), 100);
    let message = format!(
        "{field}: `{shown}` cannot be an object's name; give one of at most 253 lower case letters, digits, `-` and `.`, that \
         begins and ends with a letter or digit"
    );
    Some(topic.failed(Reason::InvalidSpec, message))
}

fn restore_point(spec: &FleetRestoreJobSpec, backup: Option<&FleetBackupStatus>) -> RestoreCheck {
    let Some(name) = &spec.backup else { return Topic::RestorePoint.passed() };
    let Some(backup) = backup else {
        let message = format!("spec.backup: there is no FleetBackup `{name}`; see `kubectl medusa backups`");
        return Topic::RestorePoint.failed(Reason::BackupNotFound, message);
    };
    if backup.complete || !spec.datacenters.is_empty() {
        return Topic::RestorePoint.passed();
    }
    let whole = backup.done.clone().unwrap_or_default();
    match backup.phase.as_str() {
        "InProgress" => Topic::RestorePoint
            .waiting(Reason::BackupRunning, format!("FleetBackup `{name}` is still being made ({whole})")),
        "Unknown" => Topic::RestorePoint.waiting(
            Reason::DataPlaneUnreachable,
            format!("whether FleetBackup `{name}` is complete is not known while a data plane is silent"),
        ),
        _ => Topic::RestorePoint.failed(
            Reason::BackupIncomplete,
            format!(
                "FleetBackup `{name}` is complete in {whole} datacenters only; name in spec.datacenters those that \
                 are to be restored, if a part is meant"
            ),
        ),
    }
}

/// The FleetCluster to restore into.
fn cluster(
    spec: &FleetRestoreJobSpec,
    backup: Option<&FleetBackupStatus>,
    clusters: &Clusters,
    planes: &[Snapshot],
) -> Result<String, RestoreCheck> {
    if let Some(name) = &spec.cluster {
        let mut called: BTreeSet<String> = clusters
            .iter()
            .filter(|(own, status)| {
                *own == name || status.k8ssandra_cluster.as_ref().is_some_and(|k8c| k8c.name == *name)
            })
            .map(|(own, _)| own.clone())
            .collect();
        called.extend(datacenters(planes).filter_map(|(plane, dc)| {
            let id = cluster_of(plane, dc);
            id.is_called(name).then_some(id.name)
        }));
        if called.contains(name) {
            return Ok(name.clone());
        }
        let list = called.iter().cloned().collect::<Vec<_>>().join(", ");
        return match (called.len(), called.into_iter().next()) {
            (1, Some(only)) => Ok(only),
            (0, _) => Err(Topic::Cluster.failed(
                Reason::UnknownCluster,
                format!("spec.cluster: there is no cluster `{name}`; see `kubectl medusa clusters`"),
            )),
            _ => Err(Topic::Cluster
                .failed(Reason::UnknownCluster, format!("spec.cluster: `{name}` may be any of {list}"))),
        };
    }
    if spec.backup.is_some() {
        return backup.map(|b| b.cluster.clone()).ok_or_else(|| {
            Topic::Cluster
                .failed(Reason::UnknownCluster, "spec.cluster is not given, and the backup is not there")
        });
    }
    let named: BTreeSet<String> = datacenters(planes)
        .filter(|(plane, dc)| {
            spec.datacenters.iter().any(|wanted| means(wanted, &plane.name, &ObjectKey::of(*dc)))
        })
        .map(|(plane, dc)| cluster_of(plane, dc).name)
        .collect();
    let list = named.iter().cloned().collect::<Vec<_>>().join(", ");
    match (named.len(), named.into_iter().next()) {
        (1, Some(only)) => Ok(only),
        (0, _) => Err(Topic::Cluster.failed(
            Reason::DatacenterNotFound,
            "spec.datacenters: none of them is in a data plane that answers; name spec.cluster, or see \
             `kubectl medusa clusters`",
        )),
        _ => Err(Topic::Cluster.failed(
            Reason::InvalidSpec,
            format!("spec.datacenters: they are of several clusters ({list}); name one in spec.cluster"),
        )),
    }
}

fn datacenters(planes: &[Snapshot]) -> impl Iterator<Item = (&Snapshot, &CassandraDatacenter)> {
    planes.iter().flat_map(|p| p.view.datacenters.last_known().values().map(move |dc| (p, dc.as_ref())))
}

/// The datacenters of a cluster: as the data planes show them, and for a silent one, or one that cannot be read, as last
/// published.
fn members(cluster: &str, clusters: &Clusters, planes: &[Snapshot]) -> BTreeSet<Place> {
    let mut members: BTreeSet<Place> = datacenters(planes)
        .filter(|(plane, dc)| cluster_of(plane, dc).name == cluster)
        .map(|(plane, dc)| Place { data_plane: plane.name.clone(), key: ObjectKey::of(dc) })
        .collect();
    let is_unseen = |dc: &ClusterDatacenter| {
        let plane = planes.iter().find(|p| p.name == dc.data_plane);
        plane.is_some_and(|p| !p.view.is_live() || p.cannot_read(&dc.namespace, &dc.name))
    };
    let published = clusters.get(cluster).map(|c| c.datacenters.as_slice()).unwrap_or_default();
    members.extend(
        published.iter().filter(|dc| is_unseen(dc)).map(|dc| Place {
            data_plane: dc.data_plane.clone(),
            key: ObjectKey::new(&dc.namespace, &dc.name),
        }),
    );
    members
}

fn means(wanted: &RestoreDatacenter, plane: &str, key: &ObjectKey) -> bool {
    wanted.datacenter == key.name
        && wanted.data_plane.as_ref().is_none_or(|name| name == plane)
        && wanted.namespace.as_ref().is_none_or(|name| *name == key.namespace)
}

/// The chosen datacenters with the MedusaBackup each names, and what cannot be chosen.
fn choose(
    spec: &FleetRestoreJobSpec,
    cluster: &str,
    members: &BTreeSet<Place>,
) -> (Vec<(Place, Option<String>)>, Vec<String>) {
    if spec.datacenters.is_empty() {
        let problem = format!("`{cluster}` has no datacenter in any registered data plane");
        let problems = if members.is_empty() { vec![problem] } else { Vec::new() };
        return (members.iter().map(|place| (place.clone(), None)).collect(), problems);
    }
    let (mut chosen, mut problems) = (Vec::new(), Vec::new());
    for (number, wanted) in spec.datacenters.iter().enumerate() {
        let found: Vec<&Place> = members.iter().filter(|m| means(wanted, &m.data_plane, &m.key)).collect();
        let field = format!("spec.datacenters[{number}] `{}`", wanted.datacenter);
        match found.as_slice() {
            [] => problems.push(format!("{field}: `{cluster}` has no such datacenter")),
            [one] if chosen.iter().any(|(place, _)| place == *one) => {
                problems.push(format!("{field} is named twice"));
            }
            [one] => chosen.push(((*one).clone(), wanted.medusa_backup.clone())),
            several => {
                let list = several.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                problems.push(format!("{field} may be any of {list}; add dataPlane and namespace"));
            }
        }
    }
    (chosen, problems)
}

/// The part of a backup that goes into `place`: the one taken there, else the only one with the same name in
/// Cassandra. Never by position: data of another datacenter's name cannot be restored (upstream: Restores).
fn part(place: &Place, backup: &FleetBackupStatus, cluster: &str, planes: &[Snapshot]) -> Option<String> {
    let here = |e: &&FleetBackupDatacenter| {
        e.data_plane == place.data_plane && e.namespace == place.key.namespace && e.name == place.key.name
    };
    if backup.cluster == cluster
        && let Some(own) = backup.datacenters.iter().find(here)
    {
        return own.medusa_backup.clone();
    }
    let plane = planes.iter().find(|p| p.name == place.data_plane)?;
    let wanted = plane
        .view
        .datacenters
        .last(&place.key)
        .map_or_else(|| place.key.name.clone(), |dc| dc.display_name());
    let mut same = backup.datacenters.iter().filter(|e| cassandra_name(e, planes) == wanted);
    match (same.next(), same.next()) {
        (Some(one), None) => one.medusa_backup.clone(),
        _ => None,
    }
}

/// Cassandra's own name of the datacenter a part was taken of: from its nodes, else from the datacenter, else
/// the object's name, which it is unless somebody chose another.
fn cassandra_name(entry: &FleetBackupDatacenter, planes: &[Snapshot]) -> String {
    let view = planes.iter().find(|p| p.name == entry.data_plane).map(|p| &p.view);
    let backup = entry.medusa_backup.as_ref().and_then(|name| {
        view?.backups.last(&ObjectKey::new(&entry.namespace, name))?.node_datacenters.first().cloned()
    });
    backup
        .or_else(|| {
            let key = ObjectKey::new(&entry.namespace, &entry.name);
            view?.datacenters.last(&key).map(|dc| dc.display_name())
        })
        .unwrap_or_else(|| entry.name.clone())
}

/// Parts of the backup that go nowhere although everything was to be restored.
fn left_over(
    spec: &FleetRestoreJobSpec,
    backup: Option<&FleetBackupStatus>,
    targets: &[Target],
) -> Vec<String> {
    let Some(backup) = backup.filter(|_| spec.datacenters.is_empty()) else { return Vec::new() };
    let used = |name: &String| targets.iter().any(|t| t.backup.as_ref() == Some(name));
    backup
        .datacenters
        .iter()
        .filter(|e| e.medusa_backup.as_ref().is_some_and(|name| !used(name)))
        .map(|e| place([&e.data_plane, &e.namespace, &e.name]))
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::fleet::{ClusterDatacenter, K8ssandraClusterRef},
        control_plane::restores::{
            simulation::fleet_backup,
            tests::{datacenter, job_with, live, plane, silent},
        },
    };

    #[rstest]
    #[case(json!({"backup": "night?x"}), "spec.backup: `night?x`")]
    #[case(json!({"cluster": "my shop", "backup": "night"}), "spec.cluster: `my shop`")]
    #[case(json!({"datacenters": [{"datacenter": "dc%31"}]}), "spec.datacenters[0].datacenter: `dc%31`")]
    #[case(json!({"datacenters": [{"datacenter": "dc1"}, {"datacenter": "dc1", "medusaBackup": "../b"}]}),
        "spec.datacenters[1].medusaBackup: `../b`")]
    fn what_is_no_name_is_never_asked_for(#[case] spec: Value, #[case] expected: &str) {
        let resolved = resolve(&job_with("back", spec).spec, None, &Clusters::new(), &[]);
        assert!(resolved.targets.is_empty());
        let check = &resolved.checks[0];
        assert_eq!(check.reason.as_deref(), Some("InvalidSpec"));
        assert!(check.message.as_deref().is_some_and(|said| said.starts_with(expected)), "{check:?}");
    }

    /// `<plane>/<datacenter>=<backup>` for every target, or why there is none.
    fn told(spec: Value, parts: &[&str], clusters: &Clusters, planes: &[Snapshot]) -> Vec<String> {
        let job = job_with("back", spec);
        let backup = job.spec.backup.is_some().then(|| fleet_backup(parts));
        let resolved = resolve(&job.spec, backup.as_ref(), clusters, planes);
        let open = resolved
            .checks
            .iter()
            .filter_map(|c| Some(format!("{}: {}", c.reason.clone()?, c.message.clone()?)));
        let targets = resolved.targets.iter().map(|t| {
            let backup = t.backup.as_deref().unwrap_or("nothing");
            format!("{}/{}={backup}", t.place.data_plane, t.place.key.name)
        });
        targets.chain(open).collect()
    }

    fn two() -> Vec<Snapshot> {
        vec![plane("eu", live(&[datacenter("dc1", "shop")])), plane("us", live(&[datacenter("dc2", "shop")]))]
    }

    #[rstest]
    #[case::everything(json!({"backup": "b"}), &["eu/dc1=b1-dc1-0a0a0a0a", "us/dc2=b1-dc2-0a0a0a0a"])]
    #[case::a_part_in_its_own_order(
        json!({"backup": "b", "datacenters": [{"datacenter": "dc2"}, {"datacenter": "dc1", "medusaBackup": "mine"}]}),
        &["us/dc2=b1-dc2-0a0a0a0a", "eu/dc1=mine"])]
    #[case::without_a_fleet_backup(
        json!({"datacenters": [{"datacenter": "dc1", "medusaBackup": "mine"}]}), &["eu/dc1=mine"])]
    #[case::twice(
        json!({"backup": "b", "datacenters": [{"datacenter": "dc1"}, {"datacenter": "dc1"}]}),
        &["eu/dc1=b1-dc1-0a0a0a0a", "DatacenterNotFound: spec.datacenters[1] `dc1` is named twice"])]
    #[case::of_another_data_plane(
        json!({"backup": "b", "datacenters": [{"datacenter": "dc1", "dataPlane": "us"}]}),
        &["DatacenterNotFound: spec.datacenters[0] `dc1`: `shop` has no such datacenter"])]
    fn a_spec_names_datacenters_and_backups(#[case] spec: Value, #[case] expected: &[&str]) {
        assert_eq!(told(spec, &["eu/dc1", "us/dc2"], &Clusters::new(), &two()), expected);
    }

    #[test]
    fn a_datacenter_without_a_part_is_seen_and_so_is_a_part_without_a_datacenter() {
        let lines = told(json!({"backup": "b"}), &["eu/dc1"], &Clusters::new(), &two());
        assert_eq!(lines, ["eu/dc1=b1-dc1-0a0a0a0a", "us/dc2=nothing"]);
        let lines = told(json!({"backup": "b"}), &["eu/dc1", "us/dc2", "asia/dc3"], &Clusters::new(), &two());
        assert!(lines[2].starts_with("WrongDatacenter: the backup also holds asia/ns/dc3"), "{lines:?}");
    }

    #[test]
    fn another_cluster_is_matched_by_cassandras_names_and_never_by_position() {
        let mut copy = datacenter("second", "copy");
        copy.spec.datacenter_name = Some("dc2".to_owned());
        let mut planes = two();
        planes.push(plane("asia", live(&[copy, datacenter("dc9", "copy")])));
        let lines =
            told(json!({"backup": "b", "cluster": "copy"}), &["eu/dc1", "us/dc2"], &Clusters::new(), &planes);
        assert_eq!(lines[..2], ["asia/dc9=nothing", "asia/second=b1-dc2-0a0a0a0a"]);
        assert!(lines[2].starts_with("WrongDatacenter"), "{lines:?}");
    }

    #[test]
    fn a_cluster_goes_by_the_name_of_its_k8ssandra_cluster_unless_two_have_it() {
        let mut clusters = Clusters::new();
        let of = |namespace: &str| FleetClusterStatus {
            k8ssandra_cluster: Some(K8ssandraClusterRef { name: "demo".into(), namespace: namespace.into() }),
            ..FleetClusterStatus::default()
        };
        clusters.insert("shop".to_owned(), of("a"));
        let spec = json!({"backup": "b", "cluster": "demo"});
        let lines = told(spec.clone(), &["eu/dc1", "us/dc2"], &clusters, &two());
        assert_eq!(lines, ["eu/dc1=b1-dc1-0a0a0a0a", "us/dc2=b1-dc2-0a0a0a0a"]);
        clusters.insert("demo.b".to_owned(), of("b"));
        let lines = told(spec, &["eu/dc1", "us/dc2"], &clusters, &two());
        assert_eq!(lines, ["UnknownCluster: spec.cluster: `demo` may be any of demo.b, shop"]);
    }

    #[test]
    fn the_datacenters_of_a_silent_data_plane_are_remembered() {
        let planes = [plane("eu", live(&[datacenter("dc1", "shop")])), plane("us", silent())];
        let entry = ClusterDatacenter {
            data_plane: "us".into(),
            namespace: "ns".into(),
            name: "dc2".into(),
            ..ClusterDatacenter::default()
        };
        let status = FleetClusterStatus { datacenters: vec![entry], ..FleetClusterStatus::default() };
        let clusters = Clusters::from([("shop".to_owned(), status)]);
        let lines = told(json!({"backup": "b"}), &["eu/dc1", "us/dc2"], &clusters, &planes);
        assert_eq!(lines, ["eu/dc1=b1-dc1-0a0a0a0a", "us/dc2=b1-dc2-0a0a0a0a"]);
    }
}
