//! What the deployment of Medusa has come to, brought into FleetClusters. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{
    api::{
        Reason, Why,
        condition::set_condition,
        fleet::{ClusterDatacenter, DeploymentState, FleetClusterStatus, MedusaState},
    },
    control_plane::{
        data_planes::{
            cluster_of::{ClusterId, of_k8ssandra},
            view::ObjectKey,
        },
        deployment::report::{ClusterReport, DatacenterReport, Reports},
    },
};

/// Condition that is True while somebody takes back what we write.
const CONFLICT: &str = "Conflict";

/// Data plane, namespace and name of a datacenter.
type DatacenterKey<'a> = (&'a str, &'a str, &'a str);

fn place_of(report: &DatacenterReport) -> DatacenterKey<'_> {
    let place = &report.place;
    (&place.plane, &place.object.namespace, &place.object.name)
}

/// Datacenters that a K8ssandraCluster with Medusa lists and no data plane shows: a person looks for them in the
/// FleetCluster.
#[must_use]
pub fn not_found(reports: &Reports) -> Vec<(ClusterId, ClusterDatacenter)> {
    let mut list = Vec::new();
    for (key, report) in &reports.clusters {
        let missing =
            report.datacenters.iter().filter(|dc| dc.state == DeploymentState::NotFound || is_nowhere(dc));
        list.extend(missing.map(|dc| {
            let (plane, namespace, name) = place_of(dc);
            let entry = ClusterDatacenter {
                data_plane: plane.to_owned(),
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                ..ClusterDatacenter::default()
            };
            (of_k8ssandra(key), entry)
        }));
    }
    list
}

fn is_nowhere(report: &DatacenterReport) -> bool {
    has(report, Reason::UnknownDataPlane)
}

fn has(report: &DatacenterReport, reason: Reason) -> bool {
    report.why.as_ref().is_some_and(|why| why.reason == reason)
}

/// Brings what the deployment found out into `clusters`. Until it has looked at everything, what was published
/// before (`old`) still stands.
pub fn describe(
    clusters: &mut BTreeMap<String, FleetClusterStatus>,
    reports: &Reports,
    old: &BTreeMap<String, FleetClusterStatus>,
    now: Timestamp,
) {
    let mut by_place: BTreeMap<DatacenterKey<'_>, (&ObjectKey, &ClusterReport, &DatacenterReport)> =
        BTreeMap::new();
    for (key, report) in &reports.clusters {
        for own in &report.datacenters {
            // What is left of one K8ssandraCluster's Medusa is not what another's comes to in the same datacenter.
            let is_left_over = has(own, Reason::StillInUse) && by_place.contains_key(&place_of(own));
            if !is_left_over {
                by_place.insert(place_of(own), (key, &**report, own));
            }
        }
    }
    for (name, status) in clusters {
        let before = old.get(name);
        let mut found: BTreeMap<&ObjectKey, &ClusterReport> = BTreeMap::new();
        let mut whys = Vec::new();
        for datacenter in &mut status.datacenters {
            let place: DatacenterKey<'_> = (&datacenter.data_plane, &datacenter.namespace, &datacenter.name);
            match by_place.get(&place) {
                Some((key, report, own)) => {
                    found.insert(key, report);
                    datacenter.storage.clone_from(&report.storage);
                    datacenter.credentials.clone_from(&own.credentials);
                    fill(&mut datacenter.medusa, own);
                    whys.push(*own);
                }
                None if !reports.whole => carry_over(datacenter, before),
                None => {}
            }
        }
        if !found.is_empty() {
            judge(status, &found, &whys, now);
        } else if reports.whole {
            // Nobody asks for Medusa here (any more).
            status
                .conditions
                .retain(|c| ![CONFLICT, "CredentialsInSync", "PrefixUnique"].contains(&c.type_.as_str()));
        }
    }
}

