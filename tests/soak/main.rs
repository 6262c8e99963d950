//! `make soak`: a fleet at work for minutes or hours, with everything that can happen to it, and an oracle in the end.
//!
//! Reading order: `plan` (what is done and when, by seed), `action`, `perform` (carries it out), `observed` (what is judged),
//! `oracle` (the rules), `memory`, `latency`; `stage`, `ledger`, `reading`, `sockets` and `parse` are what they stand on. The page is
//! docs/soak.md. That each rule finds what it is there for is tested in `tests/soak_oracle`.

mod action;
mod dice;
#[path = "../support/harness/mod.rs"]
mod harness;
mod latency;
mod ledger;
mod memory;
mod observed;
mod oracle;
mod parse;
mod perform;
mod plan;
mod reading;
mod report;
mod soak;
mod sockets;
mod stage;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;

use crate::{
    harness::{BINARY, testbed},
    plan::Terms,
    report::say,
    soak::{Outcome, soak},
    stage::Programs,
};

/// A control plane with simulated data planes at work, with every fault, by seed; and what is to be said of it afterwards
#[derive(Debug, Parser)]
#[command(name = "soak")]
struct Options {
    /// How long there are actions
    #[arg(long, default_value_t = 2)]
    minutes: u64,
    /// Of all chance: the same seed, length and number make the same plan
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of data planes
    #[arg(long, default_value_t = 20)]
    data_planes: usize,
    /// Print the plan, and do nothing
    #[arg(long)]
    plan: bool,
    /// Leave logs and data behind
    #[arg(long)]
    keep: bool,
    /// The control plane's program
    #[arg(long, env = "MEDUSA_FLEET_BIN", default_value = BINARY, value_name = "FILE")]
    binary: PathBuf,
    /// Run only where a word is `soak`, as `cargo test` has it
    #[arg(hide = true)]
    filter: Vec<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if !options.filter.is_empty() && !options.filter.iter().any(|word| "soak".contains(word.as_str())) {
        return ExitCode::SUCCESS;
    }
    let length = Duration::from_secs(options.minutes.max(1) * 60);
    let terms = Terms { seed: options.seed, length, planes: options.data_planes.max(1) };
    if options.plan {
        for step in plan::plan(terms) {
            say(format!("{:>9.3} s  {}", step.at.as_secs_f64(), step.action));
        }
        return ExitCode::SUCCESS;
    }
    let programs = Programs { testbed: testbed::binary(), control_plane: options.binary };
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(soak(&programs, terms, options.keep)));
    let (is_good, words) = match outcome {
        Ok(Outcome { findings: 0, summary }) => (true, summary),
        Ok(Outcome { findings, summary }) => (false, format!("{findings} findings; {summary}")),
        Err(error) => (false, format!("it could not be done: {error}")),
    };
    say(format!("soak: {words}"));
    // As Rust's own tests end, for who counts them.
    let (word, passed, failed) = if is_good { ("ok", 1, 0) } else { ("FAILED", 0, 1) };
    say(format!("test result: {word}. {passed} passed; {failed} failed; of the oracle over the whole run"));
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
