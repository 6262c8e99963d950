//! FleetBackupSchedule: a FleetBackupJob or FleetTask at each slot of a cron expression (Coordinated), or a
//! MedusaBackupSchedule in every data plane that does the same for its datacenters (Delegated).
//!
//! ```text
//! recipe ──> tick: is a slot due, ──> make the run, ──> write the slot ──> let the run go       (Coordinated)
//!  (pure)    may it run? (pure)        held              down
//!        └──> delegate: what should be where? (pure) ──> apply, delete ──> results, missed (pure) (Delegated)
//! ```
//!
//! Why a run is held until its slot is written down is in ADR 13.

mod apply;
pub(super) mod by_data_plane;
mod children;
mod controller;
mod coordinated;
pub(super) mod delegate;
mod delegated;
pub(super) mod history;
pub(super) mod missed;
pub(super) mod recipe;
pub(super) mod results;
pub(super) mod runs;
pub(super) mod scope;
pub(super) mod stale;
pub(crate) mod summarize;
mod sweep;
mod taken_back;
pub(super) mod tick;

use std::{sync::Arc, time::Duration};

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use kube::{
    Api, Resource as _, ResourceExt as _,
    core::DeserializeGuard,
    runtime::{
        Controller, WatchStreamExt as _,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use self::{
    children::{Children, Wake},
    controller::Scheduler,
    runs::{Run, RunKind},
};
use super::{
    data_planes::watched::Kind,
    inventory::expectation::Expectations,
    runs::{Fanned, RunContext},
};
use crate::{
    api::{
        fleet::{Execution, FleetBackupJob, FleetBackupSchedule, FleetTask},
        labels,
    },
    runtime::{clock::Clock, follow::is_listed},
};

/// How long changes in the data planes are gathered before Delegated schedules are looked at.
const GATHER: Duration = Duration::from_millis(300);
/// What tells how Delegated schedules go.
const FOLLOWED: &[Kind] =
    &[Kind::Datacenters, Kind::Backups, Kind::Schedules, Kind::ScheduledJobs, Kind::ScheduledTasks];
/// Pause between two looks for what schedules that are gone have left behind.
const SWEEP: Duration = Duration::from_secs(10);

/// What schedules need.
pub struct ScheduleContext {
    /// What they share with the runs they make.
    pub shared: RunContext,
    /// What slots are compared with.
    pub clock: Clock,
    /// Longest pause between two looks at a schedule: a clock that is set is noticed then.
    pub check: Duration,
    /// Where the schedules' promises are told.
    pub expectations: Expectations,
    children: Arc<Children>,
}

impl ScheduleContext {
    /// Longest pause between two looks at a schedule in a cluster.
    pub const CHECK: Duration = Duration::from_mins(1);

    /// A context that goes by the wall clock.
    #[must_use]
    pub fn new(shared: RunContext, expectations: Expectations) -> Self {
        let (clock, check) = (Clock::system(), Self::CHECK);
        Self { shared, clock, check, expectations, children: Arc::default() }
    }
}

/// Runs until `shutdown`.
pub async fn run(context: ScheduleContext, shutdown: CancellationToken) {
    let api: Api<DeserializeGuard<FleetBackupSchedule>> =
        Api::namespaced(context.shared.client.clone(), &context.shared.namespace);
    let by_schedule = Controller::new(api, watcher::Config::default());
    let schedules = by_schedule.store();
    let (trigger, triggered) = mpsc::channel(1024);
    let scheduler = Arc::new(Scheduler::new(context));
    let runs = runs_wake(scheduler.clone(), schedules.clone(), trigger.clone());
    let planes = planes_wake(scheduler.clone(), schedules.clone(), trigger);
    let sweeps = sweeps(scheduler.clone(), schedules);
    let run =
        crate::runtime::controller::run(scheduler, by_schedule, ReceiverStream::new(triggered), shutdown);
    tokio::select! {
        () = runs => {}
        () = planes => {}
        () = sweeps => {}
        () = run => {}
    }
}

/// Keeps the runs, and wakes the schedules they belong to.
async fn runs_wake(
    scheduler: Arc<Scheduler>,
    schedules: Store<DeserializeGuard<FleetBackupSchedule>>,
    trigger: mpsc::Sender<ObjectRef<DeserializeGuard<FleetBackupSchedule>>>,
) {
    let context = &scheduler.context;
    let (jobs, tasks) = (watch::<FleetBackupJob>(context), watch::<FleetTask>(context));
    let namespace = context.shared.namespace.clone();
    let mut wakes = stream::select(jobs, tasks);
    while let Some(wake) = wakes.next().await {
        match wake {
            Wake::Nobody => {}
            Wake::One(name) => {
                let _ = trigger.send(ObjectRef::new(&name).within(&namespace)).await;
            }
            Wake::All => {
                for schedule in schedules.state() {
                    let _ = trigger.send(ObjectRef::from_obj(&*schedule)).await;
                }
            }
        }
    }
}

fn watch<K: Fanned>(context: &ScheduleContext) -> BoxStream<'static, Wake> {
    let api: Api<DeserializeGuard<K>> =
        Api::namespaced(context.shared.client.clone(), &context.shared.namespace);
    let children = context.children.clone();
    watcher(api, watcher::Config::default().labels(labels::FLEET_SCHEDULE_UID))
        .default_backoff()
        .filter_map(move |event| {
            let wake = match event {
                Ok(event) => children.note(
                    RunKind::of(K::KIND),
                    event,
                    |object| (object.name_any(), object.uid().unwrap_or_default()),
                    |object| object.0.as_ref().ok().and_then(Run::of),
                ),
                Err(error) => {
                    tracing::debug!(kind = K::KIND, %error, "watch for schedules interrupted");
                    Wake::Nobody
                }
            };
            std::future::ready(Some(wake))
        })
        .boxed()
}

/// Wakes Delegated schedules, and those that are being deleted, when something has changed in the data planes.
async fn planes_wake(
    scheduler: Arc<Scheduler>,
    schedules: Store<DeserializeGuard<FleetBackupSchedule>>,
    trigger: mpsc::Sender<ObjectRef<DeserializeGuard<FleetBackupSchedule>>>,
) {
    let mut changes = scheduler.context.shared.fleet.changes();
    let mut due: Option<Instant> = None;
    loop {
        let gathered = async {
            match due {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            change = changes.recv() => match change {
                Ok(change) if !change.is_contact_or(FOLLOWED) => {}
                Ok(_) | Err(RecvError::Lagged(_)) => _ = due.get_or_insert(Instant::now() + GATHER),
                Err(RecvError::Closed) => return,
            },
            () = gathered => {
                due = None;
                for schedule in schedules.state().into_iter().filter(|s| is_delegated(s)) {
                    let _ = trigger.send(ObjectRef::from_obj(&*schedule)).await;
                }
            }
        }
    }
}

fn is_delegated(schedule: &DeserializeGuard<FleetBackupSchedule>) -> bool {
    delegate::is_in_data_planes(schedule)
        || schedule.0.as_ref().is_ok_and(|s| s.spec.execution == Execution::Delegated)
}

/// Looks again and again for what schedules that are gone have left behind.
async fn sweeps(scheduler: Arc<Scheduler>, schedules: Store<DeserializeGuard<FleetBackupSchedule>>) {
    let ctx = &scheduler.context;
    loop {
        tokio::time::sleep(SWEEP.min(ctx.check)).await;
        if !is_listed(&schedules) {
            continue;
        }
        let schedules = schedules.state();
        let known = sweep::KnownSchedules::of(schedules.iter().map(|schedule| schedule.meta()));
        if let Err(error) = sweep::sweep(ctx, &known).await {
            tracing::warn!(%error, "clear up after schedules that are gone");
        }
    }
}
