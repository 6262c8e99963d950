//! `make bench`: medusa-fleet measured on real API servers, beside a bare client that writes the same
//! objects in the same run.
//!
//! Nothing here fails because of a figure. Reading order: `registered_fleet` (a control plane over some clusters),
//! `replication`, `fanout`, `verdict`, `slots`, `quiet`, `backup`, `schedules`, `inventory`, `scale`, `shards` (the measurements), `report`; `clusters`,
//! `objects`, `peer`, `recorder`, `stats` and `support` are what they are made of.

mod backup;
mod clusters;
mod fanout;
#[path = "../support/harness/mod.rs"]
mod harness;
mod inventory;
mod objects;
mod peer;
mod quiet;
mod recorder;
mod registered_fleet;
mod replication;
mod report;
mod scale;
mod schedules;
mod shards;
mod slots;
mod stats;
mod support;
mod verdict;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    harness::Result,
    registered_fleet::{BenchClusters, RegisteredFleet},
    report::Report,
    support::{load, machine, say},
};

/// Figures of medusa-fleet on real API servers on this machine, and ratios against a bare client.
#[derive(Debug, Parser)]
#[command(name = "fleet")]
struct Options {
    /// Numbers of data planes
    #[arg(long, value_delimiter = ',', default_value = "5,10,20")]
    planes: Vec<usize>,
    /// Runs of each measurement; the slow ones are run at most five times
    #[arg(long, default_value_t = 7)]
    runs: usize,
    /// Milliseconds added to each round trip to a data plane
    #[arg(long, value_delimiter = ',', default_value = "0,50")]
    delays: Vec<u32>,
    /// Measure only this; may be repeated
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Measurement>,
    /// Write the figures into this file too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The release binary
    #[arg(
        long,
        env = "MEDUSA_FLEET_BIN",
        default_value = "target/release/medusa-fleet",
        value_name = "FILE"
    )]
    binary: PathBuf,
    /// The testbed's binary
    #[arg(long, default_value = "target/testbed/testbed", value_name = "FILE")]
    testbed: PathBuf,
    /// Leave logs and data behind
    #[arg(long)]
    keep: bool,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// One secret rotated
    Rotation,
    /// A hundred secrets made and rotated
    Many,
    /// A FleetBackupJob over a hundred datacenters
    Fanout,
    /// A FleetBackupJob over a hundred datacenters, from the last one's end to the verdict
    Verdict,
    /// Requests and processor time of a quiet minute
    Requests,
    /// Memory
    Memory,
    /// Registration of a data plane
    Registration,
    /// A MedusaBackupJob, in one data plane
    Backup,
    /// Two hundred MedusaBackupSchedules due in the same minute, in one data plane
    Schedules,
    /// Ten thousand MedusaBackups over fifty datacenters become restore points, without API servers
    Inventory,
    /// A thousand FleetBackupSchedules due in the same minute
    Slots,
    /// Hundreds of simulated data planes, such as `--planes 100,300,1000`; only when it is asked for
    Scale,
    /// The same, watched by three replicas, such as `--planes 3000`; only when it is asked for
    Shards,
}

/// Runs of the measurements that take seconds.
const SLOW_RUNS: usize = 5;
/// Runs of the measurement that waits for a minute to come.
const SCHEDULE_RUNS: usize = 3;

impl Options {
    fn wants(&self, measurement: Measurement) -> bool {
        let is_large = matches!(measurement, Measurement::Scale | Measurement::Shards);
        let by_default = self.only.is_empty() && !is_large;
        by_default || self.only.contains(&measurement)
    }

    /// The number of data planes for measurements made once: ten, or what comes nearest.
    fn middle(&self) -> usize {
        self.planes.iter().copied().min_by_key(|n| n.abs_diff(10)).unwrap_or(10)
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(format!("bench: cannot start threads: {error}"));
            return ExitCode::from(2);
        }
    };
    match runtime.block_on(run_or_stop(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format!("bench: {error}"));
            ExitCode::from(2)
        }
    }
}

