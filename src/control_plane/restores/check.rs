//! One pre-check's result, and what many of them come to. Pure.

use crate::api::{
    Reason,
    fleet::{CheckState, RestoreCheck},
};

/// What is checked; the word stands in the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// The FleetBackup is there and whole, or a part is meant on purpose.
    RestorePoint,
    /// The cluster and the datacenters that are named exist.
    Cluster,
    /// No other FleetRestoreJob is at work on the cluster.
    Alone,
    /// The data plane answers.
    DataPlane,
    /// It serves and permits restores.
    Capability,
    /// The datacenter is there and nobody restores it.
    Datacenter,
    /// Medusa is deployed in it.
    Medusa,
    /// The MedusaBackup is there, whole, and of this datacenter.
    Backup,
    /// Size and racks are the backup's.
    Topology,
    /// No backup, purge or restore runs there.
    Idle,
}

impl Topic {
    fn word(self) -> String {
        format!("{self:?}")
    }

    /// It holds.
    #[must_use]
    pub fn passed(self) -> RestoreCheck {
        RestoreCheck { name: self.word(), state: CheckState::Passed, reason: None, message: None }
    }

    /// It does not hold yet, or is not known.
    #[must_use]
    pub fn waiting(self, reason: Reason, message: impl Into<String>) -> RestoreCheck {
        self.open(CheckState::Waiting, reason, message.into())
    }

    /// It does not hold.
    #[must_use]
    pub fn failed(self, reason: Reason, message: impl Into<String>) -> RestoreCheck {
        self.open(CheckState::Failed, reason, message.into())
    }

    fn open(self, state: CheckState, reason: Reason, message: String) -> RestoreCheck {
        let reason = Some(reason.as_str().to_owned());
        RestoreCheck { name: self.word(), state, reason, message: Some(message) }
    }
}

/// Whether the check waits for this reason.
#[must_use]
pub fn waits_for(check: &RestoreCheck, reason: Reason) -> bool {
    check.state == CheckState::Waiting && check.reason.as_deref() == Some(reason.as_str())
}
