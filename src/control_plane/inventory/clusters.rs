//! Cassandra clusters of the fleet, and whether they are protected. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    digest::{Digest, Newest},
    expectation::Expectation,
    protection::{self, ProtectionFacts},
};
use crate::{
    api::{
        Reason,
        cassandra::CassandraDatacenter,
        condition::set_condition,
        fleet::{ClusterDatacenter, FleetClusterStatus, MedusaState, place},
    },
    control_plane::data_planes::{
        cluster_of::{ClusterId, claim_of, cluster_of, unreadable},
        fleet::Snapshot,
    },
};

/// What there is to say about clusters besides their datacenters.
#[derive(Debug)]
pub struct Findings<'a> {
    /// Datacenters that a K8ssandraCluster lists and no data plane shows.
    pub not_found: Vec<(ClusterId, ClusterDatacenter)>,
    /// Their restore points in short.
    pub digests: &'a BTreeMap<String, Digest>,
    /// What schedules promise them.
    pub expected: &'a BTreeMap<String, Expectation>,
    /// Age above which the newest complete restore point no longer protects, where no schedule promises one.
    pub objective: SignedDuration,
}

/// Computes every cluster, by FleetCluster name. `old` holds the published ones: what they say about data
/// planes that have not been listed since the start is carried over.
#[must_use]
pub fn clusters(
    planes: &[Snapshot],
    findings: &Findings<'_>,
    old: &BTreeMap<String, FleetClusterStatus>,
    now: Timestamp,
) -> BTreeMap<String, FleetClusterStatus> {
    let mut found: BTreeMap<String, Members> = BTreeMap::new();
    for plane in planes.iter().filter(|p| p.view.datacenters.trust.is_listed()) {
        for (place, datacenter) in plane.view.datacenters.last_known() {
            let members = Members::of(&mut found, cluster_of(plane, datacenter));
            let mut entry = describe(datacenter, plane);
            entry.namespace.clone_from(&place.namespace);
            entry.name.clone_from(&place.name);
            if let Some(claim) = claim_of(plane, datacenter) {
                let place = format!("{}/{}/{}", plane.name, place.namespace, place.name);
                members
                    .claims
                    .push(format!("{place} says that it belongs to `{}`: {}", claim.cluster, claim.why));
            }
            members.datacenters.push(entry);
        }
    }
    for (cluster, entry) in &findings.not_found {
        Members::of(&mut found, cluster.clone()).datacenters.push(entry.clone());
    }
    let unasked: BTreeSet<&str> =
        planes.iter().filter(|p| !p.view.datacenters.trust.is_listed()).map(|p| p.name.as_str()).collect();
    for (name, status) in old {
        let id = ClusterId {
            name: name.clone(),
            k8ssandra: status.k8ssandra_cluster.clone().map(|r| (r.name, r.namespace)),
        };
        let known = planes.first().map(|plane| &plane.membership.known);
        let is_part = |e: &ClusterDatacenter| {
            known.is_none_or(|known| !known.disowns(name, &e.data_plane, &e.namespace, &e.name))
        };
        let hides = |e: &ClusterDatacenter| {
            planes.iter().any(|p| p.name == e.data_plane && p.cannot_read(&e.namespace, &e.name))
        };
        let carried =
            |e: &&ClusterDatacenter| (unasked.contains(e.data_plane.as_str()) || hides(e)) && is_part(e);
        for entry in status.datacenters.iter().filter(carried) {
            let entry = ClusterDatacenter { ready: None, ..entry.clone() };
            Members::of(&mut found, id.clone()).datacenters.push(entry);
        }
    }
    for plane in planes {
        for (key, cluster) in unreadable(plane) {
            let Some(cluster) = cluster else { continue };
            let entries = &mut Members::of(&mut found, cluster).datacenters;
            let is_it = |e: &ClusterDatacenter| {
                (&e.data_plane, &e.namespace, &e.name) == (&plane.name, &key.namespace, &key.name)
            };
            if !entries.iter().any(is_it) {
                entries.push(ClusterDatacenter {
                    data_plane: plane.name.clone(),
                    namespace: key.namespace.clone(),
                    name: key.name.clone(),
                    ..ClusterDatacenter::default()
                });
            }
        }
    }
    found
        .into_iter()
        .map(|(name, members)| {
            let before = old.get(&name).cloned().unwrap_or_default();
            let mut status = summarize(&members.id, members.datacenters, findings, before, now);
            tell_claims(&mut status, &members.claims, now);
            (name, status)
        })
        .collect()
}

/// What is found of one cluster.
struct Members {
    id: ClusterId,
    datacenters: Vec<ClusterDatacenter>,
    claims: Vec<String>,
}

impl Members {
    fn of(found: &mut BTreeMap<String, Self>, id: ClusterId) -> &mut Self {
        let new = || Self { id: id.clone(), datacenters: Vec::new(), claims: Vec::new() };
        found.entry(id.name.clone()).or_insert_with(new)
    }
}

