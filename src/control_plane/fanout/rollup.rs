//! From what the data planes show to the run's status. Pure: the order in which news arrive does not
//! matter.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource as _, ResourceExt as _};

use super::{
    apply::{Outcome, Outcomes},
    judge::{self, Evidence, Verdict, judge},
    plan::child_key,
    select::is_placeholder,
};
use crate::{
    api::{
        Reason,
        condition::set_condition,
        fleet::{
            DatacenterCounts, DatacenterRun, FleetBackupJob, FleetBackupJobStatus, Phase, UnreachablePolicy,
        },
        labels, names, size,
    },
    control_plane::{
        fleet::{Snapshot, Usable},
        view::ObjectKey,
    },
};

/// Advances every entry. `finished_since` says since when a child has been seen finished.
pub(super) fn entries(
    job: &FleetBackupJob,
    entries: &[DatacenterRun],
    planes: &[Snapshot],
    outcomes: &Outcomes,
    finished_since: impl Fn(&str, &ObjectKey) -> Option<Timestamp>,
    now: Timestamp,
) -> Vec<DatacenterRun> {
    entries
        .iter()
        .map(|entry| {
            let mut entry = entry.clone();
            if !entry.phase.is_final() {
                advance(job, &mut entry, planes, outcomes, &finished_since, now);
                if entry.phase.is_final() {
                    entry.finish_time.get_or_insert(Time(now));
                }
            }
            entry
        })
        .collect()
}

pub(crate) fn set(entry: &mut DatacenterRun, phase: Phase, reason: Reason, message: Option<String>) {
    entry.phase = phase;
    entry.reason = Some(reason.as_str().to_owned());
    entry.message = message;
}

fn advance(
    job: &FleetBackupJob,
    entry: &mut DatacenterRun,
    planes: &[Snapshot],
    outcomes: &Outcomes,
    finished_since: &impl Fn(&str, &ObjectKey) -> Option<Timestamp>,
    now: Timestamp,
) {
    let Some(plane) = planes.iter().find(|p| p.name == entry.data_plane) else {
        let message = "its data plane was unregistered during the run".to_owned();
        set(entry, Phase::Failed, Reason::UnknownDataPlane, Some(message));
        return;
    };
    match &plane.usable {
        Usable::Ready => {}
        Usable::Connecting => return,
        Usable::Unreachable { since, why } => {
            let since = since.map(|s| format!(" since {s:.0}")).unwrap_or_default();
            let message = format!("data plane `{}` does not answer{since}: {why}", plane.name);
            wait(job, entry, Reason::DataPlaneUnreachable, message);
            return;
        }
        Usable::NotReady { reason, why } => {
            let message = format!("data plane `{}` is not ready ({reason}): {why}", plane.name);
            wait(job, entry, Reason::DataPlaneNotReady, message);
            return;
        }
    }
    if is_placeholder(entry) {
        set(entry, Phase::Pending, Reason::Pending, None);
        return;
    }
    let key = child_key(job, entry);
    let place = ObjectKey::new(&entry.namespace, &entry.datacenter);
    let datacenter = plane.view.datacenters.items.get(&place).map(AsRef::as_ref);
    let backup = plane.view.backups.items.get(&key).map(AsRef::as_ref);
    if let Some(child) = plane.view.jobs.items.get(&key) {
        if child.labels().get(labels::JOB_UID) != job.meta().uid.as_ref() {
            conflict(entry, &key);
            return;
        }
        let since = finished_since(&plane.name, &key);
        let evidence = Evidence { job: child, backup, datacenter, finished_since: since };
        entry.job = Some(key.name);
        entry.nodes = Some(judge::nodes(&evidence));
        if let Some(status) = &child.status {
            entry.start_time.clone_from(&status.start_time);
        }
        match judge(&evidence, now) {
            Verdict::Running { reason, message } => set(entry, Phase::Running, reason, message),
            Verdict::Failed { reason, message } => set(entry, Phase::Failed, reason, Some(message)),
            Verdict::Succeeded => {
                set(entry, Phase::Succeeded, Reason::Succeeded, None);
                entry.size_bytes = backup.and_then(|b| b.size_bytes);
                entry.finish_time = child.status.as_ref().and_then(|s| s.finish_time.clone());
            }
        }
        return;
    }
    match outcomes.get(&(plane.name.clone(), key.clone())) {
        Some(Outcome::There(_)) => entry.job = Some(key.name),
        Some(Outcome::Conflict) => conflict(entry, &key),
        Some(Outcome::NotNow(reason, message)) => set(entry, Phase::Pending, *reason, Some(message.clone())),
        None if entry.job.is_some() => {
            let complete = backup.is_some_and(|b| b.status == "SUCCESS" && b.finished_nodes == b.total_nodes);
            if complete {
                set(entry, Phase::Succeeded, Reason::Succeeded, None);
                entry.size_bytes = backup.and_then(|b| b.size_bytes);
            } else {
                let message = format!("MedusaBackupJob {key} was deleted before it finished");
                set(entry, Phase::Failed, Reason::JobDeleted, Some(message));
            }
        }
        None if datacenter.is_none() => {
            let message = format!("CassandraDatacenter {place} does not exist any more");
            set(entry, Phase::Failed, Reason::DatacenterNotFound, Some(message));
        }
        None => set(entry, Phase::Pending, Reason::Pending, None),
    }
}

