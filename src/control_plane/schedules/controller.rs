//! Reconciles FleetBackupSchedules. The clock, their runs and the data planes wake it; it is the one writer of the
//! status.

use std::{sync::Mutex, time::Duration};

use jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _, core::DeserializeGuard, runtime::controller::Action};
use tokio::time::Instant;

use super::{
    ScheduleContext, by_data_plane, coordinated,
    delegate::is_in_data_planes,
    delegated,
    recipe::{self, Recipe},
    runs::RunKind,
    scope::Scope,
    summarize::{self, READY, ScheduleReport, SlotOutcome},
    taken_back::Writes,
};
use crate::{
    api::{
        Conditions as _, Reason, Why,
        fleet::{Execution, FleetBackupSchedule, FleetBackupScheduleStatus, ScheduleOperation},
    },
    control_plane::{
        inventory::expectation::Expectation,
        runs::{PUBLISH_EVERY, publish, select::ClusterLabels, unreadable},
    },
    runtime::{
        controller::{Controlled, Shell},
        guard::Panicked,
        remembered::Remembered,
        sync::lock,
        written::Written,
    },
};

/// Pause while runs are being listed; the end of the listing wakes everyone anyway.
const LISTING: Duration = Duration::from_secs(1);
/// First and longest pause after the API server did not do what was asked.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// What is remembered of one schedule between two looks. Losing it costs a request or an Event.
#[derive(Default)]
pub(super) struct ScheduleMemory {
    /// What we last wrote of the object.
    pub written: Written<FleetBackupSchedule>,
    /// What was written into data planes.
    pub writes: Writes,
    /// The problem that was last told in an Event.
    warned: Option<Why>,
    published: Option<Instant>,
}

impl ScheduleMemory {
    /// Remembers what came of a write of the object itself. Returns whether it was written: it was not when somebody else
    /// had changed the object.
    pub(super) fn wrote(
        &mut self,
        schedule: &FleetBackupSchedule,
        written: Option<&FleetBackupSchedule>,
    ) -> bool {
        match written {
            Some(written) => self.written.note(schedule.resource_version(), written),
            None => self.written.forget(),
        }
        written.is_some()
    }

    /// Writes the status without delay. Says whether it is written: not when the schedule has changed since.
    pub(super) async fn commit(
        &mut self,
        ctx: &ScheduleContext,
        schedule: &FleetBackupSchedule,
        report: &ScheduleReport,
        now: Timestamp,
    ) -> Result<bool, kube::Error> {
        let old = schedule.status.clone().unwrap_or_default();
        let new = summarize::status(&old, report, schedule.metadata.generation, now);
        self.write(ctx, schedule, &old, &new, report).await
    }

    /// Writes the status if it says something new, though not too often; returns how long to wait when it is too soon.
    pub(super) async fn tell(
        &mut self,
        ctx: &ScheduleContext,
        schedule: &FleetBackupSchedule,
        report: &ScheduleReport,
        now: Timestamp,
    ) -> Result<Option<Duration>, kube::Error> {
        let old = schedule.status.clone().unwrap_or_default();
        let new = summarize::status(&old, report, schedule.metadata.generation, now);
        if old != new {
            let wait = self.published.map_or(Duration::ZERO, |at| PUBLISH_EVERY.saturating_sub(at.elapsed()));
            if !wait.is_zero() {
                return Ok(Some(wait));
            }
        }
        let is_written = self.write(ctx, schedule, &old, &new, report).await?;
        Ok((!is_written).then_some(PUBLISH_EVERY))
    }

    async fn write(
        &mut self,
        ctx: &ScheduleContext,
        schedule: &FleetBackupSchedule,
        old: &FleetBackupScheduleStatus,
        new: &FleetBackupScheduleStatus,
        report: &ScheduleReport,
    ) -> Result<bool, kube::Error> {
        if old != new {
            let written = publish(&ctx.shared.client, schedule, new).await?;
            if !self.wrote(schedule, written.as_ref()) {
                return Ok(false);
            }
            self.published = Some(Instant::now());
            tell_news(ctx, schedule, old, new, report);
        }
        let about = schedule.object_ref(&());
        let problem = report.ready.as_ref().err();
        if let Some(Why { reason, message }) = problem.filter(|_| self.warned.as_ref() != problem) {
            if *reason == Reason::Paused {
                ctx.shared.events.normal(about, *reason, "Schedule", message);
            } else {
                ctx.shared.events.warning(about, *reason, "Schedule", message);
            }
        }
        self.warned = problem.cloned();
        Ok(true)
    }
}

