//! What the kinds of runs have to say of themselves, so that everything around them is written once. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::object::HasStatus;
use serde::Serialize;

use super::{
    child::Child,
    compact::{Detail, RESTORE_POINTS, shorten},
};
use crate::{
    api::{
        fleet::{
            DatacenterRun, DatacenterTask, FleetBackupJob, FleetBackupJobStatus, FleetOperation,
            FleetRestoreJob, FleetRestoreJobStatus, FleetTask, FleetTaskStatus, Phase, Purged, RunSpec,
            RunStatus,
        },
        medusa::{MedusaBackupJob, MedusaTask},
        size,
    },
    runtime::follow::Followed,
};

/// A kind of object in the control plane's cluster that something is done for, once, and that then is over.
pub trait Run: Followed + HasStatus<Status: Clone + Default + PartialEq + Serialize + Send + Sync> {
    /// Its kind, in the log and in metrics.
    const KIND: &'static str;

    /// The verdict so far.
    fn phase(status: &Self::Status) -> Option<Phase>;

    /// The conditions of a status.
    fn conditions(status: &mut Self::Status) -> &mut Vec<Condition>;

    /// Whether nothing more will happen.
    fn is_over(&self) -> bool {
        self.status().and_then(Self::phase).is_some_and(Phase::is_final)
    }
}

/// The words in which a run is spoken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventText {
    /// What it does, as the action of its Events.
    pub action: &'static str,
    /// The words before the number of datacenters in the Event about its beginning; without them there is no such Event.
    pub begun: Option<&'static str>,
    /// The participle for a datacenter that it is done with, such as "backed up".
    pub done: &'static str,
}

/// A run with one child in each datacenter.
pub trait Fanned: Run {
    /// What it makes there.
    type Child: Child;

    /// A datacenter's part in the status.
    type Entry: AsRef<DatacenterRun> + AsMut<DatacenterRun> + Clone + Send + Sync;

    /// How it is spoken of.
    fn event_text(&self) -> EventText;

    /// Which datacenters it is about, and how it goes over them.
    fn run(&self) -> &RunSpec;

    /// How far it is.
    fn progress(status: &Self::Status) -> &RunStatus;

    /// The datacenters of a status.
    fn datacenters(status: &Self::Status) -> &[Self::Entry];

    /// How far each datacenter is.
    fn entries(status: &Self::Status) -> Vec<&DatacenterRun> {
        Self::datacenters(status).iter().map(AsRef::as_ref).collect()
    }

    /// Leaves out of a status what `detail` does not ask for.
    fn shorten(status: &mut Self::Status, detail: Detail);
}

impl Run for FleetBackupJob {
    const KIND: &'static str = "FleetBackupJob";

    fn phase(status: &FleetBackupJobStatus) -> Option<Phase> {
        status.run.phase
    }

    fn conditions(status: &mut FleetBackupJobStatus) -> &mut Vec<Condition> {
        &mut status.run.conditions
    }
}

impl Run for FleetTask {
    const KIND: &'static str = "FleetTask";

    fn phase(status: &FleetTaskStatus) -> Option<Phase> {
        status.run.phase
    }

    fn conditions(status: &mut FleetTaskStatus) -> &mut Vec<Condition> {
        &mut status.run.conditions
    }
}

impl Run for FleetRestoreJob {
    const KIND: &'static str = "FleetRestoreJob";

    fn phase(status: &FleetRestoreJobStatus) -> Option<Phase> {
        status.phase
    }

    fn conditions(status: &mut FleetRestoreJobStatus) -> &mut Vec<Condition> {
        &mut status.conditions
    }
}

impl Fanned for FleetBackupJob {
    type Child = MedusaBackupJob;
    type Entry = DatacenterRun;

    fn event_text(&self) -> EventText {
        let (action, begun) =
            if self.spec.run.is_dry_run() { ("Plan", None) } else { ("Backup", Some("backing up")) };
        EventText { action, begun, done: "backed up" }
    }

    fn run(&self) -> &RunSpec {
        &self.spec.run
    }

    fn progress(status: &FleetBackupJobStatus) -> &RunStatus {
        &status.run
    }

    fn datacenters(status: &FleetBackupJobStatus) -> &[DatacenterRun] {
        &status.datacenters
    }

    fn shorten(status: &mut FleetBackupJobStatus, detail: Detail) {
        shorten(status.datacenters.iter_mut(), detail);
        if detail != Detail::Full {
            status.restore_points.truncate(RESTORE_POINTS);
        }
    }
}

impl Fanned for FleetTask {
    type Child = MedusaTask;
    type Entry = DatacenterTask;

    fn event_text(&self) -> EventText {
        let (action, begun, done) = match self.spec.operation {
            FleetOperation::Sync => ("Sync", "sync of", "synced"),
            FleetOperation::Purge => ("Purge", "purge of", "purged"),
        };
        EventText { action, begun: Some(begun), done }
    }

    fn run(&self) -> &RunSpec {
        &self.spec.run
    }

    fn progress(status: &FleetTaskStatus) -> &RunStatus {
        &status.run
    }

    fn datacenters(status: &FleetTaskStatus) -> &[DatacenterTask] {
        &status.datacenters
    }

    /// The sum keeps what the figures of decided datacenters came to. Those of the others are read again from their
    /// MedusaTasks before they are decided, so where they are left out, the sum goes without them until then; for good,
    /// when the data plane has not answered a new leader by then.
    fn shorten(status: &mut FleetTaskStatus, detail: Detail) {
        shorten(status.datacenters.iter_mut().map(AsMut::as_mut), detail);
        if detail == Detail::Full {
            return;
        }
        let mut left_out = Purged::default();
        for entry in &mut status.datacenters {
            entry.sync = None;
            if detail == Detail::Brief && entry.run.phase != Phase::Succeeded {
                continue;
            }
            entry.keeps = None;
            if detail == Detail::Least {
                let purged = entry.purged.take().filter(|_| !entry.run.phase.is_final());
                left_out = left_out.plus(purged.unwrap_or_default());
            }
        }
        if let Some(purged) = &mut status.purged {
            *purged = purged.minus(left_out);
            status.freed = Some(size::humanize(purged.bytes));
        }
    }
}
