//! What people type: arguments, verbs and one printer.
//!
//! [`args`] says what was typed, [`commands`] what it means; pure functions in [`views`] turn objects into
//! tables; [`output`] writes them; [`failure`] decides the exit code.

pub mod args;
pub mod commands;
pub mod doctor;
pub mod duration;
pub mod failure;
pub mod home;
pub mod output;
pub mod register;
pub mod roles;
pub mod rollout;
pub mod selector;
pub mod views;

use std::{ffi::OsString, path::Path, process::ExitCode};

use clap::{Command, CommandFactory as _, FromArgMatches as _};

use args::{Cli, FleetVerb, Global, Verb};
use failure::{Failure, Outcome};
use home::ControlPlaneClient;
use output::{Format, Printer};

use crate::{api::fleet::FleetOperation, runtime::guard};

/// What kubectl's users type.
const PLUGIN: &str = "kubectl medusa";

/// Parses `argv`, runs the verb and says how it ended.
pub fn main(argv: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Two TLS providers would be one too many to choose from at run time; an earlier choice stands.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let argv: Vec<OsString> = argv.into_iter().collect();
    let program = program(argv.first());
    let command = command(argv.first());
    // A copy parses: it gives the verb that was typed its full name, which is another in a completion script.
    let parsed =
        command.clone().try_get_matches_from(argv).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return explain(&error, program),
    };
    let printer = Printer::new(cli.global.output, program);
    guard::silence_panics();
    let ended = guard::whole(|| run(cli, &command, printer)).unwrap_or_else(|place| {
        let place = place.map(|place| format!(" at {place}")).unwrap_or_default();
        Err(Failure::CouldNotAsk(format!("an internal error{place} ended this; please report it")))
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                printer.note(&format!("error: {message}"));
            }
            failure.exit_code()
        }
    }
}

/// The command line under the name it was called by: `kubectl-…` is kubectl's way to start a plugin.
#[must_use]
pub fn command(argv0: Option<&OsString>) -> Command {
    let command = Cli::command();
    match program(argv0) {
        PLUGIN => command.name("kubectl-medusa").bin_name(PLUGIN).display_name(PLUGIN),
        program => command.bin_name(program),
    }
}

/// What the person typed to start us.
fn program(argv0: Option<&OsString>) -> &'static str {
    let file = argv0.and_then(|path| Path::new(path).file_name()).and_then(|name| name.to_str());
    if file.is_some_and(|name| name.starts_with("kubectl-")) { PLUGIN } else { "medusa-fleet" }
}

/// Prints help, a version or a usage error where it belongs.
fn explain(error: &clap::Error, program: &'static str) -> ExitCode {
    let printer = Printer::new(Format::Table, program);
    let text = error.render().to_string();
    if error.use_stderr() {
        printer.lines(text.trim_end());
        return Failure::CouldNotAsk(text).exit_code();
    }
    printer.text(&text).err().map_or(ExitCode::SUCCESS, |failure| failure.exit_code())
}

fn run(cli: Cli, command: &Command, printer: Printer) -> Outcome {
    let Cli { global, verb } = cli;
    match verb {
        Verb::ControlPlane(args) => roles::control_plane(&global, &args),
        Verb::DataPlane(args) => roles::data_plane(&global, &args),
        Verb::Crds(args) => commands::crds::run(printer, &args),
        Verb::Completion { shell } => commands::completion::run(printer, shell, command.clone()),
        Verb::Fleet(FleetVerb::Version { client: true }) => commands::version::client(printer),
        Verb::Fleet(verb) => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| Failure::CouldNotAsk(format!("cannot start: {error}")))?;
            runtime.block_on(ask(verb, printer, &global))
        }
    }
}

/// Runs a verb against the control plane, on this thread: one person asks one question.
async fn ask(verb: FleetVerb, printer: Printer, global: &Global) -> Outcome {
    // With `register`, `--context` names the cluster that is registered.
    let context = if let FleetVerb::Register(args) = &verb {
        args.control_plane_context.as_deref()
    } else {
        global.context.as_deref()
    };
    let home = &match (ControlPlaneClient::connect(global, context), &verb) {
        (Ok(home), _) => home,
        (Err(failure), FleetVerb::Version { .. }) => return commands::version::alone(printer, &failure),
        (Err(failure), _) => return Err(failure),
    };
    match verb {
        FleetVerb::Register(args) => register::run(printer, home, &args).await,
        FleetVerb::Unregister(args) => register::undo::run(printer, home, &args).await,
        FleetVerb::Dataplanes => commands::list::data_planes(printer, home).await,
        FleetVerb::Clusters => commands::list::clusters(printer, home).await,
        FleetVerb::Backup(args) => commands::backup::run(printer, home, &args).await,
        FleetVerb::Adopt(args) => commands::adopt::run(printer, home, &args).await,
        FleetVerb::Cancel { object } => commands::cancel::run(printer, home, &object).await,
        FleetVerb::Plan { verb } => commands::plan::run(printer, home, verb).await,
        FleetVerb::Backups { cluster } => commands::list::backups(printer, home, cluster.as_deref()).await,
        FleetVerb::Sync(args) => commands::task::run(printer, home, FleetOperation::Sync, &args).await,
        FleetVerb::Purge(args) => commands::task::run(printer, home, FleetOperation::Purge, &args).await,
        FleetVerb::Schedule(args) => commands::schedule::run(printer, home, &args).await,
        FleetVerb::Restore(args) => commands::restore::run(printer, home, &args).await,
        FleetVerb::Doctor => commands::doctor::run(printer, home).await,
        FleetVerb::Status => commands::status::run(printer, home).await,
        FleetVerb::Describe { object } => commands::describe::run(printer, home, &object).await,
        FleetVerb::Version { .. } => commands::version::all(printer, home).await,
    }
}

#[cfg(test)]
mod arbitrary_tests;
#[cfg(test)]
mod tests;
