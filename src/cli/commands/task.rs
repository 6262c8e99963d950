//! `sync` and `purge`: start a FleetTask, and stay with it for as long as asked.

use std::time::Duration;

use jiff::Timestamp;
use kube::{
    ResourceExt as _,
    api::{DeleteParams, Preconditions},
};

use super::{
    run,
    wait::{self, Progress},
};
use crate::{
    api::fleet::{FleetOperation, FleetTask, FleetTaskSpec},
    cli::{
        args::{RunChoice, Stay, Task},
        failure::{Failure, Outcome},
        home::ControlPlaneClient,
        output::Printer,
        views::{self, task as view},
    },
    runtime::clock,
};

/// Seconds after which a controller deletes a dry run that nobody deleted.
const REHEARSAL_TTL: i32 = 60;
/// How long a dry run may take when nothing else is said.
const DRY_RUN: Duration = Duration::from_mins(1);

/// Creates the task and, when asked to, waits for its verdict.
///
/// # Errors
/// When it cannot be created, or its verdict is not `Succeeded`.
pub async fn run(
    printer: Printer,
    home: &ControlPlaneClient,
    operation: FleetOperation,
    args: &Task,
) -> Outcome {
    let mut task = task(operation, args, &home.namespace, clock::now())?;
    if args.dry_run {
        task.spec.run.dry_run = Some(true);
        task.spec.run.ttl_seconds_after_finished = Some(REHEARSAL_TTL);
        return dry_run(printer, home, &task, args.stay.timeout.unwrap_or(DRY_RUN)).await;
    }
    let created = run::create(printer, home, &task, false).await?;
    let name = task.name_any();
    printer.say(&format!("fleettask/{name} created: {}", describe(&task)))?;
    let Some(ended) = run::stay(printer, home, &created, args.stay).await? else { return Ok(()) };
    run::verdict(printer, &name, ended)
}

/// Says what a sync or purge would do, without starting it.
///
/// # Errors
/// When the controller does not say, or would refuse it everywhere.
pub async fn plan(
    printer: Printer,
    home: &ControlPlaneClient,
    operation: FleetOperation,
    choice: RunChoice,
) -> Outcome {
    let args = Task { name: None, choice, stay: Stay::default(), dry_run: true };
    run(printer, home, operation, &args).await
}

/// The object that asks for the task.
fn task(operation: FleetOperation, args: &Task, namespace: &str, now: Timestamp) -> Outcome<FleetTask> {
    let name = run::name(args.name.as_ref(), operation.as_str(), now)?;
    Ok(FleetTask {
        metadata: run::metadata(name, namespace),
        spec: FleetTaskSpec { operation, run: run::spec(&args.choice) },
        status: None,
    })
}

fn describe(task: &FleetTask) -> String {
    let what = if task.spec.run.selector.is_some() { "the selected datacenters" } else { "the whole fleet" };
    format!("{} of {what}", task.spec.operation.as_str())
}

/// Has the controller say what it would do and what it would refuse: it alone sees the data planes. The object that
/// asks is deleted again.
async fn dry_run(
    printer: Printer,
    home: &ControlPlaneClient,
    task: &FleetTask,
    timeout: Duration,
) -> Outcome {
    let created = run::create(printer, home, task, false).await?;
    let name = created.name_any();
    let ended =
        wait::until_over::<FleetTask>(home, &name, Some(timeout), &mut Progress::new(printer, false)).await;
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: created.uid(), resource_version: None }),
        ..DeleteParams::default()
    };
    // Should this fail, its time to live ends it.
    let _ = home.api::<FleetTask>().delete(&name, &params).await;
    let over = run::over(printer, &name, ended?)?;
    let status = over.status.clone().unwrap_or_default();
    let outcome = if view::is_refused(&status) { Err(Failure::Unhealthy) } else { Ok(()) };
    if printer.format().is_for_programs() {
        return printer.value(&over).and(outcome);
    }
    if status.datacenters.is_empty() {
        printer.note(&views::message(&status.run.conditions, "Complete"));
        return outcome;
    }
    printer.text(&view::plan(&status.datacenters, task.spec.operation.as_str()).render(0)).and(outcome)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{
        args::{Cli, FleetVerb, Verb},
        views::fixtures::now,
    };

    fn asked(words: &str) -> FleetTask {
        let words = std::iter::once("medusa-fleet").chain(words.split(' '));
        let verb = Cli::try_parse_from(words).unwrap().verb;
        let operation = if matches!(verb, Verb::Fleet(FleetVerb::Sync(_))) {
            FleetOperation::Sync
        } else {
            FleetOperation::Purge
        };
        let Verb::Fleet(FleetVerb::Sync(args) | FleetVerb::Purge(args)) = verb else { panic!("{verb:?}") };
        task(operation, &args, "medusa-fleet", now()).unwrap()
    }

    #[test]
    fn without_a_name_the_verb_and_the_time_name_the_task() {
        let task = asked("sync");
        assert_eq!(task.name_any(), "sync-20261102120000");
        assert_eq!(task.spec, FleetTaskSpec::default());
        assert_eq!(describe(&task), "sync of the whole fleet");
    }

    #[test]
    fn what_is_typed_is_what_is_asked_for() {
        let task = asked("purge weekly --cluster shop --data-plane eu-1 --unreachable-policy skip");
        insta::assert_yaml_snapshot!(task);
        assert_eq!(describe(&task), "purge of the selected datacenters");
    }
}
