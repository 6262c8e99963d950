//! MedusaBackupSchedules on a clock that the test turns.
//!
//! Jobs have no pods to back up, so they go on until the test ends them. Slots are read from the schedule's
//! status and the clock is set to them: nothing here depends on what time it is.

mod again;
mod crash;
mod input;
mod policy;
mod slots;

use std::{collections::BTreeSet, time::Duration};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use medusa_fleet::{
    api::{
        Conditions as _,
        medusa::{MedusaBackupJob, MedusaBackupSchedule, MedusaBackupScheduleStatus, MedusaTask},
    },
    data_plane::Timings,
};
use serde_json::{Value, json};

use crate::{
    fake_medusa::Script,
    scripted_datacenter::{DataPlane, ScriptedDatacenter, timings},
    shared_cluster::Definitions,
    support::{
        eventually,
        fake_clock::FakeClock,
        gate::Gate,
        uids::{self, Uids},
    },
};

/// Jobs wait for pods for ever, whatever the clock does, and do not ask for them all the time: there are hundreds.
fn patient() -> Timings {
    Timings {
        input: Duration::from_secs(1_000_000_000),
        input_retry_max: Duration::from_mins(1),
        ..timings()
    }
}

/// A namespace with datacenter `dc1`, without pods, and a clock.
struct ClockedDatacenter {
    dc: ScriptedDatacenter,
    fake_clock: FakeClock,
}

impl ClockedDatacenter {
    async fn new() -> Self {
        Self::under(Definitions::Ours).await
    }

    async fn under(definitions: Definitions) -> Self {
        let dc = ScriptedDatacenter::under(definitions, 0, Script::default()).await;
        let now = Timestamp::from_second(medusa_fleet::runtime::clock::now().as_second()).unwrap();
        Self { dc, fake_clock: FakeClock::at(now) }
    }

    async fn data_plane(&self) -> DataPlane {
        self.data_plane_with(Gate::default()).await
    }

    async fn data_plane_with(&self, gate: Gate) -> DataPlane {
        self.dc.data_plane_at(gate, patient(), self.fake_clock.clock()).await
    }

    /// Creates a schedule for `dc1`, every five minutes unless `spec` says otherwise.
    async fn schedule(&self, name: &str, spec: Value) -> MedusaBackupSchedule {
        self.dc.create(schedule(name, spec)).await
    }

    async fn edit(&self, name: &str, spec: Value) {
        self.dc.patch::<MedusaBackupSchedule>(name, json!({"spec": spec})).await;
    }

    async fn get(&self, name: &str) -> MedusaBackupSchedule {
        self.dc.get::<MedusaBackupSchedule>(name).await
    }

    async fn status(&self, name: &str) -> MedusaBackupScheduleStatus {
        self.get(name).await.status.unwrap_or_default()
    }

    /// Waits for a status in which `wanted` finds something.
    async fn until<T>(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&MedusaBackupScheduleStatus) -> Option<T>,
    ) -> T {
        eventually(format!("{name}: {what}"), async || {
            let status = self.status(name).await;
            wanted(&status).ok_or(format!("{status:?}"))
        })
        .await
    }

    /// Waits for a next slot after `after`, if that is given.
    async fn next(&self, name: &str, after: Option<Timestamp>) -> Timestamp {
        self.until(name, "a next slot", |status| {
            status
                .next_schedule
                .as_ref()
                .map(|time| time.0)
                .filter(|next| after.is_none_or(|after| *next > after))
        })
        .await
    }

    /// Sets the clock to the next slot, and waits until the schedule says it ran. Returns it.
    async fn run_next(&self, name: &str) -> Timestamp {
        let last = self.status(name).await.last_execution.map(|time| time.0);
        let slot = self.next(name, last).await;
        self.fake_clock.set(slot);
        self.until(name, "the slot ran", |s| (s.last_execution.as_ref()?.0 == slot).then_some(())).await;
        slot
    }

    /// Waits until condition `Ready` has that reason; returns its message.
    async fn reason(&self, name: &str, reason: &str) -> String {
        self.until(name, reason, |status| {
            status.conditions.of_type("Ready").filter(|c| c.reason == reason).map(|c| c.message.clone())
        })
        .await
    }

    async fn jobs(&self) -> BTreeSet<String> {
        self.dc.jobs().await
    }

    async fn tasks(&self) -> BTreeSet<String> {
        self.dc.names::<MedusaTask>().await
    }

    /// Ends a job as a data plane would; with a failed pod if it ends badly.
    async fn end(&self, job: &str, is_good: bool) {
        let mut status = json!({"startTime": "2026-01-01T00:00:00Z", "finishTime": "2026-01-01T00:10:00Z"});
        status[if is_good { "finished" } else { "failed" }] = json!(["pod"]);
        self.dc.patch_status::<MedusaBackupJob>(job, status).await;
    }

    async fn delete_job(&self, job: &str) {
        self.dc.delete::<MedusaBackupJob>(job).await;
    }
}

fn schedule(name: &str, spec: Value) -> Value {
    let mut whole = json!({"cronSchedule": "*/5 * * * *", "backupSpec": {"cassandraDatacenter": "dc1", "backupType": "full"}});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({
        "apiVersion": "medusa.k8ssandra.io/v1alpha1", "kind": "MedusaBackupSchedule",
        "metadata": {"name": name}, "spec": whole
    })
}

/// Name of what `schedule` makes for `slot`.
fn of(schedule: &str, slot: Timestamp) -> String {
    format!("{schedule}-{}", slot.as_second())
}

fn set<const N: usize>(names: [String; N]) -> BTreeSet<String> {
    names.into_iter().collect()
}
