//! Kinds that were not read, and objects of which nobody knows what they say. Pure.

use kube::ResourceExt as _;

use super::{Evidence, Finding, Malformed, Read, Severity, home};
use crate::api::{Reason, fleet, k8ssandra, medusa};

/// A kind the doctor reads: its word in findings, its group, its plural.
type Kind = (&'static str, &'static str, &'static str);

/// Kinds that were not read, wholly or in part; `defined` is what is wrong with their definitions.
pub(super) fn unread(evidence: &Evidence, defined: &[Finding]) -> Vec<Finding> {
    let gaps: [(Kind, Gap<'_>); 10] = [
        (("customresourcedefinition", "", "customresourcedefinitions"), gap(&evidence.definitions)),
        (("lease", "", "leases"), gap(&evidence.leases)),
        (("dataplane", fleet::GROUP, "dataplanes"), gap(&evidence.data_planes)),
        (("cluster", fleet::GROUP, "fleetclusters"), gap(&evidence.clusters)),
        (("medusaconfiguration", medusa::GROUP, "medusaconfigurations"), gap(&evidence.configurations)),
        (("k8ssandracluster", k8ssandra::GROUP, "k8ssandraclusters"), gap(&evidence.k8ssandra_clusters)),
        (("schedule", fleet::GROUP, "fleetbackupschedules"), gap(&evidence.schedules)),
        (("job", fleet::GROUP, "fleetbackupjobs"), gap(&evidence.jobs)),
        (("task", fleet::GROUP, "fleettasks"), gap(&evidence.tasks)),
        (("restore", fleet::GROUP, "fleetrestorejobs"), gap(&evidence.restores)),
    ];
    let found = gaps.into_iter().flat_map(|(kind, gap)| {
        let (_, group, plural) = kind;
        match gap {
            Gap::Objects(malformed) => malformed.iter().map(|object| unreadable(kind, object)).collect(),
            Gap::Refused(why) => {
                let fix =
                    format!("ask for the permission to list {plural}; until then nothing is known of them");
                vec![unknown(plural, Reason::NotAuthorized.as_str(), why, fix)]
            }
            Gap::Failed(why) => {
                let fix =
                    format!("ask again; if it stays so, see to the API server, or to what serves {plural}");
                vec![unknown(plural, "NotAnswered", why, fix)]
            }
            Gap::Absent => absent(plural, group, evidence, defined).into_iter().collect(),
        }
    });
    found.collect()
}

/// Why nothing is known of a kind, or of some objects of it.
enum Gap<'a> {
    Objects(&'a [Malformed]),
    Absent,
    Refused(&'a str),
    Failed(&'a str),
}

fn gap<K>(read: &Read<K>) -> Gap<'_> {
    match read {
        Read::All(_) => Gap::Objects(&[]),
        Read::Part(_, malformed) => Gap::Objects(malformed),
        Read::NotInstalled => Gap::Absent,
        Read::Refused(why) => Gap::Refused(why),
        Read::Failed(why) => Gap::Failed(why),
    }
}

fn unknown(plural: &str, reason: &str, why: &str, fix: String) -> Finding {
    Finding::new(Severity::Unknown, plural.to_owned(), reason, format!("cannot be read: {why}"), fix)
}

/// A kind the API server does not know, unless its definition says why already.
fn absent(plural: &str, group: &str, evidence: &Evidence, defined: &[Finding]) -> Option<Finding> {
    let name = format!("{plural}.{group}");
    let is_spoilt =
        matches!(&evidence.definitions, Read::Part(_, malformed) if malformed.iter().any(|d| d.name == name));
    if is_spoilt || defined.iter().any(|finding| finding.object == home::definition(plural, group)) {
        return None;
    }
    let is_defined = evidence.definitions.objects().iter().any(|definition| definition.name_any() == name);
    let why = "the API server answers that there is no such kind";
    Some(if is_defined { home::unserved(plural, group, why) } else { home::missing(plural, group) })
}

/// An object that cannot be read. Only runs may be made anew: with the others would go what they stand for, of a
/// K8ssandraCluster the database.
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
    let reason = Reason::InvalidObject.as_str();
    let what = format!("cannot be read: {}", malformed.why);
    Finding::new(Severity::Error, format!("{word}/{place}"), reason, what, fix)
}
