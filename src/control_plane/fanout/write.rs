//! What is written into a data plane for a run, and what became of it. Pure.

use std::time::Duration;

use crate::{
    api::{Reason, fleet::DatacenterRun, medusa::MedusaBackupJob},
    control_plane::{
        data_planes::{fleet::Snapshot, view::ObjectKey},
        runs::{child::place, desk},
    },
};

/// First and longest pause before a write that was refused is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// The data plane.
    pub data_plane: String,
    /// The datacenter there.
    pub place: ObjectKey,
    /// The FleetCluster it belongs to.
    pub cluster: String,
    /// The child.
    pub key: ObjectKey,
    /// What to do about it.
    pub work: Work,
}

impl Action {
    /// `work` on the child `key` of the datacenter of an entry.
    #[must_use]
    pub fn new(plane: &Snapshot, entry: &DatacenterRun, key: &ObjectKey, work: Work) -> Self {
        let cluster = entry.cluster.clone();
        Self { data_plane: plane.name.clone(), place: place(entry), cluster, key: key.clone(), work }
    }
}

/// What to do about a child.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Make it.
    Make(Box<MedusaBackupJob>),
    /// Delete exactly this version of it.
    Withdraw {
        /// Its uid.
        uid: String,
        /// Its resourceVersion.
        resource_version: String,
    },
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The child is there, and ours.
    There,
    /// An object of that name is there and is not ours.
    Conflict,
    /// The child is gone.
    Withdrawn,
    /// It could not be done for now.
    NotNow(Reason, String),
}

impl desk::Outcome for Outcome {
    fn retry(&self) -> Option<(Duration, Duration)> {
        matches!(self, Self::NotNow(..)).then_some(RETRY)
    }

    fn not_now(reason: Reason, message: String) -> Self {
        Self::NotNow(reason, message)
    }
}