/// Tells in Events of slots and runs that went wrong and of which `old` did not say so.
fn tell_news(
    ctx: &ScheduleContext,
    schedule: &FleetBackupSchedule,
    old: &FleetBackupScheduleStatus,
    new: &FleetBackupScheduleStatus,
    report: &ScheduleReport,
) {
    let about = schedule.object_ref(&());
    let said = |status: &FleetBackupScheduleStatus, type_| {
        status.conditions.of_type(type_).map(|c| c.message.clone()).unwrap_or_default()
    };
    let known = by_data_plane::remembered(old);
    let has_missed = match &report.outcome {
        SlotOutcome::Nothing | SlotOutcome::OnTime => false,
        SlotOutcome::Missed(..) => said(old, summarize::MISSED) != said(new, summarize::MISSED),
        SlotOutcome::There(..) => by_data_plane::has_more_missed(&known, &new.data_planes),
    };
    if has_missed {
        ctx.shared.events.warning(
            about.clone(),
            Reason::SlotsMissed,
            "Schedule",
            said(new, summarize::MISSED),
        );
    }
    if let Some((false, message)) = &report.succeeded
        && match schedule.spec.execution {
            Execution::Coordinated => said(old, summarize::SUCCEEDED) != *message,
            Execution::Delegated => by_data_plane::has_more_failed(&known, &new.data_planes),
        }
    {
        ctx.shared.events.warning(about, Reason::Failed, "Schedule", message);
    }
}

/// All that one look needs.
pub(super) struct Scheduler {
    pub context: ScheduleContext,
    memories: Mutex<Remembered<String, ScheduleMemory>>,
    shell: Shell,
}

impl Scheduler {
    pub(super) fn new(context: ScheduleContext) -> Self {
        let shell = Shell::new(RETRY, context.shared.meters.reconciles.clone());
        Self { context, memories: Mutex::default(), shell }
    }

    fn cluster_labels(&self) -> ClusterLabels {
        self.context
            .shared
            .published
            .clusters
            .state()
            .iter()
            .map(|c| (c.name_any(), c.labels().clone()))
            .collect()
    }
}

impl Controlled for Scheduler {
    type Object = FleetBackupSchedule;
    type Error = kube::Error;

    const KIND: &'static str = "FleetBackupSchedule";

    fn shell(&self) -> &Shell {
        &self.shell
    }

    async fn look(&self, object: &DeserializeGuard<FleetBackupSchedule>) -> Result<Action, kube::Error> {
        go_on(object, self).await
    }

    async fn report(&self, object: &DeserializeGuard<FleetBackupSchedule>, panic: &Panicked) {
        if let Ok(schedule) = &object.0
            && schedule.metadata.deletion_timestamp.is_none()
        {
            let why = Why::new(Reason::InternalError, panic.to_string());
            let old = schedule.status.clone().unwrap_or_default();
            let report = ScheduleReport::unchanged(&old, Err(why));
            let now = self.context.clock.now();
            if let Err(error) = ScheduleMemory::default().commit(&self.context, schedule, &report, now).await
            {
                tracing::warn!(schedule = object.name_any(), %error, "say that it failed");
            }
        }
    }

    fn forget(&self, _: &str, name: &str) {
        lock(&self.memories).forget(&name.to_owned());
        self.context.expectations.forget(name);
    }
}

