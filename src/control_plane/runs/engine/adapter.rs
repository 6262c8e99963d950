//! What a kind of run says to the engine. Pure: adapters decide, the engine reads and writes.
//!
//! A new kind of run with one child in each datacenter is one adapter ([`Adapter`]), and what has to be known before its
//! children are made ([`super::Engine::admit`]).

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    RunInputs, StatusOf,
    plan::Work,
    summarize::{Invalid, Summary},
};
use crate::{
    api::{
        Reason, Seen, Why,
        cassandra::CassandraDatacenter,
        fleet::{DatacenterRun, NodeCounts, Rollout, RunStatus},
    },
    control_plane::{
        data_planes::{fleet::Snapshot, view::ObjectKey},
        identity::Identity,
        runs::{Fanned, claims::Claim, in_flight::Outcomes, verdict::Verdict},
    },
};

/// What a kind of run decides for itself.
pub trait Adapter: Fanned {
    /// Whether a datacenter counts as at work until it is judged, and no longer: what comes after its child belongs to
    /// the same work. Otherwise it counts as long as its child has no end, and no longer.
    const COUNTS_UNTIL_JUDGED: bool = false;

    /// Whether a child is made only where the published status names the datacenter: others go by that.
    const NAMED_FIRST: bool = false;

    /// The entry of a datacenter that was chosen; `known` is the one there was before.
    fn entry(run: DatacenterRun, known: Option<&Self::Entry>) -> Self::Entry;

    /// The status of a run whose part that all kinds share is `run`. `old` is the status before.
    fn sum_up(&self, old: &StatusOf<Self>, run: RunStatus, entries: Vec<Self::Entry>) -> StatusOf<Self>;

    /// The status that sums the entries up. `old` is the status before, `invalid` why the run cannot be done at all,
    /// `progress` when something last went on.
    fn summarize(
        inputs: &RunInputs<'_, Self>,
        old: &StatusOf<Self>,
        entries: Vec<Self::Entry>,
        invalid: Option<&Invalid>,
        progress: Timestamp,
    ) -> StatusOf<Self> {
        let (run, now) = (inputs.run, inputs.now());
        let (before, all) = (Self::progress(old), entries.iter().map(AsRef::as_ref).collect());
        let summary = Summary { run, old: before, entries: all, invalid, progress, now };
        run.sum_up(old, summary.status(), entries)
    }

    /// Whether something went on between two looks at a datacenter that only this kind knows of.
    fn went_on(_before: &Self::Entry, _after: &Self::Entry) -> bool {
        false
    }

    /// What a data plane does not serve or permit of what this kind needs.
    fn lacks(_plane: &Snapshot) -> Option<Why> {
        None
    }

    /// How the run goes over its datacenters.
    fn rollout(&self) -> Rollout {
        self.run().rollout()
    }

    /// How many children of this kind a data plane allows at a time, where it says so.
    fn own_limit(_plane: &Snapshot) -> Option<usize> {
        None
    }

    /// Whether an attempt that failed for this reason may go better the next time.
    fn may_go_better(reason: Reason) -> bool;

    /// The object that is made for an entry.
    fn child(
        &self,
        key: ObjectKey,
        work: &Work,
        datacenter: &CassandraDatacenter,
        admitted: &Admitted,
        control_plane: &Identity,
    ) -> Self::Child;

    /// What a child that is there has come to. The kind notes in the entry what only it knows of.
    fn judge(
        inputs: &RunInputs<'_, Self>,
        entry: &mut Self::Entry,
        found: &ObservedChild<'_, Self::Child>,
    ) -> Judged;

    /// Whether the work of a child that is gone is known to be done; the entry then says what it came to.
    fn is_done_without(_entry: &mut Self::Entry, _plane: &Snapshot, _key: &ObjectKey) -> Seen<()> {
        Seen::Absent
    }

    /// Whether what a finished child is judged by cannot be seen for now, so that waiting for it does not count yet.
    fn is_blind(_plane: &Snapshot, _key: &ObjectKey) -> bool {
        false
    }

    /// Notes in an entry what the children of all its attempts say together, such as what was purged.
    fn add_up(_inputs: &RunInputs<'_, Self>, _entry: &mut Self::Entry, _plane: &Snapshot) {}

    /// Writes what a dry run would do into entries that say nothing else, for a kind that need not ask a data plane for it.
    /// The other kinds plan their children, and ask when these are admitted.
    fn say_plan(_inputs: &RunInputs<'_, Self>, _entries: &mut [Self::Entry]) {}

    /// Notes the restore point that a purge leaves.
    fn keeps(_entry: &mut Self::Entry, _point: &str) {}

    /// What has to be written because of a child that is there: a further object, or the child's withdrawal. What a
    /// cancelled run withdraws is not among it.
    fn repair(
        _inputs: &RunInputs<'_, Self>,
        _entry: &DatacenterRun,
        _found: &ObservedChild<'_, Self::Child>,
    ) -> Option<(ObjectKey, Work)> {
        None
    }

    /// When time alone changes something about an entry, besides the run's own deadlines.
    fn due_at(_inputs: &RunInputs<'_, Self>, _entry: &DatacenterRun) -> Option<Timestamp> {
        None
    }

    /// Why a child was withdrawn although the run was not cancelled, for people.
    fn why_withdrawn() -> String {
        "it was taken back before its data plane had begun with it".to_owned()
    }
}

/// A child that is there.
pub struct ObservedChild<'a, C> {
    pub plane: &'a Snapshot,
    pub key: &'a ObjectKey,
    pub child: &'a C,
    /// Since when it has been seen finished.
    pub finished_since: Option<Timestamp>,
    /// What became of the run's writes.
    pub outcomes: &'a Outcomes,
}

/// What a child has come to.
pub struct Judged {
    pub verdict: Verdict,
    /// Its nodes by state.
    pub nodes: NodeCounts,
    /// When it ended, should it have succeeded.
    pub ended: Option<Time>,
    /// The object that is at work, if one is, for people.
    pub at_work: Option<String>,
}

/// What was found out when a child was admitted.
#[derive(Default)]
pub struct Admitted {
    /// The restore point that a purge leaves.
    pub keeps: Option<String>,
    /// Its MedusaBackup in the datacenter.
    pub medusa_backup: Option<String>,
    /// The claim on the cluster, held until the child shows.
    pub claim: Option<Claim>,
}
