//! The program under test, running.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use super::{Failure, Result, within};

/// The program as the tests have built it.
pub const BINARY: &str = env!("CARGO_BIN_EXE_medusa-fleet");
/// Lets the kernel kill a program with whoever started it; from util-linux.
const SETPRIV: &str = "/usr/bin/setpriv";
/// How long it may take to end when it is told to.
const STOP: Duration = Duration::from_secs(20);
/// Last lines of its log that are shown when a test fails.
const TAIL: usize = 40;

/// A process that runs, or was killed and can be started again. It is killed when this is dropped, and with the thread that
/// started it. When that is because of a panic, the end of its log is shown.
pub struct Program {
    command: Command,
    child: Child,
    /// What it says is added to this file.
    pub log: PathBuf,
}

impl Program {
    /// Runs `binary` as `prepare` has it, which adds arguments and environment.
    pub fn start(
        binary: impl AsRef<Path>,
        log: impl Into<PathBuf>,
        prepare: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<Self> {
        Self::start_ended_by("KILL", binary, log, prepare)
    }

    /// [`Self::start`], but when the thread that started it ends it gets this signal.
    pub fn start_ended_by(
        signal: &str,
        binary: impl AsRef<Path>,
        log: impl Into<PathBuf>,
        prepare: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<Self> {
        let log = log.into();
        let binary = binary.as_ref();
        if !binary.exists() {
            return Err(format!("{} is missing; build it with `make build`", binary.display()).into());
        }
        let output = File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new(binary);
        if Path::new(SETPRIV).exists() {
            command = Command::new(SETPRIV);
            command.args(["--pdeathsig", signal, "--"]).arg(binary);
        }
        prepare(&mut command).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn()?;
        Ok(Self { command, child, log })
    }

    /// Ends it where it stands, with SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// [`Self::kill`], and starts it again.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        self.child = self.command.spawn()?;
        Ok(())
    }

    /// All it said so far.
    pub fn said(&self) -> String {
        // A device may have no end.
        if self.log.is_file() { fs::read_to_string(&self.log).unwrap_or_default() } else { String::new() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// [`memory`] of it.
    pub fn memory(&self, field: &str) -> Result<f64> {
        memory(self.pid(), field)
    }

    /// How it ended, once it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Sends it a signal, such as `TERM`.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let sent = Command::new("kill").args(["-s", signal, &self.pid().to_string()]).status()?;
        if sent.success() { Ok(()) } else { Err(format!("kill -s {signal} {}: {sent}", self.pid()).into()) }
    }

    /// Ends it as a kubelet would, and waits until it is gone.
    pub async fn stop(mut self) {
        if self.signal("TERM").is_ok() {
            let _ = within(STOP, "the program ends", async || {
                self.ended()?.ok_or_else(|| Failure::from("it runs"))
            })
            .await;
        }
    }
}

/// A line of `/proc/PID/status` in MiB, such as `VmRSS`.
pub fn memory(pid: u32, field: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok())
        .ok_or_else(|| format!("{path} has no {field}"))?;
    Ok(kib / 1024.0)
}

impl Drop for Program {
    #[expect(clippy::print_stderr, reason = "a test's output, which is shown when it has failed")]
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let said = self.said();
            let lines: Vec<&str> = said.lines().collect();
            let end = lines.split_at(lines.len().saturating_sub(TAIL)).1;
            eprintln!("--- end of {}:\n{}", self.log.display(), end.join("\n"));
        }
    }
}