/// Measures until done or told to stop. Either way every process that was started is gone afterwards:
/// dropping the future kills them, and the testbed ends with its standard input.
async fn run_or_stop(options: &Options) -> Result<()> {
    let (mut interrupt, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let dir = std::path::absolute(format!("target/bench/{}", std::process::id()))?;
    std::fs::create_dir_all(&dir)?;
    let mut report = Report::default();
    let result = tokio::select! {
        result = measure(options, &dir, &mut report) => result,
        _ = interrupt.recv() => Err("interrupted; the figures so far follow".into()),
        _ = term.recv() => Err("told to end; the figures so far follow".into()),
    };
    report.facts.push(format!("load average at the end: {:.2}", load()));
    report.print()?;
    if let Some(path) = &options.json {
        report.write(path)?;
    }
    if options.keep || result.is_err() {
        say(format!("logs and data are in {}", dir.display()));
    } else {
        let _ = std::fs::remove_dir_all(&dir);
    }
    result
}

async fn measure(options: &Options, dir: &std::path::Path, report: &mut Report) -> Result<()> {
    report.facts.push(format!("machine: {}", machine()));
    report.facts.push(format!(
        "load average at the start: {:.2}; one etcd without fsync and every API server, control plane and \
         client share this machine",
        load()
    ));
    if options.wants(Measurement::Inventory) {
        say("ten thousand MedusaBackups");
        inventory::inventory(options.runs, report)?;
        if options.only == [Measurement::Inventory] {
            return Ok(());
        }
    }
    let mut planes = options.planes.clone();
    planes.sort_unstable();
    let programs = (options.testbed.as_path(), options.binary.as_path());
    if options.wants(Measurement::Scale) {
        scale::scale(programs, dir, &planes, 1, report).await?;
    }
    if options.wants(Measurement::Shards) {
        scale::scale(programs, dir, &planes, shards::REPLICAS, report).await?;
    }
    let is_large = |only: &Measurement| matches!(only, Measurement::Scale | Measurement::Shards);
    if !options.only.is_empty() && options.only.iter().all(is_large) {
        return Ok(());
    }
    let first =
        planes.first().copied().filter(|n| *n > 0).ok_or("--planes must name at least one number above 0")?;
    say(format!("starting {} API servers", first + 1));
    let mut clusters = BenchClusters::up(&options.testbed, &options.binary, dir, first).await?;
    let baseline =
        if options.wants(Measurement::Requests) { quiet::baseline(&clusters).await? } else { String::new() };
    for count in planes {
        clusters.grow(count).await?;
        for &delay in &options.delays {
            say(format!("{count} data planes, +{delay} ms"));
            match RegisteredFleet::start(&mut clusters, count, delay).await {
                Ok(fleet) => measure_fleet(options, fleet, &baseline, report).await,
                Err(error) => report.failed("control plane", count, delay, &error),
            }
        }
    }
    if options.wants(Measurement::Memory) {
        let count = options.middle();
        say(format!("{count} data planes and unrelated secrets"));
        let mut fleet = RegisteredFleet::start(&mut clusters, count, 0).await?;
        if let Err(error) = quiet::unrelated_secrets(&clusters, &mut fleet, report).await {
            report.failed("memory, unrelated secrets", count, 0, &error);
        }
        fleet.stop().await;
    }
    if options.wants(Measurement::Backup) {
        say("one data plane's own work");
        if let Err(error) = backup::backup(&clusters, options.runs, report).await {
            report.failed("MedusaBackupJob", 1, 0, &error);
        }
    }
    if options.wants(Measurement::Schedules) {
        say("two hundred schedules due together");
        if let Err(error) = schedules::schedules(&clusters, options.runs.min(SCHEDULE_RUNS), report).await {
            report.failed("MedusaBackupSchedules", 1, 0, &error);
        }
    }
    Ok(())
}

/// Everything that is measured with one number of data planes and one delay. What cannot be measured
/// becomes a line of its own.
async fn measure_fleet(options: &Options, mut fleet: RegisteredFleet, baseline: &str, report: &mut Report) {
    let (count, delay) = (fleet.planes.len(), fleet.delay);
    let slow = options.runs.min(SLOW_RUNS);
    let note = |what: &str, report: &mut Report, result: Result<()>| {
        if let Err(error) = result {
            report.failed(what, count, delay, &error);
        }
    };
    if options.wants(Measurement::Memory) && delay == 0 {
        let result = quiet::idle(&fleet, report).await;
        note("memory, idle", report, result);
    }
    if options.wants(Measurement::Requests) && delay == 0 && count == options.middle() {
        let result = quiet::minute(&fleet, baseline, report).await;
        note("quiet minute", report, result);
    }
    if options.wants(Measurement::Rotation) {
        let result = replication::rotation(&mut fleet, options.runs, report).await;
        note("rotation of one secret", report, result);
    }
    if options.wants(Measurement::Fanout) {
        let result = fanout::fanout(&mut fleet, options.runs, report).await;
        note("FleetBackupJob", report, result);
    }
    if options.wants(Measurement::Slots) && delay == 0 && count == options.middle() {
        let result = slots::slots(&mut fleet, report).await;
        note("1,000 FleetBackupSchedules", report, result);
    }
    if options.wants(Measurement::Verdict) {
        let result = verdict::verdict(&mut fleet, slow, report).await;
        note("FleetBackupJob's verdict", report, result);
    }
    if options.wants(Measurement::Many) && (count == 5 || options.planes.len() == 1) {
        let result = replication::many(&mut fleet, slow, report).await;
        note("100 secrets", report, result);
    }
    if options.wants(Measurement::Registration) {
        let result = replication::registration(&mut fleet, slow, report).await;
        note("registration", report, result);
    }
    fleet.stop().await;
}