fn conflict(entry: &mut DatacenterRun, key: &ObjectKey) {
    let message = format!("MedusaBackupJob {key} exists and was not made by this run; it is left alone");
    set(entry, Phase::Failed, Reason::NameConflict, Some(message));
}

/// A data plane cannot be used. What was started there goes on without us and is awaited whatever the
/// policy: silence is no failure. What was not started follows the policy.
fn wait(job: &FleetBackupJob, entry: &mut DatacenterRun, reason: Reason, message: String) {
    let phase = match (entry.phase, job.spec.unreachable_policy) {
        (Phase::Pending, UnreachablePolicy::Skip) if entry.job.is_none() => Phase::Skipped,
        (Phase::Pending, UnreachablePolicy::Fail) if entry.job.is_none() => Phase::Failed,
        (phase, _) => phase,
    };
    set(entry, phase, reason, Some(message));
}

/// Sums the entries up into the run's status.
#[must_use]
pub fn summarize(
    job: &FleetBackupJob,
    entries: Vec<DatacenterRun>,
    invalid: Option<&str>,
    now: Timestamp,
) -> FleetBackupJobStatus {
    let old = job.status.clone().unwrap_or_default();
    let counts = count(&entries);
    let phase = phase(&counts, &entries, invalid);
    let starts = || entries.iter().filter_map(|e| e.start_time.as_ref()).map(|t| t.0);
    let skew = starts().max().zip(starts().min()).map(|(last, first)| last.duration_since(first).as_secs());
    let bytes: Vec<i64> = entries.iter().filter_map(|e| e.size_bytes).collect();
    let mut points: Vec<String> = entries
        .iter()
        .filter(|e| e.phase == Phase::Succeeded)
        .filter_map(|e| {
            let (point, _) = names::restore_point(e.job.as_deref()?, &e.datacenter);
            Some(names::fleet_backup(&point, &e.cluster))
        })
        .collect();
    points.sort();
    points.dedup();
    let decided = counts.succeeded + counts.failed + counts.skipped;
    let mut status = FleetBackupJobStatus {
        observed_generation: job.metadata.generation,
        phase: Some(phase),
        start_time: old.start_time.or(Some(Time(now))),
        last_progress_time: None,
        finish_time: if phase.is_final() { old.finish_time.or(Some(Time(now))) } else { None },
        start_skew_seconds: skew,
        counts: Some(counts),
        done: Some(format!("{decided}/{}", counts.total)),
        size: (!bytes.is_empty()).then(|| size::humanize(size::total(&bytes))),
        datacenters: entries,
        restore_points: points,
        conditions: old.conditions,
    };
    let (complete, reason, message) = explain(phase, &status, invalid);
    set_condition(
        &mut status.conditions,
        "Complete",
        complete,
        reason,
        message,
        job.metadata.generation,
        now,
    );
    status
}

pub(crate) fn count<'a>(entries: impl IntoIterator<Item = &'a DatacenterRun>) -> DatacenterCounts {
    let mut counts = DatacenterCounts::default();
    for entry in entries {
        counts.total += 1;
        *match entry.phase {
            Phase::Pending => &mut counts.pending,
            Phase::Running => &mut counts.running,
            Phase::Succeeded => &mut counts.succeeded,
            Phase::Failed | Phase::PartiallyFailed => &mut counts.failed,
            Phase::Skipped | Phase::Cancelled => &mut counts.skipped,
        } += 1;
    }
    counts
}

fn phase(counts: &DatacenterCounts, entries: &[DatacenterRun], invalid: Option<&str>) -> Phase {
    if invalid.is_some() || counts.total == 0 {
        return Phase::Failed;
    }
    if counts.pending + counts.running > 0 {
        let started = counts.running > 0 || counts.succeeded > 0 || entries.iter().any(|e| e.job.is_some());
        return if started { Phase::Running } else { Phase::Pending };
    }
    match (counts.succeeded, counts.failed) {
        (0, _) => Phase::Failed,
        (_, 0) => Phase::Succeeded,
        _ => Phase::PartiallyFailed,
    }
}

