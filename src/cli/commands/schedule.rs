//! `schedule`: list the fleet's schedules, make one, pause one; `plan schedule`.

use jiff::Timestamp;
use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{preview::Preview, run};
use crate::{
    api::{
        cron::CronExpr,
        fleet::{
            CatchUp, Execution, FleetBackupSchedule, FleetBackupScheduleSpec, ScheduleOperation,
            ScheduleTemplate,
        },
        labels,
        names::is_object_name,
    },
    cli::{
        args::schedule::{PlanSchedule, Schedule, ScheduleChoice, ScheduleVerb},
        failure::{Failure, Outcome, is_conflict, is_not_found},
        home::ControlPlaneClient,
        output::Printer,
        views::{self, moment},
    },
    runtime::clock,
};

/// Slots that are shown before a schedule is made.
const SHOWN: usize = 5;

/// Lists, makes, pauses or resumes.
///
/// # Errors
/// When what was asked for cannot be read or written.
pub async fn run(printer: Printer, home: &ControlPlaneClient, args: &Schedule) -> Outcome {
    match (&args.verb, &args.name) {
        (Some(ScheduleVerb::Suspend(named)), _) => suspend(printer, home, &named.name, true).await,
        (Some(ScheduleVerb::Resume(named)), _) => suspend(printer, home, &named.name, false).await,
        (None, None) => list(printer, home).await,
        (None, Some(name)) => make(printer, home, name, &args.what, args.dry_run).await,
    }
}

/// Says what a schedule would run where and when.
///
/// # Errors
/// When it would be refused, or cannot be asked about.
pub async fn plan(printer: Printer, home: &ControlPlaneClient, args: &PlanSchedule) -> Outcome {
    make(printer, home, &args.name, &args.what, true).await
}

async fn list(printer: Printer, home: &ControlPlaneClient) -> Outcome {
    let mut schedules = home.list::<FleetBackupSchedule>().await?;
    schedules.sort_by_key(kube::ResourceExt::name_any);
    let nothing = || {
        let make = printer.command("schedule nightly --cron '30 2 * * *'");
        format!("no schedules {home}; {make} makes one")
    };
    printer.listing(&schedules, nothing, |wide| views::schedules::table(&schedules, wide, clock::now()))
}

async fn make(
    printer: Printer,
    home: &ControlPlaneClient,
    name: &str,
    what: &ScheduleChoice,
    dry_run: bool,
) -> Outcome {
    let schedule = schedule(name, what, &home.namespace)?;
    let params = PostParams { dry_run, field_manager: Some(labels::MANAGER_CLI.to_owned()) };
    let made = home.api::<FleetBackupSchedule>().create(&params, &schedule).await.map_err(|error| {
        if is_conflict(&error) {
            return Failure::Failed(format!(
                "there is a fleetbackupschedule `{name}` already {home}; change it with `kubectl edit`, or look at it with {}",
                printer.command(&format!("describe schedule/{name}"))
            ));
        }
        Failure::writing(&format!("create fleetbackupschedule `{name}` {home}"), &error)
    })?;
    if printer.format().is_for_programs() {
        return printer.value(&made);
    }
    let what = describe(&schedule.spec);
    if !dry_run {
        printer.say(&format!("fleetbackupschedule/{name} created: {what}"))?;
        let look = printer.command(&format!("describe schedule/{name}"));
        printer.note(&format!("{look} shows when it runs and how it went"));
        return Ok(());
    }
    let slots = next_slots(&schedule.spec, clock::now())?;
    let selector = schedule.spec.template.as_ref().and_then(|template| template.selector.as_ref());
    let preview = Preview::read(home, selector).await?;
    printer.say(&format!("fleetbackupschedule/{name} would be created: {what}"))?;
    printer.say(&format!("next slots: {}", slots.join(", ")))?;
    preview.print(printer)
}

async fn suspend(printer: Printer, home: &ControlPlaneClient, name: &str, suspend: bool) -> Outcome {
    let patch = Patch::Merge(json!({"spec": {"suspend": suspend}}));
    let params =
        PatchParams { field_manager: Some(labels::MANAGER_CLI.to_owned()), ..PatchParams::default() };
    let changed = home.api::<FleetBackupSchedule>().patch(name, &params, &patch).await.map_err(|error| {
        if is_not_found(&error) {
            return Failure::Failed(format!("there is no fleetbackupschedule `{name}` {home}"));
        }
        Failure::writing(&format!("change fleetbackupschedule `{name}` {home}"), &error)
    })?;
    if printer.format().is_for_programs() {
        return printer.value(&changed);
    }
    let done = if suspend { "suspended" } else { "resumed" };
    printer.say(&format!("fleetbackupschedule/{} {done}", changed.name_any()))
}

