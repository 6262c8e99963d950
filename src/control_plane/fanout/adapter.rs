//! FleetBackupJobs for the engine of all runs: what their children are, and what these come to. Pure.

use kube::ResourceExt as _;

use super::{
    judge::{self, Evidence, judge},
    summarize::sum_up,
};
use crate::{
    api::{
        Reason, Seen,
        cassandra::CassandraDatacenter,
        fleet::{DatacenterRun, FleetBackupJob, FleetBackupJobStatus, Phase, RunStatus},
        medusa::{MedusaBackupJob, MedusaBackupJobSpec},
    },
    control_plane::{
        data_planes::{fleet::Snapshot, records::BackupRecord, view::ObjectKey},
        identity::Identity,
        runs::{
            child::{Child as _, child_key, metadata, place},
            ending::set,
            engine::{
                RunInputs,
                adapter::{Adapter, Admitted, Judged, ObservedChild},
                plan::Work,
            },
            rollout::stagger,
            select::is_placeholder,
            verdict::Verdict,
        },
    },
};

impl Adapter for FleetBackupJob {
    fn entry(run: DatacenterRun, _: Option<&DatacenterRun>) -> DatacenterRun {
        run
    }

    fn sum_up(
        &self,
        old: &FleetBackupJobStatus,
        run: RunStatus,
        entries: Vec<DatacenterRun>,
    ) -> FleetBackupJobStatus {
        sum_up(self, old, run, entries)
    }

    fn own_limit(plane: &Snapshot) -> Option<usize> {
        plane.max_concurrent_backups
    }

    fn may_go_better(reason: Reason) -> bool {
        matches!(reason, Reason::NodesFailed | Reason::BackupIncomplete | Reason::MedusaBackupMissing)
    }

    fn child(
        &self,
        key: ObjectKey,
        _: &Work,
        datacenter: &CassandraDatacenter,
        _: &Admitted,
        control_plane: &Identity,
    ) -> MedusaBackupJob {
        MedusaBackupJob {
            metadata: metadata(self, key, datacenter, control_plane),
            spec: MedusaBackupJobSpec {
                cassandra_datacenter: datacenter.name_any(),
                backup_type: self.spec.backup_type,
                // The run deletes it: it may still have to be judged when its own time would be over.
                ttl_seconds_after_finished: None,
            },
            status: None,
        }
    }

    fn judge(
        inputs: &RunInputs<'_, Self>,
        entry: &mut DatacenterRun,
        found: &ObservedChild<'_, MedusaBackupJob>,
    ) -> Judged {
        let ObservedChild { plane, key, child, finished_since, .. } = *found;
        let backup = backup_of(plane, key);
        let evidence = Evidence {
            job: child,
            backup: backup.clone(),
            datacenter: plane.view.datacenters.last(&place(entry)).map(AsRef::as_ref),
            finished_since,
        };
        let verdict = judge(&evidence, inputs.now());
        if verdict == Verdict::Succeeded {
            entry.size_bytes = backup.known().and_then(|backup| backup.size_bytes);
        }
        Judged {
            verdict,
            nodes: judge::nodes(&evidence),
            ended: child.status.as_ref().and_then(|status| status.finish_time.clone()),
            at_work: (!child.is_finished()).then(|| format!("MedusaBackupJob {key}")),
        }
    }

    fn is_done_without(entry: &mut DatacenterRun, plane: &Snapshot, key: &ObjectKey) -> Seen<()> {
        match backup_of(plane, key) {
            Seen::Known(backup)
                if backup.status == "SUCCESS" && backup.finished_nodes == backup.total_nodes =>
            {
                entry.size_bytes = backup.size_bytes;
                Seen::Known(())
            }
            Seen::Known(_) | Seen::Absent => Seen::Absent,
            Seen::Unknown { since, why } => Seen::Unknown { since, why },
        }
    }

    fn is_blind(plane: &Snapshot, key: &ObjectKey) -> bool {
        matches!(backup_of(plane, key), Seen::Unknown { .. })
    }

    fn say_plan(inputs: &RunInputs<'_, Self>, entries: &mut [DatacenterRun]) {
        for entry in entries.iter_mut().filter(|e| e.phase == Phase::Pending && !is_placeholder(e)) {
            // Why it waits for something else is worth more.
            if entry.reason.is_some()
                && !entry.has_reason(Reason::Pending)
                && !entry.has_reason(Reason::AwaitingTurn)
            {
                continue;
            }
            let key = child_key(inputs.run, entry, 1);
            let rollout = &inputs.terms.rollout;
            let after = stagger(rollout, &entry.data_plane, &entry.namespace, &entry.datacenter).as_secs();
            let after = if after > 0 { format!(", {after} s after the start") } else { String::new() };
            let message = format!("would be backed up as {key}{after}");
            set(entry, Phase::Pending, Reason::DryRun, Some(message));
        }
    }
}

fn backup_of<'a>(plane: &'a Snapshot, key: &ObjectKey) -> Seen<&'a BackupRecord> {
    plane.view.seen(&plane.view.backups, key).map(AsRef::as_ref)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::labels,
        control_plane::{
            fanout::tests::{datacenter, fleet_job, pending},
            runs::child::is_of,
        },
    };

    #[test]
    fn a_child_carries_name_labels_and_a_local_owner() {
        let job = fleet_job("nightly");
        let key = child_key(&job, &pending("eu", "dc1"), 1);
        let child =
            job.child(key, &Work::Start, &datacenter("dc1", 3), &Admitted::default(), &Identity::named("cp"));
        assert_eq!(child.name_any(), "nightly-dc1-0b1c2d3e");
        assert_eq!(child.namespace().unwrap(), "ns");
        let labels = child.labels();
        assert_eq!(labels[labels::JOB], "nightly");
        assert_eq!(labels[labels::CONTROL_PLANE], "cp");
        assert_eq!(labels[labels::CASSANDRA_CLUSTER], "shop");
        assert_eq!(labels[labels::CASSANDRA_DATACENTER], "dc1");
        let owner = &child.owner_references()[0];
        assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("CassandraDatacenter", "uid-dc1"));
        assert_eq!((owner.controller, owner.block_owner_deletion), (None, None));
        assert!(is_of(&child, &job) && !is_of(&child, &FleetBackupJob::default()));
    }
}