fn explain(
    phase: Phase,
    status: &FleetBackupJobStatus,
    invalid: Option<&str>,
) -> (Option<bool>, Reason, String) {
    if let Some(message) = invalid {
        return (Some(false), Reason::InvalidSelector, message.to_owned());
    }
    let counts = status.counts.unwrap_or_default();
    if counts.total == 0 {
        let message = "`spec.selector` matches no datacenter in any registered data plane; see `kubectl medusa clusters`";
        return (Some(false), Reason::NoDatacenters, message.to_owned());
    }
    let said = |wanted: &[Phase]| {
        let parts: Vec<String> = status
            .datacenters
            .iter()
            .filter(|e| wanted.contains(&e.phase))
            .filter_map(|e| e.message.as_ref().map(|m| format!("{}: {m}", place(e))))
            .take(5)
            .collect();
        if parts.is_empty() { String::new() } else { format!("; {}", parts.join("; ")) }
    };
    match phase {
        Phase::Succeeded => {
            let left = if counts.skipped > 0 {
                format!(", {} left out{}", counts.skipped, said(&[Phase::Skipped]))
            } else {
                String::new()
            };
            (
                Some(true),
                Reason::Succeeded,
                format!("{} of {} datacenters backed up{left}", counts.succeeded, counts.total),
            )
        }
        Phase::Failed | Phase::PartiallyFailed | Phase::Skipped | Phase::Cancelled => {
            let reason =
                if phase == Phase::PartiallyFailed { Reason::PartiallyFailed } else { Reason::Failed };
            let message = format!(
                "{} of {} datacenters backed up, {} failed, {} left out{}",
                counts.succeeded,
                counts.total,
                counts.failed,
                counts.skipped,
                said(&[Phase::Failed, Phase::Skipped])
            );
            (Some(false), reason, message)
        }
        Phase::Pending | Phase::Running => {
            let silent = status.datacenters.iter().any(|e| {
                !e.phase.is_final() && e.reason.as_deref() == Some(Reason::DataPlaneUnreachable.as_str())
            });
            let reason = if silent { Reason::DataPlaneUnreachable } else { Reason::Running };
            let message = format!(
                "{} of {} datacenters decided{}",
                counts.succeeded + counts.failed + counts.skipped,
                counts.total,
                said(&[Phase::Pending])
            );
            (None, reason, message)
        }
    }
}