/// The object that is asked for.
fn schedule(name: &str, what: &ScheduleChoice, namespace: &str) -> Outcome<FleetBackupSchedule> {
    if !is_object_name(name) {
        return Err(Failure::CouldNotAsk(format!(
            "`{name}` cannot name a schedule: use lower-case letters, digits, `-` and `.`, at most 253, beginning and \
             ending with a letter or digit"
        )));
    }
    let Some(cron) = what.cron.clone() else {
        return Err(Failure::CouldNotAsk("when shall it run? Give --cron such as `30 2 * * *`".to_owned()));
    };
    CronExpr::parse(&cron, what.time_zone.as_deref())
        .map_err(|error| Failure::CouldNotAsk(error.to_string()))?;
    let seconds = |length: std::time::Duration| i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
    let template = ScheduleTemplate {
        selector: run::selector(&what.selection),
        backup_type: what.backup_type,
        unreachable_policy: what.unreachable_policy,
        ..ScheduleTemplate::default()
    };
    Ok(FleetBackupSchedule {
        metadata: run::metadata(name.to_owned(), namespace),
        spec: FleetBackupScheduleSpec {
            schedule: cron,
            time_zone: what.time_zone.clone(),
            operation: what.operation,
            execution: if what.delegated { Execution::Delegated } else { Execution::Coordinated },
            concurrency_policy: what.concurrency_policy,
            starting_deadline_seconds: what.starting_deadline.map(seconds),
            catch_up: if what.no_catch_up { CatchUp::None } else { CatchUp::Latest },
            window_seconds: what.window.map(|window| i32::try_from(window.as_secs()).unwrap_or(i32::MAX)),
            template: (template != ScheduleTemplate::default()).then_some(template),
            ..FleetBackupScheduleSpec::default()
        },
        status: None,
    })
}

/// What the schedule does, for the person who makes it.
fn describe(spec: &FleetBackupScheduleSpec) -> String {
    let template = spec.template.clone().unwrap_or_default();
    let what = match spec.operation {
        ScheduleOperation::Backup => format!("{} backup", template.backup_type.unwrap_or_default().as_str()),
        ScheduleOperation::Purge | ScheduleOperation::Sync => spec.operation.as_str().to_owned(),
    };
    let of = if template.selector.is_some() { "the selected datacenters" } else { "the whole fleet" };
    let by = match spec.execution {
        Execution::Coordinated => "",
        Execution::Delegated => ", by each data plane's own clock",
    };
    let zone = spec.time_zone.as_deref().map_or_else(String::new, |zone| format!(" ({zone})"));
    format!("{what} of {of} at `{}`{zone}{by}", spec.schedule)
}

/// The next slots after `now`, in UTC.
fn next_slots(spec: &FleetBackupScheduleSpec, now: Timestamp) -> Outcome<Vec<String>> {
    let cron = CronExpr::parse(&spec.schedule, spec.time_zone.as_deref())
        .map_err(|error| Failure::CouldNotAsk(error.to_string()))?;
    let first = cron.next_after(now, now);
    let slots = first.into_iter().flat_map(|first| cron.slots_from(first).take(SHOWN).collect::<Vec<_>>());
    let time = |slot| moment(Some(&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(slot)));
    Ok(slots.map(time).collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{
        args::{Cli, FleetVerb, Verb},
        views::fixtures::now,
    };

    fn typed(words: &[&str]) -> Schedule {
        let words = ["medusa-fleet", "schedule"].iter().chain(words);
        let Verb::Fleet(FleetVerb::Schedule(args)) = Cli::try_parse_from(words).unwrap().verb else {
            panic!("another verb")
        };
        args
    }

    fn asked(words: &[&str]) -> Outcome<FleetBackupSchedule> {
        let args = typed(words);
        schedule(args.name.as_deref().unwrap(), &args.what, "medusa-fleet")
    }

    #[test]
    fn what_is_typed_is_what_is_asked_for() {
        let words = [
            "nightly",
            "--cron",
            "30 2 * * *",
            "--time-zone",
            "Europe/Berlin",
            "--type",
            "full",
            "--delegated",
            "--cluster",
            "shop,payments",
            "--window",
            "30m",
            "--no-catch-up",
            "--concurrency-policy",
            "allow",
        ];
        let made = asked(&words).unwrap();
        insta::assert_yaml_snapshot!(made);
        assert_eq!(
            describe(&made.spec),
            "full backup of the selected datacenters at `30 2 * * *` (Europe/Berlin), by each data plane's own clock"
        );
        let plain = asked(&["tidy", "--cron", "@daily", "--operation", "purge"]).unwrap();
        assert_eq!(plain.spec.template, None);
        assert_eq!(describe(&plain.spec), "purge of the whole fleet at `@daily`");
    }

    #[test]
    fn without_a_name_schedules_are_listed_and_verbs_take_one() {
        let listed = typed(&[]);
        assert!(listed.verb.is_none() && listed.name.is_none());
        assert!(
            matches!(typed(&["suspend", "nightly"]).verb, Some(ScheduleVerb::Suspend(n)) if n.name == "nightly")
        );
        assert!(
            matches!(typed(&["resume", "nightly"]).verb, Some(ScheduleVerb::Resume(n)) if n.name == "nightly")
        );
        for words in [vec!["nightly"], vec!["suspend"], vec!["--dry-run"]] {
            let words = ["medusa-fleet", "schedule"].into_iter().chain(words);
            assert!(Cli::try_parse_from(words).is_err());
        }
    }

    #[test]
    fn an_expression_that_cannot_be_used_is_refused_here() {
        for (cron, zone) in [("0 2 * *", "UTC"), ("@daily", "Berlin"), ("0 0 30 2 *", "UTC")] {
            let refused = asked(&["nightly", "--cron", cron, "--time-zone", zone]);
            assert!(matches!(refused, Err(Failure::CouldNotAsk(_))), "{cron} {zone}");
        }
        assert!(asked(&["Nightly", "--cron", "@daily"]).is_err());
    }

    #[test]
    fn the_next_slots_are_shown_in_utc() {
        let made = asked(&["nightly", "--cron", "30 2 * * *", "--time-zone", "Europe/Berlin"]).unwrap();
        let slots = next_slots(&made.spec, now()).unwrap();
        assert_eq!(slots.len(), SHOWN);
        assert_eq!(slots[0], "2026-11-03 01:30:00Z");
    }
}