/// Says which datacenters of the cluster claim another one.
fn tell_claims(status: &mut FleetClusterStatus, claims: &[String], now: Timestamp) {
    const TYPE: &str = "ClusterClaimed";
    let Some(first) = claims.first() else {
        status.conditions.retain(|c| c.type_ != TYPE);
        return;
    };
    let more = match claims.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more like it"),
    };
    let message = format!("{first}{more}; it is a cluster of its own, and nobody else is concerned");
    let (reason, generation) = (Reason::ClusterClaimed, status.observed_generation);
    set_condition(&mut status.conditions, TYPE, Some(true), reason, message, generation, now);
}

fn describe(datacenter: &CassandraDatacenter, plane: &Snapshot) -> ClusterDatacenter {
    let medusa = datacenter.medusa_container();
    ClusterDatacenter {
        data_plane: plane.name.clone(),
        size: i64::from(datacenter.spec.size).max(0),
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
    findings: &Findings<'_>,
    old: FleetClusterStatus,
    now: Timestamp,
) -> FleetClusterStatus {
    let nothing = Digest::default();
    let digest = findings.digests.get(&id.name).unwrap_or(&nothing);
    for datacenter in &mut datacenters {
        let place = (datacenter.data_plane.clone(), datacenter.namespace.clone(), datacenter.name.clone());
        let Newest { backup, finish, .. } = digest.newest.get(&place).cloned().unwrap_or_default();
        datacenter.last_backup = backup;
        datacenter.last_backup_time = finish.map(Time);
    }
    datacenters
        .sort_by(|a, b| (&a.data_plane, &a.namespace, &a.name).cmp(&(&b.data_plane, &b.namespace, &b.name)));
    let expected = findings.expected.get(&id.name).copied().unwrap_or_default();
    let limit = protection::limit(expected, findings.objective);
    let recovery_point = digest.last.as_ref().map(|(_, start)| *start);
    let ever = [recovery_point].into_iter().chain(
        [&old.last_recovery_point_time, &old.recovery_point_time].map(|time| time.as_ref().map(|t| t.0)),
    );
    let ever = ever.flatten().max();
    let mut status = FleetClusterStatus {
        observed_generation: old.observed_generation,
        k8ssandra_cluster: id.k8ssandra_ref(),
        size: i64::try_from(datacenters.len()).unwrap_or(i64::MAX),
        datacenters,
        last_complete_backup: digest.last.as_ref().map(|(name, _)| name.clone()),
        recovery_point_time: recovery_point.map(Time),
        last_recovery_point_time: ever.map(Time),
        more_datacenters: None,
        foreign_backups: (digest.foreign > 0).then_some(digest.foreign),
        restore_points: digest.complete,
        next_scheduled_backup: expected.next.map(Time),
        expected_interval_seconds: Some(limit.as_secs()),
        drift: digest.drift.clone(),
        conditions: old.conditions,
    };
    let silent = status.datacenters.iter().all(|dc| dc.ready.is_none());
    let evidence = ProtectionFacts { newest: recovery_point, ever, unknown: digest.unknown, silent };
    explain(&mut status, digest, protection::judge(evidence, limit, now), now);
    status
}

fn explain(
    status: &mut FleetClusterStatus,
    digest: &Digest,
    protected: (Option<bool>, Reason, String),
    now: Timestamp,
) {
    let generation = status.observed_generation;
    let bare: Vec<String> = status
        .datacenters
        .iter()
        .filter(|dc| !dc.medusa.deployed)
        .map(|dc| place([&dc.data_plane, &dc.namespace, &dc.name]))
        .collect();
    let (deployed, reason, message) = if bare.is_empty() {
        (true, Reason::MedusaDeployed, "every datacenter has a `medusa` container".to_owned())
    } else {
        (false, Reason::MedusaNotDeployed, format!("no `medusa` container in {}", bare.join(", ")))
    };
    set_condition(&mut status.conditions, "MedusaDeployed", Some(deployed), reason, message, generation, now);
    let (verdict, reason, message) = protected;
    set_condition(&mut status.conditions, "Protected", verdict, reason, message, generation, now);
    let (verdict, reason, message) = consistency(status, digest);
    let conditions = &mut status.conditions;
    set_condition(conditions, "InventoryConsistent", verdict, reason, message, generation, now);
}

/// Whether the data planes agree about the cluster's restore points; unknown while one does not answer and the
/// others agree.
fn consistency(status: &FleetClusterStatus, digest: &Digest) -> (Option<bool>, Reason, String) {
    let mut silent: Vec<&str> =
        status.datacenters.iter().filter(|dc| dc.ready.is_none()).map(|dc| dc.data_plane.as_str()).collect();
    silent.dedup();
    match (digest.drift.first(), silent.is_empty()) {
        (Some(first), _) => {
            let message = format!(
                "{} differences, such as {} in {}: {}; see status.drift",
                digest.drift_total,
                first.restore_point,
                place([&first.data_plane, &first.namespace, &first.datacenter]),
                first.message
            );
            (Some(false), Reason::InventoryDrifted, message)
        }
        (None, false) => {
            let message = format!("no answer from data plane {}", silent.join(", "));
            (None, Reason::DataPlaneUnreachable, message)
        }
        (None, true) => {
            (Some(true), Reason::InventoryConsistent, "every data plane agrees with the others".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{Conditions as _, fleet::InventoryDrift},
        control_plane::{
            data_planes::view::View,
            fanout::tests::{datacenter, live, plane, silent},
        },
    };

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn digest(last: Option<i64>) -> Digest {
        Digest {
            complete: i64::from(last.is_some()),
            last: last.map(|start| ("new".to_owned(), at(start))),
            ..Digest::default()
        }
    }

    fn compute_with(view: View, digest: Digest, expected: Expectation, now: i64) -> FleetClusterStatus {
        let old = BTreeMap::from([("shop.ns.eu".to_owned(), published())]);
        let (name, planes) = ("shop.ns.eu".to_owned(), [plane("eu", view)]);
        let findings = Findings {
            not_found: Vec::new(),
            digests: &BTreeMap::from([(name.clone(), digest)]),
            expected: &BTreeMap::from([(name.clone(), expected)]),
            objective: DAY,
        };
        clusters(&planes, &findings, &old, at(now)).remove(&name).unwrap()
    }

    fn published() -> FleetClusterStatus {
        let datacenter = ClusterDatacenter {
            data_plane: "eu".into(),
            namespace: "ns".into(),
            name: "dc1".into(),
            ready: Some(true),
            ..ClusterDatacenter::default()
        };
        FleetClusterStatus { datacenters: vec![datacenter], ..FleetClusterStatus::default() }
    }

    fn compute(digest: Digest, now: i64) -> FleetClusterStatus {
        compute_with(live(&[datacenter("dc1", 3)]), digest, Expectation::default(), now)
    }

    fn condition(status: &FleetClusterStatus, type_: &str) -> (String, String) {
        let found = status.conditions.of_type(type_).unwrap();
        (found.status.clone(), found.reason.clone())
    }

    #[test]
    fn a_cluster_that_never_had_a_backup_is_not_protected() {
        let status = compute(digest(None), 0);
        assert_eq!(condition(&status, "Protected"), ("False".into(), "NeverBackedUp".into()));
    }

    #[test]
    fn protection_ends_with_the_objective_or_with_what_schedules_promise() {
        let fresh = ("True".to_owned(), "RecoveryPointFresh".to_owned());
        let stale = ("False".to_owned(), "RecoveryPointStale".to_owned());
        assert_eq!(condition(&compute(digest(Some(0)), 86_400), "Protected"), fresh);
        assert_eq!(condition(&compute(digest(Some(0)), 86_401), "Protected"), stale);
        let hourly = Expectation { interval: Some(SignedDuration::from_hours(4)), next: Some(at(9_000)) };
        let view = || live(&[datacenter("dc1", 3)]);
        let status = compute_with(view(), digest(Some(0)), hourly, 6 * 3_600);
        assert_eq!(condition(&status, "Protected"), fresh);
        assert_eq!(status.expected_interval_seconds, Some(6 * 3_600));
        assert_eq!(status.next_scheduled_backup.unwrap().0, at(9_000));
        let status = compute_with(view(), digest(Some(0)), hourly, 6 * 3_600 + 1);
        assert_eq!(condition(&status, "Protected"), stale);
        assert_eq!((status.last_complete_backup.as_deref(), status.restore_points), (Some("new"), 1));
    }

    #[test]
    fn a_silent_data_plane_keeps_its_datacenters_and_decides_nothing() {
        let status = compute_with(silent(), digest(Some(0)), Expectation::default(), 999_999);
        assert_eq!(status.datacenters[0].ready, None);
        assert_eq!(condition(&status, "Protected"), ("Unknown".into(), "RecoveryPointUnknown".into()));
        assert_eq!(condition(&status, "InventoryConsistent").0, "Unknown");
        let old = BTreeMap::from([("shop.ns.eu".to_owned(), status)]);
        let nothing = Findings {
            not_found: Vec::new(),
            digests: &BTreeMap::new(),
            expected: &BTreeMap::new(),
            objective: DAY,
        };
        assert!(clusters(&[], &nothing, &old, at(0)).is_empty(), "unregistered");
    }

    #[test]
    fn drift_is_named_and_counted() {
        let drift = InventoryDrift { restore_point: "b1.shop".into(), ..InventoryDrift::default() };
        let status = compute(Digest { drift: vec![drift], drift_total: 30, ..digest(Some(0)) }, 0);
        assert_eq!(condition(&status, "InventoryConsistent"), ("False".into(), "InventoryDrifted".into()));
        let message = &status.conditions.of_type("InventoryConsistent").unwrap().message;
        assert!(message.contains("30 differences") && message.contains("b1.shop"), "{message}");
        assert_eq!(condition(&compute(digest(None), 0), "InventoryConsistent").0, "True");
    }
}
