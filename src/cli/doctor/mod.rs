//! What is wrong with the fleet, with what, and what to do about it: a pure look at objects somebody has listed.
//!
//! Every file here checks some kinds. Nothing is judged twice: what the controllers say in conditions is passed on, and
//! only what no controller can say of itself (that it does not run, that its definitions are old) is decided here.

mod clusters;
mod home;
mod planes;
mod runs;
mod schedules;

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::Lease,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time},
};
use serde::Serialize;

use super::views::name;
use crate::api::{
    Reason,
    fleet::{self, DataPlane, FleetBackupJob, FleetBackupSchedule, FleetCluster, FleetRestoreJob, FleetTask},
    k8ssandra::{self, K8ssandraCluster},
    medusa::{self, MedusaConfiguration},
};

/// How long an object may be without a status: its controller is given time to look.
const UNSEEN_SECONDS: i64 = 120;

/// How bad a finding is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Severity {
    /// Something does not work.
    Error,
    /// Something soon will not work, or waits for somebody.
    Warning,
    /// It was not permitted to look.
    Unknown,
    /// Worth knowing, and as somebody wanted it.
    Notice,
}

impl Severity {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "Error",
            Self::Warning => "Warning",
            Self::Unknown => "Unknown",
            Self::Notice => "Notice",
        }
    }
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about, as `describe` takes it where it takes such: `cluster/shop`.
    pub object: String,
    /// Why, for machines.
    pub reason: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub fix: String,
    /// Since when, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

impl Finding {
    fn new(
        severity: Severity,
        object: String,
        reason: &str,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let (reason, what, fix) = (reason.to_owned(), what.into(), fix.into());
        Self { severity, object, reason, what, fix, since: None }
    }

    /// What a condition says.
    fn of(severity: Severity, object: String, condition: &Condition, fix: impl Into<String>) -> Self {
        let since = Some(condition.last_transition_time.clone());
        Self { since, ..Self::new(severity, object, &condition.reason, condition.message.clone(), fix) }
    }

    fn since(self, since: Option<Time>) -> Self {
        Self { since, ..self }
    }
}

/// What was read of one kind.
#[derive(Clone, Debug)]
pub enum Read<K> {
    /// Every object of it.
    All(Vec<K>),
    /// There is no such kind.
    NotInstalled,
    /// Why nobody knows.
    Refused(String),
}

impl<K> Default for Read<K> {
    fn default() -> Self {
        Self::All(Vec::new())
    }
}

impl<K> Read<K> {
    /// What was read of it, which may be nothing.
    fn objects(&self) -> &[K] {
        match self {
            Self::All(objects) => objects,
            Self::NotInstalled | Self::Refused(_) => &[],
        }
    }

    fn is_read(&self) -> bool {
        matches!(self, Self::All(_))
    }
}

/// Everything the control plane's cluster says.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Definitions of kinds.
    pub definitions: Read<CustomResourceDefinition>,
    /// Leases in the controller's namespace.
    pub leases: Read<Lease>,
    /// DataPlanes.
    pub data_planes: Read<DataPlane>,
    /// FleetClusters.
    pub clusters: Read<FleetCluster>,
    /// MedusaConfigurations of every namespace.
    pub configurations: Read<MedusaConfiguration>,
    /// K8ssandraClusters of every namespace.
    pub k8ssandra_clusters: Read<K8ssandraCluster>,
    /// FleetBackupSchedules.
    pub schedules: Read<FleetBackupSchedule>,
    /// FleetBackupJobs.
    pub jobs: Read<FleetBackupJob>,
    /// FleetTasks.
    pub tasks: Read<FleetTask>,
    /// FleetRestoreJobs.
    pub restores: Read<FleetRestoreJob>,
    /// Objects that have not the shape their kind asks for: what they are, and why.
    pub spoilt: Vec<(String, String)>,
}

