//! Cassandra clusters and the settings they share. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;

use super::{Finding, Read, Severity, object, unseen};
use crate::{
    api::{
        Conditions as _, Reason,
        fleet::{
            DatacenterTask, FleetCluster, FleetClusterStatus, FleetOperation, FleetTask, InventoryDrift,
            Phase,
        },
        k8ssandra::K8ssandraCluster,
        labels,
        medusa::MedusaConfiguration,
    },
    cli::views::name,
};

/// Conditions of a FleetCluster that should be `True`.
const CONDITIONS: [&str; 5] =
    ["MedusaDeployed", "CredentialsInSync", "PrefixUnique", "Protected", "InventoryConsistent"];

/// FleetClusters that are not protected, or soon will not be.
pub(super) fn clusters(clusters: &[FleetCluster], tasks: &[FleetTask], now: Timestamp) -> Vec<Finding> {
    clusters.iter().flat_map(|cluster| one(cluster, tasks, now)).collect()
}

fn one(cluster: &FleetCluster, tasks: &[FleetTask], now: Timestamp) -> Vec<Finding> {
    let object = object("cluster", &cluster.metadata);
    let Some(status) = &cluster.status else {
        return unseen(&cluster.metadata, object, now).into_iter().collect();
    };
    let unjudged = match status.conditions.of_type("Protected") {
        Some(_) => None,
        None => unseen(&cluster.metadata, object.clone(), now),
    };
    let wrong =
        CONDITIONS.iter().filter_map(|type_| status.conditions.of_type(type_)).filter(|c| c.status != "True");
    let claimed = status.conditions.of_type("ClusterClaimed").filter(|c| c.status == "True").map(|condition| {
        let fix = format!(
            "take the datacenter's labels away, list it in the K8ssandraCluster, or allow its DataPlane to join: annotation \
             `{}`",
            labels::MAY_JOIN
        );
        Finding::of(Severity::Warning, object.clone(), condition, fix)
    });
    wrong
        .map(|condition| {
            let is_minor = match condition.type_.as_str() {
                "InventoryConsistent" => true,
                // Nobody asked for Medusa there.
                "MedusaDeployed" => status.k8ssandra_cluster.is_none(),
                _ => false,
            };
            let is_known = condition.status == "False";
            let is_all =
                condition.type_ == "InventoryConsistent" && is_all_there_is(status, condition, tasks);
            if is_all {
                return Finding::of(Severity::Notice, object.clone(), condition, NOT_STORED);
            }
            let severity = if is_known && !is_minor { Severity::Error } else { Severity::Warning };
            let fix = fix(&condition.type_, &condition.reason, &name(&cluster.metadata));
            Finding::of(severity, object.clone(), condition, fix)
        })
        .chain(claimed)
        .chain(unjudged)
        .collect()
}

/// What to do about backups that are nowhere.
const NOT_STORED: &str = "nothing: a sync has looked, and the storage does not hold them either, as those runs failed there; \
                          an incomplete restore point counts for nothing and goes with the purge";

/// Whether all that is missing was looked for by a sync since it is: the storage does not hold it either.
fn is_all_there_is(status: &FleetClusterStatus, condition: &Condition, tasks: &[FleetTask]) -> bool {
    let is_looked_for = |missing: &InventoryDrift| {
        let place = [missing.data_plane.as_str(), &missing.namespace, &missing.datacenter];
        let syncs = tasks.iter().filter(|task| task.spec.operation == FleetOperation::Sync);
        let mut runs = syncs.filter_map(|task| task.status.as_ref()).flat_map(|status| &status.datacenters);
        runs.any(|DatacenterTask { run, .. }| {
            let began = run.start_time.as_ref().map(|at| at.0);
            run.phase == Phase::Succeeded
                && began.is_some_and(|at| at >= condition.last_transition_time.0)
                && [run.data_plane.as_str(), &run.namespace, &run.datacenter] == place
        })
    };
    let is_missing = |drift: &InventoryDrift| drift.reason == Reason::MedusaBackupMissing.as_str();
    !status.drift.is_empty() && status.drift.iter().all(|drift| is_missing(drift) && is_looked_for(drift))
}

fn fix(type_: &str, reason: &str, cluster: &str) -> String {
    if [Reason::DataPlaneUnreachable, Reason::RecoveryPointUnknown].iter().any(|r| r.as_str() == reason) {
        return "see to its data planes first: `kubectl medusa dataplanes`".to_owned();
    }
    match type_ {
        "MedusaDeployed" => {
            format!("`kubectl medusa plan deploy {cluster}` says what is done where, and what it waits for")
        }
        "CredentialsInSync" => {
            format!(
                "put the Secrets its `spec.medusa` names beside it; `kubectl medusa describe cluster/{cluster}`"
            )
        }
        "PrefixUnique" => "give one of the two another spec.medusa.storageProperties.prefix".to_owned(),
        "Protected" => format!(
            "`kubectl medusa backup --cluster {cluster} --watch`, and a schedule to keep it so: `kubectl medusa schedule`"
        ),
        _ => format!(
            "`kubectl medusa sync --cluster {cluster}` makes the MedusaBackups say what the storage holds"
        ),
    }
}

/// K8ssandraClusters that ask for Medusa and of which no datacenter was found.
pub(super) fn k8ssandra_clusters(asking: &[K8ssandraCluster], found: &Read<FleetCluster>) -> Vec<Finding> {
    let is_found = |asking: &K8ssandraCluster| {
        let mut owners = found.objects().iter().filter_map(|c| c.status.as_ref()?.k8ssandra_cluster.as_ref());
        owners.any(|owner| {
            owner.name == asking.name_any() && Some(&owner.namespace) == asking.namespace().as_ref()
        })
    };
    let lost = asking.iter().filter(|c| found.is_whole() && c.spec.medusa.is_some() && !is_found(c));
    lost.map(|cluster| {
        let what = "asks for Medusa, and no FleetCluster is known of it";
        let fix = "see that its datacenters' k8sContext are data planes that are ready, and that they have been created: \
                   `kubectl medusa dataplanes`";
        let object = format!("k8ssandracluster/{}", place(cluster));
        Finding::new(Severity::Error, object, Reason::DatacenterNotFound, what, fix)
    })
    .collect()
}

/// MedusaConfigurations that cannot be used, or are not where they are needed. Copies are judged by their source.
pub(super) fn configurations(configurations: &[MedusaConfiguration], now: Timestamp) -> Vec<Finding> {
    let sources = configurations.iter().filter(|c| !c.labels().contains_key(labels::CONTROL_PLANE));
    sources.flat_map(|configuration| settings(configuration, now)).collect()
}

fn settings(configuration: &MedusaConfiguration, now: Timestamp) -> Vec<Finding> {
    let object = format!("medusaconfiguration/{}", place(configuration));
    let conditions = configuration.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    if conditions.is_empty() {
        return unseen(&configuration.metadata, object, now).into_iter().collect();
    }
    let fixes = [
        ("Ready", "mend what it names: the storage Secret is expected beside it, with key `credentials`"),
        ("Replicated", "see to the data planes and namespaces it names; copies follow by themselves"),
    ];
    let wrong = fixes.into_iter().filter_map(|(type_, fix)| Some((conditions.of_type(type_)?, fix)));
    wrong
        .filter(|(condition, _)| condition.status != "True")
        .map(|(condition, fix)| {
            let severity = if condition.status == "False" { Severity::Error } else { Severity::Warning };
            Finding::of(severity, object.clone(), condition, fix)
        })
        .collect()
}

fn place(object: &impl kube::ResourceExt) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}
