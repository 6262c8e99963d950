//! The whole plan of a restore with every check's result: what is recorded and then only executed. Pure.

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::{
    check::{Topic, waits_for},
    checks::{Observed, Own, checks},
    resolve::{Clusters, Resolved, resolve},
};
use crate::{
    api::{
        Reason,
        fleet::{CheckState, FleetBackupStatus, FleetRestoreJob, RestoreCheck, RestorePlan, place},
        names,
    },
    control_plane::{
        data_planes::fleet::Snapshot,
        identity::{Identity, uid_of},
        runs::active_restores::{cluster_of_job, goes_first},
    },
};

/// Everything a pass decides from.
#[derive(Clone, Copy)]
pub struct RestoreInputs<'a> {
    /// The FleetRestoreJob with what is recorded of it.
    pub job: &'a FleetRestoreJob,
    pub planes: &'a [Snapshot],
    /// The FleetBackup the job names, when there is one.
    pub backup: Option<&'a FleetBackupStatus>,
    pub clusters: &'a Clusters,
    /// All FleetRestoreJobs.
    pub rivals: &'a [FleetRestoreJob],
    /// What was read of the data planes.
    pub observed: &'a Observed,
    /// Value of the control-plane label.
    pub control_plane: &'a Identity,
    pub now: Timestamp,
}

impl RestoreInputs<'_> {
    /// What the spec means.
    #[must_use]
    pub fn resolve(&self) -> Resolved {
        resolve(&self.job.spec, self.backup, self.clusters, self.planes)
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub cluster: Option<String>,
    /// Checks of the restore as a whole.
    pub checks: Vec<RestoreCheck>,
    /// One entry per datacenter, in order.
    pub entries: Vec<RestorePlan>,
}

#[must_use]
pub fn plan(inputs: &RestoreInputs<'_>) -> Plan {
    let Resolved { cluster, targets, checks: mut whole } = inputs.resolve();
    whole.push(alone(inputs, cluster.as_deref()));
    let uid = uid_of(inputs.job).unwrap_or_default();
    let known = inputs.job.status.as_ref().map(|s| s.plan.as_slice()).unwrap_or_default();
    let entries = targets
        .iter()
        .map(|target| {
            let key = &target.place.key;
            let job = names::child(&inputs.job.name_any(), &key.name, uid);
            let own = Own { name: &job, uid };
            let checks = checks(target, inputs.planes, inputs.observed, &own, inputs.now);
            let needs_sync = checks.iter().any(|c| waits_for(c, Reason::SyncNeeded));
            let synced = known.iter().any(|old| {
                old.sync
                    && (&old.data_plane, &old.namespace, &old.datacenter)
                        == (&target.place.data_plane, &key.namespace, &key.name)
            });
            RestorePlan {
                data_plane: target.place.data_plane.clone(),
                namespace: key.namespace.clone(),
                datacenter: key.name.clone(),
                medusa_backup: target.backup.clone().unwrap_or_default(),
                job: job.clone(),
                sync: needs_sync || synced,
                checks,
            }
        })
        .collect();
    Plan { cluster, checks: whole, entries }
}

/// Whether no other FleetRestoreJob of the cluster goes first.
fn alone(inputs: &RestoreInputs<'_>, cluster: Option<&str>) -> RestoreCheck {
    let Some(cluster) = cluster else { return Topic::Alone.passed() };
    let rival = inputs
        .rivals
        .iter()
        .find(|other| cluster_of_job(other) == Some(cluster) && goes_first(other, inputs.job));
    match rival {
        Some(rival) => {
            let message = format!("FleetRestoreJob `{}` of the same cluster goes first", rival.name_any());
            Topic::Alone.waiting(Reason::RestoreInProgress, message)
        }
        None => Topic::Alone.passed(),
    }
}

impl Plan {
    /// Every check with where it belongs, for people; empty for the restore as a whole.
    pub fn all(&self) -> impl Iterator<Item = (String, &RestoreCheck)> {
        let whole = self.checks.iter().map(|check| (String::new(), check));
        let each = self.entries.iter().flat_map(|entry| {
            let place = format!("{}: ", place([&entry.data_plane, &entry.namespace, &entry.datacenter]));
            entry.checks.iter().map(move |check| (place.clone(), check))
        });
        whole.chain(each)
    }

    /// The worst state of all checks. A plan without datacenters counts as failed.
    #[must_use]
    pub fn state(&self) -> CheckState {
        let worst = self.all().map(|(_, check)| check.state).max();
        match worst {
            Some(CheckState::Passed) | None if self.entries.is_empty() => CheckState::Failed,
            Some(state) => state,
            None => CheckState::Failed,
        }
    }

    /// The checks in that state, in one sentence, and the reason of the first.
    #[must_use]
    pub fn why(&self, state: CheckState) -> (Reason, String) {
        let found: Vec<(String, &RestoreCheck)> = self.all().filter(|(_, c)| c.state == state).collect();
        let reason = found.first().and_then(|(_, c)| Reason::of(c.reason.as_deref()?));
        let list: Vec<String> = found
            .iter()
            .map(|(place, check)| format!("{place}{}", check.message.as_deref().unwrap_or_default()))
            .collect();
        (reason.unwrap_or(Reason::Failed), list.join("; "))
    }

    /// Whether nothing is open but MedusaBackups that a sync has to look for.
    #[must_use]
    pub fn waits_for_syncs_only(&self) -> bool {
        let mut open = self.all().filter(|(_, c)| c.state != CheckState::Passed).map(|(_, c)| c);
        open.all(|c| waits_for(c, Reason::SyncNeeded) || waits_for(c, Reason::Syncing))
    }

    /// Whether a recorded plan is this one: the same backups into the same datacenters in the same order.
    #[must_use]
    pub fn is_same(&self, recorded: &[RestorePlan]) -> bool {
        let bare = |list: &[RestorePlan]| -> Vec<RestorePlan> {
            list.iter().map(|e| RestorePlan { checks: Vec::new(), sync: false, ..e.clone() }).collect()
        };
        bare(&self.entries) == bare(recorded)
    }
}