fn fill(medusa: &mut MedusaState, report: &DatacenterReport) {
    medusa.state = Some(report.state);
    medusa.reason = report.why.as_ref().map(|why| why.reason.as_str().to_owned());
    medusa.message = report.why.as_ref().map(|why| why.message.clone());
    medusa.changes.clone_from(&report.changes);
    medusa.more_changes =
        (report.more_changes > 0).then(|| i64::try_from(report.more_changes).unwrap_or(i64::MAX));
    medusa.restarts_pods = report.restarts_pods;
    medusa.kept.clone_from(&report.kept);
    medusa.undone.clone_from(&report.undone);
}

fn carry_over(datacenter: &mut ClusterDatacenter, before: Option<&FleetClusterStatus>) {
    let same = |old: &&ClusterDatacenter| {
        (&old.data_plane, &old.namespace, &old.name)
            == (&datacenter.data_plane, &datacenter.namespace, &datacenter.name)
    };
    let Some(old) = before.and_then(|before| before.datacenters.iter().find(same)) else { return };
    datacenter.storage.clone_from(&old.storage);
    datacenter.credentials.clone_from(&old.credentials);
    let (deployed, image) = (datacenter.medusa.deployed, datacenter.medusa.image.take());
    datacenter.medusa = MedusaState { deployed, image, ..old.medusa.clone() };
}

/// The conditions of a cluster somebody asks for Medusa in.
fn judge(
    status: &mut FleetClusterStatus,
    found: &BTreeMap<&ObjectKey, &ClusterReport>,
    datacenters: &[&DatacenterReport],
    now: Timestamp,
) {
    let generation = status.observed_generation;
    let set = |list: &mut Vec<Condition>, type_: &str, verdict: (Option<bool>, Reason, String)| {
        set_condition(list, type_, verdict.0, verdict.1, verdict.2, generation, now);
    };
    // It is there only while there is something to decide.
    match datacenters.iter().find(|dc| has(dc, Reason::Conflict)) {
        Some(fought) => set(&mut status.conditions, CONFLICT, (Some(true), Reason::Conflict, named(fought))),
        None => status.conditions.retain(|condition| condition.type_ != CONFLICT),
    }
    if let Some(verdict) = deployed(datacenters) {
        set(&mut status.conditions, "MedusaDeployed", verdict);
    }
    set(&mut status.conditions, "CredentialsInSync", credentials(datacenters));
    set(&mut status.conditions, "PrefixUnique", prefix(found));
}

/// What is the matter with a datacenter first, in a message that names it.
fn named(report: &DatacenterReport) -> String {
    let (plane, namespace, name) = place_of(report);
    let why = report.why.as_ref().map_or("", |why: &Why| why.message.as_str());
    format!("{plane}/{namespace}/{name}: {why}")
}

/// `None` when every datacenter is as asked for, or somebody else's: then the containers tell. Medusa that cannot reach its
/// storage is not deployed, although all that was asked for is in place.
fn deployed(datacenters: &[&DatacenterReport]) -> Option<(Option<bool>, Reason, String)> {
    let order = [
        DeploymentState::Refused,
        DeploymentState::Paused,
        DeploymentState::Waiting,
        DeploymentState::Progressing,
        DeploymentState::NotFound,
        DeploymentState::Unknown,
    ];
    let of_state = |state| datacenters.iter().find(|dc| dc.state == state);
    let lacking = || datacenters.iter().find(|dc| has(dc, Reason::StorageAccountMissing));
    let worst = order.into_iter().find_map(of_state).or_else(lacking)?;
    let is_alike = |dc: &DatacenterReport| {
        dc.state == worst.state
            && (dc.state != DeploymentState::Deployed || has(dc, Reason::StorageAccountMissing))
    };
    let messages: Vec<String> = datacenters.iter().filter(|dc| is_alike(dc)).map(|dc| named(dc)).collect();
    let reason = worst.why.as_ref().map_or(Reason::MedusaNotDeployed, |why| why.reason);
    let verdict = (worst.state != DeploymentState::Unknown).then_some(false);
    Some((verdict, reason, messages.join("; ")))
}

