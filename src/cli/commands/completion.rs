//! `completion SHELL`.

use clap::Command;
use clap_complete::Shell;

use crate::cli::{failure::Outcome, output::Printer};

/// Prints the completion script of `shell` for the name this program was called by.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(printer: Printer, shell: Shell, command: Command) -> Outcome {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command.bin_name(name.clone()), name, &mut script);
    printer.text(&String::from_utf8_lossy(&script))
}
