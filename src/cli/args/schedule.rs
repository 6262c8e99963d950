//! `schedule` and `plan schedule`, as typed.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::Selection;
use crate::{
    api::{
        fleet::{ConcurrencyPolicy, ScheduleOperation, UnreachablePolicy},
        medusa::BackupType,
    },
    cli::duration,
};

/// `schedule`: without anything it lists, with a name and `--cron` it makes one.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Schedule {
    /// Something other than listing and making.
    #[command(subcommand)]
    pub verb: Option<ScheduleVerb>,
    /// Name of the schedule to make; without one, the schedules are listed
    #[arg(requires = "cron")]
    pub name: Option<String>,
    /// What to run, and when.
    #[command(flatten)]
    pub what: ScheduleChoice,
    /// Have the schedule checked and say what it would run where and when, without making it
    #[arg(long, requires = "name")]
    pub dry_run: bool,
}

/// Verbs about a schedule that exists.
#[derive(Debug, Subcommand)]
pub enum ScheduleVerb {
    /// Pause a schedule: nothing runs, and what is left out is not caught up with
    Suspend(Named),
    /// Let a paused schedule go on
    Resume(Named),
}

/// A schedule that exists.
#[derive(Debug, Args)]
pub struct Named {
    /// Name of the schedule
    pub name: String,
}

/// `plan schedule`.
#[derive(Debug, Args)]
pub struct PlanSchedule {
    /// Name of the schedule that would be made
    pub name: String,
    /// What to run, and when.
    #[command(flatten)]
    pub what: ScheduleChoice,
}

/// What to run, and when.
#[derive(Clone, Debug, Args)]
pub struct ScheduleChoice {
    /// When: five fields such as `30 2 * * *`, or `@daily`, `@hourly`, `@every 6h`
    #[arg(long, value_name = "EXPRESSION")]
    pub cron: Option<String>,
    /// IANA time zone the expression is read in [default: UTC]
    #[arg(long, value_name = "ZONE")]
    pub time_zone: Option<String>,
    /// What to run
    #[arg(long, value_enum, default_value = "backup", value_name = "OPERATION")]
    pub operation: ScheduleOperation,
    /// Let each data plane watch the clock for its own datacenters, so that it goes on without the control plane
    #[arg(long)]
    pub delegated: bool,
    /// Of a backup: `differential` uploads what no earlier backup holds, `full` uploads everything [default: differential]
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    pub backup_type: Option<BackupType>,
    /// Which datacenters.
    #[command(flatten)]
    pub selection: Selection,
    /// What to do when the schedule's last run is still going
    #[arg(long, value_enum, ignore_case = true, default_value = "Forbid", value_name = "POLICY")]
    pub concurrency_policy: ConcurrencyPolicy,
    /// How late a slot may still run [default: as late as need be]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub starting_deadline: Option<Duration>,
    /// Do not catch up with the latest missed slot: it runs within a minute or not at all
    #[arg(long)]
    pub no_catch_up: bool,
    /// Spread the datacenters' starts over this time
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub window: Option<Duration>,
    /// What to do about a data plane that does not answer [default: Wait]
    #[arg(long, value_enum, ignore_case = true, value_name = "POLICY", conflicts_with = "delegated")]
    pub unreachable_policy: Option<UnreachablePolicy>,
}