async fn go_on(
    object: &DeserializeGuard<FleetBackupSchedule>,
    scheduler: &Scheduler,
) -> Result<Action, kube::Error> {
    let (name, uid) = (object.name_any(), object.meta().uid.clone().unwrap_or_default());
    scheduler.context.expectations.is_now(&name, &uid);
    let schedule = match &object.0 {
        Ok(schedule) => schedule,
        Err(error) => {
            tracing::warn!(schedule = name, %error, "FleetBackupSchedule cannot be read");
            let (context, now) = (&scheduler.context, scheduler.context.clock.now());
            let (client, events) = (&context.shared.client, &context.shared.events);
            unreadable::say::<FleetBackupSchedule>(client, events, object.meta(), READY, now).await?;
            return Ok(Action::await_change());
        }
    };
    let mut memory = lock(&scheduler.memories).take(&name, &uid).unwrap_or_default();
    let schedule = memory.written.newest(schedule);
    let looked = look(scheduler, &mut memory, &schedule).await;
    let is_over = schedule.metadata.deletion_timestamp.is_some();
    if !is_over {
        lock(&scheduler.memories).set(name.clone(), &uid, memory);
    }
    let check = scheduler.context.check;
    let wait = looked?.map_or(check, |wait| wait.min(check));
    scheduler.shell.succeeded(&scheduler.context.shared.namespace, &name);
    Ok(Action::requeue(wait))
}

/// One look; returns when to look again, if nothing happens before.
async fn look(
    scheduler: &Scheduler,
    memory: &mut ScheduleMemory,
    schedule: &FleetBackupSchedule,
) -> Result<Option<Duration>, kube::Error> {
    let ctx = &scheduler.context;
    let name = schedule.name_any();
    let now = ctx.clock.now();
    let planes = ctx.shared.fleet.snapshot();
    if schedule.metadata.deletion_timestamp.is_some() {
        ctx.expectations.forget(&name);
        return delegated::take_back(ctx, schedule, &planes, ctx.shared.fleet.is_enrolled(), now).await;
    }
    let is_known = ctx.shared.fleet.is_enrolled() && ctx.shared.published.clusters.is_listed();
    let read = recipe::read(&schedule.spec)
        .and_then(|recipe| Ok((recipe, Scope::of(schedule, &planes, &scheduler.cluster_labels())?)));
    let (recipe, scope) = match read {
        Ok(read) => read,
        Err(problem) => {
            ctx.expectations.forget(&name);
            let old = schedule.status.clone().unwrap_or_default();
            let report = ScheduleReport { next: None, ..ScheduleReport::unchanged(&old, Err(problem)) };
            return memory.tell(ctx, schedule, &report, now).await;
        }
    };
    if is_known {
        promise(ctx, schedule, &recipe, &scope, now);
    }
    if schedule.spec.execution == Execution::Delegated {
        // Nothing is scheduled, and nothing taken back, on half of what there is to know.
        if !is_known {
            return Ok(Some(LISTING));
        }
        return delegated::look(ctx, memory, schedule, &recipe, &scope, &planes, now).await;
    }
    if is_in_data_planes(schedule) && ctx.shared.fleet.is_enrolled() {
        let is_gone = delegated::withdraw(ctx, memory, schedule, &planes).await?;
        if is_gone {
            return Ok(Some(Duration::ZERO));
        }
    }
    if !ctx.children.is_listed(RunKind::from(schedule.spec.operation)) {
        return Ok(Some(LISTING));
    }
    let datacenters = is_known.then(|| scope.counts(&planes));
    coordinated::look(ctx, memory, schedule, &recipe, datacenters, &planes, now).await
}

/// Tells the inventory what the clusters of a backup schedule may expect.
fn promise(
    ctx: &ScheduleContext,
    schedule: &FleetBackupSchedule,
    recipe: &Recipe,
    scope: &Scope,
    now: Timestamp,
) {
    let name = schedule.name_any();
    if schedule.spec.operation != ScheduleOperation::Backup || schedule.spec.suspend == Some(true) {
        return ctx.expectations.forget(&name);
    }
    let next =
        schedule.status.as_ref().and_then(|status| status.next_schedule_time.as_ref()).map(|time| time.0);
    let promise = Expectation { interval: recipe.cron.longest_gap(now), next };
    ctx.expectations.set(&name, &schedule.uid().unwrap_or_default(), scope.clusters(), promise);
}
