//! The one binary. Everything is in the library, so that tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    medusa_fleet::cli::main(std::env::args_os())
}
