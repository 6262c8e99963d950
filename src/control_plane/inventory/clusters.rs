//! Cassandra clusters of the fleet, and whether they are protected. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::grouping::{ClusterId, cluster_of};
use crate::{
    api::{
        Reason,
        cassandra::CassandraDatacenter,
        condition::set_condition,
        fleet::{ClusterDatacenter, FleetBackupStatus, FleetClusterStatus, MedusaState},
    },
    control_plane::fleet::Snapshot,
};

/// Computes every cluster, by FleetCluster name. `old` holds the published ones: what they say about data
/// planes that have not been listed since the start is carried over. `objective` is the age above which
/// the newest complete restore point no longer protects.
#[must_use]
pub fn clusters(
    planes: &[Snapshot],
    points: &BTreeMap<String, FleetBackupStatus>,
    old: &BTreeMap<String, FleetClusterStatus>,
    objective: SignedDuration,
    now: Timestamp,
) -> BTreeMap<String, FleetClusterStatus> {
    let mut found: BTreeMap<ClusterId, Vec<ClusterDatacenter>> = BTreeMap::new();
    for plane in planes.iter().filter(|p| p.view.datacenters.synced) {
        for (place, datacenter) in &plane.view.datacenters.items {
            let cluster = cluster_of(plane, datacenter);
            let mut entry = describe(datacenter, plane);
            entry.namespace.clone_from(&place.namespace);
            entry.name.clone_from(&place.name);
            found.entry(cluster).or_default().push(entry);
        }
    }
    let unasked: BTreeSet<&str> =
        planes.iter().filter(|p| !p.view.datacenters.synced).map(|p| p.name.as_str()).collect();
    for (name, status) in old {
        let id = ClusterId {
            name: name.clone(),
            k8ssandra: status.k8ssandra_cluster.clone().map(|r| (r.name, r.namespace)),
        };
        for entry in status.datacenters.iter().filter(|e| unasked.contains(e.data_plane.as_str())) {
            found.entry(id.clone()).or_default().push(ClusterDatacenter { ready: None, ..entry.clone() });
        }
    }
    found
        .into_iter()
        .map(|(id, datacenters)| {
            let before = old.get(&id.name).cloned().unwrap_or_default();
            let status = summarize(&id, datacenters, points, before, objective, now);
            (id.name, status)
        })
        .collect()
}

fn describe(datacenter: &CassandraDatacenter, plane: &Snapshot) -> ClusterDatacenter {
    let medusa = datacenter.medusa_container();
    ClusterDatacenter {
        data_plane: plane.name.clone(),
        size: i64::from(datacenter.spec.size),
        ready: plane.view.is_live().then(|| datacenter.is_ready()),
        medusa: MedusaState {
            deployed: medusa.is_some(),
            image: medusa.and_then(|c| c.image.clone()),
            ..MedusaState::default()
        },
        ..ClusterDatacenter::default()
    }
}

fn summarize(
    id: &ClusterId,
    mut datacenters: Vec<ClusterDatacenter>,
    points: &BTreeMap<String, FleetBackupStatus>,
    old: FleetClusterStatus,
    objective: SignedDuration,
    now: Timestamp,
) -> FleetClusterStatus {
    let own: Vec<(&String, &FleetBackupStatus)> =
        points.iter().filter(|(_, p)| p.cluster == id.name).collect();
    for datacenter in &mut datacenters {
        let newest = own
            .iter()
            .flat_map(|(_, point)| &point.datacenters)
            .filter(|e| {
                e.status == "SUCCESS"
                    && (&e.data_plane, &e.namespace, &e.name)
                        == (&datacenter.data_plane, &datacenter.namespace, &datacenter.name)
            })
            .max_by_key(|e| e.finish_time.as_ref().map(|t| t.0));
        datacenter.last_backup = newest.and_then(|e| e.medusa_backup.clone());
        datacenter.last_backup_time = newest.and_then(|e| e.finish_time.clone());
    }
    datacenters
        .sort_by(|a, b| (&a.data_plane, &a.namespace, &a.name).cmp(&(&b.data_plane, &b.namespace, &b.name)));
    let complete: Vec<&(&String, &FleetBackupStatus)> = own.iter().filter(|(_, p)| p.complete).collect();
    let last = complete.iter().max_by_key(|(_, p)| p.start_time.as_ref().map(|t| t.0));
    // A restore brings back what was there when the first datacenter took its snapshot.
    let recovery_point = last.and_then(|(_, p)| p.start_time.as_ref()).map(|t| t.0);
    let age = recovery_point.map(|t| now.duration_since(t).as_secs().max(0));
    let mut status = FleetClusterStatus {
        observed_generation: old.observed_generation,
        k8ssandra_cluster: id.k8ssandra_ref(),
        size: i64::try_from(datacenters.len()).unwrap_or(i64::MAX),
        datacenters,
        last_complete_backup: last.map(|(name, _)| (*name).clone()),
        recovery_point_time: recovery_point.map(Time),
        recovery_point_age_seconds: age,
        restore_points: i64::try_from(complete.len()).unwrap_or(i64::MAX),
        conditions: old.conditions,
    };
    explain(&mut status, recovery_point, objective, now);
    status
}

