//! What is wrong with the fleet, with what, and what to do about it: a look at objects somebody has listed. Pure.
//!
//! Every file here checks some kinds. Nothing is judged twice: what the controllers say in conditions is passed on, and
//! only what no controller can say of itself (that it does not run, that its definitions or its version are old) is decided
//! here.

mod clusters;
mod home;
mod planes;
mod release;
mod runs;
mod schedules;
mod skew;
mod unread;

#[cfg(test)]
mod runs_tests;
#[cfg(test)]
mod tests;

pub use home::version as leading;
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
    fleet::{DataPlane, FleetBackupJob, FleetBackupSchedule, FleetCluster, FleetRestoreJob, FleetTask},
    k8ssandra::K8ssandraCluster,
    medusa::MedusaConfiguration,
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
    /// It was not permitted, or not possible, to look.
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
        reason: Reason,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let (reason, what, fix) = (reason.as_str().to_owned(), what.into(), fix.into());
        Self { severity, object, reason, what, fix, since: None }
    }

    /// What a condition says.
    fn of(severity: Severity, object: String, condition: &Condition, fix: impl Into<String>) -> Self {
        let (reason, what, fix) = (condition.reason.clone(), condition.message.clone(), fix.into());
        Self { severity, object, reason, what, fix, since: Some(condition.last_transition_time.clone()) }
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
    /// The objects of it that can be read, and those that cannot.
    Part(Vec<K>, Vec<Malformed>),
    /// There is no such kind.
    NotInstalled,
    /// Why it may not be read.
    Refused(String),
    /// Why it was not read this time.
    Failed(String),
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
            Self::All(objects) | Self::Part(objects, _) => objects,
            Self::NotInstalled | Self::Refused(_) | Self::Failed(_) => &[],
        }
    }

    /// Whether an object that is not among them does not exist.
    fn is_whole(&self) -> bool {
        matches!(self, Self::All(_))
    }
}

/// An object that has not the shape its kind asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Its namespace, if its kind has such.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

/// Everything the control plane's cluster says, and who asks.
#[derive(Clone, Debug, Default)]
pub struct DoctorInput {
    /// Version of this program.
    pub program: String,
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
}

/// All findings, the worst first.
#[must_use]
pub fn findings(evidence: &DoctorInput, now: Timestamp) -> Vec<Finding> {
    let mut found = home::definitions(&evidence.definitions);
    found.extend(unread::unread(evidence, &found));
    let skewed = skew::versions(evidence, &mut found, now);
    found.extend(skewed);
    found.extend(home::leader(evidence.leases.objects(), now));
    found.extend(planes::data_planes(&evidence.data_planes, now));
    found.extend(clusters::clusters(evidence.clusters.objects(), evidence.tasks.objects(), now));
    found.extend(clusters::k8ssandra_clusters(evidence.k8ssandra_clusters.objects(), &evidence.clusters));
    found.extend(clusters::configurations(evidence.configurations.objects(), now));
    found.extend(schedules::schedules(evidence.schedules.objects(), now));
    let not_ready = runs::not_ready(evidence.data_planes.objects());
    found.extend(runs::jobs(evidence.jobs.objects(), &not_ready, now));
    found.extend(runs::tasks(evidence.tasks.objects(), &not_ready, now));
    found.extend(runs::restores(evidence.restores.objects(), &not_ready, now));
    found.sort_by(|a, b| (a.severity, &a.object, &a.reason).cmp(&(b.severity, &b.object, &b.reason)));
    found
}

/// An object that no controller has looked at, if it had the time to.
fn unseen(metadata: &ObjectMeta, object: String, now: Timestamp) -> Option<Finding> {
    let created = metadata.creation_timestamp.clone()?;
    (seconds(&created, now) > UNSEEN_SECONDS).then(|| {
        let what = "no control plane has looked at it yet";
        Finding::new(Severity::Error, object, Reason::Unseen, what, home::RUN_IT).since(Some(created))
    })
}

fn seconds(since: &Time, now: Timestamp) -> i64 {
    now.as_second().saturating_sub(since.0.as_second())
}

/// `kind/name`.
fn object(kind: &str, metadata: &ObjectMeta) -> String {
    format!("{kind}/{}", name(metadata))
}
