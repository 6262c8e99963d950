//! FleetTasks for the engine of all runs: what their children are, what these come to, and the sync after a purge. Pure.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use super::{
    judge::{self, Evidence, judge, lacks_sync, purged},
    summarize::sum_up,
};
use crate::{
    api::{
        Reason, Seen, Why,
        cassandra::CassandraDatacenter,
        fleet::{
            DatacenterRun, DatacenterTask, FleetOperation, FleetTask, FleetTaskStatus, Phase, Purged,
            Rollout, RunStatus,
        },
        labels,
        medusa::MedusaTask,
        names,
    },
    control_plane::{
        data_planes::{capabilities::Feature, fleet::Snapshot, view::ObjectKey},
        identity::Identity,
        runs::{
            child::{Child as _, ExactObject, child_key, is_of, place, task},
            engine::{
                RunInputs,
                adapter::{Adapter, Admitted, Judged, ObservedChild},
                plan::Work,
            },
            imports::Wordless,
            outcome::Outcome,
            verdict::Verdict,
        },
    },
};

/// How long a purge's child may wait for its data plane to begin: what was known of restore points when it was made
/// must still hold.
pub(super) const START_WITHIN: SignedDuration = SignedDuration::from_hours(1);

impl Adapter for FleetTask {
    // The sync after a purge, and whether the purge counts as failed, come after the child.
    const COUNTS_UNTIL_JUDGED: bool = true;

    // A purge holds up the backups of other data planes where its FleetTask says so itself: what a data plane shows of it is
    // that one's word. Between the child and the status a backup would begin beside it.
    const NAMED_FIRST: bool = true;

    fn entry(run: DatacenterRun, known: Option<&DatacenterTask>) -> DatacenterTask {
        DatacenterTask { run, ..known.cloned().unwrap_or_default() }
    }

    fn sum_up(&self, old: &FleetTaskStatus, run: RunStatus, entries: Vec<DatacenterTask>) -> FleetTaskStatus {
        sum_up(old, run, entries)
    }

    /// The sync after a purge was made.
    fn went_on(before: &DatacenterTask, after: &DatacenterTask) -> bool {
        before.sync.is_none() && after.sync.is_some()
    }

    fn lacks(plane: &Snapshot) -> Option<Why> {
        plane.view.capabilities.allow(Feature::Tasks).err()
    }

    /// A dry run looks at all datacenters at once.
    fn rollout(&self) -> Rollout {
        if self.spec.run.is_dry_run() { Rollout::default() } else { self.spec.run.rollout() }
    }

    /// A task asks for the state that it leaves, and may be repeated whatever kept it from that.
    fn may_go_better(_: Reason) -> bool {
        true
    }

    fn child(
        &self,
        key: ObjectKey,
        work: &Work,
        datacenter: &CassandraDatacenter,
        admitted: &Admitted,
        control_plane: &Identity,
    ) -> MedusaTask {
        let operation = if *work == Work::FollowUp { FleetOperation::Sync } else { self.spec.operation };
        let mut child = task(self, key, operation.into(), datacenter, control_plane);
        if let Some(backup) = &admitted.medusa_backup {
            // It must be there when the task has purged. The data plane's controller looks at what the storage holds before
            // it begins; k8ssandra-operator does not know the word.
            child.annotations_mut().insert(labels::KEEP.to_owned(), backup.clone());
        }
        child
    }

    fn judge(
        inputs: &RunInputs<'_, Self>,
        entry: &mut DatacenterTask,
        found: &ObservedChild<'_, MedusaTask>,
    ) -> Judged {
        let ObservedChild { child, key, outcomes, plane, .. } = *found;
        let evidence = evidence(inputs, &entry.run, found);
        let follow_up = sync_key(key);
        entry.sync = evidence.sync.map(|_| follow_up.name.clone()).or(entry.sync.take());
        let mut verdict = judge(&evidence, inputs.now());
        if evidence.sync.is_none() && matches!(verdict, Verdict::Running { reason: Reason::AwaitingSync, .. })
        {
            match outcomes.get(&(plane.name.clone(), follow_up.clone())) {
                Some(Outcome::Conflict) => {
                    let message = format!(
                        "the purge is done, but MedusaTask {follow_up} exists and was not made by this task; make a sync \
                         with another name, so that purged MedusaBackups go"
                    );
                    verdict = Verdict::Failed { reason: Reason::NameConflict, message };
                }
                Some(Outcome::NotNow(reason, message)) => {
                    verdict = Verdict::Running { reason: *reason, message: Some(message.clone()) };
                }
                _ => {}
            }
        }
        let at_work = match evidence.sync {
            _ if !child.is_finished() => Some(key),
            Some(sync) if !sync.is_finished() => Some(&follow_up),
            Some(_) | None => None,
        };
        let last = evidence.sync.unwrap_or(child);
        Judged {
            nodes: judge::nodes(child, evidence.datacenter),
            ended: last.status.as_ref().and_then(|status| status.finish_time.clone()),
            at_work: at_work.map(|key| format!("MedusaTask {key}")),
            verdict,
        }
    }