fn place(entry: &DatacenterRun) -> String {
    [entry.data_plane.as_str(), entry.namespace.as_str(), entry.datacenter.as_str()]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("/")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{
        api::medusa::MedusaBackupJob,
        control_plane::{
            fanout::tests::{datacenter, fleet_job, live, pending, plane, silent},
            view::{BackupRecord, View},
        },
    };

    fn now() -> Timestamp {
        Timestamp::from_second(1_000_000).unwrap()
    }

    fn child(job: &FleetBackupJob, entry: &DatacenterRun, status: serde_json::Value) -> MedusaBackupJob {
        let key = child_key(job, entry);
        serde_json::from_value(json!({
            "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackupJob",
            "metadata": {"name": key.name, "namespace": key.namespace, "labels": {labels::JOB_UID: job.uid()}},
            "spec": {"cassandraDatacenter": entry.datacenter}, "status": status
        }))
        .unwrap()
    }

    fn done_view(job: &FleetBackupJob, entry: &DatacenterRun) -> View {
        let mut view = live(&[datacenter("dc1", 1)]);
        let key = child_key(job, entry);
        let status = json!({"startTime": "1970-01-01T00:00:00Z", "finishTime": "1970-01-01T00:00:09Z", "finished": ["a"]});
        view.jobs.items.insert(key.clone(), Arc::new(child(job, entry, status)));
        let backup = BackupRecord {
            status: "SUCCESS".into(),
            total_nodes: 1,
            finished_nodes: 1,
            size_bytes: Some(2048),
            ..BackupRecord::default()
        };
        view.backups.items.insert(key, Arc::new(backup));
        view
    }

    fn roll(job: &FleetBackupJob, list: &[DatacenterRun], planes: &[Snapshot]) -> FleetBackupJobStatus {
        let advanced = entries(job, list, planes, &Outcomes::new(), |_, _| Some(now()), now());
        summarize(job, advanced, None, now())
    }

    #[test]
    fn a_proven_backup_succeeds_and_names_its_restore_point() {
        let job = fleet_job("nightly");
        let entry = pending("eu", "dc1");
        let status = roll(&job, std::slice::from_ref(&entry), &[plane("eu", done_view(&job, &entry))]);
        assert_eq!(status.phase, Some(Phase::Succeeded));
        assert_eq!(status.done.as_deref(), Some("1/1"));
        assert_eq!(status.size.as_deref(), Some("2.00 KB"));
        assert_eq!(status.restore_points, ["nightly-0b1c2d3e.shop.ns.eu"]);
    }

    #[test]
    fn a_silent_cluster_is_waited_for_and_neither_failed_nor_forgotten() {
        let job = fleet_job("nightly");
        let mut running = pending("eu", "dc1");
        running.phase = Phase::Running;
        running.job = Some("nightly-dc1-0b1c2d3e".into());
        for policy in [UnreachablePolicy::Wait, UnreachablePolicy::Skip, UnreachablePolicy::Fail] {
            let mut job = job.clone();
            job.spec.unreachable_policy = policy;
            let status = roll(&job, std::slice::from_ref(&running), &[plane("eu", silent())]);
            assert_eq!(status.phase, Some(Phase::Running), "{policy:?}");
            let entry = &status.datacenters[0];
            assert_eq!(
                (entry.phase, entry.reason.as_deref()),
                (Phase::Running, Some("DataPlaneUnreachable"))
            );
        }
    }

    #[test]
    fn what_did_not_start_follows_the_policy() {
        for (policy, phase) in [
            (UnreachablePolicy::Wait, Phase::Pending),
            (UnreachablePolicy::Skip, Phase::Skipped),
            (UnreachablePolicy::Fail, Phase::Failed),
        ] {
            let mut job = fleet_job("nightly");
            job.spec.unreachable_policy = policy;
            let status = roll(&job, &[pending("eu", "dc1")], &[plane("eu", silent())]);
            assert_eq!(status.datacenters[0].phase, phase);
        }
    }

    #[test]
    fn a_strangers_object_is_a_conflict() {
        let job = fleet_job("nightly");
        let entry = pending("eu", "dc1");
        let mut view = live(&[datacenter("dc1", 1)]);
        view.jobs.items.insert(child_key(&job, &entry), Arc::new(MedusaBackupJob::default()));
        let status = roll(&job, &[entry], &[plane("eu", view)]);
        assert_eq!(status.datacenters[0].reason.as_deref(), Some("NameConflict"));
        assert_eq!(status.phase, Some(Phase::Failed));
    }

    #[test]
    fn a_child_that_vanished_fails_unless_its_backup_is_there() {
        let job = fleet_job("nightly");
        let mut entry = pending("eu", "dc1");
        entry.phase = Phase::Running;
        entry.job = Some(child_key(&job, &entry).name);
        let status = roll(&job, std::slice::from_ref(&entry), &[plane("eu", live(&[datacenter("dc1", 1)]))]);
        assert_eq!(status.datacenters[0].reason.as_deref(), Some("JobDeleted"));
        let mut view = done_view(&job, &entry);
        view.jobs.items.clear();
        assert_eq!(roll(&job, &[entry], &[plane("eu", view)]).phase, Some(Phase::Succeeded));
    }

    #[test]
    fn nothing_selected_is_a_failure_with_a_reason() {
        let status = summarize(&fleet_job("nightly"), Vec::new(), None, now());
        assert_eq!(status.phase, Some(Phase::Failed));
        assert_eq!(status.conditions[0].reason, "NoDatacenters");
        let status = summarize(&fleet_job("nightly"), Vec::new(), Some("`x` cannot be read"), now());
        assert_eq!(status.conditions[0].reason, "InvalidSelector");
    }

    proptest! {
        #[test]
        fn the_verdict_does_not_depend_on_the_order(phases in proptest::collection::vec(0_u8..5, 1..12), turn in 0_usize..12) {
            let list: Vec<DatacenterRun> = phases.iter().enumerate().map(|(n, p)| DatacenterRun {
                phase: [Phase::Pending, Phase::Running, Phase::Succeeded, Phase::Failed, Phase::Skipped][usize::from(*p)],
                ..pending("eu", &format!("dc{n}"))
            }).collect();
            let mut turned = list.clone();
            turned.rotate_left(turn % list.len());
            let job = fleet_job("nightly");
            let (a, b) = (summarize(&job, list, None, now()), summarize(&job, turned, None, now()));
            prop_assert_eq!((a.phase, a.counts), (b.phase, b.counts));
            let counts = a.counts.unwrap();
            prop_assert_eq!(counts.pending + counts.running + counts.succeeded + counts.failed + counts.skipped, counts.total);
        }
    }
}
