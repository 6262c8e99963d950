//! What the kinds of runs have to say of themselves, so that everything around them is written once. Pure.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{
    Resource,
    core::{NamespaceResourceScope, object::HasStatus},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    child::Child,
    compact::{Detail, RESTORE_POINTS, shorten},
};
use crate::api::{
    fleet::{
        DatacenterCounts, DatacenterRun, FleetBackupJob, FleetBackupJobStatus, FleetRestoreJob,
        FleetRestoreJobStatus, FleetTask, FleetTaskStatus, Phase, Purged,
    },
    medusa::{MedusaBackupJob, MedusaTask},
    size,
};

/// A kind of object in the control plane's cluster that something is done for, once, and that then is over.
pub trait Run:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + HasStatus<Status: Clone + Default + PartialEq + Serialize + Send + Sync>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Its kind, in the log and in metrics.
    const KIND: &'static str;

    /// The verdict so far.
    fn phase(status: &Self::Status) -> Option<Phase>;

    /// Whether nothing more will happen.
    fn is_over(&self) -> bool {
        self.status().and_then(Self::phase).is_some_and(Phase::is_final)
    }
}

/// A run with one child in each datacenter.
pub trait Fanned: Run {
    /// What it makes there.
    type Child: Child;

    /// Whether only its plan is asked for.
    fn is_dry_run(&self) -> bool;

    /// Seconds after its end when it is to be deleted.
    fn ttl(&self) -> Option<i32>;

    /// When it ended.
    fn finish_time(status: &Self::Status) -> Option<&Time>;

    /// How far each datacenter is.
    fn entries(status: &Self::Status) -> Vec<&DatacenterRun>;

    /// Datacenters by state.
    fn counts(status: &Self::Status) -> DatacenterCounts;

    /// Its conditions.
    fn conditions(status: &Self::Status) -> &[Condition];

    /// Leaves out of a status what `detail` does not ask for.
    fn shorten(status: &mut Self::Status, detail: Detail);
}

/// A kind whose status holds its verdict as `phase`.
macro_rules! run {
    ($kind:ident, $status:ty) => {
        impl Run for $kind {
            const KIND: &'static str = stringify!($kind);

            fn phase(status: &$status) -> Option<Phase> {
                status.phase
            }
        }
    };
}

run!(FleetBackupJob, FleetBackupJobStatus);
run!(FleetTask, FleetTaskStatus);
run!(FleetRestoreJob, FleetRestoreJobStatus);

/// What the statuses of both fanned kinds hold under the same names.
macro_rules! fanned {
    ($status:ty) => {
        fn is_dry_run(&self) -> bool {
            self.spec.is_dry_run()
        }

        fn ttl(&self) -> Option<i32> {
            self.spec.ttl_seconds_after_finished
        }

        fn finish_time(status: &$status) -> Option<&Time> {
            status.finish_time.as_ref()
        }

        fn entries(status: &$status) -> Vec<&DatacenterRun> {
            status.datacenters.iter().map(AsRef::as_ref).collect()
        }

        fn counts(status: &$status) -> DatacenterCounts {
            status.counts.unwrap_or_default()
        }

        fn conditions(status: &$status) -> &[Condition] {
            &status.conditions
        }
    };
}

impl Fanned for FleetBackupJob {
    type Child = MedusaBackupJob;

    fanned!(FleetBackupJobStatus);

    fn shorten(status: &mut FleetBackupJobStatus, detail: Detail) {
        shorten(status.datacenters.iter_mut(), detail);
        if detail != Detail::Full {
            status.restore_points.truncate(RESTORE_POINTS);
        }
    }
}

impl Fanned for FleetTask {
    type Child = MedusaTask;

    fanned!(FleetTaskStatus);

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