fn explain(
    status: &mut FleetClusterStatus,
    recovery_point: Option<Timestamp>,
    objective: SignedDuration,
    now: Timestamp,
) {
    let generation = status.observed_generation;
    let bare: Vec<String> = status
        .datacenters
        .iter()
        .filter(|dc| !dc.medusa.deployed)
        .map(|dc| format!("{}/{}/{}", dc.data_plane, dc.namespace, dc.name))
        .collect();
    let (deployed, reason, message) = if bare.is_empty() {
        (true, Reason::MedusaDeployed, "every datacenter has a `medusa` container".to_owned())
    } else {
        (false, Reason::MedusaNotDeployed, format!("no `medusa` container in {}", bare.join(", ")))
    };
    set_condition(&mut status.conditions, "MedusaDeployed", Some(deployed), reason, message, generation, now);
    let limit = objective.as_secs() / 3600;
    let (protected, reason, message) = match recovery_point {
        None => (false, Reason::NeverBackedUp, "there is no complete restore point".to_owned()),
        Some(point) if now.duration_since(point) > objective => (
            false,
            Reason::RecoveryPointStale,
            format!("the newest complete restore point is of {point:.0}, more than {limit} h ago"),
        ),
        Some(_) => (
            true,
            Reason::RecoveryPointFresh,
            format!("the newest complete restore point is younger than {limit} h"),
        ),
    };
    set_condition(&mut status.conditions, "Protected", Some(protected), reason, message, generation, now);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::Conditions as _,
        control_plane::fanout::tests::{datacenter, live, plane, silent},
    };

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn point(cluster: &str, complete: bool, start: i64) -> FleetBackupStatus {
        FleetBackupStatus {
            cluster: cluster.into(),
            complete,
            start_time: Some(Time(at(start))),
            ..FleetBackupStatus::default()
        }
    }

    fn compute(points: &[(&str, FleetBackupStatus)], now: i64) -> FleetClusterStatus {
        let planes = [plane("eu", live(&[datacenter("dc1", 3)]))];
        let points = points.iter().map(|(n, p)| ((*n).to_owned(), p.clone())).collect();
        clusters(&planes, &points, &BTreeMap::new(), DAY, at(now)).remove("shop.ns.eu").unwrap()
    }

    fn reason(status: &FleetClusterStatus) -> (bool, String) {
        let protected = status.conditions.of_type("Protected").unwrap();
        (protected.status == "True", protected.reason.clone())
    }

    #[test]
    fn a_cluster_that_never_had_a_backup_is_not_protected() {
        assert_eq!(reason(&compute(&[], 0)), (false, "NeverBackedUp".into()));
        let only_partial = [("p", point("shop.ns.eu", false, 0))];
        assert_eq!(reason(&compute(&only_partial, 0)), (false, "NeverBackedUp".into()));
    }

    #[test]
    fn protection_ends_with_the_objective() {
        let points = [("p", point("shop.ns.eu", true, 0)), ("other", point("elsewhere", true, 99_999))];
        assert_eq!(reason(&compute(&points, 86_400)), (true, "RecoveryPointFresh".into()));
        assert_eq!(reason(&compute(&points, 86_401)), (false, "RecoveryPointStale".into()));
    }

    #[test]
    fn the_newest_complete_point_counts() {
        let points = [
            ("old", point("shop.ns.eu", true, 10)),
            ("new", point("shop.ns.eu", true, 20)),
            ("broken", point("shop.ns.eu", false, 30)),
        ];
        let status = compute(&points, 100);
        assert_eq!(status.last_complete_backup.as_deref(), Some("new"));
        assert_eq!((status.restore_points, status.recovery_point_age_seconds), (2, Some(80)));
    }

    #[test]
    fn a_silent_data_plane_keeps_its_datacenters() {
        let old = BTreeMap::from([("shop.ns.eu".to_owned(), compute(&[], 0))]);
        let now = clusters(&[plane("eu", silent())], &BTreeMap::new(), &old, DAY, at(0));
        assert_eq!(now["shop.ns.eu"].datacenters[0].ready, None);
        assert!(clusters(&[], &BTreeMap::new(), &old, DAY, at(0)).is_empty(), "unregistered");
    }
}