    /// The figures of all attempts whose MedusaTasks are there: a purge that failed has removed something all the same.
    /// A status that was shortened lacks those of entries that are not decided.
    fn add_up(inputs: &RunInputs<'_, Self>, entry: &mut DatacenterTask, plane: &Snapshot) {
        let run = &entry.run;
        let children = run.latest_attempts().filter_map(|attempt| {
            let child: &MedusaTask = plane.view.tasks.last(&child_key(inputs.run, run, attempt))?;
            purged(child)
        });
        entry.purged = children.reduce(Purged::plus).or(entry.purged);
    }

    fn keeps(entry: &mut DatacenterTask, point: &str) {
        entry.keeps = Some(point.to_owned());
    }

    /// Syncs nobody else makes, syncs that were not whole and are missed once they are gone, and purges that nobody
    /// began with in time.
    fn repair(
        inputs: &RunInputs<'_, Self>,
        entry: &DatacenterRun,
        found: &ObservedChild<'_, MedusaTask>,
    ) -> Option<(ObjectKey, Work)> {
        let evidence = evidence(inputs, entry, found);
        let follow_up = sync_key(found.key);
        if lacks_sync(&evidence, inputs.now()) {
            return Some((follow_up, Work::FollowUp));
        }
        let is_unwhole = evidence.wordless.as_ref().is_some_and(Wordless::is_unwhole);
        if let Some(sync) = evidence.sync.filter(|_| is_unwhole) {
            return Some((follow_up, Work::Withdraw(ExactObject::of(found.plane, sync)?)));
        }
        let is_late = Self::due_at(inputs, entry).is_some_and(|at| inputs.now() >= at);
        let is_ours = is_untouched(found.child) && is_of(found.child, inputs.run);
        let late = ExactObject::of(found.plane, found.child).filter(|_| is_late && is_ours)?;
        Some((found.key.clone(), Work::Withdraw(late)))
    }

    /// When a purge that nobody has begun with is taken back.
    fn due_at(inputs: &RunInputs<'_, Self>, entry: &DatacenterRun) -> Option<Timestamp> {
        let is_purge = inputs.run.spec.operation == FleetOperation::Purge;
        let waits = entry.phase == Phase::Running && entry.start_time.is_none() && is_purge;
        entry.created_time.as_ref().filter(|_| waits)?.0.checked_add(START_WITHIN).ok()
    }

    fn why_withdrawn() -> String {
        format!(
            "its data plane did not begin within {} min; the check that a restore point stays would not hold any longer",
            START_WITHIN.as_mins()
        )
    }
}

/// Name of the sync that follows the purge `child`.
#[must_use]
pub(super) fn sync_key(child: &ObjectKey) -> ObjectKey {
    ObjectKey::new(&child.namespace, names::sync_after(&child.name))
}

/// What the child of an entry is judged by.
fn evidence<'a>(
    inputs: &RunInputs<'_, FleetTask>,
    entry: &DatacenterRun,
    found: &ObservedChild<'a, MedusaTask>,
) -> Evidence<'a> {
    let (plane, child) = (found.plane, found.child);
    let sync = match plane.view.seen(&plane.view.tasks, &sync_key(found.key)) {
        Seen::Known(sync) => Some(sync.as_ref()).filter(|sync| is_of(*sync, inputs.run)),
        Seen::Absent | Seen::Unknown { .. } => None,
    };
    Evidence {
        child,
        sync,
        wordless: Wordless::of(sync.unwrap_or(child), &plane.view, inputs.now()),
        datacenter: plane.view.datacenters.last(&place(entry)).map(AsRef::as_ref),
        finished_since: found.finished_since,
    }
}

/// Whether no data plane has begun with a child.
#[must_use]
pub(super) fn is_untouched(child: &MedusaTask) -> bool {
    !child.is_started() && !child.is_finished()
}