fn credentials(datacenters: &[&DatacenterReport]) -> (Option<bool>, Reason, String) {
    let lacking = datacenters.iter().find(|dc| dc.credentials.as_ref().is_some_and(|c| !c.synced));
    if let Some(lacking) = lacking {
        let reason = lacking.why.as_ref().map_or(Reason::Replicating, |why| why.reason);
        return (Some(false), reason, named(lacking));
    }
    let looked_at = datacenters.iter().filter(|dc| dc.credentials.is_some()).count();
    if looked_at == 0 {
        return (None, Reason::Pending, "no datacenter's Secrets were looked at".to_owned());
    }
    (Some(true), Reason::SecretAvailable, format!("every Secret is in place in {looked_at} datacenters"))
}

fn prefix(found: &BTreeMap<&ObjectKey, &ClusterReport>) -> (Option<bool>, Reason, String) {
    let others: Vec<String> =
        found.values().flat_map(|report| &report.shares_with).map(ToString::to_string).collect();
    if !others.is_empty() {
        let message = format!(
            "K8ssandraCluster {} puts its backups under the same prefix of the same bucket; choose another \
             `storageProperties.prefix` for one of them",
            others.join(", ")
        );
        return (Some(false), Reason::PrefixInUse, message);
    }
    if found.values().any(|report| report.storage.is_none()) {
        return (None, Reason::Pending, "where the backups go is not known".to_owned());
    }
    (Some(true), Reason::PrefixUnique, "no other cluster puts backups there".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        api::{
            Conditions as _,
            fleet::{CredentialsState, StorageState},
        },
        control_plane::data_planes::membership::DatacenterPlace,
    };

    fn datacenter(name: &str, state: DeploymentState, why: Option<Why>) -> DatacenterReport {
        let place = DatacenterPlace { plane: "eu".to_owned(), object: ObjectKey::new("cass", name) };
        DatacenterReport::new(&place, state, why)
    }

    fn reports(datacenters: Vec<DatacenterReport>, whole: bool) -> Reports {
        let storage = StorageState { bucket: "b".to_owned(), ..StorageState::default() };
        let report = ClusterReport { datacenters, storage: Some(storage), ..ClusterReport::default() };
        Reports { clusters: BTreeMap::from([(ObjectKey::new("src", "demo"), Arc::new(report))]), whole }
    }

    fn clusters(names: &[&str]) -> BTreeMap<String, FleetClusterStatus> {
        let datacenters = names.iter().map(|name| ClusterDatacenter {
            data_plane: "eu".to_owned(),
            namespace: "cass".to_owned(),
            name: (*name).to_owned(),
            ..ClusterDatacenter::default()
        });
        let status =
            FleetClusterStatus { datacenters: datacenters.collect(), ..FleetClusterStatus::default() };
        BTreeMap::from([("demo.src".to_owned(), status)])
    }

    fn at() -> Timestamp {
        Timestamp::from_second(0).unwrap()
    }

    #[test]
    fn what_came_of_it_stands_with_each_datacenter_and_the_worst_in_the_condition() {
        let refused =
            datacenter("dc2", DeploymentState::Refused, Some(Why::new(Reason::SecretNotFound, "no s")));
        let lacking =
            DatacenterReport { credentials: Some(CredentialsState { synced: false, hash: None }), ..refused };
        let waiting =
            datacenter("dc1", DeploymentState::Waiting, Some(Why::new(Reason::DatacenterNotReady, "w")));
        let mut all = clusters(&["dc1", "dc2"]);
        describe(&mut all, &reports(vec![waiting, lacking], true), &BTreeMap::new(), at());
        let status = &all["demo.src"];
        assert_eq!(status.datacenters[0].medusa.state, Some(DeploymentState::Waiting));
        assert_eq!(status.datacenters[1].storage.as_ref().unwrap().bucket, "b");
        let deployed = status.conditions.of_type("MedusaDeployed").unwrap();
        assert_eq!((deployed.status.as_str(), deployed.reason.as_str()), ("False", "SecretNotFound"));
        assert_eq!(deployed.message, "eu/cass/dc2: no s");
        assert_eq!(status.conditions.of_type("CredentialsInSync").unwrap().status, "False");
        assert!(status.conditions.is_true("PrefixUnique"));
    }

    #[test]
    fn medusa_without_its_storage_account_is_not_deployed() {
        let lacks = Why::new(Reason::StorageAccountMissing, "no account");
        let found = vec![
            datacenter("dc1", DeploymentState::Deployed, None),
            datacenter("dc2", DeploymentState::Deployed, Some(lacks)),
        ];
        let mut all = clusters(&["dc1", "dc2"]);
        describe(&mut all, &reports(found, true), &BTreeMap::new(), at());
        let deployed = all["demo.src"].conditions.of_type("MedusaDeployed").unwrap();
        assert_eq!((deployed.status.as_str(), deployed.reason.as_str()), ("False", "StorageAccountMissing"));
        assert_eq!(deployed.message, "eu/cass/dc2: no account");
    }

    #[test]
    fn what_is_left_of_one_cluster_is_not_said_of_the_datacenter_that_another_wants() {
        let left = Why::new(Reason::StillInUse, "left");
        let mut both = reports(vec![datacenter("dc1", DeploymentState::Deployed, None)], true);
        let of = vec![datacenter("dc1", DeploymentState::Waiting, Some(left))];
        for earlier_or_later in ["a", "z"] {
            let report = ClusterReport { datacenters: of.clone(), ..ClusterReport::default() };
            both.clusters.insert(ObjectKey::new("src", earlier_or_later), Arc::new(report));
        }
        let mut all = clusters(&["dc1"]);
        describe(&mut all, &both, &BTreeMap::new(), at());
        assert_eq!(all["demo.src"].datacenters[0].medusa.state, Some(DeploymentState::Deployed));
    }

    #[test]
    fn a_silent_datacenter_is_unknown_and_a_missing_one_is_listed() {
        let silent =
            datacenter("dc1", DeploymentState::Unknown, Some(Why::new(Reason::DataPlaneUnreachable, "s")));
        let missing =
            datacenter("dc2", DeploymentState::NotFound, Some(Why::new(Reason::DatacenterNotFound, "m")));
        let mut all = clusters(&["dc1"]);
        let both = reports(vec![silent, missing], true);
        describe(&mut all, &both, &BTreeMap::new(), at());
        let deployed = all["demo.src"].conditions.of_type("MedusaDeployed").unwrap();
        assert_eq!((deployed.status.as_str(), deployed.reason.as_str()), ("Unknown", "DataPlaneUnreachable"));
        let listed = not_found(&both);
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].0.name.as_str(), listed[0].1.name.as_str()), ("demo.src", "dc2"));
    }

    #[test]
    fn after_a_start_what_was_published_stands_until_everything_was_looked_at() {
        let mut old = clusters(&["dc1"]);
        describe(
            &mut old,
            &reports(vec![datacenter("dc1", DeploymentState::Deployed, None)], true),
            &BTreeMap::new(),
            at(),
        );
        let mut all = clusters(&["dc1"]);
        all.get_mut("demo.src").unwrap().conditions = old["demo.src"].conditions.clone();
        let mut later = all.clone();
        let nothing = |whole| Reports { clusters: BTreeMap::new(), whole };
        describe(&mut all, &nothing(false), &old, at());
        assert_eq!(all, old);
        describe(&mut later, &nothing(true), &old, at());
        assert_eq!(later["demo.src"].datacenters[0].medusa.state, None);
        assert!(later["demo.src"].conditions.of_type("PrefixUnique").is_none());
    }

    #[test]
    fn a_shared_prefix_is_flagged() {
        let mut shared = reports(vec![datacenter("dc1", DeploymentState::Deployed, None)], true);
        let report = Arc::make_mut(shared.clusters.get_mut(&ObjectKey::new("src", "demo")).unwrap());
        report.shares_with.push(ObjectKey::new("src", "other"));
        let mut all = clusters(&["dc1"]);
        describe(&mut all, &shared, &BTreeMap::new(), at());
        let unique = all["demo.src"].conditions.of_type("PrefixUnique").unwrap();
        assert!(unique.status == "False" && unique.message.contains("src/other"), "{unique:?}");
    }
}
