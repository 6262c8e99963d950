//! Findings about kinds that could not be listed, and about objects that could not be read. Pure.

use kube::ResourceExt as _;

use super::{DoctorInput, Finding, Malformed, Read, Severity, home};
use crate::api::{Reason, fleet, k8ssandra, medusa};

/// A kind the doctor reads: its word in findings, its group, its plural.
type Kind = (&'static str, &'static str, &'static str);

/// Kinds that were not read, wholly or in part; `defined` is what is wrong with their definitions.
pub(super) fn unread(evidence: &DoctorInput, defined: &[Finding]) -> Vec<Finding> {
    let absent = &|(_, group, plural): Kind| absent(plural, group, evidence, defined);
    [
        of(("customresourcedefinition", "", "customresourcedefinitions"), &evidence.definitions, absent),
        of(("lease", "", "leases"), &evidence.leases, absent),
        of(("dataplane", fleet::GROUP, "dataplanes"), &evidence.data_planes, absent),
        of(("cluster", fleet::GROUP, "fleetclusters"), &evidence.clusters, absent),
        of(("medusaconfiguration", medusa::GROUP, "medusaconfigurations"), &evidence.configurations, absent),
        of(("k8ssandracluster", k8ssandra::GROUP, "k8ssandraclusters"), &evidence.k8ssandra_clusters, absent),
        of(("schedule", fleet::GROUP, "fleetbackupschedules"), &evidence.schedules, absent),
        of(("job", fleet::GROUP, "fleetbackupjobs"), &evidence.jobs, absent),
        of(("task", fleet::GROUP, "fleettasks"), &evidence.tasks, absent),
        of(("restore", fleet::GROUP, "fleetrestorejobs"), &evidence.restores, absent),
    ]
    .concat()
}

/// What was not read of one kind; `absent` judges one that the API server does not know.
fn of<K>(kind: Kind, read: &Read<K>, absent: &impl Fn(Kind) -> Option<Finding>) -> Vec<Finding> {
    let (_, _, plural) = kind;
    match read {
        Read::All(_) => Vec::new(),
        Read::Part(_, malformed) => malformed.iter().map(|object| unreadable(kind, object)).collect(),
        Read::NotInstalled => absent(kind).into_iter().collect(),
        Read::Refused(why) => {
            let fix = format!("ask for the permission to list {plural}; until then nothing is known of them");
            vec![unknown(plural, Reason::NotAuthorized, why, fix)]
        }
        Read::Failed(why) => {
            let fix = format!("ask again; if it stays so, see to the API server, or to what serves {plural}");
            vec![unknown(plural, Reason::NotAnswered, why, fix)]
        }
    }
}

fn unknown(plural: &str, reason: Reason, why: &str, fix: String) -> Finding {
    Finding::new(Severity::Unknown, plural.to_owned(), reason, format!("cannot be read: {why}"), fix)
}

/// A kind the API server does not know, unless its definition says why already.
fn absent(plural: &str, group: &str, evidence: &DoctorInput, defined: &[Finding]) -> Option<Finding> {
    let name = format!("{plural}.{group}");
    let is_spoilt =
        matches!(&evidence.definitions, Read::Part(_, malformed) if malformed.iter().any(|d| d.name == name));
    if is_spoilt || defined.iter().any(|finding| finding.object == home::definition(plural, group)) {
        return None;
    }
    let installed = evidence.definitions.objects();
    let why = "the API server answers that there is no such kind";
    Some(if installed.iter().any(|definition| definition.name_any() == name) {
        home::unserved(plural, group, why, installed)
    } else {
        home::missing(plural, group, installed)
    })
}

/// An object that cannot be read. Only for runs is deleting them advised: other kinds take along what they stand for, a
/// K8ssandraCluster even the database.
fn unreadable((word, group, _): Kind, malformed: &Malformed) -> Finding {
    // Kinds that are not the fleet's are read in every namespace.
    let place = match &malformed.namespace {
        Some(namespace) if [medusa::GROUP, k8ssandra::GROUP].contains(&group) => {
            format!("{namespace}/{}", malformed.name)
        }
        _ => malformed.name.clone(),
    };
    let fix = if ["job", "task", "restore"].contains(&word) {
        "correct it, or delete it and make it anew: nothing works on it as it is"
    } else {
        "correct the field it names, where it stands: what it says cannot be followed as it is"
    };
    let what = format!("cannot be read: {}", malformed.why);
    Finding::new(Severity::Error, format!("{word}/{place}"), Reason::InvalidObject, what, fix)
}
