//! What a soak has seen of a fleet, as plain data: what the oracle judges. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

/// Everything that is judged.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Runs that were there at any time, as they were last.
    pub runs: Vec<Run>,
    /// What was made in the data planes at any time, as the simulator has it.
    pub made: Vec<Made>,
    /// The data planes as they are.
    pub planes: BTreeMap<String, PlaneNow>,
    /// The control plane's own cluster as it is.
    pub home: HomeNow,
    /// What was done to data planes.
    pub disturbances: Vec<Disturbance>,
    /// Watches and connections of a data plane to which nothing was done yet.
    pub idle: Open,
    /// How often the control plane was started.
    pub starts: usize,
    /// How often something was done to an object, by its name.
    pub done: BTreeMap<String, usize>,
}

/// A FleetBackupJob, FleetTask or FleetRestoreJob.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it is gone.
    pub is_gone: bool,
    /// Data planes that it names; none is all of them.
    pub named: Vec<String>,
    /// What is to be done about those that do not answer.
    pub policy: String,
    /// Whether it was called off.
    pub is_cancelled: bool,
    /// Its phase.
    pub phase: String,
    /// What it says of its end.
    pub message: String,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// Its datacenters.
    pub entries: Vec<RunPart>,
}

/// One datacenter of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunPart {
    /// Its data plane.
    pub plane: String,
    /// Name of the CassandraDatacenter.
    pub datacenter: String,
    /// What was made for it last.
    pub job: String,
    /// How often something was made for it.
    pub attempts: usize,
    /// How it stands.
    pub phase: String,
    /// Why.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// When it was decided.
    pub finished: Option<Timestamp>,
}

/// An object of Medusa's kinds in a data plane, MedusaBackups excepted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Made {
    /// The data plane.
    pub plane: String,
    /// Plural of its kind.
    pub resource: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Uid of the run, or of the schedule, it was made for.
    pub owner: String,
    /// The datacenter it is about.
    pub datacenter: String,
    /// When it was made.
    pub at: Timestamp,
    /// When it was deleted.
    pub deleted: Option<Timestamp>,
    /// How it ended, or was when it was deleted.
    pub end: End,
}

/// What an object in a data plane has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// Nobody has begun with it.
    #[default]
    Untouched,
    /// It goes on.
    Going,
    /// All nodes did what was asked.
    Good,
    /// It ended otherwise.
    Bad,
}

/// A data plane.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlaneNow {
    /// Names and contents of its Secrets beside the datacenters.
    pub secrets: BTreeMap<String, String>,
    /// Names and contents of the MedusaConfigurations there.
    pub configurations: BTreeMap<String, String>,
    /// Names of its MedusaBackups.
    pub backups: BTreeSet<String>,
    /// Watches and connections.
    pub open: Open,
    /// Connections that the control plane's process says it has there.
    pub held: i64,
}

/// What is open at an API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Watches.
    pub watches: i64,
    /// Connections.
    pub connections: i64,
}

/// The control plane's own cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HomeNow {
    /// Data planes whose registration Secret is there.
    pub registered: BTreeSet<String>,
    /// DataPlanes and why they are not ready; ready ones have no words.
    pub data_planes: BTreeMap<String, String>,
    /// Secrets that are to be copied, and their contents.
    pub secrets: BTreeMap<String, String>,
    /// MedusaConfigurations that are to be copied, and their contents.
    pub configurations: BTreeMap<String, String>,
    /// MedusaBackups that FleetBackups tell of, by data plane.
    pub backups: BTreeSet<(String, String)>,
    /// FleetBackupSchedules that are there.
    pub schedules: BTreeSet<String>,
    /// How many Events there are, by kind and name of what they are about and their reason.
    pub events: BTreeMap<(String, String, String), usize>,
}

/// Something that was done to a data plane.
#[derive(Clone, Debug, PartialEq)]
pub struct Disturbance {
    /// The data plane.
    pub plane: String,
    /// What.
    pub what: What,
    /// Since when.
    pub from: Timestamp,
    /// Until when; absent while it lasts.
    pub until: Option<Timestamp>,
}

/// Kinds of disturbances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A fault of the simulator, or a token that nobody knows.
    Fault,
    /// It was not registered.
    Unregistered,
}

/// How long after a disturbance a data plane may still be taken for what it was in it: questions that are under way have
/// ten seconds, and who did not answer is asked again after some more.
pub const AFTERWARDS: SignedDuration = SignedDuration::from_secs(30);

impl Observed {
    /// Whether this was done to a data plane between two moments, or shortly before.
    pub fn was(&self, what: What, plane: &str, from: Timestamp, to: Option<Timestamp>) -> bool {
        self.disturbances.iter().any(|one| {
            let lasts = one.until.is_none_or(|until| until + AFTERWARDS >= from);
            // Statuses say whole seconds.
            let had_begun = to.is_none_or(|to| one.from <= to + SignedDuration::from_secs(1));
            one.plane == plane && one.what == what && lasts && had_begun
        })
    }

    /// The run of this uid.
    pub fn run(&self, uid: &str) -> Option<&Run> {
        self.runs.iter().find(|run| run.uid == uid)
    }
}

impl Run {
    /// Whether nothing more will happen.
    pub fn is_over(&self) -> bool {
        ["Succeeded", "PartiallyFailed", "Failed", "Cancelled"].contains(&self.phase.as_str())
    }
}