/// All findings, the worst first.
#[must_use]
pub fn findings(evidence: &Evidence, now: Timestamp) -> Vec<Finding> {
    let mut found = unread(evidence);
    found.extend(evidence.spoilt.iter().map(|(object, why)| {
        let fix = "correct it, or delete it and make it anew: nothing works on it as it is";
        let reason = Reason::InvalidObject.as_str();
        Finding::new(Severity::Error, object.clone(), reason, format!("cannot be read: {why}"), fix)
    }));
    found.extend(home::definitions(&evidence.definitions));
    found.extend(home::leader(evidence.leases.objects(), now));
    found.extend(planes::data_planes(&evidence.data_planes, now));
    found.extend(clusters::clusters(evidence.clusters.objects(), now));
    found.extend(clusters::k8ssandra_clusters(evidence.k8ssandra_clusters.objects(), &evidence.clusters));
    found.extend(clusters::configurations(evidence.configurations.objects(), now));
    found.extend(schedules::schedules(evidence.schedules.objects(), now));
    found.extend(runs::jobs(evidence.jobs.objects(), now));
    found.extend(runs::tasks(evidence.tasks.objects(), now));
    found.extend(runs::restores(evidence.restores.objects(), now));
    found.sort_by(|a, b| (a.severity, &a.object, &a.reason).cmp(&(b.severity, &b.object, &b.reason)));
    found
}

/// Kinds that were not read.
fn unread(evidence: &Evidence) -> Vec<Finding> {
    let gaps = [
        ("", "customresourcedefinitions", gap(&evidence.definitions)),
        ("", "leases", gap(&evidence.leases)),
        (fleet::GROUP, "dataplanes", gap(&evidence.data_planes)),
        (fleet::GROUP, "fleetclusters", gap(&evidence.clusters)),
        (medusa::GROUP, "medusaconfigurations", gap(&evidence.configurations)),
        (k8ssandra::GROUP, "k8ssandraclusters", gap(&evidence.k8ssandra_clusters)),
        (fleet::GROUP, "fleetbackupschedules", gap(&evidence.schedules)),
        (fleet::GROUP, "fleetbackupjobs", gap(&evidence.jobs)),
        (fleet::GROUP, "fleettasks", gap(&evidence.tasks)),
        (fleet::GROUP, "fleetrestorejobs", gap(&evidence.restores)),
    ];
    let found = gaps.into_iter().filter_map(|(group, plural, gap)| match gap? {
        Gap::Refused(why) => {
            let fix = format!("ask for the permission to list {plural}; until then nothing is known of them");
            let what = format!("cannot be read: {why}");
            let reason = Reason::NotAuthorized.as_str();
            Some(Finding::new(Severity::Unknown, plural.to_owned(), reason, what, fix))
        }
        // Where definitions can be read, they say so themselves.
        Gap::Absent => (!evidence.definitions.is_read()).then(|| home::missing(plural, group)),
    });
    found.collect()
}

/// Why nothing is known of a kind.
enum Gap<'a> {
    Absent,
    Refused(&'a str),
}

fn gap<K>(read: &Read<K>) -> Option<Gap<'_>> {
    match read {
        Read::All(_) => None,
        Read::NotInstalled => Some(Gap::Absent),
        Read::Refused(why) => Some(Gap::Refused(why)),
    }
}

/// An object that no controller has looked at, if it had the time to.
fn unseen(metadata: &ObjectMeta, object: String, now: Timestamp) -> Option<Finding> {
    let created = metadata.creation_timestamp.clone()?;
    (seconds(&created, now) > UNSEEN_SECONDS).then(|| {
        let what = "no control plane has looked at it yet";
        Finding::new(Severity::Error, object, "Unseen", what, home::RUN_IT).since(Some(created))
    })
}

fn seconds(since: &Time, now: Timestamp) -> i64 {
    now.as_second().saturating_sub(since.0.as_second())
}

/// `kind/name`.
fn object(kind: &str, metadata: &ObjectMeta) -> String {
    format!("{kind}/{}", name(metadata))
}
